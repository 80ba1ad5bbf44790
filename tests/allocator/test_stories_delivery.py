"""Orders that go out as one: held until nothing waits, until their release date, or for so long."""

from datetime import timedelta

from tests.allocator.shop import ESCALATES_AFTER_FIVE_DAYS, Shop, day, line


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


def test_a_complete_order_with_a_denied_line_goes_out_as_one_without_it() -> None:
    shop = Shop(stock=2)
    shop.policy("deny", sku="Y")
    assert shop.order("1001", line(1, 3), line(2, 3, sku="Y"), delivery="complete") == [
        "1001/1: 1 begin to wait (ordered), 1 wait",
        "1001/2: 3 rejected (denied)",
    ]
    assert shop.receive(1) == ["1001/1: 1 filled, 0 wait", "1001: release 1: 3 of line 1 (complete)"]


# -- complete orders that become split


def test_a_complete_order_that_waited_long_enough_goes_out_in_parts_from_then_on() -> None:
    shop = Shop(ESCALATES_AFTER_FIVE_DAYS, stock=2)
    shop.order("1001", line(1, 2), line(2, 2, sku="Y"), delivery="complete")
    assert shop.until(day(4.99)) == []
    assert shop.until(day(5.1)) == ["1001: release 1: 2 of line 1"]
    assert [(event.caused_by, event.now) for event in shop.events] == [
        ("timer:escalate:1001", shop.state.orders["1001"].escalates_at)
    ]
    assert shop.receive(1, sku="Y") == ["1001/2: 1 filled, 1 wait", "1001: release 2: 1 of line 2"]
    assert shop.until(day(100)) == [], "it happens once"


def test_the_time_counts_from_the_order_and_only_for_those_that_wait() -> None:
    shop = Shop(ESCALATES_AFTER_FIVE_DAYS, stock=5)
    shop.order("all there", 2, delivery="complete")
    shop.order("split", 9, placed_at=day(-1))
    assert shop.timers == {}
    shop.order("placed long ago", line(1, 1, sku="Y"), line(2, 1), placed_at=day(-2), delivery="complete")
    assert list(shop.timers.values()) == [day(3)]
    shop.count(0)
    assert sorted(shop.timers.values()) == [day(3), day(5) + timedelta(hours=1)], "it lost its stock and waits again"


def test_an_order_that_waits_longer_than_it_may_when_it_comes_is_split_at_once() -> None:
    shop = Shop(ESCALATES_AFTER_FIVE_DAYS, stock=1)
    assert shop.order("1001", 3, placed_at=day(-30), delivery="complete") == [
        "1001/1: 2 begin to wait (ordered), 2 wait"
    ]
    assert shop.until(shop.now) == ["1001: release 1: 1 of line 1"]


def test_no_release_date_is_overridden_when_a_complete_order_becomes_split() -> None:
    shop = Shop(ESCALATES_AFTER_FIVE_DAYS, stock=2)
    shop.policy("preorder", sku="GAME", release_at=day(20))
    shop.receive(9, sku="GAME")
    assert shop.order("1001", line(1, 2), line(2, 1, sku="GAME"), delivery="complete") == [
        "1001/2: 1 begin to wait (ordered), 1 wait as a preorder, day 20",
        "1001/2: 1 filled, 0 wait (held for its release)",
    ]
    assert shop.until(day(19)) == ["1001: release 1: 2 of line 1"]
    assert shop.until(day(20)) == ["1001: release 2: 1 of line 2 (complete)"]


# -- pre-orders


def test_a_preorder_is_filled_early_and_released_at_its_date() -> None:
    shop = Shop()
    shop.policy("preorder", release_at=day(20))
    assert shop.order("1001", 3) == ["1001/1: 3 begin to wait (ordered), 3 wait as a preorder"]
    assert shop.receive(2) == ["1001/1: 2 filled, 1 wait (held for its release)"]
    assert shop.order("1002", 1) == ["1002/1: 1 begin to wait (ordered), 1 wait as a preorder"]
    assert shop.until(day(19.9)) == []
    assert shop.receive(1) == ["1001/1: 1 filled, 0 wait (held for its release)"]
    assert shop.until(day(20)) == ["1001: release 1: 3 of line 1 (complete)"]
    assert [(event.caused_by, event.now) for event in shop.events] == [("timer:release:X", day(20))]
    assert shop.receive(1) == ["1002/1: 1 filled, 0 wait", "1002: release 1: 1 of line 1 (complete)"]
    assert shop.order("1003", 1) == ["1003/1: 1 begin to wait (ordered), 1 wait"], "from then on it is sold like others"


def test_a_complete_order_waits_for_its_preorder_line_and_goes_out_as_one_at_the_release() -> None:
    shop = Shop(stock=2)
    shop.policy("preorder", sku="GAME", release_at=day(20))
    shop.order("1001", line(1, 3), line(2, 1, sku="GAME"), delivery="complete")
    assert shop.receive(1, sku="GAME") == ["1001/2: 1 filled, 0 wait (held for its release)"]
    assert shop.receive(1) == ["1001/1: 1 filled, 0 wait (held)"]
    assert shop.until(day(20)) == ["1001: release 1: 3 of line 1, 1 of line 2 (complete)"]


def test_a_preorder_with_stock_begins_to_wait_so_that_the_customer_hears_of_the_date_and_is_filled_at_once() -> None:
    shop = Shop(stock=2)
    shop.policy("preorder", release_at=day(20))
    assert shop.order("1001", 3) == [
        "1001/1: 3 begin to wait (ordered), 3 wait as a preorder",
        "1001/1: 2 filled, 1 wait (held for its release)",
    ]
    assert shop.has("1001") == (2, 1)
    shop.expect("S1", 1, day(30))
    assert shop.plan() == ["1001/1: unknown becomes day 30 (supply_announced)"]


def test_what_is_there_is_never_refused_in_a_preorder_and_the_limits_are_for_the_rest() -> None:
    shop = Shop(stock=2)
    shop.policy("preorder", release_at=day(20), waiting_limit=3)
    assert shop.order("1001", 9) == [
        "1001/1: 4 rejected (waiting_limit)",
        "1001/1: 5 begin to wait (ordered), 5 wait as a preorder",
        "1001/1: 2 filled, 3 wait (held for its release)",
    ]
    shop = Shop(stock=2)
    shop.policy("preorder", release_at=day(20), max_wait_days=10)
    assert shop.order("1001", line(1, 3)) == [
        "1001/1: 1 rejected (max_wait)",
        "1001/1: 2 begin to wait (ordered), 2 wait as a preorder, day 20",
        "1001/1: 2 filled, 0 wait (held for its release)",
    ]
    shop.receive(1)
    assert shop.order("1002", line(1, 3, accepts=False)) == [
        "1002/1: 2 rejected (not_accepted)",
        "1002/1: 1 begin to wait (ordered), 1 wait as a preorder, day 20",
        "1002/1: 1 filled, 0 wait (held for its release)",
    ]


def test_when_the_policy_becomes_another_what_was_held_for_the_release_goes_out_at_once() -> None:
    for change in ({"backorders": "allow"}, {"backorders": "deny"}, {"backorders": "preorder", "release_at": day(0)}):
        shop = Shop(stock=2)
        shop.policy("preorder", release_at=day(20))
        shop.order("1001", 2)
        assert shop.policy(**change) == ["1001: release 1: 2 of line 1 (complete)"]
        assert shop.timers == {}


def test_a_release_date_that_moves_moves_everything_that_is_held_for_it() -> None:
    shop = Shop(stock=2)
    shop.policy("preorder", release_at=day(20))
    shop.order("1001", 2)
    assert shop.policy("preorder", release_at=day(30)) == []
    assert shop.plan() == ["1001/1: day 20 becomes day 30 (policy_changed)"]
    assert shop.policy("preorder", release_at=day(10)) == []
    assert shop.plan() == ["1001/1: day 30 becomes day 10 (policy_changed)"]
    assert shop.until(day(30)) == ["1001: release 1: 2 of line 1 (complete)"]
    assert shop.events[0].now == day(10)


def test_a_sku_that_becomes_a_preorder_keeps_what_is_held_and_takes_back_nothing_that_was_released() -> None:
    shop = Shop(stock=3)
    shop.order("released", 1)
    shop.order("held", line(1, 2), line(2, 1, sku="Y"), delivery="complete")
    assert shop.policy("preorder", release_at=day(20)) == []
    assert shop.receive(1, sku="Y") == ["held/2: 1 filled, 0 wait (held)"]
    assert shop.until(day(20)) == ["held: release 1: 2 of line 1, 1 of line 2 (complete)"]


def test_a_preorder_that_is_over_stays_over_for_messages_from_before() -> None:
    shop = Shop(stock=5)
    shop.policy("preorder", release_at=day(20))
    shop.until(day(20))
    shop.now = day(19)
    assert shop.order("late in its partition", 1) == ["late in its partition: release 1: 1 of line 1 (complete)"]
    shop.policy("preorder", release_at=day(20), low_stock_at=1)
    assert shop.order("another", 1) == ["another: release 1: 1 of line 1 (complete)"]
    assert shop.timers == {}


def test_a_customer_who_was_promised_a_later_supply_hears_that_early_stock_brings_the_release_date() -> None:
    shop = Shop()
    shop.policy("preorder", release_at=day(20))
    shop.expect("S1", 2, day(30))
    assert shop.order("1001", 2) == ["1001/1: 2 begin to wait (ordered), 2 wait as a preorder, day 30"]
    assert shop.receive(2, of="S1") == ["1001/1: 2 filled, 0 wait (held for its release)"]
    assert shop.plan() == ["1001/1: day 30 becomes day 20 (stock_received)"]
    shop.order("1002", 1)
    assert shop.receive(1) == ["1002/1: 1 filled, 0 wait (held for its release)"]
    assert shop.plan() == ["1002/1: unknown becomes day 20 (stock_received)"]
