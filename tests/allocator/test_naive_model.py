"""The naive model itself is judged by examples that were worked out by hand: else it could be wrong like the code."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from backorder_schemas import (
    CancelledLine,
    Customer,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    ShippedLine,
    SkuPolicyChanged,
    StockAdjusted,
    StockCounted,
    StockReceived,
    SupplyCancelled,
    SupplyExpected,
)
from tests.allocator.naive_model import Escalate, Event, NaiveModel, Overdue, Release

MONDAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
DAY = timedelta(days=1)
MAIN = ("X", "main")
GOLD = {"gold": 2 * DAY}
# Who asks for another kind of answer than a number of units gets the event.
UNITS = {"BackorderCreated": "waits", "BackorderFilled": "filled", "BackorderCancelled": "no longer waits"}


class Shop:
    """One SKU ("X" at "main") unless said otherwise. Time stands still unless a test moves it."""

    def __init__(self, *, stock: int = 0, policy: dict[str, Any] | None = None, **settings: Any) -> None:
        default = {"segments": GOLD, "default_policy": None, "handling_days": 0, "overdue_days": None}
        self.model = NaiveModel(**(default | {"escalate_after": None} | settings))
        self.now = MONDAY
        self.sent = 0
        self.outcome = ""
        self.events: list[Event] = []
        self.refused: list[str] = []
        if policy:
            self.policy(**policy)
        if stock:
            self.receive(stock)

    def send(self, kind: Any, **fields: Any) -> list[str]:
        self.sent += 1
        message = kind(**({"id": f"m{self.sent}", "occurred_at": self.now} | fields))
        answer = self.model.receive(message, self.now)
        self.outcome, self.events, self.refused = answer.outcome, answer.events, answer.refused_late
        return [in_words(event) for event in answer.events]

    def order(
        self,
        order_id: str,
        *lines: int | tuple[int, str],
        segment: str = "standard",
        accepts_backorder: bool = True,
        delivery: str = "split",
        placed_at: datetime | None = None,
    ) -> list[str]:
        named = [(line, "X") if isinstance(line, int) else line for line in lines]
        price, accepts = Decimal(1), accepts_backorder
        return self.send(
            OrderPlaced,
            order_id=order_id,
            placed_at=placed_at or self.now,
            currency="EUR",
            customer=Customer(customer_id="c", segment=segment),
            delivery=delivery,
            lines=tuple(
                OrderLine(line_no=no, sku=sku, quantity=units, unit_price=price, accepts_backorder=accepts)
                for no, (units, sku) in enumerate(named, start=1)
            ),
        )

    def cancel(self, order_id: str, *lines: tuple[int, int | None]) -> list[str]:
        named = tuple(CancelledLine(line_no=no, quantity=units) for no, units in lines) or None
        return self.send(OrderCancelled, order_id=order_id, by="customer", lines=named)

    def receive(self, units: int, supply_id: str | None = None, sku: str = "X", location: str = "main") -> list[str]:
        where = {"sku": sku, "location": location}
        return self.send(StockReceived, receipt_id=f"r{self.sent}", quantity=units, supply_id=supply_id, **where)

    def adjust(self, delta: int) -> list[str]:
        return self.send(StockAdjusted, adjustment_id=f"a{self.sent}", sku="X", delta=delta, reason="broken")

    def count(self, counted: int) -> list[str]:
        return self.send(StockCounted, count_id=f"c{self.sent}", sku="X", counted=counted)

    def policy(self, backorders: str = "allow", **more: Any) -> list[str]:
        return self.send(SkuPolicyChanged, sku="X", revision=self.sent + 1, backorders=backorders, **more)

    def announce(
        self, supply_id: str, units: int, at: datetime, *, revision: int = 1, location: str = "main"
    ) -> list[str]:
        about = {"supply_id": supply_id, "sku": "X", "location": location, "supplier": "s"}
        return self.send(SupplyExpected, revision=revision, quantity=units, expected_at=at, **about)

    def call_off(self, supply_id: str, revision: int) -> list[str]:
        return self.send(SupplyCancelled, supply_id=supply_id, revision=revision, sku="X")

    def ship(self, order_id: str, *lines: tuple[int, int], shipment_id: str = "s") -> list[str]:
        shipped = tuple(ShippedLine(line_no=no, quantity=units) for no, units in lines)
        return self.send(LinesShipped, shipment_id=shipment_id, order_id=order_id, lines=shipped)

    def deliver(self, order_id: str, at: datetime, shipment_id: str = "s") -> list[str]:
        return self.send(LinesDelivered, shipment_id=shipment_id, order_id=order_id, delivered_at=at)

    def fire(self, timer: Escalate | Release | Overdue) -> list[str]:
        [due] = [due for due, standing in self.model.due_timers() if standing == timer]
        self.now = max(self.now, due)
        answer = self.model.receive(timer, due)
        self.events = answer.events
        return [in_words(event) for event in answer.events]

    def days(self) -> list[int | None]:
        """The planned days of the queue, counted from Monday."""
        return [None if date is None else (date - MONDAY).days for date, _ in self.model.plan(MAIN, self.now).values()]

    def moves(self) -> list[tuple[object, int | None, object]]:
        return [
            (event["order_id"], None if date is None else (date - MONDAY).days, event["cause"])
            for event in self.model.moves(MAIN, self.now)
            for date in [as_date(event["promised_at"])]
        ]

    def availability(self) -> tuple[object, object, object]:
        event = self.model.availability(MAIN, self.now)
        date = as_date(event["next_promise_at"])
        return event["status"], event["available"], None if date is None else (date - MONDAY).days

    def units(self, order_id: str, line_no: int = 1) -> tuple[object, ...]:
        """(waiting, held, released, shipped, cancelled, rejected)."""
        line = self.model.units_of_lines()[order_id, line_no]
        released = line["released"]
        assert isinstance(released, dict)
        held, shipped = line["held"], line["shipped"]
        return line["waiting"], held, sum(released.values()), shipped, line["cancelled"], line["rejected"]


def as_date(value: object) -> datetime | None:
    assert value is None or isinstance(value, datetime)
    return value


def in_words(event: Event) -> str:
    match event["type"]:
        case "AllocationReleased":
            lines = event["lines"]
            assert isinstance(lines, Sequence)
            units = " and ".join(str(line["quantity"]) for line in lines)
            return f"{event['key']}: released {units}" + (", complete" if event["complete"] else "")
        case "AllocationRevoked":
            release = "held" if event["release_no"] is None else f"of release {event['release_no']}"
            return f"{event['key']}: revoked {event['quantity']} {release}, {event['reason']}"
        case "BackorderRejected":
            return f"{event['key']}: rejected {event['quantity']}, {event['reason']}"
        case "BackorderFilled" if event["held"]:
            return f"{event['key']}: filled {event['quantity']}, held {event['held']}"
        case "ShipmentMismatch":
            return f"{event['order_id']}: shipped {event['quantity']} {event['reason']}"
        case "LowStock":
            return f"low: {event['available']}"
        case "StockShortfall":
            return f"short of {event['quantity']}"
        case "SupplyOverdue":
            return f"{event['supply_id']} is overdue: {event['quantity']}, {event['orders_waiting']} wait"
        case _:
            return f"{event['key']}: {UNITS[str(event['type'])]} {event['quantity']}"


# -- who gets what


def test_of_nine_on_three_with_five_that_may_wait_one_is_rejected() -> None:
    shop = Shop(policy={"waiting_limit": 5}, stock=3)
    assert shop.order("1", 9) == ["1: rejected 1, waiting_limit", "1: waits 5", "1: released 3"]
    assert shop.availability() == ("out_of_stock", 0, None)


def test_safety_stock_is_not_given_away() -> None:
    shop = Shop(policy={"waiting_limit": 5, "safety_stock": 2}, stock=3)
    assert shop.order("1", 8) == ["1: rejected 2, waiting_limit", "1: waits 5", "1: released 1"]
    assert shop.policy(waiting_limit=5) == ["1: filled 2", "1: released 2"], "lowered, it serves the queue"
    assert shop.policy(safety_stock=9) == []


def test_the_limit_counts_all_that_wait_and_is_free_again_after_a_cancel() -> None:
    shop = Shop(policy={"waiting_limit": 5})
    shop.order("1", 4)
    assert shop.order("2", 2) == ["2: rejected 1, waiting_limit", "2: waits 1"]
    shop.cancel("1")
    assert shop.order("3", 9) == ["3: rejected 5, waiting_limit", "3: waits 4"]


def test_what_the_line_or_the_policy_refuses_is_refused_before_any_limit() -> None:
    shop = Shop(policy={"backorders": "deny", "waiting_limit": 0, "max_wait_days": 1}, stock=3)
    assert shop.order("1", 2, accepts_backorder=False) == ["1: released 2, complete"]
    assert shop.order("2", 4, accepts_backorder=False) == ["2: rejected 3, not_accepted", "2: released 1, complete"]
    assert shop.order("3", 4) == ["3: rejected 4, denied"]
    assert shop.availability() == ("out_of_stock", 0, None)


def test_whoever_would_wait_too_long_is_rejected_whole_and_whoever_would_not_waits() -> None:
    shop = Shop(policy={"waiting_limit": 6, "max_wait_days": 3}, stock=1)
    assert shop.order("1", 3) == ["1: rejected 2, max_wait", "1: released 1, complete"], "nobody knows when"
    shop.announce("a", 4, MONDAY + 3 * DAY)
    shop.announce("b", 9, MONDAY + 3 * DAY + timedelta(seconds=1))
    assert shop.order("2", 4) == ["2: waits 4"]
    assert shop.order("3", 3) == ["3: rejected 1, waiting_limit", "3: rejected 2, max_wait"]
    assert shop.availability() == ("out_of_stock", 0, None)


def test_one_arrives_for_the_older_of_two_then_three_for_both() -> None:
    shop = Shop()
    shop.order("1", 2)
    shop.order("2", 1)
    assert shop.receive(1) == ["1: filled 1", "1: released 1"]
    assert shop.receive(3) == ["1: filled 1", "2: filled 1", "1: released 1, complete", "2: released 1, complete"]
    assert shop.availability() == ("in_stock", 1, None)


def test_whoever_comes_after_somebody_who_waits_waits_too() -> None:
    shop = Shop(policy={"safety_stock": 0}, stock=10)
    for order_id, units in (("1", 6), ("2", 6), ("3", 20)):
        shop.order(order_id, units)
    assert [shop.units(order_id)[0] for order_id in ("1", "2", "3")] == [0, 2, 20]


def test_a_count_that_loses_four_takes_held_units_first_then_the_newest_release() -> None:
    shop = Shop(stock=3)
    shop.order("a", 3)  # released
    shop.order("b", 3, (1, "Y"), delivery="complete")
    shop.receive(3)  # held for Y
    assert shop.units("b") == (0, 3, 0, 0, 0, 0)
    assert shop.count(2) == [
        "short of 4",
        "b: revoked 3 held, stock_lost",
        "b: waits 3",
        "a: revoked 1 of release 1, stock_lost",
        "a: waits 1",
    ]


def test_a_cancelled_backorder_fills_nobody_and_cancelled_stock_fills_the_first() -> None:
    shop = Shop(stock=1)
    shop.order("1", 3)
    shop.order("2", 1)
    assert shop.cancel("1", (1, 1)) == ["1: no longer waits 1"]
    assert shop.cancel("1") == [
        "1: revoked 1 of release 1, cancelled",
        "1: no longer waits 1",
        "2: filled 1",
        "2: released 1, complete",
    ]


def test_substitutes_that_are_there_come_first_and_the_sku_itself_is_none() -> None:
    shop = Shop(policy={"substitutes": ("N", "X", "Y", "Z"), "waiting_limit": 1})
    shop.receive(1, sku="Y")
    shop.receive(1, sku="N", location="outlet")
    shop.order("1", 2)
    assert [event["substitutes"] for event in shop.events] == [("Y", "N", "Z")] * 2


def test_low_stock_is_said_once_until_there_is_more() -> None:
    shop = Shop(policy={"low_stock_at": 2}, stock=4)
    assert shop.order("1", 2) == ["1: released 2, complete", "low: 2"]
    assert shop.order("2", 1) == ["2: released 1, complete"]
    assert shop.policy(low_stock_at=9) == []
    assert shop.receive(9) == []
    assert shop.adjust(-1) == ["low: 9"]
    assert Shop(policy={"low_stock_at": 0}).announce("a", 1, MONDAY) == ["low: 0"], "a pool that is first named"


# -- delivery in one piece, pre-orders, timers


def test_a_complete_order_goes_as_one_when_its_last_line_is_there_or_no_longer_waits() -> None:
    for last in ("received", "cancelled"):
        shop = Shop(stock=2)
        assert shop.order("1", 2, (1, "Y"), delivery="complete") == ["1: waits 1"]
        if last == "received":
            assert shop.receive(1, sku="Y") == ["1: filled 1", "1: released 2 and 1, complete"]
        else:
            assert shop.cancel("1", (2, None)) == ["1: no longer waits 1", "1: released 2, complete"]


def test_a_complete_order_becomes_split_after_a_time_counted_from_when_it_was_placed() -> None:
    shop = Shop(stock=2, escalate_after=3 * DAY)
    shop.order("1", 2, (1, "Y"), delivery="complete", placed_at=MONDAY - DAY)
    assert shop.model.due_timers() == [(MONDAY + 2 * DAY, Escalate("1"))]
    assert shop.fire(Escalate("1")) == ["1: released 2"]
    assert shop.model.due_timers() == []
    assert shop.receive(1, sku="Y") == ["1: filled 1", "1: released 1, complete"]


def test_a_pre_order_is_filled_early_and_released_at_its_date() -> None:
    shop = Shop(policy={"backorders": "preorder", "release_at": MONDAY + 5 * DAY, "waiting_limit": 1}, stock=2)
    assert shop.availability() == ("preorder", 2, 5)
    assert shop.order("1", 4) == ["1: rejected 1, waiting_limit", "1: waits 3", "1: filled 2, held preorder"]
    created = shop.events[1]
    assert (created["kind"], created["quantity_allocated"], created["promised_at"]) == ("preorder", 0, None)
    assert shop.availability() == ("out_of_stock", 0, None)
    assert shop.receive(2) == ["1: filled 1, held preorder"]
    assert shop.days() == [5]
    assert shop.moves() == [("1", 5, "stock_received")]
    assert shop.fire(Release("X")) == ["1: released 3, complete"]
    shop.now = MONDAY  # a record of a partition that lags behind
    assert shop.order("2", 1) == ["2: released 1, complete"]


def test_a_pre_order_without_stock_is_promised_at_the_later_of_release_and_supply() -> None:
    shop = Shop(policy={"backorders": "preorder", "release_at": MONDAY + 5 * DAY})
    shop.announce("a", 1, MONDAY + 2 * DAY)
    shop.announce("b", 1, MONDAY + 7 * DAY)
    shop.order("1", 1)
    shop.order("2", 1)
    assert shop.days() == [5, 7]


def test_a_policy_that_is_no_pre_order_any_more_lets_go_of_what_was_held() -> None:
    shop = Shop(policy={"backorders": "preorder", "release_at": MONDAY + 5 * DAY}, stock=2)
    shop.order("1", 1)
    shop.order("2", 1, (1, "Y"), delivery="complete")
    assert shop.policy() == ["1: released 1, complete"]
    assert shop.receive(1, sku="Y") == ["2: filled 1", "2: released 1 and 1, complete"]


def test_escalation_overrides_no_release_date() -> None:
    shop = Shop(policy={"backorders": "preorder", "release_at": MONDAY + 5 * DAY}, stock=1, escalate_after=DAY)
    shop.receive(1, sku="Y")
    shop.order("1", 1, (1, "Y"), delivery="complete")
    assert shop.fire(Escalate("1")) == ["1: released 1"]
    assert shop.fire(Release("X")) == ["1: released 1, complete"]


def test_a_supply_is_told_to_be_overdue_once_a_revision_and_promises_lean_on_it_by_setting() -> None:
    for overdue_days, day in ((None, None), (3, 5)):
        shop = Shop(overdue_days=overdue_days)
        shop.announce("a", 4, MONDAY + 2 * DAY)
        shop.order("1", 1)
        shop.order("2", 1, 1)
        shop.receive(1, "a")
        assert shop.fire(Overdue("a", "X")) == ["a is overdue: 3, 1 wait"]
        assert shop.model.due_timers() == []
        assert shop.moves() == [("2", day, "supply_overdue")] * 2
        shop.announce("a", 4, MONDAY + 4 * DAY, revision=2)
        assert shop.days() == [4, 4]
        assert shop.model.due_timers() == [(MONDAY + 4 * DAY, Overdue("a", "X"))]


# -- shipments


def test_a_shipment_takes_released_held_waiting_cancelled_and_rejected_units() -> None:
    shop = Shop(policy={"waiting_limit": 3}, stock=2)
    shop.order("1", 7, (1, "Y"), delivery="complete")  # 2 held, 3 wait, 2 rejected
    shop.cancel("1", (1, 1))
    assert shop.units("1") == (2, 2, 0, 0, 1, 2)
    assert shop.ship("1", (1, 3), (1, 3)) == [
        "1: filled 2",
        "1: shipped 2 not_released",
        "1: shipped 2 not_allocated",
        "1: shipped 1 cancelled",
        "1: shipped 1 rejected",
    ]
    assert shop.units("1") == (0, 0, 0, 6, 0, 1)
    assert shop.model.units_of_pools()[MAIN]["on_hand"] == -4
    assert shop.ship("1", (1, 2), shipment_id="t") == []
    assert shop.outcome == "impossible"
    assert shop.ship("1", (3, 1), shipment_id="u") == []
    assert shop.outcome == "impossible"


def test_whoever_is_last_loses_what_was_shipped_to_another() -> None:
    shop = Shop(stock=2)
    shop.order("1", 1)
    shop.cancel("1")
    shop.order("2", 1)
    shop.order("3", 1)
    assert shop.ship("1", (1, 1)) == [
        "1: shipped 1 cancelled",
        "short of 1",
        "3: revoked 1 of release 1, stock_lost",
        "3: waits 1",
    ]


def test_a_shipment_before_its_order_waits_for_it_and_its_units_are_never_released() -> None:
    shop = Shop(stock=3)
    assert shop.ship("1", (1, 2)) == []
    assert shop.ship("1", (2, 1), shipment_id="unknown line") == []
    assert shop.ship("1", (1, 2), shipment_id="too many") == []
    assert shop.order("1", 3) == ["1: shipped 2 not_released", "1: released 1, complete"]
    assert shop.refused == ["unknown line", "too many"]
    assert shop.units("1") == (0, 0, 1, 2, 0, 0)
    assert shop.ship("1", (1, 1), shipment_id="t") == []
    assert shop.units("1") == (0, 0, 0, 3, 0, 0)
    assert shop.cancel("1") == [], "what is shipped is left alone"


def test_who_is_placed_filled_and_robbed_in_one_message_hears_it_in_the_order_of_the_contract() -> None:
    shop = Shop(policy={"backorders": "preorder", "release_at": MONDAY + 5 * DAY, "waiting_limit": 0}, stock=2)
    shop.ship("1", (2, 1))
    assert shop.order("1", 2, 1) == [
        "1: revoked 1 held, stock_lost",
        "1: waits 2",
        "1: rejected 1, waiting_limit",
        "1: shipped 1 rejected",
        "short of 1",
        "1: waits 1",
        "1: filled 2, held preorder",
    ]
    assert [event["quantity_waiting"] for event in shop.events if "quantity_waiting" in event] == [2, 3, 1]
    assert shop.units("1") == (1, 1, 0, 0, 0, 0)


def test_a_shipment_or_delivery_counts_once() -> None:
    shop = Shop(stock=3)
    shop.order("1", 3)
    shop.ship("1", (1, 1), (1, 2))
    assert (shop.ship("1", (1, 2), (1, 1)), shop.outcome) == ([], "duplicate")
    assert (shop.ship("1", (1, 2)), shop.outcome) == ([], "conflicting_duplicate")
    for at, outcome in ((MONDAY, "applied"), (MONDAY, "duplicate"), (MONDAY + DAY, "conflicting_duplicate")):
        assert (shop.deliver("1", at), shop.outcome) == ([], outcome)


# -- promises


def queue_of_eight(**policy: Any) -> Shop:
    shop = Shop(policy=policy)
    for day, units in enumerate((6, 4, 2, 4, 8, 4, 4, 4), start=1):
        shop.announce(f"day {day}", units, MONDAY + day * DAY)
    for number, units in enumerate((6, 2, 3, 6, 6, 1, 2, 2), start=1):
        shop.order(f"{number}", units)
    return shop


def test_a_promise_is_the_date_at_which_supply_covers_all_demand_up_to_the_line() -> None:
    shop = queue_of_eight()
    assert shop.days() == [1, 2, 3, 5, 5, 5, 6, 6]
    covering = [supply_id for _, supply_id in shop.model.plan(MAIN, MONDAY).values()]
    assert covering == [f"day {day}" for day in (1, 2, 3, 5, 5, 5, 6, 6)]
    assert shop.moves() == [], "each was told its date when it ordered"


def test_a_delay_is_told_to_exactly_those_who_leaned_on_the_supply() -> None:
    shop = queue_of_eight()
    shop.moves()
    shop.announce("day 5", 8, MONDAY + 9 * DAY, revision=2)
    assert shop.days() == [1, 2, 3, 6, 7, 7, 8, 8]
    assert shop.moves() == [
        (order_id, day, "supply_moved") for order_id, day in (("4", 6), ("5", 7), ("6", 7), ("7", 8), ("8", 8))
    ]
    shop.call_off("day 5", 3)
    assert shop.moves() == [], "nothing leaned on it any more"
    shop.call_off("day 8", 2)
    assert shop.moves() == [("7", None, "supply_cancelled"), ("8", None, "supply_cancelled")]


def test_what_no_supply_covers_falls_to_the_lead_time_from_the_order_or_from_now() -> None:
    shop = queue_of_eight(default_lead_time_days=10)
    shop.announce("day 5", 8, MONDAY + 9 * DAY, revision=2)
    shop.call_off("day 5", 3)
    shop.call_off("day 8", 2)
    assert shop.days()[6:] == [10, 10]
    shop.now = MONDAY + 5 * DAY
    shop.moves()
    shop.now = MONDAY + 6 * DAY
    assert shop.days()[6:] == [10, 10], "it does not move by itself"
    shop.now = MONDAY + 11 * DAY
    shop.policy(default_lead_time_days=2)
    assert shop.days()[6:] == [13, 13], "a promise is never made for the past"


def test_a_shortage_is_carried_forward() -> None:
    shop = Shop()
    for day, units in ((3, 10), (5, 1), (6, 3)):
        shop.announce(f"day {day}", units, MONDAY + day * DAY)
    for number, units in enumerate((3, 7, 2, 1, 1, 2), start=1):
        shop.order(f"{number}", units)
    assert shop.days() == [3, 3, 6, 6, 6, None]


def test_a_supply_of_ten_that_brings_six_then_six_is_all_here() -> None:
    shop = Shop(handling_days=1)
    shop.order("1", 20)
    shop.receive(6, "a")
    shop.announce("a", 10, MONDAY + 2 * DAY)
    shop.announce("b", 10, MONDAY + 4 * DAY)
    assert shop.days() == [5], "of a 4 are still to come"
    shop.receive(6, "a", location="outlet")
    assert shop.days() == [None]
    assert shop.model.due_timers() == [(MONDAY + 4 * DAY, Overdue("b", "X"))]


def test_the_overtaken_are_told_why() -> None:
    shop = Shop()
    shop.announce("a", 1, MONDAY + 1 * DAY)
    shop.announce("b", 1, MONDAY + 2 * DAY)
    shop.order("1", 1)
    assert shop.moves() == []
    shop.order("2", 1, segment="gold")
    assert shop.moves() == [("1", 2, "overtaken")]
    assert shop.days() == [1, 2]
    shop.cancel("2")
    assert shop.moves() == [("1", 1, "cancelled_ahead")]


def test_what_safety_stock_lacks_is_filled_first() -> None:
    shop = Shop(policy={"safety_stock": 3}, stock=1)
    shop.announce("a", 3, MONDAY + 1 * DAY)
    shop.announce("b", 3, MONDAY + 2 * DAY)
    shop.order("1", 2)
    assert shop.days() == [2]
    assert shop.availability() == ("backorder", 0, 2)


def test_only_a_date_of_another_day_is_published() -> None:
    shop = Shop()
    shop.announce("a", 1, MONDAY + DAY)
    shop.order("1", 1)
    shop.announce("a", 1, MONDAY + DAY + timedelta(hours=14), revision=2)
    assert shop.moves() == []
    shop.announce("a", 1, MONDAY + DAY + timedelta(hours=15), revision=3)
    [event] = shop.model.moves(MAIN, MONDAY)
    assert event["previous_promised_at"] == MONDAY + DAY == event["first_promised_at"]


def test_a_revision_that_goes_back_or_stays_is_ignored_and_a_higher_one_revives() -> None:
    shop = Shop()
    shop.order("1", 1)
    shop.call_off("a", 3)
    assert (shop.announce("a", 1, MONDAY + DAY, revision=2), shop.outcome) == ([], "ignored")
    assert (shop.announce("a", 1, MONDAY + DAY, revision=3), shop.outcome) == ([], "ignored")
    assert shop.days() == [None]
    shop.announce("a", 1, MONDAY + DAY, revision=4)
    assert shop.days() == [1]
    shop.announce("a", 1, MONDAY + DAY, revision=5, location="outlet")
    assert shop.days() == [None]


def test_dates_at_the_ends_of_the_calendar_stay_in_it() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    shop = Shop(policy={"default_lead_time_days": 36_500, "max_wait_days": 36_500}, handling_days=9)
    shop.announce("a", 1_000_000_000, last)
    shop.now = last
    shop.order("1", 1_000_000_000, placed_at=datetime(1, 1, 1, tzinfo=UTC), segment="gold")
    assert shop.units("1") == (0, 0, 0, 0, 0, 1_000_000_000)
    shop.order("2", 1_000_000_000)
    assert shop.units("2") == (1_000_000_000, 0, 0, 0, 0, 0)
