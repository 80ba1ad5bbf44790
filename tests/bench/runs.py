"""One run of the allocator or a peer over a load: all orders are on the topic before the clock runs.

A process works a small load first, to be warm. Then it is held (SIGSTOP), for less than its session in the group lasts,
so that publishing and working don't share the cores; the clock runs from when it goes on to the last event that Kafka
took. A stream that takes too long to publish is there before the process starts; then its first batch begins the clock.
"""

import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import time

from tests.bench.contestants import LONGEST_SECONDS, add_pools, allocator, sampled_phases, started
from tests.bench.counting import TOLD, counts, last_told, published, statements, waiting, wal
from tests.bench.frame import Bench, Usage
from tests.bench.load import Load
from tests.bench.peers.common import Spec
from tests.e2e.processes import eventually
from tests.e2e.world import World

CLIENT = "client"
"""The name of the contestant's own process in its usage."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a run of the allocator left behind, which the limit writes again."""

    database_url: str
    prefix: str
    rows_before: tuple[tuple[str, int], ...]
    """Rows by table that grew in the run, and messages ("published"), before it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant over one load. `events` are those of TOLD."""

    orders: int
    lines: int
    waiting: int
    events: int
    seconds: float
    usage: Usage
    wal_bytes: int
    batches: int = 0
    statements: Counter[str] = field(default_factory=Counter)
    """The allocator's, how often by name."""
    waited: Counter[str] = field(default_factory=Counter)
    """µs until the answer of all statements of a name."""
    phases: dict[str, float] = field(default_factory=dict)
    """Shares of the contestant's CPU, where it was sampled."""
    made: Made | None = None

    @property
    def per_second(self) -> float:
        return self.orders / self.seconds

    @property
    def lines_per_second(self) -> float:
        return self.lines / self.seconds

    def micros(self, name: str) -> float:
        """CPU for one order, in µs."""
        return self.usage.seconds.get(name, 0.0) / self.orders * 1e6


@dataclass(frozen=True, slots=True)
class Before:
    """Counters when the orders that count begin."""

    wal: int
    waiting: int
    told: int
    usage: Usage
    at: float

    @classmethod
    async def now(cls, bench: Bench, world: World, pid: int) -> "Before":
        counted = await wal(world), await waiting(world), await published(world, TOLD)
        return cls(*counted, usage(bench, pid), time())


def usage(bench: Bench, pid: int) -> Usage:
    return bench.usage(**{CLIENT: pid})


async def allocate(bench: Bench, world: World, load: Load, warm: Load | None, *, samples: Path | None = None) -> Run:
    """The allocator over a load. Without `warm` the load is there before it starts."""
    service = await allocator(world, samples)
    await world.tell(*load.stock, *(warm.stock if warm else ()))
    called = Counter[str](), Counter[str]()
    if warm:
        await world.tell(*warm.orders)
        called = await statements(service)
        service.signal(signal.SIGSTOP)
    else:
        await service.end()
    rows = await counts(world)
    await world.publish(*load.orders)
    if not warm:
        service = await allocator(world, samples, ready=False)
    pid = service.process.pid
    before = await Before.now(bench, world, pid)
    if samples:
        service.signal(signal.SIGUSR1)
    if warm:
        service.signal(signal.SIGCONT)
    wanted = len(load.orders) + (len(warm.orders) if warm else 0)

    async def done() -> bool:
        worked = await world.number("SELECT sum(next_offset) FROM cursors WHERE topic = 'orders'")
        return worked >= wanted and await world.number("SELECT h.seq - r.seq FROM log_head h, relay r") == 0

    await eventually(done, "all orders to be told", LONGEST_SECONDS, world.explain)
    used = usage(bench, pid) - before.usage
    grown = await wal(world) - before.wal
    shares = await sampled_phases(pid, samples)
    called_now = await statements(service)
    await service.end()
    batches = "SELECT {} FROM journal WHERE kind = 'batch' AND at >= to_timestamp($1)"
    begin = before.at
    if not warm:
        first = batches.format("extract(epoch FROM min(at))")
        begin = float(await world.database.fetchval(first, before.at))
    now = await counts(world)
    return Run(
        orders=len(load.ids),
        lines=load.lines,
        waiting=await waiting(world) - before.waiting,
        events=await published(world, TOLD) - before.told,
        seconds=await last_told(world) - begin,
        usage=used,
        wal_bytes=grown,
        batches=await world.number(batches.format("count(*)"), before.at),
        statements=called_now[0] - called[0],
        waited=called_now[1] - called[1],
        phases=shares,
        made=Made(
            world.database_url, world.prefix, tuple((name, rows[name]) for name in rows if now[name] > rows[name])
        ),
    )


async def compete(
    bench: Bench,
    world: World,
    name: str,
    load: Load,
    warm: Load | None,
    *,
    made: Made | None = None,
    samples: Path | None = None,
    workers: int = 1,
) -> Run:
    """A peer over a load: "naive", "careful", or "limit", which needs what an allocator `made` of the same loads."""
    if made is None:
        await add_pools(world, load, warm)
    spec = Spec(
        kafka=world.kafka,
        topic=f"{world.prefix}orders",
        prefix=world.prefix,
        database_url=world.database_url,
        warm=len(warm.orders) if warm else 0,
        orders=len(load.orders),
        workers=workers,
        rows_url=made.database_url if made else "",
        rows_prefix=made.prefix if made else "",
        rows_before=made.rows_before if made else (),
    )
    if not warm:
        await world.publish(*load.orders)
    async with started(world, name, spec, samples) as peer:
        await peer.says("ready")
        if warm:
            await world.publish(*warm.orders)
            await peer.says("warm")
            peer.process.send_signal(signal.SIGSTOP)
            await world.publish(*load.orders)
            before = await Before.now(bench, world, peer.process.pid)
            if samples:
                peer.process.send_signal(signal.SIGUSR1)
            peer.process.send_signal(signal.SIGCONT)
        else:
            before = await Before.now(bench, world, peer.process.pid)
            peer.tell_to_begin()
        await peer.says("done")
        used = usage(bench, peer.process.pid) - before.usage
        grown = await wal(world) - before.wal
        shares = await sampled_phases(peer.process.pid, samples)
    return Run(
        orders=len(load.ids),
        lines=load.lines,
        waiting=await waiting(world) - before.waiting,
        events=await published(world, TOLD) - before.told,
        seconds=await last_told(world) - before.at,
        usage=used,
        wal_bytes=grown,
        phases=shares,
    )
