"""What a batch holds, by what it is about: pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from backorder_notifier.items import Item
from backorder_notifier.rows import Record
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    ContactChanged,
    DeadLetter,
    Decoded,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderPlaced,
    PromiseChanged,
    SkuAvailability,
    SkuPolicyChanged,
    decode,
)

Judged = tuple[Record, Decoded | DeadLetter]

Input = (
    OrderPlaced
    | OrderCancelled
    | BackorderCreated
    | BackorderFilled
    | PromiseChanged
    | BackorderCancelled
    | BackorderRejected
    | AllocationReleased
    | AllocationRevoked
    | LinesShipped
    | LinesDelivered
    | ContactChanged
    | SkuPolicyChanged
    | SkuAvailability
)
"""All that is on the topics that the notifier reads."""


@dataclass(slots=True)
class Batch:
    """`items` are about orders, in the order of the batch; of products and stock only the newest is kept."""

    items: list[Item] = field(default_factory=list)
    changes: list[tuple[ContactChanged, datetime]] = field(default_factory=list)  # and when it was recorded
    products: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # by sku: revision, title
    stock: dict[tuple[str, str], tuple[int, int, bool]] = field(default_factory=dict)  # by location, sku
    dead: list[tuple[Record, DeadLetter]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


def judge(record: Record) -> Decoded | DeadLetter:
    return decode(record.topic, record.key, record.value, record.headers)


def sort(judged: Iterable[Judged]) -> Batch:
    """Raises TypeError for a message of a topic that the notifier doesn't read."""
    batch = Batch()
    for record, verdict in judged:
        if isinstance(verdict, DeadLetter):
            batch.dead.append((record, verdict))
            batch.outcomes["dead_letter"] += 1
        elif isinstance(verdict.message, Input):
            batch.outcomes["wrong_key"] += not verdict.key_matches
            _add(batch, record, verdict.message, verdict.traceparent)
        else:
            raise TypeError(f"{record.topic} carries {verdict.message.type}, which the notifier does not read")
    return batch


def _add(batch: Batch, record: Record, message: Input, traceparent: str | None) -> None:
    match message:
        case ContactChanged():
            batch.changes.append((message, record.recorded_at))
        case SkuPolicyChanged():
            known = batch.products.get(message.sku)
            if known is None or message.revision > known[0]:
                batch.products[message.sku] = message.revision, message.title
            batch.outcomes["product"] += 1
        case SkuAvailability():
            pool = message.location, message.sku
            in_stock = batch.stock.get(pool)
            if in_stock is None or (message.epoch, message.version) > in_stock[:2]:
                batch.stock[pool] = message.epoch, message.version, message.status == "in_stock"
            batch.outcomes["availability"] += 1
        case OrderPlaced():
            batch.items.append(Item(record, message, traceparent))
            batch.outcomes["contact"] += 1
        case OrderCancelled() | LinesShipped() | LinesDelivered():
            batch.items.append(Item(record, message, traceparent))
            batch.outcomes["applied"] += 1
        case (
            BackorderCreated()
            | BackorderFilled()
            | PromiseChanged()
            | BackorderCancelled()
            | BackorderRejected()
            | AllocationReleased()
            | AllocationRevoked()
        ):
            batch.items.append(Item(record, message, traceparent))  # counted when its turn is known
        case _:
            assert_never(message)
