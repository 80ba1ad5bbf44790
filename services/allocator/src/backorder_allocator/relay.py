"""The relay publishes what was committed: every event at least once, in log order, by one process at a time.

Its position moves only after Kafka has acknowledged, so a crash repeats events (with the same ids) and loses none.
Whoever takes the lease over gets a new epoch; one that was frozen and wakes up can't move the position any more.
What it still had on its way to Kafka may arrive behind newer events. Subscribers see that by the version; but on the
compacted topic `availability` the last one stays, so what is current there is published again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from time import monotonic

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from backorder_allocator import dead_letters, log, telemetry
from backorder_allocator.connections import MAX_REQUEST_BYTES, stop_producer
from backorder_allocator.dead_letters import DeadLetterRow, Headers
from backorder_allocator.errors import LeaseLostError, NotReadyError
from backorder_allocator.events import SealedEvent, headers
from backorder_allocator.fail_points import reached
from backorder_allocator.log import Lease
from backorder_allocator.statements import Connection

logs = telemetry.logger(__name__)

LEASE_SECONDS = 10.0
RENEW_SECONDS = 5.0
"""A lease that ends in less is renewed first. A turn costs every batch, and each renewal is a commit."""
DEAD_LETTERS_EVERY_SECONDS = 0.5
EVENTS_AT_ONCE = 2000
DEAD_LETTERS_AT_ONCE = 100
IDLE_SECONDS = 1.0
"""How long the relay sleeps when nobody wakes it: the price of a lost wake-up."""
SEND_TIMEOUT_SECONDS = 30.0
DEAD_LETTER_TOPIC = "allocator.dlq"
LARGEST_DEAD_LETTER = MAX_REQUEST_BYTES - 16 * 1024
"""Bytes of the original; the rest is for the headers that say why (the detail has up to 2,000 characters)."""

MakeProducer = Callable[[], Awaitable[AIOKafkaProducer]]
Message = tuple[str, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""(topic with prefix, key, value, headers)."""


@dataclass(frozen=True, slots=True)
class InDoubt:
    """What a producer before this one may still be writing: the log behind `since`, up to the seq `until`."""

    since: Lease
    until: int
    over_at: float
    """When it has given up at the latest (monotonic)."""


class Relay:
    """Publishes the log while it holds the lease. `make_producer` gives a started idempotent producer with acks=all."""

    def __init__(self, holder: str, topic_prefix: str, make_producer: MakeProducer) -> None:
        self.holder = holder
        self.topic_prefix = topic_prefix
        self.make_producer = make_producer
        self.wake = asyncio.Event()
        self.producer: AIOKafkaProducer | None = None
        self.lease: Lease | None = None
        self.lease_ends = 0.0
        """By our own clock (monotonic), never later than by the database's."""
        self.in_doubt: InDoubt | None = None
        self.epoch_told: int | None = None
        """Of our lease as the log tells it: it says nothing when the same one is renewed after a trouble."""
        self.held: Lease | None = None
        """The lease as we knew it last, until we gave it back: who was frozen learns from it that it was refused."""
        self.letters_at = 0.0
        """When to look for dead letters again (monotonic)."""

    async def turn(self, connection: Connection) -> bool:
        """Publish one portion, under a lease that is taken or renewed where that is due. True: there may be more."""
        asked = monotonic()
        if self.lease is None or asked > self.lease_ends - RENEW_SECONDS:
            await self.take_lease(connection, asked)
        if self.lease is None or self.held is None:
            return False
        lease = self.held
        reached("relay.leased")
        if self.in_doubt is not None and self.in_doubt.over_at <= asked:
            await self.publish_availability_again(connection, self.in_doubt, lease)
        more_events = await self.publish_events(connection, lease)
        if asked < self.letters_at:
            return more_events
        more_letters = await self.publish_dead_letters(connection, lease)
        self.letters_at = asked if more_letters else asked + DEAD_LETTERS_EVERY_SECONDS
        return more_events or more_letters

    async def take_lease(self, connection: Connection, asked: float) -> None:
        """Take the lease, or renew it."""
        lease = await log.take_lease(connection, self.holder, LEASE_SECONDS)
        self.held = await log.compared(connection, self.held, lease)
        if lease is None:
            self.lost()
            self.in_doubt = None
            return
        if self.lease is None or self.lease.epoch != lease.epoch:
            if self.epoch_told != lease.epoch:
                logs.info("publishes the log", epoch=lease.epoch, seq=lease.seq)
            self.epoch_told = lease.epoch
            telemetry.RELAY_HOLDER.set(1)
            since = self.in_doubt.since if self.in_doubt else lease
            self.in_doubt = InDoubt(since, lease.seq + EVENTS_AT_ONCE, asked + SEND_TIMEOUT_SECONDS)
        self.lease, self.lease_ends = lease, asked + LEASE_SECONDS
        telemetry.RELAY_SEQ.set(lease.seq)

    async def publish_events(self, connection: Connection, lease: Lease) -> bool:
        events = await log.events_to_publish(connection, lease, EVENTS_AT_ONCE)
        if not events:
            return False
        await self.send([self.message(logged.event) for logged in events])
        reached("relay.acked")
        last = events[-1]
        moved = replace(lease, seq=last.seq, journal=last.journal)
        await log.move(connection, moved)
        self.held = moved
        reached("relay.moved")
        telemetry.RELAY_SEQ.set(last.seq)
        for topic, number in Counter(logged.event.topic for logged in events).items():
            telemetry.PUBLISHED.labels(topic).inc(number)
        return len(events) == EVENTS_AT_ONCE

    async def publish_availability_again(self, connection: Connection, in_doubt: InDoubt, lease: Lease) -> None:
        """Publish what is current of the keys that an earlier producer may have overwritten."""
        events = await log.current_availability(connection, in_doubt.since, in_doubt.until, lease)
        for start in range(0, len(events), EVENTS_AT_ONCE):
            await self.send([self.message(event) for event in events[start : start + EVENTS_AT_ONCE]])
        self.in_doubt = None
        logs.info("published current availability again", keys=len(events))

    def message(self, event: SealedEvent) -> Message:
        return self.topic_prefix + event.topic, event.key.encode(), event.value.encode(), list(headers(event))

    async def publish_dead_letters(self, connection: Connection, lease: Lease) -> bool:
        letters = await dead_letters.unpublished(connection, DEAD_LETTERS_AT_ONCE)
        if not letters:
            return False
        await self.send([self.dead_letter_message(letter) for letter in letters])
        reached("dlq.acked")
        if not await dead_letters.mark_published(connection, [each.dead_letter_id for each in letters], lease.epoch):
            raise LeaseLostError(f"the relay's epoch {lease.epoch} is over: another process publishes now")
        telemetry.PUBLISHED.labels(DEAD_LETTER_TOPIC).inc(len(letters))
        return bool(letters)

    def dead_letter_message(self, letter: DeadLetterRow) -> Message:
        """The record as it came, and in headers why it is here.

        Kafka measures what is compressed, so an input can be larger than any topic takes. What does not fit is left
        out, which a header says; the database has all of it. One letter must never stand in the way of all others.
        """
        topic, key, value = self.topic_prefix + DEAD_LETTER_TOPIC, letter.key, letter.value
        headers = dead_letters.headers_to_publish(letter.headers)
        reasons = self.dead_letter_headers(letter)
        left_out = []
        while size(key, value, headers) > LARGEST_DEAD_LETTER:
            if value is not None:
                left_out.append("value")
                value = None
            elif headers:
                left_out.append("headers")
                headers = ()
            else:
                left_out.append("key")
                key = None
        if left_out:
            reasons.append(("dlq.left_out", ", ".join(left_out).encode()))
        return topic, key, value, [*headers, *reasons]

    def dead_letter_headers(self, letter: DeadLetterRow) -> list[tuple[str, bytes | None]]:
        added = {
            "dlq.topic": self.topic_prefix + letter.topic,
            "dlq.partition": str(letter.partition),
            "dlq.offset": str(letter.offset),
            "dlq.reason": letter.reason,
            "dlq.detail": letter.detail,
            "dlq.failed_at": letter.failed_at.isoformat().replace("+00:00", "Z"),
        }
        return [(name, text.encode()) for name, text in added.items()]

    async def send(self, messages: Sequence[Message]) -> None:
        """Send all and wait for every acknowledgement; a send that is not awaited could be lost without a word."""
        if self.producer is None:
            try:
                self.producer = await self.make_producer()
            except (KafkaError, OSError) as error:
                raise NotReadyError(f"Kafka is not reachable: {error!r}") from error
        if monotonic() > self.lease_ends:
            # Frozen since: another process publishes now, and what we would send is old.
            raise LeaseLostError("the lease ended before its events were sent")
        sent: list[asyncio.Future[object]] = []
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                for topic, partition, batch in await batches_of(self.producer, messages):
                    sent.append(await self.producer.send_batch(batch, topic, partition=partition))
                reached("relay.sent")
                results = await asyncio.gather(*sent, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except Exception as error:
            for each in sent:
                each.add_done_callback(_looked_at)
            # After a fatal error (fenced, sequence lost) a producer never recovers, so none is kept after any error.
            await self.drop_producer()
            if isinstance(error, KafkaError | OSError):
                raise NotReadyError(f"Kafka did not take {len(messages)} messages: {error!r}") from error
            raise

    async def drop_producer(self) -> None:
        producer, self.producer = self.producer, None
        if producer is not None:
            await stop_producer(producer)

    def in_trouble(self) -> None:
        """Something failed. What we had on its way may still arrive: the next turn begins as that of a new holder."""
        self.lease = None

    async def let_others_try(self, connection: Connection) -> None:
        """Give the lease back, since we can't publish now; another process may reach Kafka where we don't."""
        if self.lease is not None:
            await log.give_lease_back(connection, self.holder, self.lease.epoch)
        self.lease = self.held = None
        telemetry.RELAY_HOLDER.set(0)

    def lost(self) -> None:
        if self.lease is not None:
            logs.warning("lost the right to publish", epoch=self.lease.epoch)
        self.lease = None
        telemetry.RELAY_HOLDER.set(0)

    async def close(self, connection: Connection | None) -> None:
        """Give the lease back, so that another process takes over at once."""
        if connection is not None and self.lease is not None:
            await log.give_lease_back(connection, self.holder, self.lease.epoch)
        self.lease = self.held = None
        await self.drop_producer()


def _looked_at(sent: "asyncio.Future[object]") -> None:
    """Of what was given up, nobody wants to hear: the log keeps it, and it is sent again."""
    if not sent.cancelled():
        sent.exception()


async def batches_of(producer: AIOKafkaProducer, messages: Iterable[Message]) -> list[tuple[str, int, BatchBuilder]]:
    """The messages as batches for (topic, partition), in their order: the library's own way costs thrice as much.

    The partition is that of the Java client's hash of the key. Kafka also takes a record without key and value.
    """
    partitions: dict[str, int] = {}
    open_batches: dict[tuple[str, int], BatchBuilder] = {}
    batches: list[tuple[str, int, BatchBuilder]] = []
    for topic, key, value, of_message in messages:
        if topic not in partitions:
            partitions[topic] = len(await producer.partitions_for(topic))
        partition = (hash_of(key or b"") & 0x7FFFFFFF) % partitions[topic]
        batch = open_batches.get((topic, partition))
        if batch is None or batch.append(key=key, value=value, timestamp=None, headers=of_message) is None:
            batch = open_batches[topic, partition] = producer.create_batch()
            batches.append((topic, partition, batch))
            batch.append(key=key, value=value, timestamp=None, headers=of_message)
    for _, _, batch in batches:
        batch.close()
    return batches


hash_of = lru_cache(maxsize=8192)(murmur2)
"""The events of an order are close together, and have one key."""


def size(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """About the bytes that a record takes in Kafka, without what the relay adds."""
    named = sum(len(name.encode("utf-8", "surrogatepass")) + len(text or b"") + 10 for name, text in headers)
    return len(key or b"") + len(value or b"") + named
