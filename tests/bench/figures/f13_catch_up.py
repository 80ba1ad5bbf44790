"""Figure 13: an allocator that is 1,000,000 messages behind catches up, while orders go on coming in."""

from collections.abc import Sequence
from statistics import median

from tests.bench.catching_up import LIVE_PER_SECOND, CatchingUp, Sample, catching_up
from tests.bench.frame import Bench, Curve, Figure, Goal, Table


async def measure(bench: Bench) -> Figure:
    found = await catching_up(bench)
    rates = [each.per_second for each in found.references]
    ratio = found.per_second / median(rates)
    return Figure(
        13,
        f"Catching up: {found.behind:,} messages behind",
        f"{found.behind:,} orders lie on the topic with timestamps as if they had come at {LIVE_PER_SECOND} a second"
        f" while no allocator ran, and {LIVE_PER_SECOND} a second go on coming in. One allocator is started. Beside it,"
        " before and after, the same allocator with orders as in figure 1. Its lag is the age of the oldest order that"
        " is not worked.",
        [
            Table(
                ("orders", "minutes", "orders/s", "as in figure 1 (each round)", "ratio", "start to first batch"),
                [
                    (
                        f"{found.orders:,}",
                        f"{found.seconds / 60:.2f}",
                        f"{found.per_second:,.0f}",
                        ", ".join(f"{each:,.0f}" for each in rates),
                        f"{ratio:.2f}",
                        f"{found.started_after:.1f} s",
                    )
                ],
            ),
            per_part(found),
            rows_there(found),
        ],
        [
            Goal(
                f"{found.behind:,} messages behind, no slower than figure 1",
                "≥ 1.00 × (or within its rounds)",
                f"{ratio:.2f} × ({found.per_second:,.0f}/s, {found.seconds / 60:.1f} min)",
                found.per_second >= min(rates),
            )
        ],
        [
            Curve(
                "f13-lag",
                "How far behind: the age of the oldest order that is not worked",
                "seconds since the allocator was started",
                "lag in seconds",
                {"lag": [(each.at, each.lag_seconds) for each in thinned(found.samples)]},
            ),
        ],
        [
            f"CPU an order: {found.usage.per(found.orders)}.",
            f"At most {max(each.unpublished for each in found.samples):,} events were committed and not yet published.",
        ],
    )


def thinned(samples: Sequence[Sample], most: int = 200) -> Sequence[Sample]:
    return samples[:: max(1, len(samples) // most)]


def per_part(found: CatchingUp, parts: int = 5) -> Table:
    """How fast each fifth was worked, which shows whether the database slows it down as it fills."""
    size = found.behind / parts
    crossed = [next(each for each in found.samples if each.orders >= size * part) for part in range(1, parts + 1)]
    before = [next(each for each in found.samples if each.orders > 0), *crossed]
    rows = [
        (
            f"{part} of {parts}",
            f"{(after.orders - begin.orders) / (after.at - begin.at):,.0f}",
            f"{after.lag_seconds:,.0f} s",
            f"{after.resident_mib:.0f} MiB",
        )
        for part, (begin, after) in enumerate(zip(before, crossed, strict=False), start=1)
        if after.at > begin.at
    ]
    return Table(("part of the orders", "orders/s", "lag at its end", "memory at its end"), rows)


def rows_there(found: CatchingUp) -> Table:
    there = found.counted
    row = (f"{there.orders:,}", f"{there.lines:,}", f"{there.lines_waiting:,}", f"{there.events:,}")
    return Table(("orders in the database at the end", "lines", "lines that wait", "events"), [row])
