"""Messages to and from the topics of a stack, for a person at a terminal."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from backorder_local.errors import LocalError
from backorder_schemas import TOPICS, DeadLetter, decode

FETCH_MS = 200


@dataclass(frozen=True)
class Outgoing:
    topic: str
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Record:
    """What Kafka gave. `timestamp_ms` since 1970."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def checked(topic: str, lines: Iterable[bytes]) -> list[Outgoing]:
    """Messages from JSON objects, one a line, each with the key that its topic wants. Raises LocalError."""
    if topic not in TOPICS:
        raise LocalError(f"There is no topic {topic!r}; there are {', '.join(TOPICS)}")
    messages = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            decoded = decode(topic, None, line.strip(), ())
            if isinstance(decoded, DeadLetter):
                raise LocalError(f"Line {number} is not a message of {topic!r} ({decoded.reason}): {decoded.detail}")
            messages.append(Outgoing(topic, TOPICS[topic].key_of(decoded.message).encode(), line.strip()))
    return messages


async def send(bootstrap_servers: str, prefix: str, messages: Sequence[Outgoing]) -> None:
    """Publishes them in order; returns when Kafka has all of them."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers.split(","), acks="all", enable_idempotence=True)
    async with producer:
        there = (await producer.client.fetch_all_metadata()).topics()
        for topic in {prefix + each.topic for each in messages} - there:
            raise LocalError(missing(topic))
        sent = [await producer.send(prefix + each.topic, each.value, key=each.key) for each in messages]
        for each in sent:
            await each


async def read(bootstrap_servers: str, topic: str, *, follow: bool) -> AsyncIterator[Record]:
    """All records of a topic (its full name) from the first on, up to what is there now or, following, for ever.

    Ordered by time within what one fetch brings; across partitions Kafka knows no order. Raises LocalError."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers.split(","), auto_offset_reset="earliest")
    async with consumer:
        if topic not in await consumer.topics():
            raise LocalError(missing(topic))
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while follow or [part for part in partitions if await consumer.position(part) < ends[part]]:
            fetched = await consumer.getmany(timeout_ms=FETCH_MS)
            records = (record for batch in fetched.values() for record in batch)
            for each in sorted(records, key=lambda record: (record.timestamp, record.partition, record.offset)):
                yield Record(each.partition, each.offset, each.timestamp, each.key, each.value)


def missing(topic: str) -> str:
    return f"Kafka has no topic {topic!r}. Topics are made by: backorder up, or backorder-allocator topics --apply"
