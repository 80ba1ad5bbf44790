"""How much is decided and not published: beyond a limit, input stands still until half of it is.

Kafka takes inputs and refuses outputs, or the relay's events can't be written: allocation goes on without it, since the
log keeps all of it. But not for ever, since the log is on the same disk as everything else.
"""

import asyncio
from contextlib import suppress
from time import monotonic

import asyncpg

from backorder_allocator import telemetry
from backorder_allocator.statements import run

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 3.0


class Backlog:
    """Looks at most once a second. `most`: events that may wait to be published."""

    def __init__(self, pool: asyncpg.Pool, most: int) -> None:
        self.pool = pool
        self.most = most
        self.full_of: str | None = None
        """Why input has to stand still; None while it need not."""
        self.look_at = 0.0

    async def why_full(self) -> str | None:
        """Why input has to stand still, as of the last look."""
        if monotonic() >= self.look_at:
            self.look_at = monotonic() + LOOK_SECONDS
            # A database that does not answer takes no input either: what was known stays.
            with suppress(Exception):
                self.judge(await self.unpublished())
        return self.full_of

    async def unpublished(self) -> int:
        async with asyncio.timeout(ANSWER_SECONDS), self.pool.acquire(timeout=ANSWER_SECONDS) as connection:
            return int((await run(connection, "unpublished"))[0]["events"])

    def judge(self, events: int) -> None:
        telemetry.UNPUBLISHED.set(events)
        if self.full_of is not None and events <= self.most // 2:
            self.full_of = None
        elif events > self.most or self.full_of is not None:
            self.full_of = (
                f"{events} events are committed and not published, ALLOCATOR_MAX_UNPUBLISHED is {self.most}: "
                f"it goes on at {self.most // 2}"
            )
