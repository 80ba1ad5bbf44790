"""Messages ready to be sent, written straight into the tables as the teller would leave them."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import asyncpg

from backorder_notifier.content import Content, ContentLine
from backorder_notifier.kinds import Channel, Kind
from tests.notifier.messages import NOON

_NAMESPACE = UUID("4fd0a1f2-1f0f-4c58-8d3e-0a8e6f6c2b11")


@dataclass(frozen=True, slots=True)
class Staged:
    """The ids of one message over one channel."""

    order_id: str
    message_id: UUID
    delivery_id: UUID


async def stage(
    connection: asyncpg.Connection,
    order_id: str = "1001",
    *,
    email: str | None = "ada@example.org",
    kind: Kind = "backorder_created",
    channel: Channel = "email",
    waiting: int = 5,
    due_at: datetime = NOON,
    order: dict[str, Any] | None = None,
) -> Staged:
    """The next message of an order, which is made if it is new. `told` is `waiting` units of line 1."""
    customer_id = f"customer of {order_id}"
    await connection.execute(
        "INSERT INTO customers (customer_id, unsubscribe_token) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        customer_id, uuid5(_NAMESPACE, customer_id).hex[:22],
    )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO orders (order_id, customer_id, email, phone, name, locale, timezone, delivery, placed_at, known_at)
        VALUES ($1, $2, $3, '+4915112345678', 'Ada', 'en', 'UTC', 'split', $4, $4) ON CONFLICT DO NOTHING
        """,
        order_id, customer_id, email, NOON,
    )  # fmt: skip
    for name, value in (order or {}).items():
        await connection.execute(f"UPDATE orders SET {name} = $2 WHERE order_id = $1", order_id, value)
    position = await connection.fetchval(
        "UPDATE orders SET messages = messages + 1 WHERE order_id = $1 RETURNING messages", order_id
    )
    line = ContentLine(line_no=1, sku="PHONE-X", ordered=15, waiting=waiting, ready=15 - waiting, created=5)
    staged = Staged(order_id, uuid5(_NAMESPACE, f"{order_id} {position}"), UUID(int=0))
    await connection.execute(
        """
        INSERT INTO messages (
            message_id, order_id, customer_id, position, kind, content, told, about, occurred_at, composed_at
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
        """,
        staged.message_id, order_id, customer_id, position, kind,
        Content(kind=kind, order_id=order_id, lines=(line,)).model_dump_json(exclude_defaults=True),
        json.dumps({"1": {"waiting": waiting}}), [f"{order_id}/v{position}"], NOON,
    )  # fmt: skip
    return await also_over(connection, staged, channel, due_at)


async def also_over(
    connection: asyncpg.Connection, staged: Staged, channel: Channel, due_at: datetime = NOON
) -> Staged:
    """The same message over one more channel."""
    delivery_id = uuid5(staged.message_id, channel)
    await connection.execute(
        """
        INSERT INTO deliveries (delivery_id, message_id, order_id, channel, state, due_at, recorded_at)
        VALUES ($1, $2, $3, $4, 'due', $5, $5)
        """,
        delivery_id, staged.message_id, staged.order_id, channel, due_at,
    )  # fmt: skip
    return Staged(staged.order_id, staged.message_id, delivery_id)


async def stage_many(
    connection: asyncpg.Connection,
    count: int,
    *,
    prefix: str = "o",
    domain: str = "example.org",
    due_at: datetime = NOON,
    apart: timedelta = timedelta(0),
) -> None:
    """So many mails, each of an order of its own; each due a little later than the one before."""
    content = Content(kind="backorder_created", order_id="many", lines=(ContentLine(line_no=1, sku="S", waiting=1),))
    await connection.execute(
        """
        INSERT INTO orders (order_id, customer_id, email, placed_at, known_at, delivery, messages)
        SELECT $1 || i, $1 || i, $1 || i || '@' || $2, $3, $3, 'split', 1 FROM generate_series(1, $4::integer) AS i
        """,
        prefix, domain, NOON, count,
    )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO messages (
            message_id, order_id, customer_id, position, kind, content, told, about, occurred_at, composed_at
        )
        SELECT gen_random_uuid(), $1 || i, $1 || i, 1, 'backorder_created', $4::jsonb, '{}', ARRAY[$1 || i], $2, $2
        FROM generate_series(1, $3::integer) AS i
        """,
        prefix, NOON, count, content.model_dump_json(exclude_defaults=True),
    )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO deliveries (delivery_id, message_id, order_id, channel, state, due_at, recorded_at)
        SELECT
            gen_random_uuid(), message_id, order_id, 'email', 'due',
            $2::timestamptz + row_number() OVER (ORDER BY order_id) * $3::interval, $2
        FROM messages
        WHERE starts_with(order_id, $1)
        """,
        prefix, due_at, apart,
    )  # fmt: skip
    await connection.execute("ANALYZE orders, messages, deliveries")


async def delivery(connection: asyncpg.Connection, staged: Staged) -> asyncpg.Record:
    row: asyncpg.Record = await connection.fetchrow(
        "SELECT * FROM deliveries WHERE delivery_id = $1", staged.delivery_id
    )
    return row
