"""The databases of figure 5: empty ones, and those with many waiting lines or a long log."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import asyncpg

from backorder_allocator.connections import SERVICE
from tests.bench.frame import Bench
from tests.bench.loaded import Counted, Load, counted, fill

MANY_POOLS = 10_000
CORES = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One database; `empty` names the one that it is compared with."""

    name: str
    load: Load
    empty: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The database of a case, what was counted in it, and how long it took to make."""

    case: Case
    url: str
    counted: Counted
    seconds: float


def cases(quick: bool) -> list[Case]:
    one, many = "one pool, empty", f"{MANY_POOLS:,} pools, empty"
    sizes = (100_000,) if quick else (100_000, 1_000_000)
    in_one = [Case(f"one pool, {n:,} lines", Load(n, units_to_come=max(100_000, n // 4)), one) for n in sizes]
    in_many = [Case(f"{MANY_POOLS:,} pools, {n:,} lines", Load(n, MANY_POOLS), many) for n in sizes]
    past = [] if quick else [Case("10,000,000 past events", Load(pools=MANY_POOLS, past_events=10_000_000), many)]
    return [Case(one, Load(), one), *in_one, Case(many, Load(pools=MANY_POOLS), many), *in_many, *past]


async def load_all(bench: Bench, wanted: Sequence[Case]) -> list[Loaded]:
    """All databases, two at a time, the largest first: nothing is measured yet."""
    core = asyncio.Semaphore(CORES)

    async def load(case: Case) -> Loaded:
        async with core:
            began = monotonic()
            url = bench.databases.create_database(bench.templates["allocator"])
            connection = await asyncpg.connect(url, server_settings=SERVICE | {"statement_timeout": "0"})
            try:
                await fill(connection, case.load, datetime.now(UTC))
                loaded = Loaded(case, url, await counted(connection), monotonic() - began)
            finally:
                await connection.close()
            bench.say(f"  {case.name}: loaded in {loaded.seconds:.0f} s, {loaded.counted}")
            return loaded

    largest_first = sorted(wanted, key=lambda case: -case.load.past_events - 10 * case.load.lines)
    made = await asyncio.gather(*(load(case) for case in largest_first))
    return sorted(made, key=lambda loaded: wanted.index(loaded.case))
