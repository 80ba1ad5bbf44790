"""The teller of one process: rounds of deciding, as soon as an order's time comes. Several may run side by side."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import asyncpg

from backorder_notifier import store, told_store
from backorder_notifier.clock import Clock
from backorder_notifier.policy import Policy
from backorder_notifier.pulse import Pulse
from backorder_notifier.statements import borrowed
from backorder_notifier.telemetry import DECIDED, TELLING_SECONDS, logger, timed
from backorder_notifier.teller import LIMIT, TellReport, tell_due

log = logger("teller")

_READ_LATELY: Final = timedelta(seconds=5)
_NEVER_CATCHES_UP: Final = timedelta(minutes=10)
_POLL_SECONDS: Final = 1.0  # other processes record news too
_BUSY_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 15.0


def count_and_log(report: TellReport) -> None:
    """The metrics of a committed round."""
    for (kind, state, reason), count in report.verdicts.items():
        DECIDED.labels(kind, state, reason).inc(count)
    if report.messages:
        log.debug("told", orders=report.looked_at, messages=report.messages)


class Teller:
    """Decides on what is due until it is stopped."""

    def __init__(self, pool: asyncpg.Pool, policy: Policy, clock: Clock, told: Callable[[TellReport], None]) -> None:
        self._pool = pool
        self._policy = policy
        self._clock = clock
        self._told = told
        self.pulse = Pulse("telling")
        self._work = asyncio.Event()
        self._stopping = False

    def poke(self) -> None:
        """News came, or a message was sent: an order's time may be another now."""
        self._work.set()

    def stop(self) -> None:
        """`run` returns when the round in hand is over."""
        self._stopping = True
        self._work.set()

    async def run(self) -> None:
        while not self._stopping:
            self._work.clear()
            try:
                pause = await self._round()
                self.pulse.succeeds()
            except Exception as error:
                self.pulse.fails(log, "telling_stopped", error)
                pause = self.pulse.pause(_LONGEST_PAUSE_SECONDS)
                if not self._stopping:
                    self._work.clear()  # a poke says that there is work, not that the world is ready
            await self._sleep(pause)

    async def _round(self) -> float:
        """Decide on what is due. Returns how long nothing will be."""
        now = self._clock()
        # Some time limit ends a transaction that touches too much: it would fail in the same way for ever.
        limit = max(1, LIMIT >> self.pulse.failures)
        async with borrowed(self._pool) as connection:
            if await store.catching_up(connection, now - _READ_LATELY, now - _NEVER_CATCHES_UP):
                # What is known is old: told now, it would have to be put right by the next message.
                return _POLL_SECONDS
            with timed(TELLING_SECONDS):
                report = await tell_due(connection, self._policy, now, limit)
            count_and_log(report)
            self._told(report)
            if report.more and report.looked_at:
                return 0
            next_at = await told_store.next_tell_at(connection)
        if next_at is None:
            return _POLL_SECONDS
        # One whose time has come and that is still there belongs to another teller at this moment.
        return min(_POLL_SECONDS, max(_BUSY_SECONDS, (next_at - self._clock()).total_seconds()))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            pass
