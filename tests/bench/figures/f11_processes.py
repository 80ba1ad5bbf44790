"""Figure 11: 2 and 4 allocator processes against 1, where orders want many SKUs, and where all want one."""

import asyncio
from collections.abc import Mapping
from statistics import median

from tests.bench import load
from tests.bench.draining import PLANNER_INTERVAL, Drained, drain
from tests.bench.frame import Bench, Figure, Goal, Rounds, Table
from tests.e2e.processes import Service, eventually
from tests.e2e.world import World

COUNTS = (1, 2, 4)
LOADS = {"uniform": False, "hot": True}
QUICK, WHOLE = (6_000, 1), (40_000, 3)
"""Orders a measurement, rounds."""
NOISE = 0.03

Key = tuple[str, int]
"""(load, processes)."""


async def measure(bench: Bench) -> Figure:
    orders, rounds = QUICK if bench.quick else WHOLE
    found: dict[Key, list[Drained]] = {}
    for number in range(rounds):
        # Every other round begins with the most: what a database that fills costs falls on none of them alone.
        counts = COUNTS if number % 2 == 0 else COUNTS[::-1]
        async with bench.world() as world:
            await measure_round(bench, world, counts, orders, seed=number, found=found)
    speeds = Rounds({name_of(key): [each.per_second for each in drained] for key, drained in found.items()})
    ratios = {key: speeds.ratio(name_of(key), to=name_of((key[0], 1))) for key in found if key[1] > 1}
    return Figure(
        11,
        "2 and 4 allocator processes",
        f"{orders:,} orders a measurement, on the topic before the clock runs; all processes are of one group and share"
        f" the partitions. Uniform: over {load.SKUS:,} SKUs. Hot: every order wants the same one, beside others."
        f" {rounds} round(s) in which the numbers of processes take turns on one database.",
        [speed_table(found, speeds, ratios), time_table(found), lock_table(found)],
        [
            Goal(
                "2 and 4 processes, uniform and hot",
                f"never below 1 process (noise: {NOISE:.0%})",
                ", ".join(f"{name_of(key)}: {ratio:.2f}" for key, ratio in ratios.items()),
                min(ratios.values()) >= 1 - NOISE,
            )
        ],
        notes=[
            "Sessions are those that work batches, looked at twenty times a second; a process has one.",
            "Any two large batches share pools: from the first lock to the COMMIT one waits for the other.",
        ],
    )


async def measure_round(
    bench: Bench, world: World, counts: tuple[int, ...], orders: int, seed: int, found: dict[Key, list[Drained]]
) -> None:
    running: list[Service] = []
    for count in counts:
        while len(running) > count:
            await running.pop().end()
        more = [
            world.allocator(ALLOCATOR_PLANNER_INTERVAL_SECONDS=PLANNER_INTERVAL) for _ in range(count - len(running))
        ]
        running += await asyncio.gather(*more)
        await shared_among(world, count)
        for name, hot in LOADS.items():
            purchases = load.purchases(orders, seed, hot=hot, prefix=f"{name}{count}")
            warm_up = len(purchases.orders) // 10
            await world.tell(*purchases.stock)
            await world.tell(*purchases.orders[:warm_up])
            drained = await drain(bench, world, running, purchases.orders[warm_up:])
            bench.say(f"  {name_of((name, count))}: {drained.per_second:,.0f} orders/s")
            found.setdefault((name, count), []).append(drained)
    await asyncio.gather(*(each.end() for each in running))


async def shared_among(world: World, count: int) -> None:
    """Waits until the group has so many members, and has given each its partitions."""

    async def is_so() -> bool:
        described = await world.admin.describe_consumer_groups([f"{world.prefix}allocator"])
        return all(
            state == "Stable" and len(members) == count
            for each in described
            for _, _, state, _, _, members, *_ in each.groups
        )

    await eventually(is_so, f"{count} members to share the partitions", explain=world.explain)


def name_of(key: Key) -> str:
    return f"{key[0]}, {key[1]}"


def speed_table(found: Mapping[Key, list[Drained]], speeds: Rounds, ratios: Mapping[Key, float]) -> Table:
    head = (
        "load",
        "processes",
        "orders/s",
        "against 1",
        "orders a batch",
        "started over",
        "CPU an order",
        "cores busy",
    )
    rows = []
    for key, drained in found.items():
        orders = orders_of(drained)
        usage = {name: sum(each.usage.seconds[name] for each in drained) for name in drained[0].usage.seconds}
        seconds = sum(each.seconds for each in drained)
        batches = total(drained, "allocator_batch_seconds_count")
        restarts = sum(value for each in drained for name, value in each.metrics.items() if "_restarts_total{" in name)
        rows.append(
            (
                key[0],
                str(key[1]),
                speeds.spread(name_of(key)),
                f"{ratios[key]:.2f}" if key in ratios else "",
                f"{orders / batches:,.0f}",
                f"{restarts:.0f} of {batches:,.0f}",
                ", ".join(f"{name} {used / orders * 1e6:,.0f}" for name, used in usage.items()) + " µs",
                f"{sum(usage.values()) / seconds:.2f}",
            )
        )
    return Table(head, rows)


def time_table(found: Mapping[Key, list[Drained]]) -> Table:
    """What the sessions did."""
    kinds = sorted({what for drained in found.values() for each in drained for what in each.waits.seen})
    rows = [
        (what, *(f"{median(each.waits.average(what) for each in drained):.2f}" for drained in found.values()))
        for what in kinds
    ]
    return Table(("sessions that, at a moment, …", *map(name_of, found)), rows)


def lock_table(found: Mapping[Key, list[Drained]]) -> Table:
    """How long batches took, and the statements in them that may wait for another process."""
    locks = {name for drained in found.values() for name in drained[0].statements() if name.startswith("lock_")}
    metrics = {
        "all of it, from the first lock to COMMIT": "allocator_batch_seconds_sum",
        **{name: f'allocator_statement_seconds_sum{{statement="{name}"}}' for name in sorted(locks)},
        "append_journal (the log's head)": 'allocator_statement_seconds_sum{statement="append_journal"}',
    }
    rows = [
        (name, *(f"{total(drained, metric) / orders_of(drained) * 1e6:,.1f}" for drained in found.values()))
        for name, metric in metrics.items()
    ]
    return Table(("of a batch, µs an order, waits included", *map(name_of, found)), rows)


def orders_of(drained: list[Drained]) -> int:
    return sum(each.orders for each in drained)


def total(drained: list[Drained], metric: str) -> float:
    return sum(each.metrics.get(metric, 0.0) for each in drained)
