"""An allocator that has stood still while orders came, and works them: as far behind as 1,000,000 messages.

Measured once a run, for two figures: how fast it catches up, and how much memory it takes meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import time

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from backorder_schemas import TOPICS
from tests.bench import load
from tests.bench.draining import (
    LONGEST_SECONDS,
    PLANNER_INTERVAL,
    UNPUBLISHED,
    Drained,
    Stamps,
    drain,
    first_begun,
    publish,
    usage_of,
)
from tests.bench.frame import Bench, Usage, resident_mib
from tests.e2e.messages import Message
from tests.e2e.processes import Service, eventually
from tests.e2e.world import World

QUICK, WHOLE = (60_000, 15_000), (1_000_000, 40_000)
"""Orders behind; orders of one round as in figure 1."""
LIVE_PER_SECOND = 100
"""The orders that came meanwhile, and still come."""
LIVE_EVERY_SECONDS = 0.1
SAMPLE_SECONDS = 0.25
QUIET_SECONDS = 5.0
"""How long it is watched after it has caught up."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of catching up. `at`: seconds since the process was started."""

    at: float
    orders: int
    """Worked until now."""
    lag_seconds: float
    """The age of the oldest order that is not worked."""
    unpublished: int
    resident_mib: float


@dataclass(frozen=True, slots=True)
class CatchingUp:
    """`seconds`: from the first batch begun until all that was behind is worked and published."""

    behind: int
    orders: int
    """Worked in that time, with those that came meanwhile."""
    seconds: float
    started_after: float
    """From the start of the process to its first batch, in seconds."""
    samples: Sequence[Sample]
    usage: Usage
    counted: "Counted"
    references: Sequence[Drained]
    """An allocator as in figure 1, on empty databases, before and after."""

    @property
    def per_second(self) -> float:
        return self.orders / self.seconds


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows that are there at the end, counted in the tables."""

    orders: int
    lines: int
    lines_waiting: int
    events: int


_measured: dict[Path, CatchingUp] = {}


async def catching_up(bench: Bench) -> CatchingUp:
    """Measured for the first who asks."""
    if bench.folder not in _measured:
        _measured[bench.folder] = await measure(bench)
    return _measured[bench.folder]


async def measure(bench: Bench) -> CatchingUp:
    behind, usual = QUICK if bench.quick else WHOLE
    references = [await as_in_figure_1(bench, usual, seed) for seed in range(1 if bench.quick else 2)]
    async with bench.world() as world:
        found = await catch_up(bench, world, behind)
    references.append(await as_in_figure_1(bench, usual, seed=2))
    return replace(found, references=references)


async def as_in_figure_1(bench: Bench, orders: int, seed: int) -> Drained:
    async with bench.world() as world:
        purchases = load.purchases(orders, seed)
        allocator = await world.allocator(ALLOCATOR_PLANNER_INTERVAL_SECONDS=PLANNER_INTERVAL)
        warm_up = orders // 10
        await world.tell(*purchases.stock)
        await world.tell(*purchases.orders[:warm_up])
        return await drain(bench, world, [allocator], purchases.orders[warm_up:])


async def catch_up(bench: Bench, world: World, behind: int) -> CatchingUp:
    stamps, coming = await fall_behind(world, behind)
    ends = {partition: len(of) for partition, of in stamps.items()}
    usage, started = bench.usage(), time()
    allocator = await world.allocator(ready=False, ALLOCATOR_PLANNER_INTERVAL_SECONDS=PLANNER_INTERVAL)
    samples: list[Sample] = []
    caught: tuple[float, int, Usage] | None = None
    async with coming_in(world, coming, stamps):
        while caught is None or time() < caught[0] + QUIET_SECONDS:
            await asyncio.sleep(SAMPLE_SECONDS)
            at = await world.cursors()
            cursors = {partition: at.get(("orders", partition), 0) for partition in stamps}
            samples.append(await sample(world, allocator, cursors, stamps, started))
            if caught is None and all(cursors[partition] >= end for partition, end in ends.items()):
                await told_until_now(world)
                caught = time(), sum(cursors.values()), usage_of(bench, [allocator])
            assert time() < started + LONGEST_SECONDS, world.explain()
    first = await first_begun(world, started)
    await allocator.end()
    ended, orders, used = caught
    return CatchingUp(
        behind, orders, ended - first, first - started, samples, used - usage, await counted(world), references=()
    )


async def fall_behind(world: World, behind: int) -> tuple[Stamps, Sequence[Message]]:
    """Orders on the topic as if they had come at a steady rate while no allocator ran; and those that will come."""
    coming = load.purchases(round(LIVE_PER_SECOND * LONGEST_SECONDS), seed=1, prefix="coming")
    allocator = await world.allocator(ALLOCATOR_PLANNER_INTERVAL_SECONDS=PLANNER_INTERVAL)
    await world.tell(*load.opening(load.bought(behind, seed=0), "o"), *coming.stock)
    await allocator.end()
    await take_timestamps_from_senders(world, "orders")
    first = time() - behind / LIVE_PER_SECOND
    stamps = await publish(world, load.placed(behind, seed=0), lambda number: first + number / LIVE_PER_SECOND)
    return stamps, coming.orders


async def take_timestamps_from_senders(world: World, topic: str) -> None:
    """So that what is published now can be as old as it would be."""
    config = TOPICS[topic].kafka_config() | {"message.timestamp.type": "CreateTime"}
    await world.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, world.prefix + topic, config)])


@asynccontextmanager
async def coming_in(world: World, orders: Sequence[Message], stamps: Stamps) -> AsyncIterator[None]:
    """Publishes orders at their rate meanwhile, and adds their timestamps to those of the topic."""

    async def come() -> None:
        begun, at_once = time(), round(LIVE_PER_SECOND * LIVE_EVERY_SECONDS)
        for start in range(0, len(orders), at_once):
            await asyncio.sleep(begun + start / LIVE_PER_SECOND - time())
            now = time()
            new = await publish(world, orders[start : start + at_once], partial(same, now))
            for partition, of in new.items():
                stamps[partition].extend(of)

    task = asyncio.create_task(come())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def same(value: float, _number: int) -> float:
    return value


async def sample(
    world: World, allocator: Service, cursors: Mapping[int, int], stamps: Stamps, started: float
) -> Sample:
    now = time()
    oldest = [of[at] for partition, of in stamps.items() if (at := cursors[partition]) < len(of)]
    return Sample(
        now - started,
        sum(cursors.values()),
        now - min(oldest, default=now),
        await world.number(UNPUBLISHED),
        resident_mib(allocator.process.pid),
    )


async def told_until_now(world: World) -> None:
    """Waits until all that is committed by now is published, whatever comes meanwhile."""
    head = await world.number("SELECT seq FROM log_head")

    async def told() -> bool:
        return await world.number("SELECT seq FROM relay") >= head

    await eventually(told, "all to be published", LONGEST_SECONDS, world.explain)


async def counted(world: World) -> Counted:
    return Counted(
        await world.number("SELECT count(*) FROM orders"),
        await world.number("SELECT count(*) FROM lines"),
        await world.number("SELECT count(*) FROM lines WHERE quantity_waiting > 0"),
        await world.number("SELECT count(*) FROM events"),
    )
