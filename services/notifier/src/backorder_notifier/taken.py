"""The input topics against the tables: whatever lies below a cursor has left its trace, or a dead letter.

What an event of an order leaves is its update, with what was decided about it; a repeat leaves nothing new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import asyncpg
from aiokafka import ConsumerRecord

from backorder_notifier.applying import may_have_update
from backorder_notifier.checks import Check
from backorder_notifier.clock import moment_of
from backorder_notifier.dead_copies import are_headers_of, is_erased
from backorder_notifier.items import VersionedEvent
from backorder_notifier.statements import Connection, run
from backorder_notifier.walking import Extent, Place, Walker
from backorder_schemas import (
    ContactChanged,
    DeadLetter,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderPlaced,
    SkuAvailability,
    SkuPolicyChanged,
    decode,
)

_MAX_ID: Final = 200


@dataclass(slots=True)
class Known:
    """What the tables say of a portion of messages of one topic, by what names it."""

    orders: dict[str, asyncpg.Record] = field(default_factory=dict)
    turns: dict[str, asyncpg.Record] = field(default_factory=dict)
    updates: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Order and type of the event, by its id."""
    customers: dict[str, int] = field(default_factory=dict)
    products: dict[str, int] = field(default_factory=dict)
    stock: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Taken:
    """Walks the input topics up to the cursors of the snapshot. `purged_before`: of dead letters."""

    snapshot: Connection
    prefix: str
    purged_before: datetime | None
    reached: Check = field(default_factory=lambda: Check("no cursor lies beyond the end of its topic"))
    traced: Check = field(default_factory=lambda: Check("every input below its cursor left its trace or a dead letter"))
    updated: Check = field(default_factory=lambda: Check("every event below its cursor has its update"))
    kept: Check = field(default_factory=lambda: Check("dead letters are kept byte for byte"))

    @property
    def checks(self) -> list[Check]:
        return [self.reached, self.traced, self.updated, self.kept]

    async def walk(self, walker: Walker, extents: Mapping[Place, Extent]) -> None:
        """Look at every record below its cursor."""
        for row in await run(self.snapshot, "list_cursors"):
            place = Place(row["topic"].removeprefix(self.prefix), row["partition"])
            extent, cursor = extents.get(place, Extent(0, 0)), row["next_offset"]
            self.reached.found(
                f"{place.topic}-{place.partition}: the cursor {cursor} lies beyond the end {extent.end}"
                if cursor > extent.end
                else None,
                {"topic": place.topic, "partition": place.partition, "offset": cursor - 1},
            )
            async for records in walker.walk(place, extent.first, min(cursor, extent.end)):
                await self.look_at(place, records)

    async def look_at(self, place: Place, records: Sequence[ConsumerRecord]) -> None:
        """One portion of a partition."""
        full_topic = self.prefix + place.topic
        offsets = records[0].offset, records[-1].offset
        rows = await run(self.snapshot, "audit_letters_between", full_topic, place.partition, *offsets)
        letters = {row["record_offset"]: row for row in rows}
        judged: list[Any] = []
        for record in records:
            decoded = decode(place.topic, record.key, record.value, record.headers)
            judged.append(decoded if isinstance(decoded, DeadLetter) else decoded.message)
        known = await self.known(place.topic, [message for message in judged if not isinstance(message, DeadLetter)])
        for record, message in zip(records, judged, strict=True):
            self.judge(place, record, message, letters.get(record.offset), known)

    async def known(self, topic: str, messages: Sequence[Any]) -> Known:
        found = Known()
        placed = {message.order_id for message in messages if hasattr(message, "order_id")}
        if placed:
            rows = await run(self.snapshot, "audit_orders", sorted(placed))
            found.orders = {row["order_id"]: row for row in rows}
        if any(isinstance(message, VersionedEvent) for message in messages):
            rows = await run(self.snapshot, "audit_turns", topic, sorted(placed))
            found.turns = {row["key"]: row for row in rows}
        ids = {id_ for message in messages for id_ in ids_of(topic, message)}
        if ids:
            rows = await run(self.snapshot, "audit_updates_of_events", sorted(ids))
            found.updates = {row["event_id"]: (row["order_id"], row["type"]) for row in rows}
        if ids := {message.customer_id for message in messages if isinstance(message, ContactChanged)}:
            rows = await run(self.snapshot, "audit_customers", sorted(ids))
            found.customers = {row["customer_id"]: row["revision"] for row in rows}
        if skus := {message.sku for message in messages if isinstance(message, SkuPolicyChanged)}:
            found.products = {
                row["sku"]: row["revision"] for row in await run(self.snapshot, "audit_products", sorted(skus))
            }
        if pools := {(message.location, message.sku) for message in messages if isinstance(message, SkuAvailability)}:
            columns = [list(column) for column in zip(*sorted(pools), strict=True)]
            found.stock = {
                (row["location"], row["sku"]): (row["epoch"], row["version"])
                for row in await run(self.snapshot, "audit_stock", *columns)
            }
        return found

    def judge(
        self, place: Place, record: ConsumerRecord, message: Any, letter: asyncpg.Record | None, known: Known
    ) -> None:
        about = {"topic": place.topic, "partition": place.partition, "offset": record.offset}
        where = f"{place.topic}-{place.partition} offset {record.offset}"
        if letter is not None:
            same = record.key == letter["record_key"] and record.value == letter["record_value"]
            same = same and are_headers_of(record.headers, letter)
            if not same and is_erased(letter):
                self.kept.excused += 1
            else:
                says = None if same else f"{where}: the dead letter has other bytes than the record"
                self.kept.found(says, about)
            self.traced.found(None)
            return
        if isinstance(message, DeadLetter):
            recorded_at = moment_of(record.timestamp)
            if self.purged_before is not None and recorded_at < self.purged_before:
                self.traced.excused += 1
            else:
                self.traced.found(f"{where} ({message.reason}: {message.detail}) has no dead letter", about)
            return
        named = f"{where} ({message.type} {message.id})"
        self.traced.found(None if is_traced(message, known) else f"{named} left nothing in the tables", about)
        if not may_be_updated(message):
            return
        if is_elsewhere(message, known):
            self.updated.excused += 1
            return
        of_message = message.order_id, message.type
        has_update = any(known.updates.get(id_) == of_message for id_ in ids_of(place.topic, message))
        says = None if has_update else f"{named} of order {message.order_id} has no update"
        self.updated.found(says, about | {"event_id": message.id, "order_id": message.order_id})


def may_be_updated(message: Any) -> bool:
    """Whether a message has an update, told or not, once it is applied."""
    if not isinstance(message, VersionedEvent | LinesShipped | LinesDelivered):
        return False
    return may_have_update(message)


def is_elsewhere(message: Any, known: Known) -> bool:
    """Whether the update of a message is none: its order was purged, or it waits, or is of a history given up."""
    order = known.orders.get(message.order_id)
    if order is not None and order["is_purged"]:
        return True
    if not isinstance(message, VersionedEvent):
        return False
    turn = known.turns.get(message.order_id)
    return turn is not None and (message.epoch < turn["epoch"] or _waits(message, turn))


def is_traced(message: Any, known: Known) -> bool:
    """Whether the tables have gone on to a message, or beyond it."""
    match message:
        case OrderPlaced():
            order = known.orders.get(message.order_id)
            return order is not None and bool(order["is_known"])
        case OrderCancelled() | LinesShipped() | LinesDelivered():
            return message.order_id in known.orders
        case ContactChanged():
            return known.customers.get(message.customer_id, 0) >= message.revision
        case SkuPolicyChanged():
            return known.products.get(message.sku, 0) >= message.revision
        case SkuAvailability():
            there = known.stock.get((message.location, message.sku))
            return there is not None and there >= (message.epoch, message.version)
        case _:
            turn = known.turns.get(message.order_id)
            if turn is None:
                return False
            return (message.epoch, message.version) <= (turn["epoch"], turn["version"]) or _waits(message, turn)


def _waits(message: Any, turn: asyncpg.Record) -> bool:
    """Whether it is kept until an earlier version comes."""
    if message.epoch == turn["epoch"]:
        return message.version in turn["waiting"]
    return message.epoch in turn["epochs_waiting"]


def ids_of(topic: str, message: Any) -> tuple[str, ...]:
    """The id of a message's update: its own, or what it says where another message has that already."""
    if not may_be_updated(message):
        return ()
    if isinstance(message, LinesShipped | LinesDelivered):
        name = f"{message.type}/{message.order_id}/{message.shipment_id}"
    else:
        name = f"{topic}/{message.order_id}/{message.epoch}/{message.version}"
    return message.id, name if len(name) <= _MAX_ID else sha256(name.encode()).hexdigest()
