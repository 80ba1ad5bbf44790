"""What the lines of pools are promised before and after something happened, and which of them move by it.

PostgreSQL counts who waits ahead of a line, before and after, and compares the days: only lines that move are read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backorder_allocator.decision import Rules
from backorder_allocator.plans import steps_as_json
from backorder_allocator.promises import UNKNOWN, Lead, Promise, held, project, steps, uncovered
from backorder_allocator.state import Line, Pool, PoolKey, State
from backorder_allocator.statements import Connection, Rows, columns, run

LineChange = tuple[Line | None, Line]
"""A line before and after; None: it was not there."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the lines of one pool are promised, at one moment and in one state of it."""

    steps: Sequence[tuple[int, Promise]]
    """Up to so many units of the queue are promised that, by stock and then by each supply."""
    lead_time_days: int | None
    release_at: datetime | None
    now: datetime

    def waiting(self, step: int, placed_at: datetime, promised_at: datetime | None, lead: Lead | None) -> Promise:
        """The promise of a line that waits; `step`: the one that covers it, from 1, or beyond the last one."""
        if step <= len(self.steps):
            return self.steps[step - 1][1]
        return uncovered(placed_at, self.lead_time_days, promised_at, lead, self.release_at, self.now)

    def of(self, line: Line, step: int, placed_at: datetime | None) -> Promise:
        """The promise of a line that waits, or whose units are there and may not ship yet or any more."""
        if line.waiting:
            return self.waiting(step, placed_at or self.now, line.promised_at, line.lead)
        return held(self.release_at if line.held else None, self.now) if line.allocated else UNKNOWN


Views = Mapping[PoolKey, tuple[Outlook, Outlook]]
"""What the lines of pools are promised before and after something happened."""


def outlook(state: State, key: PoolKey, rules: Rules, now: datetime) -> Outlook:
    pool = state.pools.get(key, Pool(key))
    coming = (supply.coming(now) for supply in state.supplies.values() if supply.pool == key)
    projection = project(pool.unassigned, [each for each in coming if each is not None], now, rules.promises)
    release_at = pool.release_at(now)
    return Outlook(steps(projection, release_at, now), pool.policy.default_lead_time_days, release_at, now)


async def read_moved(
    connection: Connection, pools: Mapping[PoolKey, int | None], views: Views, changes: Iterable[LineChange]
) -> Rows:
    """The lines that change themselves, all others whose date moves, and few others; with the steps that cover them.

    By pool in the order of `pools`, by rank. `pools`: ids, None for one that is not there yet.
    """
    asked = []
    for key, pool_id in pools.items():
        before, after = views[key]
        steps_of = steps_as_json(before.steps), steps_as_json(after.steps)
        asked.append((pool_id, *steps_of, after.lead_time_days is not None))
    places = {key: place for place, key in enumerate(pools, 1)}
    lines = [
        (places[line.pool], *line.rank, line.waiting - (before.waiting if before else 0))
        for before, line in changes
        if line.pool in places
    ]
    return await run(connection, "dates_that_move", *columns(asked, 4), *columns(lines, 5))
