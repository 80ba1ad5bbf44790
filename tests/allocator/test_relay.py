"""The relay on a real Kafka: it publishes what was committed, in order, by one holder; a fenced one moves nothing."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from time import monotonic

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.partitioner import murmur2

from backorder_allocator import log, relay, topics
from backorder_allocator.connections import SESSION, admin, producer
from backorder_allocator.errors import LeaseLostError, NotReadyError
from backorder_allocator.loading import Context
from backorder_allocator.publishing import Publisher
from backorder_allocator.relay import Relay
from backorder_allocator.settings import Settings
from backorder_schemas import BackorderCreated, BackorderFilled, Decoded, Versions, decode
from tests.allocator.records import Partitions
from tests.allocator.test_batches import order, receipt, work


@pytest.fixture
async def settings(kafka: str, unique: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ALLOCATOR_DATABASE_URL", database_url)
    monkeypatch.setenv("ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("ALLOCATOR_TOPIC_PREFIX", unique)
    made = Settings()
    client = await admin(made)
    await topics.create(client, [s for s in await topics.compare(client, unique) if s.topic.name in USED], 1)
    await client.close()
    return made


USED = {"allocations", "backorders", "allocator.dlq"}


@pytest.fixture
async def relays(settings: Settings) -> AsyncIterator[tuple[Relay, Relay]]:
    pair = tuple(Relay(name, settings.topic_prefix, partial(producer, settings)) for name in ("first", "second"))
    yield pair[0], pair[1]
    for each in pair:
        await each.close(None)


async def published(settings: Settings, topic: str, count: int) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(
        settings.topic_prefix + topic,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def test_every_committed_event_is_published_in_order_with_its_headers(
    connection: asyncpg.Connection, settings: Settings, relays: tuple[Relay, Relay]
) -> None:
    history = [*(order(str(number), 2) for number in range(30)), receipt("r1", 31)]
    await work(connection, Partitions().records(history), Context())
    while await relays[0].turn(connection):
        pass
    records = await published(settings, "backorders", 30 + 16)
    versions: Versions[str] = Versions()
    for record in records:
        read = decode("backorders", record.key, record.value, record.headers)
        assert isinstance(read, Decoded)
        assert read.key_matches
        assert isinstance(read.message, BackorderCreated | BackorderFilled)
        verdict = versions.feed("backorders", read.message.order_id, 1, read.message.version, read.message.id)
        assert (verdict.action, verdict.gap) == ("apply", None)
        headers = dict(record.headers)
        assert headers["ce_id"].decode() == read.message.id
        assert headers["ce_source"] == b"/backorder/allocator"
    assert await connection.fetchval("SELECT h.seq = r.seq FROM log_head h, relay r")


async def test_only_one_process_publishes_until_its_lease_ends(
    connection: asyncpg.Connection, relays: tuple[Relay, Relay]
) -> None:
    first, second = relays
    assert await log.take_lease(connection, first.holder, 60) is not None
    await second.turn(connection)
    assert second.lease is None
    await connection.execute("UPDATE relay SET lease_until = '2000-01-01Z'")
    await second.turn(connection)
    assert second.lease is not None


async def test_a_relay_that_was_frozen_cannot_move_the_position_any_more(
    connection: asyncpg.Connection, relays: tuple[Relay, Relay]
) -> None:
    old = await log.take_lease(connection, "first", 0)
    new = await log.take_lease(connection, "second", 60)
    assert old is not None
    assert new is not None
    assert new.epoch == old.epoch + 1
    with pytest.raises(LeaseLostError):
        await log.move(connection, replace(old, seq=5, journal=1))
    assert await connection.fetchval("SELECT seq FROM relay") == 0


async def test_a_position_moves_only_after_kafka_has_acknowledged(
    connection: asyncpg.Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await work(connection, Partitions().records([order("1", 2)]), Context())
    asked: list[AIOKafkaProducer] = []

    async def refused(self: AIOKafkaProducer, *_: object, **__: object) -> asyncio.Future[None]:
        asked.append(self)
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(KafkaError("refused by a test"))
        return lost

    sender = Relay("first", settings.topic_prefix, partial(producer, settings))
    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaProducer, "send_batch", refused)
        with pytest.raises(NotReadyError):
            await sender.turn(connection)
    assert await connection.fetchval("SELECT seq FROM relay") == 0
    # A producer that had an error is not used again.
    await sender.turn(connection)
    assert sender.producer is not asked[0]
    assert await connection.fetchval("SELECT seq FROM relay") == 1
    await sender.close(connection)


async def test_a_log_longer_than_one_portion_is_published_to_its_end(
    connection: asyncpg.Connection, settings: Settings, relays: tuple[Relay, Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "EVENTS_AT_ONCE", 7)
    partitions = Partitions()
    context = Context()
    for start in range(0, 30, 10):
        history = [order(str(number), 1) for number in range(start, start + 10)]
        await work(connection, partitions.records(history), context)
    turns = 1
    while await relays[0].turn(connection):
        turns += 1
    assert turns == 5
    records = await published(settings, "backorders", 30)
    assert sorted(int(record.key) for record in records) == list(range(30))


async def test_what_is_sent_keeps_the_order_of_its_keys_beyond_one_batch_and_goes_where_the_java_client_sends_it(
    settings: Settings, relays: tuple[Relay, Relay]
) -> None:
    first, topic = relays[0], settings.topic_prefix + "backorders"
    first.lease_ends = monotonic() + 60
    keys = [f"order {number}" for number in range(20)]
    values = [(key, f"{round_} {'x' * 9000}") for round_ in range(40) for key in keys]  # 7 MB: some batches a partition
    await first.send([(topic, key.encode(), value.encode(), [("h", key.encode())]) for key, value in values])
    records = await published(settings, "backorders", len(values))
    assert {record.headers for record in records} == {(("h", key.encode()),) for key in keys}
    assert {(record.key, record.partition) for record in records} == {
        (key.encode(), (murmur2(key.encode()) & 0x7FFFFFFF) % 6) for key in keys
    }
    for key in keys:
        assert [record.value for record in records if record.key == key.encode()] == [
            value.encode() for of_key, value in values if of_key == key
        ]


async def test_records_without_key_or_value_are_sent_as_they_are(
    settings: Settings, relays: tuple[Relay, Relay]
) -> None:
    first, topic = relays[0], settings.topic_prefix + "allocator.dlq"
    first.lease_ends = monotonic() + 60
    await first.send([(topic, None, None, []), (topic, None, b"v", []), (topic, b"k", None, [])])
    records = await published(settings, "allocator.dlq", 3)
    assert {(record.key, record.value) for record in records} == {(None, None), (None, b"v"), (b"k", None)}


async def test_who_lost_the_lease_unnoticed_sends_a_dead_letter_once_and_stops(
    connection: asyncpg.Connection, settings: Settings, relays: tuple[Relay, Relay]
) -> None:
    first = relays[0]
    await first.turn(connection)
    await work(connection, [Partitions().broken("orders", "not_json")], Context())
    # As when the database's clock jumps: by our own clock the lease holds for seconds.
    await connection.execute("UPDATE relay SET epoch = epoch + 1, holder = 'another'")
    first.letters_at = 0.0
    with pytest.raises(LeaseLostError):
        await first.turn(connection)
    assert len(await published(settings, "allocator.dlq", 1)) == 1
    assert not await connection.fetchval("SELECT published FROM dead_letters")


async def test_a_lease_is_renewed_before_it_ends_and_not_in_every_turn(
    connection: asyncpg.Connection, relays: tuple[Relay, Relay]
) -> None:
    first = relays[0]
    until = "SELECT lease_until FROM relay"
    await first.turn(connection)
    taken = await connection.fetchval(until)
    await first.turn(connection)
    assert await connection.fetchval(until) == taken
    first.lease_ends = monotonic() + relay.RENEW_SECONDS - 0.1
    await first.turn(connection)
    assert await connection.fetchval(until) > taken


async def test_who_cannot_reach_kafka_lets_another_process_publish(
    connection: asyncpg.Connection, database_url: str, settings: Settings
) -> None:
    await work(connection, Partitions().records([order("1", 2)]), Context())

    async def cut_off() -> AIOKafkaProducer:
        raise KafkaConnectionError("this process sees no broker")

    connect = partial(asyncpg.connect, database_url, server_settings=SESSION)
    first = Publisher(Relay("first", settings.topic_prefix, cut_off), connect)
    second = Publisher(Relay("second", settings.topic_prefix, partial(producer, settings)), connect)
    assert await log.take_lease(connection, "first", 3600) is not None
    async with asyncio.TaskGroup() as group:
        for each in (first, second):
            group.create_task(each.run())
        (record,) = await published(settings, "backorders", 1)
        for each in (first, second):
            each.last_turn.set()
            each.relay.wake.set()
    assert record.key == b"1"
    assert first.failing_with is not None
    assert await connection.fetchval("SELECT seq FROM relay") == 1


async def test_the_lease_is_given_back_at_the_end_so_that_another_goes_on_at_once(
    connection: asyncpg.Connection, database_url: str, relays: tuple[Relay, Relay]
) -> None:
    first, second = relays
    await first.turn(connection)
    await first.close(connection)
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    await second.turn(other)
    assert second.lease is not None
    await other.close()
