"""RESULTS.md: what was measured, on which commit and machine, how to repeat it."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import asyncpg

from tests.bench.frame import Figure, Table
from tests.bench.plots import draw

PACKAGES = ("faststream", "aiokafka", "asyncpg", "pydantic", "pydantic-core", "orjson", "uvloop")


def write(figures: Sequence[Figure], about: str, push: str, folder: Path) -> Path:
    """RESULTS.md with a table of all goals first, and the plots beside it."""
    parts = ["# What was measured", "", about, ""]
    parts += goals(figures)
    for figure in figures:
        parts += section(figure)
        for curve in figure.curves:
            path = draw(curve, folder)
            parts += [f"![{curve.title}]({path.name})", ""]
    if push:
        parts += [push.strip(), ""]
    path = folder / "RESULTS.md"
    path.write_text("\n".join(parts).rstrip() + "\n")
    return path


def goals(figures: Sequence[Figure]) -> list[str]:
    rows = [
        (str(figure.number), goal.what, goal.wanted, goal.measured, "yes" if goal.reached else "**no**")
        for figure in figures
        for goal in figure.goals
    ]
    return [*table(Table(("#", "figure", "goal", "measured", "reached"), rows)), ""] if rows else []


def section(figure: Figure) -> list[str]:
    lines = [f"## {figure.number}. {figure.title}", "", figure.how, ""]
    for each in figure.tables:
        lines += [*table(each), ""]
    lines += [f"- {note}" for note in figure.notes]
    return [*lines, ""] if figure.notes else lines


def table(content: Table) -> list[str]:
    head = [f"| {' | '.join(content.head)} |", "|" + "---|" * len(content.head)]
    return head + [f"| {' | '.join(row)} |" for row in content.rows]


async def about(postgres_url: str, seconds: float, quick: bool) -> str:
    """Commit, machine, versions, how to repeat."""
    connection = await asyncpg.connect(postgres_url)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
        server, *settings = [(name, await connection.fetchval(f"SHOW {name}")) for name in names]
    finally:
        await connection.close()
    packages = ", ".join(f"{name} {found}" for name in PACKAGES if (found := installed(name)))
    command = "make bench ARGS=--quick" if quick else "make bench"
    return (
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d}, commit {commit()}, {seconds / 60:.0f} minutes."
        f" Machine: {cpu_name()}, {os.cpu_count()} cores, {platform.system()},"
        f" load {os.getloadavg()[2]:.1f} over the last 15 minutes; Python {platform.python_version()}, {packages};"
        f" PostgreSQL {server[1]}"
        f" ({', '.join(f'{name} {value}' for name, value in settings)}), Kafka 4.3 with acks=all on one broker."
        " Clients and servers share the cores. Medians of rounds; a ratio is the median of those within each round."
    )


def installed(name: str) -> str | None:
    try:
        return version(name)
    except ModuleNotFoundError:
        return None


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "services", "schemas")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" and changes" if changed else "")


def cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
