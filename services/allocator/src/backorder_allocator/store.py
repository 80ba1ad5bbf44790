"""The rows of a batch in PostgreSQL: lock and load what it can touch, write what was decided, set-wise.

Locks are taken in one order everywhere, each set sorted, in one statement: cursors → pools → orders → alert versions →
the log's head.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backorder_allocator.allocation import Cancel, Decision, Movement
from backorder_allocator.events import SealedEvent
from backorder_allocator.state import Line, MovementKey, Order, Pool, PoolKey, Rank
from backorder_allocator.statements import Connection, copy, run
from backorder_schemas import OrderCancelled

PartitionKey = tuple[str, int]
"""(topic without prefix, partition)."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The place of a transaction in the log: its number, and the seq of its first event."""

    number: int
    first_seq: int


async def add_cursors(connection: Connection, partitions: Iterable[PartitionKey]) -> None:
    await run(connection, "add_cursors", *_columns(sorted(partitions), 2))


async def read_cursors(connection: Connection, partitions: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
    rows = await run(connection, "read_cursors", *_columns(sorted(partitions), 2))
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def lock_cursors(connection: Connection, partitions: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
    rows = await run(connection, "lock_cursors", *_columns(sorted(partitions), 2))
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def move_cursors(connection: Connection, positions: Mapping[PartitionKey, int]) -> None:
    rows = [(topic, partition, offset) for (topic, partition), offset in sorted(positions.items())]
    await run(connection, "move_cursors", *_columns(rows, 3))


async def pool_ids(connection: Connection, keys: Sequence[PoolKey]) -> dict[PoolKey, int]:
    """The ids of pools; those that don't exist are made first. Not inside a batch's transaction."""
    names = _columns(sorted(keys), 2)
    rows = await run(connection, "pool_ids", *names)
    if len(rows) < len(keys):
        await run(connection, "add_pools", *names)
        rows = await run(connection, "pool_ids", *names)
    return {PoolKey(row["sku"], row["location"]): row["pool_id"] for row in rows}


async def lock_pools(connection: Connection, ids: Iterable[int]) -> dict[int, Pool]:
    rows = await run(connection, "lock_pools", sorted(ids))
    return {
        row["pool_id"]: Pool(
            PoolKey(row["sku"], row["location"]),
            row["pool_id"],
            row["on_hand"],
            row["allocated"],
            row["waiting"],
            row["counted_at"],
        )
        for row in rows
    }


async def units_of_orders(connection: Connection, order_ids: Iterable[str]) -> list[tuple[str, int, int]]:
    """(order id, pool id, units ordered) for every order and pool of its lines."""
    rows = await run(connection, "units_of_orders", list(order_ids))
    return [(row["order_id"], row["pool_id"], row["units"]) for row in rows]


async def queue_heads(connection: Connection, units: Mapping[int, int]) -> dict[int, list[Rank]]:
    """The ranks of the first lines of queues, by pool id; `units`: how many may be given at most."""
    rows = await run(connection, "queue_heads", list(units), list(units.values()))
    heads: dict[int, list[Rank]] = {}
    for row in rows:
        heads.setdefault(row["pool_id"], []).append((row["ranked_at"], row["order_id"], row["line_no"]))
    return heads


async def queue_tails(connection: Connection, units: Mapping[int, int], beside: Iterable[str]) -> set[str]:
    """The orders that may lose stock, `beside` those given; `units`: how many may be lost at most, by pool id."""
    rows = await run(connection, "queue_tails", list(units), list(units.values()), list(beside))
    return {row["order_id"] for row in rows}


async def lock_orders(connection: Connection, order_ids: Iterable[str]) -> dict[str, Order]:
    """The orders that exist, locked, with all their lines and the cancels that came before them."""
    rows = await run(connection, "lock_orders", sorted(order_ids))
    orders = {
        row["order_id"]: Order(
            row["order_id"],
            row["placed_at"],
            row["ranked_at"],
            row["head_start"],
            row["head_start_reason"],
            row["delivery"],
            row["customer_id"],
            row["fingerprint"],
            row["release_no"],
            row["allocations_version"],
            row["backorders_version"],
        )
        for row in rows
    }
    if orders:
        for row in await run(connection, "lines_of_orders", list(orders)):
            orders[row["order_id"]].lines[row["line_no"]] = Line(
                (row["ranked_at"], row["order_id"], row["line_no"]),
                PoolKey(row["sku"], row["location"]),
                row["quantity_ordered"],
                row["quantity_allocated"],
                row["quantity_waiting"],
                row["quantity_cancelled"],
                row["quantity_rejected"],
                row["quantity_shipped"],
                tuple((number, units) for number, units in json.loads(row["releases"])),
            )
        stubs = [order.order_id for order in orders.values() if order.placed_at is None]
        if stubs:
            for row in await run(connection, "early_cancels", stubs):
                order = orders[row["order_id"]]
                order.early_cancels += (OrderCancelled.model_validate_json(row["body"]),)
    return orders


async def known_cancels(connection: Connection, ids: Iterable[str]) -> dict[str, bytes]:
    return {row["id"]: row["fingerprint"] for row in await run(connection, "known_cancels", list(ids))}


async def known_movements(
    connection: Connection, keys: Iterable[MovementKey], ids: Mapping[PoolKey, int]
) -> dict[MovementKey, bytes]:
    names = {(ids[key.pool], key.kind, key.document_id): key for key in keys}
    rows = await run(connection, "known_movements", *_columns(names, 3))
    return {names[row["pool_id"], row["kind"], row["document_id"]]: row["fingerprint"] for row in rows}


async def read_epoch(connection: Connection) -> int:
    return int((await run(connection, "read_epoch"))[0]["epoch"])


async def next_batch_id(connection: Connection) -> int:
    return int((await run(connection, "next_batch_id"))[0]["nextval"])


async def count_alerts(connection: Connection, per_sku: Mapping[str, int]) -> dict[str, int]:
    """Take versions of stock-alerts; gives each SKU's last version before these."""
    rows = await run(connection, "count_alerts", list(per_sku), list(per_sku.values()))
    return {row["sku"]: row["version"] - per_sku[row["sku"]] for row in rows}


async def write(connection: Connection, decision: Decision, ids: Mapping[PoolKey, int]) -> None:
    """Write what a decision changed: a constant number of statements, however large the batch."""
    if decision.new_orders:
        await copy(connection, "orders", ORDER_COLUMNS, [_order_row(order) for order in decision.new_orders.values()])
    if decision.changed_orders:
        rows = [_order_row(order) for order in decision.changed_orders.values()]
        await run(connection, "update_orders", *_columns(rows, len(ORDER_COLUMNS)))
    if decision.new_lines:
        rows = [
            (line.order_id, line.line_no, ids[line.pool], line.rank[0], line.ordered, *_line_units(line))
            for line in decision.new_lines.values()
        ]
        await copy(connection, "lines", LINE_COLUMNS, rows)
    if decision.changed_lines:
        rows = [(line.order_id, line.line_no, *_line_units(line)) for line in decision.changed_lines.values()]
        await run(connection, "update_lines", *_columns(rows, 9))
    if decision.pools:
        rows = [
            (pool.pool_id, pool.on_hand, pool.allocated, pool.waiting, pool.counted_at)
            for pool in decision.pools.values()
        ]
        await run(connection, "update_pools", *_columns(rows, 5))
    if decision.movements:
        await copy(connection, "stock_movements", MOVEMENT_COLUMNS, [_movement_row(m, ids) for m in decision.movements])
    if decision.cancels:
        await copy(connection, "cancels", CANCEL_COLUMNS, [_cancel_row(cancel) for cancel in decision.cancels])


async def append_events(connection: Connection, batch_id: int, events: Sequence[SealedEvent]) -> None:
    rows = [
        (batch_id, at, e.topic, e.key, e.version, e.id, e.type, e.occurred_at, e.caused_by, e.traceparent, e.value)
        for at, e in enumerate(events)
    ]
    await copy(connection, "events", EVENT_COLUMNS, rows)


async def append_journal(
    connection: Connection,
    batch_id: int,
    kind: str,
    what: object,
    at: datetime,
    events: int,
    outcomes: Mapping[str, int],
) -> JournalEntry:
    """The last statement before COMMIT: it holds the head of the log."""
    row = (
        await run(
            connection,
            "append_journal",
            batch_id,
            kind,
            json.dumps(what),
            at,
            events,
            *(outcomes.get(outcome, 0) for outcome in ("applied", "duplicate", "ignored", "dead_letter")),
        )
    )[0]
    return JournalEntry(row["number"], row["first_seq"])


async def notify_events(connection: Connection) -> None:
    await run(connection, "notify_events")


ORDER_COLUMNS = (
    "order_id",
    "placed_at",
    "ranked_at",
    "head_start",
    "head_start_reason",
    "delivery",
    "customer_id",
    "fingerprint",
    "release_no",
    "allocations_version",
    "backorders_version",
)
LINE_COLUMNS = (
    "order_id",
    "line_no",
    "pool_id",
    "ranked_at",
    "quantity_ordered",
    "quantity_allocated",
    "quantity_waiting",
    "quantity_cancelled",
    "quantity_rejected",
    "quantity_shipped",
    "quantity_released",
    "releases",
)
MOVEMENT_COLUMNS = (
    "pool_id",
    "kind",
    "document_id",
    "quantity",
    "supply_id",
    "supplier",
    "fingerprint",
    "moved_at",
    "caused_by",
)
CANCEL_COLUMNS = ("id", "order_id", "body", "early", "fingerprint", "cancelled_at")
EVENT_COLUMNS = (
    "batch_id",
    "ordinal",
    "topic",
    "key",
    "version",
    "id",
    "type",
    "occurred_at",
    "caused_by",
    "traceparent",
    "value",
)


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as columns, for `unnest`."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


def _order_row(order: Order) -> tuple[Any, ...]:
    return (
        order.order_id,
        order.placed_at,
        order.ranked_at,
        order.head_start,
        order.head_start_reason,
        order.delivery,
        order.customer_id,
        order.fingerprint,
        order.release_no,
        order.allocations_version,
        order.backorders_version,
    )


def _line_units(line: Line) -> tuple[Any, ...]:
    releases = json.dumps(line.releases)
    return (line.allocated, line.waiting, line.cancelled, line.rejected, line.shipped, line.released, releases)


def _movement_row(movement: Movement, ids: Mapping[PoolKey, int]) -> tuple[Any, ...]:
    return (
        ids[movement.key.pool],
        movement.key.kind,
        movement.key.document_id,
        movement.quantity,
        movement.supply_id,
        movement.supplier,
        movement.fingerprint,
        movement.now,
        movement.caused_by,
    )


def _cancel_row(cancel: Cancel) -> tuple[Any, ...]:
    message = cancel.message
    return (message.id, message.order_id, message.model_dump_json(), cancel.early, cancel.fingerprint, cancel.now)
