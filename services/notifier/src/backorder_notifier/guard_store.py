"""SQL of the guards: one function a statement, named as its file in sql/."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from backorder_notifier.statements import Connection, columns, run


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database this is, as it was at the last start. System and timeline: None where the server doesn't say."""

    epoch: int
    system_identifier: str | None
    timeline: int | None
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Server:
    """The server as it is. `unsafe`: whether what keeps commits is off, by setting."""

    system_identifier: str | None
    timeline: int | None
    unsafe: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """An input topic as it was when it was first read, or last accepted. `topic_id`: 0 where the broker didn't say."""

    topic_id: UUID
    partitions: int
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class Accepted:
    """A finding that an operator accepted. `detail` is JSON."""

    at: datetime
    by: str
    what: str
    why: str | None
    detail: str


async def lock_identity(connection: Connection) -> None:
    await run(connection, "lock_identity")


async def read_identity(connection: Connection) -> Identity:
    return Identity(*(await run(connection, "read_identity"))[0])


async def read_durability(connection: Connection) -> Mapping[str, bool]:
    return dict((await run(connection, "read_durability"))[0])


async def read_system(connection: Connection) -> tuple[str, int]:
    """Raises InsufficientPrivilegeError where the server keeps it to itself."""
    row = (await run(connection, "read_system"))[0]
    return row["system_identifier"], row["timeline"]


async def note_identity(
    connection: Connection, system_identifier: str | None, timeline: int | None, now: datetime
) -> None:
    await run(connection, "note_identity", system_identifier, timeline, now)


async def raise_epoch(connection: Connection, epoch: int) -> None:
    await run(connection, "raise_epoch", epoch)


async def read_topics_seen(connection: Connection) -> dict[str, TopicSeen]:
    return {row["topic"]: TopicSeen(*row[1:]) for row in await run(connection, "read_topics_seen")}


async def note_topic(connection: Connection, topic: str, topic_id: UUID, partitions: int, now: datetime) -> None:
    await run(connection, "note_topic", topic, topic_id, partitions, now)


async def unknown_outcomes(connection: Connection, outcomes: Sequence[tuple[str, int, bytes]]) -> list[int]:
    """Of (order, version, digest) each: the ordinals of those that this database can't have published."""
    return [row["ordinal"] for row in await run(connection, "unknown_outcomes", *columns(outcomes, 3))]


async def begin_cursors(connection: Connection, topic: str, first: Mapping[int, int]) -> None:
    """`first`: the first offset of each partition."""
    await run(connection, "begin_cursors", topic, *columns(sorted(first.items()), 2))


async def reset_cursors(connection: Connection, topic: str, first: Mapping[int, int]) -> None:
    """`first`: the first offset of each partition there is now."""
    await run(connection, "reset_cursors", topic, *columns(sorted(first.items()), 2))


async def skip_gone(connection: Connection, topic: str, first: Mapping[int, int]) -> None:
    """`first`: the first offset that is there, of partitions that have lost messages."""
    await run(connection, "skip_gone", topic, *columns(sorted(first.items()), 2))


async def age_dead_letters(connection: Connection, topic: str) -> None:
    """To be called twice: in between ages are negative, since one that is free is needed for each row."""
    await run(connection, "age_dead_letters", topic)


async def note_accepted(
    connection: Connection, now: datetime, by: str, what: str, why: str | None, detail: Mapping[str, Any]
) -> None:
    await run(connection, "note_accepted", now, by, what, why, json.dumps(detail))


async def list_accepted(connection: Connection, limit: int) -> list[Accepted]:
    """The newest."""
    return [Accepted(*row) for row in await run(connection, "list_accepted", limit)]
