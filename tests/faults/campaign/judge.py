"""The proof, from outside: what was sent (by the topics), what the tables say, and what reached the mailbox."""

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from backorder_notifier.intake import READS
from backorder_schemas import TOPICS, Decoded, LinesShipped, OrderPlaced, StockReceived, decode
from tests.e2e.messages import Message
from tests.e2e.world import INPUTS
from tests.faults.campaign.demand import POISON
from tests.faults.campaign.schedule import Fault
from tests.faults.campaign.supervisor import Service
from tests.faults.campaign.upstream import Upstream

MAKES_DOUBLES = ("notifier", "postgres", "smtp", "pg_terminate")
BEFORE_SECONDS, AFTER_SECONDS = 3.0, 12.0
"""A mail that was accepted so shortly before a fault, or so soon after it, may not have been noted."""
EXAMPLES = 5


@dataclass
class Verdict:
    """`checked`: how often each sentence was looked at. One that never was says nothing, and is a violation."""

    checked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def check(self, sentence: str, holds: bool, what: str) -> None:
        self.checked[sentence] += 1
        if not holds and sum(each.startswith(sentence) for each in self.violations) < EXAMPLES:
            self.violations.append(f"{sentence}: {what}")

    def add(self, sentence: str, checked: int, wrong: Sequence[str]) -> None:
        self.checked[sentence] += checked
        self.violations.extend(f"{sentence}: {each}" for each in wrong[:EXAMPLES])


@dataclass(frozen=True, slots=True)
class Sent:
    """One record of an input topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    message: Any

    @property
    def is_poison(self) -> bool:
        return any(name == POISON for name, _ in self.headers)


async def read_inputs(kafka: str) -> list[Sent]:
    """All input records up to the present ends, in order per partition."""
    found: list[Sent] = []
    partitions = [
        TopicPartition(name, number)
        for name in dict.fromkeys([*INPUTS, "customers"])
        for number in range(TOPICS[name].partitions)
    ]
    consumer = AIOKafkaConsumer(bootstrap_servers=[kafka], auto_offset_reset="earliest")
    async with consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for each in partitions:
            consumer.seek(each, 0)
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for records in (await consumer.getmany(timeout_ms=300)).values():
                for record in records:
                    headers = tuple(record.headers)
                    decoded = decode(record.topic, record.key, record.value, headers)
                    message = decoded.message if isinstance(decoded, Decoded) else None
                    at = (record.topic, record.partition, record.offset)
                    found.append(Sent(*at, record.key, record.value, headers, message))
    return found


async def judge_inputs(verdict: Verdict, sent: Sequence[Sent], upstream: Upstream, urls: Mapping[Service, str]) -> None:
    """Everything that was acknowledged is there, and every record of it had its one outcome in the tables."""
    by_place = {(each.topic, each.partition, each.offset): each for each in sent}
    for place, checksum in upstream.acknowledged.items():
        there = by_place.get(place)
        same = there is not None and zlib.crc32(there.value or b"") == checksum
        verdict.check("what Kafka acknowledged is on the topics", same, str(place))
    poison = {place for place, each in by_place.items() if each.is_poison}
    connection = await asyncpg.connect(urls["allocator"])
    try:
        dead = {
            tuple(row) for row in await connection.fetch("SELECT topic, partition, record_offset FROM dead_letters")
        }
        mine = {place for place in poison if place[0] in INPUTS}
        wrong = [f"{place} is missing" for place in mine - dead] + [f"{place} is one too many" for place in dead - mine]
        verdict.add("the dead letters of the allocator are the poisoned records", len(mine | dead), wrong)
        await _judge_units(verdict, sent, connection)
    finally:
        await connection.close()
    connection = await asyncpg.connect(urls["notifier"])
    try:
        dead = {
            tuple(row) for row in await connection.fetch("SELECT topic, partition, record_offset FROM dead_letters")
        }
        wrong = [f"{place} is one too many" for place in dead - poison]
        wrong += [
            f"{place} is missing" for place in poison - dead if place[0] in READS and by_place[place].message is None
        ]
        verdict.add("the dead letters of the notifier are poisoned records", len(dead | poison), wrong)
    finally:
        await connection.close()


async def _judge_units(verdict: Verdict, sent: Sequence[Sent], connection: asyncpg.Connection) -> None:
    ordered: dict[str, dict[int, int]] = {}
    received: dict[tuple[str, str, str], int] = {}
    shipped: dict[tuple[str, str], dict[int, int]] = {}
    for each in sent:
        match each.message:
            case OrderPlaced() as order if not each.is_poison:
                ordered.setdefault(order.order_id, {line.line_no: line.quantity for line in order.lines})
            case StockReceived() as receipt:
                received.setdefault((receipt.receipt_id, receipt.sku, receipt.location), receipt.quantity)
            case LinesShipped() as shipment:
                of_lines = {line.line_no: line.quantity for line in shipment.lines}
                shipped.setdefault((shipment.shipment_id, shipment.order_id), of_lines)
            case _:
                pass
    rows = await connection.fetch("SELECT order_id, line_no, quantity_ordered, quantity_shipped FROM lines")
    stored = {(row["order_id"], row["line_no"]): row for row in rows}
    left: Counter[tuple[str, int]] = Counter()
    for (_, order_id), lines in shipped.items():
        left.update({(order_id, line_no): quantity for line_no, quantity in lines.items()})
    for order_id, lines in ordered.items():
        for line_no, quantity in lines.items():
            row = stored.pop((order_id, line_no), None)
            what = f"order {order_id} line {line_no}"
            verdict.check(
                "every order is there with its units", row is not None and row["quantity_ordered"] == quantity, what
            )
            booked = row["quantity_shipped"] if row is not None else 0
            verdict.check("every shipment is booked once", booked == left[order_id, line_no], what)
    verdict.check("no line is there that nobody ordered", not stored, str(list(stored)[:3]))
    rows = await connection.fetch(
        "SELECT m.document_id, p.sku, p.location, m.quantity FROM stock_movements m JOIN pools p USING (pool_id) "
        "WHERE m.kind = 'received'"
    )
    booked_receipts = {(row["document_id"], row["sku"], row["location"]): row["quantity"] for row in rows}
    for key in received.keys() | booked_receipts.keys():
        verdict.check("every receipt is booked once", received.get(key) == booked_receipts.get(key), str(key))


# ── sent again ───────────────────────────────────────────────────────────────────────────────────────────────────────

STATE: dict[Service, dict[str, str]] = {
    "allocator": {
        "pools": "SELECT sku, location, on_hand, allocated, waiting, safety_stock FROM pools ORDER BY 1, 2",
        "lines": "SELECT order_id, line_no, quantity_ordered, quantity_allocated, quantity_waiting, "
        "quantity_cancelled, quantity_rejected, quantity_shipped, quantity_released FROM lines ORDER BY 1, 2",
        "supplies": "SELECT sku, supply_id, revision, quantity, received, cancelled FROM supplies ORDER BY 1, 2",
        "policies": "SELECT sku, revision FROM policies ORDER BY 1",
        "movements": "SELECT kind, count(*), sum(quantity) FROM stock_movements GROUP BY 1 ORDER BY 1",
        "cancels": "SELECT count(*) FROM cancels",
        "fulfilments": "SELECT kind, count(*), count(*) FILTER (WHERE waits) FROM fulfilments GROUP BY 1 ORDER BY 1",
        # What the planner says depends on when it runs; that a supply is overdue, on the clock.
        "decision events": "SELECT type, count(*) FROM events WHERE type NOT IN "
        "('PromiseChanged', 'SkuAvailability', 'SupplyOverdue') GROUP BY 1 ORDER BY 1",
    },
    "notifier": {
        "messages": "SELECT kind, count(*) FROM messages WHERE kind NOT IN "
        "('promise_changed', 'promise_approaching', 'promise_missed', 'feedback_request') GROUP BY 1 ORDER BY 1",
        "contacts": "SELECT count(*), count(email) FROM orders",
    },
}


async def fingerprint(urls: Mapping[Service, str]) -> dict[str, list[tuple[Any, ...]]]:
    """The state that must not change when everything is sent again."""
    found = {}
    for service, queries in STATE.items():
        connection = await asyncpg.connect(urls[service])
        try:
            for what, query in queries.items():
                found[f"{service}: {what}"] = [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()
    return found


async def send_again(upstream: Upstream, sent: Sequence[Sent]) -> None:
    for start in range(0, len(sent), 500):
        part = sent[start : start + 500]
        await upstream.send([Message(each.topic, each.key, each.value, each.headers) for each in part])


def judge_again(
    verdict: Verdict, before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]
) -> None:
    for what, rows in before.items():
        changed = [(old, new) for old, new in zip(rows, after[what], strict=False) if old != new]
        same = rows == after[what]
        verdict.add("sending everything again changes nothing", len(rows), [] if same else [f"{what}: {changed[:2]}"])


# ── mails ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Mails:
    accepted: int
    distinct: int
    doubled: int
    """Accepted again, beyond the first time."""


async def judge_mails(verdict: Verdict, file: Path, url: str, faults: Sequence[Fault], refused_for_good: int) -> Mails:
    """Nothing is lost; what came twice, came twice because of a fault."""
    taken: dict[str, list[float]] = {}
    for line in (await asyncio.to_thread(file.read_text)).splitlines():
        mail = json.loads(line)
        taken.setdefault(mail["message_id"], []).append(mail["at"])
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT delivery_id, state, reason FROM deliveries WHERE channel = 'email'")
    finally:
        await connection.close()
    known = {f"<{row['delivery_id']}@example.org>": row for row in rows}
    for message_id, row in known.items():
        if row["state"] == "sent":
            verdict.check("every mail that is noted as sent was accepted", message_id in taken, message_id)
    verdict.check("every mail has an end", not any(row["state"] == "due" for row in rows), "some are due")
    failed = [row["reason"] for row in rows if row["state"] == "failed"]
    what = f"{len(failed)} failed, {refused_for_good} were refused for good: {Counter(failed)}"
    few = len(failed) <= refused_for_good and all(reason.startswith("smtp 554") for reason in failed)
    verdict.check("no mail failed that the mail server did not refuse", few, what)
    for message_id, times in taken.items():
        verdict.check("every accepted mail is one of ours", message_id in known, message_id)
        for at in times[:-1]:
            explained = any(
                fault.began_at - BEFORE_SECONDS <= at <= fault.ended_at + AFTER_SECONDS
                for fault in faults
                if any(part in fault.kind for part in MAKES_DOUBLES) or "member" in fault.kind
            )
            verdict.check("a mail came twice only by a fault", explained, f"{message_id} accepted at {times}")
    accepted = sum(len(times) for times in taken.values())
    return Mails(accepted, len(taken), accepted - len(taken))
