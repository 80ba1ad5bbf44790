"""Where reading goes on, and how it shows that it does."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from backorder_notifier import store
from backorder_notifier.subscribers import Reader, parse_raw
from tests.notifier.messages import created, filled, placed
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.world import World, eventually, get


async def test_offsets_committed_by_somebody_else_make_nothing_skipped(world: World) -> None:
    await world.send(placed(), created())
    topics = [f"{world.prefix}{topic}" for topic in ("orders", "backorders")]
    intruder = AIOKafkaConsumer(
        bootstrap_servers=world.kafka, group_id=f"{world.prefix}notifier", enable_auto_commit=False
    )
    await intruder.start()
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(3)]
    intruder.assign(partitions)
    await intruder.commit(await intruder.end_offsets(partitions))
    await intruder.stop()
    await world.start()
    await world.settled(1)


async def test_a_database_restored_from_backup_is_read_on_from_its_own_positions(
    world: World, script: ScriptedServer
) -> None:
    first = await world.start()
    await world.send(placed(), created(), filled())
    await world.settled(2)
    assert await first.stop() == 0
    connection = await asyncpg.connect(world.database)
    await connection.execute("TRUNCATE orders, deliveries, updates, versions, outbox")
    await connection.execute("UPDATE cursors SET next_offset = 0")
    await connection.close()
    await world.start()
    await world.settled(2)
    # Told again, since the backup knew nothing of it; recognisable as the same.
    assert len(script.accepted) == 4
    assert len({mail["Message-ID"] for mail in script.accepted}) == 2


@asynccontextmanager
async def database_away(postgres: Any, world: World) -> AsyncIterator[None]:
    """Nobody can connect, and whoever was connected is not any more."""
    name = world.database.rpartition("/")[2]
    admin = await asyncpg.connect(postgres.admin_url)
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    yield
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await admin.close()


async def test_what_comes_while_the_database_is_away_is_read_when_it_is_back(
    world: World, postgres: Any, script: ScriptedServer
) -> None:
    process = await world.start()

    async def ready() -> int:
        return (await asyncio.to_thread(get, f"http://127.0.0.1:{process.port}/readyz"))[0]

    async def is_ready() -> bool:
        return await ready() == 200

    await eventually(is_ready)
    async with database_away(postgres, world):
        await world.send(placed(), created())
        await process.logged("not_ready")
        assert await ready() == 503
    await world.settled(1)
    await eventually(is_ready)
    assert len(script.accepted) == 1
    # Said, not repeated with every try.
    assert process.log.count('"event": "not_ready"') <= 2


async def test_partitions_assigned_while_the_database_is_away_are_read_when_it_is_back(
    world: World, postgres: Any, script: ScriptedServer
) -> None:
    stays, goes = await world.start(), await world.start()
    async with database_away(postgres, world):
        assert await goes.stop() == 0
        await stays.logged("cursors_not_read")
        for number in range(6):
            await world.send(placed(f"o{number}"), created(f"o{number}"))
    await world.settled(6)
    assert len(script.accepted) == 6


async def test_the_offsets_in_kafka_follow_so_that_lag_can_be_seen(world: World) -> None:
    await world.start()
    await world.send(placed(), created())
    await world.settled(1)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.kafka, group_id=f"{world.prefix}notifier", enable_auto_commit=False
    )
    await consumer.start()

    async def committed() -> bool:
        offsets = [
            await consumer.committed(TopicPartition(f"{world.prefix}{topic}", number)) or 0
            for topic in ("orders", "backorders")
            for number in range(3)
        ]
        return sum(offsets) == 2

    try:
        await eventually(committed)
    finally:
        await consumer.stop()


async def test_being_alive_is_computed_from_turns_and_lag(world: World, database: str) -> None:
    pool = await store.open_pool(database, size=1)
    reader = Reader(world.prefix, pool, None, lambda _report: None)
    assert await reader.is_alive()  # it has just begun
    reader._last_turn = time.monotonic() - 3600
    assert not await reader.is_alive()  # no consumer

    consumer = AIOKafkaConsumer(bootstrap_servers=world.kafka, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(f"{world.prefix}orders", 0)])
    reader.consumer = lambda: consumer
    try:
        assert not await consumer.getmany(timeout_ms=300)

        async def caught_up() -> bool:
            return await reader.is_alive()

        await eventually(caught_up)  # nothing to read, and Kafka said so just now
        await world.send_raw("orders", b"k", b"{}", partition=0)

        async def behind() -> bool:
            return not await reader.is_alive()

        await eventually(behind)  # a record that nobody takes
    finally:
        await consumer.stop()
        await pool.close()


async def test_a_batch_is_handed_on_without_a_look_at_headers() -> None:
    class Record:
        topic, partition, offset = "orders", 0, 7
        headers = (("bad", b"\xff"), ("null", None))

    message = await parse_raw((Record(),))
    assert message.headers == {}
    assert message.reply_to == ""
