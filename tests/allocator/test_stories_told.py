"""What is told to whom, and what is not decided from a state that holds too little."""

import pytest

from backorder_allocator.allocation import decide
from backorder_allocator.decision import Input, Rules
from backorder_allocator.state import Pool, PoolKey, State
from backorder_allocator.work import IncompleteStateError
from backorder_schemas import OrderPlaced, StockCounted, StockReceived
from tests.allocator.shop import MONDAY, Shop

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
