"""SQL about all that is held of a customer: one function a statement, named as its file in sql/."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backorder_notifier.statements import Connection, columns, hashable, run

Json = dict[str, Any]
Address = tuple[str, str]
"""(channel, address) as in `suppressions`."""


@dataclass(frozen=True, slots=True)
class Addressed:
    """The addresses that one order names."""

    order_id: str
    email: str | None
    phone: str | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter with what it came with."""

    dead_letter_id: int
    topic: str
    full_topic: str
    partition: int
    record_offset: int
    recorded_at: datetime
    reason: str
    failed_at: datetime
    published_at: datetime | None
    key: bytes | None
    value: bytes | None
    header_names: tuple[bytes, ...]
    header_values: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Purged:
    """How many rows went."""

    orders: int = 0
    messages: int = 0
    deliveries: int = 0
    attempts: int = 0
    updates: int = 0


async def lock_orders_of_customer(connection: Connection, customer_id: str, after: str, limit: int) -> list[Addressed]:
    return [Addressed(*row) for row in await run(connection, "lock_orders_of_customer", customer_id, after, limit)]


async def orders_of_customer(connection: Connection, customer_id: str, after: str, limit: int) -> list[Addressed]:
    return [Addressed(*row) for row in await run(connection, "orders_of_customer", customer_id, after, limit)]


async def erase_orders(connection: Connection, order_ids: Sequence[str], links: Sequence[str]) -> int:
    """How many orders said how to reach their customer."""
    return len(await run(connection, "erase_orders", order_ids, links))


async def drop_pending(connection: Connection, order_ids: Sequence[str], reason: str, now: datetime) -> int:
    """How many updates are not told therefore."""
    return len(await run(connection, "drop_pending", order_ids, reason, now))


async def unsuppress(connection: Connection, addresses: Iterable[Address]) -> int:
    """How many were on the list."""
    return len(await run(connection, "unsuppress", *columns(addresses, 2)))


async def forget_domains(connection: Connection, domains: Sequence[str]) -> None:
    await run(connection, "forget_domains", domains)


async def page_dead_letters(connection: Connection, after: int, limit: int, most_bytes: int) -> list[Letter]:
    rows = await run(connection, "page_dead_letters", after, limit, most_bytes)
    return [Letter(*hashable(row)) for row in rows]


async def erase_dead_letters(connection: Connection, ids: Sequence[int], detail: str, now: datetime) -> int:
    """How many there are of these."""
    return len(await run(connection, "erase_dead_letters", ids, detail, now))


async def export_customer(connection: Connection, customer_id: str) -> Json | None:
    rows = await run(connection, "export_customer", customer_id)
    return json.loads(rows[0]["customer"]) if rows else None


async def export_orders(
    connection: Connection, customer_id: str, after: str, limit: int
) -> list[tuple[Addressed, Json]]:
    rows = await run(connection, "export_orders", customer_id, after, limit)
    return [(Addressed(row["order_id"], row["email"], row["phone"]), json.loads(row["held"])) for row in rows]


async def export_suppressions(connection: Connection, addresses: Iterable[Address]) -> list[Json]:
    return [dict(row) for row in await run(connection, "export_suppressions", *columns(addresses, 2))]


async def export_parked(connection: Connection, order_ids: Sequence[str]) -> list[Json]:
    return [dict(row) for row in await run(connection, "export_parked", order_ids)]


async def lock_orders_to_purge(connection: Connection, before: datetime, limit: int) -> list[str]:
    return [row["order_id"] for row in await run(connection, "lock_orders_to_purge", before, limit)]


async def purge_orders(connection: Connection, order_ids: Sequence[str], now: datetime) -> Purged:
    return Purged(len(order_ids), *(await run(connection, "purge_orders", order_ids, now))[0])
