"""What the processes of all peers share: what they are told, what they say, and how they connect."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg
from aiokafka import AIOKafkaProducer

from tests.bench.peers import sampling

POOL = {"min_size": 2, "max_size": 4}
"""As many connections as the allocator has."""
SESSION = {"jit": "off", "timezone": "UTC", "enable_seqscan": "off"}


@dataclass(frozen=True, slots=True)
class Spec:
    """`warm` orders come first and don't count; after `orders` more the process says that it is done."""

    kafka: str
    topic: str
    """Of the orders, with prefix."""
    prefix: str
    """Of the topics that events are published to, and of the group."""
    database_url: str
    warm: int
    orders: int
    workers: int = 1
    """Of the naive peer: this many of its consumers share the partitions, each one message at a time."""
    rows_url: str = ""
    """Of the limit: the database of the allocator that worked the same orders."""
    rows_prefix: str = ""
    """Of the limit: the topics that the allocator published to."""
    rows_before: tuple[tuple[str, int], ...] = ()
    """Of the limit: rows by table, and messages ("published"), that were there when the orders began that count."""


def told() -> Spec:
    fields = json.loads(sys.argv[1])
    fields["rows_before"] = tuple((name, count) for name, count in fields.get("rows_before", ()))
    return Spec(**fields)


class Progress:
    """Counts the orders whose events are published, and tells whoever started the process."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.done = 0
        self.ended = asyncio.Event()

    def add(self, orders: int) -> None:
        before, self.done = self.done, self.done + orders
        if before < self.spec.warm <= self.done:
            print("warm", flush=True)
        if self.done >= self.spec.warm + self.spec.orders:
            print("done", flush=True)
            self.ended.set()


def say_ready() -> None:
    print("ready", flush=True)


async def told_to_begin() -> None:
    """Where nothing warms up."""
    await asyncio.to_thread(sys.stdin.readline)


async def producer(spec: Spec) -> AIOKafkaProducer:
    """Like the allocator's."""
    made = AIOKafkaProducer(
        bootstrap_servers=spec.kafka,
        acks="all",
        enable_idempotence=True,
        max_batch_size=256 * 1024,
        max_request_size=2 * 1024 * 1024,
    )
    await made.start()
    return made


async def connect(spec: Spec) -> asyncpg.Connection:
    made: asyncpg.Connection = await asyncpg.connect(spec.database_url, server_settings=SESSION)
    return made


async def pool(spec: Spec) -> asyncpg.Pool:
    made: asyncpg.Pool = await asyncpg.create_pool(
        spec.database_url, min_size=POOL["min_size"], max_size=POOL["max_size"], server_settings=SESSION
    )
    return made


def main(run: Callable[[Spec], Awaitable[None]]) -> None:
    """Runs a peer until its input ends, after which nobody measures it any more."""
    sampling.begin()

    async def until_told() -> None:
        await run(told())
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(until_told())


def share(rows: Sequence[object], at: int, of: int) -> int:
    """How many of `rows` belong to the first `at` of `of` things."""
    return len(rows) * at // of
