"""Allocator processes come, go, freeze and lose their database in the middle of the work."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from tests.e2e.messages import Message, order, receipt
from tests.e2e.processes import Service, eventually
from tests.e2e.subscriber import follow
from tests.e2e.world import World
from tests.faults.load import check_nothing_lost_or_doubled, load

BATCH = 50


async def test_members_join_and_leave_during_load_and_nothing_is_lost_or_doubled(world: World) -> None:
    sent = load(1500, seed=1)
    alone, joined, left, joined_again, left_again = sent.slices(5)
    first = await world.allocator(batch=BATCH)
    await world.publish(*alone)
    second = await world.allocator(batch=BATCH)
    await world.publish(*joined)
    await has_worked(second)
    await leaves_in_the_middle(world, first, left)
    third = await world.allocator(batch=BATCH)
    await world.publish(*joined_again)
    await has_worked(third)
    await leaves_in_the_middle(world, second, left_again)
    await world.settled()
    await check_nothing_lost_or_doubled(world, sent)
    await third.end()


async def test_connections_to_the_database_that_break_under_load_lose_nothing(world: World) -> None:
    sent = load(1500, seed=2)
    service = await world.allocator(batch=BATCH)
    broken = 0
    async with publishing(world, sent.messages):
        for _ in range(4):
            goes_on = partial(is_beyond, world, await cursor_sum(world))
            await eventually(goes_on, "work to go on", 60, world.explain)
            broken += await world.number(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'backorder-allocator%'"
            )
    assert broken >= 4
    await world.settled()
    await check_nothing_lost_or_doubled(world, sent)
    assert await service.metric("allocator_retries_total") > 0
    assert await service.metric("allocator_stopped") == 0
    await service.end()


async def test_a_frozen_process_can_neither_write_nor_move_the_relay_when_it_wakes_up(world: World) -> None:
    frozen = await world.allocator(batch=BATCH)
    # It has worked every partition of orders, and so knows how far.
    await world.tell(receipt("r-1", "SKU-OLD", 1000), *(one_order(number, "SKU-OLD") for number in range(1000, 1040)))
    # It stops with a batch in hand whose transaction has not begun: it looks for its pools, which it can't read now.
    async with world.database.transaction():
        await world.database.execute("LOCK TABLE pools")
        await world.publish(receipt("r-2", "SKU-NEW", 300), *(one_order(number, "SKU-NEW") for number in range(200)))
        await eventually(lambda: waits_for(world, "FROM pools p JOIN named"), "a batch in hand")
        await world.database.execute("SELECT FROM relay FOR UPDATE")
        await eventually(lambda: waits_for(world, "UPDATE relay"), "a turn of the relay")
        frozen.signal(signal.SIGSTOP)
    # Now PostgreSQL does what it was asked: the frozen process gets the lease, and its last word.
    epoch = await world.number("SELECT epoch FROM relay")
    survivor = await world.allocator(batch=BATCH)
    await world.settled()
    assert await world.number("SELECT epoch FROM relay") == epoch + 1, "the lease went to the survivor"
    before = await journal(world)

    frozen.signal(signal.SIGCONT)
    refusals = "SELECT sum(refused) FROM cursors"
    await eventually(lambda: world.number(refusals), "its late batch to be refused", explain=frozen.explain)
    await eventually(lambda: says(frozen, "lost the right to publish"), "it to learn that another does")
    await eventually(lambda: says(frozen, "refused: another process works this partition"), "it to say so")
    status = await world.ask("status")
    refused = {row["topic"]: row["refused"] for row in status["cursors"] if row["refused_at"]}
    assert refused.keys() <= {"orders", "stock-received"}
    assert (status["relay_refused"], status["relay_refused_at"] is None) == (1, False)
    assert await frozen.metric("allocator_fenced_total") >= 1 + max(refused.values())
    assert await journal(world) == before, "it wrote nothing"
    await world.tell(order("afterwards", ("SKU-NEW", 1)))
    subscriber = await follow(world)
    assert [subscriber.released_of(f"o-{number}") for number in range(200)] == [1] * 200
    assert subscriber.released_of("afterwards") == 1
    assert subscriber.repeats == 0 or await says(survivor, "published current availability again")
    await world.audit()
    await frozen.end()
    await survivor.end()


async def test_a_process_frozen_within_its_transaction_holds_nobody_up_for_long(world: World) -> None:
    frozen = await world.allocator(batch=BATCH)
    await world.tell(receipt("r-1", "SKU-OLD", 1000))
    async with world.database.transaction():
        await world.database.execute("SELECT FROM pools FOR UPDATE")
        await world.publish(*(one_order(number, "SKU-OLD") for number in range(200)))
        await eventually(lambda: waits_for(world, "FROM pools"), "a batch that waits for its pool")
        frozen.signal(signal.SIGSTOP)
    # It now holds the cursors and the pool, and says nothing: PostgreSQL ends its session for it.
    survivor = await world.allocator(batch=BATCH)
    await world.settled()
    frozen.signal(signal.SIGCONT)
    await world.tell(*(one_order(number, "SKU-OLD") for number in range(200, 250)))
    subscriber = await follow(world)
    assert [subscriber.released_of(f"o-{number}") for number in range(250)] == [1] * 250
    await world.audit()
    await frozen.end()
    await survivor.end()


def one_order(number: int, sku: str) -> Message:
    return order(f"o-{number}", (sku, 1))


@asynccontextmanager
async def publishing(world: World, messages: list[Message]) -> AsyncIterator[None]:
    """Publishes in small portions beside the block, and waits for the last one at its end."""

    async def publish() -> None:
        for start in range(0, len(messages), 25):
            await world.publish(*messages[start : start + 25])

    async with asyncio.TaskGroup() as group:
        group.create_task(publish())
        yield


async def leaves_in_the_middle(world: World, service: Service, messages: list[Message]) -> None:
    """SIGTERM while there is work; it ends in order."""
    # Nobody passes the cursors before the signal is there, however fast the machine.
    async with world.database.transaction():
        await world.database.execute("SELECT FROM cursors FOR UPDATE")
        await world.publish(*messages)
        await eventually(lambda: waits_for(world, "FROM cursors"), "a batch in hand")
        service.signal(signal.SIGTERM)
        await eventually(lambda: says(service, "ending"), "it to take the signal", 60, service.explain)
    assert await service.ended() == 0, service.explain()


async def cursor_sum(world: World) -> int:
    return sum((await world.cursors()).values())


async def is_beyond(world: World, worked: int) -> bool:
    return await cursor_sum(world) > worked


async def has_worked(service: Service) -> None:
    await eventually(lambda: has_metric(service, "allocator_messages_total"), "it to work a batch", 60, service.explain)


async def has_metric(service: Service, name: str) -> bool:
    return await service.metric(name) > 0


async def says(service: Service, text: str) -> bool:
    return text in service.said()


async def waits_for(world: World, statement: str) -> bool:
    """Whether a backend of an allocator waits for a lock with this statement."""
    # Within a transaction PostgreSQL shows the same activity again and again.
    await world.database.execute("SELECT pg_stat_clear_snapshot()")
    query = """SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'"""
    return await world.number(query, statement) > 0


async def journal(world: World) -> tuple[int, int]:
    row = await world.database.fetchrow("SELECT h.journal, r.seq FROM log_head h, relay r")
    return row["journal"], row["seq"]
