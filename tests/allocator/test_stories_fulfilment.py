"""Shipments as the warehouse really made them, also before their order, and deliveries."""

from tests.allocator.shop import ESCALATES_AFTER_FIVE_DAYS, Shop, day, line


def test_what_was_released_and_ships_is_told_to_nobody_and_leaves_stock_and_allocation_together() -> None:
    shop = Shop(stock=5)
    shop.order("1001", 4)
    assert shop.ship("1001", (1, 3)) == []
    assert (shop.pool(), shop.line("1001").shipped, shop.line("1001").releases) == ((2, 1, 0), 3, ((1, 1),))
    assert shop.ship("1001", (1, 1)) == []
    assert shop.pool() == (1, 0, 0)


def test_the_oldest_release_ships_first() -> None:
    shop = Shop(stock=2)
    shop.order("1001", 9)
    shop.receive(3)
    assert shop.ship("1001", (1, 3)) == []
    assert shop.line("1001").releases == ((2, 2),)
    assert shop.cancel("1001", [(1, 5)]) == [
        "1001/1: 1 revoked from release 2 (cancelled)",
        "1001/1: 4 cancelled by customer, 0 wait",
    ]


def test_a_shipment_that_comes_again_counts_once_with_other_content_it_is_a_dead_letter() -> None:
    shop = Shop(stock=9)
    shop.order("1001", 4)
    shop.order("1002", 1)
    shop.ship("1001", (1, 2), shipment_id="S")
    before = shop.state
    assert shop.send_again(carrier=None) == []
    assert (shop.outcome, shop.state) == ("duplicate", before)
    shop.ship("1001", (1, 1), shipment_id="S")
    assert (shop.outcome, shop.state) == ("conflicting_duplicate", before)
    shop.ship("1002", (1, 1), shipment_id="S")
    assert (shop.outcome, shop.pool()) == ("applied", (6, 2, 0)), "one parcel may hold two orders"


def test_more_than_was_ordered_is_impossible_and_nothing_of_that_shipment_is_booked() -> None:
    shop = Shop(stock=9)
    shop.order("1001", 4, 1)
    before = shop.state
    for lines in ([(2, 1), (1, 5)], [(1, 3), (1, 2)], [(1, 1), (3, 1)]):
        assert shop.ship("1001", *lines) == []
        assert (shop.outcome, shop.state) == ("impossible", before)
    shop.ship("1001", (1, 2), (1, 2))
    assert (shop.outcome, shop.line("1001").shipped) == ("applied", 4), "a line named twice was shipped in sum"
    shop.ship("1001", (1, 1))
    assert shop.outcome == "impossible"


# -- other than was released


def test_what_ships_is_a_fact_held_waiting_cancelled_and_rejected_units_are_taken_in_this_order() -> None:
    shop = Shop(stock=3)
    shop.policy(waiting_limit=3)
    shop.order("1001", 7, delivery="complete")
    shop.cancel("1001", [(1, 1)])
    units = shop.line("1001")
    assert (units.held, units.waiting, units.cancelled, units.rejected) == (3, 2, 1, 1)
    assert shop.ship("1001", (1, 7)) == [
        "1001/1: 2 filled, 0 wait",
        "1001/1: 3 shipped, but not_released",
        "1001/1: 2 shipped, but not_allocated",
        "1001/1: 1 shipped, but cancelled",
        "1001/1: 1 shipped, but rejected",
    ]
    assert shop.has("1001") == (7, 0)
    assert shop.pool() == (-4, 0, 0), "booked before its receipt"


def test_what_shipped_without_a_release_is_never_released_again() -> None:
    shop = Shop(stock=3)
    shop.order("1001", line(1, 3), line(2, 1, sku="Y"), delivery="complete")
    assert shop.ship("1001", (1, 2)) == ["1001/1: 2 shipped, but not_released"]
    assert shop.receive(1, sku="Y") == [
        "1001/2: 1 filled, 0 wait",
        "1001: release 1: 1 of line 1, 1 of line 2 (complete)",
    ]


def test_a_shipment_of_more_than_was_released_takes_from_the_last_in_rank_what_is_no_longer_there() -> None:
    shop = Shop(stock=5)
    shop.order("first", 2)
    shop.order("second", 2)
    shop.order("third", 3)
    assert shop.ship("third", (1, 3)) == [
        "third/1: 2 filled, 0 wait",
        "third/1: 2 shipped, but not_allocated",
        "second/1: 2 revoked from release 1 (stock_lost)",
        "second/1: 2 begin to wait (stock_lost), 2 wait",
        "X at main: short of 2",
    ]
    assert shop.pool() == (2, 2, 2)
    assert shop.receive(2)[0] == "second/1: 2 filled, 0 wait"


def test_who_loses_by_a_shipment_is_decided_once_all_its_lines_are_booked() -> None:
    shop = Shop(stock=4)
    shop.order("other", 1)
    shop.order("1001", 3, 2)
    assert shop.ship("1001", (2, 2), (1, 3)) == [
        "1001/2: 2 filled, 0 wait",
        "1001/2: 2 shipped, but not_allocated",
        "other/1: 1 revoked from release 1 (stock_lost)",
        "other/1: 1 begin to wait (stock_lost), 1 wait",
        "X at main: short of 1",
    ]


def test_cancelled_units_that_ship_all_the_same_are_a_mismatch_and_cost_stock() -> None:
    shop = Shop(stock=3)
    shop.order("1001", 3)
    shop.cancel("1001")
    shop.order("next", 3)
    assert shop.ship("1001", (1, 2)) == [
        "1001/1: 2 shipped, but cancelled",
        "next/1: 2 revoked from release 1 (stock_lost)",
        "next/1: 2 begin to wait (stock_lost), 2 wait",
        "X at main: short of 2",
    ]
    units = shop.line("1001")
    assert (units.allocated, units.shipped, units.cancelled) == (2, 2, 1)


def test_rejected_units_that_ship_all_the_same_are_a_mismatch() -> None:
    shop = Shop()
    shop.policy("deny")
    shop.order("1001", 2)
    assert shop.ship("1001", (1, 2)) == ["1001/1: 2 shipped, but rejected"]
    assert (shop.has("1001"), shop.pool()) == ((2, 0), (-2, 0, 0))


def test_a_shipment_of_the_last_waiting_units_lets_a_complete_order_go() -> None:
    shop = Shop(stock=2)
    shop.order("1001", line(1, 2), line(2, 1, sku="Y"), delivery="complete")
    assert shop.ship("1001", (2, 1)) == [
        "1001/2: 1 filled, 0 wait",
        "1001/2: 1 shipped, but not_allocated",
        "1001: release 1: 2 of line 1 (complete)",
    ]


def test_a_shipment_of_more_than_was_released_may_leave_little_stock_and_says_so() -> None:
    shop = Shop(stock=6)
    shop.order("1001", 3)
    shop.cancel("1001", [(1, 2)])
    shop.policy(low_stock_at=3)
    assert shop.ship("1001", (1, 3)) == ["1001/1: 2 shipped, but cancelled", "X at main: 3 left, the mark is 3"]
    shop.order("1002", 3)
    assert shop.ship("1002", (1, 3)) == [], "what was released was not to be had any more"


def test_who_waits_behind_a_shipment_that_was_not_allocated_keeps_the_date_and_who_is_ahead_waits_longer() -> None:
    shop = Shop()
    shop.expect("S1", 2, day(3))
    shop.expect("S2", 2, day(6))
    shop.expect("S3", 2, day(9))
    for order_id in ("first", "second", "third"):
        shop.order(order_id, 2)
    assert shop.promised("first", "second", "third") == [3, 6, 9]
    shop.ship("second", (1, 2))
    assert shop.plan() == ["first/1: day 3 becomes day 6 (stock_lost)"]


# -- before the order


def test_what_has_left_before_its_order_came_is_not_told_to_ship() -> None:
    shop = Shop(stock=5)
    assert shop.ship("1001", (1, 2)) == []
    assert shop.outcome == "applied"
    assert shop.order("1001", 3) == [
        "1001/1: 2 shipped, but not_released",
        "1001: release 1: 1 of line 1 (complete)",
    ]
    assert [event.caused_by for event in shop.events] == ["1001-placed", "1001-placed"]
    assert shop.pool() == (3, 1, 0)


def test_a_shipment_before_its_order_without_stock_takes_what_begins_to_wait() -> None:
    shop = Shop(stock=1)
    shop.order("other", 1)
    shop.ship("1001", (1, 2))
    assert shop.order("1001", 3) == [
        "1001/1: 3 begin to wait (ordered), 3 wait",
        "1001/1: 2 filled, 1 wait",
        "1001/1: 2 shipped, but not_allocated",
        "other/1: 1 revoked from release 1 (stock_lost)",
        "other/1: 1 begin to wait (stock_lost), 1 wait",
        "X at main: short of 1",
    ]
    assert shop.pool() == (-1, 0, 2)


def test_shipments_before_their_order_are_booked_in_the_order_they_came_and_once() -> None:
    shop = Shop(stock=9)
    shop.ship("1001", (1, 2), shipment_id="A")
    shop.send_again()
    assert shop.outcome == "duplicate"
    shop.ship("1001", (1, 1), shipment_id="A")
    assert shop.outcome == "conflicting_duplicate"
    shop.ship("1001", (1, 3), shipment_id="B")
    assert shop.order("1001", 5) == ["1001/1: 2 shipped, but not_released", "1001/1: 3 shipped, but not_released"]
    assert [event.fields["shipment_id"] for event in shop.events] == ["A", "B"]
    assert shop.pool() == (4, 0, 0)
    shop.ship("1001", (1, 2), shipment_id="A")
    assert (shop.outcome, shop.pool()) == ("duplicate", (4, 0, 0))


def test_a_shipment_that_waited_for_its_order_and_is_impossible_becomes_a_dead_letter_and_the_rest_goes_on() -> None:
    shop = Shop(stock=9)
    shop.ship("1001", (1, 4), shipment_id="too many")
    shop.ship("1001", (1, 1), shipment_id="possible")
    shop.ship("1001", (1, 1), (2, 1), shipment_id="a line too many")
    shop.ship("1001", (1, 3), shipment_id="too many after the first")
    assert shop.order("1001", 3) == [
        "1001/1: 1 shipped, but not_released",
        "1001: release 1: 2 of line 1 (complete)",
    ]
    assert shop.late_letters == [
        ("too many", "impossible"),
        ("a line too many", "impossible"),
        ("too many after the first", "impossible"),
    ]
    shop.ship("1001", (1, 4), shipment_id="too many")
    assert shop.outcome == "impossible", "it was never booked, so it is no duplicate"
    assert shop.ship("1001", (1, 2), shipment_id="too many") == [], "nor a conflict, once it says what is right"
    assert (shop.outcome, shop.pool()) == ("applied", (6, 0, 0))


def test_an_order_that_was_cancelled_and_shipped_before_it_came_is_born_cancelled_and_shipped() -> None:
    shop = Shop(stock=9)
    shop.cancel("1001", [(1, 3)])
    shop.ship("1001", (1, 4))
    assert shop.order("1001", 5) == ["1001/1: 2 shipped, but not_released", "1001/1: 2 shipped, but cancelled"]
    units = shop.line("1001")
    assert (units.allocated, units.shipped, units.cancelled) == (4, 4, 1)


def test_a_shipment_before_its_order_lets_the_rest_of_a_complete_order_go() -> None:
    shop = Shop(ESCALATES_AFTER_FIVE_DAYS, stock=5)
    shop.ship("1001", (2, 1))
    assert shop.order("1001", line(1, 2), line(2, 1, sku="Y"), delivery="complete") == [
        "1001/2: 1 begin to wait (ordered), 1 wait",
        "1001/2: 1 filled, 0 wait",
        "1001/2: 1 shipped, but not_allocated",
        "1001: release 1: 2 of line 1 (complete)",
    ]
    assert shop.timers == {}


def test_a_preorder_that_left_before_its_release_is_a_mismatch_like_any_other() -> None:
    shop = Shop(stock=2)
    shop.policy("preorder", release_at=day(20))
    shop.order("1001", 2)
    assert shop.ship("1001", (1, 1)) == ["1001/1: 1 shipped, but not_released"]
    shop.ship("1002", (1, 1))
    assert shop.order("1002", 2) == [
        "1002/1: 2 begin to wait (ordered), 2 wait as a preorder",
        "1002/1: 1 filled, 1 wait",
        "1002/1: 1 shipped, but not_allocated",
        "1001/1: 1 revoked from what was held (stock_lost)",
        "1001/1: 1 begin to wait (stock_lost), 1 wait as a preorder",
        "X at main: short of 1",
    ]
    assert shop.until(day(20)) == []


# -- deliveries


def test_who_is_placed_filled_and_robbed_in_one_message_hears_it_in_the_order_of_the_contract() -> None:
    shop = Shop(stock=2)
    shop.policy("preorder", release_at=day(20), waiting_limit=0)
    shop.ship("1001", (2, 1))
    told = shop.order("1001", 2, 1)
    assert [each for each in told if each.startswith("1001/1")] == [
        "1001/1: 1 revoked from what was held (stock_lost)",
        "1001/1: 2 begin to wait (ordered), 2 wait as a preorder, day 20",
        "1001/1: 1 begin to wait (stock_lost), 3 wait as a preorder",
        "1001/1: 2 filled, 1 wait (held for its release)",
    ]
    assert shop.has("1001") == (1, 1)


def test_a_delivery_decides_nothing_and_is_remembered_once() -> None:
    shop = Shop(stock=2)
    assert shop.deliver("1001", "S") == [], "it may come before the order and the shipment"
    assert shop.outcome == "applied"
    assert "1001" not in shop.state.orders
    shop.order("1001", 2)
    shop.ship("1001", (1, 2), shipment_id="S")
    shop.send_again(shop.sent[1])
    assert shop.outcome == "duplicate"
    assert shop.deliver("1001", "S") == []
    assert shop.outcome == "conflicting_duplicate", "it says another time"
    shop.deliver("1002", "S")
    assert shop.outcome == "applied"
