"""Who gets which unit, seen from outside: real topics, real processes."""

import json
import random
from dataclasses import replace
from datetime import timedelta
from itertools import chain, zip_longest

import pytest

from backorder_schemas import AllocationReleased, BackorderFilled, StockShortfall
from tests.e2e.messages import Message, adjustment, cancel, count, order, receipt
from tests.e2e.subscriber import Subscriber, follow
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


# Each story is four steps; those of all stories happen at the same time, since they keep apart by their SKUs.

A_BACKORDER_IS_CANCELLED = [
    [receipt("r-1", "DESK", 2)],
    [order("desk-has-it", ("DESK", 2))],
    [order("desk-waits", ("DESK", 2)), order("desk-waits-behind", ("DESK", 2), after=timedelta(minutes=1))],
    [cancel("desk-waits")],
]
AN_ALLOCATION_IS_CANCELLED = [
    [receipt("r-1", "SOFA", 3)],
    [order("sofa-has-it", ("SOFA", 3))],
    # In whatever order these come, the rank decides.
    [order(f"sofa-{at}", ("SOFA", 2), after=timedelta(minutes=minutes)) for at, minutes in (("last", 9), ("first", 5))],
    [cancel("sofa-has-it", (1, 3))],
]
TWO_LINES_OF_ONE_SKU = [[receipt("r-1", "PLATE", 5)], [order("plates", ("PLATE", 3), ("PLATE", 4))]]
A_RECEIPT_COMES_AGAIN = [
    [receipt("r-1", "CUP", 5), receipt("r-1", "CUP", 5)],
    [receipt("r-1", "CUP", 5)],
    [receipt("r-1", "CUP", 6)],
]
A_CANCEL_COMES_BEFORE_ITS_ORDER = [
    [receipt("r-1", "BOOK", 5), cancel("books-none"), cancel("books-some", (2, 1))],
    [order("books-none", ("BOOK", 4)), order("books-some", ("BOOK", 2), ("BOOK", 2))],
]
STOCK_IS_LOST = [
    [receipt("r-1", "VASE", 6)],
    [order(f"vase-{number}", ("VASE", 2), after=timedelta(minutes=number)) for number in range(3)],
    [adjustment("broken", "VASE", -1)],
    [count("shelf", "VASE", 2)],
]


def dated(message: Message, field: str, moment: str) -> Message:
    content = json.loads(message.value or b"")
    return replace(message, value=json.dumps(content | {field: moment}).encode())


FIRST, LAST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
DATES_AT_THE_ENDS_OF_THE_CALENDAR = [
    [dated(count("rugs-1", "RUG", 0), "occurred_at", FIRST)],
    [
        order("rugs", ("RUG", 1)),
        dated(order("rugs-first", ("RUG", 1)), "placed_at", FIRST),
        dated(order("rugs-last", ("RUG", 1)), "placed_at", LAST),
    ],
    [dated(count("rugs-2", "RUG", 1), "occurred_at", LAST)],
    [dated(count("rugs-3", "RUG", 2), "occurred_at", LAST)],
]
STORIES = (
    A_BACKORDER_IS_CANCELLED,
    AN_ALLOCATION_IS_CANCELLED,
    TWO_LINES_OF_ONE_SKU,
    A_RECEIPT_COMES_AGAIN,
    A_CANCEL_COMES_BEFORE_ITS_ORDER,
    STOCK_IS_LOST,
    DATES_AT_THE_ENDS_OF_THE_CALENDAR,
)


@pytest.fixture(scope="module")
async def told(running: World) -> Subscriber:
    """What a subscriber knows when all stories have happened."""
    for step in zip_longest(*STORIES, fillvalue=[]):
        await running.tell(*chain(*step))
    return await follow(running)


def test_cancelling_a_backorder_fills_nobody(told: Subscriber) -> None:
    assert not [each for each in told.messages if isinstance(each, BackorderFilled) and each.sku == "DESK"]
    assert told.released_of("desk-has-it") == 2
    assert told.waiting_of("desk-waits") == 0
    assert told.waiting_of("desk-waits-behind") == 2


def test_a_cancelled_allocation_gives_its_stock_to_the_first_in_line(told: Subscriber) -> None:
    assert told.released_of("sofa-has-it") == 0
    assert (told.released_of("sofa-first"), told.waiting_of("sofa-first")) == (2, 0)
    assert (told.released_of("sofa-last"), told.waiting_of("sofa-last")) == (1, 1)


def test_two_lines_of_one_sku_in_one_order_see_each_other(told: Subscriber) -> None:
    first, second = told.lines["plates", 1], told.lines["plates", 2]
    assert (first.released, first.waiting) == (3, 0)
    assert (second.released, second.waiting) == (2, 2)
    (released,) = [each for each in told.messages if isinstance(each, AllocationReleased) and each.order_id == "plates"]
    assert [line.quantity for line in released.lines] == [3, 2], "one release for the whole order"
    assert not released.complete


async def test_the_same_receipt_three_times_counts_once_and_with_another_quantity_it_is_a_dead_letter(
    told: Subscriber, running: World
) -> None:
    assert told.availability["main:CUP"].available == 5
    published = [each for each in await running.read("allocator.dlq") if each.key == b"CUP"]
    other = A_RECEIPT_COMES_AGAIN[-1][0]
    assert [(each.value, each.header("dlq.reason")) for each in published] == [(other.value, "conflicting_duplicate")]


async def test_a_cancel_before_its_order_is_honoured(told: Subscriber, running: World) -> None:
    assert ("books-none", 1) not in told.lines
    assert (told.lines["books-some", 1].released, told.lines["books-some", 2].released) == (2, 1)
    assert (told.availability["main:BOOK"].available, told.availability["main:BOOK"].waiting) == (2, 0)
    assert await running.number("SELECT quantity_cancelled FROM lines WHERE order_id = 'books-none'") == 4


def test_lost_stock_sends_the_last_in_rank_back_to_the_queue(told: Subscriber) -> None:
    assert [told.released_of(f"vase-{number}") for number in range(3)] == [2, 0, 0]
    assert [told.waiting_of(f"vase-{number}") for number in range(3)] == [0, 2, 2]
    shortfalls = [each for each in told.messages if isinstance(each, StockShortfall) and each.sku == "VASE"]
    assert [each.quantity for each in shortfalls] == [1, 3]


def test_dates_at_the_ends_of_the_calendar_which_some_senders_write_for_not_known_stop_nobody(
    told: Subscriber,
) -> None:
    assert [told.released_of(order_id) for order_id in ("rugs-first", "rugs", "rugs-last")] == [1, 1, 0]
