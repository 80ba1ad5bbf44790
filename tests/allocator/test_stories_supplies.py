"""What suppliers announce, revise, bring in part, bring late, bring elsewhere, or never bring."""

from backorder_allocator.state import PoolKey, SupplyKey
from tests.allocator.shop import OVERDUE_COMES_IN_A_WEEK, Shop, day, line


def to_come(shop: Shop, supply_id: str = "S1", sku: str = "X") -> int:
    return shop.state.supplies[SupplyKey(supply_id, sku)].to_come


# -- announced and brought


def test_a_supply_of_ten_that_brings_six_and_then_six_is_owed_four_and_then_nothing() -> None:
    shop = Shop()
    shop.expect("S1", 10, day(3))
    shop.expect("S2", 9, day(8))
    shop.order("first", 7)
    shop.order("second", 3)
    shop.order("third", 2)
    assert shop.promised("first", "second", "third") == [3, 3, 8]
    assert shop.receive(6, of="S1") == ["first/1: 6 filled, 1 wait", "first: release 1: 6 of line 1"]
    assert (to_come(shop), shop.plan()) == (4, []), "everybody gets what they were promised"
    assert shop.receive(6, of="S1")[:3] == [
        "first/1: 1 filled, 0 wait",
        "second/1: 3 filled, 0 wait",
        "third/1: 2 filled, 0 wait",
    ]
    assert to_come(shop) == 0
    assert shop.timers.keys() == {("S2", "X")}, "nobody waits for the date of a supply that is here"
    shop.order("fourth", 1)
    assert shop.promised("fourth") == [8], "the ten are not promised again"


def test_what_came_before_it_was_announced_counts_as_received() -> None:
    shop = Shop()
    shop.receive(4, of="S1")
    shop.expect("S1", 6, day(3))
    assert to_come(shop) == 2
    shop.order("1001", 6)
    assert shop.promised("1001") == [3]
    shop.order("1002", 1)
    assert shop.promised("1002") == [None]


def test_a_receipt_that_names_no_supply_reduces_none() -> None:
    shop = Shop()
    shop.expect("S1", 5, day(3))
    shop.receive(5)
    assert to_come(shop) == 5


def test_a_receipt_that_comes_again_reduces_its_supply_once() -> None:
    shop = Shop()
    shop.expect("S1", 5, day(3))
    shop.receive(2, of="S1")
    shop.send_again()
    assert (shop.outcome, to_come(shop)) == ("duplicate", 3)


def test_two_suppliers_of_one_sku_are_two_supplies_and_one_supply_of_two_skus_is_two_as_well() -> None:
    shop = Shop()
    shop.expect("A-1", 2, day(3), supplier="Acme")
    shop.expect("B-1", 2, day(5), supplier="Bolt")
    shop.expect("A-1", 7, day(1), sku="Y", supplier="Acme")
    shop.order("first", 2)
    shop.order("second", 2)
    assert shop.promised("first", "second") == [3, 5]
    shop.receive(2, of="B-1", by="Bolt")
    assert (to_come(shop, "A-1"), to_come(shop, "B-1"), to_come(shop, "A-1", "Y")) == (2, 0, 7)
    assert shop.plan() == ["second/1: day 5 becomes day 3 (stock_received)"], (
        "Bolt was early, the first in line was served"
    )


def test_the_same_supply_is_never_promised_twice() -> None:
    """Elsewhere every line that waits is told the date of the next supply, however many are ahead of it."""
    shop = Shop()
    shop.expect("S1", 5, day(3))
    for number in range(5):
        shop.order(f"{number}", 2)
    assert shop.promised("0", "1", "2", "3", "4") == [3, 3, None, None, None]
    shop.order("two lines", line(1, 1), line(2, 1))
    shop.expect("S2", 6, day(6))
    assert shop.plan() == [
        "2/1: unknown becomes day 6 (supply_announced)",
        "3/1: unknown becomes day 6 (supply_announced)",
        "4/1: unknown becomes day 6 (supply_announced)",
        "two lines/1: unknown becomes day 6 (supply_announced)",
    ]


# -- revised


def test_a_revision_that_goes_back_is_ignored_and_so_is_an_equal_one_with_other_content() -> None:
    shop = Shop()
    shop.expect("S1", 5, day(3), revision=7)
    shop.order("1001", 1)
    before = shop.state
    for revision, outcome in ((6, "older_revision"), (7, "equal_revision")):
        assert shop.expect("S1", 9, day(1), revision=revision) == []
        assert shop.outcome == outcome
        assert shop.cancel_supply("S1", revision=revision) == []
        assert (shop.outcome, shop.state) == (outcome, before)
    shop.expect("S1", 5, day(3), revision=7)
    assert (shop.outcome, shop.state) == ("duplicate", before)


def test_each_supply_counts_its_own_revisions() -> None:
    shop = Shop()
    shop.expect("S1", 5, day(3), revision=7)
    shop.expect("S1", 5, day(3), sku="Y", revision=1)
    assert shop.outcome == "applied"
    shop.expect("S2", 5, day(3), revision=1)
    assert shop.outcome == "applied"


def test_a_supply_that_was_called_off_before_it_was_announced_stays_so_until_a_later_revision() -> None:
    shop = Shop()
    assert shop.cancel_supply("S1", revision=3) == []
    shop.expect("S1", 5, day(3), revision=2)
    assert (shop.outcome, to_come(shop), shop.timers) == ("older_revision", 0, {})
    shop.order("1001", 1)
    shop.expect("S1", 5, day(3), revision=4)
    assert to_come(shop) == 5
    assert shop.plan() == ["1001/1: unknown becomes day 3 (supply_announced)"]


def test_a_supply_that_is_cut_below_what_it_brought_owes_nothing() -> None:
    shop = Shop()
    shop.expect("S1", 9, day(3))
    shop.receive(6, of="S1")
    shop.expect("S1", 5, day(3))
    assert (to_come(shop), shop.timers) == (0, {})
    shop.expect("S1", 8, day(3))
    assert to_come(shop) == 2, "announced in total, received units included"


def test_a_supply_that_moves_to_another_location_takes_its_promises_along() -> None:
    shop = Shop()
    shop.expect("S1", 5, day(3))
    shop.order("here", 2)
    shop.order("there", line(1, 2, location="outlet"))
    assert shop.promised("here", "there") == [3, None]
    shop.expect("S1", 5, day(3), location="outlet")
    assert shop.plan() == [
        "here/1: day 3 becomes unknown (supply_moved)",
        "there/1: unknown becomes day 3 (supply_moved)",
    ]
    assert shop.state.supplies[SupplyKey("S1", "X")].pool == PoolKey("X", "outlet")


def test_units_that_arrive_elsewhere_than_announced_come_there_no_more() -> None:
    shop = Shop()
    shop.expect("S1", 5, day(3))
    shop.order("here", 4)
    shop.order("there", line(1, 2, location="outlet"))
    assert shop.receive(2, location="outlet", of="S1") == [
        "there/1: 2 filled, 0 wait",
        "there: release 1: 2 of line 1 (complete)",
    ]
    assert to_come(shop) == 3
    assert shop.plan() == ["here/1: day 3 becomes unknown (supply_changed)"]
    shop.receive(1, location="outlet", of="S1")
    shop.expect("S1", 8, day(3))
    assert to_come(shop) == 5
    assert shop.plan() == ["here/1: unknown becomes day 3 (supply_changed)"]


# -- late


def test_a_supply_that_is_past_its_date_is_said_to_be_overdue_once_a_revision() -> None:
    shop = Shop()
    shop.expect("S1", 5, day(3))
    shop.order("1001", 2, 2)
    shop.order("1002", 2)
    shop.order("elsewhere", line(1, 1, location="outlet"))
    shop.receive(1, of="S1")
    assert shop.until(day(2.99)) == []
    assert shop.until(day(9)) == ["X at main: 4 of S1 from Acme overdue, 2 orders wait"]
    assert [(event.caused_by, event.now) for event in shop.events] == [("timer:overdue:X:S1", day(3))]
    assert [event.fields["expected_at"] for event in shop.events] == [day(3)]
    assert shop.until(day(30)) == []
    shop.expect("S1", 5, day(40))
    assert shop.until(day(50)) == ["X at main: 4 of S1 from Acme overdue, 2 orders wait"]


def test_no_promise_leans_on_an_overdue_supply_unless_settings_say_how_late_it_counts() -> None:
    shop = Shop()
    shop.expect("S1", 2, day(3))
    shop.order("1001", 2)
    shop.until(day(3))
    assert shop.plan() == ["1001/1: day 3 becomes unknown (supply_overdue)"]
    shop.receive(2, of="S1")
    assert shop.has("1001") == (2, 0)

    shop = Shop(OVERDUE_COMES_IN_A_WEEK)
    shop.expect("S1", 3, day(3))
    shop.order("1001", 2)
    shop.until(day(3))
    assert shop.plan() == ["1001/1: day 3 becomes day 10 (supply_overdue)"]
    shop.until(day(8))
    shop.order("1002", 1)
    assert shop.promised("1002") == [15], "a week from now"
    assert shop.plan() == [], "a day that goes by is no news"


def test_nothing_is_overdue_that_came_was_called_off_or_was_moved_in_time() -> None:
    shop = Shop()
    shop.order("1001", 9)
    shop.expect("came", 2, day(3))
    shop.receive(2, of="came")
    shop.expect("called off", 2, day(3))
    shop.cancel_supply("called off")
    shop.expect("moved", 2, day(3))
    shop.expect("moved", 2, day(5))
    shop.expect("revised", 2, day(3))
    shop.expect("revised", 3, day(3))
    assert shop.until(day(4)) == ["X at main: 3 of revised from Acme overdue, 1 orders wait"]
    assert shop.until(day(5)) == ["X at main: 2 of moved from Acme overdue, 1 orders wait"]


def test_a_supply_that_is_announced_for_the_past_is_overdue_at_once_and_promises_nothing() -> None:
    shop = Shop()
    shop.order("1001", 2)
    assert shop.expect("S1", 5, day(-3)) == []
    assert shop.outcome == "applied"
    assert shop.plan() == []
    shop.order("1002", 1)
    assert shop.promised("1001", "1002") == [None, None]
    assert shop.until(shop.now) == ["X at main: 5 of S1 from Acme overdue, 2 orders wait"]
    assert shop.receive(5, of="S1")[:2] == ["1001/1: 2 filled, 0 wait", "1002/1: 1 filled, 0 wait"]


def test_what_a_late_supply_brings_after_all_serves_the_queue_and_no_alert_follows() -> None:
    shop = Shop()
    shop.expect("S1", 5, day(3))
    shop.order("1001", 6)
    shop.until(day(4))
    shop.receive(5, of="S1")
    assert (to_come(shop), shop.timers) == (0, {})
    assert shop.until(day(30)) == []
