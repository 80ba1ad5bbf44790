"""Messages that can never be used: kept byte for byte, then published to `allocator.dlq`, driven again on demand."""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from backorder_allocator.decision import LateLetter
from backorder_allocator.statements import Connection, columns, run

Headers = tuple[tuple[str, bytes | None], ...]


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
class DeadLetterRow:
    """A kept dead letter."""

    dead_letter_id: int
    topic: str
    partition: int
    offset: int
    record_at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    detail: str
    failed_at: datetime
    redrives: int
    resolved_at: datetime | None
    outcome: str | None


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


async def unpublished(connection: Connection, limit: int) -> list[DeadLetterRow]:
    return [_row(row) for row in await run(connection, "dead_letters_to_publish", limit)]


async def mark_published(connection: Connection, ids: Sequence[int], relay_epoch: int) -> None:
    await run(connection, "mark_dead_letters_published", list(ids), relay_epoch)


async def find(
    connection: Connection,
    *,
    dead_letter_id: int | None = None,
    reason: str | None = None,
    resolved_too: bool = False,
    limit: int = 1000,
) -> list[DeadLetterRow]:
    """Dead letters, oldest first."""
    return [_row(row) for row in await run(connection, "dead_letters_by", dead_letter_id, reason, resolved_too, limit)]


async def lock_unresolved(connection: Connection, dead_letter_id: int) -> bool:
    """Lock a dead letter; False if it is gone or was driven again with success meanwhile."""
    rows = await run(connection, "lock_dead_letter", dead_letter_id)
    return bool(rows) and rows[0]["resolved_at"] is None


async def note_redrive(
    connection: Connection,
    dead_letter_id: int,
    resolved_at: datetime | None,
    outcome: str,
    reason: str | None = None,
    detail: str | None = None,
) -> None:
    detail = None if detail is None else storable(detail)
    await run(connection, "note_redrive", dead_letter_id, resolved_at, outcome, reason, detail)


async def purge(connection: Connection, before: datetime) -> int:
    """Forget those that failed before this moment, and how many they were. What was not published yet is kept."""
    return int((await run(connection, "purge_dead_letters", before))[0]["purged"])


def storable(text: str) -> str:
    """Text that PostgreSQL takes: no NUL, no lone surrogates; at most 2,000 characters."""
    return text[:2000].replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def header_names(headers: Headers) -> list[bytes]:
    """The names as bytes: they need not be UTF-8."""
    return [name.encode("utf-8", "surrogatepass") for name, _ in headers]


def _array(items: Iterable[bytes | None]) -> str:
    return json.dumps([None if item is None else b64encode(item).decode("ascii") for item in items])


def _row(row: asyncpg.Record) -> DeadLetterRow:
    names = (name.decode("utf-8", "surrogatepass") for name in row["header_names"])
    return DeadLetterRow(
        row["dead_letter_id"],
        row["topic"],
        row["partition"],
        row["record_offset"],
        row["record_at"],
        row["key"],
        row["value"],
        tuple(zip(names, row["header_values"], strict=True)),
        row["reason"],
        row["detail"],
        row["failed_at"],
        row["redrives"],
        row["resolved_at"],
        row["outcome"],
    )
