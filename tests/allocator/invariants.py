"""The rules that must always hold, judged from what went in and what came out: whoever decided it, and however.

A `Ledger` takes each message or timer with its outcome and events, as plain values in the words of the naive model, and
the units of lines and pools before and after. It shares nothing with the model or with the allocator.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from backorder_schemas import (
    LinesShipped,
    OrderCancelled,
    OrderPlaced,
    SkuPolicyChanged,
    StockAdjusted,
    StockCounted,
    StockReceived,
    SupplyCancelled,
    SupplyExpected,
)
from tests.allocator.strategies import Settings

Name = tuple[str, int]  # (order_id, line_no)
Pool = tuple[str, str]  # (sku, location)
Event = Mapping[str, Any]
Lines = Mapping[Name, Mapping[str, Any]]
Pools = Mapping[Pool, Mapping[str, int]]
Plan = Mapping[Name, tuple[datetime | None, str | None]]

TOLD_IN_THIS_ORDER = (
    "BackorderRejected",
    "AllocationRevoked",
    "BackorderCreated",
    "BackorderCancelled",
    "BackorderFilled",
    "AllocationReleased",
)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)


class Ledger:
    """What follows from the messages that were applied and from the events, kept by hand."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.on_hand: Counter[Pool] = Counter()
        self.shipped: Counter[Name] = Counter()
        self.ordered: dict[Name, int] = {}
        self.pool_of: dict[Name, Pool] = {}
        self.orders: set[str] = set()
        self.early: defaultdict[str, list[LinesShipped]] = defaultdict(list)
        self.policies: dict[str, SkuPolicyChanged] = {}
        self.supplies: dict[tuple[str, str], SupplyExpected] = {}
        self.received: Counter[tuple[str | None, str]] = Counter()  # by (supply_id, sku)
        self.overdue: set[tuple[str, str]] = set()

        self.waiting: Counter[Name] = Counter()
        self.got: Counter[Name] = Counter()  # released and not revoked, or shipped without
        self.last_release: Counter[str] = Counter()
        self.promised: dict[Name, datetime | None] = {}
        self.first_promised: dict[Name, datetime] = {}
        self.low: set[Pool] = set()

    def book(self, message: Any, outcome: str, events: Sequence[Event], refused: Sequence[str], before: Lines) -> None:
        """Takes in what one message or timer did; `before` are the units of lines before it."""
        told: dict[Name, int] = {}
        for event in events:
            for name in named_by(event):
                assert not is_closed(before.get(name)), f"{event['type']} after line {name} was closed"
                place = TOLD_IN_THIS_ORDER.index(event["type"])
                assert told.get(name, 0) <= place, f"{event['type']} of line {name} is told too late"
                told[name] = place
            self._book_event(event)
        if outcome == "applied":
            self._book_message(message, refused)
        else:
            assert not events, f"{outcome}, and yet it told something"

    def book_moves(self, events: Sequence[Event], lines: Lines) -> None:
        """Takes in what the planner published; `lines` are the units of lines, which no plan changes."""
        for event in events:
            name = event["order_id"], event["line_no"]
            assert not is_closed(lines[name]), f"a promise for the closed line {name}"
            old, new = event["previous_promised_at"], event["promised_at"]
            assert old == self.promised.get(name)
            assert (old and old.date()) != (new and new.date()), "moved by less than a day"
            self._publish(name, new)
            assert event["first_promised_at"] == self.first_promised.get(name)

    def safety_stock(self, pool: Pool) -> int:
        policy = self.policies.get(pool[0], self.settings.default_policy)
        return policy.safety_stock if policy else 0

    def low_stock_at(self, pool: Pool) -> int | None:
        policy = self.policies.get(pool[0], self.settings.default_policy)
        return policy.low_stock_at if policy else None

    def coming(self, pool: Pool, now: datetime) -> list[tuple[datetime, int]]:
        """(promised date, units) of each supply of the pool that promises may lean on."""
        coming = []
        for key, supply in self.supplies.items():
            units = supply.quantity - self.received[key]
            date = supply.expected_at
            if key in self.overdue or date < now:
                if self.settings.overdue_days is None:
                    continue
                date = later(max(now, date), self.settings.overdue_days)
            if units > 0 and (supply.sku, supply.location) == pool:
                coming.append((later(date, self.settings.handling_days), units))
        return coming

    def _book_message(self, message: Any, refused: Sequence[str]) -> None:
        match message:
            case OrderPlaced():
                self.orders.add(message.order_id)
                for line in message.lines:
                    self.ordered[message.order_id, line.line_no] = line.quantity
                    self.pool_of[message.order_id, line.line_no] = (line.sku, line.location)
                for shipment in self.early.pop(message.order_id, []):
                    if shipment.shipment_id not in refused:
                        self._ship(shipment)
            case LinesShipped() if message.order_id in self.orders:
                self._ship(message)
            case LinesShipped():
                self.early[message.order_id].append(message)
            case StockReceived():
                self.on_hand[message.sku, message.location] += message.quantity
                self.received[message.supply_id, message.sku] += message.quantity
            case StockAdjusted():
                self.on_hand[message.sku, message.location] += message.delta
            case StockCounted():
                self.on_hand[message.sku, message.location] = message.counted
            case SkuPolicyChanged():
                self.policies[message.sku] = message
            case SupplyExpected():
                self.supplies[message.supply_id, message.sku] = message
                self.overdue.discard((message.supply_id, message.sku))
            case SupplyCancelled():
                self.supplies.pop((message.supply_id, message.sku), None)
            case _:
                pass

    def _ship(self, shipment: LinesShipped) -> None:
        for line in shipment.lines:
            name = shipment.order_id, line.line_no
            self.shipped[name] += line.quantity
            self.on_hand[self.pool_of[name]] -= line.quantity

    def _book_event(self, event: Event) -> None:
        name = event.get("order_id", ""), event.get("line_no", 0)
        match event["type"]:
            case "AllocationReleased":
                self.last_release[event["order_id"]] += 1
                assert event["release_no"] == self.last_release[event["order_id"]]
                assert 1 <= len(event["lines"]) <= 500
                for line in event["lines"]:
                    self.got[event["order_id"], line["line_no"]] += line["quantity"]
            case "AllocationRevoked" if event["release_no"] is not None:
                self.got[name] -= event["quantity"]
            case "BackorderCreated":
                self.waiting[name] += event["quantity"]
                self._publish(name, event["promised_at"])
            case "BackorderFilled" | "BackorderCancelled":
                self.waiting[name] -= event["quantity"]
            case "ShipmentMismatch":
                self.got[name] += event["quantity"]
            case "SupplyOverdue":
                key = event["supply_id"], event["sku"]
                assert key not in self.overdue, "said twice of one revision"
                assert event["quantity"] == self.supplies[key].quantity - self.received[key] > 0
                self.overdue.add(key)
            case "LowStock":
                pool = event["sku"], event["location"]
                assert pool not in self.low, "low stock is said once"
                self.low.add(pool)
            case _:
                pass
        if "quantity_waiting" in event:
            assert event["quantity_waiting"] == self.waiting[name] >= 0, "the last event says how many wait"

    def _publish(self, name: Name, date: datetime | None) -> None:
        self.promised[name] = date
        if date is not None:
            self.first_promised.setdefault(name, date)


def check_state(ledger: Ledger, lines: Lines, pools: Pools) -> None:
    """Whatever must hold at rest."""
    check_units_add_up(ledger, lines)
    check_stock_is_conserved(ledger, lines, pools)
    check_counters_equal_sums(ledger, lines, pools)
    check_nothing_lies_idle(ledger, pools)
    check_low_stock_is_known(ledger, pools)
    check_dates_are_as_published(ledger, lines)


def check_step(
    ledger: Ledger, message: Any, outcome: str, events: Sequence[Event], before: Lines, after: Lines
) -> None:
    """Whatever no single message or timer may do; `ledger` has booked it already."""
    if outcome != "applied":
        assert before == after, f"{outcome}, and yet it changed something"
    check_nobody_lost_by_others(message, events, before, after)
    check_nobody_was_passed_over(ledger, message, events, before, after)


def check_units_add_up(ledger: Ledger, lines: Lines) -> None:
    """2, 6: each unit is in one place; what waits and what a line got is what the events said."""
    assert set(lines) == set(ledger.ordered)
    for name, line in lines.items():
        released = line["released"].values()
        assert min(line["waiting"], line["held"], line["shipped"], line["cancelled"], line["rejected"]) >= 0
        assert all(units > 0 for units in released)
        units = allocated(line) + line["waiting"] + line["cancelled"] + line["rejected"]
        assert units == line["ordered"] == ledger.ordered[name]
        assert line["shipped"] == ledger.shipped[name]
        assert line["waiting"] == ledger.waiting[name]
        assert allocated(line) == ledger.got[name] + line["held"]
        assert max(line["released"], default=0) <= ledger.last_release[name[0]]


def check_stock_is_conserved(ledger: Ledger, lines: Lines, pools: Pools) -> None:
    """1: received + adjusted − shipped = on hand; never oversold."""
    assert {ledger.pool_of[name] for name in lines} <= set(pools)
    assert {pool for pool, units in ledger.on_hand.items() if units} <= set(pools)
    for key, pool in pools.items():
        assert pool["on_hand"] == ledger.on_hand[key]
        assert pool["allocated"] - pool["shipped"] <= max(0, pool["on_hand"]), "oversold"


def check_counters_equal_sums(ledger: Ledger, lines: Lines, pools: Pools) -> None:
    """3."""
    for key, pool in pools.items():
        here = [line for name, line in lines.items() if ledger.pool_of[name] == key]
        assert pool["allocated"] == sum(allocated(line) for line in here)
        assert pool["shipped"] == sum(line["shipped"] for line in here)
        assert pool["waiting"] == sum(line["waiting"] for line in here)
        unshipped = pool["allocated"] - pool["shipped"]
        assert pool["available"] == max(0, pool["on_hand"] - unshipped - ledger.safety_stock(key))


def check_nothing_lies_idle(ledger: Ledger, pools: Pools) -> None:
    """4: nobody waits while a unit is available."""
    for key, pool in pools.items():
        unshipped = pool["allocated"] - pool["shipped"]
        assert not pool["waiting"] or pool["on_hand"] - unshipped <= ledger.safety_stock(key)


def check_low_stock_is_known(ledger: Ledger, pools: Pools) -> None:
    """A pool at or below its mark is low and was said to be; above it, it is no more."""
    for key, pool in pools.items():
        mark = ledger.low_stock_at(key)
        if mark is None or pool["available"] > mark:
            ledger.low.discard(key)
        else:
            assert key in ledger.low, "low and nobody said so"
        assert pool["low"] == (key in ledger.low)


def check_dates_are_as_published(ledger: Ledger, lines: Lines) -> None:
    """Promises change by events alone, and the first one stays."""
    for name, line in lines.items():
        assert line["promised_at"] == ledger.promised.get(name)
        assert line["first_promised_at"] == ledger.first_promised.get(name)


def check_nobody_lost_by_others(message: Any, events: Sequence[Event], before: Lines, after: Lines) -> None:
    """11: only missing stock takes from others; a cancel takes from its own order."""
    if any(event["type"] == "StockShortfall" for event in events):
        assert not isinstance(message, StockReceived | OrderCancelled | SkuPolicyChanged)
        return
    own = message.order_id if isinstance(message, OrderCancelled) else None
    for name, line in before.items():
        if name[0] != own:
            assert allocated(after[name]) >= allocated(line)


def check_nobody_was_passed_over(
    ledger: Ledger, message: Any, events: Sequence[Event], before: Lines, after: Lines
) -> None:
    """5: whoever gained units has nobody waiting ahead; a newcomer gained none where somebody waited before.

    What was shipped is a fact whoever waits: orders of which something was shipped in this step are left out.
    """
    waited = {ledger.pool_of[name] for name, line in before.items() if line["waiting"]}
    shipped = {name[0] for name, line in after.items() if line["shipped"] > shipped_of(before.get(name))}
    for name, line in after.items():
        old = before.get(name)
        if name[0] in shipped or allocated(line) <= (allocated(old) if old else 0):
            continue
        pool = ledger.pool_of[name]
        assert old or pool not in waited, f"newcomer {name} took what somebody waited for"
        for other, waiting in after.items():
            if waiting["waiting"] and ledger.pool_of[other] == pool:
                assert rank(name, line) <= rank(other, waiting), f"{name} was served before {other}"


def check_no_supply_is_promised_twice(ledger: Ledger, pool: Pool, now: datetime, plan: Plan, lines: Lines) -> None:
    """11: by the date of a line that a supply covers, enough comes for it and all ahead; no later place is earlier."""
    queue = sorted(
        (name for name in lines if ledger.pool_of[name] == pool and lines[name]["waiting"]),
        key=lambda name: rank(name, lines[name]),
    )
    unshipped = sum(allocated(line) - line["shipped"] for name, line in lines.items() if ledger.pool_of[name] == pool)
    free = ledger.on_hand[pool] - unshipped - ledger.safety_stock(pool)
    coming = ledger.coming(pool, now)
    needed, latest, covered = 0, now, True
    for name in queue:
        needed += lines[name]["waiting"]
        date, supply_id = plan[name]
        if supply_id is None:
            covered = False  # nobody who waits is covered by what is there: it would have been served
            continue
        assert covered, f"{name} is covered by a supply that somebody ahead of it needs"
        assert date is not None
        assert date >= latest, f"{name} is promised earlier than somebody ahead of it"
        latest = date
        assert needed <= free + sum(units for at, units in coming if at <= date), "promised twice"


# -- small things


def named_by(event: Event) -> list[Name]:
    """The lines that an event on an order's topics is about."""
    if event["type"] not in TOLD_IN_THIS_ORDER:
        return []
    numbers = [line["line_no"] for line in event["lines"]] if "lines" in event else [event["line_no"]]
    return [(event["order_id"], number) for number in numbers]


def allocated(line: Mapping[str, Any]) -> int:
    units: int = line["held"] + sum(line["released"].values()) + line["shipped"]
    return units


def shipped_of(line: Mapping[str, Any] | None) -> int:
    return line["shipped"] if line else 0


def is_closed(line: Mapping[str, Any] | None) -> bool:
    """All of it is shipped, cancelled or rejected."""
    return line is not None and line["ordered"] == line["shipped"] + line["cancelled"] + line["rejected"]


def rank(name: Name, line: Mapping[str, Any]) -> tuple[datetime, bytes, int]:
    return line["ranked_at"], name[0].encode(), name[1]


def later(moment: datetime, days: int) -> datetime:
    return min(moment, LAST_MOMENT) + min(timedelta(days=days), LAST_MOMENT - min(moment, LAST_MOMENT))
