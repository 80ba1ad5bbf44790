"""Where reading goes on is what the database says, whatever Kafka or the clock of a sender says."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import CorruptRecordException, KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_allocator.polling import Polls
from backorder_allocator.subscribers import Positions, read
from tests.e2e.messages import order, receipt
from tests.e2e.processes import eventually
from tests.e2e.subscriber import follow
from tests.e2e.world import INPUTS, World
from tests.faults.test_members import waits_for

ORDERS = 300


@pytest.mark.parametrize("worked", [0, 100], ids=["a new database", "a database restored from a backup"])
async def test_offsets_committed_beyond_the_cursors_skip_nothing_however_slow_the_database_answers(
    world: World, worked: int
) -> None:
    orders = [order(f"o-{number}", ("MUG", 1)) for number in range(ORDERS)]
    await world.publish(receipt("r-1", "MUG", ORDERS), *orders[:worked])
    if worked:
        before = await world.allocator()
        await world.settled()
        await before.end()
    await world.publish(*orders[worked:200])
    async with AIOKafkaConsumer(
        bootstrap_servers=world.kafka, group_id=f"{world.prefix}allocator", enable_auto_commit=False
    ) as consumer:
        partitions = world.partitions(INPUTS)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.commit({partition: OffsetAndMetadata(end, "") for partition, end in ends.items()})
    await world.publish(*orders[200:])
    async with world.database.transaction():
        await world.database.execute("LOCK TABLE cursors IN EXCLUSIVE MODE")
        service = await world.allocator(ready=False)
        await eventually(lambda: waits_for(world, "cursors"), "the allocator to ask for its cursors")
        await eventually(service.address, "the allocator to read", explain=service.explain)
    await world.settled()
    subscriber = await follow(world)
    assert [subscriber.released_of(f"o-{number}") for number in range(ORDERS)] == [1] * ORDERS
    await world.audit()


async def test_what_a_sender_aborted_never_happened_and_holes_between_offsets_stop_nobody(world: World) -> None:
    await world.allocator()
    await world.tell(receipt("r-1", "MUG", 10))
    async with AIOKafkaProducer(bootstrap_servers=world.kafka, transactional_id=f"{world.prefix}shop") as shop:
        for number in range(6):
            await shop.begin_transaction()
            each = order(f"o-{number}", ("MUG", 1))
            await shop.send_and_wait(f"{world.prefix}orders", each.value, key=b"same partition")
            await (shop.abort_transaction() if number % 2 else shop.commit_transaction())
    # Each transaction leaves a marker behind, which takes an offset and is no message; the last may come late.
    await world.publish(replace(order("last", ("MUG", 1)), key=b"same partition"))

    async def last_is_released() -> bool:
        return (await follow(world)).released_of("last") == 1

    await eventually(last_is_released, "the order behind the markers", explain=world.explain)
    subscriber = await follow(world)
    assert [subscriber.released_of(f"o-{number}") for number in range(6)] == [1, 0, 1, 0, 1, 0]
    await world.audit()


async def test_records_that_were_taken_and_never_worked_are_taken_again(world: World) -> None:
    await world.publish(*(replace(order(f"o-{number}", ("MUG", 1)), key=b"same partition") for number in range(5)))
    errors: list[Exception] = [KafkaConnectionError("after it took them"), CorruptRecordException("after it took them")]

    async def library(consumer: AIOKafkaConsumer) -> Sequence[ConsumerRecord]:
        taken = [record for part in (await consumer.getmany(timeout_ms=100)).values() for record in part]
        if taken and errors:
            raise errors.pop(0)
        return taken

    async def some() -> list[int]:
        return [record.offset for record in await polls.next(consumer)]

    async with (
        asyncpg.create_pool(world.database_url, min_size=1, max_size=1) as pool,
        AIOKafkaConsumer(bootstrap_servers=world.kafka, auto_offset_reset="earliest", fetch_max_wait_ms=50) as consumer,
    ):
        intake = Intake(pool, Context(), lambda: None)
        decode = partial(read, prefix=world.prefix)
        polls = Polls(intake, library, Positions(intake, world.prefix).go_to_cursors, 1000, never_full, decode)
        consumer.assign(world.partitions(["orders"]))
        assert await eventually(some, "what the library dropped twice") == [*range(5)]
        assert errors == []
        assert intake.health.polls_fail_with is None
        # The handler was never called.
        assert await eventually(some, "what was dropped on its way to the handler") == [*range(5)]
        polls.worked()
        assert not await some()


async def never_full() -> None:
    """Nothing stands in the way."""
