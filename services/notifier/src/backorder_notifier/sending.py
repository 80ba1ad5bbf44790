"""Sender tasks: claim what is due, put it in words, hand it over, settle it. The consumer never waits for this."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast
from uuid import UUID, uuid4

import asyncpg
from pydantic import TypeAdapter

from backorder_notifier import store
from backorder_notifier.contacts import wire_address
from backorder_notifier.errors import describe, is_not_ready
from backorder_notifier.fail_points import reached
from backorder_notifier.mail import mail_bytes
from backorder_notifier.outcomes import outcome
from backorder_notifier.rendering import Reader, Rendered, render
from backorder_notifier.rows import ClaimedRow
from backorder_notifier.settings import Sender
from backorder_notifier.smtp import Answer, MailServer
from backorder_notifier.telemetry import (
    ACCEPTED_SECONDS,
    ATTEMPTS,
    POLICY_REFUSALS,
    PROVIDER_UP,
    SEND_SECONDS,
    logger,
    timed,
)
from backorder_notifier.updates import BackorderEvent, Kind

log = logger("sending")

_EVENTS: Final[TypeAdapter[BackorderEvent]] = TypeAdapter(BackorderEvent)
_POLL_SECONDS: Final = 1.0  # other processes record deliveries too, and retries come due
_LONGEST_PAUSE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a sender has a delivery for itself, when it tries again, when it gives up."""

    lease: timedelta
    retry_first: timedelta
    retry_longest: timedelta
    give_up_after: timedelta

    def retry_in(self, attempts: int) -> timedelta:
        """After this many attempts: doubling, with a fifth of jitter either way so that retries spread."""
        seconds = self.retry_first.total_seconds() * 2 ** min(attempts - 1, 30)
        return timedelta(seconds=min(seconds, self.retry_longest.total_seconds()) * random.uniform(0.8, 1.2))  # noqa: S311


class Sending:
    """The senders of one process: at most `concurrency` mails in flight, over one mail server."""

    def __init__(
        self, pool: asyncpg.Pool, server: MailServer, sender: Sender, patience: Patience, concurrency: int,
        published: Callable[[], None],
    ) -> None:  # fmt: skip
        self._pool = pool
        self._server = server
        self._sender = sender
        self._patience = patience
        self._concurrency = concurrency
        self._published = published
        self._work = asyncio.Event()
        self._stopping = asyncio.Event()
        self._claimed: deque[ClaimedRow] = deque()
        self._claimed_until = 0.0
        self._in_hand: set[UUID] = set()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pauses = 0
        self._paused_until = 0.0

    def poke(self) -> None:
        """Something is due."""
        self._work.set()

    def stop(self) -> None:
        """Claim no more. `run` returns when the mails in flight are settled."""
        self._stopping.set()
        self._work.set()

    async def run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._work.clear()
            claimed = False
            try:
                claimed = await self._claim()
                failures = 0
            except Exception as error:
                failures += 1
                if failures in {1, 10} or failures % 100 == 0:
                    log.warning("claiming_failed", tries=failures, **describe(error))
            while len(self._in_flight) < self._concurrency and self._start_next():
                pass
            if not claimed:
                await self._sleep(_POLL_SECONDS)
        await self._give_back()
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        await self._server.close()

    def _start_next(self) -> bool:
        """Begin what was claimed first. What waited too long for its turn is another's soon: left to its lease."""
        if time.monotonic() > self._claimed_until:
            self._claimed.clear()
        if not self._claimed:
            return False
        row = self._claimed.popleft()
        task = asyncio.create_task(self._deliver(row))
        self._in_flight.add(task)
        self._in_hand.add(row.delivery_id)
        task.add_done_callback(lambda task: self._landed(task, row.delivery_id))
        return True

    def _landed(self, task: asyncio.Task[None], delivery_id: UUID) -> None:
        self._in_flight.discard(task)
        self._in_hand.discard(delivery_id)
        if self._stopping.is_set() or not self._start_next():
            self._work.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease ends by itself, and the delivery is tried again.
            log.error("delivery_failed_unexpectedly", **describe(error))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            pass

    async def _claim(self) -> bool:
        """Take what is due, once nothing claimed is left: as much again as can be in flight, so as to ask less often.

        A claimed delivery waits for one mail at most, which ends within the timeout; the lease is twice as long. Where
        noting down what became of that mail takes longer, it is not begun.
        """
        if self._claimed or time.monotonic() < self._paused_until:
            return False
        limit = 2 * self._concurrency - len(self._in_flight)
        if self._pauses:
            # The server was away last time: one mail finds out whether it is back.
            limit = 0 if self._in_flight else 1
        if limit <= 0:
            return False
        self._claimed_until = time.monotonic() + self._patience.lease.total_seconds() / 2
        now = datetime.now(UTC)
        async with self._pool.acquire() as connection:
            rows = await store.claim_deliveries(connection, now, limit, uuid4(), now + self._patience.lease)
        # One whose lease ended while we still try to note down that it was sent is not to be sent again.
        self._claimed.extend(row for row in rows if row.delivery_id not in self._in_hand)
        return bool(rows)

    async def _give_back(self) -> None:
        """What was claimed and not begun, so that nobody waits for the end of its lease."""
        rows = [self._claimed.popleft() for _ in range(len(self._claimed))]
        if rows:
            try:
                async with self._pool.acquire() as connection:
                    await store.unclaim(connection, rows, datetime.now(UTC))
            except Exception as error:
                log.warning("not_given_back", deliveries=len(rows), **describe(error))

    async def _deliver(self, row: ClaimedRow) -> None:
        try:
            recipient = wire_address(row.email)
            mail = mail_bytes(row.delivery_id, row.order_id, recipient, _words(row), self._sender, datetime.now(UTC))
        except Exception as error:
            # A bug here: keep the delivery, look at the log, try again later.
            log.error("rendering_failed", delivery_id=str(row.delivery_id), kind=row.kind, **describe(error))
            await self._settle(row, Answer("later", "rendering failed"))
            return
        with timed(SEND_SECONDS.labels(row.channel)):
            answer = await self._server.send(self._sender.address, recipient, mail)
        reached("sending.before_mark")
        self._note_provider(answer)
        await self._settle(row, answer)

    def _note_provider(self, answer: Answer) -> None:
        if answer.verdict != "unreachable":
            if self._pauses:
                log.info("provider_is_back")
            self._pauses = 0
            PROVIDER_UP.labels("email").set(1)
            return
        PROVIDER_UP.labels("email").set(0)
        if time.monotonic() >= self._paused_until:
            self._pauses += 1
            pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2 ** min(self._pauses, 10)) * random.uniform(0.8, 1.2)  # noqa: S311
            self._paused_until = time.monotonic() + pause
            if self._pauses in {1, 5} or self._pauses % 30 == 0:
                log.warning("provider_is_unreachable", reason=answer.reason, tries=self._pauses)

    async def _settle(self, row: ClaimedRow, answer: Answer) -> None:
        """Write down what became of it. While the database is away, keeps trying until the lease is over.

        That a mail was sent is known only here: forgotten, it would be sent again. So this is tried until it is noted.
        """
        deadline = time.monotonic() + self._patience.lease.total_seconds()
        pause = 0.2
        while True:
            try:
                await self._settle_once(row, answer, datetime.now(UTC))
            except Exception as error:
                if not is_not_ready(error) or (answer.verdict != "sent" and time.monotonic() + pause > deadline):
                    raise
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
            else:
                return

    async def _settle_once(self, row: ClaimedRow, answer: Answer, now: datetime) -> None:
        given_up = answer.verdict not in {"sent", "never"} and now - row.first_attempt_at > self._patience.give_up_after
        async with self._pool.acquire() as connection:
            if answer.verdict == "sent":
                settled = await _settle_with_outcome(connection, row, None, now)
            elif answer.verdict == "never" or given_up:
                reason = f"gave up: {answer.reason}" if given_up else str(answer.reason)
                settled = await _settle_with_outcome(connection, row, reason, now)
            else:
                due_at = now + self._patience.retry_in(row.attempts if answer.verdict != "unreachable" else 1)
                settled = await store.retry_later(connection, row.delivery_id, row.lease, str(answer.reason), due_at)
        ATTEMPTS.labels(row.kind, row.channel, "gave_up" if given_up else answer.verdict).inc()
        if answer.is_policy:
            POLICY_REFUSALS.labels(row.channel).inc()
            log.error("refused_by_policy", delivery_id=str(row.delivery_id), reason=answer.reason)
        elif answer.verdict in {"never", "ambiguous"} or given_up:
            verdict = "gave_up" if given_up else answer.verdict
            log.warning("not_delivered", delivery_id=str(row.delivery_id), outcome=verdict, reason=answer.reason)
        if not settled:
            log.warning("lease_was_lost", delivery_id=str(row.delivery_id), outcome=answer.verdict)
        elif answer.verdict == "sent":
            ACCEPTED_SECONDS.labels(row.kind, row.channel).observe(max(0.0, (now - row.occurred_at).total_seconds()))
        if settled and (answer.verdict in {"sent", "never"} or given_up):
            self._published()


async def _settle_with_outcome(
    connection: store.Connection, row: ClaimedRow, failure: str | None, now: datetime
) -> bool:
    """Settle for good, and put the outcome into the outbox, in one transaction. False: nothing was left to settle."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        version = await store.next_outcome_version(connection, row.order_id)
        if failure is None:
            settled = await store.settle_sent(connection, row.delivery_id, now)
        else:
            settled = await store.settle_failed(connection, row.delivery_id, row.lease, failure, now)
        if not settled:
            await transaction.rollback()
            return False
        told = outcome(
            order_id=row.order_id,
            customer_id=row.customer_id,
            version=version,
            kind=row.kind,
            channel=row.channel,
            attempts=row.attempts,
            failure=failure,
            about=row.about,
            occurred_at=now,
            traceparent=row.traceparent,
        )
        await store.append_outbox(connection, [told])
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()
    return True


def _words(row: ClaimedRow) -> Rendered:
    reader = Reader(row.order_id, row.name, row.timezone, row.order_url, row.delivery)
    return render(cast("Kind", row.kind), reader, [_EVENTS.validate_json(event) for event in row.events])
