"""What every figure of the benchmark is made of: servers, usage of the cores, and values that become tables and plots.

A figure measures on real, durable servers that it shares with the other figures; each round has a database and topics
of its own. What it is compared with runs in the same round, so that a noisy machine is unfair to both.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil  # type: ignore[import-untyped]

from tests.conftest import Databases
from tests.e2e.world import World, made_world

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A plot: `series` by name, each of (x, y)."""

    file: str
    """Without folder and ending; unique."""
    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[Point]]


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal of the table in the issue, and whether this run reached it."""

    what: str
    wanted: str
    measured: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured: `how` in a sentence or two, tables, goals, plots, and what the reader has to know."""

    number: int
    title: str
    how: str
    tables: Sequence[Table]
    goals: Sequence[Goal] = ()
    curves: Sequence[Curve] = ()
    notes: Sequence[str] = ()


@dataclass(slots=True)
class Bench:
    """Servers for all figures. `quick`: fewer and smaller rounds, to see that it works and roughly where it stands."""

    kafka: str
    databases: Databases
    templates: Mapping[str, str]
    """By service: the URL of a migrated database, to be copied."""
    folder: Path
    """For logs; goes away at the end."""
    quick: bool
    say: Callable[[str], None]
    kafka_pid: int | None = None
    postgres_pid: int | None = None
    _worlds: int = field(default=0)

    @asynccontextmanager
    async def world(self, database_url: str | None = None) -> AsyncIterator[World]:
        """New topics, and a new database of the allocator or the one named."""
        self._worlds += 1
        folder = self.folder / f"world-{self._worlds}"
        folder.mkdir()
        url = database_url or self.databases.create_database(self.templates["allocator"])
        async with made_world(self.kafka, f"bench{secrets.token_hex(4)}.", url, folder) as world:
            yield world

    def usage(self, **processes: int) -> "Usage":
        """CPU seconds until now of Kafka, PostgreSQL and these processes, by pid."""
        pids = {"kafka": self.kafka_pid, "postgres": self.postgres_pid, **processes}
        return Usage({name: cpu_seconds(pid) for name, pid in pids.items() if pid is not None})


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds by process, or between two moments where one was taken from the other."""

    seconds: Mapping[str, float]

    def __sub__(self, before: "Usage") -> "Usage":
        return Usage({name: seconds - before.seconds.get(name, 0.0) for name, seconds in self.seconds.items()})

    def per(self, number: float) -> str:
        """As microseconds per thing: "kafka 21, postgres 44 µs"."""
        return ", ".join(f"{name} {seconds / number * 1e6:,.0f}" for name, seconds in self.seconds.items()) + " µs"


def cpu_seconds(pid: int) -> float:
    """Of a process, its living descendants, and those of its children that ended and were waited for."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for each in family:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


@dataclass(slots=True)
class Rounds:
    """Measured values by name, over rounds."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return median(self.values[name])

    def ratio(self, name: str, to: str) -> float:
        """The median of the ratios within each round, not the ratio of medians: what both met at the same time."""
        return median(a / b for a, b in zip(self.values[name], self.values[to], strict=True))

    def spread(self, name: str) -> str:
        """ "9,800 (9,500 to 10,100)": the median, the least and the most."""
        found = self.values[name]
        return f"{median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of them are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


Measure = Callable[[Bench], Awaitable[Figure]]
