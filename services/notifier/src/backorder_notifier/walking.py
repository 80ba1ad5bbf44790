"""Topics read from their first record to a given end, one partition after the other, by a consumer of no group.

Whoever reads so takes part in nothing: no group, no commit, no right but to read. Memory holds one portion at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from backorder_notifier.errors import ConfigurationError, UnreachableError

PORTION: Final = 1000
_SECONDS: Final = 20.0  # for all that is asked of Kafka, each
PATIENCE_SECONDS: Final = 20.0
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

    async def walk(self, place: Place, start: int, end: int) -> AsyncIterator[list[ConsumerRecord]]:
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
                    raise UnreachableError(f"Kafka gives nothing of {where}")
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
async def walker(
    servers: Sequence[str], prefix: str, topics: Iterable[str], *, committed: bool
) -> AsyncIterator[Walker]:
    """A walker over topics (names without prefix). `committed`: without what senders have not committed, or aborted.

    Raises UnreachableError if Kafka can't be reached in time, ConfigurationError if a topic is missing.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(servers),
        client_id="backorder-notifier audit",
        auto_offset_reset="earliest",
        isolation_level="read_committed" if committed else "read_uncommitted",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        request_timeout_ms=40_000,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            partitions = await _partitions(servers, [prefix + topic for topic in topics])
            await consumer.start()
        consumer.assign(partitions)
        # Of partitions that are not paused, the library fetches by itself.
        consumer.pause(*partitions)
        yield Walker(consumer, prefix, partitions)
    except KafkaError as error:
        raise UnreachableError(f"Kafka is not reachable ({type(error).__name__})") from error
    finally:
        await consumer.stop()


async def _partitions(servers: Sequence[str], names: Sequence[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=list(servers), client_id="backorder-notifier audit", request_timeout_ms=int(_SECONDS * 1000)
    )
    try:
        await admin.start()
        described = await admin.describe_topics(list(names))
    finally:
        await admin.close()
    if missing := sorted(each["topic"] for each in described if each["error_code"]):
        raise ConfigurationError(
            f"topics are missing: {', '.join(missing)}; `backorder-allocator topics --apply` makes them"
        )
    return sorted(
        TopicPartition(each["topic"], partition["partition"]) for each in described for partition in each["partitions"]
    )
