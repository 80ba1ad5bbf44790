"""Compares what this process remembers with the database every few seconds, also where nothing happens.

Commits can be lost under a running service: the server fails over to a copy that was behind, or somebody restores a
backup. Whoever goes on then decides by what never happened, so the process ends, and the checks at start judge.
"""

import asyncio

import asyncpg

from backorder_allocator import telemetry
from backorder_allocator.errors import ConfigurationError, LostCommitsError
from backorder_allocator.loading import Context
from backorder_allocator.statements import run

log = telemetry.logger(__name__)

EVERY_SECONDS = 3.0


class Watch:
    """Ends the process when the world is not what it remembers: it raises what it finds, or another part (`lost`)."""

    name = "watch"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.wake = asyncio.Event()
        self.ending = asyncio.Event()
        self.error: ConfigurationError | None = None

    def failing(self) -> int:
        return 0

    def lost(self, error: ConfigurationError) -> None:
        """Another part has noticed."""
        self.error = error
        self.wake.set()

    async def turn(self, connection: asyncpg.Connection) -> float:
        try:
            if self.error is not None:
                raise self.error
            await self.look(connection)
        except ConfigurationError as error:
            if isinstance(error, LostCommitsError):
                telemetry.LOST_COMMITS.inc()
            log.error("this process ends: what it remembers is not so any more", **telemetry.described(error))
            raise
        return EVERY_SECONDS

    async def look(self, connection: asyncpg.Connection) -> None:
        """Compare with what was known before the question, since work goes on meanwhile."""
        memory = self.context.memory
        known = memory.known()
        rows = await run(connection, "positions_now")
        journal, epoch = rows[0]["journal"], rows[0]["epoch"]
        if epoch != self.context.epoch:
            raise LostCommitsError(f"epoch {self.context.epoch} is over: a restored database was accepted")
        known.compare(
            [((row["topic"], row["partition"]), row["next_offset"]) for row in rows if row["topic"] is not None],
            journal,
        )
        memory.has_number(journal)
