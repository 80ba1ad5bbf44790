"""Who sends: a careful producer that knows what Kafka has acknowledged and sends the rest again; and the warehouse.

What is in doubt is sent again, as any careful upstream does: the services have to know it by its natural key. What was
really sent is read from the topics at the end.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from backorder_schemas import TOPICS, AllocationReleased, Decoded, decode
from tests.e2e.messages import Message, shipment
from tests.faults.campaign.away import KAFKA_AWAY
from tests.faults.campaign.demand import Shop, stamped

BURST_SECONDS = 0.2
ACKNOWLEDGED_SECONDS = 12.0
SHIPS_ONE_OF = 3


@dataclass
class Upstream:
    """Sends in order. `acknowledged`: (topic, partition, offset) → the bytes that Kafka said it has there."""

    kafka: str
    sent: int = 0
    in_doubt: int = 0
    """Sent, and not acknowledged in time: sent again."""
    acknowledged: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """→ checksum of the value."""
    _producer: AIOKafkaProducer | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def close(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with contextlib.suppress(*KAFKA_AWAY):
                await asyncio.wait_for(producer.stop(), 5)

    async def send(self, messages: Sequence[Message]) -> None:
        """Returns when Kafka has acknowledged all of them, however long that takes."""
        async with self._turn:
            rest = list(messages)
            while rest:
                rest = await self._try(rest)

    async def _try(self, messages: list[Message]) -> list[Message]:
        """Those that were not acknowledged."""
        futures: list[tuple[Message, asyncio.Future[object] | None]] = []
        try:
            producer = await self._started()
            async with asyncio.timeout(ACKNOWLEDGED_SECONDS):
                for each in messages:
                    headers = list(each.headers)
                    futures.append((each, await producer.send(each.topic, each.value, key=each.key, headers=headers)))
                await asyncio.gather(*(future for _, future in futures if future is not None))
        except KAFKA_AWAY:
            self.in_doubt += len(messages)
            await self.close()
            await asyncio.sleep(0.3)
        lost = []
        for number, message in enumerate(messages):
            future = futures[number][1] if number < len(futures) else None
            if future is None or not future.done() or future.cancelled() or future.exception() is not None:
                lost.append(message)
                continue
            at = future.result()
            place = (at.topic, at.partition, at.offset)  # type: ignore[attr-defined]
            self.acknowledged[place] = zlib.crc32(message.value or b"")
            self.sent += 1
        return lost

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=[self.kafka],
                acks="all",
                enable_idempotence=True,
                linger_ms=2,
                request_timeout_ms=8000,
                retry_backoff_ms=400,
                max_batch_size=256 * 1024,
            )
            try:
                await asyncio.wait_for(producer.start(), 10)
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer


async def keep_busy(upstream: Upstream, shop: Shop, per_second: float, until: asyncio.Event) -> None:
    """Sends about so many messages a second in small bursts. What stood still is not made up for."""
    due = 0.0
    while not until.is_set():
        began = time.monotonic()
        due = min(due + per_second * BURST_SECONDS, per_second)
        burst: list[Message] = []
        while len(burst) < int(due):
            burst.extend(shop.next_messages())
        due -= len(burst)
        await upstream.send(burst)
        await asyncio.sleep(max(0.0, BURST_SECONDS - (time.monotonic() - began)))


@dataclass
class Warehouse:
    """Ships what the first release of some orders says, once each, whatever is revoked later."""

    kafka: str
    shop: Shop
    upstream: Upstream
    shipped: set[str] = field(default_factory=set)
    deaf: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: it hears nothing any more."""

    async def work(self) -> None:
        positions: dict[TopicPartition, int] = {}
        while not self.deaf.is_set():
            with contextlib.suppress(*KAFKA_AWAY):
                await self._listen(positions)
            await asyncio.sleep(0.5)

    async def _listen(self, positions: dict[TopicPartition, int]) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=[self.kafka], auto_offset_reset="earliest", retry_backoff_ms=400)
        try:
            await asyncio.wait_for(consumer.start(), 10)
            partitions = [TopicPartition("allocations", number) for number in range(TOPICS["allocations"].partitions)]
            consumer.assign(partitions)
            for each in partitions:
                consumer.seek(each, positions.get(each, 0))
            while not self.deaf.is_set():
                shipments = []
                for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                    for record in records:
                        shipments += self._ships(record)
                    positions[partition] = records[-1].offset + 1
                await self.upstream.send(shipments)
                await asyncio.sleep(0.2)
        finally:
            await asyncio.wait_for(consumer.stop(), 10)

    def _ships(self, record: object) -> list[Message]:
        decoded = decode("allocations", record.key, record.value, tuple(record.headers))  # type: ignore[attr-defined]
        told = decoded.message if isinstance(decoded, Decoded) else None
        if not isinstance(told, AllocationReleased) or told.release_no != 1 or told.order_id in self.shipped:
            return []
        placed = self.shop.placed.get(told.order_id)
        if placed is None or placed.early or zlib.crc32(told.order_id.encode()) % SHIPS_ONE_OF:
            return []
        self.shipped.add(told.order_id)
        parts = [(line.line_no, line.quantity) for line in told.lines]
        return [stamped(shipment(f"of-{told.order_id}", told.order_id, *parts), datetime.now(UTC))]
