"""Whether reading goes on where it stopped: the client library passes over what was deleted without a word.

Where a position lies outside the log, it goes to the beginning of what is left. So the first record of a batch is
compared with where it should be. Aborted records and the ends of transactions leave holes, too; what tells them apart
is where the log begins.
"""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from backorder_allocator.errors import ConfigurationError
from backorder_allocator.remembering import Memory, PartitionKey

ASK_SECONDS = 10.0


async def check_for_gaps(
    consumer: AIOKafkaConsumer, records: Sequence[ConsumerRecord], memory: Memory, prefix: str
) -> None:
    """Raises ConfigurationError if messages are gone that were never worked, or a topic begins anew."""
    first: dict[TopicPartition, int] = {}
    ends: dict[PartitionKey, int] = {}
    for record in records:
        first.setdefault(TopicPartition(record.topic, record.partition), record.offset)
        ends[record.topic.removeprefix(prefix), record.partition] = record.offset + 1
    jumped: dict[TopicPartition, int] = {}
    for place, offset in first.items():
        key = (place.topic.removeprefix(prefix), place.partition)
        expected = memory.reads_on.get(key, 0)
        if offset < expected:
            raise ConfigurationError(
                f"{place.topic}-{place.partition} goes on at offset {offset}, and was read up to {expected}: the "
                "topic was made again, or cut. Start again: the checks at start say what is to be decided"
            )
        if 0 < expected < offset:
            jumped[place] = expected
    memory.reads_on.update(ends)
    if not jumped:
        return
    async with asyncio.timeout(ASK_SECONDS):
        begins = await consumer.beginning_offsets(list(jumped))
    for place, expected in jumped.items():
        if begins[place] > expected:
            raise ConfigurationError(
                f"{place.topic}-{place.partition} offsets {expected} to {begins[place] - 1} are gone, and were never "
                "worked. Start again: the checks at start say what is to be decided"
            )
