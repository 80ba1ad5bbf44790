"""Figure 12: the memory of an allocator at full speed, while it works 1,000,000 orders."""

from collections.abc import Sequence
from statistics import median

from tests.bench.catching_up import CatchingUp, Sample, catching_up
from tests.bench.frame import Bench, Curve, Figure, Goal, Table

MOST_MIB = 300
MAY_GROW_MIB = 10
"""From the second tenth of the orders to the last: what counts as flat."""


async def measure(bench: Bench) -> Figure:
    found = await catching_up(bench)
    second, last = of_tenth(found, 2), of_tenth(found, 10)
    most = max(each.resident_mib for each in found.samples)
    grown = last - second
    return Figure(
        12,
        "Memory of an allocator",
        f"Resident memory of the allocator of figure 13, four times a second: {found.behind:,} orders behind, it"
        f" works {found.per_second:,.0f} orders/s. What counts as growth is from the second tenth of the orders to the"
        " last.",
        [
            Table(
                ("moment", "MiB"),
                [
                    ("first batch", f"{at_first_batch(found):.0f}"),
                    *((f"tenth {tenth} of the orders (median)", f"{of_tenth(found, tenth):.1f}") for tenth in TENTHS),
                    ("most", f"{most:.0f}"),
                    ("at rest afterwards, with some orders coming in", f"{found.samples[-1].resident_mib:.0f}"),
                ],
            )
        ],
        [
            Goal("memory at full speed", f"< {MOST_MIB} MiB", f"{most:.0f} MiB at most", most < MOST_MIB),
            Goal(
                f"memory over {found.behind:,} orders",
                f"flat: ≤ {MAY_GROW_MIB} MiB more",
                f"{grown:+.1f} MiB ({second:.0f} to {last:.0f})",
                grown <= MAY_GROW_MIB,
            ),
        ],
        [
            Curve(
                "f12-memory",
                "Resident memory of an allocator at full speed",
                "orders worked",
                "MiB",
                {"allocator": [(each.orders, each.resident_mib) for each in while_working(found)]},
            )
        ],
    )


TENTHS = (1, 2, 4, 6, 8, 10)


def while_working(found: CatchingUp) -> Sequence[Sample]:
    return [each for each in found.samples if 0 < each.orders <= found.behind]


def at_first_batch(found: CatchingUp) -> float:
    return next(each for each in found.samples if each.orders > 0).resident_mib


def of_tenth(found: CatchingUp, tenth: int) -> float:
    """The median while that tenth of the orders was worked."""
    low, high = (tenth - 1) * found.behind / 10, tenth * found.behind / 10
    samples = while_working(found)
    within = [each for each in samples if low < each.orders <= high]
    return median(each.resident_mib for each in within or [min(samples, key=lambda each: abs(each.orders - high))])
