"""The limit: the same bytes consumed, the same rows by COPY, the same events published, and nothing decided.

The rows are those that an allocator wrote for the same orders, in the order in which they lie in its tables, and the
messages those that it published. For each portion of orders that is consumed, the portion of rows and then of messages
that belongs to it is written. Nothing is read, locked, compared or changed; decoded or encoded but by the drivers. What
can overlap does: the next poll, the COPYs of two connections, and what is on its way to Kafka.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

from backorder_schemas import TOPICS
from tests.bench.peers import common
from tests.e2e.world import OUTPUTS

RECORDS_AT_ONCE = 1000
WRITERS = 2
IN_FLIGHT = 4
"""Portions that wait for a writer, and portions that wait for Kafka's word, at most."""

COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"""
MOVE_CURSOR = """
    INSERT INTO cursors (topic, partition, next_offset) VALUES ('orders', $1, $2)
    ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset"""


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    """With our prefix."""
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Of one table, or messages: those that go with the orders that warm up, and those of the others."""

    warm: Sequence[Any]
    counted: Sequence[Any]
    columns: Sequence[str] = ()

    def between(self, spec: common.Spec, first: int, last: int) -> list[Any]:
        """What belongs to the orders from `first` to before `last`."""
        found: list[Any] = []
        if first < spec.warm:
            of = spec.warm
            found += self.warm[common.share(self.warm, first, of) : common.share(self.warm, min(last, of), of)]
        if last > spec.warm:
            of = spec.orders
            begin = max(0, first - spec.warm)
            found += self.counted[
                common.share(self.counted, begin, of) : common.share(self.counted, last - spec.warm, of)
            ]
        return found


@dataclass(frozen=True, slots=True)
class Portion:
    first: int
    last: int
    ends: dict[TopicPartition, int]


async def run(spec: common.Spec) -> None:
    tables = {name: await rows_of(spec, name, before) for name, before in spec.rows_before if name != "published"}
    messages = await published(spec, dict(spec.rows_before)["published"])
    progress = common.Progress(spec)
    producer = await common.producer(spec)
    consumer = AIOKafkaConsumer(
        spec.topic,
        bootstrap_servers=spec.kafka,
        group_id=f"{spec.prefix}limit",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    if not spec.warm:
        common.say_ready()
        await common.told_to_begin()
    polled: asyncio.Queue[Portion] = asyncio.Queue(IN_FLIGHT)
    written: asyncio.Queue[Portion] = asyncio.Queue(IN_FLIGHT)
    connections = [await common.connect(spec) for _ in range(WRITERS)]
    parts = [
        asyncio.ensure_future(consume(consumer, polled)),
        *(asyncio.ensure_future(write(each, spec, tables, polled, written)) for each in connections),
        asyncio.ensure_future(publish(producer, consumer, spec, messages, written, progress)),
    ]
    if spec.warm:
        common.say_ready()
    ended = asyncio.ensure_future(progress.ended.wait())
    await asyncio.wait([ended, *parts], return_when=asyncio.FIRST_COMPLETED)
    for part in parts:
        if part.done():
            part.result()
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)
    await consumer.stop()
    await producer.stop()
    for each in connections:
        await each.close()


async def consume(consumer: AIOKafkaConsumer, polled: "asyncio.Queue[Portion]") -> None:
    taken = 0
    while True:
        found = await consumer.getmany(timeout_ms=20, max_records=RECORDS_AT_ONCE)
        if found:
            ends = {partition: records[-1].offset + 1 for partition, records in found.items()}
            first, taken = taken, taken + sum(len(records) for records in found.values())
            await polled.put(Portion(first, taken, ends))


async def write(
    connection: asyncpg.Connection,
    spec: common.Spec,
    tables: dict[str, Rows],
    polled: "asyncio.Queue[Portion]",
    written: "asyncio.Queue[Portion]",
) -> None:
    while True:
        portion = await polled.get()
        async with connection.transaction():
            for table, rows in tables.items():
                records = rows.between(spec, portion.first, portion.last)
                if records:
                    await connection.copy_records_to_table(table, columns=rows.columns, records=records)
            for partition, end in portion.ends.items():
                await connection.execute(MOVE_CURSOR, partition.partition, end)
        await written.put(portion)


async def publish(
    producer: AIOKafkaProducer,
    consumer: AIOKafkaConsumer,
    spec: common.Spec,
    messages: Rows,
    written: "asyncio.Queue[Portion]",
    progress: common.Progress,
) -> None:
    room = asyncio.Semaphore(IN_FLIGHT)
    on_their_way = set()
    while True:
        portion = await written.get()
        await room.acquire()
        of_portion = messages.between(spec, portion.first, portion.last)
        sent = [
            await producer.send_batch(batch, topic, partition=partition)
            for (topic, partition), batch in batches_of(producer, of_portion)
        ]
        task = asyncio.ensure_future(acknowledged(sent, consumer, portion, room, progress))
        on_their_way.add(task)
        task.add_done_callback(on_their_way.discard)


def batches_of(producer: AIOKafkaProducer, messages: Sequence[Message]) -> list[tuple[tuple[str, int], BatchBuilder]]:
    """As the allocator sends: made at once, a third of the cost of what the client library's own way takes."""
    batches: list[tuple[tuple[str, int], BatchBuilder]] = []
    in_hand: dict[tuple[str, int], BatchBuilder] = {}
    for each in messages:
        to = each.topic, each.partition
        batch = in_hand.get(to)
        if batch is None or batch.append(key=each.key, value=each.value, timestamp=None, headers=each.headers) is None:
            batch = in_hand[to] = producer.create_batch()
            batches.append((to, batch))
            batch.append(key=each.key, value=each.value, timestamp=None, headers=each.headers)
    for _, batch in batches:
        batch.close()
    return batches


async def acknowledged(
    sent: Sequence["asyncio.Future[Any]"],
    consumer: AIOKafkaConsumer,
    portion: Portion,
    room: asyncio.Semaphore,
    progress: common.Progress,
) -> None:
    await asyncio.gather(*sent)
    room.release()
    await consumer.commit(portion.ends)
    progress.add(portion.last - portion.first)


async def rows_of(spec: common.Spec, table: str, before: int) -> Rows:
    """All rows of a table, in the order in which they lie there."""
    connection = await asyncpg.connect(spec.rows_url)
    try:
        columns = [row["attname"] for row in await connection.fetch(COLUMNS, table)]
        listed = ", ".join(f'"{each}"' for each in columns)
        rows = await connection.fetch(f"SELECT {listed} FROM {table} ORDER BY ctid")
    finally:
        await connection.close()
    return Rows(rows[:before], rows[before:], columns)


async def published(spec: common.Spec, before: int) -> Rows:
    """All that the allocator published, in the order in which Kafka took it."""
    found = []
    async with AIOKafkaConsumer(bootstrap_servers=spec.kafka, fetch_max_wait_ms=50) as consumer:
        partitions = [
            TopicPartition(spec.rows_prefix + topic, number)
            for topic in OUTPUTS
            for number in range(TOPICS[topic].partitions)
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while [each for each in partitions if await consumer.position(each) < ends[each]]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
    found.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
    old, new = spec.rows_prefix, spec.prefix
    messages = [
        Message(new + each.topic.removeprefix(old), each.partition, each.key, each.value, list(each.headers))
        for each in found
    ]
    return Rows(messages[:before], messages[before:])


if __name__ == "__main__":
    common.main(run)
