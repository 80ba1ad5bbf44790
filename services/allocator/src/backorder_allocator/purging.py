"""Dead letters go by age, since they may hold contact data: in portions, so that nobody waits for it."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import random
from time import monotonic

import asyncpg

from backorder_allocator import dead_letter_reports, dead_letters, interventions, telemetry
from backorder_allocator.interventions import Asked
from backorder_allocator.statements import Connection

log = telemetry.logger(__name__)

PORTION = 1000
"""Letters in one transaction."""
EVERY_SECONDS = 3600.0
FIRST_SECONDS = 300.0
"""After the start at the latest: a process that lives for minutes only purges, too."""


@dataclass(frozen=True, slots=True)
class Purged:
    """How many went, and how many of these nobody had driven again with success."""

    letters: int = 0
    unresolved: int = 0


async def would_purge(connection: Connection, before: datetime) -> Purged:
    return Purged(*await dead_letter_reports.purgeable(connection, before))


async def purge(connection: Connection, before: datetime, asked: Asked | None, now: datetime) -> Purged:
    """Forget what failed before this moment and was published. `asked`: the operator who wants it, to be written down.

    Broken off in between, what went is gone and written down; the rest goes the next time.
    """
    purged, intervention_id = Purged(), None
    while True:
        async with connection.transaction():
            letters, unresolved = await dead_letters.purge(connection, before, PORTION)
            if not letters:
                return purged
            purged = Purged(purged.letters + letters, purged.unresolved + unresolved)
            if asked is not None:
                detail = {
                    "failed_before": before.isoformat(),
                    "purged": purged.letters,
                    "unresolved": purged.unresolved,
                }
                if intervention_id is None:
                    intervention_id = await interventions.record(connection, asked, "dead_letters_purged", detail, now)
                else:
                    await interventions.amend(connection, intervention_id, detail)


class Purging:
    """A part of the service that purges by the setting, once an hour."""

    name = "purging"

    def __init__(self, keep: timedelta) -> None:
        self.keep = keep
        self.wake = asyncio.Event()
        self.ending = asyncio.Event()
        # Not all processes at once.
        self.due_at = monotonic() + FIRST_SECONDS * random()  # noqa: S311
        """By our own clock (monotonic)."""

    def failing(self) -> int:
        return 0

    async def turn(self, connection: asyncpg.Connection) -> float:
        if monotonic() >= self.due_at:
            now = datetime.now(UTC)
            purged = await purge(connection, now - self.keep, None, now)
            if purged.letters:
                log.info("dead letters purged by age", letters=purged.letters, unresolved=purged.unresolved)
                telemetry.PURGED_LETTERS.inc(purged.letters)
            self.due_at = monotonic() + EVERY_SECONDS * (0.9 + random() / 5)  # noqa: S311
        return max(0.001, self.due_at - monotonic())
