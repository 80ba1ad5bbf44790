"""The relay alone, from a log that is full; the codec alone, beside bare pydantic on the same bytes.

The relay is measured in the process that it lives in, which has nothing else to do: what an allocator decided is kept
from being published, by a holder of the lease that is none, and then let go. Rewound, the same log is published again.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.producer.message_accumulator import BatchBuilder

from backorder_allocator import log
from backorder_allocator.log import Lease
from backorder_allocator.relay import EVENTS_AT_ONCE
from tests.bench import codec, contestants
from tests.bench.frame import Bench, Figure, Goal, Rounds, Table, Usage
from tests.bench.load import purchases
from tests.e2e.messages import Message
from tests.e2e.processes import Service, eventually
from tests.e2e.world import OUTPUTS, World

ORDERS, ORDERS_QUICK = 100_000, 12_000
ROUNDS, ROUNDS_QUICK = 3, 2
CODEC_ROUNDS, CODEC_ROUNDS_QUICK = 31, 11
WANTED_EVENTS_PER_SECOND = 50_000
WANTED_RATIO = 1.3
WAYS = (("bare in", "decode"), ("bare out", "encode"))
BATCH_BYTES = 256 * 1024
LONGEST_SECONDS = 120.0
POLL_SECONDS = 0.01

HOLD = """
    UPDATE relay
    SET holder = 'nobody', epoch = epoch + 1, lease_until = clock_timestamp() + interval '1 hour',
        seq = 0, journal = 0"""
"""The lease is somebody's who publishes nothing, and the log is to be published from its start."""
LET_GO = "UPDATE relay SET holder = NULL, lease_until = clock_timestamp()"
WAKE = "SELECT pg_notify('backorder_events', '')"


async def measure(bench: Bench) -> Figure:
    relay = Rounds()
    usage: dict[str, Usage] = {}
    async with bench.world() as world:
        service, events, orders = await full_log(world, ORDERS_QUICK if bench.quick else ORDERS)
        await publish_log(world)  # warms up the process and the topics
        records = await published(world, events)

        def used() -> Usage:
            return bench.usage(relay=service.process.pid, bench=os.getpid())

        ways: dict[str, Callable[[], Awaitable[float]]] = {
            "relay": lambda: publish_log(world),
            "one by one": lambda: publish_one_by_one(world, records),
            "batches": lambda: publish_made_batches(world, records),
            "reading": lambda: read_alone(world, events),
        }
        for _ in range(ROUNDS_QUICK if bench.quick else ROUNDS):
            await rewind(world)
            for name, way in ways.items():
                before = used()
                relay.add(name, events / await way())
                usage[name] = used() - before
    cases = codec.cases(orders, [as_message(world, record) for record in records])
    codec.measure(cases, CODEC_ROUNDS_QUICK if bench.quick else CODEC_ROUNDS)
    return Figure(
        number=9,
        title="The relay alone, the codec alone",
        how=(
            f"An allocator decides {len(orders):,} orders while nothing is published. Then its relay publishes the"
            f" {events:,} events of the log, {EVENTS_AT_ONCE:,} a turn, and the process has nothing else to do. Beside"
            " it in each round: the same records from memory by one producer with the same settings, which waits only"
            " for the acknowledgements, by the library's `send` and as batches that were made before the clock ran; and"
            " the relay's reading of the log alone. Of the codec:"
            f" {codec.RECORDS_A_CASE} records a kind, as they were on the topics; bare pydantic is `validate_json` of a"
            " TypeAdapter of that one class, and `model_dump_json`: no key, no headers, no look for keys given twice."
        ),
        tables=[relay_table(relay, usage, events), codec_table(cases)],
        goals=goals(relay, cases),
        notes=[
            (
                f"The relay does {relay.ratio('relay', 'one by one'):.2f} of what `send` does from memory, and"
                f" {relay.ratio('relay', 'batches'):.2f} of what Kafka takes as batches made before."
                " Each portion is read, sent, acknowledged and noted durably before the next one is read."
            ),
        ],
    )


def relay_table(relay: Rounds, usage: Mapping[str, Usage], events: int) -> Table:
    names = {
        "relay": "the relay",
        "one by one": "from memory by `send`",
        "batches": "from memory, batches made before",
        "reading": "reading the log alone",
    }
    return Table(
        ("", "events/s", "µs CPU an event (last round)"),
        [(what, relay.spread(name), usage[name].per(events)) for name, what in names.items()],
    )


def codec_table(cases: Sequence[codec.Case]) -> Table:
    rows = []
    for each in cases:
        took = each.took
        row = [each.name, f"{each.bytes_each:,.0f}"]
        for bare, ours in WAYS:
            row += [f"{took.median(bare):.2f}", f"{took.median(ours):.2f}", f"{took.ratio(ours, bare):.2f}"]
        rows.append(row)
    head = ("message", "bytes", "bare in, µs", "decode, µs", "ratio", "bare out, µs", "encode, µs", "ratio")
    return Table(head, rows)


def goals(relay: Rounds, cases: Sequence[codec.Case]) -> list[Goal]:
    """Of the codec the worst case counts."""
    found = [
        Goal(
            "events/s of the relay alone",
            f"≥ {WANTED_EVENTS_PER_SECOND:,}",
            relay.spread("relay"),
            relay.median("relay") >= WANTED_EVENTS_PER_SECOND,
        )
    ]
    for bare, ours in WAYS:
        ratios = {each.name: each.took.ratio(ours, bare) for each in cases}
        worst = max(ratios, key=ratios.__getitem__)
        measured = f"{min(ratios.values()):.2f} to {ratios[worst]:.2f} ({worst})"
        found.append(
            Goal(f"{ours} / bare pydantic", f"≤ {WANTED_RATIO}", measured, round(ratios[worst], 2) <= WANTED_RATIO)
        )
    return found


async def full_log(world: World, number: int) -> tuple[Service, int, Sequence[Message]]:
    """An allocator with nothing left to read, the number of events that it has to publish, and the orders."""
    load = purchases(number, seed=9)
    await world.database.execute(HOLD)
    service = await contestants.allocator(world, None)
    await world.publish(*load.stock)
    await worked(world, "stock-received", len(load.stock))
    await world.publish(*load.orders)
    await worked(world, "orders", number)
    return service, await world.number("SELECT seq FROM log_head"), load.orders


async def worked(world: World, topic: str, records: int) -> None:
    """Waits until all records of a topic are worked, and what follows from them is planned."""

    async def done() -> bool:
        worked_on = await world.number("SELECT sum(next_offset) FROM cursors WHERE topic = $1", topic)
        return worked_on >= records and not await world.number(
            "SELECT count(*) FROM pools WHERE stale_since IS NOT NULL"
        )

    await eventually(done, f"all of {topic} to be worked", LONGEST_SECONDS, world.explain)


async def publish_log(world: World) -> float:
    """Seconds from the moment that the log may be published until the relay has moved its position to the end."""
    began = perf_counter()
    await world.database.execute(LET_GO)
    await world.database.execute(WAKE)
    while await world.number("SELECT h.seq - r.seq FROM log_head h, relay r"):
        assert perf_counter() - began < LONGEST_SECONDS, world.explain()
        await asyncio.sleep(POLL_SECONDS)
    return perf_counter() - began


async def rewind(world: World) -> None:
    """To the start of the log. Who held the lease has to notice that it lost it before it is given back."""
    refused = await world.number("SELECT refused FROM relay")
    await world.database.execute(HOLD)
    await world.database.execute(WAKE)

    async def noticed() -> bool:
        return await world.number("SELECT refused FROM relay") > refused

    await eventually(noticed, "the relay to notice that it lost its lease", 10, world.explain)


def producer_of(world: World) -> AIOKafkaProducer:
    """With the relay's settings."""
    return AIOKafkaProducer(
        bootstrap_servers=world.kafka, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
    )


async def publish_one_by_one(world: World, records: Sequence[ConsumerRecord]) -> float:
    """Seconds to publish records that are in memory, by the library's own `send`."""
    async with producer_of(world) as producer:
        await know_the_topics(producer, records)
        began = perf_counter()
        sent = [
            await producer.send(record.topic, record.value, key=record.key, headers=list(record.headers))
            for record in records
        ]
        for each in sent:
            await each
        return perf_counter() - began


async def publish_made_batches(world: World, records: Sequence[ConsumerRecord]) -> float:
    """Seconds to publish them in batches that were made before the clock runs: what broker and connection take."""
    async with producer_of(world) as producer:
        await know_the_topics(producer, records)
        batches: list[tuple[str, int, BatchBuilder]] = []
        newest: dict[tuple[str, int], BatchBuilder] = {}
        for record in records:
            place = record.topic, record.partition
            said = {"key": record.key, "value": record.value, "timestamp": None, "headers": list(record.headers)}
            if place not in newest or newest[place].append(**said) is None:
                newest[place] = producer.create_batch()
                newest[place].append(**said)
                batches.append((*place, newest[place]))
        for *_, batch in batches:
            batch.close()
        began = perf_counter()
        sent = [await producer.send_batch(batch, topic, partition=partition) for topic, partition, batch in batches]
        for each in sent:
            await each
        return perf_counter() - began


async def know_the_topics(producer: AIOKafkaProducer, records: Sequence[ConsumerRecord]) -> None:
    for topic in {record.topic for record in records}:
        await producer.partitions_for(topic)


async def read_alone(world: World, events: int) -> float:
    """Seconds to read the log in the relay's portions."""
    connection = await asyncpg.connect(world.database_url, server_settings={"jit": "off"})
    try:
        position, read, began = Lease(0, 0, 0), 0, perf_counter()
        while portion := await log.events_to_publish(connection, position, EVENTS_AT_ONCE):
            position = Lease(0, portion[-1].seq, portion[-1].journal)
            read += len(portion)
        assert read == events
        return perf_counter() - began
    finally:
        await connection.close()


async def published(world: World, number: int) -> list[ConsumerRecord]:
    """All that was published, as it is on the topics."""
    consumer = AIOKafkaConsumer(bootstrap_servers=world.kafka, fetch_max_wait_ms=50)
    found: list[ConsumerRecord] = []
    async with consumer:
        consumer.assign(world.partitions(OUTPUTS))
        await consumer.seek_to_beginning()
        while len(found) < number:
            for part in (await consumer.getmany(timeout_ms=200)).values():
                found += part
    return found


def as_message(world: World, record: ConsumerRecord) -> Message:
    return Message(record.topic.removeprefix(world.prefix), record.key, record.value, tuple(record.headers))
