"""How fast allocators work what lies on the topics, and what they do and wait for meanwhile."""

import asyncio
import signal
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from time import time
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner

from backorder_schemas import TOPICS
from tests.bench.frame import Bench, Usage
from tests.e2e.messages import Message
from tests.e2e.processes import Service, eventually, get_text
from tests.e2e.world import World

LONGEST_SECONDS = 300.0
SAMPLE_SECONDS = 0.05
PLANNER_INTERVAL = "0.5"
"""As it is by default, where tests are more impatient."""
TOLD_ON = ("allocations", "backorders")
PLACED = "SELECT sum(next_offset) FROM cursors WHERE topic = 'orders'"
UNPUBLISHED = "SELECT h.seq - r.seq FROM log_head h, relay r"
SESSIONS = """
    SELECT state, wait_event_type, query FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'backorder-allocator' AND state <> 'idle'"""
"""Those that work batches: relay, planner and timers have names of their own."""
STATEMENT_SUM = 'allocator_statement_seconds_sum{statement="'

Stamps = dict[int, "array[float]"]
"""Of each partition, the timestamps of its records in seconds since 1970, by offset."""


@dataclass(slots=True)
class Waits:
    """What sessions that work a batch were seen doing."""

    moments: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def average(self, what: str) -> float:
        """How many sessions did it at a moment."""
        return self.seen[what] / max(1, self.moments)


@dataclass(frozen=True, slots=True)
class Drained:
    """`seconds`: from the first batch begun to the last event published. `usage` of all allocators is one number."""

    orders: int
    seconds: float
    usage: Usage
    waits: Waits
    metrics: Mapping[str, float]
    """By how much each sample of the allocators' metrics has grown, over all of them."""

    @property
    def per_second(self) -> float:
        return self.orders / self.seconds

    def statements(self) -> set[str]:
        """The names of the SQL statements of which there are metrics."""
        return {key[len(STATEMENT_SUM) : -2] for key in self.metrics if key.startswith(STATEMENT_SUM)}


async def drain(bench: Bench, world: World, allocators: Sequence[Service], orders: Sequence[Message]) -> Drained:
    """All orders are on the topic before the clock runs: the allocators are held, for less than their sessions last."""
    until = await world.number(PLACED) + len(orders)
    metrics = await metrics_of(allocators)
    with held(allocators):
        await publish(world, orders)
        usage, started = usage_of(bench, allocators), time()
    async with sampled(world) as waits:

        async def done() -> bool:
            return await world.number(PLACED) >= until and await world.number(UNPUBLISHED) == 0

        await eventually(done, "all orders to be told", LONGEST_SECONDS, world.explain)
    used = usage_of(bench, allocators) - usage
    grown = await metrics_of(allocators)
    grown.subtract(metrics)
    seconds = await last_told(world) - await first_begun(world, started)
    return Drained(len(orders), seconds, used, waits, grown)


# ── orders onto the topic ────────────────────────────────────────────────────────────────────────────────────────────


async def publish(world: World, messages: Iterable[Message], stamp: Callable[[int], float] | None = None) -> Stamps:
    """Publishes in batches as full as Kafka takes them, three times as fast as record by record.

    `stamp` gives the timestamp of each, for a topic that takes them from senders; they are given back by offset, where
    the topic was empty.
    """
    partition_of = DefaultPartitioner()
    stamps: Stamps = {}
    builders: dict[tuple[str, int], Any] = {}
    sent = []
    for number, each in enumerate(messages):
        partitions = list(range(TOPICS[each.topic].partitions))
        place = (world.prefix + each.topic, partition_of(each.key, partitions, partitions))
        at = None if stamp is None else stamp(number)
        record = {"key": each.key, "value": each.value, "timestamp": None if at is None else round(at * 1000)}
        if place not in builders or builders[place].append(**record) is None:
            if place in builders:
                sent.append(await world.producer.send_batch(builders[place], place[0], partition=place[1]))
            builders[place] = world.producer.create_batch()
            builders[place].append(**record)
        if at is not None:
            stamps.setdefault(place[1], array("d")).append(at)
    for (topic, partition), builder in builders.items():
        sent.append(await world.producer.send_batch(builder, topic, partition=partition))
    await asyncio.gather(*sent)
    return stamps


@contextmanager
def held(allocators: Iterable[Service]) -> Iterator[None]:
    """So that publishing and working don't share the cores."""
    for each in allocators:
        each.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in allocators:
            each.signal(signal.SIGCONT)


# ── when it began and ended ──────────────────────────────────────────────────────────────────────────────────────────


async def first_begun(world: World, since: float) -> float:
    """When the first batch after that moment was begun, in seconds since 1970."""
    query = "SELECT extract(epoch FROM min(at)) FROM journal WHERE at > to_timestamp($1)"
    return float(await world.database.fetchval(query, since))


async def last_told(world: World) -> float:
    """When Kafka took the last event about an order, in seconds since 1970: its topics have LogAppendTime."""
    newest = 0
    async with AIOKafkaConsumer(bootstrap_servers=world.kafka) as consumer:
        partitions = world.partitions(TOLD_ON)
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            if end:
                consumer.seek(partition, end - 1)
                newest = max(newest, (await consumer.getone(partition)).timestamp)
    return newest / 1000


# ── what they did meanwhile ──────────────────────────────────────────────────────────────────────────────────────────


def usage_of(bench: Bench, allocators: Sequence[Service]) -> Usage:
    """As `Bench.usage`, all allocators as one."""
    found = dict(bench.usage(**{f"allocator {each.name}": each.process.pid for each in allocators}).seconds)
    own = sum(found.pop(name) for name in list(found) if name.startswith("allocator "))
    return Usage({"allocators": own, **found})


async def metrics_of(allocators: Iterable[Service]) -> "Counter[str]":
    """Every sample of the metrics, summed over the allocators."""
    total: Counter[str] = Counter()
    for each in allocators:
        text = await asyncio.to_thread(get_text, f"{await each.address()}/metrics")
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        total.update({name: float(value) for name, _, value in samples})
    return total


@asynccontextmanager
async def sampled(world: World) -> AsyncIterator[Waits]:
    """Looks at the sessions twenty times a second, which costs a hundredth of a core."""
    waits = Waits()
    connection = await asyncpg.connect(world.database_url)

    async def look() -> None:
        while True:
            rows = await connection.fetch(SESSIONS)
            waits.moments += 1
            waits.seen.update(doing(row["state"], row["wait_event_type"], row["query"]) for row in rows)
            await asyncio.sleep(SAMPLE_SECONDS)

    task = asyncio.create_task(look())
    try:
        yield waits
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


def doing(state: str, wait_event_type: str | None, query: str) -> str:
    """What a session in a transaction does, in words."""
    if wait_event_type == "Lock":
        return f"waits for a lock in {name_of(query)}"
    if state != "active" or wait_event_type == "Client":
        return "waits for Python"
    if query.startswith("COMMIT"):
        return "commits"
    return "executes"


def name_of(query: str) -> str:
    """The name of a statement of the allocator, from as much of its text as the server shows."""
    return statement_names().get(query[:200], "another statement")


@cache
def statement_names() -> Mapping[str, str]:
    folder = files("backorder_allocator").joinpath("sql")
    found = (each for each in folder.iterdir() if each.name.endswith(".sql"))
    return {each.read_text(encoding="utf-8")[:200]: each.name.removesuffix(".sql") for each in found}
