"""Where a notifier's time goes while it reads, by its own metrics: statements, the rest of a batch, and around it."""

import asyncio
import re
from dataclasses import dataclass
from operator import itemgetter

from tests.bench.frame import Table
from tests.e2e.processes import Service, get_text

SAMPLE = re.compile(r'backorder_notifier_(batch|sql)_seconds_(sum|count)(?:\{statement="(\w+)"\})? (\S+)')
READING = frozenset(
    {
        "lock_cursors", "stub_cursors", "move_cursors", "stub_customers", "lock_customers", "stub_orders",
        "lock_orders", "read_versions", "read_parked", "save_versions", "known_updates", "place_orders",
        "record_updates", "revive_shipments", "pending_marks", "save_orders",
    }
)  # fmt: skip
"""Statements of a batch of news about orders; other parts of the process run others meanwhile."""
SHOWN = 8
"""Statements by name; the others together."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds until now, or between two moments where one was taken from the other."""

    batches: float
    in_batches: float
    statements: dict[str, float]

    def __sub__(self, before: "Spent") -> "Spent":
        took = {name: each - before.statements.get(name, 0.0) for name, each in self.statements.items()}
        return Spent(self.batches - before.batches, self.in_batches - before.in_batches, took)

    def table(self, messages: int, seconds: float) -> Table:
        """µs a message, of all the time that reading so many took."""
        sql = sum(self.statements.values())
        named = sorted(self.statements.items(), key=itemgetter(1), reverse=True)[:SHOWN]
        rows = [
            ("between batches: poll, hand over, commit offsets", seconds - self.in_batches),
            ("decode, decide, columns for the statements; BEGIN and COMMIT", self.in_batches - sql),
            *((f"`{name}`", took) for name, took in named),
            ("other statements", sql - sum(took for _, took in named)),
        ]
        head = f"one `BackorderCreated` (last round, {messages / max(1.0, self.batches):,.0f} a batch)"
        shown = [(what, f"{took / messages * 1e6:,.1f}", f"{took / seconds:.0%}") for what, took in rows]
        return Table((head, "µs", "share"), shown)


async def spent(service: Service) -> Spent:
    url = await service.address()
    assert url is not None
    found: dict[tuple[str, str], float] = {}
    statements: dict[str, float] = {}
    for of, what, statement, value in SAMPLE.findall(await asyncio.to_thread(get_text, f"{url}/metrics")):
        if statement in READING and what == "sum":
            statements[statement] = float(value)
        elif not statement:
            found[of, what] = float(value)
    return Spent(found["batch", "count"], found["batch", "sum"], statements)
