"""How far the replay is: bars on a terminal, a plain line now and then elsewhere. On stderr, beside the result."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SHOW_SECONDS = 0.1
LINE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Standing:
    """`orders` of `orders_total` are published; `at` is the data's time; `told` of `to_tell` events have an outcome."""

    orders: int
    orders_total: int
    at: datetime | None
    lines_waiting: int
    units_filled: int
    told: int
    to_tell: int
    mails: int


Show = Callable[[Standing], None]


@contextmanager
def shown() -> Iterator[Show]:
    """A function to call as often as one likes."""
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with bars(console) as show:
            yield seldom(show, SHOW_SECONDS)
    else:
        yield seldom(line, LINE_SECONDS)


def seldom(show: Show, seconds: float) -> Show:
    """Shows what is new, at most once in so many seconds; but the last of everything at once."""
    last_shown = time.monotonic()
    last: Standing | None = None

    def show_seldom(standing: Standing) -> None:
        nonlocal last_shown, last
        done = standing.orders == standing.orders_total and standing.told == standing.to_tell > 0
        if standing != last and (done or time.monotonic() - last_shown >= seconds):
            last_shown, last = time.monotonic(), standing
            show(standing)

    return show_seldom


@contextmanager
def bars(console: Console) -> Iterator[Show]:
    progress = Progress(
        TextColumn("{task.description:<7}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[more]}", style="dim"),
        console=console,
    )
    orders = progress.add_task("Orders", total=None, more="")
    told = progress.add_task("Told", total=None, more="")

    def show(standing: Standing) -> None:
        waiting = f"{standing.lines_waiting:,} lines wait"
        clock = f"{standing.at:%d %b %H:%M}, " if standing.at else ""
        progress.update(orders, completed=standing.orders, total=standing.orders_total, more=clock + waiting)
        mails = f"events, in {standing.mails:,} mails"
        progress.update(told, completed=standing.told, total=standing.to_tell or None, more=mails)

    with progress:
        yield show


def line(standing: Standing) -> None:
    clock = f" ({standing.at:%Y-%m-%d %H:%M})" if standing.at else ""
    print(
        f"  {standing.orders:,} of {standing.orders_total:,} orders{clock}, {standing.lines_waiting:,} lines wait, "
        f"{standing.units_filled:,} units filled, {standing.told:,} of {standing.to_tell:,} events told",
        file=sys.stderr,
        flush=True,
    )
