"""What people ask of dead letters: why they are dead, which they are, what somebody did about one. Reads only."""

import json
from dataclasses import dataclass
from datetime import datetime

from backorder_allocator.dead_letters import Facts, Which, facts
from backorder_allocator.statements import Connection, run


@dataclass(frozen=True, slots=True)
class Cause:
    """Letters that are dead for the same reason. `detail`: the first complaint without what differs among them."""

    topic: str
    reason: str
    detail: str
    count: int
    open: int
    resolved: int
    first_seen: datetime
    last_seen: datetime
    example_id: int
    """The oldest that is open, if one is."""


@dataclass(frozen=True, slots=True)
class Redrive:
    """Once that a letter was driven again."""

    at: datetime
    by: str
    why: str | None
    outcome: str
    reason: str
    detail: str


async def causes(connection: Connection, which: Which, limit: int) -> list[Cause]:
    """Those with most open letters first."""
    return [Cause(**row) for row in await run(connection, "dead_letter_causes", *which.arguments, limit)]


async def listed(connection: Connection, which: Which, limit: int) -> list[Facts]:
    """Oldest first."""
    return [facts(row) for row in await run(connection, "list_dead_letters", *which.arguments, limit)]


async def redrives(connection: Connection, dead_letter_id: int) -> list[Redrive]:
    """Oldest first."""
    rows = await run(connection, "redrives_of_letter", dead_letter_id)
    return [_redrive(row["at"], row["by"], row["why"], json.loads(row["detail"])) for row in rows]


def _redrive(at: datetime, by: str, why: str | None, detail: dict[str, str]) -> Redrive:
    return Redrive(at, by, why, detail["outcome"], detail["reason"], detail["detail"])


async def newest(connection: Connection) -> int:
    """The highest id of all, 0 where there is none."""
    return int((await run(connection, "newest_dead_letter"))[0]["dead_letter_id"])


async def purgeable(connection: Connection, before: datetime) -> tuple[int, int]:
    """How many a purge would forget, and how many of these nobody has resolved."""
    row = (await run(connection, "count_purgeable", before))[0]
    return row["purged"], row["unresolved"]
