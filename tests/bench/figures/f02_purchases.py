"""Lines per second over real purchases, beside the limit of the machine."""

from tests.bench import load
from tests.bench.frame import Bench, Figure, Goal, Table
from tests.bench.runs import CLIENT, Run, allocate, compete

HOW = (
    "Complete Journey, {baskets:,} baskets of {lines:.1f} lines and {cancels:,} made-up cancels as one stream in the"
    " order of time, over {skus:,} SKUs of which each has stock for all but the last {waiting:.0%} of its lines. All of"
    " it is on the topic before the process starts; the clock runs from its first batch to the last event that Kafka"
    " took. The limit is as in figure 1."
)
LINES = load.JOURNEY_LINES
QUICK_LINES = 40_000


async def measure(bench: Bench) -> Figure:
    bought = load.journey(QUICK_LINES if bench.quick else LINES, seed=1)
    bench.say(f"{len(bought.ids):,} baskets, {bought.lines:,} lines")
    async with bench.world() as world:
        ours = await allocate(bench, world, bought, None)
        bench.say(f"allocator: {ours.lines_per_second:,.0f} lines/s")
        async with bench.world() as beside:
            limit = await compete(bench, beside, "limit", bought, None, made=ours.made)
    bench.say(f"limit: {limit.lines_per_second:,.0f} lines/s")
    assert (limit.events, limit.waiting) == (ours.events, ours.waiting), "the limit wrote something else"
    share = ours.lines_per_second / limit.lines_per_second
    return Figure(
        number=2,
        title="Real purchases",
        how=HOW.format(
            baskets=len(bought.ids),
            lines=bought.lines / len(bought.ids),
            cancels=len(bought.orders) - len(bought.ids),
            skus=len(bought.stock),
            waiting=load.WAITING,
        ),
        tables=[
            Table(
                ("", "lines/s", "baskets/s", "lines", "lines that wait in the end", "events", "seconds", *PARTS),
                [row("allocator", ours), row("limit", limit)],
            )
        ],
        goals=[Goal("lines/s of real purchases, of the limit", "≥ 60 %", f"{share:.0%}", share >= 0.6)],
        notes=[f"{ours.batches:,} batches of {len(bought.orders) / ours.batches:,.0f} messages. {START}"],
    )


PARTS = ("own CPU µs a line", "PostgreSQL", "Kafka", "WAL bytes a line")
START = "The allocator's own CPU includes its start, a second or two, since it starts on a topic that is full."


def row(name: str, run: Run) -> tuple[str, ...]:
    return (
        name,
        f"{run.lines_per_second:,.0f}",
        f"{run.per_second:,.0f}",
        f"{run.lines:,}",
        f"{run.waiting / run.lines:.1%}",
        f"{run.events:,}",
        f"{run.seconds:.1f}",
        *(f"{run.usage.seconds.get(part, 0) / run.lines * 1e6:,.1f}" for part in (CLIENT, "postgres", "kafka")),
        f"{run.wal_bytes / run.lines:,.0f}",
    )
