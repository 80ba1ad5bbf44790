"""How a SKU is sold: limits, waits that are too long, safety stock, refusals, what may be bought instead."""

from datetime import timedelta

from backorder_allocator.decision import Rules
from backorder_allocator.state import Policy
from tests.allocator.shop import GOLD_IS_TWO_DAYS_AHEAD, Shop, day, line

# -- how many may wait


def test_of_nine_with_three_there_and_room_for_five_three_go_out_five_wait_and_one_is_rejected() -> None:
    shop = Shop(stock=3)
    shop.policy(waiting_limit=5)
    assert shop.order("1001", 9) == [
        "1001/1: 1 rejected (waiting_limit)",
        "1001/1: 5 begin to wait (ordered), 5 wait",
        "1001: release 1: 3 of line 1",
    ]
    assert shop.order("1002", 1) == ["1002/1: 1 rejected (waiting_limit)"], "the limit is of the pool, not of an order"


def test_with_two_kept_as_safety_stock_one_of_eight_goes_out_five_wait_and_two_are_rejected() -> None:
    shop = Shop(stock=3)
    shop.policy(waiting_limit=5, safety_stock=2)
    assert shop.order("1001", 8) == [
        "1001/1: 2 rejected (waiting_limit)",
        "1001/1: 5 begin to wait (ordered), 5 wait",
        "1001: release 1: 1 of line 1",
    ]
    assert shop.pool() == (3, 1, 5)


def test_the_limit_counts_two_lines_of_one_sku_together_and_each_location_by_itself() -> None:
    """Elsewhere lines of one SKU are checked apart: each by itself is within the limit."""
    shop = Shop(stock=1)
    shop.policy(waiting_limit=5)
    assert shop.order("1001", line(1, 4), line(2, 4), line(3, 4, location="outlet")) == [
        "1001/1: 3 begin to wait (ordered), 3 wait",
        "1001/2: 2 rejected (waiting_limit)",
        "1001/2: 2 begin to wait (ordered), 2 wait",
        "1001/3: 4 begin to wait (ordered), 4 wait",
        "1001: release 1: 1 of line 1",
    ]


def test_a_cancel_or_a_fill_makes_room_within_the_limit_again() -> None:
    shop = Shop()
    shop.policy(waiting_limit=5)
    shop.order("1001", 5)
    shop.cancel("1001", [(1, 2)])
    shop.receive(1)
    assert shop.order("1002", 4) == [
        "1002/1: 1 rejected (waiting_limit)",
        "1002/1: 3 begin to wait (ordered), 3 wait",
    ]


def test_a_limit_of_zero_lets_nobody_wait_and_gives_what_is_there() -> None:
    shop = Shop(stock=2)
    shop.policy(waiting_limit=0)
    assert shop.order("1001", 3) == ["1001/1: 1 rejected (waiting_limit)", "1001: release 1: 2 of line 1 (complete)"]


def test_units_that_lost_their_stock_come_back_over_the_limit() -> None:
    shop = Shop(stock=4)
    shop.policy(waiting_limit=2)
    shop.order("1001", 4)
    shop.order("1002", 2)
    assert shop.count(1) == [
        "1001/1: 3 revoked from release 1 (stock_lost)",
        "1001/1: 3 begin to wait (stock_lost), 3 wait",
        "X at main: short of 3",
    ]
    assert shop.pool() == (1, 1, 5)
    assert shop.order("1003", 1) == ["1003/1: 1 rejected (waiting_limit)"]


def test_a_lowered_limit_sends_nobody_away() -> None:
    shop = Shop()
    shop.order("1001", 5)
    assert shop.policy(waiting_limit=1) == []
    assert shop.has("1001") == (0, 5)


# -- how long they may wait


def test_where_a_longest_wait_is_set_nobody_waits_for_a_date_that_is_not_known() -> None:
    shop = Shop(stock=1)
    shop.policy(max_wait_days=10)
    assert shop.order("1001", 3) == ["1001/1: 2 rejected (max_wait)", "1001: release 1: 1 of line 1 (complete)"]


def test_those_wait_whose_date_lies_within_the_longest_wait_to_the_moment() -> None:
    shop = Shop()
    shop.policy(max_wait_days=10)
    shop.expect("S1", 4, day(10))
    assert shop.order("in time", 2, placed_at=day(0)) == ["in time/1: 2 begin to wait (ordered), 2 wait, day 10"]
    assert shop.order("a second late", 1, placed_at=day(0) - timedelta(seconds=1)) == [
        "a second late/1: 1 rejected (max_wait)"
    ]
    # The whole rest of a line goes together: two of these three could be had in time.
    assert shop.order("one too many", 3) == ["one too many/1: 3 rejected (max_wait)"]
    assert shop.order("just enough", 2) == ["just enough/1: 2 begin to wait (ordered), 2 wait, day 10"]


def test_the_wait_is_that_of_the_place_in_the_queue_and_not_of_the_next_supply() -> None:
    """Elsewhere each line is told the date of the next supply, whoever is ahead of it."""
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD)
    shop.policy(max_wait_days=10)
    shop.expect("S1", 2, day(3))
    shop.expect("S2", 2, day(20))
    shop.order("first", 2)
    assert shop.order("second", 1) == ["second/1: 1 rejected (max_wait)"]
    assert shop.order("gold", 1, segment="gold") == ["gold/1: 1 begin to wait (ordered), 1 wait, day 3"]


def test_a_lead_time_is_a_date_for_the_longest_wait_too() -> None:
    shop = Shop()
    shop.policy(max_wait_days=10, default_lead_time_days=10)
    assert shop.order("1001", 1) == ["1001/1: 1 begin to wait (ordered), 1 wait, day 10"]
    shop.policy(max_wait_days=10, default_lead_time_days=11)
    assert shop.order("1002", 1) == ["1002/1: 1 rejected (max_wait)"]


def test_what_is_beyond_the_limit_and_what_would_wait_too_long_are_told_apart() -> None:
    shop = Shop(stock=1)
    shop.policy(waiting_limit=5, max_wait_days=10)
    assert shop.order("1001", 9) == [
        "1001/1: 3 rejected (waiting_limit)",
        "1001/1: 5 rejected (max_wait)",
        "1001: release 1: 1 of line 1 (complete)",
    ]
    shop.expect("S1", 5, day(5))
    assert shop.order("1002", 9) == [
        "1002/1: 4 rejected (waiting_limit)",
        "1002/1: 5 begin to wait (ordered), 5 wait, day 5",
    ], "only what may wait at all is held against its date"


def test_units_that_lost_their_stock_wait_however_long_it_takes() -> None:
    shop = Shop(stock=2)
    shop.policy("deny", max_wait_days=1)
    shop.order("1001", 2)
    assert shop.count(0)[1] == "1001/1: 2 begin to wait (stock_lost), 2 wait"


# -- refusals


def test_where_backorders_are_denied_a_line_gets_what_is_there() -> None:
    shop = Shop(stock=3)
    shop.policy("deny")
    assert shop.order("1001", 5) == ["1001/1: 2 rejected (denied)", "1001: release 1: 3 of line 1 (complete)"]
    assert shop.order("1002", 1) == ["1002/1: 1 rejected (denied)"]


def test_a_line_that_does_not_accept_to_wait_is_told_so_before_anything_else() -> None:
    shop = Shop()
    shop.policy("deny", waiting_limit=0, max_wait_days=0)
    assert shop.order("1001", line(1, 2, accepts=False), line(2, 2)) == [
        "1001/1: 2 rejected (not_accepted)",
        "1001/2: 2 rejected (denied)",
    ]


def test_a_policy_that_denies_affects_new_demand_only() -> None:
    shop = Shop()
    shop.order("1001", 2)
    assert shop.policy("deny") == []
    assert shop.receive(1)[0] == "1001/1: 1 filled, 1 wait"


# -- safety stock


def test_raised_safety_stock_takes_from_nobody_and_lowered_it_serves_the_queue() -> None:
    shop = Shop(stock=5)
    shop.order("1001", 4)
    assert shop.policy(safety_stock=3) == []
    assert shop.order("1002", 2) == ["1002/1: 2 begin to wait (ordered), 2 wait"]
    assert shop.receive(1) == [], "what safety stock lacks is filled first"
    assert shop.receive(2) == ["1002/1: 1 filled, 1 wait", "1002: release 1: 1 of line 1"]
    assert shop.policy(safety_stock=0) == ["1002/1: 1 filled, 0 wait", "1002: release 2: 1 of line 1 (complete)"]
    assert shop.pool() == (8, 6, 0)


def test_safety_stock_is_kept_at_each_location() -> None:
    shop = Shop(stock=3)
    shop.receive(3, location="outlet")
    shop.policy(safety_stock=2)
    assert shop.order("1001", line(1, 2), line(2, 2, location="outlet"))[-1] == (
        "1001: release 1: 1 of line 1, 1 of line 2"
    )


def test_safety_stock_is_lost_before_anybody_loses_theirs() -> None:
    shop = Shop(stock=5)
    shop.policy(safety_stock=3)
    shop.order("1001", 2)
    assert shop.count(2) == []
    assert shop.count(1)[-1] == "X at main: short of 1"


# -- revisions and defaults


def test_a_policy_that_goes_back_is_ignored_and_so_is_an_equal_revision_with_other_content() -> None:
    shop = Shop()
    shop.policy("deny", revision=3)
    for revision, outcome in ((2, "older_revision"), (3, "equal_revision")):
        assert shop.policy("allow", revision=revision) == []
        assert shop.outcome == outcome
    shop.policy("deny", revision=3)
    assert shop.outcome == "duplicate"
    assert shop.order("1001", 1) == ["1001/1: 1 rejected (denied)"]
    shop.policy("allow", revision=4)
    assert shop.order("1002", 1) == ["1002/1: 1 begin to wait (ordered), 1 wait"]


def test_a_sku_without_a_policy_has_the_one_of_the_settings_and_a_policy_replaces_it_whole() -> None:
    shop = Shop(Rules(default_policy=Policy("allow", waiting_limit=1, safety_stock=2)), stock=3)
    assert shop.order("1001", 4) == [
        "1001/1: 2 rejected (waiting_limit)",
        "1001/1: 1 begin to wait (ordered), 1 wait",
        "1001: release 1: 1 of line 1",
    ]
    assert shop.policy() == ["1001/1: 1 filled, 0 wait", "1001: release 2: 1 of line 1 (complete)"]


# -- what may be bought instead


def test_what_may_be_bought_instead_is_told_those_in_stock_first() -> None:
    shop = Shop()
    shop.policy(waiting_limit=1, substitutes=("A", "B", "X", "C", "D"))
    shop.receive(1, sku="B")
    shop.receive(1, sku="D")
    shop.receive(1, sku="A", location="outlet")
    shop.policy(sku="C")
    assert shop.order("1001", 2) == [
        "1001/1: 1 rejected (waiting_limit), instead: B, D, A, C",
        "1001/1: 1 begin to wait (ordered), 1 wait, instead: B, D, A, C",
    ]
    shop.order("1002", line(1, 1, sku="B"))
    shop.policy(sku="D", safety_stock=1)
    assert shop.order("1003", 1) == ["1003/1: 1 rejected (waiting_limit), instead: A, B, C, D"]
