"""SQL about dead letters that people look at, drive again or purge: one function a statement, named as its file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from backorder_notifier.rows import Record
from backorder_notifier.statements import Connection, run

PORTION_BYTES: Final = 8 * 2**20
"""So much of dead letters is held in memory at once, or one letter."""
_FACTS: Final = 15  # columns that every statement about letters begins with


@dataclass(frozen=True, slots=True)
class Facts:
    """Where a kept record was, why it is refused, and what became of driving it again; nothing of what is in it.

    `reason` and `detail` are those of the first refusal, as on the topic. `redriven_at`: when it was used after all.
    `tried_at`: when it was last driven again, with or without success; the newest reason is of the last time in vain.
    """

    dead_letter_id: int
    full_topic: str
    partition: int
    offset: int
    recorded_at: datetime
    reason: str
    detail: str
    failed_at: datetime
    published_at: datetime | None
    redriven_at: datetime | None
    redrives: int
    tried_at: datetime | None
    newest_reason: str | None
    newest_detail: str | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """A dead letter with what it came with."""

    facts: Facts
    record: Record


@dataclass(frozen=True, slots=True)
class Which:
    """Which dead letters; None: whatever it is. Of reasons the newest counts; topics are with prefix or without."""

    ids: Sequence[int] | None = None
    reasons: Sequence[str] | None = None
    topics: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    resolved_too: bool = False

    @property
    def arguments(self) -> tuple[object, ...]:
        """As the statements take them."""
        return self.ids, self.reasons, self.topics, self.since, self.until, self.resolved_too


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


@dataclass(frozen=True, slots=True)
class Redrive:
    """Once that a letter was driven again."""

    at: datetime
    by: str
    why: str | None
    outcome: str
    reason: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants something, and why, in their own words."""

    by: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class PurgedLetters:
    """How many went, and how many of these nobody had driven again with success."""

    letters: int = 0
    unresolved: int = 0


async def dead_letter_causes(connection: Connection, which: Which, limit: int) -> list[Cause]:
    """Those with most open letters first."""
    return [Cause(*row) for row in await run(connection, "dead_letter_causes", *which.arguments, limit)]


async def list_dead_letters(connection: Connection, which: Which, limit: int) -> list[Facts]:
    """Oldest first."""
    return [Facts(*row) for row in await run(connection, "list_dead_letters", *which.arguments, limit)]


async def find_dead_letters(
    connection: Connection, which: Which, after: int = 0, limit: int = 100, most_bytes: int = PORTION_BYTES
) -> list[KeptLetter]:
    """The oldest with a higher id than `after`: a portion that fits into memory."""
    rows = await run(connection, "find_dead_letters", *which.arguments, after, limit, most_bytes)
    return [_kept(row) for row in rows]


async def limit_idling(connection: Connection) -> None:
    """For the rest of the session."""
    await run(connection, "limit_idling")


async def newest_dead_letter(connection: Connection) -> int:
    """The highest id of all, 0 where there is none."""
    newest: int = (await run(connection, "newest_dead_letter"))[0]["dead_letter_id"]
    return newest


async def lock_dead_letter(connection: Connection, dead_letter_id: int) -> bool:
    """False: it is gone, or was used after all."""
    rows = await run(connection, "lock_dead_letter", dead_letter_id)
    return bool(rows) and rows[0]["redriven_at"] is None


async def note_redrive(
    connection: Connection, dead_letter_id: int, now: datetime, outcome: str, reason: str | None, detail: str | None
) -> None:
    """`reason` and `detail` where it was refused again."""
    await run(connection, "note_redrive", dead_letter_id, now, reason is None, outcome, reason, detail)


async def redrives_of_letter(connection: Connection, dead_letter_id: int) -> list[Redrive]:
    """Oldest first."""
    redrives = []
    for row in await run(connection, "redrives_of_letter", dead_letter_id):
        came = json.loads(row["detail"])
        redrives.append(Redrive(row["at"], row["by"], row["note"], came["outcome"], came["reason"], came["detail"]))
    return redrives


async def purge_dead_letters(connection: Connection, before: datetime, limit: int) -> PurgedLetters:
    """The oldest of those that failed before then and are published."""
    return PurgedLetters(*(await run(connection, "purge_dead_letters", before, limit))[0])


async def count_purgeable(connection: Connection, before: datetime) -> PurgedLetters:
    return PurgedLetters(*(await run(connection, "count_purgeable", before))[0])


async def record_act(connection: Connection, asked: Asked, what: str, detail: Mapping[str, Any], now: datetime) -> int:
    """Gives its number."""
    rows = await run(connection, "record_act", now, asked.by, asked.why, what, json.dumps(detail))
    number: int = rows[0]["intervention_id"]
    return number


async def amend_act(connection: Connection, intervention_id: int, detail: Mapping[str, Any]) -> None:
    await run(connection, "amend_act", intervention_id, json.dumps(detail))


def _kept(row: asyncpg.Record) -> KeptLetter:
    facts = Facts(*tuple(row)[:_FACTS])
    names = (name.decode("utf-8", "surrogatepass") for name in row["header_names"])
    record = Record(
        row["topic"],
        facts.full_topic,
        facts.partition,
        facts.offset,
        facts.recorded_at,
        row["record_key"],
        row["record_value"],
        tuple(zip(names, row["header_values"], strict=True)),
    )
    return KeptLetter(facts, record)
