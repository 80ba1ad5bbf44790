"""Figure 6: one receipt that fills a very long queue, and how long others wait meanwhile."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median

import asyncpg

from backorder_allocator.connections import SERVICE
from tests.bench import filling
from tests.bench.filling import LOOK_SECONDS, OTHER_POOLS, OTHERS_A_SECOND, UNTIL, Kind, Run
from tests.bench.frame import Bench, Figure, Goal, Table
from tests.bench.loaded import Load, counted, fill

WANTED_SECONDS = {10_000: 0.4, 100_000: 4.0}


async def measure(bench: Bench) -> Figure:
    small, large = WANTED_SECONDS
    kinds = [Kind(small, 1, OTHERS_A_SECOND), Kind(large, 1, OTHERS_A_SECOND)]
    plan = (
        [*kinds, Kind(large, 1, 0)] if bench.quick else [*kinds * 3, Kind(large, 1, 0), Kind(large, 2, OTHERS_A_SECOND)]
    )
    templates = {lines: await _template(bench, lines) for lines in WANTED_SECONDS}
    runs: dict[Kind, list[Run]] = {}
    for kind in plan:
        run = await filling.measure(bench, templates[kind.lines], kind)
        runs.setdefault(kind, []).append(run)
        bench.say(f"  {kind}: {run.committed:.2f} s, published {run.published:.2f} s")
    return _figure(runs)


async def _template(bench: Bench, lines: int) -> str:
    url = bench.databases.create_database(bench.templates["allocator"])
    connection = await asyncpg.connect(url, server_settings=SERVICE)
    try:
        await fill(connection, Load(lines, units_to_come=lines), datetime.now(UTC))
        assert (await counted(connection)).lines_waiting == lines
    finally:
        await connection.close()
    return url


def _figure(runs: Mapping[Kind, Sequence[Run]]) -> Figure:
    rows = []
    goals = []
    for kind, of_kind in runs.items():
        committed = median(run.committed for run in of_kind)
        published = median(run.published for run in of_kind)
        peak = median(run.peak_mib for run in of_kind)
        row = [f"{kind.lines:,}", str(kind.allocators), f"{committed:.2f}", f"{published:.2f}", f"{peak:,.0f}"]
        for until in UNTIL if kind.others else ():
            typical = median(run.typical(until) for run in of_kind) * 1000
            worst = median(run.worst(until) for run in of_kind) * 1000
            row += [f"{typical:,.0f}", f"{worst:,.0f}"]
        rows.append(row if kind.others else [*row, *["none came"] * 4])
        if kind.others and kind.allocators == 1:
            wanted, waited = WANTED_SECONDS[kind.lines], median(run.worst("committed") for run in of_kind)
            goals += [
                Goal(
                    f"a receipt fills {kind.lines:,} lines", f"≤ {wanted} s", f"{committed:.2f} s", committed <= wanted
                ),
                Goal(
                    f"meanwhile orders for other pools are committed ({kind.lines:,} lines)",
                    "within the time of that transaction",
                    f"{waited:.2f} s at most",
                    # A batch may be in hand when the receipt comes.
                    waited <= committed + 0.1,
                ),
            ]
    head = (
        "lines",
        "allocators",
        "s to commit",
        "s to last event published",
        "peak MiB more",
        "others, ms to commit: median before",
        "longest meanwhile",
        "others, ms to published: median before",
        "longest meanwhile",
    )
    return Figure(
        6,
        "One receipt for a whole queue",
        "One receipt with as many units as there are lines of one unit that wait in its pool, each of an order of its"
        f" own: two events for each. {OTHERS_A_SECOND} orders a second come for {OTHER_POOLS} other pools by a schedule"
        " of their own, from a second before to a second after. Times by Kafka's clock until a cursor, or the relay's"
        f" position, is seen to have moved ({LOOK_SECONDS * 1000:.0f} ms apart). Medians of"
        f" {len(next(iter(runs.values())))} rounds (of one where no others come, and with two allocators), each on a"
        " database and processes of its own.",
        [Table(head, rows), _where(runs)],
        goals,
        notes=NOTES,
    )


NOTES = (
    (
        "An order for another pool of the same process waits for the transaction in hand, since a process works one"
        " batch at a time; it is kept short by one round trip for each kind of row, however many there are. Other"
        " processes of the group go on: locked are that pool, its orders, and at the very end the log's head."
    ),
    "Events are published in the order of the log: who is committed after it is published after all of its events.",
)


def _where(runs: Mapping[Kind, Sequence[Run]]) -> Table:
    """Where the time of the transaction goes, when nothing else happens: statements, and the rest, which is Python."""
    rows = []
    for kind, (run, *_) in runs.items():
        if not kind.others:
            own = Counter({name: us for name, us in run.statements.items() if name not in RELAYS})
            known = own.most_common(8)
            rows += [[f"{kind.lines:,}", name, f"{us / 1e6:.2f}"] for name, us in known]
            rest = run.committed - sum(us for _, us in known) / 1e6
            rows.append([f"{kind.lines:,}", "Python: decide, rows, bytes of events; small statements", f"{rest:.2f}"])
    return Table(("lines", "waiting for", "s"), rows)


RELAYS = {"events_to_publish", "move_relay", "take_relay_lease", "unpublished", "dead_letters_to_publish"}
"""Statements that run beside."""
