"""Messages to and from the topics of a stack, for a person at a terminal."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

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
    """Publishes them in order; returns when Kafka has all of them. Raises LocalError."""
    for topic in {each.topic for each in messages}:
        await partitions(bootstrap_servers, prefix + topic)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers.split(","), acks="all", enable_idempotence=True)
    async with producer:
        sent = [await producer.send(prefix + each.topic, each.value, key=each.key) for each in messages]
        await asyncio.gather(*sent)


async def read(bootstrap_servers: str, topic: str, *, follow: bool) -> AsyncIterator[Record]:
    """All records of a topic (its full name) from the first on, up to what is there now or, following, for ever.

    Ordered by time within what one fetch brings; across partitions Kafka knows no order. Raises LocalError."""
    assigned = [TopicPartition(topic, number) for number in await partitions(bootstrap_servers, topic)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers.split(","), auto_offset_reset="earliest")
    async with consumer:
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        while follow or [each for each in assigned if await consumer.position(each) < ends[each]]:
            fetched = await consumer.getmany(timeout_ms=FETCH_MS)
            records = (record for batch in fetched.values() for record in batch)
            for each in sorted(records, key=lambda record: (record.timestamp, record.partition, record.offset)):
                yield Record(each.partition, each.offset, each.timestamp, each.key, each.value)


async def partitions(bootstrap_servers: str, topic: str) -> list[int]:
    """The partitions of a topic. Raises LocalError if Kafka doesn't have it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers.split(","))
    await admin.start()
    try:
        [described] = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if described["error_code"]:
        how = "backorder up, or backorder-allocator topics --apply"
        raise LocalError(f"Kafka has no topic {topic!r}. Topics are made by: {how}")
    return sorted(each["partition"] for each in described["partitions"])
