"""Stock: units that are found, units that are lost and who loses theirs, stock that runs low."""

from datetime import timedelta

import pytest

from tests.allocator.shop import GOLD_IS_TWO_DAYS_AHEAD, MONDAY, Shop, day, line


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


def test_a_count_that_loses_four_takes_three_unreleased_units_and_then_one_of_the_newest_release() -> None:
    shop = Shop(stock=2)
    shop.order("released", 3)
    shop.receive(1)
    shop.receive(3)
    shop.order("held", line(1, 3), line(2, 1, sku="never there"), placed_at=MONDAY, delivery="complete")
    assert shop.count(2) == [
        "released/1: 1 revoked from release 2 (stock_lost)",
        "released/1: 1 begin to wait (stock_lost), 1 wait",
        "held/1: 3 revoked from what was held (stock_lost)",
        "held/1: 3 begin to wait (stock_lost), 3 wait",
        "X at main: short of 4",
    ]


def test_stock_for_a_sku_that_nobody_has_heard_of_is_taken_and_sold() -> None:
    shop = Shop()
    assert shop.receive(4, sku="NEW") == []
    assert shop.order("1001", line(1, 3, sku="NEW")) == ["1001: release 1: 3 of line 1 (complete)"]
    assert shop.pool("NEW") == (4, 3, 0)
    assert shop.adjust(2, sku="FOUND") == []
    assert shop.pool("FOUND") == (2, 0, 0)


def test_a_correction_takes_from_those_it_must_and_breaks_no_other_order() -> None:
    """Elsewhere a correction recomputes everybody, and orders that were safe lose units to others."""
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD, stock=6)
    shop.order("first", 3)
    shop.order("gold", 2, segment="gold")
    shop.order("last", 3)
    assert shop.adjust(-1) == [
        "last/1: 1 revoked from release 1 (stock_lost)",
        "last/1: 1 begin to wait (stock_lost), 3 wait",
        "X at main: short of 1",
    ]
    assert shop.adjust(1)[0] == "last/1: 1 filled, 2 wait"


# -- low stock


def test_low_stock_is_said_once_until_there_is_more_again() -> None:
    shop = Shop(stock=10)
    assert shop.policy(low_stock_at=3) == []
    assert shop.order("1001", 6) == ["1001: release 1: 6 of line 1 (complete)"]
    assert shop.order("1002", 1)[-1] == "X at main: 3 left, the mark is 3"
    assert shop.order("1003", 3) == ["1003: release 1: 3 of line 1 (complete)"]
    assert shop.receive(3) == []
    assert shop.receive(1) == [], "above the mark again"
    assert shop.adjust(-1) == ["X at main: 3 left, the mark is 3"]


@pytest.mark.parametrize("mark", [5, 6])
def test_a_mark_that_is_set_at_or_above_what_is_there_is_said_at_once_and_a_raised_one_says_nothing_more(
    mark: int,
) -> None:
    shop = Shop(stock=5)
    assert shop.policy(low_stock_at=mark) == [f"X at main: 5 left, the mark is {mark}"]
    assert shop.policy(low_stock_at=50) == []
    assert shop.policy() == []
    assert shop.policy(low_stock_at=mark) == [f"X at main: 5 left, the mark is {mark}"], "no mark is above any mark"


@pytest.mark.parametrize("named_by", ["an order", "a supply", "a receipt"])
def test_a_pool_that_is_first_named_under_a_mark_is_low_from_then_on(named_by: str) -> None:
    shop = Shop()
    assert shop.policy(low_stock_at=2) == [], "no pool yet"
    match named_by:
        case "an order":
            said = shop.order("1001", 1)
        case "a supply":
            said = shop.expect("S1", 5, day(3))
        case _:
            said = shop.receive(1)
    assert said[-1] == f"X at main: {1 if named_by == 'a receipt' else 0} left, the mark is 2"


def test_what_is_low_is_what_can_be_sold_without_the_safety_stock_and_each_location_by_itself() -> None:
    shop = Shop(stock=10)
    shop.receive(4, location="outlet")
    assert shop.policy(low_stock_at=2, safety_stock=2) == ["X at outlet: 2 left, the mark is 2"]
    assert shop.policy(low_stock_at=2, safety_stock=9) == ["X at main: 1 left, the mark is 2"]
