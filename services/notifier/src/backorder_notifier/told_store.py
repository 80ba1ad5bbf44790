"""What the teller asks and writes: one function a statement, named as its file in sql/."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from backorder_notifier.contacts import Contact
from backorder_notifier.statements import Connection, columns, hashable, run
from backorder_notifier.told_rows import (
    Losses,
    MessageRow,
    NewDeliveryRow,
    OpenRow,
    TellingRow,
    TimerRow,
    ToldOrderRow,
    UpdateRow,
    VerdictRow,
)

# Finding and locking


async def take_orders_to_tell(connection: Connection, now: datetime, limit: int) -> list[TellingRow]:
    """The longest due first."""
    return [TellingRow(*row) for row in await run(connection, "take_orders_to_tell", now, limit)]


async def take_named_orders_to_tell(
    connection: Connection, now: datetime, order_ids: Sequence[str]
) -> list[TellingRow]:
    return [TellingRow(*row) for row in await run(connection, "take_named_orders_to_tell", now, order_ids)]


async def next_tell_at(connection: Connection) -> datetime | None:
    moment: datetime | None = (await run(connection, "next_tell_at"))[0]["tell_at"]
    return moment


async def lock_customers_to_tell(connection: Connection, customer_ids: Iterable[str]) -> set[str]:
    """Those that no other transaction has."""
    return {row["customer_id"] for row in await run(connection, "lock_customers_to_tell", sorted(customer_ids))}


async def lock_open_deliveries(connection: Connection, order_ids: Iterable[str], now: datetime) -> list[OpenRow]:
    return [OpenRow(*row) for row in await run(connection, "lock_open_deliveries", sorted(order_ids), now)]


# What a decision needs to know


async def contacts_to_tell(connection: Connection, order_ids: Iterable[str]) -> dict[str, Contact]:
    rows = await run(connection, "contacts_to_tell", sorted(order_ids))
    return {row["order_id"]: Contact(*hashable(row)) for row in rows}


async def updates_to_decide(
    connection: Connection, order_ids: Iterable[str], withdrawn: Sequence[UUID]
) -> dict[str, list[UpdateRow]]:
    """By order, in the order of applying. `withdrawn`: messages whose updates are given back."""
    found: dict[str, list[UpdateRow]] = defaultdict(list)
    for row in await run(connection, "updates_to_decide", sorted(order_ids), withdrawn):
        found[row["order_id"]].append(UpdateRow(*row))
    return found


async def told_losses(connection: Connection, order_ids: Iterable[str], withdrawn: Sequence[UUID]) -> dict[str, Losses]:
    """What was decided on before, by order."""
    found: dict[str, Losses] = defaultdict(lambda: Losses(set(), set()))
    for row in await run(connection, "told_losses", sorted(order_ids), withdrawn):
        loss = row["line_no"], row["caused_by"]
        if row["is_told"]:
            found[row["order_id"]].told.add(loss)
        if row["books_it"]:
            found[row["order_id"]].booked.add(loss)
    return found


async def count_messages(
    connection: Connection, since: Iterable[tuple[str, str, datetime]], withdrawn: Sequence[UUID]
) -> dict[str, int]:
    """(order, customer, since) → how many messages the customer of each order got since then, where there is one."""
    rows = await run(connection, "count_messages", *columns(since, 3), withdrawn)
    return {row["order_id"]: row["messages"] for row in rows}


async def suppressed_addresses(connection: Connection, asked: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """(channel, address) each."""
    rows = await run(connection, "suppressed_addresses", *columns(sorted(asked), 2))
    return {(row["channel"], row["address"]) for row in rows}


async def titles(connection: Connection, skus: Iterable[str]) -> dict[str, str]:
    return {row["sku"]: row["title"] for row in await run(connection, "titles", sorted(skus))}


async def in_stock(connection: Connection, asked: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """(location, SKU) each."""
    rows = await run(connection, "in_stock", *columns(sorted(asked), 2))
    return {(row["location"], row["sku"]) for row in rows}


# Writing a decision


async def withdraw_deliveries(connection: Connection, reasons: Mapping[UUID, str], now: datetime) -> None:
    await run(connection, "withdraw_deliveries", list(reasons), list(reasons.values()), now)


async def withdraw_timers(connection: Connection, message_ids: Sequence[UUID], now: datetime) -> None:
    await run(connection, "withdraw_timers", message_ids, now)


async def record_messages(connection: Connection, now: datetime, messages: Iterable[MessageRow]) -> None:
    rows = [
        (
            each.message_id,
            each.order_id,
            each.customer_id,
            each.position,
            each.kind,
            each.content,
            each.told,
            each.about,
            each.occurred_at,
            each.traceparent,
        )
        for each in messages
    ]
    await run(connection, "record_messages", now, *columns(rows, 10))


async def record_message_deliveries(
    connection: Connection, now: datetime, deliveries: Iterable[NewDeliveryRow]
) -> set[UUID]:
    """Those that are new, or due again."""
    rows = [
        (each.delivery_id, each.message_id, each.order_id, each.channel, each.state, each.reason, each.due_at)
        for each in deliveries
    ]
    return {row["delivery_id"] for row in await run(connection, "record_message_deliveries", now, *columns(rows, 7))}


async def decide_updates(connection: Connection, now: datetime, verdicts: Iterable[VerdictRow]) -> None:
    rows = [(each.event_id, each.state, each.reason, each.message_id) for each in verdicts]
    await run(connection, "decide_updates", now, *columns(rows, 4))


async def record_timers(connection: Connection, now: datetime, timers: Iterable[TimerRow]) -> None:
    rows = [
        (
            each.event_id,
            each.order_id,
            each.line_no,
            each.kind,
            each.occurred_at,
            each.event,
            each.state,
            each.reason,
            each.message_id,
        )
        for each in timers
    ]
    await run(connection, "record_timers", now, *columns(rows, 9))


async def save_told_orders(connection: Connection, orders: Iterable[ToldOrderRow]) -> None:
    rows = [(each.order_id, each.dossier, each.tell_at, each.messages, each.outcome_version) for each in orders]
    await run(connection, "save_told_orders", *columns(rows, 5))


async def tell_later(connection: Connection, when: Mapping[str, datetime]) -> None:
    await run(connection, "tell_later", list(when), list(when.values()))


async def note_undecided(connection: Connection, order_ids: Iterable[str], reason: str) -> None:
    await run(connection, "note_undecided", sorted(order_ids), reason)


async def wake_stale_orders(connection: Connection, now: datetime, before: datetime, limit: int) -> int:
    """How many were woken."""
    return len(await run(connection, "wake_stale_orders", now, before, limit))
