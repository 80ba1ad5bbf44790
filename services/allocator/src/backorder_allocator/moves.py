"""Which lines of a queue get another date, and why: the plan of the queue beside what was published. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backorder_allocator.promises import Cause, Lead, Projection, Waiting, cause_of, leans_on, moved, plan_part
from backorder_allocator.state import Pool, PoolKey


@dataclass(frozen=True, slots=True)
class Move:
    """A line whose row changes by a plan. `cause` is None where nobody is told: only its lead time date was fixed."""

    pool: PoolKey
    line: Waiting
    promised_at: datetime | None
    first_promised_at: datetime | None
    lead: Lead | None
    cause: Cause | None
    promised_by: str | None
    """What the date leans on, in words; None where it is unknown."""


def moves(pool: Pool, lines: Sequence[tuple[Waiting, int]], projection: Projection, now: datetime) -> list[Move]:
    """The lines of a pool's queue that change when it is planned now, in rank order.

    `lines`: at least all that change, in rank order, each with the units that wait ahead of it and its own.
    """
    promises = plan_part(lines, projection, pool.policy.default_lead_time_days, pool.release_at(now), now)
    found = []
    for (line, _), new in zip(lines, promises, strict=True):
        lead = new.lead or line.lead
        if moved(line.promised_at, new.at):
            cause = cause_of(line.promised_at, new.at, pool.causes)
            first = line.first_promised_at or new.at
            found.append(Move(pool.key, line, new.at, first, lead, cause, leans_on(new)))
        elif lead != line.lead:
            found.append(Move(pool.key, line, line.promised_at, line.first_promised_at, lead, None, None))
    return found


def needs_plan(pool: Pool, now: datetime) -> bool:
    """Whether dates of lines in this pool may have moved since it was planned."""
    return bool(pool.causes) and (pool.waiting > 0 or (pool.takes_preorders(now) and pool.allocated > 0))
