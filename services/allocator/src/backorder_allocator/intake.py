"""From poll batches to committed work: tries again what may pass, finds what no database takes, stops for a bug."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import random
from time import monotonic, perf_counter

import asyncpg
from asyncpg.exceptions._base import DataError as ArgumentError

from backorder_allocator import batches, store, telemetry
from backorder_allocator.batches import Record, Worked
from backorder_allocator.connections import PASSING_DATABASE_ERRORS
from backorder_allocator.decision import Input
from backorder_allocator.errors import NotReadyError
from backorder_allocator.loading import Context
from backorder_allocator.store import PartitionKey
from backorder_schemas import DeadLetter

log = telemetry.logger(__name__)

DATA_ERRORS = (asyncpg.DataError, ArgumentError)
"""A value that PostgreSQL can't take. The codec should have refused it, so this is rare."""
LONGEST_PAUSE_SECONDS = 15.0


@dataclass(slots=True)
class Health:
    """What the HTTP probes and `status` tell about the intake. Times are of the monotonic clock, in seconds."""

    last_attempt: float = field(default_factory=monotonic)
    """When a batch was last worked, with or without success."""
    failures: int = 0
    """Failures in a row."""
    joined: bool = False
    """Whether the consumer group has given this process its part, which may be none."""
    stopped_by: str | None = None
    """The error that does not pass; None while all is well."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Partitions that stand still because of a record that the client library can't read, and what to say of it."""


class Intake:
    """Works poll batches one after the other. `on_events` is called after a commit that has something to publish."""

    def __init__(self, pool: asyncpg.Pool, context: Context, on_events: Callable[[], None]) -> None:
        self.pool = pool
        self.context = context
        self.on_events = on_events
        self.health = Health()
        self.in_hand = asyncio.Lock()
        """Held while a batch is worked: a rebalance and the end of the process wait for it."""
        self.stopping = asyncio.Event()

    async def take(self, read: Callable[[], Sequence[Record]]) -> bool:
        """Work the batch that `read` decodes. False: not all of it was done, it must be read again from its start."""
        async with self.in_hand:
            self.health.last_attempt = monotonic()
            try:
                await self.work_in_portions(read())
            except (*PASSING_DATABASE_ERRORS, NotReadyError) as error:
                self.failed(error, "world_not_ready")
            except Exception as error:
                self.stopped(error)
            else:
                self.well()
                telemetry.LAST_BATCH.set_to_current_time()
                return True
        await self.pause()
        return False

    async def work_in_portions(self, records: Sequence[Record]) -> None:
        """Work a batch; each failure before this try halves how much of it is one transaction.

        How long a transaction takes depends on the lines it touches, and some time limit ends it: a batch that is too
        large for one would fail in the same way for ever. How records are cut changes nobody's units.
        """
        at_once = max(1, len(records) >> self.health.failures)
        for start in range(0, len(records), at_once):
            await self.work(records[start : start + at_once])

    async def work(self, records: Sequence[Record]) -> None:
        """Commit a batch; where a value can't be stored, halve it until the message is alone and refuse that one."""
        try:
            await self.commit(records)
        except DATA_ERRORS as error:
            # The text of the error may quote the value, which may be an address: neither logged nor kept.
            log.warning("a value can't be stored: halving", records=len(records), error=type(error).__name__)
            if len(records) == 1:
                await self.commit([refused(records[0], error)])
                return
            half = len(records) // 2
            await self.work(records[:half])
            await self.work(records[half:])

    async def commit(self, records: Sequence[Record]) -> Worked:
        started = perf_counter()
        async with self.pool.acquire() as connection:
            worked = await batches.work(connection, records, self.context, datetime.now(UTC))
        telemetry.BATCH_SECONDS.observe(perf_counter() - started)
        telemetry.BATCH_RECORDS.observe(len(records))
        # What was done before is dropped from the front of each partition: outcomes are those of the fresh records.
        for record, outcome in zip(worked.records, worked.outcomes, strict=True):
            telemetry.MESSAGES.labels(record.topic, outcome.kind).inc()
            if outcome.kind == "dead_letter":
                telemetry.DEAD_LETTERS.labels(record.topic, outcome.reason).inc()
                log.warning(
                    "dead letter",
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    reason=outcome.reason,
                    message_id=record.read.cause if isinstance(record.read, Input) else None,
                )
        if worked.journal is not None:
            log.debug("batch", records=len(records), events=worked.events, journal=worked.journal.number)
            self.on_events()
        return worked

    async def positions(self, partitions: Sequence[PartitionKey]) -> dict[PartitionKey, int]:
        """Where to read on, by the cursors in the database. Waits for the database as long as it takes.

        Raises NotReadyError when the process ends meanwhile: then nothing more is read anyway.
        """
        while not self.stopping.is_set():
            try:
                async with self.pool.acquire() as connection:
                    await store.add_cursors(connection, partitions)
                    cursors = await store.read_cursors(connection, partitions)
            except PASSING_DATABASE_ERRORS as error:
                self.failed(error, "world_not_ready")
            except Exception as error:
                self.stopped(error)
            else:
                self.well()
                return cursors
            await self.pause()
        raise NotReadyError("the process ends")

    def well(self) -> None:
        self.health.failures = 0
        self.health.stopped_by = None
        telemetry.STOPPED.set(bool(self.health.unreadable))

    def stopped(self, error: BaseException) -> None:
        self.health.stopped_by = f"{type(error).__name__}: {error}"
        telemetry.STOPPED.set(1)
        log.error("input stands still: this error does not pass by itself", exc_info=error)
        self.failed(error, "stopped")

    def stops_at(self, partition: str, why: str) -> None:
        """One partition stands still, the others go on."""
        self.health.unreadable[partition] = why
        telemetry.STOPPED.set(1)

    def goes_on(self, partition: str) -> None:
        self.health.unreadable.pop(partition, None)
        telemetry.STOPPED.set(bool(self.health.unreadable or self.health.stopped_by))

    def failed(self, error: BaseException, cause: str) -> None:
        self.health.failures += 1
        telemetry.RETRIES.labels(cause).inc()
        # One line when trouble begins, then one each time the pause has grown to its longest: no flood.
        if self.health.failures in {1, 5} or self.health.failures % 20 == 0:
            log.warning("tries again", failures=self.health.failures, **telemetry.described(error))

    async def pause(self) -> None:
        """Back off with jitter; the end of the process cuts it short."""
        seconds = min(LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(self.health.failures, 10)) * (0.5 + random() / 2)  # noqa: S311
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return


def refused(record: Record, error: Exception) -> Record:
    """A record that holds a value which can't be stored: what is left of it is a dead letter."""
    return replace(record, read=DeadLetter("impossible", f"PostgreSQL can't store it: {type(error).__name__}"))
