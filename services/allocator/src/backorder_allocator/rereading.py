"""Records of input topics read again from Kafka, range by range in the order that the journal names."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from backorder_allocator import connections
from backorder_allocator.batches import Record
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.lag import input_partitions
from backorder_allocator.settings import Settings
from backorder_allocator.subscribers import read

PATIENCE_SECONDS = 10.0
"""So long Kafka may say nothing before a record counts as gone."""


class KafkaRecords:
    """Reads each partition forward once; what is fetched beyond a range is kept for the next one."""

    def __init__(self, consumer: AIOKafkaConsumer, prefix: str) -> None:
        self.consumer = consumer
        self.prefix = prefix
        self.fetched: dict[TopicPartition, deque[ConsumerRecord]] = {}

    async def read(self, topic: str, partition: int, start: int, end: int) -> list[Record]:
        """The records there are from `start` up to, but not with, `end`, which lies behind one that was worked."""
        place = self.place(topic, partition)
        fetched = self.fetched.setdefault(place, deque())
        deadline = monotonic() + PATIENCE_SECONDS
        while (not fetched or fetched[-1].offset < end - 1) and monotonic() < deadline:
            found = await self.consumer.getmany(place, timeout_ms=500, max_records=end - start)
            if found:
                fetched.extend(found[place])
                deadline = monotonic() + PATIENCE_SECONDS
        records = []
        while fetched and fetched[0].offset < end:
            records.append(read(fetched.popleft(), self.prefix))
        return [record for record in records if record.offset >= start]

    async def extent(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset of a partition, and the one behind its last."""
        place = self.place(topic, partition)
        first, end = await self.consumer.beginning_offsets([place]), await self.consumer.end_offsets([place])
        return first[place], end[place]

    def place(self, topic: str, partition: int) -> TopicPartition:
        place = TopicPartition(self.prefix + topic, partition)
        if place not in self.consumer.assignment():
            raise ConfigurationError(f"the journal names {place.topic}-{partition}, which Kafka has not")
        return place


@asynccontextmanager
async def kafka_records(settings: Settings) -> AsyncIterator[KafkaRecords]:
    """All input partitions, from the start of their logs.

    Raises NotReadyError if Kafka can't be reached in time, ConfigurationError if a topic is missing.
    """
    seconds = settings.start_timeout_seconds
    admin = await connections.patiently("Kafka", partial(connections.admin, settings), seconds)
    try:
        partitions = await input_partitions(admin, settings.topic_prefix)
    finally:
        await admin.close()
    consumer = await connections.patiently("Kafka", partial(_consumer, settings), seconds)
    try:
        consumer.assign(partitions)
        yield KafkaRecords(consumer, settings.topic_prefix)
    finally:
        await consumer.stop()


async def _consumer(settings: Settings) -> AIOKafkaConsumer:
    """A consumer of no group, which reads what the service reads: nothing that a sender aborted."""
    made = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id="backorder-allocator replay",
        auto_offset_reset="earliest",
        isolation_level="read_committed",
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
