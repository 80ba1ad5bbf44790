"""What is told to whom, and what is not decided from a state that holds too little."""

from datetime import timedelta

import pytest

from backorder_allocator.allocation import decide
from backorder_allocator.decision import Input, ReleaseDue, Rules
from backorder_allocator.state import Pool, PoolKey, State
from backorder_allocator.work import IncompleteStateError
from backorder_schemas import OrderPlaced, StockCounted, StockReceived
from tests.allocator.shop import GOLD_IS_TWO_DAYS_AHEAD, MONDAY, Shop, day

# -- what is told to whom


def test_what_is_decided_names_the_customer_by_id_and_nothing_else_of_the_contact() -> None:
    shop = Shop(stock=1)
    shop.order("1001", 2)
    [placed] = [message for message in shop.sent if isinstance(message, OrderPlaced)]
    decision = decide(State(), [Input(placed, MONDAY)], Rules())
    assert [event.fields["customer_id"] for event in decision.events] == ["c-7"]
    assert "ada@" not in repr(decision)
    assert "Ada" not in repr(decision)


def test_an_event_says_what_caused_it_and_when_and_counts_by_topic_and_order() -> None:
    shop = Shop(stock=1)
    shop.order("1001", 3)
    before, now = shop.state, shop.now
    shop.receive(1)
    decision = decide(before, [Input(shop.sent[-1], now, "00-trace")], Rules())
    assert [(event.topic, event.key, event.version) for event in decision.events] == [
        ("backorders", "1001", 2),
        ("allocations", "1001", 2),
    ]
    for event in decision.events:
        assert (event.caused_by, event.now, event.traceparent) == (shop.sent[-1].id, now, "00-trace")


def test_a_backorder_says_how_much_was_ordered_and_how_much_is_there() -> None:
    shop = Shop(stock=10)
    shop.order("1001", 15)
    decision = decide(Shop(stock=10).state, [Input(shop.sent[-1], MONDAY)], Rules())
    said = decision.events[0].fields
    assert said["quantity"] == said["quantity_waiting"] == 5
    assert (said["quantity_ordered"], said["quantity_allocated"]) == (15, 10)
    assert (said["kind"], said["promised_at"], said["substitutes"]) == ("backorder", None, ())


# -- states that hold less than they should


@pytest.mark.parametrize("queue_is", ["not loaded", "loaded up to somebody else"])
def test_nobody_behind_is_served_because_those_ahead_were_not_loaded(queue_is: str) -> None:
    shop = Shop()
    shop.order("ahead", 1)
    shop.order("behind", 1)
    partial = shop.state.copy()
    ahead = partial.orders.pop("ahead")
    if queue_is == "not loaded":
        partial.orders.pop("behind")
    partial.horizons[PoolKey("X", "main")] = None if queue_is == "not loaded" else ahead.lines[1].rank
    receipt = StockReceived(id="r", occurred_at=MONDAY, receipt_id="r", sku="X", quantity=1)
    with pytest.raises(IncompleteStateError):
        decide(partial, [Input(receipt, MONDAY)], Rules())


def test_stock_is_not_lost_by_lines_that_were_not_loaded() -> None:
    state = State(pools={PoolKey("X", "main"): Pool(PoolKey("X", "main"), on_hand=1, allocated=1)})
    counted = StockCounted(id="c", occurred_at=MONDAY, count_id="c", sku="X", counted=0)
    with pytest.raises(IncompleteStateError):
        decide(state, [Input(counted, MONDAY)], Rules())


def test_where_a_queue_is_not_loaded_a_date_comes_from_what_is_known_to_wait_ahead() -> None:
    shop = Shop(GOLD_IS_TWO_DAYS_AHEAD)
    shop.expect("S1", 3, day(3))
    shop.expect("S2", 3, day(6))
    shop.order("first", 2, placed_at=day(-3))
    shop.order("second", 2)
    before = shop.state.copy()
    shop.order("gold", 1, 2, segment="gold")
    whole = shop.events
    assert [event.fields["promised_at"] for event in whole] == [day(3), day(6)]

    key, rank = PoolKey("X", "main"), (MONDAY + timedelta(hours=4) - timedelta(days=2), "gold", 1)
    before.orders.clear()
    before.horizons[key] = None
    before.ahead[key] = {rank: 2, (*rank[:2], 2): 2}
    placed = Input(shop.sent[-1], MONDAY + timedelta(hours=4))
    partial = decide(before, [placed], shop.rules)
    assert [(event.kind, event.fields, event.why) for event in partial.events] == [
        (event.kind, event.fields, event.why) for event in whole
    ]
    assert partial.state.pools[key].causes == {"overtaken"}
    del before.ahead[key]
    with pytest.raises(IncompleteStateError):
        decide(before, [placed], shop.rules)


def test_those_who_are_behind_everything_that_was_loaded_wait_behind_the_whole_pool() -> None:
    shop = Shop()
    shop.expect("S1", 3, day(3))
    shop.expect("S2", 3, day(6))
    shop.order("first", 3)
    partial = shop.state.copy()
    partial.orders.clear()
    partial.horizons[PoolKey("X", "main")] = None
    partial.ahead[PoolKey("X", "main")] = {}
    shop.order("a", 1)
    shop.order("b", 3)
    batch = [Input(message, MONDAY + timedelta(hours=5)) for message in shop.sent[-2:]]
    decision = decide(partial, batch, Rules())
    assert [event.fields["promised_at"] for event in decision.events] == [day(6), None]
    assert not decision.state.pools[PoolKey("X", "main")].causes


def test_the_order_in_which_rows_were_loaded_decides_nothing() -> None:
    shop = Shop(stock=4)
    shop.policy("preorder", release_at=day(20))
    for order_id in ("c", "a", "b"):
        shop.order(order_id, 1, 1, placed_at=MONDAY)
    turned = shop.state.copy()
    turned.orders = dict(reversed(turned.orders.items()))
    assert list(turned.orders) == ["b", "a", "c"]
    counted = StockCounted(id="c", occurred_at=MONDAY, count_id="c", sku="X", counted=3)
    received = StockReceived(id="r", occurred_at=MONDAY, receipt_id="r", sku="X", quantity=2)
    batch = [Input(counted, day(1)), Input(received, day(2)), Input(ReleaseDue("X"), day(20))]
    assert decide(turned, batch, Rules()).events == decide(shop.state, batch, Rules()).events
