"""Who gets which unit, seen from outside: real topics, real processes."""

import json
import random
from dataclasses import replace
from datetime import timedelta

from backorder_schemas import AllocationReleased, BackorderFilled
from tests.e2e.messages import Message, adjustment, cancel, count, order, receipt
from tests.e2e.subscriber import follow
from tests.e2e.world import World


async def test_of_50_orders_at_once_on_stock_10_any_ten_get_it_and_receipts_serve_the_others_in_rank_order(
    world: World,
) -> None:
    head_starts = '{"gold": "P2D"}'
    first = await world.allocator(ready=False, batch=5, ALLOCATOR_HEAD_STARTS=head_starts)
    second = await world.allocator(ready=False, batch=5, ALLOCATOR_HEAD_STARTS=head_starts)
    await first.ready()
    await second.ready()
    await world.tell(receipt("opening", "LAMP", 10))
    ranks: dict[str, timedelta] = {}
    placed: list[Message] = []
    for number in range(50):
        after, is_gold = timedelta(hours=number), number % 7 == 0
        ranks[f"o-{number}"] = after - timedelta(days=2 if is_gold else 0)
        placed.append(order(f"o-{number}", ("LAMP", 1), after=after, segment="gold" if is_gold else "standard"))
    random.Random(50).shuffle(placed)
    await world.tell(*placed)

    subscriber = await follow(world)
    got = {order_id for order_id in ranks if subscriber.released_of(order_id)}
    waiting = sorted(subscriber.waiting_orders(), key=lambda order_id: (ranks[order_id], order_id))
    assert (len(got), len(waiting)) == (10, 40)
    assert not got & set(waiting)
    assert [row["order_id"] for row in (await world.ask("queue", "LAMP"))[0]["queue"]] == waiting
    assert len({record.partition for record in await world.read("orders")}) == 6

    sizes = [1, 3, 2, 10, 1, 7, 16]
    await world.tell(*(receipt(f"later-{at}", "LAMP", units) for at, units in enumerate(sizes)))
    served: dict[str, list[str]] = {}
    for message in (await follow(world)).messages:
        if isinstance(message, BackorderFilled):
            served.setdefault(message.caused_by, []).append(message.order_id)
    for at, units in enumerate(sizes):
        turn, waiting = waiting[:units], waiting[units:]
        assert sorted(served[f"received/later-{at}/LAMP/main"]) == sorted(turn), f"receipt {at} of {units}"
    assert not waiting
    assert await first.metric("allocator_messages_total") > 0
    assert await second.metric("allocator_messages_total") > 0, "both had a part in it"
    await world.audit()


async def test_cancelling_a_backorder_fills_nobody(running: World) -> None:
    await running.tell(receipt("r-1", "DESK", 2))
    for number, order_id in enumerate(["desk-has-it", "desk-waits", "desk-waits-behind"]):
        await running.tell(order(order_id, ("DESK", 2), after=timedelta(minutes=number)))
    await running.tell(cancel("desk-waits"))

    subscriber = await follow(running)
    assert not [each for each in subscriber.messages if isinstance(each, BackorderFilled) and each.sku == "DESK"]
    assert subscriber.released_of("desk-has-it") == 2
    assert subscriber.waiting_of("desk-waits") == 0
    assert subscriber.waiting_of("desk-waits-behind") == 2


async def test_a_cancelled_allocation_gives_its_stock_to_the_first_in_line(running: World) -> None:
    await running.tell(receipt("r-1", "SOFA", 3))
    await running.tell(order("sofa-has-it", ("SOFA", 3)))
    # They come in the other order than they were placed: the rank decides.
    await running.tell(order("sofa-last", ("SOFA", 2), after=timedelta(minutes=9)))
    await running.tell(order("sofa-first", ("SOFA", 2), after=timedelta(minutes=5)))
    await running.tell(cancel("sofa-has-it", (1, 3)))

    subscriber = await follow(running)
    assert subscriber.released_of("sofa-has-it") == 0
    assert (subscriber.released_of("sofa-first"), subscriber.waiting_of("sofa-first")) == (2, 0)
    assert (subscriber.released_of("sofa-last"), subscriber.waiting_of("sofa-last")) == (1, 1)


async def test_two_lines_of_one_sku_in_one_order_see_each_other(running: World) -> None:
    await running.tell(receipt("r-1", "MUG", 5))
    await running.tell(order("mugs", ("MUG", 3), ("MUG", 4)))

    subscriber = await follow(running)
    first, second = subscriber.lines["mugs", 1], subscriber.lines["mugs", 2]
    assert (first.released, first.waiting) == (3, 0)
    assert (second.released, second.waiting) == (2, 2)
    (released,) = [
        each for each in subscriber.messages if isinstance(each, AllocationReleased) and each.order_id == "mugs"
    ]
    assert [line.quantity for line in released.lines] == [3, 2], "one release for the whole order"
    assert not released.complete


async def test_the_same_receipt_three_times_counts_once_and_with_another_quantity_it_is_a_dead_letter(
    running: World,
) -> None:
    same, other = receipt("r-1", "CUP", 5), receipt("r-1", "CUP", 6)
    await running.tell(same, same)
    await running.tell(same)
    await running.tell(other)

    (pool,) = await running.ask("queue", "CUP")
    assert pool["on_hand"] == 5
    (letter,) = await running.ask("dlq", "list", "--reason", "conflicting_duplicate")
    assert letter["topic"] == "stock-received"
    (published,) = await running.read("allocator.dlq")
    assert (published.value, published.header("dlq.reason")) == (other.value, "conflicting_duplicate")


async def test_a_cancel_before_its_order_is_honoured(running: World) -> None:
    await running.tell(receipt("r-1", "BOOK", 5))
    await running.tell(cancel("books-none"), cancel("books-some", (2, 1)))
    await running.tell(order("books-none", ("BOOK", 4)), order("books-some", ("BOOK", 2), ("BOOK", 2)))

    lines = (await follow(running)).lines
    assert ("books-none", 1) not in lines
    assert (lines["books-some", 1].released, lines["books-some", 2].released) == (2, 1)
    (pool,) = await running.ask("queue", "BOOK")
    assert (pool["available"], pool["waiting"]) == (2, 0)
    (line,) = (await running.ask("explain", "books-none"))["lines"]
    assert line["quantity_cancelled"] == 4


async def test_lost_stock_sends_the_last_in_rank_back_to_the_queue(running: World) -> None:
    await running.tell(receipt("r-1", "VASE", 6))
    await running.tell(*(order(f"vase-{number}", ("VASE", 2), after=timedelta(minutes=number)) for number in range(3)))
    await running.tell(adjustment("broken", "VASE", -1))
    await running.tell(count("shelf", "VASE", 2))

    subscriber = await follow(running)
    assert [subscriber.released_of(f"vase-{number}") for number in range(3)] == [2, 0, 0]
    assert [subscriber.waiting_of(f"vase-{number}") for number in range(3)] == [0, 2, 2]
    alerts = [record.message for record in await running.read("stock-alerts")]
    assert [(alert.type, alert.quantity) for alert in alerts] == [("StockShortfall", 1), ("StockShortfall", 3)]


async def test_dates_at_the_ends_of_the_calendar_which_some_senders_write_for_not_known_stop_nobody(
    running: World,
) -> None:
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    ordinary = order("rugs", ("RUG", 1))
    zero = dated(order("rugs-first", ("RUG", 1)), "placed_at", first)
    far = dated(order("rugs-last", ("RUG", 1)), "placed_at", last)
    await running.tell(dated(count("rugs-1", "RUG", 0), "occurred_at", first))
    await running.tell(ordinary, zero, far)
    await running.tell(dated(count("rugs-2", "RUG", 1), "occurred_at", last))
    await running.tell(dated(count("rugs-3", "RUG", 2), "occurred_at", last))

    subscriber = await follow(running)
    assert [subscriber.released_of(order_id) for order_id in ("rugs-first", "rugs", "rugs-last")] == [1, 1, 0]


def dated(message: Message, field: str, moment: str) -> Message:
    content = json.loads(message.value or b"")
    return replace(message, value=json.dumps(content | {field: moment}).encode())
