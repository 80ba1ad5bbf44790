"""Sender tasks of one channel: claim what is due, hand it over, settle it; at most so many at a time, a pause while the
provider is away, leases renewed while a try lasts.
"""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from backorder_notifier import delivery_store
from backorder_notifier.channel import Answer
from backorder_notifier.clock import Clock
from backorder_notifier.delivering import Provider, claim, hand_over
from backorder_notifier.delivery_store import ClaimedRow
from backorder_notifier.errors import describe, is_not_ready
from backorder_notifier.fail_points import reached
from backorder_notifier.kinds import Channel
from backorder_notifier.pulse import Pulse, complain, pause
from backorder_notifier.settling import settle
from backorder_notifier.statements import borrowed
from backorder_notifier.telemetry import PROVIDER_UP, SEND_SECONDS, logger, timed

log = logger("sending")

_LONGEST_CLAIM_PAUSE: Final = 5.0
_POLL_SECONDS: Final = 1.0  # other processes record deliveries too, and retries come due
_LONGEST_PAUSE_SECONDS: Final = 60.0
_LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0  # whatever a provider asks for
_LONGEST_SETTLE_PAUSE: Final = 2.0
_LONGEST_BUG_PAUSE: Final = 30.0


class Lane:
    """The senders of one channel in this process. `work` is set when something is due."""

    def __init__(
        self, pool: asyncpg.Pool, channel: Channel, provider: Provider, settled: Callable[[], None], clock: Clock
    ) -> None:
        self._pool = pool
        self._channel = channel
        self._provider = provider
        self._settled = settled
        self._clock = clock
        self.pulse = Pulse(f"sending {channel}")
        self.work = asyncio.Event()
        self._stopping = asyncio.Event()
        self._in_hand: dict[UUID, ClaimedRow] = {}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._tries: set[asyncio.Task[Answer]] = set()
        self._pauses = 0
        self._paused_until = 0.0
        self._not_settled: set[UUID] = set()  # by a bug: their slots stay taken

    def stop(self) -> None:
        """Claim no more."""
        self._stopping.set()
        self.work.set()

    async def run(self, stop_after: float) -> None:
        """Until it is stopped and what is in flight is settled; what is not answered in `stop_after` seconds is cut."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not self._stopping.is_set():
                self.work.clear()
                try:
                    wait = await self._claim()
                    if self._not_settled:
                        self.pulse.turns()
                    else:
                        self.pulse.succeeds()
                except Exception as error:
                    self.pulse.fails(log, "claiming_failed", error, channel=self._channel)
                    wait = self.pulse.pause(_LONGEST_CLAIM_PAUSE)
                    if not self._stopping.is_set():
                        self.work.clear()  # that there is work doesn't make the world ready
                if renewing.done():
                    renewing.result()  # raises
                await self._sleep(wait)
            await self._finish(stop_after)
        finally:
            renewing.cancel()
            await self._provider.sender.close()

    async def _finish(self, seconds: float) -> None:
        """What is in flight may end. What was not answered by then may have been taken: it is in doubt."""
        if not self._in_flight:
            return
        await asyncio.wait(self._in_flight, timeout=seconds)
        for task in self._tries:
            task.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.work.wait()
        except TimeoutError:
            pass

    async def _claim(self) -> float:
        """Begins what may be begun now. How many seconds to wait before asking again, if nothing else happens."""
        pause = self._paused_until - time.monotonic()
        if pause > 0:
            return min(pause, _POLL_SECONDS)
        most = self._provider.limits.in_flight - len(self._in_flight)
        if self._pauses:
            # The provider was away last time: one try finds out whether it is back.
            most = 0 if self._in_flight else 1
        if most < 1:
            return _POLL_SECONDS
        now, began = self._clock(), time.monotonic()
        async with borrowed(self._pool) as connection:
            claimed = await claim(connection, self._channel, self._provider, now, most)
            if not claimed.is_empty:
                reached("sending.claimed")
            if self._stopping.is_set() or self._is_late(began):
                await delivery_store.unclaim(connection, [*claimed.rows, *(row for row, _ in claimed.withheld)], now)
                return 0
        for row in claimed.rows:
            self._begin(row, None, began)
        for row, reason in claimed.withheld:
            self._begin(row, Answer("never", reason, tried=False), began)
        if claimed.wait is not None:
            return min(claimed.wait.total_seconds(), _POLL_SECONDS)
        return _POLL_SECONDS if claimed.is_empty else 0

    def _is_late(self, began: float) -> bool:
        """Taken so slowly (a lock, a process that stood still) that another may have it by now, and may have sent
        something newer since: not to be begun."""
        return time.monotonic() - began > self._provider.patience.lease.total_seconds() / 2

    def _begin(self, row: ClaimedRow, answer: Answer | None, began: float) -> None:
        if row.delivery_id in self._in_hand:
            # Its lease ended while we still try to note down that it was sent: not to be sent again.
            return
        self._in_hand[row.delivery_id] = row
        task = asyncio.create_task(self._deliver(row, answer, began))
        self._in_flight.add(task)
        task.add_done_callback(lambda task: self._landed(task, row.delivery_id))

    def _landed(self, task: asyncio.Task[None], delivery_id: UUID) -> None:
        self._in_flight.discard(task)
        del self._in_hand[delivery_id]
        self._not_settled.discard(delivery_id)
        self.work.set()
        # The lease ends by itself, and the delivery is tried again.
        if task.cancelled():
            log.warning("delivery_cancelled", delivery_id=str(delivery_id))
        elif (error := task.exception()) is not None:
            log.error("delivery_failed_unexpectedly", delivery_id=str(delivery_id), **describe(error))

    async def _deliver(self, row: ClaimedRow, answer: Answer | None, began: float) -> None:
        tried_at = self._clock()
        if answer is None:
            if self._is_late(began):
                log.warning("taken_too_slowly", delivery_id=str(row.delivery_id))
                return  # as a sender that was lost: its lease ends by itself
            with timed(SEND_SECONDS.labels(self._channel)):
                answer = await self._try(row, tried_at)
            self._note_provider(answer)
        await self._settle(row, answer, tried_at)

    async def _try(self, row: ClaimedRow, now: datetime) -> Answer:
        task = asyncio.create_task(hand_over(self._provider.sender, row, now))
        self._tries.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._tries.discard(task)
        return Answer("ambiguous", "stopped before the answer") if task.cancelled() else task.result()

    def _note_provider(self, answer: Answer) -> None:
        if answer.verdict != "unreachable":
            if self._pauses:
                log.info("provider_is_back", channel=self._channel)
            self._pauses = 0
            PROVIDER_UP.labels(self._channel).set(1)
            return
        PROVIDER_UP.labels(self._channel).set(0)
        if time.monotonic() >= self._paused_until:
            self._pauses += 1
            pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2 ** min(self._pauses, 10)) * random.uniform(0.8, 1.2)  # noqa: S311
            if answer.retry_after is not None:
                pause = max(pause, min(answer.retry_after.total_seconds(), _LONGEST_RETRY_AFTER_SECONDS))
            self._paused_until = time.monotonic() + pause
            if self._pauses in {1, 5} or self._pauses % 30 == 0:
                log.warning("provider_is_unreachable", channel=self._channel, reason=answer.reason, tries=self._pauses)

    async def _settle(self, row: ClaimedRow, answer: Answer, tried_at: datetime) -> None:
        """Write down what became of it. While the database is away, keeps trying until the lease is over.

        That it was sent, or may have been, is known only here: forgotten, it would be sent again. So this is tried
        until it is noted, be it that a bug has to be mended first: a customer who gets the same mail every minute is
        worse than a lane that stands still.
        """
        deadline = time.monotonic() + self._provider.patience.lease.total_seconds()
        failures = 0
        while True:
            try:
                reached("sending.before_mark")
                async with borrowed(self._pool) as connection:
                    settled = await settle(
                        connection, row, answer, self._provider.patience, tried_at=tried_at, now=self._clock()
                    )
                reached("sending.marked")
            except Exception as error:
                failures += 1
                is_bug = not is_not_ready(error)
                wait = pause(failures, _LONGEST_BUG_PAUSE if is_bug else _LONGEST_SETTLE_PAUSE)
                if answer.verdict not in {"sent", "ambiguous"} and time.monotonic() + wait > deadline:
                    raise
                if is_bug:
                    self._not_settled.add(row.delivery_id)
                    self.pulse.fails(log, "settling_failed", error, delivery_id=str(row.delivery_id))
                else:
                    # A line for each that is in flight, which are few.
                    complain(log, "settling_waits", failures, error, delivery_id=str(row.delivery_id))
                await asyncio.sleep(wait)
            else:
                if settled in {"accepted", "ended"}:
                    self._settled()
                return

    async def _renew(self) -> None:
        """What is in hand stays ours: a try may last longer than a lease, where a server thinks about a mail."""
        lease = self._provider.patience.lease
        failures = 0
        while True:
            await asyncio.sleep(lease.total_seconds() / 3)
            if not self._in_hand:
                continue
            try:
                async with borrowed(self._pool) as connection:
                    await delivery_store.renew_leases(connection, self._in_hand.values(), self._clock() + lease)
                failures = 0
            except Exception as error:
                failures += 1
                complain(log, "leases_not_renewed", failures, error, channel=self._channel)
