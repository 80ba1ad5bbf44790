"""Orders per second of one allocator, beside a naive and a careful peer and the limit of the machine."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from aiokafka import AIOKafkaProducer

from tests.bench import load
from tests.bench.frame import Bench, Figure, Goal, Rounds, Table
from tests.bench.runs import CLIENT, Run, allocate, compete

Runs = dict[str, list[Run]]
"""By contestant."""

ALLOCATOR = "allocator"
HOW = (
    "One process of each, over orders of 1.75 lines of 2,000 SKUs, {waiting:.0%} of the lines wait. All orders are on"
    " the topic before the clock runs, which it does from when the process goes on to the last event that Kafka took;"
    " {rounds}. *naive*: a message is a transaction, events are sent one by one, then the ack; also with a consumer for"
    " each of the 6 partitions, one message each at a time. *careful*: batches of 100, row-wise SQL, events sent"
    " together. All of these write stock, orders, lines and events, and nothing else."
    " *limit*: the bytes consumed, the rows that the allocator wrote for the same orders by COPY, its events published."
)
PARALLEL = "naive, 6 at a time"
SIZES = {ALLOCATOR: 40_000, "careful": 4_000, "naive": 600, PARALLEL: 1_200}
QUICK_SIZES = {ALLOCATOR: 10_000, "careful": 800, "naive": 200}


async def measure(bench: Bench) -> Figure:
    sizes = QUICK_SIZES if bench.quick else SIZES
    rounds = 1 if bench.quick else 3
    runs: Runs = {}
    rates = Rounds()
    for number in range(rounds):
        for name, run in (await a_round(bench, number, sizes, sampled=bench.quick)).items():
            runs.setdefault(name, []).append(run)
            rates.add(name, run.per_second)
        bench.say(
            f"round {number + 1}: " + ", ".join(f"{name} {each[-1].per_second:,.0f}/s" for name, each in runs.items())
        )
    if bench.quick:
        sampled = {name: each[-1] for name, each in runs.items()}
    else:
        sampled = await a_round(
            bench, rounds, {name: size // 3 for name, size in sizes.items() if name != PARALLEL}, sampled=True
        )
    ours = runs[ALLOCATOR]
    return Figure(
        number=1,
        title="Orders per second",
        how=HOW.format(waiting=load.WAITING, rounds=f"{rounds} rounds" if rounds > 1 else "one round"),
        tables=[contestants(runs, rates), budget(sampled, runs), statements(ours)],
        goals=goals(rates),
        notes=[*notes(runs), await walls(bench)],
    )


async def a_round(bench: Bench, number: int, sizes: Mapping[str, int], *, sampled: bool) -> dict[str, Run]:
    """Every contestant once; peers have fewer orders where they are slow, of the same kind."""

    def samples(name: str) -> Path | None:
        return bench.folder / f"samples-{number}-{name}" if sampled else None

    found: dict[str, Run] = {}
    orders = load.purchases(sizes[ALLOCATOR], seed=number)
    warm = load.purchases(sizes[ALLOCATOR] // 10, seed=100 + number, prefix="w")
    async with bench.world() as world:
        ours = await allocate(bench, world, orders, warm, samples=samples(ALLOCATOR))
        found[ALLOCATOR] = ours
        async with bench.world() as beside:
            limit = await compete(bench, beside, "limit", orders, warm, made=ours.made, samples=samples("limit"))
            found["limit"] = limit
    # A warm-up's line that the planner moved meanwhile lies among the newest rows, so that a few others are written.
    assert limit.events == ours.events, f"the limit published {limit.events:,} events, not {ours.events:,}"
    assert abs(limit.waiting - ours.waiting) <= ours.waiting / 100, (limit.waiting, ours.waiting)
    for name in list(sizes)[1:]:
        orders = load.purchases(sizes[name], seed=number)
        warm = load.purchases(sizes[name] // 5, seed=100 + number, prefix="w")
        async with bench.world() as world:
            peer, workers = ("naive", 6) if name == PARALLEL else (name, 1)
            found[name] = await compete(bench, world, peer, orders, warm, samples=samples(name), workers=workers)
    return found


def goals(rates: Rounds) -> list[Goal]:
    rate = rates.median(ALLOCATOR)
    naive, careful, limit = (rates.ratio(ALLOCATOR, name) for name in ("naive", "careful", "limit"))
    return [
        Goal("orders/s end to end", "≥ 12,000", f"{rate:,.0f}", rate >= 12_000),
        Goal("… × naive", "≥ 60", f"{naive:.0f}", naive >= 60),
        Goal("… × careful", "≥ 5", f"{careful:.1f}", careful >= 5),
        Goal("… of the limit", "≥ 60 %", f"{limit:.0%}", limit >= 0.6),
    ]


def contestants(runs: Runs, rates: Rounds) -> Table:
    rows = []
    for name, each in runs.items():
        one = each[-1]
        rows.append(
            (
                name,
                rates.spread(name),
                f"{one.orders:,}",
                "" if name == ALLOCATOR else f"{rates.ratio(ALLOCATOR, name):.2f}",
                f"{one.waiting / one.lines:.1%}",
                f"{one.events / one.orders:.2f}",
                *(f"{median(run.micros(part) for run in each):,.0f}" for part in (CLIENT, "postgres", "kafka")),
                f"{median(cores(run) for run in each):.2f}",
                f"{median(run.wal_bytes / run.orders for run in each):,.0f}",
            )
        )
    head = ("", "orders/s", "orders a round", "allocator ×", "lines that wait", "events an order")
    return Table((*head, "own CPU µs an order", "PostgreSQL", "Kafka", "cores busy", "WAL bytes an order"), rows)


def cores(run: Run) -> float:
    """How many cores the contestant and both servers used together."""
    return sum(run.usage.seconds.values()) / run.seconds


def budget(sampled: Mapping[str, Run], runs: Runs) -> Table:
    """Each contestant's own CPU by what it went to."""
    names = list(sampled)
    phases = list(dict.fromkeys(phase for name in names for phase in sampled[name].phases))
    rows = []
    for phase in phases:
        micros = [
            sampled[name].phases.get(phase, 0) * median(run.micros(CLIENT) for run in runs[name]) for name in names
        ]
        rows.append((phase, *(f"{each:,.1f}" if each else "" for each in micros)))
    return Table(("own CPU, µs an order", *names), rows)


def statements(runs: Sequence[Run]) -> Table:
    """The allocator's, those that take longest first."""
    run = runs[-1]
    rows = [
        (
            name,
            f"{run.statements[name] / run.batches:.2f}",
            f"{micros / run.batches / 1000:.2f}",
            f"{micros / run.orders:.1f}",
        )
        for name, micros in run.waited.most_common(14)
        if micros
    ]
    calls = sum(run.statements.values()) / run.batches
    rows.append(("all, with planner and relay", f"{calls:.1f}", "", f"{sum(run.waited.values()) / run.orders:.1f}"))
    return Table(("statement", "a batch", "ms a batch until the answer", "µs an order until the answer"), rows)


def notes(runs: Runs) -> list[str]:
    ours, limit = runs[ALLOCATOR], runs["limit"]
    size = median(run.orders / run.batches for run in ours)
    there = os.cpu_count() or 1

    def of_a_core(run: Run, part: str) -> float:
        return run.usage.seconds[part] / run.seconds

    def busy(of: Sequence[Run]) -> str:
        parts = ((name, median(of_a_core(run, name) for run in of)) for name in of[0].usage.seconds)
        return ", ".join(f"{'own process' if name == CLIENT else name} {share:.2f}" for name, share in parts)

    return [
        (
            f"The allocator's batches held {size:,.0f} orders. Of {there} cores it kept busy: {busy(ours)};"
            f" the limit: {busy(limit)}."
        ),
        (
            "The limit writes each row once, as it is in the end, and leaves out what is no new row: the counters of"
            " pools, the head of the log, the relay's position. Its rows and messages lie ready in memory."
        ),
        (
            "CPU by phase is from stacks that a timer counts in a round of its own. What compiled parts of asyncpg and"
            " aiokafka take counts where they are called; what sockets bring, as event loop."
        ),
    ]


async def walls(bench: Bench) -> str:
    """What nobody who waits for one thing at a time gets around."""
    commits, sends = [], []
    producer = AIOKafkaProducer(bootstrap_servers=bench.kafka, acks="all", enable_idempotence=True)
    async with bench.world() as world, producer:
        for number in range(100):
            began = perf_counter()
            await world.database.execute("INSERT INTO cursors VALUES ('nothing', $1, 0)", number)
            commits.append(perf_counter() - began)
            began = perf_counter()
            await producer.send_and_wait(f"{world.prefix}allocations", b"x" * 400, key=b"key")
            sends.append(perf_counter() - began)
    return (
        f"A durable commit of one row takes {median(commits) * 1000:.1f} ms here and an awaited send"
        f" {median(sends) * 1000:.1f} ms: whoever works one message at a time waits for both, and for the ack."
    )
