"""Where reading goes on, and how it shows that it does."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError

from backorder_notifier.clock import system_clock
from backorder_notifier.intake import READS
from backorder_notifier.policy import Policy
from backorder_notifier.reading import Reader
from backorder_notifier.statements import open_pool
from backorder_notifier.subscribers import parse_raw
from tests.notifier.messages import created, placed
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.world import World, eventually, get


async def test_offsets_committed_by_somebody_else_make_nothing_skipped(world: World) -> None:
    await world.send(placed(), created())
    topics = [f"{world.prefix}{topic}" for topic in READS]
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
    await world.send(placed(), created())
    await world.settled(1)
    assert await first.stop() == 0
    connection = await asyncpg.connect(world.database)
    await connection.execute("TRUNCATE orders, customers, updates, versions, outbox CASCADE")
    await connection.execute("UPDATE cursors SET next_offset = 0")
    await connection.close()
    await world.start("--accept-restored-database")
    await world.settled(1)
    # Told again, since the backup knew nothing of it; recognisable as the same.
    assert len(script.accepted) == 2
    assert len({mail["Message-ID"] for mail in script.accepted}) == 1


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
        await process.logged("batch_failed")
        assert await ready() == 503
    await world.settled(1)
    await eventually(is_ready)
    assert len(script.accepted) == 1
    # Said, not repeated with every try.
    assert process.log.count('"event": "batch_failed"') <= 2


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
            for topic in READS
            for number in range(3)
        ]
        return sum(offsets) == 2

    try:
        await eventually(committed)
    finally:
        await consumer.stop()


async def test_being_alive_is_computed_from_turns_and_lag(world: World, database: str) -> None:
    pool = await open_pool(database, size=1)
    reader = Reader(world.prefix, pool, Policy(), lambda _report: None, system_clock)
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


CRC_AT, COVERED_FROM = 17, 21
"""Where a record batch (format 2) has its CRC-32C, and from where on it counts."""


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


async def _send_unreadable(world: World, topic: str, partition: int) -> None:
    """A record whose header has a name that is not UTF-8, which the client library can't read."""
    producer = await world._connected()
    batch = producer.create_batch()
    batch.append(key=b"k", value=b"{}", timestamp=None, headers=[("HEADERNAME", b"")])
    batch.close()
    spoiled = bytearray(batch._builder.build())
    at = spoiled.index(b"HEADERNAME")
    spoiled[at : at + 2] = b"\xff\xfe"
    spoiled[CRC_AT:COVERED_FROM] = struct.pack(">I", _crc32c(bytes(spoiled[COVERED_FROM:])))
    batch._buffer = spoiled
    await (await producer.send_batch(batch, f"{world.prefix}{topic}", partition=partition))


async def test_what_the_client_library_cannot_read_stops_its_own_partition_loudly_and_no_other(world: World) -> None:
    await world.send(*(placed(str(number)) for number in range(30)))
    await _send_unreadable(world, "orders", 1)
    process = await world.start()
    url = f"http://127.0.0.1:{process.port}"
    await process.logged('"event": "unreadable"')
    assert (await asyncio.to_thread(get, f"{url}/readyz"))[0] == 503
    # What came before it in its partition was read, and what the library had in hand of others is not lost.
    await world.send(*(created(str(number)) for number in range(30)))
    await world.settled(30)
    metrics = (await asyncio.to_thread(get, f"{url}/metrics"))[1]
    assert f'backorder_notifier_unreadable{{partition="1",topic="{world.prefix}orders"}} 1.0' in metrics
    assert (await asyncio.to_thread(get, f"{url}/livez"))[0] == 200  # a restart would not mend it
    assert process.log.count('"event": "unreadable"') == 1
    assert await process.stop() == 0


async def test_what_the_library_took_and_never_handed_over_is_taken_again(world: World) -> None:
    for number in range(5):
        await world.send(placed("same", id=f"copy-{number}"))
    errors: list[Exception] = [KafkaConnectionError("after it took them")]

    async def library(consumer: AIOKafkaConsumer) -> Sequence[ConsumerRecord]:
        taken = [record for part in (await consumer.getmany(timeout_ms=100)).values() for record in part]
        if taken and errors:
            raise errors.pop(0)
        return taken

    async def some() -> list[int]:
        try:
            return [record.offset for record in await reader.poll(library, consumer)]
        except KafkaConnectionError:
            return []

    async with (
        asyncpg.create_pool(world.database, min_size=1, max_size=2) as pool,
        AIOKafkaConsumer(
            bootstrap_servers=world.kafka,
            group_id=f"{world.prefix}notifier",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        ) as consumer,
    ):
        reader = Reader(world.prefix, pool, Policy(), lambda _report: None, system_clock)
        reader.consumer = lambda: consumer
        consumer.assign([TopicPartition(f"{world.prefix}orders", number) for number in range(3)])
        await reader.on_partitions_assigned(consumer.assignment())
        assert await eventually(some) == [*range(5)]  # what it had taken when it raised
        assert not errors
        # The handler was never called.
        records = await eventually(lambda: reader.poll(library, consumer))
        assert [record.offset for record in records] == [*range(5)]
        await reader.take(records)
        assert not await some()
