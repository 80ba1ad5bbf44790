"""The date that each customer is told: what it leans on, when it moves, and why."""

from datetime import timedelta
from typing import Any

from backorder_allocator.decision import Rules
from backorder_allocator.promises import PromiseRules
from tests.allocator.shop import GOLD_IS_TWO_DAYS_AHEAD, Shop, day, line

EIGHT = ("a", "b", "c", "d", "e", "f", "g", "h")


def shop_with(supplies: dict[str, tuple[int, int]], queue: tuple[int, ...], **policy: Any) -> Shop:
    """A shop without stock: supplies of (units, day), then orders of so many units, placed on day 0 as a, b, c …"""
    shop = Shop()
    if policy:
        shop.policy(**policy)
    for supply_id, (units, on) in supplies.items():
        shop.expect(supply_id, units, day(on))
    for order_id, units in zip(EIGHT, queue, strict=False):
        shop.order(order_id, units, placed_at=day(0))
    return shop


EIGHT_SUPPLIES = {f"S{n}": (units, n) for n, units in enumerate((6, 4, 2, 4, 8, 4, 4, 4), start=1)}
EIGHT_ORDERS = (6, 2, 3, 6, 6, 1, 2, 2)

# -- worked examples


def test_eight_who_wait_for_eight_supplies_are_told_the_day_that_covers_them_and_all_ahead() -> None:
    shop = shop_with(EIGHT_SUPPLIES, EIGHT_ORDERS)
    assert shop.promised(*EIGHT) == [1, 2, 3, 5, 5, 5, 6, 6]
    shop.policy()
    assert shop.plan() == [], "planned from nothing, nothing moves"


def test_when_a_supply_moves_exactly_those_are_told_whose_date_moved() -> None:
    shop = shop_with(EIGHT_SUPPLIES, EIGHT_ORDERS)
    shop.expect("S5", 8, day(9))
    assert shop.plan() == [
        "d/1: day 5 becomes day 6 (supply_moved)",
        "e/1: day 5 becomes day 7 (supply_moved)",
        "f/1: day 5 becomes day 7 (supply_moved)",
        "g/1: day 6 becomes day 8 (supply_moved)",
        "h/1: day 6 becomes day 8 (supply_moved)",
    ]
    assert shop.promised(*EIGHT) == [1, 2, 3, 6, 7, 7, 8, 8]
    shop.cancel_supply("S5")
    assert shop.plan() == [], "nothing leaned on it"
    shop.cancel_supply("S8")
    assert shop.plan() == [
        "g/1: day 8 becomes unknown (supply_cancelled)",
        "h/1: day 8 becomes unknown (supply_cancelled)",
    ]


def test_who_loses_the_supply_falls_to_the_lead_time_where_there_is_one() -> None:
    shop = shop_with(EIGHT_SUPPLIES, EIGHT_ORDERS, default_lead_time_days=30)
    shop.expect("S5", 8, day(9))
    shop.cancel_supply("S5")
    shop.plan()
    shop.cancel_supply("S8")
    assert shop.plan() == [
        "g/1: day 8 becomes day 30 (supply_cancelled)",
        "h/1: day 8 becomes day 30 (supply_cancelled)",
    ]


def test_a_shortage_is_carried_forward_so_that_nothing_is_sold_twice() -> None:
    """An older manual's formula forgets what the first supply lacked, and promises one unit to two."""
    shop = shop_with({"S1": (10, 3), "S2": (1, 5), "S3": (3, 6)}, (3, 7, 2, 1, 1, 2))
    assert shop.promised("a", "b", "c", "d", "e", "f") == [3, 3, 6, 6, 6, None]


# -- who moves whom, and why


def test_a_gold_order_overtakes_and_the_overtaken_are_told_why() -> None:
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD)
    shop.expect("S1", 2, day(3))
    shop.expect("S2", 2, day(6))
    shop.order("ahead of all", 1, placed_at=day(-3))
    shop.order("overtaken", 1)
    shop.order("pushed out", 2)
    assert shop.promised("ahead of all", "overtaken", "pushed out") == [3, 3, 6]
    assert shop.order("gold", 1, segment="gold") == ["gold/1: 1 begin to wait (ordered), 1 wait, day 3"]
    assert shop.plan() == [
        "overtaken/1: day 3 becomes day 6 (overtaken)",
        "pushed out/1: day 6 becomes unknown (overtaken)",
    ]


def test_a_line_that_joins_at_the_tail_moves_nobody_and_gives_the_planner_nothing_to_do() -> None:
    shop = shop_with({"S1": (2, 3), "S2": (2, 6)}, (1, 2))
    shop.plan()
    shop.order("tail", 1, 1)
    assert not any(pool.causes for pool in shop.state.pools.values())


def test_stock_that_comes_unannounced_brings_everybody_forward() -> None:
    shop = shop_with({"S1": (3, 3), "S2": (3, 6)}, (3, 3))
    shop.receive(3)
    assert shop.plan() == ["b/1: day 6 becomes day 3 (stock_received)"]
    shop.order("c", 3)
    shop.adjust(1)
    shop.count(6)
    assert (shop.has("b"), shop.plan()) == ((3, 0), ["c/1: day 6 becomes day 3 (stock_received)"])


def test_what_comes_as_it_was_announced_moves_nobody() -> None:
    shop = shop_with({"S1": (3, 3), "S2": (3, 6)}, (2, 2, 2))
    shop.receive(3, of="S1")
    assert not any(pool.causes for pool in shop.state.pools.values())
    shop.policy()
    assert shop.plan() == []


def test_stock_that_is_lost_puts_back_who_waits_behind() -> None:
    shop = Shop(stock=2)
    shop.expect("S1", 2, day(3))
    shop.expect("S2", 2, day(6))
    shop.order("had it", 2)
    shop.order("waits", 2)
    assert shop.adjust(-2)[1] == "had it/1: 2 begin to wait (stock_lost), 2 wait, day 3"
    assert shop.plan() == ["waits/1: day 3 becomes day 6 (stock_lost)"]


def test_a_cut_supply_is_told_as_such_and_so_is_one_that_brings_more() -> None:
    shop = shop_with({"S1": (4, 3), "S2": (4, 6)}, (2, 2))
    shop.expect("S1", 3, day(3))
    assert shop.plan() == ["b/1: day 3 becomes day 6 (supply_changed)"]
    shop.expect("S1", 4, day(3))
    assert shop.plan() == ["b/1: day 6 becomes day 3 (supply_changed)"]


def test_of_several_things_that_happened_the_first_of_the_contract_that_fits_is_told() -> None:
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD)
    shop.expect("S1", 3, day(3))
    shop.expect("S2", 3, day(6))
    shop.order("ahead", 1, placed_at=day(-1.9))
    shop.order("first", 2)
    shop.order("second", 2)
    shop.order("gold", 2, segment="gold")
    shop.cancel("second")
    assert shop.plan() == ["first/1: day 3 becomes day 6 (overtaken)"], "a cancel brings nobody back"
    shop.expect("S2", 3, day(5))
    shop.receive(1)
    assert shop.plan() == ["first/1: day 6 becomes day 5 (supply_moved)"]


def test_a_cancelled_line_brings_those_behind_forward_and_nobody_ahead() -> None:
    shop = shop_with({"S1": (2, 3), "S2": (2, 6), "S3": (2, 9)}, (2, 2, 2))
    shop.cancel("b", [(1, 2)])
    assert shop.plan() == ["c/1: day 9 becomes day 6 (cancelled_ahead)"]


def test_nobody_is_told_of_another_hour_of_the_same_day() -> None:
    shop = shop_with({"S1": (2, 3)}, (2,))
    shop.expect("S1", 2, day(3) + timedelta(hours=14, minutes=59))
    assert shop.plan() == []
    assert shop.promised("a") == [3], "the customer was told nine o'clock"
    shop.expect("S1", 2, day(3) + timedelta(hours=15))
    assert shop.plan() == ["a/1: day 3 becomes day 4 (supply_moved)"]


# -- what a date is made of


def test_the_first_date_ever_told_stays_through_fills_losses_and_delays() -> None:
    shop = Shop()
    shop.order("1001", 2)
    assert shop.line("1001").first_promised_at is None
    shop.expect("S1", 2, day(3))
    shop.plan()
    shop.expect("S1", 2, day(8))
    shop.plan()
    shop.receive(2, of="S1")
    shop.expect("S2", 2, day(20))
    assert shop.adjust(-2)[1] == "1001/1: 2 begin to wait (stock_lost), 2 wait, day 20"
    assert shop.line("1001").first_promised_at == day(3)


def test_handling_is_added_to_the_dates_of_supplies() -> None:
    shop = Shop(Rules(promises=PromiseRules(handling=timedelta(days=2))))
    shop.policy(default_lead_time_days=30)
    shop.expect("S1", 2, day(3))
    shop.order("1001", 2)
    shop.order("1002", 2)
    assert shop.promised("1001")[0] == 5
    assert shop.line("1002").promised_at == day(30) + timedelta(hours=3), "a lead time has its own handling"


def test_what_safety_stock_lacks_is_filled_before_anybody_is_promised_a_unit() -> None:
    shop = Shop(stock=1)
    shop.policy(safety_stock=3)
    shop.expect("S1", 2, day(3))
    shop.expect("S2", 2, day(6))
    shop.order("1001", 1)
    assert shop.promised("1001") == [6]
    shop.policy(safety_stock=2)
    assert shop.plan() == ["1001/1: day 6 becomes day 3 (policy_changed)"]


def test_a_lead_time_counts_from_the_order_or_from_now_where_that_is_over_and_does_not_move_by_itself() -> None:
    shop = Shop()
    shop.policy(default_lead_time_days=10)
    shop.order("in time", 1, placed_at=day(-9))
    shop.order("long over", 1, placed_at=day(-30))
    assert shop.promised("in time") == [1]
    assert shop.line("long over").promised_at == day(10) + timedelta(hours=2)
    shop.until(day(9))
    shop.policy(default_lead_time_days=10, low_stock_at=None, waiting_limit=99)
    assert shop.plan() == []
    shop.policy(default_lead_time_days=12)
    assert shop.plan() == [
        "long over/1: day 10 becomes day 21 (policy_changed)",
        "in time/1: day 1 becomes day 21 (policy_changed)",
    ], "another lead time is computed from the order again, and that date has passed"


def test_a_lead_time_that_comes_and_goes_gives_and_takes_a_date() -> None:
    shop = shop_with({}, (1,))
    shop.policy(default_lead_time_days=10)
    assert shop.plan() == ["a/1: unknown becomes day 10 (policy_changed)"]
    shop.policy()
    assert shop.plan() == ["a/1: day 10 becomes unknown (policy_changed)"]


def test_a_preorder_is_promised_at_the_later_of_its_release_and_its_supply() -> None:
    shop = Shop()
    shop.policy("preorder", release_at=day(20))
    shop.expect("S1", 1, day(10))
    shop.expect("S2", 1, day(25))
    shop.order("a", 1)
    shop.order("b", 1)
    shop.order("c", 1)
    assert shop.promised("a", "b", "c") == [20, 25, None]
    shop.policy("preorder", release_at=day(22), default_lead_time_days=3)
    assert shop.plan() == [
        "a/1: day 20 becomes day 22 (policy_changed)",
        "c/1: unknown becomes day 22 (policy_changed)",
    ]


def test_two_lines_of_one_order_are_promised_one_after_the_other() -> None:
    shop = Shop()
    shop.expect("S1", 2, day(3))
    shop.expect("S2", 2, day(6))
    assert shop.order("1001", line(2, 2), line(1, 2)) == [
        "1001/1: 2 begin to wait (ordered), 2 wait, day 3",
        "1001/2: 2 begin to wait (ordered), 2 wait, day 6",
    ]
