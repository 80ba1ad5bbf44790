"""Figure 5: what an order and a receipt cost does not grow with what waits already, nor with what is past."""

import random
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import time

from tests.bench.counting import last_told
from tests.bench.flat_databases import Case, Loaded, cases, load_all
from tests.bench.frame import Bench, Curve, Figure, Goal, Rounds, Table
from tests.bench.hot_statements import Plan, plans
from tests.bench.loaded import Counted, sku
from tests.e2e.messages import Message, order, receipt
from tests.e2e.processes import Service, eventually
from tests.e2e.world import LEFT_TO_DO, World

SHARE_OF_GOLD = 0.2
HEAD_START = timedelta(days=2)
WARM_UP = 500
LONGEST_SECONDS = 120
LEAST = 0.9
KINDS = ("orders", "receipts", "orders with head starts")
NOTES = (
    (
        "Lines and events are counted in the tables after loading. Each receipt names the supply that comes next, as"
        " receipts do; one that names none makes the planner look at its pool's whole queue (figure 7)."
    ),
    (
        "Plans are those of `EXPLAIN (ANALYZE, BUFFERS, WAL)` for a batch of 1,000, after the rounds, in a transaction"
        " that is rolled back. Rows: of all scans."
    ),
)


@dataclass(slots=True)
class Ready:
    """A case with its topics. `sent`: so many messages were, which gives the next one its name."""

    loaded: Loaded
    world: World
    sent: int = 0

    @property
    def case(self) -> Case:
        return self.loaded.case

    @property
    def counted(self) -> Counted:
        return self.loaded.counted


async def measure(bench: Bench) -> Figure:
    number = 2_000 if bench.quick else 10_000
    rounds = 1 if bench.quick else 3
    rates = {kind: Rounds() for kind in KINDS}
    async with AsyncExitStack() as stack:
        ready = [
            Ready(loaded, await stack.enter_async_context(bench.world(loaded.url)))
            for loaded in await load_all(bench, cases(bench.quick))
        ]
        for turn in range(rounds):
            for each in ready:
                for kind, rate in (await _round(each, number)).items():
                    rates[kind].add(each.case.name, rate)
                bench.say(f"  round {turn + 1}: {each.case.name}: " + _rates(rates, each.case.name))
        queued = [each for each in ready if each.case.load.lines]
        explained = {each.case.name: await plans(each.world.database, each.case.load) for each in queued}
    return _figure(ready, rates, explained, number, rounds)


async def _round(ready: Ready, number: int) -> dict[str, float]:
    """Messages per second by kind: each kind alone, all of it on the topic before the clock runs."""
    world = ready.world
    allocator = await world.allocator(
        ALLOCATOR_PLANNER_INTERVAL_SECONDS="0.5", ALLOCATOR_HEAD_STARTS=f'{{"gold": "P{HEAD_START.days}D"}}'
    )
    try:
        for messages in (_orders(ready, WARM_UP, SHARE_OF_GOLD), _receipts(ready, WARM_UP)):
            await world.publish(*messages)
            await _all_done(world, len(messages))
        return {
            "orders": await _rate(world, allocator, _orders(ready, number, 0)),
            "receipts": await _rate(world, allocator, _receipts(ready, number)),
            "orders with head starts": await _rate(world, allocator, _orders(ready, number, SHARE_OF_GOLD)),
        }
    finally:
        await allocator.end()


def _orders(ready: Ready, number: int, gold: float) -> list[Message]:
    """Of one line of one unit each, behind all that were placed before, but for those with a head start."""
    chance = random.Random(ready.sent)
    now = datetime.now(UTC)
    names = _names(ready, number)
    return [
        order(
            f"x-{name:08}",
            (sku(chance.randrange(ready.case.load.pools)), 1),
            placed_at=now + timedelta(microseconds=at),
            segment="gold" if chance.random() < gold else "standard",
        )
        for at, name in enumerate(names)
    ]


def _receipts(ready: Ready, number: int) -> list[Message]:
    """Of one unit each of the supply that comes next, so that each fills the first in line."""
    chance = random.Random(ready.sent - number)
    return [
        receipt(f"r-{name:08}", sku(chance.randrange(ready.case.load.pools)), 1, supply_id="S-1")
        for name in _names(ready, number)
    ]


def _names(ready: Ready, number: int) -> range:
    ready.sent += number
    return range(ready.sent - number, ready.sent)


async def _rate(world: World, allocator: Service, messages: Sequence[Message]) -> float:
    """Messages per second until the last event is published."""
    worked = await _worked(world)
    # Held, for less than its session lasts, so that publishing and working don't share the cores.
    allocator.signal(signal.SIGSTOP)
    await world.publish(*messages)
    started = time()
    allocator.signal(signal.SIGCONT)
    await _all_done(world, len(messages), worked)
    seconds = await last_told(world) - started
    await eventually(lambda: _nothing_left(world), "all to be planned", LONGEST_SECONDS, world.explain)
    return len(messages) / seconds


async def _all_done(world: World, more: int, before: int | None = None) -> None:
    """Waits until so many more messages are worked, and everything that is decided is published."""
    target = (await _worked(world) if before is None else before) + more

    async def done() -> bool:
        return await _worked(world) >= target and not await world.number(
            "SELECT h.seq - r.seq FROM log_head h, relay r"
        )

    await eventually(done, f"{more} messages to be told", LONGEST_SECONDS, world.explain)


async def _worked(world: World) -> int:
    return await world.number("SELECT sum(next_offset) FROM cursors")


async def _nothing_left(world: World) -> bool:
    return await world.number(LEFT_TO_DO) == 0


def _rates(rates: dict[str, Rounds], name: str) -> str:
    return ", ".join(f"{kind} {rounds.values[name][-1]:,.0f}/s" for kind, rounds in rates.items())


def _figure(
    ready: Sequence[Ready], rates: dict[str, Rounds], explained: dict[str, list[Plan]], number: int, rounds: int
) -> Figure:
    rows = []
    for each in ready:
        row = [each.case.name, f"{each.counted.lines_waiting:,}", f"{each.counted.events:,}"]
        for rounds_of_kind in rates.values():
            ratio = rounds_of_kind.ratio(each.case.name, each.case.empty)
            row += [f"{rounds_of_kind.median(each.case.name):,.0f}", f"{ratio:.2f}"]
        rows.append([*row, f"{each.counted.bytes_on_disk / 2**30:.1f}", f"{each.loaded.seconds:.0f}"])
    head = ["database", "lines that wait", "events", *(name for kind in KINDS for name in (f"{kind}/s", "ratio"))]
    loaded = [each for each in ready if each.case.name != each.case.empty]
    goals = []
    for kind, of_kind in rates.items():
        ratios = {each.case.name: of_kind.ratio(each.case.name, each.case.empty) for each in loaded}
        least = min(ratios, key=ratios.__getitem__)
        measured = f"{ratios[least]:.2f} ({least})"
        goals.append(Goal(f"{kind}/s, loaded to empty, the least", f"≥ {LEAST}", measured, ratios[least] >= LEAST))
    in_one = [each for each in ready if each.case.load.pools == 1]
    series = {
        kind: [(each.counted.lines_waiting, of.median(each.case.name)) for each in in_one] for kind, of in rates.items()
    }
    curve = Curve("f05_flat", "Per second, by lines that wait in one pool", "lines that wait", "per second", series)
    return Figure(
        5,
        "Flat cost",
        f"{number:,} orders of one line, then as many receipts of one unit, then as many orders of which"
        f" {SHARE_OF_GOLD:.0%} have a head start of {HEAD_START.days} days, on databases that differ in what they were"
        f" loaded with; {rounds} rounds, all databases in each. In the empty ones the pools and their supplies are"
        " there, too, and all orders wait and each receipt fills a line in all of them: only what was there before"
        " differs.",
        [Table([*head, "GB", "s to load"], rows), _explained(explained)],
        goals,
        [curve],
        NOTES,
    )


def _explained(explained: dict[str, list[Plan]]) -> Table:
    rows = [
        [
            plan.statement,
            name,
            plan.scans,
            f"{plan.rows:,}",
            f"{plan.buffers:,}",
            f"{plan.wal_kib:,.0f}",
            f"{plan.ms:.1f}",
        ]
        for at in range(len(next(iter(explained.values()))))
        for name, found in explained.items()
        for plan in [found[at]]
    ]
    return Table(["statement", "database", "scans", "rows", "buffers", "WAL KiB", "ms"], rows)
