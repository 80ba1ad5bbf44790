"""Compares what this process remembers with the database and Kafka every few seconds, also where nothing happens.

Commits can be lost under a running service: the server fails over to a copy that was behind, or somebody restores a
backup. Whoever goes on then decides by what never happened, so the process ends, and the checks at start judge.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
from aiokafka.errors import KafkaError

from backorder_allocator import telemetry
from backorder_allocator.errors import ConfigurationError, LostCommitsError
from backorder_allocator.loading import Context
from backorder_allocator.looking import INPUTS
from backorder_allocator.statements import run
from backorder_allocator.topic_ids import topic_ids

log = telemetry.logger(__name__)

EVERY_SECONDS = 3.0
ASK_SECONDS = 10.0
SILENT_SECONDS = 15.0
"""A session waits so long for its client in the middle of a statement."""


class Watch:
    """Ends the process when the world is not what it remembers: it raises what it finds, or another part (`lost`)."""

    name = "watch"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.wake = asyncio.Event()
        self.ending = asyncio.Event()
        self.error: ConfigurationError | None = None
        self.topic_ids: Callable[[], Awaitable[Mapping[str, str]]] | None = None
        """Asks Kafka for the ids of input topics, without prefix; set once there is a client to ask with."""

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
            await self.look_at_topics(connection)
            await end_silent_sessions(connection, SILENT_SECONDS)
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

    async def look_at_topics(self, connection: asyncpg.Connection) -> None:
        """A topic that is made again while we read it goes on at offsets that we have worked: they would be dropped."""
        if self.topic_ids is None:
            return
        try:
            async with asyncio.timeout(ASK_SECONDS):
                now = await self.topic_ids()
        except (KafkaError, OSError) as error:
            log.debug("Kafka was not asked for topics", **telemetry.described(error))
            return
        for row in await run(connection, "topics_seen"):
            if row["topic_id"] is not None and now.get(row["topic"], row["topic_id"]) != row["topic_id"]:
                raise ConfigurationError(
                    f"topic {row['topic']} was deleted and made again while it was read. Start again: the checks at "
                    "start say what is to be decided"
                )


async def end_silent_sessions(connection: asyncpg.Connection, seconds: float) -> None:
    """Free what a frozen process holds where no time limit of the server does it. A live one just begins anew."""
    for row in await run(connection, "end_silent_sessions", seconds):
        telemetry.SILENT_SESSIONS.inc()
        log.warning("ended the session of a process that stands still within its transaction", pid=row["pid"])


async def topic_ids_of(subscriber: Any, prefix: str) -> Mapping[str, str]:
    """The ids of input topics, asked for by the client that reads them. Empty where there is none."""
    consumer = subscriber.consumer
    if consumer is None:
        return {}
    found = await topic_ids(consumer, [prefix + name for name in INPUTS])
    return {name.removeprefix(prefix): topic_id for name, (topic_id, _) in found.items()}
