"""What Kafka says of our topics, read once before anything else: ids, where each log begins and ends, and what we
published last."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import UnknownTopicOrPartitionError

from backorder_notifier.intake import READS
from backorder_notifier.outcomes import SOURCE
from backorder_notifier.topic_ids import topic_ids

_SECONDS: Final = 20.0
_NEWEST: Final = 200  # records of a partition of notifications that are looked at


@dataclass(frozen=True, slots=True)
class TopicView:
    """`topic_id`: 0 where the broker doesn't tell. By partition: the first offset there is, and the next one."""

    topic_id: UUID
    first: Mapping[int, int]
    end: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Published:
    """One outcome of ours as it is on `notifications`. `digest`: SHA-256 of its bytes."""

    partition: int
    offset: int
    order_id: str
    epoch: int
    version: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class KafkaView:
    """The input topics by their full names, and our newest outcomes."""

    topics: Mapping[str, TopicView]
    published: Sequence[Published]


async def look(servers: Sequence[str], prefix: str) -> KafkaView:
    """Raises KafkaError or TimeoutError if Kafka can't be reached or a topic is missing."""
    inputs, output = [f"{prefix}{topic}" for topic in READS], f"{prefix}notifications"
    async with asyncio.timeout(_SECONDS), _connected(servers) as (client, consumer):
        known = await topic_ids(client, [*inputs, output])
        if len(known) < len(inputs) + 1:
            raise UnknownTopicOrPartitionError
        partitions = [TopicPartition(topic, number) for topic, (_, numbers) in known.items() for number in numbers]
        end = await consumer.end_offsets(partitions)
        first = await consumer.beginning_offsets(partitions)
        newest = {each: max(first[each], end[each] - _NEWEST) for each in partitions if each.topic == output}
        published = [outcome async for outcome in _outcomes(consumer, newest, end)]
    views = {
        topic: TopicView(
            known[topic][0],
            {each.partition: first[each] for each in partitions if each.topic == topic},
            {each.partition: end[each] for each in partitions if each.topic == topic},
        )
        for topic in inputs
    }
    return KafkaView(views, published)


@contextlib.asynccontextmanager
async def _connected(servers: Sequence[str]) -> AsyncIterator[tuple[AIOKafkaClient, AIOKafkaConsumer]]:
    client = AIOKafkaClient(bootstrap_servers=list(servers), client_id="backorder-notifier start")
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(servers),
        client_id="backorder-notifier start",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        retry_backoff_ms=5,  # waited once for each topic that it has not heard of
    )
    try:
        await asyncio.gather(client.bootstrap(), consumer.start())
        yield client, consumer
    finally:
        await asyncio.gather(client.close(), consumer.stop())


async def _outcomes(
    consumer: AIOKafkaConsumer, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncIterator[Published]:
    """Ours between these offsets."""
    left = {each: begin for each, begin in begins.items() if begin < ends[each]}
    if not left:
        return
    consumer.assign(list(left))
    for partition, begin in left.items():
        consumer.seek(partition, begin)
    while left:
        for records in (await consumer.getmany(*left, timeout_ms=200)).values():
            for found in _ours(records):
                yield found
        for partition in list(left):
            if await consumer.position(partition) >= ends[partition]:
                del left[partition]


def _ours(records: Iterable[ConsumerRecord]) -> Iterable[Published]:
    for record in records:
        if ("ce_source", SOURCE.encode()) not in record.headers or record.value is None:
            continue
        try:
            told: dict[str, Any] = json.loads(record.value)
            digest = hashlib.sha256(record.value).digest()
            yield Published(record.partition, record.offset, told["order_id"], told["epoch"], told["version"], digest)
        except (ValueError, KeyError, TypeError):
            continue  # somebody else's, whatever it says
