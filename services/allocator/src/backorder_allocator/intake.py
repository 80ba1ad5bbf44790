"""From poll batches to committed work: tries again what may pass, finds what no database takes, stops for a bug."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic, perf_counter

import asyncpg
from asyncpg.exceptions._base import DataError as ArgumentError

from backorder_allocator import batches, store, telemetry
from backorder_allocator.batches import Record, Worked
from backorder_allocator.connections import ACQUIRE_SECONDS, passes, pause_seconds, worth_a_line
from backorder_allocator.errors import ConfigurationError, LostCommitsError, NotReadyError
from backorder_allocator.fail_points import reached
from backorder_allocator.gaps import Gaps
from backorder_allocator.loading import Context
from backorder_allocator.remembering import PartitionKey
from backorder_schemas import DeadLetter

log = telemetry.logger(__name__)

DATA_ERRORS = (asyncpg.DataError, ArgumentError)
"""A value that PostgreSQL can't take. The codec should have refused it, so this is rare."""
LONGEST_PAUSE_SECONDS = 15.0
REFUSALS_SECONDS = 5.0
"""From one line about dead letters to the next."""


@dataclass(slots=True)
class Health:
    """What the HTTP probes and `status` tell about the intake. Times are of the monotonic clock, in seconds."""

    last_attempt: float = field(default_factory=monotonic)
    """When a batch was last worked, with or without success."""
    last_poll: float = field(default_factory=monotonic)
    """When records were last asked for, or positions for which to ask: the loop that reads goes round."""
    failures: int = 0
    """Failures in a row."""
    failing_with: str | None = None
    """What the last of them was; None while all is well."""
    joined: bool = False
    """Whether the consumer group has given this process its part, which may be none."""
    stopped_by: str | None = None
    """The error that does not pass; None while all is well."""
    polls_fail_with: str | None = None
    """What Kafka's client says to every poll."""
    held_by: str | None = None
    """Why no input is taken by intention: too much is not published."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Partitions that stand still because of a record that the client library can't read, and what to say of it."""


class Intake:
    """Works poll batches one after the other. `on_events` is called after a commit that has something to publish.

    `on_lost` is called when the database has forgotten what was committed: this process can't go on then.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        context: Context,
        on_events: Callable[[], None],
        on_lost: Callable[[ConfigurationError], None] = lambda _: None,
    ) -> None:
        self.pool = pool
        self.on_lost = on_lost
        self.gaps = Gaps()
        self.context = context
        self.on_events = on_events
        self.health = Health()
        self.halvings = 0
        """Transactions that failed in a row. A server that can't be reached at all is none."""
        self.batch_fails = False
        """Whether the batch in hand failed, and is to be read again."""
        self.refusals: Counter[tuple[str, str]] = Counter()
        """Dead letters by topic and reason that the log does not tell of yet."""
        self.tell_refusals_at = 0.0
        self.in_hand = asyncio.Lock()
        """Held while a batch is worked: a rebalance and the end of the process wait for it."""
        self.stopping = asyncio.Event()
        self.expiring: asyncio.Future[None] | None = None

    async def take(self, read: Callable[[], Sequence[Record]]) -> bool:
        """Work the batch that `read` decodes. False: not all of it was done, it must be read again from its start."""
        async with self.in_hand:
            self.health.last_attempt = monotonic()
            try:
                records = read()
                reached("intake.decoded")
                await self.work_in_portions(records)
            except Exception as error:
                self.batch_fails = True
                self.not_done(error)
            else:
                self.halvings = 0
                self.batch_fails = False
                self.well()
                telemetry.LAST_BATCH.set_to_current_time()
                return True
        await self.pause()
        return False

    async def work_in_portions(self, records: Sequence[Record]) -> None:
        """Work a batch; each transaction that failed before this try halves how much of it is one transaction.

        How long a transaction takes depends on the lines it touches, and some time limit ends it: a batch that is too
        large for one would fail in the same way for ever. How records are cut changes nobody's units.
        """
        at_once = max(1, len(records) >> self.halvings)
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
        async with self.pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
            try:
                worked = await batches.work(connection, records, self.context, datetime.now(UTC))
            except Exception as error:
                self.halvings += not isinstance(error, DATA_ERRORS)
                raise
        reached("store.committed")
        telemetry.BATCH_SECONDS.observe(perf_counter() - started)
        telemetry.BATCH_RECORDS.observe(len(records))
        # What was done before is dropped from the front of each partition: outcomes are those of the fresh records.
        done: Counter[tuple[str, str, str]] = Counter(
            (record.topic, outcome.kind, outcome.reason)
            for record, outcome in zip(worked.records, worked.outcomes, strict=True)
        )
        for (topic, kind, reason), count in done.items():
            telemetry.MESSAGES.labels(topic, kind).inc(count)
            if kind == "dead_letter":
                telemetry.DEAD_LETTERS.labels(topic, reason).inc(count)
                self.refusals[topic, reason] += count
        self.tell_refusals()
        if worked.journal is not None:
            log.debug("batch", records=len(records), events=worked.events, journal=worked.journal.number)
            self.on_events()
        return worked

    def tell_refusals(self) -> None:
        """A line for each kind, now and then: a sender that went mad fills no disk. `dlq list` has each of them."""
        if self.refusals and monotonic() >= self.tell_refusals_at:
            self.tell_refusals_at = monotonic() + REFUSALS_SECONDS
            for (topic, reason), count in self.refusals.items():
                log.warning("dead letters", topic=topic, reason=reason, count=count)
            self.refusals.clear()

    async def positions(self, partitions: Sequence[PartitionKey]) -> dict[PartitionKey, int]:
        """Where to read on, by the cursors in the database. Waits for the database as long as it takes.

        Raises NotReadyError when the process ends meanwhile: then nothing more is read anyway.
        """
        while not self.stopping.is_set():
            # Alive: a restart would not bring the database back.
            self.health.last_poll = self.health.last_attempt = monotonic()
            try:
                async with self.pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
                    await store.add_cursors(connection, partitions)
                    cursors = await store.read_cursors(connection, partitions)
                self.context.memory.assigned(cursors)
            except Exception as error:
                self.not_done(error)
            else:
                # That positions can be read again says nothing of a batch that can't be worked.
                if not self.batch_fails:
                    self.well()
                return cursors
            await self.pause()
        raise NotReadyError("the process ends")

    def well(self) -> None:
        self.health.failures = 0
        self.health.failing_with = self.health.stopped_by = None
        self.show_whether_stopped()

    def not_done(self, error: Exception) -> None:
        """A transaction failed: what may pass, a bug, or something that ends the process."""
        # What failed hangs on its error in circles, a whole batch each time, and the collector comes seldom by itself.
        gc.collect()
        if isinstance(error, LostCommitsError):
            self.on_lost(error)
            self.stopped(error)
        elif passes(error) or isinstance(error, NotReadyError):
            self.failed(error, "world_not_ready")
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                # A session stays read-only when its server is no more; another one finds the primary.
                self.expiring = asyncio.ensure_future(self.pool.expire_connections())
        else:
            self.stopped(error)

    def stopped(self, error: BaseException) -> None:
        said = f"{type(error).__name__}: {telemetry.text_of(error)}"
        is_new = self.health.stopped_by != said
        self.count(error, "stopped")
        self.health.stopped_by = said
        self.show_whether_stopped()
        if is_new or worth_a_line(self.health.failures):
            log.error(
                "input stands still: this error does not pass by itself",
                failures=self.health.failures,
                **telemetry.described(error),
                stack=telemetry.stack_of(error),
            )

    def stops_at(self, partition: str, why: str) -> None:
        """One partition stands still, the others go on."""
        self.health.unreadable[partition] = why
        self.show_whether_stopped()

    def goes_on(self, partition: str) -> None:
        self.health.unreadable.pop(partition, None)
        self.show_whether_stopped()

    def hold(self, why: str | None) -> None:
        """All input stands still by intention, or (None) goes on."""
        if (why is None) != (self.health.held_by is None):
            log.warning("input stands still", why=why) if why else log.info("input goes on")
        self.health.held_by = why
        self.show_whether_stopped()

    def show_whether_stopped(self) -> None:
        telemetry.STOPPED.set(bool(self.health.unreadable or self.health.stopped_by or self.health.held_by))

    def failed(self, error: BaseException, cause: str) -> None:
        self.count(error, cause)
        if worth_a_line(self.health.failures):
            log.warning("tries again", failures=self.health.failures, **telemetry.described(error))

    def count(self, error: BaseException, cause: str) -> None:
        self.health.failures += 1
        self.health.failing_with = f"{type(error).__name__}: {telemetry.text_of(error)}"
        telemetry.RETRIES.labels(cause).inc()

    async def pause(self) -> None:
        """Back off with jitter; the end of the process cuts it short."""
        try:
            async with asyncio.timeout(pause_seconds(self.health.failures, LONGEST_PAUSE_SECONDS)):
                await self.stopping.wait()
        except TimeoutError:
            return


def refused(record: Record, error: Exception) -> Record:
    """A record that holds a value which can't be stored: what is left of it is a dead letter."""
    return replace(record, read=DeadLetter("impossible", f"PostgreSQL can't store it: {type(error).__name__}"))
