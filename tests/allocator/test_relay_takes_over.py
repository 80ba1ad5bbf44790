"""Whoever takes the relay over sets right what a producer before it may have written late, and sends nothing late."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from backorder_allocator import log, relay, topics
from backorder_allocator.connections import admin, producer
from backorder_allocator.errors import LeaseLostError
from backorder_allocator.relay import Relay
from backorder_allocator.settings import Settings
from tests.allocator.test_planning import changed, pool, run_planner

TOPIC = "availability"


@pytest.fixture
async def settings(kafka: str, unique: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ALLOCATOR_DATABASE_URL", database_url)
    monkeypatch.setenv("ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("ALLOCATOR_TOPIC_PREFIX", unique)
    made = Settings()
    client = await admin(made)
    states = await topics.compare(client, unique)
    await topics.create(client, [state for state in states if state.topic.name == TOPIC], 1)
    await client.close()
    return made


@pytest.fixture
async def sender(settings: Settings) -> AsyncIterator[Relay]:
    made = Relay("second", settings.topic_prefix, partial(producer, settings))
    yield made
    await made.close(None)


async def show(connection: asyncpg.Connection, on_hand: int) -> None:
    """One more availability of the pool A in the log."""
    await connection.execute("UPDATE pools SET on_hand = $1", on_hand)
    await changed(connection, 1)
    await run_planner(connection)


async def published(settings: Settings, count: int) -> list[int]:
    """What is on the topic, as units available."""
    consumer = AIOKafkaConsumer(
        settings.topic_prefix + TOPIC,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [json.loads((await consumer.getone()).value)["available"] for _ in range(count)]
    finally:
        await consumer.stop()


async def test_availability_that_a_frozen_relay_wrote_late_is_overwritten_with_what_is_current(
    connection: asyncpg.Connection, settings: Settings, sender: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool(connection, on_hand=1, causes=[])
    await run_planner(connection)
    await show(connection, 2)
    # The first relay took the lease, was frozen before it could send, and its lease ended.
    frozen = await log.take_lease(connection, "first", 0)
    assert frozen is not None
    await sender.turn(connection)
    await show(connection, 3)
    await sender.turn(connection)
    # Its messages arrive only now.
    late: AIOKafkaProducer = await producer(settings)
    for logged in await log.events_to_publish(connection, frozen, 2):
        topic, key, value, headers = sender.message(logged.event)
        await late.send_and_wait(topic, value, key, headers=headers)
    await late.stop()
    assert await published(settings, 5) == [1, 2, 3, 1, 2]
    await sender.turn(connection)
    assert sender.in_doubt is not None
    # By then it has given up for certain.
    over_at = sender.in_doubt.over_at
    monkeypatch.setattr(relay, "monotonic", lambda: over_at)
    await sender.turn(connection)
    assert await published(settings, 6) == [1, 2, 3, 1, 2, 3]
    assert sender.in_doubt is None


async def test_only_what_may_have_been_overwritten_is_published_again(connection: asyncpg.Connection) -> None:
    await pool(connection, on_hand=1, causes=[])
    await run_planner(connection)
    await show(connection, 2)
    start = await log.take_lease(connection, "first", 60)
    assert start is not None
    first, second = await log.events_to_publish(connection, start, 10)
    after_first = log.Lease(start.epoch, first.seq, first.journal)
    after_both = log.Lease(start.epoch, second.seq, second.journal)
    assert await log.current_availability(connection, start, 2000, after_both) == [second.event]
    # What is not published yet comes in its turn; what was written before by others is as it should be.
    assert await log.current_availability(connection, start, 2000, after_first) == [first.event]
    assert await log.current_availability(connection, after_both, 2000, after_both) == []
    assert await log.current_availability(connection, start, 0, after_both) == []


async def test_a_relay_that_was_frozen_longer_than_its_lease_sends_nothing(
    connection: asyncpg.Connection, sender: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool(connection, on_hand=1, causes=[])
    await run_planner(connection)
    monkeypatch.setattr(relay, "LEASE_SECONDS", 0.0)
    with pytest.raises(LeaseLostError):
        await sender.turn(connection)
    assert await connection.fetchval("SELECT seq FROM relay") == 0
