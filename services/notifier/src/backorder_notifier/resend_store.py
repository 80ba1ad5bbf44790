"""What `resend` asks and writes: one function a statement, named as its file in sql/."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from backorder_notifier.statements import Connection, columns, hashable, run


@dataclass(frozen=True, slots=True)
class OrderToResend:
    """An order, locked. `dossier` is JSON."""

    order_id: str
    dossier: str


@dataclass(frozen=True, slots=True)
class DeliveryToResend:
    """One message over one channel, locked. `held`: a sender has it at this moment."""

    delivery_id: UUID
    message_id: UUID
    channel: str
    state: str
    reason: str | None
    due_at: datetime
    tried: bool
    held: bool
    position: int
    kind: str
    composed_at: datetime
    about: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Intervention:
    """What a person did."""

    what: str
    order_id: str
    delivery_id: UUID | None = None
    message_id: UUID | None = None


async def order_of_delivery(connection: Connection, delivery_id: UUID) -> str | None:
    rows = await run(connection, "order_of_delivery", delivery_id)
    return rows[0]["order_id"] if rows else None


async def lock_order_to_resend(connection: Connection, order_id: str) -> OrderToResend | None:
    rows = await run(connection, "lock_order_to_resend", order_id)
    return OrderToResend(*rows[0]) if rows else None


async def lock_deliveries_to_resend(connection: Connection, order_id: str, now: datetime) -> list[DeliveryToResend]:
    rows = await run(connection, "lock_deliveries_to_resend", order_id, now)
    return [DeliveryToResend(*hashable(row)) for row in rows]


async def make_due_again(connection: Connection, delivery_ids: Sequence[UUID], now: datetime) -> None:
    await run(connection, "make_due_again", delivery_ids, now)


async def tell_withheld(connection: Connection, message_ids: Sequence[UUID], now: datetime) -> None:
    await run(connection, "tell_withheld", message_ids, now)


async def give_back(
    connection: Connection, order_id: str, message_ids: Sequence[UUID], dossier: str, now: datetime
) -> int:
    """How much news is to be decided anew. `dossier` (JSON): as it was before the due dates among it were decided."""
    updates: int = (await run(connection, "give_back", order_id, message_ids, dossier, now))[0]["updates"]
    return updates


async def copy_message(connection: Connection, message_id: UUID, copy: UUID, now: datetime) -> int:
    """The position of the copy."""
    position: int = (await run(connection, "copy_message", message_id, copy, now))[0]["position"]
    return position


async def copy_deliveries(connection: Connection, copy: UUID, deliveries: Mapping[str, UUID], now: datetime) -> None:
    """`deliveries` by channel."""
    await run(connection, "copy_deliveries", copy, list(deliveries.values()), list(deliveries), now)


async def record_interventions(
    connection: Connection, now: datetime, by: str, note: str | None, interventions: Iterable[Intervention]
) -> None:
    rows = [(each.what, each.order_id, each.delivery_id, each.message_id) for each in interventions]
    await run(connection, "record_interventions", now, by, note, *columns(rows, 4))
