"""Counts and corrections: units that are found, units that are lost, and who loses theirs."""

from datetime import timedelta

from tests.allocator.shop import GOLD_IS_TWO_DAYS_AHEAD, MONDAY, Shop, line


def test_a_count_that_is_older_than_the_last_one_is_ignored_and_one_of_the_same_moment_is_not() -> None:
    shop = Shop(stock=10)
    shop.count(7, at=MONDAY)
    assert shop.count(3, at=MONDAY - timedelta(seconds=1)) == []
    assert (shop.outcome, shop.pool()) == ("older_count", (7, 0, 0))
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
