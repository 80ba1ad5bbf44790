"""Messages that can never be used: kept byte for byte, then published to `allocator.dlq`, driven again on demand."""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import asyncpg

from backorder_allocator.decision import LateLetter
from backorder_allocator.statements import Connection, columns, run

Headers = tuple[tuple[str, bytes | None], ...]

PORTION_BYTES = 8 * 1024 * 1024
"""So much of dead letters is held in memory at once, or one letter."""
OUR_HEADERS = frozenset(
    {"dlq.topic", "dlq.partition", "dlq.offset", "dlq.reason", "dlq.detail", "dlq.failed_at", "dlq.left_out"}
)
"""What a dead letter has on its topic beside its own headers."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One Kafka record as it came. `topic` is without prefix, `at` the record's timestamp."""

    topic: str
    partition: int
    offset: int
    at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is kept as a dead letter, and why."""

    record: RawRecord
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Where a kept record was, why it is refused, and what became of driving it again; nothing of what is in it."""

    dead_letter_id: int
    topic: str
    partition: int
    offset: int
    topics_ago: int
    """How often its topic was made again since: offsets of then mean other records now."""
    record_at: datetime
    reason: str
    """Of the first refusal, as on the topic."""
    detail: str
    failed_at: datetime
    published: bool
    redrives: int
    redriven_at: datetime | None
    newest_reason: str | None
    """Of the last time it was driven again in vain."""
    newest_detail: str | None
    resolved_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class DeadLetterRow(Facts):
    """A kept dead letter."""

    key: bytes | None
    value: bytes | None
    headers: Headers


FACTS = [each.name for each in fields(Facts)]


@dataclass(frozen=True, slots=True)
class Which:
    """Which dead letters; None: whatever it is. `reasons`: the newest one counts."""

    ids: Sequence[int] | None = None
    reasons: Sequence[str] | None = None
    topics: Sequence[str] | None = None
    """Without prefix."""
    since: datetime | None = None
    until: datetime | None = None
    resolved_too: bool = False

    @property
    def arguments(self) -> tuple[object, ...]:
        """As the statements take them."""
        return self.ids, self.reasons, self.topics, self.since, self.until, self.resolved_too


async def keep(connection: Connection, refused: Iterable[Refused], now: datetime) -> None:
    """Keep records as dead letters, in the caller's transaction."""
    rows = [
        (
            record.topic,
            record.partition,
            record.offset,
            record.at,
            record.key,
            record.value,
            _array(header_names(record.headers)),
            _array(value for _, value in record.headers),
            each.reason,
            storable(each.detail),
        )
        for each in refused
        for record in (each.record,)
    ]
    if rows:
        await run(connection, "keep_dead_letters", *map(list, zip(*rows, strict=True)), now)


async def keep_late(connection: Connection, letters: Sequence[LateLetter], now: datetime) -> None:
    """Keep the records of shipments that waited for their order, which shows that they can't be."""
    rows = [(letter.key.shipment_id, letter.key.order_id, letter.reason, storable(letter.detail)) for letter in letters]
    if rows:
        await run(connection, "keep_late_letters", *columns(rows, 4), now)


async def unpublished(connection: Connection, limit: int, most_bytes: int = PORTION_BYTES) -> list[DeadLetterRow]:
    """The oldest, no more once their values have `most_bytes`."""
    return [_row(row) for row in await run(connection, "dead_letters_to_publish", limit, most_bytes)]


async def mark_published(connection: Connection, ids: Sequence[int], relay_epoch: int) -> bool:
    """False: the lease of that epoch is over, and nothing is marked."""
    return bool(await run(connection, "mark_dead_letters_published", list(ids), relay_epoch))


async def find(
    connection: Connection,
    which: Which = Which(),
    *,
    after: int = 0,
    limit: int = 100,
    most_bytes: int = PORTION_BYTES,
) -> list[DeadLetterRow]:
    """The oldest dead letters with a higher id than `after`: a portion that fits into memory."""
    rows = await run(connection, "find_dead_letters", *which.arguments, after, limit, most_bytes)
    return [_row(row) for row in rows]


async def lock_unresolved(connection: Connection, dead_letter_id: int) -> bool:
    """Lock a dead letter; False if it is gone or was driven again with success meanwhile."""
    rows = await run(connection, "lock_dead_letter", dead_letter_id)
    return bool(rows) and rows[0]["resolved_at"] is None


async def note_redrive(
    connection: Connection, dead_letter_id: int, now: datetime, outcome: str, reason: str, detail: str
) -> None:
    """What driving it again came to. Unless the outcome is dead_letter it is resolved."""
    refused = outcome == "dead_letter"
    why = (reason, storable(detail)) if refused else (None, None)
    await run(connection, "note_redrive", dead_letter_id, now, not refused, outcome, *why)


async def purge(connection: Connection, before: datetime, limit: int) -> tuple[int, int]:
    """Forget the oldest of those that failed before this moment; what was not published yet is kept.

    Gives how many went, and how many of them nobody had resolved.
    """
    row = (await run(connection, "purge_dead_letters", before, limit))[0]
    return row["purged"], row["unresolved"]


def headers_to_publish(headers: Headers) -> Headers:
    """The original headers without those that have names of ours.

    A record that somebody took from a .dlq topic and sent again brings them along. What is said now must be the only
    thing said, for a reader that takes the first of a name as for one that takes the last; and a record that goes round
    must not grow. The database keeps all of them.
    """
    return tuple((name, value) for name, value in headers if name not in OUR_HEADERS)


def storable(text: str) -> str:
    """Text that PostgreSQL takes: no NUL, no lone surrogates; at most 2,000 characters."""
    return text[:2000].replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def header_names(headers: Headers) -> list[bytes]:
    """The names as bytes: they need not be UTF-8."""
    return [name.encode("utf-8", "surrogatepass") for name, _ in headers]


def _array(items: Iterable[bytes | None]) -> str:
    return json.dumps([None if item is None else b64encode(item).decode("ascii") for item in items])


def facts(row: asyncpg.Record) -> Facts:
    return Facts(**_facts(row))


def _facts(row: asyncpg.Record) -> dict[str, Any]:
    """What the columns are that every statement which reads dead letters begins with."""
    return dict(zip(FACTS, row, strict=False))


def _row(row: asyncpg.Record) -> DeadLetterRow:
    names = (name.decode("utf-8", "surrogatepass") for name in row["header_names"])
    headers = tuple(zip(names, row["header_values"], strict=True))
    return DeadLetterRow(**_facts(row), key=row["key"], value=row["value"], headers=headers)
