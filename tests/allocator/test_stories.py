"""What customers, warehouses and buyers live through, told through `decide` alone.

Every step answers with what the world is told, in words, in the order in which it is told.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest

from backorder_allocator.allocation import Event, IncompleteStateError, Input, Message, decide
from backorder_allocator.ranking import HeadStartRules, ValueRule, sentence
from backorder_allocator.state import Pool, PoolKey, State
from backorder_schemas import (
    CancelledLine,
    Customer,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    StockAdjusted,
    StockCounted,
    StockReceived,
)

MONDAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
GOLD_IS_TWO_DAYS_AHEAD = HeadStartRules(by_segment={"gold": timedelta(days=2)})


class Shop:
    """One SKU ("X" at "main") unless said otherwise; every message comes an hour after the one before."""

    def __init__(self, rules: HeadStartRules | None = None, *, stock: int = 0) -> None:
        self.rules = rules or HeadStartRules()
        self.state = State()
        self.now = MONDAY
        self.sent: list[Message] = []
        self.outcome = ""
        if stock:
            self.receive(stock)

    def send(self, message: Message) -> list[str]:
        decision = decide(self.state, [Input(message, self.now)], self.rules)
        self.state = decision.state
        self.sent.append(message)
        [outcome] = decision.outcomes
        self.outcome = outcome.reason if outcome.kind == "dead_letter" else outcome.kind
        self.now += timedelta(hours=1)
        return [in_words(event) for event in decision.events]

    def send_again(self, message: Message | None = None, **changes: Any) -> list[str]:
        """A message (the last one) once more, under another id unless that is what makes it the same."""
        message = message or self.sent[-1]
        if not isinstance(message, OrderCancelled):
            changes = {"id": f"again-{len(self.sent)}", **changes}
        return self.send(message.model_copy(update={"occurred_at": self.now, **changes}))

    def order(
        self,
        order_id: str,
        *lines: int | OrderLine,
        placed_at: datetime | None = None,
        segment: str = "standard",
        currency: str = "EUR",
        delivery: Literal["split", "complete"] = "split",
    ) -> list[str]:
        all_lines = [each if isinstance(each, OrderLine) else line(n, each) for n, each in enumerate(lines, start=1)]
        return self.send(
            OrderPlaced(
                id=f"{order_id}-placed",
                occurred_at=self.now,
                order_id=order_id,
                placed_at=placed_at or self.now,
                currency=currency,
                customer=Customer(customer_id="c-7", segment=segment, email="ada@example.org", name="Ada"),
                delivery=delivery,
                lines=tuple(all_lines),
            )
        )

    def cancel(
        self, order_id: str, lines: Sequence[tuple[int, int | None]] | None = None, *, by: str = "customer"
    ) -> list[str]:
        named = None if lines is None else tuple(CancelledLine(line_no=n, quantity=q) for n, q in lines)
        return self.send(
            OrderCancelled.model_validate(
                {
                    "id": f"cancel-{len(self.sent)}",
                    "occurred_at": self.now,
                    "order_id": order_id,
                    "by": by,
                    "lines": named,
                }
            )
        )

    def receive(self, quantity: int, sku: str = "X", location: str = "main") -> list[str]:
        id_ = f"receipt-{len(self.sent)}"
        return self.send(
            StockReceived(id=id_, occurred_at=self.now, receipt_id=id_, sku=sku, location=location, quantity=quantity)
        )

    def adjust(self, delta: int) -> list[str]:
        id_ = f"adjustment-{len(self.sent)}"
        return self.send(
            StockAdjusted(
                id=id_, occurred_at=self.now, adjustment_id=id_, sku="X", location="main", delta=delta, reason="broken"
            )
        )

    def count(self, counted: int, at: datetime | None = None) -> list[str]:
        id_ = f"count-{len(self.sent)}"
        return self.send(
            StockCounted(id=id_, occurred_at=at or self.now, count_id=id_, sku="X", location="main", counted=counted)
        )

    def has(self, order_id: str, line_no: int = 1) -> tuple[int, int]:
        """(allocated, waiting) units of a line."""
        units = self.state.orders[order_id].lines[line_no]
        return units.allocated, units.waiting

    def pool(self, sku: str = "X", location: str = "main") -> tuple[int, int, int]:
        """(on hand, allocated, waiting) units of a pool."""
        pool = self.state.pools[PoolKey(sku, location)]
        return pool.on_hand, pool.allocated, pool.waiting


def line(
    line_no: int, quantity: int, sku: str = "X", location: str = "main", price: str = "10.00", accepts: bool = True
) -> OrderLine:
    return OrderLine(
        line_no=line_no,
        sku=sku,
        quantity=quantity,
        unit_price=Decimal(price),
        location=location,
        accepts_backorder=accepts,
    )


def in_words(event: Event) -> str:
    said, kind = event.fields, str(event.kind.__name__)
    if kind == "AllocationReleased":
        parts = ", ".join(f"{each.quantity} of line {each.line_no}" for each in said["lines"])
        return f"{event.key}: release {said['release_no']}: {parts}{' (complete)' if said['complete'] else ''}"
    if kind == "StockShortfall":
        return f"{said['sku']} at {said['location']}: short of {said['quantity']}"
    of_line = f"{said['order_id']}/{said['line_no']}: {said['quantity']}"
    match kind:
        case "AllocationRevoked":
            release = f"release {said['release_no']}" if said["release_no"] else "what was held"
            return f"{of_line} revoked from {release} ({said['reason']})"
        case "BackorderCreated":
            return f"{of_line} begin to wait ({said['reason']}), {said['quantity_waiting']} wait"
        case "BackorderFilled":
            return f"{of_line} filled, {said['quantity_waiting']} wait" + (" (held)" if said["held"] else "")
        case "BackorderCancelled":
            return f"{of_line} cancelled by {said['by']}, {said['quantity_waiting']} wait"
        case _:
            return f"{of_line} rejected ({said['reason']})"


# -- orders and receipts


def test_what_is_there_goes_out_at_once_and_a_receipt_serves_those_who_wait_in_turn() -> None:
    shop = Shop(stock=10)
    assert shop.order("1001", 15) == ["1001/1: 5 begin to wait (ordered), 5 wait", "1001: release 1: 10 of line 1"]
    assert shop.order("1002", 5) == ["1002/1: 5 begin to wait (ordered), 5 wait"]
    assert shop.receive(7) == [
        "1001/1: 5 filled, 0 wait",
        "1002/1: 2 filled, 3 wait",
        "1001: release 2: 5 of line 1 (complete)",
        "1002: release 1: 2 of line 1",
    ]
    assert shop.pool() == (17, 17, 3)


def test_of_fifty_orders_for_ten_units_ten_are_served_and_forty_then_strictly_in_rank_order() -> None:
    shop = Shop(stock=10)
    for number in range(50):
        shop.order(f"{number}", 1, placed_at=MONDAY)
    assert shop.pool() == (10, 10, 40)
    for order_id in sorted((each for each in shop.state.orders if shop.has(each)[1]), key=str.encode):
        assert shop.receive(1) == [f"{order_id}/1: 1 filled, 0 wait", f"{order_id}: release 1: 1 of line 1 (complete)"]
    assert shop.pool() == (50, 50, 0)


def test_three_who_wait_are_served_first_come_first_served() -> None:
    shop = Shop()
    shop.order("late", 1, placed_at=MONDAY - timedelta(hours=1))
    shop.order("later", 1, placed_at=MONDAY)
    shop.order("early", 2, placed_at=MONDAY - timedelta(hours=2))
    assert shop.receive(3)[:2] == ["early/1: 2 filled, 0 wait", "late/1: 1 filled, 0 wait"]
    assert shop.has("later") == (0, 1)


def test_orders_of_the_same_moment_are_served_by_the_bytes_of_their_ids() -> None:
    shop = Shop()
    for order_id in ("9", "ä", "a", "B", "10"):
        shop.order(order_id, 1, placed_at=MONDAY)
    fills = [event for event in shop.receive(5) if "filled" in event]
    assert [event.split("/")[0] for event in fills] == ["10", "9", "B", "a", "ä"]


def test_an_order_from_the_future_counts_as_placed_now() -> None:
    shop = Shop()
    shop.order("wrong clock", 1, placed_at=MONDAY + timedelta(days=365))
    shop.order("right clock", 1)
    assert shop.receive(1)[0] == "wrong clock/1: 1 filled, 0 wait"


def test_two_lines_of_one_sku_see_each_others_takings_and_are_served_by_line_number() -> None:
    shop = Shop(stock=5)
    assert shop.order("1001", line(2, 4), line(1, 4)) == [
        "1001/2: 3 begin to wait (ordered), 3 wait",
        "1001: release 1: 4 of line 1, 1 of line 2",
    ]
    shop = Shop(stock=5)
    shop.order("1001", 8, 1)
    assert shop.receive(4) == [
        "1001/1: 3 filled, 0 wait",
        "1001/2: 1 filled, 0 wait",
        "1001: release 2: 3 of line 1, 1 of line 2 (complete)",
    ]


def test_a_newcomer_takes_nothing_where_somebody_waits_and_stock_elsewhere_serves_nobody_here() -> None:
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD, stock=3)
    shop.order("first", 5)
    assert shop.receive(9, location="outlet") == []
    assert shop.order("gold", 1, segment="gold") == ["gold/1: 1 begin to wait (ordered), 1 wait"]
    assert shop.has("first") == (3, 2)
    assert shop.order("outlet", line(1, 9, location="outlet")) == ["outlet: release 1: 9 of line 1 (complete)"]


def test_a_line_that_does_not_accept_backorders_gets_what_is_there_and_the_rest_is_rejected() -> None:
    shop = Shop(stock=3)
    assert shop.order("1001", line(1, 5, accepts=False), line(2, 1)) == [
        "1001/1: 2 rejected (not_accepted)",
        "1001/2: 1 begin to wait (ordered), 1 wait",
        "1001: release 1: 3 of line 1",
    ]
    assert shop.receive(5) == ["1001/2: 1 filled, 0 wait", "1001: release 2: 1 of line 2 (complete)"]


def test_a_long_order_is_released_in_parts_of_500_lines_and_only_the_last_says_complete() -> None:
    shop = Shop(stock=1000)
    releases = shop.order("1001", *[1] * 1000)
    assert [release.count("of line") for release in releases] == [500, 500]
    assert releases[0].startswith("1001: release 1: 1 of line 1, ")
    assert [release.endswith("(complete)") for release in releases] == [False, True]


# -- the same thing again


def test_a_receipt_that_comes_three_times_counts_once_and_with_another_quantity_is_a_dead_letter() -> None:
    shop = Shop()
    shop.receive(10)
    for _ in range(2):
        assert shop.send_again() == []
        assert shop.outcome == "duplicate"
    assert shop.send_again(quantity=11) == []
    assert shop.outcome == "conflicting_duplicate"
    assert shop.pool() == (10, 0, 0)
    shop.send_again(quantity=10, location="outlet")
    assert (shop.outcome, shop.pool(location="outlet")) == ("applied", (10, 0, 0))


def test_an_order_that_comes_again_is_the_same_whatever_the_contact_and_the_order_of_its_lines() -> None:
    shop = Shop(stock=9)
    shop.order("1001", 1, 2)
    placed = shop.sent[-1]
    assert isinstance(placed, OrderPlaced)
    contact = placed.customer.model_copy(update={"email": "new@example.org", "locale": "de"})
    shop.send_again(placed, customer=contact, lines=placed.lines[::-1], order_url="https://example.org/1001")
    assert shop.outcome == "duplicate"
    same_amount = placed.lines[0].model_copy(update={"unit_price": Decimal("10.0")})
    shop.send_again(placed, lines=(same_amount, placed.lines[1]))
    assert shop.outcome == "duplicate"
    for changes in (
        {"lines": placed.lines[:1]},
        {"delivery": "complete"},
        {"placed_at": placed.placed_at + timedelta(seconds=1)},
        {"customer": placed.customer.model_copy(update={"segment": "gold"})},
    ):
        shop.send_again(placed, **changes)
        assert shop.outcome == "conflicting_duplicate"
    assert shop.pool() == (9, 3, 0)


def test_adjustments_counts_and_cancels_that_come_again_count_once_too() -> None:
    shop = Shop(stock=9)
    shop.order("1001", 5)
    steps: list[tuple[Callable[[], object], dict[str, Any]]] = [
        (lambda: shop.adjust(-1), {"delta": -2}),
        (lambda: shop.count(8), {"counted": 7}),
        (lambda: shop.cancel("1001", [(1, 2)]), {"by": "shop"}),
    ]
    for send, conflict in steps:
        send()
        assert shop.outcome == "applied"
        before = shop.state
        assert shop.send_again() == []
        assert (shop.outcome, shop.state) == ("duplicate", before)
        assert shop.send_again(**conflict) == []
        assert (shop.outcome, shop.state) == ("conflicting_duplicate", before)


# -- cancels


def test_cancelling_a_backorder_fills_nobody() -> None:
    shop = Shop(stock=1)
    shop.order("served", 1)
    shop.order("first", 4)
    shop.order("second", 4)
    assert shop.cancel("first") == ["first/1: 4 cancelled by customer, 0 wait"]
    assert shop.has("second") == (0, 4)
    assert shop.pool() == (1, 1, 4)


def test_a_cancelled_line_gives_its_stock_to_the_first_in_line() -> None:
    shop = Shop(stock=4)
    shop.order("served", 4)
    shop.order("first", 3)
    shop.order("second", 3)
    assert shop.cancel("served", by="shop") == [
        "served/1: 4 revoked from release 1 (cancelled)",
        "first/1: 3 filled, 0 wait",
        "second/1: 1 filled, 2 wait",
        "first: release 1: 3 of line 1 (complete)",
        "second: release 1: 1 of line 1",
    ]


def test_a_cancel_takes_waiting_units_first_then_held_ones_then_the_newest_release() -> None:
    shop = Shop(stock=2)
    shop.order("1001", 6)
    shop.receive(2)
    assert shop.cancel("1001", [(1, 5)]) == [
        "1001/1: 2 revoked from release 2 (cancelled)",
        "1001/1: 1 revoked from release 1 (cancelled)",
        "1001/1: 2 cancelled by customer, 0 wait",
    ]
    shop = Shop(stock=2)
    shop.order("1001", line(1, 4), line(2, 9, sku="never there"), delivery="complete")
    assert shop.cancel("1001", [(1, 3)]) == [
        "1001/1: 1 revoked from what was held (cancelled)",
        "1001/1: 2 cancelled by customer, 0 wait",
    ]


def test_a_cancel_that_names_a_line_twice_is_told_as_one() -> None:
    shop = Shop(stock=2)
    shop.order("1001", 5)
    assert shop.cancel("1001", [(1, 3), (1, 1)]) == [
        "1001/1: 1 revoked from release 1 (cancelled)",
        "1001/1: 3 cancelled by customer, 0 wait",
    ]


def test_more_than_is_still_open_cancels_what_is_open() -> None:
    shop = Shop(stock=2)
    shop.order("1001", 3)
    shop.cancel("1001", [(1, 99)])
    assert shop.outcome == "applied"
    assert shop.has("1001") == (0, 0)
    assert shop.cancel("1001") == []
    assert shop.outcome == "applied"


def test_stock_that_a_cancel_frees_is_not_given_to_a_line_that_the_same_cancel_names() -> None:
    shop = Shop(stock=2)
    shop.order("1001", 2, 2)
    shop.order("next", 1)
    assert shop.cancel("1001") == [
        "1001/1: 2 revoked from release 1 (cancelled)",
        "1001/2: 2 cancelled by customer, 0 wait",
        "next/1: 1 filled, 0 wait",
        "next: release 1: 1 of line 1 (complete)",
    ]


def test_a_cancel_of_a_line_that_the_order_does_not_have_does_nothing_at_all() -> None:
    shop = Shop(stock=2)
    shop.order("1001", 2)
    before = shop.state
    for _ in range(2):
        assert shop.cancel("1001", [(1, None), (2, None)]) == []
        assert shop.outcome == "impossible"
    assert shop.send_again() == []
    assert shop.outcome == "impossible"
    assert shop.state == before


def test_a_cancel_before_its_order_is_honoured_and_nobody_hears_of_it() -> None:
    shop = Shop(stock=10)
    assert shop.cancel("1001") == []
    assert shop.order("1001", 4, 20) == []
    assert shop.pool() == (10, 0, 0)
    shop.cancel("1002", [(1, 3), (7, 1)])
    shop.cancel("1002", [(1, 3)])
    assert shop.send_again() == []
    assert shop.outcome == "duplicate"
    assert shop.order("1002", 15) == ["1002: release 1: 9 of line 1 (complete)"]
    shop.cancel("1003", [(1, 2)])
    assert shop.order("1003", 5) == [
        "1003/1: 2 begin to wait (ordered), 2 wait",
        "1003: release 1: 1 of line 1",
    ]


# -- counts and corrections


def test_a_count_that_is_older_than_the_last_one_is_ignored_and_one_of_the_same_moment_is_not() -> None:
    shop = Shop(stock=10)
    shop.count(7, at=MONDAY)
    assert shop.count(3, at=MONDAY - timedelta(seconds=1)) == []
    assert (shop.outcome, shop.pool()) == ("ignored", (7, 0, 0))
    shop.count(8, at=MONDAY)
    assert (shop.outcome, shop.pool()) == ("applied", (8, 0, 0))


def test_units_that_are_found_serve_the_queue() -> None:
    shop = Shop()
    shop.order("1001", 5)
    assert shop.adjust(2) == ["1001/1: 2 filled, 3 wait", "1001: release 1: 2 of line 1"]
    assert shop.count(4) == ["1001/1: 2 filled, 1 wait", "1001: release 2: 2 of line 1"]


def test_on_hand_may_be_negative_and_then_serves_nobody_until_it_is_above_zero() -> None:
    shop = Shop(stock=2)
    shop.order("1001", 2)
    assert shop.adjust(-5) == [
        "1001/1: 2 revoked from release 1 (stock_lost)",
        "1001/1: 2 begin to wait (stock_lost), 2 wait",
        "X at main: short of 2",
    ]
    assert shop.pool() == (-3, 0, 2)
    assert shop.receive(3) == []
    assert shop.receive(1) == ["1001/1: 1 filled, 1 wait", "1001: release 2: 1 of line 1"]


def test_who_loses_is_the_last_in_rank_who_then_waits_at_their_own_old_rank() -> None:
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD, stock=6)
    shop.order("first", 2)
    shop.order("second", 2)
    shop.order("gold", 2, segment="gold")
    shop.order("newcomer", 1)
    assert shop.count(3) == [
        "second/1: 2 revoked from release 1 (stock_lost)",
        "second/1: 2 begin to wait (stock_lost), 2 wait",
        "first/1: 1 revoked from release 1 (stock_lost)",
        "first/1: 1 begin to wait (stock_lost), 1 wait",
        "X at main: short of 3",
    ]
    fills = [event for event in shop.receive(9) if "filled" in event]
    assert [event.split("/")[0] for event in fills] == ["first", "second", "newcomer"]


def test_units_not_yet_released_are_lost_before_released_ones_of_anybody_and_the_newest_release_first() -> None:
    shop = Shop(stock=2)
    shop.order("ahead, held", line(1, 2), line(2, 1, sku="never there"), delivery="complete")
    shop.order("behind", 4)
    shop.receive(2)
    shop.receive(2)
    assert shop.adjust(-5) == [
        "behind/1: 2 revoked from release 2 (stock_lost)",
        "behind/1: 1 revoked from release 1 (stock_lost)",
        "behind/1: 3 begin to wait (stock_lost), 3 wait",
        "ahead, held/1: 2 revoked from what was held (stock_lost)",
        "ahead, held/1: 2 begin to wait (stock_lost), 2 wait",
        "X at main: short of 5",
    ]


def test_stock_that_nobody_has_is_lost_before_anybody_loses_theirs() -> None:
    shop = Shop(stock=10)
    shop.order("1001", 4)
    assert shop.adjust(-6) == []
    assert shop.adjust(-1)[-1] == "X at main: short of 1"


# -- complete orders


def test_a_complete_order_is_held_until_nothing_of_it_waits() -> None:
    shop = Shop(stock=2)
    assert shop.order("1001", line(1, 2), line(2, 3, sku="Y"), delivery="complete") == [
        "1001/2: 3 begin to wait (ordered), 3 wait"
    ]
    assert shop.receive(1, sku="Y") == ["1001/2: 1 filled, 2 wait (held)"]
    assert shop.order("other", 1) == ["other/1: 1 begin to wait (ordered), 1 wait"]
    assert shop.receive(2, sku="Y") == [
        "1001/2: 2 filled, 0 wait",
        "1001: release 1: 2 of line 1, 3 of line 2 (complete)",
    ]


def test_a_cancel_or_a_rejection_of_the_last_waiting_units_lets_a_complete_order_go() -> None:
    shop = Shop(stock=2)
    shop.order("1001", line(1, 2), line(2, 3, sku="Y"), delivery="complete")
    assert shop.cancel("1001", [(2, None)]) == [
        "1001/2: 3 cancelled by customer, 0 wait",
        "1001: release 1: 2 of line 1 (complete)",
    ]
    shop = Shop(stock=2)
    assert shop.order("1001", line(1, 2), line(2, 3, sku="Y", accepts=False), delivery="complete") == [
        "1001/2: 3 rejected (not_accepted)",
        "1001: release 1: 2 of line 1 (complete)",
    ]


def test_whether_a_fill_is_held_is_known_only_when_the_whole_message_is_booked() -> None:
    shop = Shop(stock=1)
    shop.receive(1, sku="Y")
    shop.order("gives way", line(1, 1), line(2, 1, sku="Y"))
    shop.order("complete", line(1, 1), line(2, 1, sku="Y"), delivery="complete")
    assert shop.cancel("gives way")[2:] == [
        "complete/1: 1 filled, 0 wait",
        "complete/2: 1 filled, 0 wait",
        "complete: release 1: 1 of line 1, 1 of line 2 (complete)",
    ]


def test_a_complete_order_that_lost_stock_is_held_again_and_what_went_out_stays_out() -> None:
    shop = Shop(stock=3)
    shop.order("1001", 3, delivery="complete")
    shop.adjust(-2)
    assert shop.receive(1) == ["1001/1: 1 filled, 1 wait (held)"]
    assert shop.adjust(-1) == [
        "1001/1: 1 revoked from what was held (stock_lost)",
        "1001/1: 1 begin to wait (stock_lost), 2 wait",
        "X at main: short of 1",
    ]
    assert shop.receive(2) == ["1001/1: 2 filled, 0 wait", "1001: release 2: 2 of line 1 (complete)"]


# -- head starts


def test_gold_customers_are_served_as_if_they_had_ordered_two_days_earlier() -> None:
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD)
    shop.order("long before", 1, placed_at=MONDAY - timedelta(days=2, seconds=1))
    shop.order("before", 1, placed_at=MONDAY - timedelta(days=1))
    shop.order("gold", 1, placed_at=MONDAY, segment="gold")
    fills = [event for event in shop.receive(3) if "filled" in event]
    assert [event.split("/")[0] for event in fills] == ["long before", "gold", "before"]
    gold = shop.state.orders["gold"]
    assert gold.ranked_at == MONDAY - timedelta(days=2)
    assert sentence(gold.head_start, gold.head_start_reason) == "gold: served as if ordered 2 days earlier"


def test_the_larger_of_both_head_starts_counts_and_says_why() -> None:
    rules = replace(GOLD_IS_TWO_DAYS_AHEAD, by_value=(ValueRule(Decimal("500.00"), "EUR", timedelta(days=3)),))
    shop = Shop(rules)
    shop.order("just enough", line(1, 1, price="499.99"), line(2, 1, price="0.01"), segment="gold")
    shop.order("not enough", line(1, 1, price="499.999999"), segment="gold")
    shop.order("other money", line(1, 1, price="500.00"), currency="USD")
    reasons = {order.order_id: (order.head_start.days, order.head_start_reason) for order in shop.state.orders.values()}
    assert reasons == {
        "just enough": (3, "order value from 500.00 EUR"),
        "not enough": (2, "gold"),
        "other money": (0, None),
    }


def test_the_value_of_an_order_counts_as_placed_even_where_a_part_was_cancelled_before() -> None:
    shop = Shop(HeadStartRules(by_value=(ValueRule(Decimal(100), "EUR", timedelta(days=1)),)))
    shop.cancel("1001", [(1, 9)])
    shop.order("1001", line(1, 10, price="10.00"))
    assert shop.state.orders["1001"].head_start == timedelta(days=1)


def test_a_changed_setting_affects_new_orders_only() -> None:
    shop = Shop()
    shop.order("old", 1, placed_at=MONDAY, segment="gold")
    shop.rules = GOLD_IS_TWO_DAYS_AHEAD
    shop.receive(1)
    shop.count(0)
    assert shop.state.orders["old"].ranked_at == MONDAY
    assert shop.has("old") == (0, 1)


# -- what is told to whom


def test_what_is_decided_names_the_customer_by_id_and_nothing_else_of_the_contact() -> None:
    shop = Shop(stock=1)
    shop.order("1001", 2)
    [placed] = [message for message in shop.sent if isinstance(message, OrderPlaced)]
    decision = decide(State(), [Input(placed, MONDAY)], HeadStartRules())
    assert [event.fields["customer_id"] for event in decision.events] == ["c-7"]
    assert "ada@" not in repr(decision)
    assert "Ada" not in repr(decision)


def test_an_event_says_what_caused_it_and_when_and_counts_by_topic_and_order() -> None:
    shop = Shop(stock=1)
    shop.order("1001", 3)
    before, now = shop.state, shop.now
    shop.receive(1)
    decision = decide(before, [Input(shop.sent[-1], now, "00-trace")], HeadStartRules())
    assert [(event.topic, event.key, event.version) for event in decision.events] == [
        ("backorders", "1001", 2),
        ("allocations", "1001", 2),
    ]
    for event in decision.events:
        assert (event.caused_by, event.now, event.traceparent) == (shop.sent[-1].id, now, "00-trace")


def test_a_backorder_says_how_much_was_ordered_and_how_much_is_there() -> None:
    shop = Shop(stock=10)
    shop.order("1001", 15)
    decision = decide(Shop(stock=10).state, [Input(shop.sent[-1], MONDAY)], HeadStartRules())
    said = decision.events[0].fields
    assert said["quantity"] == said["quantity_waiting"] == 5
    assert (said["quantity_ordered"], said["quantity_allocated"]) == (15, 10)
    assert (said["kind"], said["promised_at"], said["substitutes"]) == ("backorder", None, ())


# -- states that hold less than they should


@pytest.mark.parametrize("queue_is", ["not loaded", "loaded up to somebody else"])
def test_nobody_behind_is_served_because_those_ahead_were_not_loaded(queue_is: str) -> None:
    shop = Shop()
    shop.order("ahead", 1)
    shop.order("behind", 1)
    partial = shop.state.copy()
    ahead = partial.orders.pop("ahead")
    if queue_is == "not loaded":
        partial.orders.pop("behind")
    partial.horizons[PoolKey("X", "main")] = None if queue_is == "not loaded" else ahead.lines[1].rank
    receipt = StockReceived(id="r", occurred_at=MONDAY, receipt_id="r", sku="X", quantity=1)
    with pytest.raises(IncompleteStateError):
        decide(partial, [Input(receipt, MONDAY)], HeadStartRules())


def test_stock_is_not_lost_by_lines_that_were_not_loaded() -> None:
    state = State(pools={PoolKey("X", "main"): Pool(PoolKey("X", "main"), on_hand=1, allocated=1)})
    counted = StockCounted(id="c", occurred_at=MONDAY, count_id="c", sku="X", counted=0)
    with pytest.raises(IncompleteStateError):
        decide(state, [Input(counted, MONDAY)], HeadStartRules())
