"""A notifier to be measured, what it is given to read, and the limit: the same rows, nothing decided."""

import asyncio
import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer

from backorder_schemas import AllocationReleased, BackorderCreated, Encoded, ReleasedLine, encode
from tests.bench.load import bought
from tests.e2e.messages import Message, OrderLine, order
from tests.e2e.processes import Service
from tests.e2e.world import World

LONGEST_SECONDS = 120.0
POLL_SECONDS = 0.01
RECORDS_AT_ONCE = 500
"""Of one poll, as the notifier's subscriber has it."""
SOURCE = "/backorder/allocator"


@dataclass(frozen=True, slots=True)
class News:
    """Orders of which one line waits, and what an allocator says of them, by topic."""

    orders: Sequence[Message]
    allocations: Sequence[Message]
    """What is released of the orders that have other lines as well: nothing that customers are told."""
    backorders: Sequence[Message]
    """One an order: each is to be told."""


def news(number: int, prefix: str) -> News:
    now = datetime.now(UTC)
    chance = random.Random(prefix)
    orders, allocations, backorders = [], [], []
    for each, lines in enumerate(bought(number, seed=10)):
        order_id = f"{prefix}-{each}"
        customer_id = f"customer-of-{order_id}"
        named = [OrderLine(sku, units) for sku, units in lines]
        orders.append(order(order_id, *named, email=f"{order_id}@example.org"))
        if released := named[1:]:
            allocations.append(
                AllocationReleased(
                    id=f"{order_id}/released",
                    occurred_at=now,
                    version=1,
                    epoch=1,
                    caused_by=f"{order_id}/placed",
                    order_id=order_id,
                    customer_id=customer_id,
                    release_no=1,
                    lines=tuple(
                        ReleasedLine(line_no=number, sku=line.sku, location="main", quantity=line.quantity)
                        for number, line in enumerate(released, start=2)
                    ),
                    complete=False,
                )
            )
        backorders.append(
            BackorderCreated(
                id=f"{order_id}/created",
                occurred_at=now,
                version=1,
                epoch=1,
                caused_by=f"{order_id}/placed",
                order_id=order_id,
                customer_id=customer_id,
                line_no=1,
                sku=named[0].sku,
                location="main",
                quantity=named[0].quantity,
                quantity_waiting=named[0].quantity,
                quantity_ordered=named[0].quantity,
                quantity_allocated=0,
                kind="backorder",
                reason="ordered",
                promised_at=now + timedelta(days=chance.randrange(10, 30)),
            )
        )
    return News(orders, [_message(each) for each in allocations], [_message(each) for each in backorders])


def _message(said: AllocationReleased | BackorderCreated) -> Message:
    encoded: Encoded = encode(said, source=SOURCE)
    return Message(encoded.topic, encoded.key, encoded.value, tuple(encoded.headers))


@dataclass(slots=True)
class Notifier:
    """A running notifier and its database."""

    world: World
    service: Service
    database: asyncpg.Connection

    async def seconds_to_read(self, messages: Sequence[Message]) -> float:
        """From the moment that it may read them, all of them published, until it has recorded what they say."""
        before = await self.read()
        self.service.signal(signal.SIGSTOP)
        await self.world.publish(*messages)
        began = perf_counter()
        self.service.signal(signal.SIGCONT)
        while await self.read() < before + len(messages):
            assert perf_counter() - began < LONGEST_SECONDS, self.service.explain()
            await asyncio.sleep(POLL_SECONDS)
        return perf_counter() - began

    async def read(self) -> int:
        """How many records of all topics."""
        return int(await self.database.fetchval("SELECT coalesce(sum(next_offset), 0) FROM cursors"))


async def started(world: World, database_url: str, smtp_url: str, **settings: str) -> Notifier:
    service = await world.service(
        "backorder-notifier",
        {
            "NOTIFIER_DATABASE_URL": database_url,
            "NOTIFIER_KAFKA_BOOTSTRAP_SERVERS": world.kafka,
            "NOTIFIER_TOPIC_PREFIX": world.prefix,
            "NOTIFIER_HTTP_PORT": "0",
            "NOTIFIER_SMTP_URL": smtp_url,
            "NOTIFIER_MAIL_FROM": "Shop <shop@example.org>",
            **settings,
        },
    )
    return Notifier(world, service, await asyncpg.connect(database_url))


# ── the limit ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Written:
    """The rows that came of events, by the id of the event: (update, order, version), tuples of columns."""

    rows: Mapping[bytes, tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]]


UPDATE_COLUMNS = (
    "event_id", "order_id", "topic", "line_no", "kind", "caused_by", "occurred_at", "recorded_at", "event",
    "traceparent", "state", "reason",
)  # fmt: skip
VERSION_COLUMNS = ("topic", "key", "epoch", "version")
FILL_ORDERS = """
    UPDATE orders SET dossier = batch.dossier, told = batch.told, tell_at = batch.tell_at
    FROM unnest($1::text[], $2::jsonb[], $3::jsonb[], $4::timestamptz[]) AS batch (order_id, dossier, told, tell_at)
    WHERE orders.order_id = batch.order_id"""
MOVE = "UPDATE cursors SET next_offset = $3 WHERE topic = $1 AND partition = $2"


async def orders_as_they_are(notifier: Notifier, prefix: str) -> list[asyncpg.Record]:
    """Before the events come."""
    rows: list[asyncpg.Record] = await notifier.database.fetch(
        "SELECT * FROM orders WHERE starts_with(order_id, $1)", f"{prefix}-"
    )
    return rows


async def written(notifier: Notifier, prefix: str) -> Written:
    """What the notifier wrote for the events on `backorders` of orders with this prefix."""
    rows = await notifier.database.fetch(
        f"SELECT {', '.join(f'u.{name}' for name in UPDATE_COLUMNS)}, o.dossier, o.told, o.tell_at, v.epoch, v.version"
        " FROM updates u JOIN orders o USING (order_id) JOIN versions v ON v.topic = u.topic AND v.key = u.order_id"
        " WHERE starts_with(u.order_id, $1)",
        f"{prefix}-",
    )
    return Written(
        {
            row["event_id"].encode(): (
                tuple(row[name] for name in UPDATE_COLUMNS),
                (row["order_id"], row["dossier"], row["told"], row["tell_at"]),
                (row["topic"], row["order_id"], row["epoch"], row["version"]),
            )
            for row in rows
        }
    )


async def seconds_to_write(
    world: World, database_url: str, orders: Sequence[asyncpg.Record], events: Written, begin: Mapping[int, int]
) -> float:
    """The limit: the same records consumed from these offsets of `backorders`, the same rows written in transactions of
    a poll each; nothing is decoded, locked, looked up or decided. `orders` are there before the clock runs."""
    connection = await asyncpg.connect(database_url)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.kafka, fetch_max_wait_ms=50, max_partition_fetch_bytes=4 * 1024 * 1024
    )
    topic = f"{world.prefix}backorders"
    try:
        await connection.copy_records_to_table("orders", records=orders, columns=list(orders[0].keys()))
        await connection.executemany(
            "INSERT INTO cursors (topic, partition, next_offset) VALUES ($1, $2, 0)", [(topic, each) for each in begin]
        )
        async with consumer:
            partitions = world.partitions(["backorders"])
            consumer.assign(partitions)
            for each in partitions:
                consumer.seek(each, begin.get(each.partition, 0))
            began, left = perf_counter(), len(events.rows)
            while left:
                polled = await consumer.getmany(timeout_ms=50, max_records=RECORDS_AT_ONCE)
                batch = [events.rows[dict(record.headers)["ce_id"]] for part in polled.values() for record in part]
                if not batch:
                    continue
                updates, filled, versions = zip(*batch, strict=True)
                async with connection.transaction():
                    await connection.copy_records_to_table("updates", records=updates, columns=list(UPDATE_COLUMNS))
                    await connection.fetch(FILL_ORDERS, *map(list, zip(*filled, strict=True)))
                    await connection.copy_records_to_table("versions", records=versions, columns=list(VERSION_COLUMNS))
                    for at, part in polled.items():
                        await connection.fetch(MOVE, topic, at.partition, part[-1].offset + 1)
                left -= len(batch)
            return perf_counter() - began
    finally:
        await connection.close()
