"""What the topics and the mail sink say: who got what, when, and who was told. Nothing here asks a database."""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email import policy
from email.parser import BytesHeaderParser

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.cluster import ClusterMetadata

from backorder_local.errors import LocalError
from backorder_local.mail_store import Mail
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    CustomerNotified,
    DeadLetter,
    Message,
    NotificationFailed,
    PromiseChanged,
    decode,
)

TOPICS = ("allocations", "backorders", "notifications")
FETCH_MS = 100
MAX_RECORDS = 1000
WORD = re.compile(r"[^\s:,;]+")


@dataclass(frozen=True, slots=True)
class Latency:
    """Of `count` things, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Told:
    """One outcome of the notifier. `about` are ids of events; the first is the oldest."""

    order_id: str
    about: tuple[str, ...]
    kind: str
    failure: str | None


@dataclass(slots=True)
class Ledger:
    """What happened, from the messages out; each id counts once. Times are record timestamps in ms since 1970."""

    placed_ids: Mapping[str, str]
    """Ids of the messages by which orders were placed, to their order."""
    seen: set[str] = field(default_factory=set)
    units: Counter[str] = field(default_factory=Counter)
    """at_once, waited, stock_lost, filled, cancelled_waiting, cancelled_allocated, rejected, revoked"""
    waiting: dict[tuple[str, int], int] = field(default_factory=dict)
    waited_lines: set[tuple[str, int]] = field(default_factory=set)
    sku_waited: Counter[str] = field(default_factory=Counter)
    """Lines that ever waited, by SKU."""
    sku_waiting: dict[str, set[tuple[str, int]]] = field(default_factory=lambda: defaultdict(set))
    fills: list[tuple[str, int]] = field(default_factory=list)
    """(what caused it, when)"""
    to_tell: dict[str, int] = field(default_factory=dict)
    """When the events that may concern customers were published."""
    filled_orders: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    told_events: set[str] = field(default_factory=set)
    untold: set[str] = field(default_factory=set)
    """Without an outcome: not told yet, or decided not to be told, which only the notifier knows."""
    lines_waiting: int = 0
    last_decision_ms: int = 0

    @property
    def sent(self) -> list[Told]:
        return [each for each in self.told if each.failure is None]

    def take(self, message: Message, timestamp_ms: int) -> None:
        if message.id in self.seen:  # published again
            return
        self.seen.add(message.id)
        match message:
            case AllocationReleased():
                if message.caused_by in self.placed_ids:
                    self.units["at_once"] += sum(line.quantity for line in message.lines)
            case AllocationRevoked():
                self.units[f"revoked_{message.reason}"] += message.quantity
                if message.reason == "stock_lost":
                    self._tell(message.id, timestamp_ms)
            case BackorderCreated():
                self.units["waited" if message.reason == "ordered" else "stock_lost"] += message.quantity
                self._line(message, message.quantity_waiting, timestamp_ms)
            case BackorderFilled():
                self.units["filled"] += message.quantity
                self.fills.append((message.caused_by, timestamp_ms))
                self.filled_orders.append(message.order_id)
                self._line(message, message.quantity_waiting, timestamp_ms)
            case BackorderCancelled():
                self.units["cancelled_waiting"] += message.quantity
                self._line(message, message.quantity_waiting, timestamp_ms)
            case BackorderRejected():
                self.units["rejected"] += message.quantity
                self._tell(message.id, timestamp_ms)
            case PromiseChanged():
                self._tell(message.id, timestamp_ms)
            case CustomerNotified() | NotificationFailed():
                failure = (message.reason or "not said") if isinstance(message, NotificationFailed) else None
                self.told.append(Told(message.order_id, message.about, message.kind, failure))
                self.told_events.update(message.about)
                self.untold.difference_update(message.about)
                return
            case _:
                return
        self.last_decision_ms = max(self.last_decision_ms, timestamp_ms)

    def _tell(self, event_id: str, timestamp_ms: int) -> None:
        self.to_tell[event_id] = timestamp_ms
        if event_id not in self.told_events:  # topics are read side by side
            self.untold.add(event_id)

    def _line(
        self, event: BackorderCreated | BackorderFilled | BackorderCancelled, left: int, timestamp_ms: int
    ) -> None:
        self._tell(event.id, timestamp_ms)
        line = (event.order_id, event.line_no)
        if line not in self.waited_lines:
            self.waited_lines.add(line)
            self.sku_waited[event.sku] += 1
        self.lines_waiting += bool(left) - bool(self.waiting.get(line))
        self.waiting[line] = left
        if left:
            self.sku_waiting[event.sku].add(line)
        else:
            self.sku_waiting[event.sku].discard(line)


class Tail:
    """Reads the topics from their start into a ledger, while it is kept running as a task."""

    def __init__(self, consumer: AIOKafkaConsumer, prefix: str, ledger: Ledger) -> None:
        self.consumer = consumer
        self.prefix = prefix
        self.ledger = ledger
        self.partitions: list[TopicPartition] = []
        self.moved = asyncio.Event()

    async def run(self) -> None:
        """Never returns. Raises LocalError where a message isn't one of the contract."""
        while True:
            fetched = await self.consumer.getmany(timeout_ms=FETCH_MS, max_records=MAX_RECORDS)
            for partition, records in fetched.items():
                topic = partition.topic.removeprefix(self.prefix)
                for record in records:
                    decoded = decode(topic, record.key, record.value, record.headers)
                    if isinstance(decoded, DeadLetter):
                        raise LocalError(
                            f"{partition.topic} has a message of no known form ({decoded.reason}): {decoded.detail}",
                            exit_code=1,
                        )
                    self.ledger.take(decoded.message, record.timestamp)
            if fetched:
                self.moved.set()

    def assign(self, cluster: ClusterMetadata) -> None:
        """Raises LocalError where a topic is missing."""
        for topic in TOPICS:
            numbers = cluster.partitions_for_topic(self.prefix + topic)
            if not numbers:
                raise LocalError(f"Kafka has no topic {self.prefix + topic!r}.")
            self.partitions += [TopicPartition(self.prefix + topic, number) for number in numbers]
        self.consumer.assign(self.partitions)

    async def is_at_end(self) -> bool:
        """Whether all that is in the topics now was read."""
        ends = await self.consumer.end_offsets(self.partitions)
        return not [part for part in self.partitions if await self.consumer.position(part) < ends[part]]


def latency(milliseconds: Sequence[float]) -> Latency | None:
    """None of nothing. The p99 is the smallest value that 99 % don't exceed."""
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    at = {share: ordered[max(0, -(-len(ordered) * share // 100) - 1)] for share in (50, 99)}
    return Latency(len(ordered), at[50], at[99])


def receipt_to_filled(ledger: Ledger, receipts: Mapping[str, int]) -> Latency | None:
    """From a receipt's record to that of a fill it caused. Fills by cancels don't count."""
    return latency([at - receipts[cause] for cause, at in ledger.fills if cause in receipts])


def event_to_mail(ledger: Ledger, mails: Iterable[Mail], order_ids: set[str]) -> Latency | None:
    """From the record of the oldest event that a mail tells to the moment the sink had it.

    No mail names an event, but of an order one message goes after the other: the nth that the notifier says was sent is
    the nth in the sink. Orders of which the two numbers differ (a mail sent twice after a crash) are left out."""
    received: dict[str, list[float]] = defaultdict(list)
    for mail in mails:
        if (order_id := order_of(mail, order_ids)) is not None:
            received[order_id].append(mail.received_at.timestamp() * 1000)
    sent: dict[str, list[str]] = defaultdict(list)
    for each in ledger.sent:
        sent[each.order_id].append(each.about[0])
    return latency(
        [
            at - ledger.to_tell[event]
            for order_id, events in sent.items()
            if len(events) == len(received[order_id])
            for event, at in zip(events, received[order_id], strict=True)
            if event in ledger.to_tell
        ]
    )


def order_of(mail: Mail, order_ids: set[str]) -> str | None:
    """The order that the subject names. Headers alone are parsed: there may be thousands of mails."""
    headers = BytesHeaderParser(policy=policy.default).parsebytes(mail.content)
    return next((word for word in WORD.findall(str(headers["subject"] or "")) if word in order_ids), None)


async def wait_for(moved: asyncio.Event, seconds: float) -> None:
    """Until something was read, but not for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await moved.wait()
    moved.clear()
