"""How long something takes from when it was due to be sent until a subscriber has read what came of it.

An open loop: messages are sent by a schedule, whatever comes back, and time counts from the schedule. A sender that
waits for answers, or counts from when it got round to sending, would not see the worst (coordinated omission).
Sender and subscriber are processes of their own, so that neither makes the other late; all read the same clock.
"""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from time import time
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.bench.frame import percentile
from tests.e2e.messages import Message
from tests.e2e.world import Position, World

START_SECONDS = 1.0
"""From when the processes run until the first message is due: they connect."""
GRACE_SECONDS = 2.0
"""How long the subscriber reads on after the last was due, and after the last that it read."""
LONGEST_GRACE_SECONDS = 60.0
TOPICS = ("allocations", "backorders")
ECHO_TABLE = "CREATE TABLE echo (at timestamptz NOT NULL, records integer NOT NULL)"

Starts = Sequence[tuple[str, int, int]]
"""(topic with prefix, partition, offset to read from)."""
Raw = tuple[float, int, bytes]
"""When a record was read, Kafka's timestamp of it in milliseconds, its value."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message and when it is sent, in seconds from the start."""

    at: float
    message: Message

    @property
    def cause(self) -> str:
        """The id of the message, which events name as `caused_by`."""
        return str(json.loads(self.message.value or b"{}")["id"])


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as the subscriber read it. Times are seconds since 1970; those by Kafka are whole milliseconds."""

    type: str
    cause: str
    taken: float
    """When Kafka had the message that caused it."""
    told: float
    """When Kafka had the event."""
    read: float


@dataclass(frozen=True, slots=True)
class Run:
    """`due`: when each message was due to be sent, by its id. `sent_late`: the sender's own delays, in seconds."""

    due: dict[str, float]
    sent_late: Sequence[float]
    seen: Sequence[Seen]

    def last(self, types: Sequence[str] = ()) -> dict[str, Seen]:
        """The last event that each message caused, of these types or of all."""
        wanted = (each for each in self.seen if each.cause in self.due and (not types or each.type in types))
        return {each.cause: each for each in wanted}

    def seconds(self, causes: Sequence[str], types: Sequence[str] = ()) -> list[float]:
        """For each of these messages, until the last event that it caused was read. All must have caused one."""
        last = self.last(types)
        missing = [cause for cause in causes if cause not in last]
        assert not missing, f"{len(missing)} of {len(causes)} messages caused nothing that was read: {missing[:3]}"
        return [last[cause].read - self.due[cause] for cause in causes]


async def measure(world: World, plan: Sequence[Due], *, echo: bool = False) -> Run:
    """Sends `plan` by its times, reads what comes of it. `echo`: a process of ours answers instead of an allocator."""
    ends = await world.ends((*TOPICS, "orders"))
    until = plan[-1].at + GRACE_SECONDS
    if echo:
        await world.database.execute(ECHO_TABLE)
    async with process() as subscriber, process() as sender, process() as echoer:
        begin = time() + START_SECONDS
        work = [
            subscriber(subscribe, world.kafka, begin + until, starts(world, TOPICS, ends)),
            sender(send, world.kafka, world.prefix, begin, plan),
        ]
        if echo:
            orders = starts(world, ["orders"], ends)
            work.append(echoer(answer, world.kafka, world.prefix, world.database_url, begin + until, orders))
        seen, late, *_ = await asyncio.gather(*work)
    return Run({each.cause: begin + each.at for each in plan}, late, [as_seen(*each) for each in seen])


def milliseconds(seconds: Sequence[float], *shares: float) -> list[float]:
    """The percentiles of these shares (0 to 1)."""
    return [percentile(seconds, share) * 1000 for share in shares]


@asynccontextmanager
async def process() -> AsyncIterator[Callable[..., asyncio.Future[Any]]]:
    """Runs functions in a process of its own, once it is there. Not forked: there are connections here."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        run = partial(asyncio.get_running_loop().run_in_executor, pool)
        await run(is_there)
        yield run


def starts(world: World, topics: Sequence[str], ends: dict[Position, int]) -> Starts:
    return [
        (each.topic, each.partition, ends.get((each.topic.removeprefix(world.prefix), each.partition), 0))
        for each in world.partitions(topics)
    ]


def as_seen(read: float, told: int, value: bytes) -> Seen:
    event = json.loads(value)
    taken = datetime.fromisoformat(event["occurred_at"]).timestamp()
    return Seen(event["type"], event["caused_by"], taken, told / 1000, read)


# ── in processes of their own ────────────────────────────────────────────────────────────────────────────────────────


def is_there() -> None:
    """Done once the process has begun and imported this module."""


def send(kafka: str, prefix: str, begin: float, plan: Sequence[Due]) -> list[float]:
    """Sends each message when it is due. Gives by how much each was late."""
    gc.disable()  # its own pauses are not what is measured
    return asyncio.run(_send(kafka, prefix, begin, plan))


async def _send(kafka: str, prefix: str, begin: float, plan: Sequence[Due]) -> list[float]:
    late, sent = [], []
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True) as producer:
        for each in plan:
            if (wait := begin + each.at - time()) > 0:
                await asyncio.sleep(wait)
            late.append(time() - begin - each.at)
            message = each.message
            sent.append(await producer.send(prefix + message.topic, message.value, key=message.key))
        await asyncio.gather(*sent)
    return late


def subscribe(kafka: str, until: float, starts: Starts) -> list[Raw]:
    """Reads until that moment and until nothing more comes; what it reads is looked at afterwards."""
    gc.disable()
    return asyncio.run(_subscribe(kafka, until, starts))


async def _subscribe(kafka: str, until: float, starts: Starts) -> list[Raw]:
    found: list[Raw] = []
    async with reader(kafka, starts) as consumer:
        quiet_at, end = until, until + LONGEST_GRACE_SECONDS
        while time() < min(quiet_at, end):
            parts = await consumer.getmany(timeout_ms=100)
            now = time()
            found += [(now, record.timestamp, record.value) for part in parts.values() for record in part]
            if parts:
                quiet_at = max(until, now + GRACE_SECONDS)
    return found


def answer(kafka: str, prefix: str, database: str, until: float, starts: Starts) -> None:
    """The least that anybody could do: take what is there, commit one row, publish an event for each order."""
    asyncio.run(_answer(kafka, prefix, database, until, starts))


async def _answer(kafka: str, prefix: str, database: str, until: float, starts: Starts) -> None:
    connection = await asyncpg.connect(database)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    async with reader(kafka, starts) as consumer, producer:
        while time() < until:
            parts = await consumer.getmany(timeout_ms=20, max_records=1000)
            records = [record for part in parts.values() for record in part]
            if not records:
                continue
            await connection.execute("INSERT INTO echo VALUES (clock_timestamp(), $1)", len(records))
            sent = [
                await producer.send(prefix + "allocations", echoed(record.value, record.timestamp), key=record.key)
                for record in records
            ]
            await asyncio.gather(*sent)
    await connection.close()


def echoed(value: bytes, taken: int) -> bytes:
    """An event with what `as_seen` reads, and the order's lines, so that it is about as long as a release."""
    order = json.loads(value)
    event = {
        "type": "AllocationReleased",
        "id": order["id"],
        "occurred_at": datetime.fromtimestamp(taken / 1000, UTC).isoformat(),
        "caused_by": order["id"],
        "order_id": order["order_id"],
        "lines": order["lines"],
    }
    return json.dumps(event).encode()


@asynccontextmanager
async def reader(kafka: str, starts: Starts) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group that begins at these offsets."""
    offsets = {TopicPartition(topic, partition): offset for topic, partition, offset in starts}
    async with AIOKafkaConsumer(bootstrap_servers=kafka, fetch_max_wait_ms=50) as consumer:
        consumer.assign(list(offsets))
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
        yield consumer
