"""The only module that runs SQL: one function a statement, named as its file in sql/."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg

from backorder_notifier.contacts import Contact
from backorder_notifier.outcomes import Outcome
from backorder_notifier.rows import (
    BacklogRow,
    ClaimedRow,
    CursorRow,
    DeadLetterRow,
    DeliveryRow,
    Headers,
    OrderRow,
    OutboxRow,
    ParkedRow,
    Record,
    StateCount,
    WaitingRow,
)
from backorder_notifier.telemetry import SQL_SECONDS, timed
from backorder_notifier.updates import Delivery
from backorder_schemas import DeadLetter

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Partition = tuple[str, int]
"""(full topic, partition)"""

STATEMENT_SECONDS = 10
COMMAND_SECONDS = 15  # the client gives up after the server should have


async def open_pool(url: str, *, size: int) -> asyncpg.Pool:
    """Connections whose every wait ends; none is opened yet. What the URL says of TLS holds (default: prefer)."""
    pool: asyncpg.Pool = await asyncpg.create_pool(
        url,
        min_size=0,  # so that a database that is away can be waited for
        max_size=size,
        timeout=10,
        command_timeout=COMMAND_SECONDS,
        server_settings={
            "application_name": "backorder-notifier",
            "jit": "off",
            "statement_timeout": f"{STATEMENT_SECONDS}s",
            "lock_timeout": "5s",
            # A frozen process must not hold the rows of a batch for longer than this.
            "idle_in_transaction_session_timeout": "15s",
        },
    )
    return pool


@cache
def statement(name: str) -> str:
    """The text of sql/<name>.sql."""
    return files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


async def _run(connection: Connection, name: str, *arguments: Any) -> list[asyncpg.Record]:
    with timed(SQL_SECONDS.labels(name)):
        rows: list[asyncpg.Record] = await connection.fetch(statement(name), *arguments)
        return rows


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows turned into one list a column, as unnest takes them."""
    columns: list[list[Any]] = [[] for _ in range(width)]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


# Reading a batch


async def stub_cursors(connection: Connection, partitions: Sequence[Partition]) -> None:
    await _run(connection, "stub_cursors", *_columns(sorted(partitions), 2))


async def lock_cursors(connection: Connection, partitions: Sequence[Partition]) -> dict[Partition, int]:
    rows = await _run(connection, "lock_cursors", *_columns(sorted(partitions), 2))
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def read_cursors(connection: Connection, topics: Iterable[str]) -> dict[Partition, int]:
    rows = await _run(connection, "read_cursors", sorted(set(topics)))
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def move_cursors(connection: Connection, positions: Mapping[Partition, int]) -> None:
    rows = [(topic, partition, offset) for (topic, partition), offset in sorted(positions.items())]
    await _run(connection, "move_cursors", *_columns(rows, 3))


async def stub_orders(connection: Connection, order_ids: Iterable[str]) -> None:
    await _run(connection, "stub_orders", sorted(order_ids))


async def lock_orders(connection: Connection, order_ids: Iterable[str]) -> dict[str, OrderRow]:
    rows = await _run(connection, "lock_orders", sorted(order_ids))
    return {row["order_id"]: OrderRow(*row) for row in rows}


async def record_contacts(connection: Connection, now: datetime, contacts: Iterable[Contact]) -> None:
    rows = [(*astuple(contact), contact.withheld) for contact in contacts]
    await _run(connection, "record_contacts", now, *_columns(rows, 11))


async def count_deliveries(connection: Connection, orders: Iterable[OrderRow]) -> None:
    rows = [(order.order_id, order.deliveries, order.outcome_version) for order in orders]
    await _run(connection, "count_deliveries", *_columns(rows, 3))


async def read_versions(connection: Connection, topic: str, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(epoch, version) last applied, by key."""
    rows = await _run(connection, "read_versions", topic, list(keys))
    return {row["key"]: (row["epoch"], row["version"]) for row in rows}


async def save_versions(connection: Connection, topic: str, versions: Iterable[tuple[str, int, int]]) -> None:
    """(key, epoch, version) each."""
    await _run(connection, "save_versions", topic, *_columns(versions, 3))


async def read_parked(connection: Connection, topic: str, keys: Sequence[str]) -> list[ParkedRow]:
    rows = await _run(connection, "read_parked", topic, list(keys))
    return [ParkedRow(row["key"], row["epoch"], row["version"], _record(row)) for row in rows]


async def park(connection: Connection, topic: str, now: datetime, parked: Iterable[ParkedRow]) -> None:
    rows = [
        (
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
    await _run(connection, "park", topic, now, *_columns(rows, 11))


async def unpark(connection: Connection, topic: str, parked: Iterable[tuple[str, int, int]]) -> None:
    """(key, epoch, version) each."""
    await _run(connection, "unpark", topic, *_columns(parked, 3))


async def overdue_keys(connection: Connection, before: datetime, limit: int) -> list[tuple[str, str]]:
    """(topic, key) of records parked before then."""
    return [(row["topic"], row["key"]) for row in await _run(connection, "overdue_keys", before, limit)]


# Recording what to tell


async def told_events(connection: Connection, event_ids: Sequence[str], channel: str) -> set[str]:
    return {row["event_id"] for row in await _run(connection, "told_events", list(event_ids), channel)}


async def record_deliveries(connection: Connection, now: datetime, deliveries: Sequence[Delivery]) -> None:
    rows = [
        (
            each.delivery_id,
            each.order_id,
            each.position,
            each.kind,
            each.channel,
            each.state,
            each.reason,
            now if each.state == "withheld" else None,
            each.traceparent,
        )
        for each in deliveries
    ]
    await _run(connection, "record_deliveries", now, *_columns(rows, 9))


async def record_updates(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """What the deliveries tell; they are recorded by then."""
    rows = [
        (event.id, each.channel, each.delivery_id, ordinal, event.occurred_at, event.model_dump_json())
        for each in deliveries
        for ordinal, event in enumerate(each.events, 1)
    ]
    await _run(connection, "record_updates", *_columns(rows, 6))


async def waiting_deliveries(connection: Connection, order_ids: Iterable[str]) -> list[WaitingRow]:
    rows = await _run(connection, "waiting_deliveries", sorted(order_ids))
    return [
        WaitingRow(
            row["delivery_id"],
            row["order_id"],
            row["kind"],
            row["channel"],
            row["attempts"],
            row["traceparent"],
            tuple(row["about"]),
        )
        for row in rows
    ]


async def make_due(connection: Connection, delivery_ids: Sequence[UUID], now: datetime) -> None:
    await _run(connection, "make_due", list(delivery_ids), now)


async def withhold(connection: Connection, reasons: Mapping[UUID, str], now: datetime) -> None:
    await _run(connection, "withhold", list(reasons), list(reasons.values()), now)


async def append_outbox(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    rows = [(each.order_id, each.version, each.key, each.value, *_header_columns(each.headers)) for each in outcomes]
    await _run(connection, "append_outbox", *_columns(rows, 6))


# Sending


async def claim_deliveries(
    connection: Connection, now: datetime, limit: int, lease: UUID, lease_ends_at: datetime
) -> list[ClaimedRow]:
    rows = await _run(connection, "claim_deliveries", now, limit, lease, lease_ends_at)
    return [ClaimedRow(*_hashable(row)) for row in rows]


async def unclaim(connection: Connection, rows: Iterable[ClaimedRow], now: datetime) -> None:
    await _run(connection, "unclaim", *_columns([(row.delivery_id, row.lease) for row in rows], 2), now)


async def next_outcome_version(connection: Connection, order_id: str) -> int:
    rows = await _run(connection, "next_outcome_version", order_id)
    version: int = rows[0]["outcome_version"]
    return version


async def settle_sent(connection: Connection, delivery_id: UUID, now: datetime) -> bool:
    """False: it was settled before."""
    return bool(await _run(connection, "settle_sent", delivery_id, now))


async def settle_failed(connection: Connection, delivery_id: UUID, lease: UUID, reason: str, now: datetime) -> bool:
    """False: the lease is another's now, or it was settled before."""
    return bool(await _run(connection, "settle_failed", delivery_id, lease, reason, now))


async def retry_later(connection: Connection, delivery_id: UUID, lease: UUID, reason: str, due_at: datetime) -> bool:
    """False: the lease is another's now, or it was settled before."""
    return bool(await _run(connection, "retry_later", delivery_id, lease, reason, due_at))


# Publishing


async def take_lease(connection: Connection, name: str, holder: UUID, now: datetime, ends_at: datetime) -> int | None:
    """The epoch of the lease, or None while another holds it."""
    rows = await _run(connection, "take_lease", name, holder, now, ends_at)
    return rows[0]["epoch"] if rows else None


async def free_lease(connection: Connection, name: str, holder: UUID, now: datetime) -> None:
    await _run(connection, "free_lease", name, holder, now)


async def unpublished_outcomes(connection: Connection, limit: int) -> list[OutboxRow]:
    rows = await _run(connection, "unpublished_outcomes", limit)
    return [OutboxRow(row["position"], row["record_key"], row["record_value"], _headers(row)) for row in rows]


async def forget_outcomes(connection: Connection, positions: Sequence[int], holder: UUID, epoch: int) -> int:
    """How many were forgotten: none when the lease has changed hands."""
    return len(await _run(connection, "forget_outcomes", list(positions), holder, epoch))


async def unpublished_dead_letters(connection: Connection, limit: int, most_bytes: int) -> list[DeadLetterRow]:
    """The oldest: at most `limit`, and no more once their values have `most_bytes`."""
    return [_dead_letter(row) for row in await _run(connection, "unpublished_dead_letters", limit, most_bytes)]


async def mark_dead_letters_published(
    connection: Connection, ids: Sequence[int], now: datetime, holder: UUID, epoch: int
) -> int:
    """How many were marked: none when the lease has changed hands."""
    return len(await _run(connection, "mark_dead_letters_published", list(ids), now, holder, epoch))


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
    await _run(connection, "bury", now, *_columns(rows, 11))


async def list_dead_letters(connection: Connection, reasons: Sequence[str] | None, limit: int) -> list[DeadLetterRow]:
    return [_dead_letter(row) for row in await _run(connection, "list_dead_letters", reasons, limit)]


async def read_dead_letter(connection: Connection, dead_letter_id: int) -> DeadLetterRow | None:
    rows = await _run(connection, "read_dead_letter", dead_letter_id)
    return _dead_letter(rows[0]) if rows else None


async def lock_dead_letters(
    connection: Connection, ids: Sequence[int] | None, reasons: Sequence[str] | None, after: int, limit: int
) -> list[DeadLetterRow]:
    return [_dead_letter(row) for row in await _run(connection, "lock_dead_letters", ids, reasons, after, limit)]


async def mark_redriven(connection: Connection, ids: Sequence[int], now: datetime) -> None:
    await _run(connection, "mark_redriven", list(ids), now)


# For people and metrics


async def list_deliveries(
    connection: Connection, states: Sequence[str] | None, order_id: str | None, limit: int
) -> list[DeliveryRow]:
    rows = await _run(connection, "list_deliveries", states, order_id, limit)
    return [DeliveryRow(*_hashable(row)) for row in rows]


async def count_states(connection: Connection) -> list[StateCount]:
    return [StateCount(*row) for row in await _run(connection, "count_states")]


async def backlog(connection: Connection) -> BacklogRow:
    return BacklogRow(*(await _run(connection, "backlog"))[0])


async def list_cursors(connection: Connection) -> list[CursorRow]:
    return [CursorRow(*row) for row in await _run(connection, "list_cursors")]


# Rows


def _hashable(row: asyncpg.Record) -> list[Any]:
    """The columns, arrays as tuples."""
    return [tuple(value) if isinstance(value, list) else value for value in row]


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
