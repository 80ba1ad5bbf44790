"""Whether reading goes on where it stopped: the client library passes over what was deleted without a word.

Where a position lies outside the log, it goes to the beginning of what is left. So the first record of a batch is
compared with where it should be. Aborted records and the ends of transactions leave holes, too; what tells them apart
is where the log begins.
"""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from backorder_allocator.errors import ConfigurationError

ASK_SECONDS = 10.0


class Gaps:
    """Knows where the next record of each partition should be."""

    def __init__(self) -> None:
        self.expected: dict[TopicPartition, int] = {}
        """0: wherever the log begins."""
        self.may_be_deleted: set[tuple[TopicPartition, int]] = set()
        """Records that can't be read, which the log asks a person to delete."""

    def reads_from(self, partition: TopicPartition, offset: int) -> None:
        """Reading was placed here."""
        self.expected[partition] = offset

    async def check(self, consumer: AIOKafkaConsumer, records: Sequence[ConsumerRecord]) -> None:
        """Raises ConfigurationError if messages are gone that were never worked, or a topic begins anew."""
        first: dict[TopicPartition, int] = {}
        ends: dict[TopicPartition, int] = {}
        for record in records:
            place = TopicPartition(record.topic, record.partition)
            first.setdefault(place, record.offset)
            ends[place] = record.offset + 1
        jumped: dict[TopicPartition, int] = {}
        for place, offset in first.items():
            expected = self.expected.get(place, 0)
            if offset < expected:
                raise ConfigurationError(
                    f"{place.topic}-{place.partition} goes on at offset {offset}, and was read up to {expected}: the "
                    "topic was made again, or cut. Start again: the checks at start say what is to be decided"
                )
            if 0 < expected < offset:
                jumped[place] = expected
        self.expected.update(ends)
        if not jumped:
            return
        async with asyncio.timeout(ASK_SECONDS):
            begins = await consumer.beginning_offsets(list(jumped))
        for place, expected in jumped.items():
            # What can't be read is deleted one by one, with all that was worked before it.
            if begins[place] > expected and not (
                begins[place] == expected + 1 and (place, expected) in self.may_be_deleted
            ):
                raise ConfigurationError(
                    f"{place.topic}-{place.partition} offsets {expected} to {begins[place] - 1} are gone, and were "
                    "never worked. Start again: the checks at start say what is to be decided"
                )
