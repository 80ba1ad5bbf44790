"""Polls that lose nothing, whatever happens between the client library and the transaction.

`getmany` takes records of one partition after the other, and their positions move on. When it then meets a record that
it can't read, it raises, and what it had taken before is nowhere: the next batch would move the cursors past it. The
same goes for a batch that is dropped on its way to the handler. So whatever was taken must be settled before more is
worked; in doubt, reading goes on at the cursors.

While a full batch is worked, the next one is taken and decoded, in the pauses that the database makes. (Where batches
are not full, what comes meanwhile would only wait for one batch more.) Where the batch in hand fails, or partitions
come and go meanwhile, it is dropped, and reading goes on at the cursors as well.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import shuffle
from time import monotonic

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException, KafkaError, UnsupportedCodecError

from backorder_allocator import telemetry
from backorder_allocator.batches import Record
from backorder_allocator.connections import pause_seconds, worth_a_line
from backorder_allocator.errors import NotReadyError
from backorder_allocator.intake import Intake
from backorder_allocator.unpacking import MiB, portions

log = telemetry.logger(__name__)

IDLE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 5.0
POSITION_SECONDS = 5.0
LIGHT_BATCH = 16 * MiB
LIGHT_RECORD = 64 * 1024
DECODED_AT_ONCE = 50
"""Records; a millisecond, for which answers of the database wait."""
LOOK_AGAIN_SECONDS = 5.0
"""How often what can't be read is tried again: somebody may have deleted it."""

Poll = Callable[[AIOKafkaConsumer], Awaitable[Sequence[ConsumerRecord]]]
ToCursors = Callable[[AIOKafkaConsumer, set[TopicPartition]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Taken:
    """Records, and the first portion of them decoded, as far as it is."""

    records: tuple[ConsumerRecord, ...]
    decoded: Sequence[Record] = ()


@dataclass(frozen=True, slots=True)
class Ahead:
    """A batch that is being taken while another is worked; `assignments`: how often there had been any before."""

    taken: "asyncio.Task[Taken]"
    assignments: int


class Polls:
    """Takes the next records. A partition with one that can't be read stops there, loudly; the others go on."""

    def __init__(
        self,
        intake: Intake,
        library: Poll,
        to_cursors: ToCursors,
        max_records: int,
        why_full: Callable[[], Awaitable[str | None]],
        decode: Callable[[ConsumerRecord], Record],
    ) -> None:
        self.intake = intake
        self.library = library
        self.to_cursors = to_cursors
        self.max_records = max_records
        self.why_full = why_full
        """Why all input has to stand still for a while, or None."""
        self.decode = decode
        self.ahead: Ahead | None = None
        self.decoded: Sequence[Record] = ()
        """Of the batch that was taken last, the records of its first portion, where they were decoded ahead."""
        self.settled = True
        """Whether all that was taken is worked, or will be read again."""
        self.assignments = 0
        """How often partitions were assigned: what was asked for before one of these may come from anywhere."""
        self.taken_at = 0
        """How often they had been when the batch in hand was taken."""
        self.failures = 0
        """Polls that failed in a row."""
        self.one_by_one = False
        """Since the library raised, until all can be read again."""
        self.unreadable: dict[TopicPartition, int] = {}
        """The offset at which a partition stands still. It is paused between two looks."""
        self.look_again_at = 0.0

    def assigned_anew(self) -> None:
        """Partitions came or went: before anything of them is worked, reading goes to the cursors."""
        self.assignments += 1
        self.settled = False
        self.intake.batch_fails = False  # it may be another's now

    def worked(self) -> None:
        """The batch in hand is done. If partitions came meanwhile, reading has to go to their cursors all the same."""
        self.settled = self.assignments == self.taken_at

    async def next(self, consumer: AIOKafkaConsumer) -> tuple[ConsumerRecord, ...]:
        """Records to work. Whatever fails is tried again here: the library would say nothing of it to anybody."""
        self.intake.health.last_poll = monotonic()
        if self.intake.stopping.is_set():
            await asyncio.sleep(IDLE_SECONDS)
            return ()
        try:
            records = await self.some(consumer)
        except ConsumerStoppedError:
            raise
        except Exception as error:
            await self.failed(error)
            return ()
        self.failures = 0
        self.intake.health.polls_fail_with = None
        return records

    async def failed(self, error: Exception) -> None:
        """Kafka says no, or a bug: nothing that was taken is settled, so it is read again from the cursors."""
        self.failures += 1
        self.intake.health.polls_fail_with = f"{type(error).__name__}: {telemetry.text_of(error)}"
        telemetry.POLL_FAILURES.labels(type(error).__name__).inc()
        if worth_a_line(self.failures):
            said = telemetry.described(error)
            if not isinstance(error, KafkaError | TimeoutError):
                said["stack"] = telemetry.stack_of(error)
            log.warning("polls again", failures=self.failures, **said)
        await sleep_until(self.intake.stopping, pause_seconds(self.failures, LONGEST_PAUSE_SECONDS))

    async def some(self, consumer: AIOKafkaConsumer) -> tuple[ConsumerRecord, ...]:
        before = self.assignments
        if not self.settled and not await self.go_back(consumer):
            return ()
        await self.stand_still_or_go_on(consumer)
        if self.intake.health.held_by is not None and self.ahead is not None:
            await self.forget_ahead()
            self.settled = False
            return ()
        self.settled = False
        try:
            taken = await self.take(consumer)
        except Exception as error:
            if not is_about_a_record(error):
                raise
            # Which one it is shows when they are read one by one.
            log.warning("a record can't be read: going back to the cursors", **telemetry.described(error))
            telemetry.RETRIES.labels("unreadable").inc()
            self.one_by_one = True
            return ()
        if self.assignments != before:
            return ()
        self.settled = not taken.records
        self.taken_at = before
        self.decoded = taken.decoded
        if len(taken.records) >= self.max_records and is_light(taken.records) and not self.one_by_one:
            self.ahead = Ahead(asyncio.create_task(self.take_ahead(consumer)), before)
            self.ahead.taken.add_done_callback(looked_at)
        return taken.records

    async def take(self, consumer: AIOKafkaConsumer) -> Taken:
        """What was taken ahead, or what there is now."""
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            taken = await ahead.taken
            if ahead.assignments == self.assignments and taken.records:
                return taken
        if self.one_by_one:
            return Taken(tuple(await self.each_by_itself(consumer)))
        return Taken(tuple(await self.library(consumer)))

    async def take_ahead(self, consumer: AIOKafkaConsumer) -> Taken:
        """The next records, and their first portion decoded: of more, memory would hold too much at once."""
        records = tuple(await self.library(consumer))
        decoded: list[Record] = []
        if not is_light(records):
            return Taken(records)
        portion = next(portions(records), ())
        try:
            for start in range(0, len(portion), DECODED_AT_ONCE):
                decoded += [self.decode(record) for record in portion[start : start + DECODED_AT_ONCE]]
                await asyncio.sleep(0)
        except Exception:
            # A bug: whoever works the batch meets it again, and tells of it.
            return Taken(records)
        return Taken(records, decoded)

    async def forget_ahead(self) -> None:
        """Waits for it: the library takes for one caller at a time."""
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            await asyncio.wait({ahead.taken})

    async def go_back(self, consumer: AIOKafkaConsumer) -> bool:
        """Read on from the cursors. False: not now, or not for all of what is assigned by now."""
        await self.forget_ahead()
        before = self.assignments
        try:
            await self.to_cursors(consumer, consumer.assignment())
        except NotReadyError:
            return False
        self.settled = self.assignments == before
        return self.settled

    async def stand_still_or_go_on(self, consumer: AIOKafkaConsumer) -> None:
        """Where too much is unpublished, nothing more is asked for. Polls go on, so that the group keeps us."""
        why = await self.why_full()
        if why is not None:
            consumer.pause(*consumer.assignment())
            await asyncio.sleep(IDLE_SECONDS)
        elif self.intake.health.held_by is not None:
            consumer.resume(*consumer.assignment().difference(self.unreadable))
        self.intake.hold(why)

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
        offset = await position(consumer, partition)
        if self.unreadable.get(partition) == offset:
            return
        self.unreadable[partition] = offset
        self.intake.gaps.may_be_deleted.add((partition, offset))
        name = f"{partition.topic}-{partition.partition}"
        self.intake.stops_at(
            name, f"{name} stands still: offset {offset} can't be read: {type(error).__name__}: {error}"
        )
        why = telemetry.described(error) | {"stack": telemetry.stack_of(error)}
        log.error("a partition stands still: what is there can't be read", at=name, offset=offset, **why)

    async def look_again(self, consumer: AIOKafkaConsumer) -> None:
        """See which partitions go on again, or are another's now; from time to time, try the others."""
        assigned = consumer.assignment()
        for partition, offset in list(self.unreadable.items()):
            # Where the record was deleted, the library moves on to what is left.
            if partition not in assigned or await position(consumer, partition) > offset:
                del self.unreadable[partition]
                self.intake.goes_on(name := f"{partition.topic}-{partition.partition}")
                log.info("a partition goes on, or is another's", at=name)
                self.one_by_one = bool(self.unreadable)
        if monotonic() >= self.look_again_at:
            consumer.resume(*self.unreadable)
            self.look_again_at = monotonic() + LOOK_AGAIN_SECONDS


async def position(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
    """Where a partition is read next. The library waits for ever, as long as it can't find out."""
    async with asyncio.timeout(POSITION_SECONDS):
        offset: int = await consumer.position(partition)
        return offset


def is_light(records: Sequence[ConsumerRecord]) -> bool:
    """Whether a second batch like this may be in memory, and any of it be decoded while a transaction is open."""
    sizes = [len(record.value or b"") for record in records]
    return sum(sizes) <= LIGHT_BATCH and max(sizes, default=0) <= LIGHT_RECORD


def looked_at(ahead: "asyncio.Task[Taken]") -> None:
    """Of a batch that was dropped, nobody wants to hear why it could not be taken: it is taken again."""
    if not ahead.cancelled():
        ahead.exception()


async def sleep_until(woken: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()


def is_about_a_record(error: Exception) -> bool:
    """Not about Kafka as a whole, which may pass: the library's decoder raises whatever it meets."""
    return isinstance(error, CorruptRecordException | UnsupportedCodecError) or not isinstance(
        error, KafkaError | ConsumerStoppedError | TimeoutError
    )
