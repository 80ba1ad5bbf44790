"""SQL about customers: one function a statement, named as its file in sql/. Customers are locked before orders."""

import json
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from backorder_notifier.contacts import Customer
from backorder_notifier.statements import Connection, columns, hashable, run


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Deliveries taken back; `in_hand` of them may still be accepted. Updates that are not told therefore."""

    deliveries: int
    in_hand: int
    updates: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whom an unsubscribe link is for, and whether they want messages of optional kinds."""

    customer_id: str
    optional_kinds: bool


def new_token() -> str:
    """For an unsubscribe link: 128 random bits in 22 characters."""
    return secrets.token_urlsafe(16)


async def stub_customers(connection: Connection, customer_ids: Iterable[str]) -> None:
    ids = sorted(set(customer_ids))
    await run(connection, "stub_customers", ids, [new_token() for _ in ids])


async def lock_customers(connection: Connection, customer_ids: Iterable[str]) -> dict[str, Customer]:
    rows = await run(connection, "lock_customers", sorted(set(customer_ids)))
    return {row["customer_id"]: Customer(*hashable(row)) for row in rows}


async def save_customers(connection: Connection, customers: Iterable[Customer]) -> None:
    rows = [
        (
            each.customer_id,
            each.revision,
            each.email,
            each.email_at,
            each.phone,
            each.phone_at,
            each.name,
            each.name_at,
            each.locale,
            each.locale_at,
            each.timezone,
            each.timezone_at,
            None if each.channels is None else json.dumps(each.channels),
            each.optional_kinds,
            each.unsubscribed_at,
            each.forgotten_at,
        )
        for each in customers
    ]
    await run(connection, "save_customers", *columns(rows, 16))


async def find_subscription(connection: Connection, token: str) -> Subscription | None:
    """None: nobody has this token."""
    rows = await run(connection, "find_subscription", token)
    return Subscription(*rows[0]) if rows else None


async def set_optional_kinds(connection: Connection, customer_id: str, wanted: bool, now: datetime) -> bool:
    """False: it was so already."""
    return bool(await run(connection, "set_optional_kinds", customer_id, wanted, now))


async def lock_open_orders(connection: Connection, customer_id: str, kinds: Collection[str]) -> list[str]:
    """The ids."""
    return [row["order_id"] for row in await run(connection, "lock_open_orders", customer_id, sorted(kinds))]


async def withdraw_messages(
    connection: Connection, order_ids: Iterable[str], kinds: Collection[str] | None, reason: str, now: datetime
) -> Withdrawn:
    """`kinds` None: all."""
    ordered = None if kinds is None else sorted(kinds)
    return Withdrawn(*(await run(connection, "withdraw_messages", list(order_ids), ordered, reason, now))[0])
