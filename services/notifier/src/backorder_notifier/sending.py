"""Sending: all channels, as tasks that run or once at a given time. Neither reading nor telling ever waits for this."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from backorder_notifier.channel import Answer, Verdict
from backorder_notifier.clock import Clock
from backorder_notifier.delivering import Claim, Limits, Patience, Provider, claim, hand_over
from backorder_notifier.delivery_store import ClaimedRow
from backorder_notifier.errors import NotifierError
from backorder_notifier.kinds import Channel
from backorder_notifier.lane import Lane
from backorder_notifier.pulse import Pulse
from backorder_notifier.settling import settle
from backorder_notifier.statements import Connection

__all__ = ["Limits", "Patience", "Provider", "Sending", "Sent", "send_due"]

_STOP_AFTER: Final = timedelta(seconds=12)


class Sending:
    """The senders of one process, a lane for each channel. `settled` is called after a delivery got its end."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        providers: Mapping[Channel, Provider],
        settled: Callable[[], None],
        clock: Clock,
        stop_after: timedelta = _STOP_AFTER,
    ) -> None:
        self._lanes = [Lane(pool, channel, provider, settled, clock) for channel, provider in providers.items()]
        self._stop_after = stop_after.total_seconds()
        self._stopping = False

    @property
    def pulses(self) -> list[Pulse]:
        """Of each lane."""
        return [lane.pulse for lane in self._lanes]

    def poke(self) -> None:
        """Something is due."""
        for lane in self._lanes:
            lane.work.set()

    def stop(self) -> None:
        """Claim no more. `run` returns when what is in flight is settled; what waits for an answer for long is cut."""
        self._stopping = True
        for lane in self._lanes:
            lane.stop()

    async def run(self) -> None:
        """Raises when a lane ends before it should. (A task group would go on without one that was cancelled.)"""
        lanes = {asyncio.create_task(lane.run(self._stop_after)) for lane in self._lanes}
        try:
            running = lanes
            while running:
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
                if not self._stopping:
                    raise NotifierError("a lane ended, which it never should")
        finally:
            for task in lanes:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Sent:
    """What one call of `send_due` did: answers by verdict, deliveries put off because their domain waits."""

    answers: Mapping[Verdict, int] = field(default_factory=dict)
    set_aside: int = 0

    @property
    def tried(self) -> int:
        return sum(self.answers.values())


async def send_due(
    source: asyncpg.Pool | Connection,
    providers: Mapping[Channel, Provider],
    now: datetime,
    limit: int | None = None,
) -> Sent:
    """Sends what is due, as the loop would with its clock standing at `now`: for tests and replays.

    Ends when nothing is due, the provider's limits at that time are used up, or it can't be reached; at most `limit`
    tries. A pool hands over several at a time, a connection one after the other.
    """
    answers: Counter[Verdict] = Counter()
    set_aside = 0
    for channel, provider in providers.items():
        while limit is None or answers.total() < limit:
            most = provider.limits.in_flight if limit is None else limit - answers.total()
            async with _borrowed(source) as connection:
                claimed = await claim(connection, channel, provider, now, most)
            set_aside += claimed.set_aside
            if claimed.is_empty:
                break
            got = await _send_all(source, provider, claimed, now)
            answers.update(got)
            if "unreachable" in got:
                break
    return Sent(dict(answers), set_aside)


async def _send_all(
    source: asyncpg.Pool | Connection, provider: Provider, claimed: Claim, now: datetime
) -> list[Verdict]:
    async def one(row: ClaimedRow, answer: Answer | None) -> Verdict:
        given = answer or await hand_over(provider.sender, row, now)
        async with _borrowed(source) as connection:
            await settle(connection, row, given, provider.patience, tried_at=now, now=now)
        return given.verdict

    work = [one(row, None) for row in claimed.rows]
    work += [one(row, Answer("never", reason, tried=False)) for row, reason in claimed.withheld]
    if isinstance(source, asyncpg.Pool):
        return await asyncio.gather(*work)
    return [await each for each in work]


@asynccontextmanager
async def _borrowed(source: asyncpg.Pool | Connection) -> AsyncIterator[Connection]:
    if isinstance(source, asyncpg.Pool):
        async with source.acquire() as connection:
            yield connection
    else:
        yield source
