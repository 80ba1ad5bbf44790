"""Orders that go out as one: held until nothing waits, until their release date, or for so long."""

from tests.allocator.shop import Shop, line


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
