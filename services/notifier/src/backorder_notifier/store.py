"""SQL of intake, the relay and dead letters: one function a statement, named as its file in sql/."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from datetime import datetime
from uuid import UUID

import asyncpg

from backorder_notifier.contacts import OrderContact
from backorder_notifier.outcomes import Outcome
from backorder_notifier.rows import (
    BacklogRow,
    CursorPosition,
    CursorRow,
    DeadLetterRow,
    Headers,
    Key,
    KnownUpdate,
    NewUpdate,
    OrderRow,
    OutboxRow,
    ParkedRow,
    Partition,
    PendingMark,
    Record,
    SavedOrder,
)
from backorder_notifier.statements import Connection, columns, run
from backorder_schemas import DeadLetter

# Reading a batch


async def stub_cursors(connection: Connection, partitions: Sequence[Partition]) -> None:
    await run(connection, "stub_cursors", *columns(sorted(partitions), 2))


async def lock_cursors(connection: Connection, partitions: Sequence[Partition]) -> dict[Partition, CursorPosition]:
    rows = await run(connection, "lock_cursors", *columns(sorted(partitions), 2))
    return {(row["topic"], row["partition"]): _position(row) for row in rows}


async def read_positions(connection: Connection) -> dict[Partition, CursorPosition]:
    """All, not locked."""
    rows = await run(connection, "read_positions")
    return {(row["topic"], row["partition"]): _position(row) for row in rows}


async def read_cursors(connection: Connection, topics: Iterable[str]) -> dict[Partition, int]:
    rows = await run(connection, "read_cursors", sorted(set(topics)))
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def move_cursors(
    connection: Connection, now: datetime, process: UUID, positions: Mapping[Partition, tuple[int, bool, bool]]
) -> None:
    """To (next offset, whether what is read there is old, whether it is another's)."""
    rows = [(topic, partition, *position) for (topic, partition), position in sorted(positions.items())]
    await run(connection, "move_cursors", now, process, *columns(rows, 5))


async def catching_up(connection: Connection, moved_after: datetime, behind_after: datetime) -> bool:
    """Whether a partition is being read that is far behind. One that stands still or never catches up doesn't count."""
    answer: bool = (await run(connection, "catching_up", moved_after, behind_after))[0]["catching_up"]
    return answer


async def stub_orders(connection: Connection, order_ids: Iterable[str]) -> None:
    await run(connection, "stub_orders", sorted(order_ids))


async def lock_orders(connection: Connection, order_ids: Iterable[str]) -> dict[str, OrderRow]:
    rows = await run(connection, "lock_orders", sorted(order_ids))
    return {row["order_id"]: OrderRow(*row) for row in rows}


async def place_orders(connection: Connection, now: datetime, contacts: Iterable[OrderContact]) -> None:
    await run(connection, "place_orders", now, *columns((astuple(contact) for contact in contacts), 10))


async def save_orders(connection: Connection, orders: Iterable[SavedOrder]) -> None:
    rows = ((order.order_id, order.dossier, order.told, order.tell_at) for order in orders)
    await run(connection, "save_orders", *columns(rows, 4))


async def read_versions(connection: Connection, keys: Sequence[Key]) -> dict[Key, tuple[int, int]]:
    """(epoch, version) last applied."""
    rows = await run(connection, "read_versions", *columns(keys, 2))
    return {(row["topic"], row["key"]): (row["epoch"], row["version"]) for row in rows}


async def save_versions(connection: Connection, versions: Iterable[tuple[str, str, int, int]]) -> None:
    """(topic, key, epoch, version) each."""
    await run(connection, "save_versions", *columns(versions, 4))


async def read_parked(connection: Connection, keys: Sequence[Key]) -> list[ParkedRow]:
    rows = await run(connection, "read_parked", *columns(keys, 2))
    return [ParkedRow(row["topic"], row["key"], row["epoch"], row["version"], _record(row)) for row in rows]


async def park(connection: Connection, now: datetime, parked: Iterable[ParkedRow]) -> None:
    rows = [
        (
            each.topic,
            each.key,
            each.epoch,
            each.version,
            each.record.full_topic,
            each.record.partition,
            each.record.offset,
            each.record.recorded_at,
            each.record.key,
            each.record.value,
            *_header_columns(each.record.headers),
        )
        for each in parked
    ]
    await run(connection, "park", now, *columns(rows, 12))


async def unpark(connection: Connection, parked: Iterable[tuple[str, str, int, int]]) -> None:
    """(topic, key, epoch, version) each."""
    await run(connection, "unpark", *columns(parked, 4))


async def overdue_keys(connection: Connection, before: datetime, limit: int) -> list[Key]:
    """Of records parked before then."""
    return [(row["topic"], row["key"]) for row in await run(connection, "overdue_keys", before, limit)]


# Recording what happened


async def known_updates(connection: Connection, event_ids: Sequence[str]) -> dict[str, KnownUpdate]:
    rows = await run(connection, "known_updates", list(event_ids))
    return {row["event_id"]: KnownUpdate(row["order_id"], row["type"], row["state"]) for row in rows}


async def record_updates(connection: Connection, now: datetime, updates: Iterable[NewUpdate]) -> None:
    await run(connection, "record_updates", now, *columns((_fields(update) for update in updates), 12))


async def revive_shipments(connection: Connection, waited_at: Mapping[str, datetime]) -> None:
    """`waited_at`: when something of an order began to wait, by order."""
    await run(connection, "revive_shipments", *columns(sorted(waited_at.items()), 2))


async def pending_marks(connection: Connection, order_ids: Iterable[str]) -> list[PendingMark]:
    return [PendingMark(*row) for row in await run(connection, "pending_marks", sorted(order_ids))]


async def save_products(connection: Connection, products: Iterable[tuple[str, int, str | None]]) -> None:
    """(sku, revision, title) each."""
    await run(connection, "save_products", *columns(sorted(products), 3))


async def save_availability(connection: Connection, rows: Iterable[tuple[str, str, int, int, bool]]) -> None:
    """(location, sku, epoch, version, in stock) each."""
    await run(connection, "save_availability", *columns(sorted(rows), 5))


async def append_outbox(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    rows = [(each.order_id, each.version, each.key, each.value, *_header_columns(each.headers)) for each in outcomes]
    await run(connection, "append_outbox", *columns(rows, 6))


async def read_epoch(connection: Connection) -> int:
    """Of what is published."""
    epoch: int = (await run(connection, "read_epoch"))[0]["epoch"]
    return epoch


# Publishing


async def take_lease(connection: Connection, name: str, holder: UUID, now: datetime, ends_at: datetime) -> int | None:
    """The epoch of the lease, or None while another holds it."""
    rows = await run(connection, "take_lease", name, holder, now, ends_at)
    return rows[0]["epoch"] if rows else None


async def free_lease(connection: Connection, name: str, holder: UUID, now: datetime) -> None:
    await run(connection, "free_lease", name, holder, now)


async def unpublished_outcomes(connection: Connection, limit: int) -> list[OutboxRow]:
    rows = await run(connection, "unpublished_outcomes", limit)
    return [OutboxRow(row["position"], row["record_key"], row["record_value"], _headers(row)) for row in rows]


async def forget_outcomes(connection: Connection, positions: Sequence[int], holder: UUID, epoch: int) -> int:
    """How many were forgotten: none when the lease has changed hands."""
    return len(await run(connection, "forget_outcomes", list(positions), holder, epoch))


async def note_refused_relay(connection: Connection, holder: UUID, epoch: int, now: datetime) -> int | None:
    """The epoch in which another has taken over; None where nobody has."""
    rows = await run(connection, "note_refused_relay", holder, epoch, now)
    return rows[0]["epoch"] if rows else None


async def unpublished_dead_letters(connection: Connection, limit: int, most_bytes: int) -> list[DeadLetterRow]:
    """The oldest: at most `limit`, and no more once their values have `most_bytes`."""
    return [_dead_letter(row) for row in await run(connection, "unpublished_dead_letters", limit, most_bytes)]


async def mark_dead_letters_published(
    connection: Connection, ids: Sequence[int], now: datetime, holder: UUID, epoch: int
) -> int:
    """How many were marked: none when the lease has changed hands."""
    return len(await run(connection, "mark_dead_letters_published", list(ids), now, holder, epoch))


# Dead letters


async def bury(connection: Connection, now: datetime, letters: Iterable[tuple[Record, DeadLetter]]) -> None:
    rows = [
        (
            record.topic,
            record.full_topic,
            record.partition,
            record.offset,
            record.recorded_at,
            record.key,
            record.value,
            *_header_columns(record.headers),
            letter.reason,
            letter.detail.replace("\x00", "\\x00"),
        )
        for record, letter in letters
    ]
    await run(connection, "bury", now, *columns(rows, 11))


# For people and metrics


async def backlog(connection: Connection) -> BacklogRow:
    return BacklogRow(*(await run(connection, "backlog"))[0])


async def list_cursors(connection: Connection) -> list[CursorRow]:
    return [CursorRow(*row) for row in await run(connection, "list_cursors")]


# Rows


def _position(row: asyncpg.Record) -> CursorPosition:
    return CursorPosition(row["next_offset"], row["told_below"], row["moved_by"], row["upgraded_at"])


def _fields(update: NewUpdate) -> tuple[object, ...]:
    return (
        update.event_id,
        update.order_id,
        update.topic,
        update.line_no,
        update.kind,
        update.caused_by,
        update.occurred_at,
        update.recorded_at,
        update.event,
        update.traceparent,
        update.state,
        update.reason,
    )


def _header_columns(headers: Headers) -> tuple[str, str]:
    """Names and values as JSON of hex: arrays of arrays don't pass through unnest."""
    names = [name.encode("utf-8", "surrogatepass").hex() for name, _ in headers]
    values = [None if value is None else value.hex() for _, value in headers]
    return json.dumps(names), json.dumps(values)


def _headers(row: asyncpg.Record) -> Headers:
    names = (name.decode("utf-8", "surrogatepass") for name in row["header_names"])
    return tuple(zip(names, row["header_values"], strict=True))


def _record(row: asyncpg.Record) -> Record:
    return Record(
        row["topic"],
        row["full_topic"],
        row["partition"],
        row["record_offset"],
        row["recorded_at"],
        row["record_key"],
        row["record_value"],
        _headers(row),
    )


def _dead_letter(row: asyncpg.Record) -> DeadLetterRow:
    return DeadLetterRow(
        row["dead_letter_id"],
        _record(row),
        row["reason"],
        row["detail"],
        row["failed_at"],
        row["published_at"],
        row["redriven_at"],
    )
