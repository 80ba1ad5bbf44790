"""Cancels: of orders, lines and units, before shipping and before the order."""

from tests.allocator.shop import Shop, day, line


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


def test_of_three_with_one_there_and_two_waiting_one_cancelled_is_a_waiting_one() -> None:
    shop = Shop(stock=1)
    shop.order("1001", 3)
    assert shop.cancel("1001", [(1, 1)]) == ["1001/1: 1 cancelled by customer, 1 wait"]
    assert shop.has("1001") == (1, 1)


def test_a_cancelled_backorder_with_a_supply_on_its_way_fills_nobody_and_brings_others_forward() -> None:
    """Elsewhere the cancelled units are booked as if they had come back to the shelf."""
    shop = Shop()
    shop.expect("S1", 3, day(3))
    shop.expect("S2", 3, day(6))
    shop.order("first", 3)
    shop.order("second", 3)
    assert shop.cancel("first") == ["first/1: 3 cancelled by customer, 0 wait"]
    assert shop.pool() == (0, 0, 3)
    assert shop.plan() == ["second/1: day 6 becomes day 3 (cancelled_ahead)"]


def test_what_has_shipped_can_not_be_cancelled() -> None:
    shop = Shop(stock=2)
    shop.order("1001", 5)
    shop.ship("1001", (1, 2))
    assert shop.cancel("1001") == ["1001/1: 3 cancelled by customer, 0 wait"]
    assert shop.cancel("1001") == []
    assert (shop.outcome, shop.has("1001"), shop.pool()) == ("applied", (2, 0), (0, 0, 0))
