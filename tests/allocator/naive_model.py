"""What the allocator must decide, written a second time and as plainly as it goes.

One message or timer at a time over plain lists, every sum computed anew when it is needed. Written from the design and
the contract alone and imports nothing of the allocator, so that a mistake of one is not a mistake of both.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from backorder_schemas import (
    LinesDelivered,
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
from tests.allocator.naive_content import KeyedMessage, business_fields, natural_key, without_ids
from tests.allocator.naive_rows import (
    FIRST_MOMENT,
    Event,
    Line,
    Policy,
    Pool,
    Supply,
    minus,
    plus,
    storable,
    take_newest,
    take_oldest,
)

__all__ = ["Answer", "Escalate", "Event", "Message", "NaiveModel", "Overdue", "Planned", "Pool", "Release", "Timer"]

Message = KeyedMessage | SupplyExpected | SupplyCancelled | SkuPolicyChanged
Planned = tuple[datetime | None, str | None]  # the date, and the supply that first covers the line

APPLIED, DUPLICATE, IGNORED = "applied", "duplicate", "ignored"
CONFLICT, IMPOSSIBLE = "conflicting_duplicate", "impossible"
LINES_IN_A_RELEASE = 500
TOLD_IN_THIS_ORDER = (
    "BackorderRejected",
    "AllocationRevoked",
    "BackorderCreated",
    "BackorderCancelled",
    "BackorderFilled",
)
DAY = timedelta(days=1)
NO_POLICY = SkuPolicyChanged(id="none", occurred_at=FIRST_MOMENT, sku="any", revision=1, backorders="allow")

# As the contract lists them.
CAUSES = (
    "supply_cancelled",
    "supply_moved",
    "supply_changed",
    "supply_overdue",
    "supply_announced",
    "stock_received",
    "stock_lost",
    "overtaken",
    "cancelled_ahead",
    "policy_changed",
)
MAKES_EARLIER = {
    "supply_moved",
    "supply_changed",
    "supply_announced",
    "stock_received",
    "cancelled_ahead",
    "policy_changed",
}
MAKES_LATER = {
    "supply_cancelled",
    "supply_moved",
    "supply_changed",
    "supply_overdue",
    "stock_lost",
    "overtaken",
    "policy_changed",
}


@dataclass(frozen=True)
class Escalate:
    """A `complete` order has waited long enough: it is `split` from now on."""

    order_id: str


@dataclass(frozen=True)
class Release:
    """The release date of a pre-order has come."""

    sku: str


@dataclass(frozen=True)
class Overdue:
    """The date of a supply has come."""

    supply_id: str
    sku: str


Timer = Escalate | Release | Overdue


@dataclass(frozen=True)
class Answer:
    """`outcome` is applied, duplicate, ignored or the reason of a dead letter."""

    outcome: str
    events: list[Event]
    refused_late: list[str] = field(default_factory=list)
    """Ids of shipments that waited for this order and turn out impossible: dead letters of their own."""


class NaiveModel:
    """`segments`: head start by segment. `values`: (from amount on, currency, head start). The rest as in settings."""

    def __init__(
        self,
        segments: Mapping[str, timedelta] | None = None,
        values: Sequence[tuple[Decimal, str, timedelta]] = (),
        *,
        default_policy: Policy | None = None,
        handling_days: int = 0,
        overdue_days: int | None = None,
        escalate_after: timedelta | None = None,
    ) -> None:
        self.segments = dict(segments or {})
        self.values = list(values)
        self.default_policy: Policy = default_policy or NO_POLICY
        self.handling = handling_days * DAY
        self.overdue_after = None if overdue_days is None else overdue_days * DAY  # None: no promise leans on it
        self.escalate_after = escalate_after

        self.named: set[Pool] = set()
        self.on_hand: Counter[Pool] = Counter()
        self.counted_at: dict[Pool, datetime] = {}
        self.low: set[Pool] = set()
        self.noted: dict[Pool, set[str]] = {}
        self.moved_by: dict[Pool, set[str]] = {}
        self.policies: dict[str, SkuPolicyChanged] = {}
        self.pre_orders_over: set[tuple[str, datetime]] = set()  # (sku, release_at)
        self.supplies: dict[tuple[str, str], Supply] = {}  # by (supply_id, sku)
        self.receipts: list[StockReceived] = []

        self.lines: list[Line] = []
        self.complete_orders: set[str] = set()
        self.escalations: dict[str, datetime] = {}  # order_id -> due; kept when it has fired
        self.escalated: set[str] = set()
        self.releases: dict[str, int] = {}  # order_id -> the last release_no; a key for every order that is known
        self.early_cancels: list[OrderCancelled] = []
        self.early_shipments: list[LinesShipped] = []
        self.contents: dict[object, object] = {}  # natural key -> business fields

        self.events: list[Event] = []
        self.touched: list[str] = []
        self.refused_late: list[str] = []
        self.noted_now: dict[Pool, set[str]] = {}

    # -- what the outside sees

    def receive(self, message: Message | Timer, now: datetime) -> Answer:
        """Takes one message with the record's timestamp, or a timer with its due time, and answers with what it did."""
        self.events, self.touched, self.refused_late, self.noted_now = [], [], [], {}
        before = {pool: self.plan(pool, now) for pool in self.named}
        outcome = self._outcome(message, now)
        for order_id in dict.fromkeys(self.touched):
            self._release(order_id, now)
            self._set_escalation(order_id, now)
        self._say_which_fills_are_held(now)
        self._put_in_order()
        self._say_low_stock()
        for pool, causes in self.noted_now.items():
            self.noted.setdefault(pool, set()).update(causes)
            after = self.plan(pool, now)
            if any(after.get(line, planned)[0] != planned[0] for line, planned in before.get(pool, {}).items()):
                self.moved_by.setdefault(pool, set()).add(min(causes, key=CAUSES.index))
        return Answer(outcome, self.events, self.refused_late)

    def due_timers(self) -> list[tuple[datetime, Timer]]:
        """The timers that stand now, the next one first; one that doesn't stand is ignored by `receive`.

        An escalation stands from the first message after which its `complete` order waits or is pre-held until it
        fires, whatever becomes of the order. A release stands while a pre-order policy is the last one of its SKU,
        until it fires or a policy comes whose date has passed already. An overdue stands while units of the revision
        are to come, until it fires.
        """
        standing: list[tuple[datetime, Timer]] = [
            (due, Escalate(order_id)) for order_id, due in self.escalations.items() if order_id not in self.escalated
        ]
        for sku in {*self.policies, *(sku for sku, _ in self.named)}:
            release_at = self._release_at(sku)
            if release_at is not None and (sku, release_at) not in self.pre_orders_over:
                standing.append((release_at, Release(sku)))
        for (supply_id, sku), supply in self.supplies.items():
            if supply.announced and not supply.found_overdue and self._to_come(supply_id, sku):
                standing.append((storable(supply.announced.expected_at), Overdue(supply_id, sku)))
        return sorted(standing, key=lambda entry: (entry[0], type(entry[1]).__name__, astuple(entry[1])))

    def plan(self, pool: Pool, now: datetime) -> dict[tuple[str, int], Planned]:
        """The date of each line of the pool that waits or is pre-held, from nothing, in rank order."""
        planned: dict[tuple[str, int], Planned] = {}
        ahead = 0
        for line in self._queue(pool):
            if line.waiting or self._is_pre_held(line, now):
                planned[line.order_id, line.line_no] = self._date_behind(line, ahead, now, keep=False)
            ahead += line.waiting
        return planned

    def causes_noted(self, pool: Pool) -> set[str]:
        """Of all that happened since the pool was last planned, what could move a date of it."""
        return set(self.noted.get(pool, ()))

    def causes_that_moved(self, pool: Pool) -> set[str]:
        """Those among them that did: some line that waited before and after had another date at that moment.

        Of several causes that come with one message, the first of the contract counts.
        """
        return set(self.moved_by.get(pool, ()))

    def moves(self, pool: Pool, now: datetime, causes: Collection[str] | None = None) -> list[Event]:
        """What a planner that runs now must publish for the pool; from then on it counts as published.

        A planner need not know which of the causes noted moved a date: `causes` are those that it chooses from, by
        itself those that did.
        """
        chosen = self.causes_that_moved(pool) if causes is None else causes
        self.noted.pop(pool, None)
        self.moved_by.pop(pool, None)
        events = []
        for line in self._queue(pool):
            if not line.waiting and not self._is_pre_held(line, now):
                continue
            date, _ = self._date(line, now, keep=True)
            previous = line.promised_at
            if day_of(date) == day_of(previous):
                continue
            line.publish(date)
            earlier = date is not None and (previous is None or date < previous)
            possible = MAKES_EARLIER if earlier else MAKES_LATER
            fitting = [cause for cause in CAUSES if cause in possible and cause in chosen]
            # Where a lead time is shorter than a supply takes, it is the other way round.
            fitting += {"supply_cancelled" if earlier else "supply_announced"} & set(chosen)
            events.append(
                line.event(
                    "PromiseChanged",
                    promised_at=date,
                    previous_promised_at=previous,
                    first_promised_at=line.first_promised_at,
                    cause=fitting[0] if fitting else "recomputed",
                )
            )
        return events

    def availability(self, pool: Pool, now: datetime) -> Event:
        """SkuAvailability: what a shop may show now."""
        sku, location = pool
        policy, release_at = self._policy(sku), self._release_at(sku)
        available, waiting = self._available(pool), self._waiting(pool)
        pre_order = self._pre_order_is_on(sku, now)
        date: datetime | None = None
        if available and not waiting:
            status, date = ("preorder", release_at) if pre_order else ("in_stock", None)
        elif not pre_order and policy.backorders == "deny":
            status = "out_of_stock"
        else:
            status = "preorder" if pre_order else "backorder"
            one_more = Line("one more", 1, pool, now, now, 1, waiting=1)
            date, _ = self._date_behind(one_more, waiting, now, keep=False)
            full = policy.waiting_limit is not None and waiting >= policy.waiting_limit
            if full or self._is_too_long(sku, now, date):
                status, date = "out_of_stock", None
        about = {"type": "SkuAvailability", "key": f"{location}:{sku}", "sku": sku, "location": location}
        return {**about, "status": status, "available": available, "waiting": waiting, "next_promise_at": date}

    def units_of_lines(self) -> dict[tuple[str, int], dict[str, object]]:
        """`released` holds units that have not shipped yet."""
        return {
            (line.order_id, line.line_no): {
                "ordered": line.ordered,
                "waiting": line.waiting,
                "held": line.held,
                "released": dict(line.released),
                "shipped": line.shipped,
                "cancelled": line.cancelled,
                "rejected": line.rejected,
                "ranked_at": line.ranked_at,
                "promised_at": line.promised_at,
                "first_promised_at": line.first_promised_at,
            }
            for line in self.lines
        }

    def units_of_pools(self) -> dict[Pool, dict[str, int]]:
        """`allocated` counts shipped units too. `low` is 0 or 1."""
        return {
            pool: {
                "on_hand": self.on_hand[pool],
                "allocated": sum(line.allocated for line in self._lines_in(pool)),
                "shipped": sum(line.shipped for line in self._lines_in(pool)),
                "waiting": self._waiting(pool),
                "available": self._available(pool),
                "low": int(pool in self.low),
            }
            for pool in self.named
        }

    # -- one message

    def _outcome(self, message: Message | Timer, now: datetime) -> str:
        match message:
            case Escalate() | Release() | Overdue():
                if (now, message) not in self.due_timers():
                    return IGNORED
                self._fire(message)
                return APPLIED
            case SkuPolicyChanged():
                return self._change_policy(message, now)
            case SupplyExpected() | SupplyCancelled():
                return self._change_supply(message)
            case _:
                pass
        key, content = natural_key(message), business_fields(message)
        if key in self.contents:
            return DUPLICATE if self.contents[key] == content else CONFLICT
        if isinstance(message, OrderCancelled) and self._names_an_unknown_line(message):
            return IMPOSSIBLE
        if isinstance(message, LinesShipped) and message.order_id in self.releases and not self._can_ship(message):
            return IMPOSSIBLE
        self.contents[key] = content

        match message:
            case OrderPlaced():
                self._place(message, now)
            case OrderCancelled():
                if message.order_id in self.releases:
                    self._cancel(message)
                else:
                    self.early_cancels.append(message)
            case LinesShipped():
                if message.order_id in self.releases:
                    self._ship(message, now)
                else:
                    self.early_shipments.append(message)
            case LinesDelivered():
                pass
            case StockReceived() | StockAdjusted() | StockCounted():
                return self._move_stock(message, now)
        return APPLIED

    def _fire(self, timer: Timer) -> None:
        match timer:
            case Escalate():
                self.escalated.add(timer.order_id)
                self.touched.append(timer.order_id)
            case Release():
                release_at = self._release_at(timer.sku)
                assert release_at is not None
                self.pre_orders_over.add((timer.sku, release_at))
                self._touch_all_that_hold(timer.sku)
            case Overdue():
                supply = self.supplies[timer.supply_id, timer.sku]
                assert supply.announced is not None
                supply.found_overdue = True
                pool = (supply.announced.sku, supply.announced.location)
                self._note(pool, "supply_overdue")
                self.events.append(
                    {
                        "type": "SupplyOverdue",
                        "key": timer.sku,
                        "supply_id": timer.supply_id,
                        "sku": timer.sku,
                        "location": supply.announced.location,
                        "supplier": supply.announced.supplier,
                        "expected_at": storable(supply.announced.expected_at),
                        "quantity": self._to_come(timer.supply_id, timer.sku),
                        "orders_waiting": len({line.order_id for line in self._lines_in(pool) if line.waiting}),
                    }
                )

    # -- policies and supplies

    def _change_policy(self, policy: SkuPolicyChanged, now: datetime) -> str:
        known = self.policies.get(policy.sku)
        if known is not None and policy.revision <= known.revision:
            return DUPLICATE if without_ids(policy) == without_ids(known) else IGNORED
        if known is not None and known.release_at != policy.release_at:
            self.pre_orders_over = {each for each in self.pre_orders_over if each[0] != policy.sku}
        self.policies[policy.sku] = policy
        release_at = self._release_at(policy.sku)
        if release_at is not None and release_at <= now:
            self.pre_orders_over.add((policy.sku, release_at))
        if not self._pre_order_is_on(policy.sku, now):
            self._touch_all_that_hold(policy.sku)
        for pool in sorted(pool for pool in self.named if pool[0] == policy.sku):
            self._note(pool, "policy_changed")
            self._serve(pool)
        return APPLIED

    def _change_supply(self, message: SupplyExpected | SupplyCancelled) -> str:
        key = (message.supply_id, message.sku)
        old = self.supplies.get(key)
        if old is not None and message.revision <= old.revision:
            return DUPLICATE if without_ids(message) == without_ids(old.last) else IGNORED
        if isinstance(message, SupplyCancelled):
            if old is not None and old.pool and not old.cancelled:
                self._note(old.pool, "supply_cancelled")
            self.supplies[key] = Supply(message, old.announced if old else None)
            return APPLIED
        pool = (message.sku, message.location)
        self.named.add(pool)
        if old is None or old.announced is None or not self._to_come(*key):
            self._note(pool, "supply_announced")
        else:
            if old.pool and old.pool != pool:
                self._note(old.pool, "supply_moved")
                self._note(pool, "supply_moved")
            if storable(old.announced.expected_at) != storable(message.expected_at):
                self._note(pool, "supply_moved")
            if old.announced.quantity != message.quantity:
                self._note(pool, "supply_changed")
        self.supplies[key] = Supply(message, message)
        return APPLIED

    # -- orders

    def _place(self, order: OrderPlaced, now: datetime) -> None:
        placed_at = storable(min(order.placed_at, now))
        ranked_at = minus(placed_at, self.head_start(order))
        self.releases[order.order_id] = 0
        self.touched.append(order.order_id)
        if order.delivery == "complete":
            self.complete_orders.add(order.order_id)
        for placed in sorted(order.lines, key=lambda line: line.line_no):
            pool = (placed.sku, placed.location)
            self.named.add(pool)
            line = Line(order.order_id, placed.line_no, pool, placed_at, ranked_at, placed.quantity)
            line.cancelled = self._cancelled_early(line)
            self.lines.append(line)
            self._begin(line, now, accepts_backorder=placed.accepts_backorder)
        for shipment in [each for each in self.early_shipments if each.order_id == order.order_id]:
            if self._can_ship(shipment):
                self._ship(shipment, now)
            else:
                # Nothing of it was booked: whoever sends it again hears the same, or sends a better one.
                del self.contents[natural_key(shipment)]
                self.refused_late.append(shipment.shipment_id)

    def _begin(self, line: Line, now: datetime, *, accepts_backorder: bool) -> None:
        """What a new line gets at once, what is refused, and what begins to wait."""
        sku, policy = line.pool[0], self._policy(line.pool[0])
        waiting = self._waiting(line.pool)
        wanted = line.ordered - line.cancelled
        at_once = 0 if waiting else min(wanted, self._available(line.pool))
        rest = wanted - at_once
        pre_order = self._pre_order_is_on(sku, now)
        if pre_order:
            line.waiting = at_once  # until the end of this method
        else:
            line.held = at_once

        if rest and not accepts_backorder:
            rest -= self._reject(line, rest, "not_accepted")
        if rest and policy.backorders == "deny":
            rest -= self._reject(line, rest, "denied")
        if policy.waiting_limit is not None and rest > max(0, policy.waiting_limit - waiting):
            rest -= self._reject(line, rest - max(0, policy.waiting_limit - waiting), "waiting_limit")
        if rest:
            line.waiting += rest
            date, _ = self._date(line, now, keep=False)
            if self._is_too_long(sku, line.placed_at, date):
                line.waiting -= self._reject(line, rest, "max_wait")
        if line.waiting:
            if any(other.waiting and other.rank > line.rank for other in self._lines_in(line.pool)):
                self._note(line.pool, "overtaken")
            self._say_created(line, line.waiting, "ordered", now)
        if pre_order:
            self._serve(line.pool)

    def _reject(self, line: Line, units: int, reason: str) -> int:
        line.rejected += units
        substitutes = self._substitutes(line)
        self.events.append(line.event("BackorderRejected", quantity=units, reason=reason, substitutes=substitutes))
        return units

    def _cancel(self, cancel: OrderCancelled) -> None:
        self.touched.append(cancel.order_id)
        pools = []
        for line in self._lines_of(cancel.order_id):
            units = min(wanted_of(cancel, line), line.waiting + line.unshipped)
            if not units:
                continue
            from_waiting = min(units, line.waiting)
            line.waiting -= from_waiting
            from_held = min(units - from_waiting, line.held)
            line.held -= from_held
            taken: list[tuple[int | None, int]] = [(None, from_held)] if from_held else []
            taken += take_newest(line, units - from_waiting - from_held)
            line.cancelled += units
            self._say_revoked(line, taken, "cancelled")
            if from_waiting:
                self.events.append(
                    line.event("BackorderCancelled", quantity=from_waiting, quantity_waiting=line.waiting, by=cancel.by)
                )
            self._note(line.pool, "cancelled_ahead")
            pools.append(line.pool)
        for pool in dict.fromkeys(pools):
            self._serve(pool)

    def _cancelled_early(self, line: Line) -> int:
        named = sum(wanted_of(cancel, line) for cancel in self.early_cancels if cancel.order_id == line.order_id)
        return min(line.ordered, named)

    def _names_an_unknown_line(self, cancel: OrderCancelled) -> bool:
        known = {line.line_no for line in self._lines_of(cancel.order_id)}
        known_order = cancel.order_id in self.releases
        return known_order and any(named.line_no not in known for named in cancel.lines or ())

    # -- shipments

    def _can_ship(self, shipment: LinesShipped) -> bool:
        lines = {line.line_no: line for line in self._lines_of(shipment.order_id)}
        return all(
            line_no in lines and lines[line_no].shipped + units <= lines[line_no].ordered
            for line_no, units in units_shipped(shipment).items()
        )

    def _ship(self, shipment: LinesShipped, now: datetime) -> None:
        self.touched.append(shipment.order_id)
        lines = {line.line_no: line for line in self._lines_of(shipment.order_id)}
        pools = []
        for line_no, units in sorted(units_shipped(shipment).items()):
            line = lines[line_no]
            left = units
            from_released = min(left, line.unshipped - line.held)
            take_oldest(line, from_released)
            left -= from_released
            from_held = min(left, line.held)
            line.held -= from_held
            left -= from_held
            from_waiting = min(left, line.waiting)
            line.waiting -= from_waiting
            left -= from_waiting
            from_cancelled = min(left, line.cancelled)
            line.cancelled -= from_cancelled
            left -= from_cancelled
            line.rejected -= left
            line.shipped += units
            self.on_hand[line.pool] -= units
            pools.append(line.pool)
            if from_waiting:
                self._say_filled(line, from_waiting)
            for mismatch, reason in (
                (from_held, "not_released"),
                (from_waiting, "not_allocated"),
                (from_cancelled, "cancelled"),
                (left, "rejected"),
            ):
                if mismatch:
                    if reason != "not_released":  # held units leave as they would have later
                        self._note(line.pool, "stock_lost")
                    self.events.append(
                        line.event("ShipmentMismatch", quantity=mismatch, reason=reason)
                        | {"key": line.pool[0], "shipment_id": shipment.shipment_id}
                    )
        for pool in dict.fromkeys(pools):
            self._take_what_is_not_there(pool, now)

    # -- stock that comes and goes

    def _move_stock(self, message: StockReceived | StockAdjusted | StockCounted, now: datetime) -> str:
        pool = (message.sku, message.location)
        before = self.on_hand[pool]
        self.named.add(pool)
        match message:
            case StockReceived():
                self.on_hand[pool] += message.quantity
                self.receipts.append(message)
                supply = self.supplies.get((message.supply_id or "", message.sku))
                if supply and supply.pool and supply.pool != pool:
                    self._note(supply.pool, "supply_changed")  # what came here doesn't come there any more
            case StockAdjusted():
                self.on_hand[pool] += message.delta
            case StockCounted():
                counted_at = storable(message.occurred_at)
                if pool in self.counted_at and counted_at < self.counted_at[pool]:
                    return IGNORED
                self.counted_at[pool] = counted_at
                self.on_hand[pool] = message.counted
        if self.on_hand[pool] > before:
            self._note(pool, "stock_received")
        if self.on_hand[pool] < before:
            self._note(pool, "stock_lost")
        self._take_what_is_not_there(pool, now)
        self._serve(pool)
        return APPLIED

    def _serve(self, pool: Pool) -> None:
        available = self._available(pool)
        for line in self._queue(pool):
            units = min(line.waiting, available)
            if units:
                available -= units
                line.waiting -= units
                line.held += units
                self.touched.append(line.order_id)
                self._say_filled(line, units)

    def _take_what_is_not_there(self, pool: Pool, now: datetime) -> None:
        last_first = self._queue(pool)[::-1]
        missing = sum(line.unshipped for line in last_first) - max(0, self.on_hand[pool])
        if missing <= 0:
            return
        sku, location = pool
        self.events.append(
            {"type": "StockShortfall", "key": sku, "sku": sku, "location": location, "quantity": missing}
        )
        taken: dict[tuple[str, int], list[tuple[int | None, int]]] = {}
        for line in last_first:
            units = min(line.held, missing)
            line.held -= units
            missing -= units
            taken[line.order_id, line.line_no] = [(None, units)] if units else []
        for line in last_first:
            from_released = take_newest(line, min(missing, line.unshipped - line.held))
            missing -= sum(units for _, units in from_released)
            taken[line.order_id, line.line_no] += from_released
        for line in last_first:
            line.waiting += sum(units for _, units in taken[line.order_id, line.line_no])
        for line in last_first:
            lost = taken[line.order_id, line.line_no]
            if lost:
                self.touched.append(line.order_id)
                self._say_revoked(line, lost, "stock_lost")
                self._say_created(line, sum(units for _, units in lost), "stock_lost", now)

    # -- at the end of a message

    def _release(self, order_id: str, now: datetime) -> None:
        lines = self._lines_of(order_id)
        waits = any(line.waiting for line in lines)
        pre_held = any(self._is_pre_held(line, now) for line in lines)
        if self._goes_as_one(order_id) and (waits or pre_held):
            return
        going = [line for line in lines if line.held and not self._is_pre_held(line, now)]
        while going:
            part, going = going[:LINES_IN_A_RELEASE], going[LINES_IN_A_RELEASE:]
            self._release_part(order_id, part, complete=not waits and not pre_held and not going)

    def _release_part(self, order_id: str, part: list[Line], *, complete: bool) -> None:
        release_no = self.releases[order_id] = self.releases[order_id] + 1
        said = []
        for line in part:
            sku, location = line.pool
            said.append({"line_no": line.line_no, "sku": sku, "location": location, "quantity": line.held})
            line.released.append((release_no, line.held))
            line.held = 0
        about = {"type": "AllocationReleased", "key": order_id, "order_id": order_id}
        self.events.append({**about, "release_no": release_no, "lines": said, "complete": complete})

    def _set_escalation(self, order_id: str, now: datetime) -> None:
        lines = self._lines_of(order_id)
        stuck = any(line.waiting or self._is_pre_held(line, now) for line in lines)
        if stuck and self._goes_as_one(order_id) and self.escalate_after is not None:
            self.escalations.setdefault(order_id, plus(lines[0].placed_at, self.escalate_after))

    def _say_which_fills_are_held(self, now: datetime) -> None:
        for event in self.events:
            if event["type"] == "BackorderFilled":
                [line] = [line for line in self._lines_of(str(event["key"])) if line.line_no == event["line_no"]]
                if line.held:
                    event["held"] = "preorder" if self._is_pre_held(line, now) else "complete"

    def _put_in_order(self) -> None:
        """The events of a line have one order within a message: placing and an early shipment are one here.

        How many wait is counted anew in that order: the last event says how many do.
        """
        places: dict[tuple[str, object], list[int]] = {}
        for place, event in enumerate(self.events):
            if event["type"] in TOLD_IN_THIS_ORDER:
                places.setdefault((str(event["key"]), event["line_no"]), []).append(place)
        for line in self.lines:
            here = places.get((line.order_id, line.line_no), [])
            told = sorted(
                (self.events[at] for at in here), key=lambda each: TOLD_IN_THIS_ORDER.index(str(each["type"]))
            )
            waiting = line.waiting
            for event in reversed([each for each in told if "quantity_waiting" in each]):
                units = event["quantity"]
                assert isinstance(units, int)
                event["quantity_waiting"] = waiting
                waiting += -units if event["type"] == "BackorderCreated" else units
            for at, event in zip(here, told, strict=True):
                self.events[at] = event

    def _say_low_stock(self) -> None:
        for pool in sorted(self.named):
            sku, location = pool
            mark, available = self._policy(sku).low_stock_at, self._available(pool)
            if mark is None or available > mark:
                self.low.discard(pool)
            elif pool not in self.low:
                self.low.add(pool)
                about = {"type": "LowStock", "key": sku, "sku": sku, "location": location}
                self.events.append({**about, "available": available, "low_stock_at": mark})

    # -- dates

    def _date(self, line: Line, now: datetime, *, keep: bool) -> Planned:
        ahead = sum(other.waiting for other in self._lines_in(line.pool) if other.rank < line.rank)
        return self._date_behind(line, ahead, now, keep=keep)

    def _date_behind(self, line: Line, ahead: int, now: datetime, *, keep: bool) -> Planned:
        """The date of a line behind so many other units; `keep`: a lead time is fixed by it."""
        if not line.waiting:  # pre-held
            return max(self._release_at(line.pool[0]) or now, now), None
        date, supply_id = self._covered(line.pool, ahead + line.waiting, now)
        if date is None:
            date = self._lead(line, now, keep=keep)
        release_at = self._release_at(line.pool[0])
        if date is not None and release_at is not None and self._pre_order_is_on(line.pool[0], now):
            date = max(release_at, date)
        return date, supply_id

    def _covered(self, pool: Pool, needed: int, now: datetime) -> Planned:
        """When stock and supplies first suffice for so many units."""
        total = self._free(pool)
        if total >= needed:
            return now, None
        for date, supply_id, units in self._supplies_by_date(pool, now):
            total += units
            if total >= needed:
                return plus(date, self.handling), supply_id
        return None, None

    def _supplies_by_date(self, pool: Pool, now: datetime) -> list[tuple[datetime, str, int]]:
        coming = []
        for (supply_id, sku), supply in self.supplies.items():
            units = self._to_come(supply_id, sku)
            if supply.announced is None or supply.pool != pool or not units:
                continue
            date = storable(supply.announced.expected_at)
            if supply.found_overdue or date < now:
                if self.overdue_after is None:
                    continue
                date = plus(max(now, date), self.overdue_after)
            coming.append((date, supply_id, units))
        return sorted(coming)

    def _lead(self, line: Line, now: datetime, *, keep: bool) -> datetime | None:
        days = self._policy(line.pool[0]).default_lead_time_days
        if days is None:
            return None
        if line.lead is not None and line.lead[0] == days:
            known = line.lead[1]
            release_at = self._release_at(line.pool[0])
            pre_order = release_at is not None and self._pre_order_is_on(line.pool[0], now)
            told = max(release_at, known) if release_at is not None and pre_order else known
            if known >= now or day_of(line.promised_at) == day_of(told):
                return known
        date = plus(line.placed_at, days * DAY)
        if date < now:
            date = plus(now, days * DAY)
        if keep:
            line.lead = days, date
        return date

    def _is_too_long(self, sku: str, placed_at: datetime, date: datetime | None) -> bool:
        days = self._policy(sku).max_wait_days
        return days is not None and (date is None or date > plus(placed_at, days * DAY))

    # -- small things

    def head_start(self, order: OrderPlaced) -> timedelta:
        value = sum(line.quantity * Fraction(line.unit_price) for line in order.lines)
        head_starts = [timedelta(0), self.segments.get(order.customer.segment, timedelta(0))]
        head_starts += [
            head_start
            for amount, currency, head_start in self.values
            if currency == order.currency and value >= Fraction(amount)
        ]
        return max(head_starts)

    def _lines_of(self, order_id: str) -> list[Line]:
        return sorted((line for line in self.lines if line.order_id == order_id), key=lambda line: line.line_no)

    def _queue(self, pool: Pool) -> list[Line]:
        """All lines of the pool in rank order, whether they wait or not."""
        return sorted(self._lines_in(pool), key=lambda line: line.rank)

    def _lines_in(self, pool: Pool) -> list[Line]:
        return [line for line in self.lines if line.pool == pool]

    def _waiting(self, pool: Pool) -> int:
        return sum(line.waiting for line in self._lines_in(pool))

    def _free(self, pool: Pool) -> int:
        """May be negative: what is missing comes first."""
        unshipped = sum(line.unshipped for line in self._lines_in(pool))
        return self.on_hand[pool] - unshipped - self._policy(pool[0]).safety_stock

    def _available(self, pool: Pool) -> int:
        return max(0, self._free(pool))

    def _to_come(self, supply_id: str, sku: str) -> int:
        supply = self.supplies[supply_id, sku]
        if supply.announced is None or supply.cancelled:
            return 0
        received = sum(each.quantity for each in self.receipts if (each.supply_id, each.sku) == (supply_id, sku))
        return max(0, supply.announced.quantity - received)

    def _policy(self, sku: str) -> Policy:
        return self.policies.get(sku, self.default_policy)

    def _release_at(self, sku: str) -> datetime | None:
        """The date of a pre-order; None for any other policy."""
        policy = self._policy(sku)
        if policy.backorders != "preorder" or policy.release_at is None:
            return None
        return storable(policy.release_at)

    def _pre_order_is_on(self, sku: str, now: datetime) -> bool:
        release_at = self._release_at(sku)
        return release_at is not None and now < release_at and (sku, release_at) not in self.pre_orders_over

    def _is_pre_held(self, line: Line, now: datetime) -> bool:
        return line.held > 0 and self._pre_order_is_on(line.pool[0], now)

    def _goes_as_one(self, order_id: str) -> bool:
        return order_id in self.complete_orders and order_id not in self.escalated

    def _touch_all_that_hold(self, sku: str) -> None:
        self.touched += [line.order_id for line in self.lines if line.pool[0] == sku and line.held]

    def _note(self, pool: Pool, cause: str) -> None:
        self.noted_now.setdefault(pool, set()).add(cause)

    def _substitutes(self, line: Line) -> tuple[str, ...]:
        """Those that are there first."""
        sku, location = line.pool
        others = [other for other in self._policy(sku).substitutes if other != sku]
        return tuple(sorted(others, key=lambda other: self._available((other, location)) == 0))

    def _say_revoked(self, line: Line, taken: Sequence[tuple[int | None, int]], reason: str) -> None:
        for release_no, units in taken:
            self.events.append(line.event("AllocationRevoked", release_no=release_no, quantity=units, reason=reason))

    def _say_filled(self, line: Line, units: int) -> None:
        self.events.append(line.event("BackorderFilled", quantity=units, quantity_waiting=line.waiting, held=None))

    def _say_created(self, line: Line, units: int, reason: str, now: datetime) -> None:
        date, _ = self._date(line, now, keep=True)
        line.publish(date)
        self.events.append(
            line.event(
                "BackorderCreated",
                quantity=units,
                quantity_waiting=line.waiting,
                quantity_ordered=line.ordered,
                quantity_allocated=line.allocated,
                kind="preorder" if self._pre_order_is_on(line.pool[0], now) else "backorder",
                reason=reason,
                promised_at=date,
                substitutes=self._substitutes(line),
            )
        )


def wanted_of(cancel: OrderCancelled, line: Line) -> int:
    """How many units of this line the cancel names, whether they are open or not."""
    if cancel.lines is None:
        return line.ordered
    named = [entry.quantity for entry in cancel.lines if entry.line_no == line.line_no]
    return sum(line.ordered if quantity is None else quantity for quantity in named)


def units_shipped(shipment: LinesShipped) -> dict[int, int]:
    """Units by line; a line may be named twice."""
    return {
        line_no: sum(each.quantity for each in shipment.lines if each.line_no == line_no)
        for line_no in {each.line_no for each in shipment.lines}
    }


def day_of(moment: datetime | None) -> object:
    return None if moment is None else moment.date()
