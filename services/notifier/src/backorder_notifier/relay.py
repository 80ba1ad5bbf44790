"""Publishes outcomes and dead letters, in the order in which they were committed. One process at a time does it."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from backorder_notifier import store
from backorder_notifier.dead_letter_records import LEFT_OUT, as_record
from backorder_notifier.errors import NotifierError, describe
from backorder_notifier.fail_points import reached
from backorder_notifier.fences import LostCommitsError
from backorder_notifier.pulse import Pulse
from backorder_notifier.rows import DeadLetterRow, Headers, OutboxRow
from backorder_notifier.statements import Connection, borrowed
from backorder_notifier.telemetry import FENCED, LOST_COMMITS, PUBLISHED, logger

log = logger("relay")

LEASE_NAME: Final = "relay"
_LEASE: Final = timedelta(seconds=20)
_PUBLISH_SECONDS: Final = 10.0  # well within the lease
_BATCH: Final = 500
_BATCH_BYTES: Final = 8 * 1024 * 1024  # of dead letters, which may be 1 MiB each
_POLL_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_STOP_PRODUCER_SECONDS: Final = 2.0
_LINGER_SECONDS: Final = 0.05  # what comes together is published together


class Relay:
    """The publisher of one process. `prefix` stands before the names of topics."""

    def __init__(self, pool: asyncpg.Pool, bootstrap_servers: Sequence[str], prefix: str) -> None:
        self._pool = pool
        self._servers = list(bootstrap_servers)
        self._prefix = prefix
        self.pulse = Pulse("publishing")
        self._holder = uuid4()
        self._producer: AIOKafkaProducer | None = None
        self._work = asyncio.Event()
        self._stopping = False

    def poke(self) -> None:
        """There is something to publish."""
        self._work.set()

    def stop(self) -> None:
        """Publish what is there, once more, then `run` returns."""
        self._stopping = True
        self._work.set()

    async def run(self) -> None:
        while True:
            last_round = self._stopping
            self._work.clear()
            try:
                busy = await self._round()
                self.pulse.succeeds()
            except NotifierError:
                raise  # which the process ends with
            except Exception as error:
                # A producer that failed may be fenced or out of sequence: a new one starts clean.
                await self._drop_producer()
                self.pulse.fails(log, "publishing_failed", error)
                if last_round:
                    break
                if not self._stopping:
                    self._work.clear()  # that there is work doesn't bring Kafka back
                await self._sleep(self.pulse.pause(_LONGEST_PAUSE_SECONDS))
                continue
            if last_round and not busy:
                break
            if not busy and not last_round:
                await self._sleep(_POLL_SECONDS)
                if not self._stopping:
                    await asyncio.sleep(_LINGER_SECONDS)
        await self._end()

    async def _round(self) -> bool:
        """One batch of each. True: there may be more."""
        began = time.monotonic()
        async with borrowed(self._pool) as connection:
            now = datetime.now(UTC)
            epoch = await store.take_lease(connection, LEASE_NAME, self._holder, now, now + _LEASE)
            if epoch is None:
                return False
            outcomes = await store.unpublished_outcomes(connection, _BATCH)
            letters = await store.unpublished_dead_letters(connection, _BATCH, _BATCH_BYTES)
        if not outcomes and not letters:
            return False
        reached("relay.leased")
        if time.monotonic() - began > (_LEASE.total_seconds() - _PUBLISH_SECONDS) / 2:
            return True  # read so slowly (a process that stood still) that another may have published later ones
        # No connection is held while Kafka is waited for.
        await self._publish_outcomes(outcomes, epoch)
        await self._publish_letters(letters, epoch)
        return len(outcomes) == _BATCH or bool(letters)

    async def _publish_outcomes(self, outcomes: Sequence[OutboxRow], epoch: int) -> None:
        if not outcomes:
            return
        topic = f"{self._prefix}notifications"
        await self._publish(topic, [(row.key, row.value, row.headers) for row in outcomes])
        reached("relay.before_forget")
        async with borrowed(self._pool) as connection:
            positions = [row.position for row in outcomes]
            forgotten = await store.forget_outcomes(connection, positions, self._holder, epoch)
            if forgotten < len(positions) and not await self._was_refused(connection, epoch):
                LOST_COMMITS.inc()
                raise LostCommitsError("outcomes that were just published are not there any more")
        reached("relay.forgotten")

    async def _publish_letters(self, letters: Sequence[DeadLetterRow], epoch: int) -> None:
        if not letters:
            return
        topic = f"{self._prefix}notifier.dlq"
        try:
            await self._publish(topic, [as_record(letter) for letter in letters])
        except MessageSizeTooLargeError:
            # One among them is larger than the topic takes: each by itself, so that it holds up no other.
            for letter in letters:
                await self._publish_what_fits(topic, letter)
        reached("dlq.acked")
        async with borrowed(self._pool) as connection:
            ids = [letter.dead_letter_id for letter in letters]
            if not await store.mark_dead_letters_published(connection, ids, datetime.now(UTC), self._holder, epoch):
                await self._was_refused(connection, epoch)

    async def _was_refused(self, connection: Connection, epoch: int) -> bool:
        """Whether somebody else publishes by now. What was sent twice has the same ids and versions."""
        taken_over_in = await store.note_refused_relay(connection, self._holder, epoch, datetime.now(UTC))
        if taken_over_in is None or taken_over_in < epoch:
            return False
        FENCED.labels("relay").inc()
        log.warning("fenced", what="relay", epoch=epoch, taken_over_in=taken_over_in)
        return True

    async def _publish_what_fits(self, topic: str, letter: DeadLetterRow) -> None:
        for left_out in LEFT_OUT:
            try:
                await self._publish(topic, [as_record(letter, left_out)])
            except MessageSizeTooLargeError:
                continue
            return
        log.error("dead_letter_too_large_to_publish", dead_letter_id=letter.dead_letter_id)

    async def _publish(self, topic: str, records: Sequence[tuple[bytes | None, bytes | None, Headers]]) -> None:
        """Raises the first failure; no send is left un-awaited, or a refused record would be lost without a word."""
        async with asyncio.timeout(_PUBLISH_SECONDS):
            producer = await self._connected()
            sends = []
            failed: BaseException | None = None
            for key, value, headers in records:
                try:
                    sends.append(await _enqueue(producer, topic, key, value, list(headers)))
                except KafkaError as error:
                    failed = error
                    break
            reached("relay.sent")
            results = await asyncio.gather(*sends, return_exceptions=True)
        for result in (failed, *results):
            if isinstance(result, BaseException):
                raise result
        PUBLISHED.labels(topic).inc(len(records))

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._servers,
                client_id="backorder-notifier",
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                max_batch_size=256 * 1024,
                # A dead letter may have been compressed when it came, and be much larger now.
                compression_type="gzip",
                max_request_size=64 * 1024 * 1024,
                request_timeout_ms=int(_PUBLISH_SECONDS * 1000),
            )
            try:
                await producer.start()
            except BaseException:
                await _stopped(producer)
                raise
            self._producer = producer
        return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)

    async def _end(self) -> None:
        await self._drop_producer()
        try:
            async with asyncio.timeout(2), borrowed(self._pool) as connection:
                await store.free_lease(connection, LEASE_NAME, self._holder, datetime.now(UTC))
        except Exception as error:
            log.warning("lease_not_freed", **describe(error))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            pass


async def _stopped(producer: AIOKafkaProducer) -> None:
    """Close it, whatever state it is in. What it still holds is published again by the next one."""
    try:
        async with asyncio.timeout(_STOP_PRODUCER_SECONDS):
            await producer.stop()
    except Exception as error:
        log.debug("producer_not_stopped", **describe(error))


async def _enqueue(
    producer: AIOKafkaProducer,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
) -> Awaitable[object]:
    """Hand one record to the producer; the result is done when Kafka has it."""
    sent: Awaitable[object]
    if key is None and value is None:
        # Kafka takes a record without both, and `send` refuses it.
        batch = producer.create_batch()
        batch.append(key=None, value=None, timestamp=None, headers=headers)
        batch.close()
        sent = await producer.send_batch(batch, topic, partition=0)
    else:
        sent = await producer.send(topic, value=value, key=key, headers=headers)
    return sent
