"""Purchases and receipts as messages, published in the order of their time.

Receipts and orders go to different topics, and nobody promises in which order a consumer sees two topics. So the
stretch is published in windows, and each half of a window (first what changes stock, then orders and cancels) only
when the allocator has committed the half before: its offsets in Kafka say so.
"""

import asyncio
import heapq
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from backorder_local.errors import LocalError
from backorder_local.purchases import Cancel, Correction, Order, Purchases
from backorder_local.receipts import SLOTS, Receipt, Supply

LINGER_MS = 5
ASK_SECONDS = 0.015
STUCK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message. `at` is when it happens in the data's time."""

    at: datetime
    topic: str
    key: str
    value: dict[str, Any]

    @property
    def is_order(self) -> bool:
        return bool(self.value["type"] == "OrderPlaced")


@dataclass(frozen=True, slots=True)
class Window:
    """`stock` is to be taken in before `orders`."""

    stock: tuple[Outgoing, ...]
    orders: tuple[Outgoing, ...]


@dataclass(slots=True)
class Published:
    """What Kafka has, as it grows. Times are record timestamps in ms since 1970."""

    orders: int = 0
    receipts: dict[str, int] = field(default_factory=dict)
    order_ids: set[str] = field(default_factory=set)
    first_ms: int = 0
    until: datetime | None = None
    ends: dict[TopicPartition, int] = field(default_factory=dict)


def windows(purchases: Purchases, supply: Supply) -> list[Window]:
    """The whole replay; empty windows are left out."""
    calendar = supply.calendar
    stock: list[list[Outgoing]] = [[] for _ in range(SLOTS)]
    orders: list[list[Outgoing]] = [[] for _ in range(SLOTS)]
    stock[0] += [opening(sku, units, calendar.start) for sku, units in supply.opening.items()]
    for each in supply.receipts:
        stock[each.slot].append(receipt(each, calendar.begin(each.slot)))
    for correction in purchases.corrections:
        stock[calendar.slot_of(correction.at)].append(adjustment(correction))
    placed = (order_placed(order) for order in purchases.orders)
    cancelled = (order_cancelled(cancel) for cancel in purchases.cancels)
    for message in heapq.merge(placed, cancelled, key=lambda message: message.at):
        orders[calendar.slot_of(message.at)].append(message)
    cut = (Window(tuple(first), tuple(second)) for first, second in zip(stock, orders, strict=True))
    return [window for window in cut if window.stock or window.orders]


def opening(sku: str, units: int, at: datetime) -> Outgoing:
    value = {
        "type": "StockCounted",
        "id": f"opening/{sku}",
        "occurred_at": text(at),
        "count_id": "opening",
        "sku": sku,
        "counted": units,
    }
    return Outgoing(at, "stock-adjusted", sku, value)


def receipt(each: Receipt, at: datetime) -> Outgoing:
    value = {
        "type": "StockReceived",
        "id": each.receipt_id,
        "occurred_at": text(at),
        "receipt_id": each.receipt_id,
        "sku": each.sku,
        "quantity": each.quantity,
    }
    return Outgoing(at, "stock-received", each.sku, value)


def adjustment(correction: Correction) -> Outgoing:
    value = {
        "type": "StockAdjusted",
        "id": f"correction/{correction.id}",
        "occurred_at": text(correction.at),
        "adjustment_id": correction.id,
        "sku": correction.sku,
        "delta": correction.delta,
        "reason": correction.reason,
    }
    return Outgoing(correction.at, "stock-adjusted", correction.sku, value)


def order_placed(order: Order) -> Outgoing:
    customer = {"customer_id": order.customer_id} | ({"email": order.email} if order.email else {})
    lines = [
        {"line_no": line.line_no, "sku": line.sku, "quantity": line.quantity, "unit_price": line.unit_price}
        for line in order.lines
    ]
    value = {
        "type": "OrderPlaced",
        "id": f"placed/{order.order_id}",
        "occurred_at": text(order.placed_at),
        "order_id": order.order_id,
        "placed_at": text(order.placed_at),
        "currency": order.currency,
        "customer": customer,
        "lines": lines,
    }
    return Outgoing(order.placed_at, "orders", order.order_id, value)


def order_cancelled(cancel: Cancel) -> Outgoing:
    value: dict[str, Any] = {
        "type": "OrderCancelled",
        "id": cancel.id,
        "occurred_at": text(cancel.at),
        "order_id": cancel.order_id,
        "by": "customer",
    }
    if cancel.lines is not None:
        value["lines"] = [
            {"line_no": line_no} | ({} if units is None else {"quantity": units}) for line_no, units in cancel.lines
        ]
    return Outgoing(cancel.at, "orders", cancel.order_id, value)


def encoded(message: Outgoing) -> bytes:
    return json.dumps(message.value, separators=(",", ":"), ensure_ascii=False).encode()


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


class Pace:
    """Time of the data against time of the clock, from the first call on. Without a speed nobody waits."""

    def __init__(self, start: datetime, speed: float | None) -> None:
        self.start = start
        self.speed = speed
        self.began: float | None = None

    def seconds_until(self, at: datetime) -> float:
        if self.speed is None:
            return 0.0
        if self.began is None:
            self.began = time.monotonic()
        return self.began + (at - self.start).total_seconds() / self.speed - time.monotonic()


class Replay:
    """Publishes windows, and notes what is published. `taken_in` asks for the offsets that the allocator committed."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        taken_in: Callable[[], Awaitable[dict[TopicPartition, int]]],
        prefix: str,
        pace: Pace,
        published: Published,
    ) -> None:
        self.producer = producer
        self.taken_in = taken_in
        self.prefix = prefix
        self.pace = pace
        self.published = published

    async def run(self, all_windows: Iterable[Window]) -> None:
        """Returns when the allocator has taken everything in. Raises LocalError."""
        for window in all_windows:
            for half in (window.stock, window.orders):
                await self.publish(half)
                await self.wait()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        sent: list[tuple[Outgoing, asyncio.Future[Any]]] = []
        for message in messages:
            if (seconds := self.pace.seconds_until(message.at)) > 0:
                await asyncio.sleep(seconds)
            sent.append(
                (
                    message,
                    await self.producer.send(self.prefix + message.topic, encoded(message), key=message.key.encode()),
                )
            )
            if message.is_order:
                self.published.orders += 1
                self.published.order_ids.add(message.value["order_id"])
            self.published.until = message.at
        for message, record in sent:
            metadata = await record
            partition = TopicPartition(metadata.topic, metadata.partition)
            self.published.ends[partition] = max(self.published.ends.get(partition, 0), metadata.offset + 1)
            if message.topic == "stock-received":
                self.published.receipts[message.value["id"]] = metadata.timestamp
            elif message.is_order and not self.published.first_ms:
                self.published.first_ms = metadata.timestamp

    async def wait(self) -> None:
        """Until the allocator has committed all that is published."""
        last: dict[TopicPartition, int] = {}
        deadline = time.monotonic() + STUCK_SECONDS
        while behind(self.published.ends, now := await self.taken_in()):
            if now != last:
                last, deadline = now, time.monotonic() + STUCK_SECONDS
            if time.monotonic() > deadline:
                raise LocalError(
                    f"The allocator has taken nothing in for {STUCK_SECONDS} s. Its log may say why.", exit_code=1
                )
            await asyncio.sleep(ASK_SECONDS)


def behind(ends: dict[TopicPartition, int], committed: dict[TopicPartition, int]) -> bool:
    return any(committed.get(partition, 0) < end for partition, end in ends.items())


async def committed_offsets(admin: AIOKafkaAdminClient, group: str, coordinator: int) -> dict[TopicPartition, int]:
    found = await admin.list_consumer_group_offsets(group, group_coordinator_id=coordinator)
    return {partition: each.offset for partition, each in found.items()}
