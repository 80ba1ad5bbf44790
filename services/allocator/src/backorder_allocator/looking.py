"""What Kafka has of our topics: their ids, where their partitions begin and end, and what was published last."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from pydantic_core import from_json

from backorder_allocator import connections
from backorder_allocator.errors import ConfigurationError, NotReadyError
from backorder_allocator.events import SOURCE
from backorder_allocator.settings import Settings
from backorder_allocator.topic_ids import topic_ids
from backorder_schemas import TOPICS

INPUTS = tuple(topic.name for topic in TOPICS.values() if "allocator" in topic.consumers)
OUTPUTS = tuple(topic.name for topic in TOPICS.values() if topic.messages and "allocator" in topic.producers)
NEWEST_OFFSETS = 200
"""So many at the end of each partition of our outputs are read."""
PATIENCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class TopicNow:
    """A topic of ours: `first` offset of each partition, and the one behind its last."""

    topic_id: str | None
    first: Mapping[int, int]
    end: Mapping[int, int]

    @property
    def partitions(self) -> int:
        return len(self.end)


@dataclass(frozen=True, slots=True)
class Published:
    """A record that says it is ours; `digest` is the SHA-256 of its value."""

    topic: str
    key: str
    version: int
    epoch: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class View:
    """Names of topics are without prefix."""

    topics: Mapping[str, TopicNow]
    published: Sequence[Published]


async def look(settings: Settings) -> View:
    """Ask Kafka. Raises ConfigurationError if a topic is missing."""
    prefix = settings.topic_prefix
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id="backorder-allocator guards",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        # It waits so long for each topic that it has not heard of yet.
        retry_backoff_ms=5,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        request_timeout_ms=20_000,
    )
    try:
        async with asyncio.timeout(connections.CONNECT_TIMEOUT_SECONDS):
            await consumer.start()
        async with asyncio.timeout(PATIENCE_SECONDS * 2):
            return await _look(consumer, prefix)
    finally:
        await consumer.stop()


async def _look(consumer: AIOKafkaConsumer, prefix: str) -> View:
    names = [*INPUTS, *OUTPUTS]
    ids = await topic_ids(consumer, [prefix + name for name in names])
    counts = {name: count for name, (_, count) in ids.items()}
    if not counts:
        counts = {name: len(consumer.partitions_for_topic(name) or ()) for name in await consumer.topics()}
    if missing := [prefix + name for name in names if prefix + name not in counts]:
        raise ConfigurationError(f"topics are missing: {', '.join(missing)}: run `backorder-allocator topics --apply`")
    partitions = [TopicPartition(prefix + name, number) for name in names for number in range(counts[prefix + name])]
    consumer.assign(partitions)
    consumer.pause(*partitions)
    first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    ours = [each for each in partitions if each.topic.removeprefix(prefix) in OUTPUTS]
    return View(
        {
            name: TopicNow(
                ids[prefix + name][0] if ids else None,
                {each.partition: offset for each, offset in first.items() if each.topic == prefix + name},
                {each.partition: offset for each, offset in end.items() if each.topic == prefix + name},
            )
            for name in names
        },
        await _newest(consumer, {each: (first[each], end[each]) for each in ours}, prefix),
    )


async def _newest(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, tuple[int, int]], prefix: str
) -> list[Published]:
    """The last records of partitions, up to where they end now: what is published after this is not looked at."""
    left = {each: end for each, (first, end) in spans.items() if end > first}
    for each in left:
        first, end = spans[each]
        consumer.seek(each, max(first, end - NEWEST_OFFSETS))
    consumer.resume(*left)
    deadline = monotonic() + PATIENCE_SECONDS
    found: list[Published] = []
    while left:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found += [said for record in records if (said := _read(record, prefix)) is not None]
        for each in list(left):
            # The position passes what has no record: markers of transactions, and what was compacted away.
            if await consumer.position(each) >= left[each]:
                del left[each]
                consumer.pause(each)
        if left and monotonic() > deadline:
            raise NotReadyError(
                f"Kafka gives nothing of {', '.join(f'{each.topic}-{each.partition}' for each in left)}"
            )
    return found


def _read(record: ConsumerRecord, prefix: str) -> Published | None:
    """What a record of ours says; None for a stranger's, and for what nobody can read."""
    if dict(record.headers).get("ce_source") != SOURCE.encode() or not record.value or record.key is None:
        return None
    try:
        value = from_json(record.value)
        version, epoch = value["version"], value["epoch"]
        key = record.key.decode()
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(version, int) or not isinstance(epoch, int):
        return None
    return Published(record.topic.removeprefix(prefix), key, version, epoch, sha256(record.value).digest())
