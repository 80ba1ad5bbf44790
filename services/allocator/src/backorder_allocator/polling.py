"""Polls that lose nothing, whatever happens between the client library and the transaction.

`getmany` takes records of one partition after the other, and their positions move on. When it then meets a record that
it can't read, it raises, and what it had taken before is nowhere: the next batch would move the cursors past it. The
same goes for a batch that is dropped on its way to the handler. So whatever was taken must be settled before more is
taken; in doubt, reading goes on at the cursors.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import shuffle
from time import monotonic

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException, KafkaError, UnsupportedCodecError

from backorder_allocator import telemetry
from backorder_allocator.errors import NotReadyError
from backorder_allocator.intake import Intake

log = telemetry.logger(__name__)

IDLE_SECONDS = 0.02
LOOK_AGAIN_SECONDS = 5.0
"""How often what can't be read is tried again: somebody may have deleted it."""

Poll = Callable[[AIOKafkaConsumer], Awaitable[Sequence[ConsumerRecord]]]
ToCursors = Callable[[AIOKafkaConsumer, set[TopicPartition]], Awaitable[None]]


class Polls:
    """Takes the next records. A partition with one that can't be read stops there, loudly; the others go on."""

    def __init__(self, intake: Intake, library: Poll, to_cursors: ToCursors, max_records: int) -> None:
        self.intake = intake
        self.library = library
        self.to_cursors = to_cursors
        self.max_records = max_records
        self.settled = True
        """Whether all that was taken is worked, or will be read again. The handler sets it."""
        self.one_by_one = False
        """Since the library raised, until all can be read again."""
        self.unreadable: dict[TopicPartition, int] = {}
        """The offset at which a partition stands still. It is paused between two looks."""
        self.look_again_at = 0.0

    async def next(self, consumer: AIOKafkaConsumer) -> tuple[ConsumerRecord, ...]:
        """Records to work. Raises what the library says about Kafka, not what it says about a record."""
        if self.intake.stopping.is_set():
            await asyncio.sleep(IDLE_SECONDS)
            return ()
        if not self.settled and not await self.go_back(consumer):
            return ()
        self.settled = False
        try:
            records = tuple(await (self.each_by_itself(consumer) if self.one_by_one else self.library(consumer)))
        except Exception as error:
            if not is_about_a_record(error):
                raise
            # Which one it is shows when they are read one by one.
            log.warning("a record can't be read: going back to the cursors", **telemetry.described(error))
            telemetry.RETRIES.labels("unreadable").inc()
            self.one_by_one = True
            return ()
        self.settled = not records
        return records

    async def go_back(self, consumer: AIOKafkaConsumer) -> bool:
        """Read on from the cursors. False: not now."""
        try:
            await self.to_cursors(consumer, consumer.assignment())
        except NotReadyError:
            return False
        except (KafkaError, TimeoutError) as error:
            self.intake.failed(error, "seek")
            await self.intake.pause()
            return False
        return True

    async def each_by_itself(self, consumer: AIOKafkaConsumer) -> list[ConsumerRecord]:
        """One record a call: when the library raises, it holds no other, and the position says where it is."""
        await self.look_again(consumer)
        records: list[ConsumerRecord] = []
        partitions = list(consumer.assignment())
        shuffle(partitions)  # none comes always last
        for partition in partitions:
            try:
                while len(records) < self.max_records and (found := await consumer.getmany(partition, max_records=1)):
                    records += found[partition]
            except Exception as error:
                if not is_about_a_record(error):
                    raise
                await self.set_aside(consumer, partition, error)
        if not records:
            await asyncio.sleep(IDLE_SECONDS)
        return records

    async def set_aside(self, consumer: AIOKafkaConsumer, partition: TopicPartition, error: Exception) -> None:
        consumer.pause(partition)
        offset = await consumer.position(partition)
        if self.unreadable.get(partition) == offset:
            return
        self.unreadable[partition] = offset
        name = f"{partition.topic}-{partition.partition}"
        self.intake.stops_at(
            name, f"{name} stands still: offset {offset} can't be read: {type(error).__name__}: {error}"
        )
        log.error("a partition stands still: what is there can't be read", at=name, offset=offset, exc_info=error)

    async def look_again(self, consumer: AIOKafkaConsumer) -> None:
        """See which partitions go on again, or are another's now; from time to time, try the others."""
        assigned = consumer.assignment()
        for partition, offset in list(self.unreadable.items()):
            # Where the record was deleted, the library moves on to what is left.
            if partition not in assigned or await consumer.position(partition) > offset:
                del self.unreadable[partition]
                self.intake.goes_on(name := f"{partition.topic}-{partition.partition}")
                log.info("a partition goes on, or is another's", at=name)
                self.one_by_one = bool(self.unreadable)
        if monotonic() >= self.look_again_at:
            consumer.resume(*self.unreadable)
            self.look_again_at = monotonic() + LOOK_AGAIN_SECONDS


def is_about_a_record(error: Exception) -> bool:
    """Not about Kafka as a whole, which may pass: the library's decoder raises whatever it meets."""
    return isinstance(error, CorruptRecordException | UnsupportedCodecError) or not isinstance(
        error, KafkaError | ConsumerStoppedError
    )
