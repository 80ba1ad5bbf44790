"""Subscribers that follow the topics through all faults, by the rule of `Versions` and nothing else.

One reads from the start. Others join in the middle: of a key whose first version they saw they know everything, of the
others what its last event says. Now and then one forgets its last offsets and reads a part again, as a consumer does
that was killed before it committed.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from backorder_schemas import (
    TOPICS,
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    Decoded,
    PromiseChanged,
    ShipmentMismatch,
    SkuAvailability,
    Versions,
    decode,
)
from tests.faults.campaign.away import KAFKA_AWAY

OUTPUTS = ("allocations", "backorders", "availability", "stock-alerts")
FORGETS_ONE_IN = 60
FORGETS_RECORDS = 300
HALF_HEARD_SECONDS = 2.0
EXAMPLES = 5

LineKey = tuple[str, int]


@dataclass(slots=True)
class Known:
    """What a subscriber knows of one line."""

    released: int = 0
    waiting: int | None = None
    dated: bool = False
    """An event said which date it is promised, or that there is none."""
    promised_at: datetime | None = None
    mismatched: int = 0
    rejected: int = 0


@dataclass
class Follower:
    """`wrong`: what should never be seen on the topics."""

    name: str
    lines: dict[LineKey, Known] = field(default_factory=lambda: defaultdict(Known))
    availability: dict[str, SkuAvailability] = field(default_factory=dict)
    whole: set[tuple[str, str]] = field(default_factory=set)
    """(topic, key) whose first version was seen: all of it is known."""
    applied: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    """Records seen before, published again or read again."""
    reread: int = 0
    wrong: list[str] = field(default_factory=list)
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    versions: "Versions[Any]" = field(default_factory=Versions)
    bytes_of: dict[str, int] = field(default_factory=dict)
    joined_at: float = 0.0
    """When it began to listen, by the clock of the topics: what is said in the same moment may be half heard."""

    def feed(self, topic: str, record: Any) -> None:
        decoded = decode(topic, record.key, record.value, tuple(record.headers))
        if not isinstance(decoded, Decoded):
            self._found(f"{topic}-{record.partition} offset {record.offset} is no message of the contract")
            return
        message: Any = decoded.message
        key = record.key.decode()
        where = f"{topic} {key} version {message.version}"
        if self.bytes_of.setdefault(message.id, hash(record.value)) != hash(record.value):
            self._found(f"{where} ({message.id}) was published again with other bytes")
        verdict = self.versions.feed(topic, key, message.epoch, message.version, message)
        if verdict.action == "wait":
            self._found(f"{where} came before an earlier version")
        self.repeats += verdict.action == "ignore"
        if message.version == 1 and record.timestamp / 1000 > self.joined_at + HALF_HEARD_SECONDS:
            self.whole.add((topic, key))
        for ready in verdict.ready:
            self.applied[type(ready).__name__] += 1
            self._apply(ready, where)

    def _apply(self, message: Any, where: str) -> None:
        match message:
            case AllocationReleased():
                for each in message.lines:
                    self.lines[message.order_id, each.line_no].released += each.quantity
            case AllocationRevoked():
                if message.release_no is not None:  # held units were never released
                    self._line(message).released -= message.quantity
            case BackorderCreated():
                self._waits(message, message.quantity, where)
                self._dates(message)
            case BackorderFilled() | BackorderCancelled():
                self._waits(message, -message.quantity, where)
            case BackorderRejected():
                self._line(message).rejected += message.quantity
            case PromiseChanged():
                line = self._line(message)
                if ("backorders", message.order_id) in self.whole and message.previous_promised_at != line.promised_at:
                    self._found(f"{where}: the date before was {line.promised_at}, not {message.previous_promised_at}")
                self._dates(message)
            case ShipmentMismatch():
                self._line(message).mismatched += message.quantity
            case SkuAvailability():
                self.availability[f"{message.location}:{message.sku}"] = message
            case _:
                pass  # alerts say nothing that a table has

    def _waits(self, message: Any, change: int, where: str) -> None:
        line = self._line(message)
        before = line.waiting or 0
        known = line.waiting is not None or ("backorders", message.order_id) in self.whole
        if known and before + change != message.quantity_waiting:
            self._found(f"{where}: {before} {change:+} should wait, not {message.quantity_waiting}")
        line.waiting = message.quantity_waiting

    def _dates(self, message: Any) -> None:
        line = self._line(message)
        line.dated, line.promised_at = True, message.promised_at

    def _line(self, message: Any) -> Known:
        return self.lines[message.order_id, message.line_no]

    def _found(self, what: str) -> None:
        if len(self.wrong) < 100:
            self.wrong.append(f"subscriber {self.name}: {what}")


async def follow(follower: Follower, kafka: str, *, from_start: bool, seed: int, until: asyncio.Event) -> None:
    """Reads on through everything that happens to Kafka. From the start, or from the ends at the first success."""
    chance = random.Random(seed)
    while not until.is_set():
        with contextlib.suppress(*KAFKA_AWAY):
            await _listen(follower, kafka, chance, from_start=from_start, until=until)
        if not until.is_set():
            await asyncio.sleep(0.5)


async def _listen(
    follower: Follower, kafka: str, chance: random.Random, *, from_start: bool, until: asyncio.Event
) -> None:
    partitions = [TopicPartition(name, number) for name in OUTPUTS for number in range(TOPICS[name].partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=[kafka], auto_offset_reset="earliest", fetch_max_wait_ms=200, retry_backoff_ms=400
    )
    try:
        await asyncio.wait_for(consumer.start(), 10)
        consumer.assign(partitions)
        if not follower.positions and not from_start:
            follower.positions.update(await asyncio.wait_for(consumer.end_offsets(partitions), 10))
            follower.joined_at = time.time()
        for each in partitions:
            consumer.seek(each, follower.positions.get(each, 0))
        while not until.is_set():
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    follower.feed(partition.topic, record)
                follower.positions[partition] = records[-1].offset + 1
            if from_start and chance.randrange(FORGETS_ONE_IN) == 0:
                forgotten = chance.choice(partitions)
                back = max(0, follower.positions.get(forgotten, 0) - FORGETS_RECORDS)
                consumer.seek(forgotten, back)
                follower.reread += 1
    finally:
        await asyncio.wait_for(consumer.stop(), 10)


async def has_read_all(follower: Follower, kafka: str) -> bool:
    """Whether it has come to the present ends."""
    partitions = [TopicPartition(name, number) for name in OUTPUTS for number in range(TOPICS[name].partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=[kafka]) as consumer:
        consumer.assign(partitions)
        consumer.pause(*partitions)
        ends = await consumer.end_offsets(partitions)
    return all(follower.positions.get(each, 0) >= end for each, end in ends.items())


async def compare(follower: Follower, database: asyncpg.Connection) -> tuple[int, list[str]]:
    """How many facts were compared with the tables, and which differ. At rest only."""
    compared = 0
    wrong: list[str] = []

    def check(what: str, seen: object, stored: object) -> None:
        nonlocal compared
        compared += 1
        if seen != stored and len(wrong) < EXAMPLES:
            wrong.append(f"subscriber {follower.name}: {what} is {seen} by the topics, {stored} in the tables")

    rows = await database.fetch(
        "SELECT order_id, line_no, quantity_waiting, quantity_released, quantity_shipped, quantity_rejected, "
        "quantity_allocated, promised_at FROM lines"
    )
    for row in rows:
        key, order_id = (row["order_id"], row["line_no"]), row["order_id"]
        what = f"order {order_id} line {row['line_no']}: "
        line = follower.lines.get(key) or Known()
        if ("backorders", order_id) in follower.whole or line.waiting is not None:
            check(f"{what}waiting", line.waiting or 0, row["quantity_waiting"])
            if row["quantity_waiting"] and (line.dated or not follower.joined_at):
                check(f"{what}promised_at", line.promised_at, row["promised_at"])
        elif not follower.joined_at:
            check(f"{what}waiting (of which nothing was said)", 0, row["quantity_waiting"])
        # Units that left were released before, or are told by ShipmentMismatch, of which one may have come too early
        # for who joined later.
        if ("allocations", order_id) in follower.whole and not (follower.joined_at and row["quantity_shipped"]):
            got = row["quantity_released"] + row["quantity_shipped"]
            check(f"{what}released − revoked + mismatched", line.released + line.mismatched, got)
    shown = await database.fetch(
        "SELECT sku, location, shown->>'status' AS status, (shown->>'available')::bigint AS available, "
        "(shown->>'waiting')::bigint AS waiting, availability_version FROM pools WHERE shown IS NOT NULL"
    )
    for row in shown:
        pool = f"{row['location']}:{row['sku']}"
        seen = follower.availability.get(pool)
        if seen is None:
            if not follower.joined_at:
                check(f"availability of {pool}", None, row["status"])
            continue
        stored = (row["status"], row["available"], row["waiting"], row["availability_version"])
        check(f"availability of {pool}", (seen.status, seen.available, seen.waiting, seen.version), stored)
    return compared, wrong
