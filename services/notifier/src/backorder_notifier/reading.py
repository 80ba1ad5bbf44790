"""Poll batches into the database, each record once; and where reading goes on: positions are ours, in PostgreSQL."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError

from backorder_notifier import store
from backorder_notifier.clock import Clock, moment_of
from backorder_notifier.counting import count_and_log
from backorder_notifier.errors import NotifierError, describe, is_not_ready
from backorder_notifier.fail_points import reached
from backorder_notifier.fences import LostCommitsError, Memory, PassedOverError, WentBackError
from backorder_notifier.intake import Report, take_batch
from backorder_notifier.policy import Policy
from backorder_notifier.probing import probe
from backorder_notifier.pulse import collect_what_failed, complain, pause
from backorder_notifier.rows import Record
from backorder_notifier.statements import Connection, borrowed
from backorder_notifier.telemetry import (
    BATCH_SECONDS,
    BATCHES,
    LAG,
    LOST_COMMITS,
    UNREADABLE,
    logger,
    timed,
)
from backorder_notifier.unpacking import portions

log = logger("reading")

_PLACE_SECONDS: Final = 5.0
_COMMIT_SECONDS: Final = 5.0
_STALE_SECONDS: Final = 60.0
_LONGEST_PAUSE_SECONDS: Final = 15.0

Poll = Callable[[AIOKafkaConsumer], Awaitable[Sequence[ConsumerRecord]]]


class Reader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Poll batches into the database, each record once. Also keeps the consumer where our own cursors say."""

    def __init__(
        self, prefix: str, pool: asyncpg.Pool, policy: Policy, committed: Callable[[Report], None], clock: Clock
    ) -> None:
        self._prefix = prefix
        self.consumer: Callable[[], AIOKafkaConsumer | None] = lambda: None
        self._pool = pool
        self._policy = policy
        self._committed = committed
        self._clock = clock
        # Held for a batch and for a change of assignment: a rebalance waits for the batch in hand.
        self._busy = asyncio.Lock()
        self._placed: set[TopicPartition] = set()
        self._unreadable: set[TopicPartition] = set()
        self._hurry = asyncio.Event()
        self._stopping = False
        # An end that a person should read about: nothing is read after it, and the process ends with it.
        self.ended_by: NotifierError | None = None
        self._placing: asyncio.Task[None] | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._place_failures = 0
        self._left_alone_since: float | None = None
        # Whether all that the library took was worked, or will be read again.
        self._settled = True
        self._last_turn = time.monotonic()
        self._memory = Memory()
        # The offset that the library should hand over next.
        self._expected: dict[TopicPartition, int] = {}

    # Whether the world is still where it was

    async def compare(self, connection: Connection) -> None:
        """Look whether the database has lost commits, also of partitions where nothing comes."""
        known = dict(self._memory.known)  # before the database is asked: a batch may be committed meanwhile
        positions = await store.read_cursors(connection, {topic for topic, _ in known})
        try:
            self._memory.check(positions, known)
        except LostCommitsError as error:
            self._give_up(error)

    def _give_up(self, error: NotifierError) -> None:
        """Nothing more is read; the process ends."""
        if self.ended_by is None:
            self.ended_by = error
            if isinstance(error, LostCommitsError):
                LOST_COMMITS.inc()
            log.error("reading_ended", why=type(error).__name__, says=str(error))

    # Assignment

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Awaited before this member rejoins, while heartbeats go on."""
        self._hurry.set()
        try:
            async with self._busy:
                self._placed.clear()
                self._memory.let_go()
                self._failures = 0  # what failed is another's to do, or comes again
                self._unreadable.clear()  # they are paused no more
                UNREADABLE.clear()
        finally:
            if not self._stopping:
                self._hurry.clear()  # else no failure would ever be paused after

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Go on where our own cursors say, from the start of the log without one; never from the committed offset.

        Must not take long, since heartbeats begin after it: while the database is away the partitions are paused, and
        placed when it is back.
        """
        async with self._busy:
            self._placed.clear()
            self._memory.let_go()
            await self._place_or_wait(set(assigned))

    async def _place_or_wait(self, partitions: set[TopicPartition]) -> bool:
        """False: they are paused until the database is back."""
        if not partitions or await self._place(partitions):
            return True
        # A newer assignment may have come meanwhile, which has its own placing.
        self._require_consumer().pause(*(partitions & self._require_consumer().assignment()))
        if self._placing is not None:
            self._placing.cancel()
        self._placing = asyncio.create_task(self._place_later(partitions))
        return False

    async def _place_later(self, partitions: set[TopicPartition]) -> None:
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5))  # noqa: S311
            async with self._busy:
                consumer = self.consumer()
                if consumer is None or not partitions <= consumer.assignment():
                    return  # a newer assignment has its own placing
                if await self._place(partitions):
                    consumer.resume(*partitions)
                    return

    async def _place(self, partitions: set[TopicPartition]) -> bool:
        consumer = self._require_consumer()
        try:
            async with asyncio.timeout(_PLACE_SECONDS):
                async with borrowed(self._pool) as connection:
                    cursors = await store.read_cursors(connection, {each.topic for each in partitions})
                self._memory.see({each: cursors.get(each, 0) for each in map(tuple, partitions)})
                for each in partitions:
                    self._expected.pop(each, None)
                    if (offset := cursors.get(tuple(each))) is not None:
                        consumer.seek(each, offset)
                        self._expected[each] = offset
                if new := partitions - self._expected.keys():
                    await consumer.seek_to_beginning(*new)
                reached("assignment.placed")
        except WentBackError as error:
            self._give_up(error)
            return False
        except Exception as error:
            self._place_failures += 1
            complain(log, "cursors_not_read", self._place_failures, error)
            return False
        self._place_failures = 0
        self._placed |= partitions
        log.info("assigned", partitions=sorted(f"{each.topic}-{each.partition}" for each in partitions))
        return True

    def _require_consumer(self) -> AIOKafkaConsumer:
        consumer = self.consumer()
        if consumer is None:
            raise IllegalStateError("the consumer is gone")
        return consumer

    # Polling

    async def poll(self, library: Poll, consumer: AIOKafkaConsumer) -> Sequence[ConsumerRecord]:
        """As the library polls. What its decoder can't read (a header name that is not UTF-8) would crash its loop for
        ever, unseen, and stop all partitions: here it stops its own, loudly."""
        if self.ended_by is not None:
            await asyncio.sleep(1)
            return []
        if self._is_left_alone(consumer):
            async with self._busy:
                left = consumer.assignment() - self._placed
                if await self._place_or_wait(left):
                    consumer.resume(*(left & consumer.assignment()))
        if not self._settled:
            # What it took before is nowhere: it raised, or the batch was dropped on its way to the handler.
            async with self._busy:
                await self._go_back()
        self._settled = False
        try:
            records = await library(consumer)
        except (KafkaError, ConsumerStoppedError):
            raise
        except Exception as error:
            log.error("poll_failed", **describe(error))
            async with self._busy:
                records = await self._set_aside(consumer) if await self._go_back() else []
            if not records:
                await asyncio.sleep(1)
        self._settled = not records
        return records

    def _is_left_alone(self, consumer: AIOKafkaConsumer) -> bool:
        """Partitions are ours for a while, and nobody is about to place them: what should have was cut off."""
        waits = self._placing is not None and not self._placing.done()
        if waits or self._busy.locked() or consumer.assignment() <= self._placed:
            self._left_alone_since = None
        elif self._left_alone_since is None:
            self._left_alone_since = time.monotonic()
        return self._left_alone_since is not None and time.monotonic() - self._left_alone_since > _PLACE_SECONDS

    async def _go_back(self) -> bool:
        """To the cursors, with all that can be read: the library may have moved on past what it never handed over."""
        partitions = self._placed - self._unreadable
        self._placed -= partitions
        return await self._place_or_wait(partitions)

    async def _set_aside(self, consumer: AIOKafkaConsumer) -> list[ConsumerRecord]:
        """Pause the partitions that can't be read on; returns what comes before the place where it ends."""
        found = await probe(consumer, self._placed - self._unreadable)
        for partition, (offset, error) in found.unreadable.items():
            consumer.pause(partition)
            UNREADABLE.labels(partition.topic, str(partition.partition)).set(1)
            log.error(
                "unreadable", topic=partition.topic, partition=partition.partition, offset=offset, **describe(error)
            )
        self._unreadable |= found.unreadable.keys()
        return found.readable

    # Batches

    async def take(self, records: Sequence[ConsumerRecord]) -> None:
        """The handler. No exception leaves it: FastStream would log and forget the batch."""
        if self.ended_by is not None:
            return
        async with self._busy:
            fresh = await self._current(records)
            try:
                if fresh:
                    await self._nothing_is_passed_over(fresh)
                    # Some time limit ends a transaction that touches too much: it would fail in the same way for ever.
                    at_once = max(1, len(fresh) >> self._failures)
                    for start in range(0, len(fresh), at_once):
                        for portion in portions(fresh[start : start + at_once]):
                            await self._take(portion)
                self._failures = 0
                self._settled = True
            except NotifierError as error:
                self._give_up(error)
            except Exception as error:
                self._seek_back(fresh)
                self._settled = True  # where even that fails, the next poll goes back to the cursors
                await self._back_off(fresh, error)
            finally:
                self._last_turn = time.monotonic()

    async def _current(self, records: Sequence[ConsumerRecord]) -> list[ConsumerRecord]:
        """Without records fetched before a seek: beginning at the committed offset they could leave a gap behind."""
        consumer = self.consumer()
        last = {TopicPartition(record.topic, record.partition): record.offset for record in records}
        usable = set()
        for partition in last.keys() & self._placed:
            try:
                async with asyncio.timeout(_PLACE_SECONDS):
                    if consumer is not None and await consumer.position(partition) > last[partition]:
                        usable.add(partition)
            except (KafkaError, TimeoutError):
                continue  # not ours any more, or being placed anew
        return [record for record in records if TopicPartition(record.topic, record.partition) in usable]

    async def _nothing_is_passed_over(self, records: Sequence[ConsumerRecord]) -> None:
        """Raises PassedOverError where the library went elsewhere by itself, which it does without a word when the log
        no longer has the offset it asks for: retention was faster than we, or the topic was deleted and made again."""
        first: dict[TopicPartition, int] = {}
        for record in records:
            first.setdefault(TopicPartition(record.topic, record.partition), record.offset)
        for partition, offset in first.items():
            expected = self._expected.get(partition, offset)
            if offset > expected:
                # Transactions and compaction leave holes, too.
                async with asyncio.timeout(_PLACE_SECONDS):
                    begins = await self._require_consumer().beginning_offsets([partition])
                if begins[partition] <= expected:
                    continue
            if offset != expected:
                raise PassedOverError((partition.topic, partition.partition), expected, offset)

    async def _take(self, records: Sequence[ConsumerRecord]) -> None:
        now = self._clock()
        batch = [_as_record(self._prefix, record) for record in records]
        with timed(BATCH_SECONDS):
            async with borrowed(self._pool) as connection:
                report = await take_batch(connection, batch, now, self._policy, self._memory)
        BATCHES.labels("committed").inc()
        count_and_log(report)
        log.debug("batch", records=len(batch), **_where(records), **report.outcomes)
        self._committed(report)
        self._expected |= {TopicPartition(each.topic, each.partition): each.offset + 1 for each in records}
        await self._commit({TopicPartition(each.topic, each.partition): each.offset + 1 for each in records})

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        """A hint for tools that show lag. One that fails is harmless; aiokafka would retry it for ever."""
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                await self._require_consumer().commit(offsets)
        except Exception as error:
            log.info("offsets_not_committed", **describe(error))

    async def _back_off(self, records: Sequence[ConsumerRecord], error: Exception) -> None:
        """Again after a while: the world may be ready then. A bug stops reading, loudly, until it is mended."""
        collect_what_failed()
        self._failures += 1
        self._failed_at = time.monotonic()
        is_bug = not is_not_ready(error)
        BATCHES.labels("bug" if is_bug else "not_ready").inc()
        complain(log, "batch_failed", self._failures, error, **_where(records))
        try:
            async with asyncio.timeout(pause(self._failures, _LONGEST_PAUSE_SECONDS)):
                await self._hurry.wait()
        except TimeoutError:
            pass

    def _seek_back(self, records: Sequence[ConsumerRecord]) -> None:
        """Read them again, where their partitions are still ours."""
        consumer = self.consumer()
        first: dict[TopicPartition, int] = {}
        for record in records:
            first.setdefault(TopicPartition(record.topic, record.partition), record.offset)
        for partition, offset in first.items():
            if consumer is not None and partition in consumer.assignment():
                consumer.seek(partition, offset)
                self._expected[partition] = min(offset, self._expected.get(partition, offset))

    # Health

    def hurry(self) -> None:
        """Cut a backoff short: the process stops."""
        self._stopping = True
        self._hurry.set()

    async def lag(self) -> dict[TopicPartition, int] | None:
        """Records not yet read, by partition; None while that is not known."""
        consumer = self.consumer()
        if consumer is None:
            return None
        lags: dict[TopicPartition, int] = {}
        try:
            async with asyncio.timeout(0.5):
                for each in consumer.assignment():
                    highwater = consumer.highwater(each)
                    if highwater is None:
                        return None
                    lags[each] = max(0, highwater - await consumer.position(each))
        except (KafkaError, TimeoutError):
            return None
        LAG.clear()  # of partitions that are another's now
        for partition, records in lags.items():
            LAG.labels(partition.topic, str(partition.partition)).set(records)
        return lags

    async def is_alive(self) -> bool:
        """A batch was turned round lately, or there is nothing to read and Kafka said so lately."""
        if time.monotonic() - self._last_turn < _STALE_SECONDS:
            return True
        consumer, lags = self.consumer(), await self.lag()
        if consumer is None or lags is None:
            return False
        # What can't be read is nothing that a restart would mend: it shows in is_ready.
        readable = consumer.assignment() - self._unreadable
        if any(lags[partition] for partition in readable):
            return False
        polled = [consumer.last_poll_timestamp(partition) for partition in readable]
        return all(stamp is not None and time.time() - stamp / 1000 < _STALE_SECONDS for stamp in polled)

    def is_ready(self) -> bool:
        """Reading, or a member without partitions. Not while batches fail, cursors are unknown or one is stuck."""
        consumer = self.consumer()
        # Not for ever: what failed once may have been done by another meanwhile, and nothing more come.
        fails = self._failures and time.monotonic() - self._failed_at < _STALE_SECONDS
        if consumer is None or fails or self._unreadable:
            return False
        placed: bool = consumer.assignment() <= self._placed
        return placed


def _where(records: Sequence[ConsumerRecord]) -> dict[str, Any]:
    if not records:
        return {}
    return {"topic": records[-1].topic, "partition": records[-1].partition, "offset": records[-1].offset}


def _as_record(prefix: str, record: ConsumerRecord) -> Record:
    return Record(
        topic=record.topic.removeprefix(prefix),
        full_topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        recorded_at=moment_of(record.timestamp),
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )
