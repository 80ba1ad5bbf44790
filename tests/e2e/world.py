"""One whole system for one test: a database, topics under a prefix, services as processes, and eyes on all of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.group import LeaveGroupRequest

from backorder_allocator import audits
from backorder_schemas import TOPICS, Decoded, decode
from tests.e2e.messages import Headers, Message
from tests.e2e.processes import Service, command, eventually, start

INPUTS = ("orders", "stock-received", "stock-adjusted", "inbound-supply", "catalog", "fulfilment")
OUTPUTS = ("allocations", "backorders", "availability", "stock-alerts")
SETTLE_SECONDS = 60.0
LEFT_TO_DO = """
    SELECT (SELECT count(*) FROM timers WHERE due_at <= clock_timestamp())
         + (SELECT count(*) FROM pools WHERE stale_since IS NOT NULL)
         + (SELECT count(*) FROM dead_letters WHERE NOT published)
         + (SELECT h.seq - r.seq FROM log_head h, relay r)"""
"""In one snapshot: timers that are due, pools to plan, dead letters and events to publish."""

Position = tuple[str, int]
"""(topic without prefix, partition)."""


@dataclass(frozen=True, slots=True)
class Read:
    """One record as it is on a topic. `message` is None where it is not one of the contract."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    message: Any

    def header(self, name: str) -> str:
        return (dict(self.headers)[name] or b"").decode()


@dataclass
class World:
    """Everything of one test. Names of topics are without prefix here."""

    kafka: str
    prefix: str
    database_url: str
    folder: Path
    producer: AIOKafkaProducer
    admin: AIOKafkaAdminClient
    database: asyncpg.Connection
    services: list[Service] = field(default_factory=list)

    # ── services ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def allocator_settings(self) -> dict[str, str]:
        return {
            "ALLOCATOR_DATABASE_URL": self.database_url,
            "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "ALLOCATOR_TOPIC_PREFIX": self.prefix,
            "ALLOCATOR_HTTP_PORT": "0",
            # So that what a test waits for is not the planner's rest.
            "ALLOCATOR_PLANNER_INTERVAL_SECONDS": "0.02",
        }

    async def allocator(
        self, *, ready: bool = True, batch: int | None = None, accept: Sequence[str] | None = None, **variables: str
    ) -> Service:
        """Starts an allocator with further environment variables; waits until it is ready unless told not to.

        `batch`: records in one transaction at most, if not as many as shipped. `accept`: flags of `run`, instead of
        those that tests need anyway.
        """
        settings = self.allocator_settings | variables
        if batch is not None:
            settings["ALLOCATOR_MAX_BATCH_RECORDS"] = str(batch)
        return await self.service("backorder-allocator", settings, ready=ready, accept=accept)

    async def service(
        self, program: str, settings: dict[str, str], *, ready: bool = True, accept: Sequence[str] | None = None
    ) -> Service:
        service = start(program, f"{program}-{len(self.services) + 1}", settings, self.folder, accept)
        self.services.append(service)
        if ready:
            await service.ready()
        return service

    async def ask(self, *arguments: str, exit_code: int = 0) -> Any:
        """The answer of `backorder-allocator … --json`."""
        return await command("backorder-allocator", self.allocator_settings, *arguments, exit_code=exit_code)

    async def audit(self) -> None:
        """Every rule holds."""
        broken = [check for check in await audits.audit(self.database) if check.violations]
        assert not broken, broken

    async def forget_dead_members(self) -> None:
        """What happens by itself 10 s after members were killed: their sessions in Kafka and the relay's lease end."""
        await self.database.execute("UPDATE relay SET lease_until = clock_timestamp()")
        group = f"{self.prefix}allocator"
        coordinator = await self.admin.find_coordinator(group)
        for described in await self.admin.describe_consumer_groups([group]):
            for _, _, _, _, _, members, *_ in described.groups:
                for member in members:
                    await self.admin._send_request(LeaveGroupRequest(group, member[0]), coordinator)

    # ── topics ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def publish(self, *messages: Message) -> None:
        """Publishes in order; returns when Kafka has all of them."""
        sent = []
        for each in messages:
            topic = self.prefix + each.topic
            if each.key is None and each.value is None:
                sent.append(await self.publish_nothing(topic, each.headers))
            else:
                headers = list(each.headers)
                sent.append(await self.producer.send(topic, each.value, key=each.key, headers=headers))
        await asyncio.gather(*sent)

    async def tell(self, *messages: Message) -> None:
        """Publishes, and waits until everything that follows is published."""
        await self.publish(*messages)
        await self.settled()

    async def publish_nothing(self, topic: str, headers: Headers) -> Any:
        """A record without key and value: `send` refuses it, Kafka doesn't."""
        batch = self.producer.create_batch()
        batch.append(key=None, value=None, timestamp=None, headers=list(headers))
        batch.close()
        return await self.producer.send_batch(batch, topic, partition=0)

    async def read(self, *topics: str) -> list[Read]:
        """All records of topics up to their present end, in order per partition, messages decoded."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka, auto_offset_reset="earliest", fetch_max_wait_ms=50)
        found: list[Read] = []
        async with consumer:
            partitions = self.partitions(topics)
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            while [each for each in partitions if await consumer.position(each) < ends[each]]:
                for part in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(self.as_read(record) for record in part)
        return found

    def as_read(self, record: Any) -> Read:
        topic = record.topic.removeprefix(self.prefix)
        headers = tuple(record.headers)
        decoded = decode(topic, record.key, record.value, headers)
        message = decoded.message if isinstance(decoded, Decoded) else None
        return Read(topic, record.partition, record.offset, record.key, record.value, headers, message)

    def partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [
            TopicPartition(self.prefix + topic, number)
            for topic in topics
            for number in range(TOPICS[topic].partitions)
        ]

    async def ends(self, topics: Sequence[str]) -> dict[Position, int]:
        """The next offset of each partition that has any record."""
        partitions = self.partitions(topics)
        async with AIOKafkaConsumer(bootstrap_servers=self.kafka) as consumer:
            # Of partitions that are not assigned, the library asks for each topic's leader by itself, 0.1 s each.
            consumer.assign(partitions)
            consumer.pause(*partitions)
            found = await consumer.end_offsets(partitions)
        return {(each.topic.removeprefix(self.prefix), each.partition): end for each, end in found.items() if end}

    async def committed(self) -> dict[Position, int]:
        """The offsets that the allocators committed to Kafka."""
        found = await self.admin.list_consumer_group_offsets(f"{self.prefix}allocator")
        return {(each.topic.removeprefix(self.prefix), each.partition): at.offset for each, at in found.items()}

    # ── the database ─────────────────────────────────────────────────────────────────────────────────────────────

    async def cursors(self) -> dict[Position, int]:
        rows = await self.database.fetch("SELECT topic, partition, next_offset FROM cursors WHERE next_offset > 0")
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def number(self, query: str, *arguments: Any) -> int:
        """The one number that a query gives."""
        return int(await self.database.fetchval(query, *arguments) or 0)

    async def settled(self, seconds: float = SETTLE_SECONDS) -> None:
        """Waits until every input is worked, what follows from it is planned and published, and no timer is due."""
        ends = await self.ends(INPUTS)

        async def all_worked() -> bool:
            cursors = await self.cursors()
            return all(cursors.get(position, 0) >= end for position, end in ends.items())

        await eventually(all_worked, f"the inputs to be worked up to {ends}", seconds, self.explain)

        async def nothing_is_left() -> bool:
            return await self.number(LEFT_TO_DO) == 0

        await eventually(nothing_is_left, "all to be planned and published", seconds, self.explain)

    def explain(self) -> str:
        return "\n".join(service.explain() for service in self.services)


@asynccontextmanager
async def made_world(kafka: str, prefix: str, database_url: str, folder: Path) -> AsyncIterator[World]:
    """A world on a migrated database, with topics as the contract wants them; both services may be started on it."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=2, max_batch_size=1024 * 1024
    )
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    names = {prefix + topic.name: topic for topic in TOPICS.values()}
    await admin.start()
    await admin.create_topics(
        [NewTopic(name, topic.partitions, 1, topic_configs=topic.kafka_config()) for name, topic in names.items()]
    )

    async def all_are_shown() -> bool:
        return names.keys() <= set(await admin.list_topics())

    # A broker shows a new topic a little after it was made, and a service that starts before that ends.
    await eventually(all_are_shown, "the broker to show the topics")
    database = await asyncpg.connect(database_url)
    await producer.start()
    world = World(kafka, prefix, database_url, folder, producer, admin, database)
    try:
        yield world
    finally:
        for service in world.services:
            service.kill()
        await world.producer.stop()
        await world.database.close(timeout=5)
        await admin.delete_topics(list(names))
        await admin.close()
