"""Orders per second of one allocator, from the first order consumed to the last event published.

`python -m tests.bench.throughput`: a stack of its own with a durable PostgreSQL, a fresh database and fresh topics each
round, the median of three. All orders are on the topic before the clock runs: the allocator is held meanwhile.
"""

import argparse
import asyncio
import os
import platform
import random
import secrets
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import time

import asyncpg
import psutil  # type: ignore[import-untyped]
from aiokafka import AIOKafkaConsumer

from backorder_local import finder
from backorder_local.place import place
from tests.conftest import Databases
from tests.e2e.conftest import migrated_database
from tests.e2e.messages import Message, OrderLine, order, receipt
from tests.e2e.processes import eventually
from tests.e2e.world import World, made_world

SKUS = 2000
SHARE_IN_STOCK = 0.955
"""Some 7 % of the lines wait for at least one unit."""
LINES_PER_ORDER = [1, 1, 2, 3]
"""1.75 on average."""
LONGEST_ROUND_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured. `seconds`: first consumed to last published; `cpu_seconds`: of the allocator alone."""

    orders: int
    lines: int
    lines_waiting: int
    events: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.orders / self.seconds

    @property
    def per_core_second(self) -> float:
        return self.orders / self.cpu_seconds

    def __str__(self) -> str:
        return (
            f"{self.per_second:,.0f} orders/s ({self.orders:,} orders, {self.lines:,} lines, "
            f"{self.lines_waiting / self.lines:.1%} of them wait, {self.events:,} events, {self.seconds:.2f} s); "
            f"{self.per_core_second:,.0f} per second of the allocator's CPU"
        )


def purchases(number: int, seed: int) -> tuple[list[Message], list[Message], int]:
    """Receipts for most of the units of each SKU, the orders, and the number of their lines."""
    chance = random.Random(seed)
    wanted: Counter[str] = Counter()
    orders, lines_in_all = [], 0
    for each in range(number):
        lines = [
            OrderLine(f"SKU-{sku}", chance.choice([1, 1, 2, 4]))
            for sku in chance.choices(range(SKUS), k=chance.choice(LINES_PER_ORDER))
        ]
        for line in lines:
            wanted[line.sku] += line.quantity
        lines_in_all += len(lines)
        orders.append(order(f"o-{each}", *lines, email=f"customer-{each}@example.org"))
    receipts = [receipt("opening", sku, max(1, round(units * SHARE_IN_STOCK))) for sku, units in wanted.items()]
    return receipts, orders, lines_in_all


async def measure(world: World, number: int, seed: int) -> Round:
    receipts, orders, lines = purchases(number, seed)
    allocator = await world.allocator()
    await world.tell(*receipts)
    # Held, for less than its session lasts, so that publishing and working don't share the cores.
    allocator.signal(signal.SIGSTOP)
    await world.publish(*orders)
    process = psutil.Process(allocator.process.pid)
    cpu_before, started = cpu_seconds(process), time()
    allocator.signal(signal.SIGCONT)

    async def done() -> bool:
        unpublished = "SELECT h.seq - r.seq FROM log_head h, relay r"
        placed = await world.number("SELECT sum(next_offset) FROM cursors WHERE topic = 'orders'")
        return placed >= number and await world.number(unpublished) == 0

    await eventually(done, "all orders to be told", LONGEST_ROUND_SECONDS, world.explain)
    cpu = cpu_seconds(process) - cpu_before
    first = await world.database.fetchval(
        "SELECT extract(epoch FROM min(at)) FROM journal WHERE at > to_timestamp($1)", started
    )
    last = await last_published(world)
    await allocator.end()
    return Round(
        orders=number,
        lines=lines,
        lines_waiting=await world.number("SELECT count(*) FROM lines WHERE quantity_waiting > 0"),
        events=await world.number("SELECT seq FROM log_head"),
        seconds=last - float(first),
        cpu_seconds=cpu,
    )


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def last_published(world: World) -> float:
    """When Kafka took the last event, in seconds since 1970: the topics have LogAppendTime."""
    consumer = AIOKafkaConsumer(bootstrap_servers=world.kafka)
    newest = 0
    async with consumer:
        partitions = world.partitions(["allocations", "backorders"])
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            if end:
                consumer.seek(partition, end - 1)
                newest = max(newest, (await consumer.getone(partition)).timestamp)
    return newest / 1000


async def run(kafka: str, databases: Databases, orders: int, rounds: int) -> list[Round]:
    template = migrated_database(databases, "allocator")
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            url = databases.create_database(template)
            async with made_world(kafka, f"bench{secrets.token_hex(4)}.", url, Path(folder)) as world:
                measured.append(await measure(world, orders, seed=number))
            print(f"round {number + 1}: {measured[-1]}", flush=True)
    return measured


async def about(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        server, fsync, commit = [
            await connection.fetchval(f"SHOW {name}") for name in ("server_version", "fsync", "synchronous_commit")
        ]
    finally:
        await connection.close()
    packages = ", ".join(f"{name} {version(name)}" for name in ("faststream", "aiokafka", "asyncpg", "pydantic"))
    return (
        f"{cpu_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start, {platform.system()}; "
        f"Python {platform.python_version()}, {packages}; "
        f"PostgreSQL {server} (fsync {fsync}, synchronous_commit {commit}), Kafka with acks=all on one broker. "
        "Clients and servers share the cores."
    )


def cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    wish = finder.Wish(finder.wanted_way(os.environ.get(finder.WAY_VARIABLE)), durable=True)

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    with place(None) as here, finder.kafka(here, wish, say) as kafka, finder.postgres(here, wish, say) as postgres:
        kafka.wait()
        postgres.wait()
        databases = Databases(postgres.address)
        try:
            print(asyncio.run(about(postgres.address)), flush=True)
            measured = asyncio.run(run(kafka.address, databases, arguments.orders, arguments.rounds))
        finally:
            databases.drop_all()
    print(
        f"median: {median(each.per_second for each in measured):,.0f} orders/s, "
        f"{median(each.per_core_second for each in measured):,.0f} per second of the allocator's CPU"
    )


if __name__ == "__main__":
    main()
