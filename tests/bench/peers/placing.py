"""An order placed row by row: what both the naive and the careful peer do within their transaction.

One statement takes the stock of a line, one writes the line. Left out is much that the allocator does: promises,
policies, releases of held units, days of the queue, a log without gap, a journal, availability.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from backorder_allocator.events import SOURCE, event_id
from backorder_schemas import AllocationReleased, BackorderCreated, Encoded, OrderPlaced, ReleasedLine, decode, encode
from backorder_schemas import Decoded as Read

EPOCH = 1
ADD_ORDER = """
    INSERT INTO orders (order_id, placed_at, ranked_at, delivery, customer_id) VALUES ($1, $2, $2, $3, $4)
    ON CONFLICT (order_id) DO NOTHING RETURNING order_id"""
TAKE_STOCK = """
    WITH pool AS (
        SELECT pool_id,
               CASE WHEN waiting > 0 THEN 0 ELSE least($3, greatest(0, on_hand - allocated - safety_stock)) END AS taken
        FROM pools WHERE sku = $1 AND location = $2 FOR UPDATE
    )
    UPDATE pools p SET allocated = allocated + pool.taken, waiting = waiting + $3 - pool.taken
    FROM pool WHERE p.pool_id = pool.pool_id
    RETURNING p.pool_id, pool.taken"""
ADD_LINE = """
    INSERT INTO lines (order_id, line_no, pool_id, ranked_at, quantity_ordered, quantity_allocated, quantity_waiting,
                       quantity_cancelled, quantity_rejected, quantity_shipped, quantity_released, releases)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, $6, $8)"""
ADD_EVENT = """
    INSERT INTO events (batch_id, ordinal, topic, key, version, id, type, occurred_at, caused_by, value)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
EVENTS_OF_ORDER = (
    "SELECT topic, key, version, type, id, occurred_at, value FROM events WHERE key = $1 ORDER BY batch_id, ordinal"
)


@dataclass(frozen=True, slots=True)
class Decided:
    """An event with its version, ready to be sent."""

    version: int
    id: UUID
    message: AllocationReleased | BackorderCreated
    encoded: Encoded


async def place(
    connection: asyncpg.Connection, batch_id: int, first: int, order: OrderPlaced, now: datetime
) -> list[Encoded]:
    """Write an order and give its events; `first`: the ordinal of the first. One that comes again gives them again."""
    customer = order.customer.customer_id
    if await connection.fetchval(ADD_ORDER, order.order_id, order.placed_at, order.delivery, customer) is None:
        return await events_again(connection, order)
    taken: dict[int, int] = {}
    pools: dict[int, int] = {}
    # Sorted: two transactions that want A, B and B, A would deadlock.
    for line in sorted(order.lines, key=lambda each: (each.sku, each.line_no)):
        row = await connection.fetchrow(TAKE_STOCK, line.sku, line.location, line.quantity)
        if row is None:
            raise LookupError(f"no pool of {line.sku}")
        pools[line.line_no], taken[line.line_no] = row
    for line in order.lines:
        units = taken[line.line_no]
        releases = f"[[1, {units}]]" if units else "[]"
        waits = line.quantity - units
        await connection.execute(
            ADD_LINE,
            order.order_id,
            line.line_no,
            pools[line.line_no],
            order.placed_at,
            line.quantity,
            units,
            waits,
            releases,
        )
    events = decided(order, taken, now)
    for ordinal, event in enumerate(events, start=first):
        message, encoded = event.message, event.encoded
        await connection.execute(
            ADD_EVENT,
            batch_id,
            ordinal,
            encoded.topic,
            order.order_id,
            event.version,
            event.id,
            message.type,
            now,
            order.id,
            encoded.value.decode(),
        )
    return [event.encoded for event in events]


def decided(order: OrderPlaced, taken: dict[int, int], now: datetime) -> list[Decided]:
    """The same events that the allocator would publish: one release, and for each line that waits that it does."""
    about: dict[str, Any] = {
        "order_id": order.order_id,
        "customer_id": order.customer.customer_id,
        "caused_by": order.id,
    }
    about |= {"occurred_at": now, "epoch": EPOCH}
    events = []
    waiting = [line for line in order.lines if taken[line.line_no] < line.quantity]
    for version, line in enumerate(waiting, start=1):
        identity = event_id(EPOCH, "backorders", order.order_id, version)
        waits = line.quantity - taken[line.line_no]
        created = BackorderCreated(
            **about,
            id=str(identity),
            version=version,
            line_no=line.line_no,
            sku=line.sku,
            location=line.location,
            quantity=waits,
            quantity_waiting=waits,
            quantity_ordered=line.quantity,
            quantity_allocated=taken[line.line_no],
            kind="backorder",
            reason="ordered",
        )
        events.append(Decided(version, identity, created, encode(created, source=SOURCE)))
    released = [line for line in order.lines if taken[line.line_no]]
    if released:
        identity = event_id(EPOCH, "allocations", order.order_id, 1)
        lines = tuple(
            ReleasedLine(line_no=line.line_no, sku=line.sku, location=line.location, quantity=taken[line.line_no])
            for line in released
        )
        release = AllocationReleased(
            **about, id=str(identity), version=1, release_no=1, lines=lines, complete=not waiting
        )
        events.append(Decided(1, identity, release, encode(release, source=SOURCE)))
    return events


async def events_again(connection: asyncpg.Connection, order: OrderPlaced) -> list[Encoded]:
    """Of an order that comes again: whether its events were published nobody knows."""
    rows = await connection.fetch(EVENTS_OF_ORDER, order.order_id)
    found = [decode(row["topic"], order.order_id.encode(), row["value"].encode(), ()) for row in rows]
    return [encode(each.message, source=SOURCE) for each in found if isinstance(each, Read)]
