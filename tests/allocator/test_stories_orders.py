"""Orders and receipts: who gets what is there, who waits, in which turn, and the same message again."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from backorder_allocator.decision import Rules
from backorder_allocator.ranking import HeadStartRules, ValueRule, sentence
from backorder_schemas import OrderPlaced
from tests.allocator.shop import GOLD_IS_TWO_DAYS_AHEAD, MONDAY, Shop, line

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
    rule = ValueRule(Decimal("500.00"), "EUR", timedelta(days=3))
    rules = Rules(replace(GOLD_IS_TWO_DAYS_AHEAD.head_starts, by_value=(rule,)))
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
    shop = Shop(Rules(HeadStartRules(by_value=(ValueRule(Decimal(100), "EUR", timedelta(days=1)),))))
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


# -- worked examples


def test_of_two_who_wait_one_unit_serves_the_older_and_three_serve_both_with_one_left() -> None:
    shop = Shop()
    shop.order("older", 1)
    shop.order("younger", 1)
    assert shop.receive(1) == ["older/1: 1 filled, 0 wait", "older: release 1: 1 of line 1 (complete)"]
    shop = Shop()
    shop.order("older", 1)
    shop.order("younger", 1)
    assert [said for said in shop.receive(3) if "filled" in said] == [
        "older/1: 1 filled, 0 wait",
        "younger/1: 1 filled, 0 wait",
    ]
    assert shop.pool() == (3, 2, 0)


def test_of_six_six_and_twenty_on_a_stock_of_ten_none_two_and_twenty_wait() -> None:
    shop = Shop(stock=10)
    shop.order("a", 6)
    shop.order("b", 6)
    shop.order("c", 20)
    assert [shop.has(order_id) for order_id in "abc"] == [(6, 0), (4, 2), (0, 20)]


def test_of_ten_who_wait_for_seven_the_last_three_go_on_waiting() -> None:
    shop = Shop()
    for number in range(10):
        shop.order(f"order {number}", 1)
    shop.receive(7)
    assert [n for n in range(10) if shop.has(f"order {n}")[1]] == [7, 8, 9]


def test_of_ten_who_wait_for_seven_those_of_lowest_rank_go_on_waiting_whenever_they_came() -> None:
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD)
    for number in range(10):
        shop.order(f"order {number}", 1, segment="gold" if number >= 7 else "standard")
    shop.receive(7)
    assert [n for n in range(10) if shop.has(f"order {n}")[1]] == [4, 5, 6]


def test_an_order_of_three_is_served_by_two_receipts() -> None:
    shop = Shop()
    assert shop.order("1001", 3) == ["1001/1: 3 begin to wait (ordered), 3 wait"]
    assert shop.receive(2) == ["1001/1: 2 filled, 1 wait", "1001: release 1: 2 of line 1"]
    assert shop.receive(5) == ["1001/1: 1 filled, 0 wait", "1001: release 2: 1 of line 1 (complete)"]
    assert shop.pool() == (7, 3, 0)
