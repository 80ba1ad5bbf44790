"""Topics read from their first record to a given end, one partition after the other, by a consumer of no group.

Whoever reads so takes part in nothing: no group, no commit, no right but to read. Memory holds one portion at a time.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from backorder_allocator import connections
from backorder_allocator.errors import ConfigurationError, NotReadyError
from backorder_allocator.settings import Settings

PORTION = 1000
PATIENCE_SECONDS = 20.0
"""So long Kafka may give nothing of what it says it has."""


class Place(NamedTuple):
    """One partition; `topic` is without prefix."""

    topic: str
    partition: int


class Extent(NamedTuple):
    """The first offset there is of a partition, and the one behind the last."""

    first: int
    end: int


class Walker:
    """Reads partitions of topics, each forward."""

    def __init__(self, consumer: AIOKafkaConsumer, prefix: str, partitions: Sequence[TopicPartition]) -> None:
        self.consumer = consumer
        self.prefix = prefix
        self.partitions = partitions
        self.first: dict[TopicPartition, int] = {}
        self.ahead: tuple[TopicPartition, int] | None = None
        """What is fetched while another partition is read, and from where on."""
        self.unreadable = 0
        """Records that the client library can't read, such as those whose header names are not UTF-8."""

    async def extents(self) -> dict[Place, Extent]:
        """Of all partitions, sorted by topic and partition."""
        # The ends last: what was published before this is asked lies below them.
        first = self.first = await self.consumer.beginning_offsets(self.partitions)
        end = await self.consumer.end_offsets(self.partitions)
        return {
            Place(each.topic.removeprefix(self.prefix), each.partition): Extent(first[each], end[each])
            for each in self.partitions
        }

    async def walk(self, place: Place, start: int, end: int) -> AsyncGenerator[list[ConsumerRecord], None]:
        """The records from `start` up to, but not with, `end`, a portion at a time."""
        partition = TopicPartition(self.prefix + place.topic, place.partition)
        if start >= end:
            return
        if self.ahead != (partition, start):
            self.consumer.seek(partition, start)
        self.consumer.resume(partition)
        self.fetch_ahead(partition)
        portion, goes_on, deadline = PORTION, start, monotonic() + PATIENCE_SECONDS
        try:
            while await self.consumer.position(partition) < end:
                try:
                    found = await self.consumer.getmany(partition, timeout_ms=500, max_records=portion)
                except (UnicodeDecodeError, ValueError):
                    # One by one up to the record that can't be read, and on behind it.
                    goes_on += portion == 1
                    self.unreadable += portion == 1
                    portion = 1
                    self.consumer.seek(partition, goes_on)
                    continue
                records = found.get(partition, ())
                if not records and monotonic() > deadline:
                    where = f"{partition.topic}-{partition.partition} from offset {goes_on} on"
                    raise NotReadyError(f"Kafka gives nothing of {where}")
                if records:
                    goes_on, deadline = records[-1].offset + 1, monotonic() + PATIENCE_SECONDS
                    yield [record for record in records if record.offset < end]
        finally:
            self.consumer.pause(partition)

    def fetch_ahead(self, partition: TopicPartition) -> None:
        """Let the library fetch the one after this in the meantime: most are short, and each first fetch is a wait."""
        self.ahead = None
        after = self.partitions.index(partition) + 1
        if after < len(self.partitions):
            following = self.partitions[after]
            self.ahead = following, self.first.get(following, 0)
            self.consumer.seek(*self.ahead)
            self.consumer.resume(following)


@asynccontextmanager
async def walker(settings: Settings, topics: Iterable[str], *, committed: bool) -> AsyncIterator[Walker]:
    """A walker over topics (names without prefix). `committed`: without what senders have not committed, or aborted.

    Raises NotReadyError if Kafka can't be reached in time, ConfigurationError if a topic is missing.
    """
    seconds = settings.start_timeout_seconds
    partitions = await connections.patiently(
        "Kafka", partial(_partitions, settings, [settings.topic_prefix + topic for topic in topics]), seconds
    )
    consumer = await connections.patiently("Kafka", partial(_consumer, settings, committed), seconds)
    try:
        consumer.assign(partitions)
        # Of partitions that are not paused, the library fetches by itself.
        consumer.pause(*partitions)
        yield Walker(consumer, settings.topic_prefix, partitions)
    except KafkaError as error:
        raise NotReadyError(f"Kafka is not reachable: {error!r}") from error
    finally:
        await consumer.stop()


async def _partitions(settings: Settings, names: Sequence[str]) -> list[TopicPartition]:
    admin = await connections.admin(settings)
    try:
        described = await admin.describe_topics(names)
    finally:
        await admin.close()
    missing = sorted(each["topic"] for each in described if each["error_code"])
    if missing:
        raise ConfigurationError(
            f"topics are missing: {', '.join(missing)}; `backorder-allocator topics --apply` makes them"
        )
    return sorted(
        TopicPartition(each["topic"], partition["partition"]) for each in described for partition in each["partitions"]
    )


async def _consumer(settings: Settings, committed: bool) -> AIOKafkaConsumer:
    made = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id="backorder-allocator audit",
        auto_offset_reset="earliest",
        isolation_level="read_committed" if committed else "read_uncommitted",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        request_timeout_ms=40_000,
    )
    try:
        await asyncio.wait_for(made.start(), connections.CONNECT_TIMEOUT_SECONDS)
    except BaseException:
        await made.stop()
        raise
    return made
