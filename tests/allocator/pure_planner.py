"""The planner without a database: what a run of it changes in the lines of a pool, and whom it tells."""

from datetime import datetime
from typing import NamedTuple

from backorder_allocator.promises import Cause, PromiseRules, Waiting, cause_of, moved, plan, project
from backorder_allocator.state import Pool, State


class Move(NamedTuple):
    """A date that the customer is told."""

    order_id: str
    line_no: int
    previous: datetime | None
    promised_at: datetime | None
    first_promised_at: datetime | None
    cause: Cause


def plan_pool(state: State, pool: Pool, now: datetime, rules: PromiseRules) -> list[Move]:
    """Plan a pool anew from nothing: lines that wait, and lines that are held for the release of a pre-order."""
    is_on = pool.takes_preorders(now)
    lines = sorted(
        (
            line
            for order in state.orders.values()
            for line in order.lines.values()
            if line.pool == pool.key and (line.waiting or (is_on and line.held))
        ),
        key=lambda line: line.rank,
    )
    queue = []
    for line in lines:
        placed_at = state.orders[line.order_id].placed_at
        assert placed_at is not None
        queue.append(
            Waiting(
                line.order_id,
                line.line_no,
                line.waiting,
                placed_at,
                line.promised_at,
                line.first_promised_at,
                line.lead,
            )
        )
    supplies = [supply.coming(now) for supply in state.supplies.values() if supply.pool == pool.key]
    promises = plan(
        queue,
        project(pool.unassigned, [each for each in supplies if each is not None], now, rules),
        lead_time_days=pool.policy.default_lead_time_days,
        release_at=pool.policy.release_at if is_on else None,
        now=now,
    )
    moves = []
    for line, promised in zip(lines, promises, strict=True):
        line.lead = promised.lead or line.lead
        previous = line.promised_at
        if moved(previous, promised.at):
            line.promised_at = promised.at
            line.first_promised_at = line.first_promised_at or promised.at
            cause = cause_of(previous, promised.at, pool.causes)
            moves.append(Move(line.order_id, line.line_no, previous, promised.at, line.first_promised_at, cause))
    pool.causes = frozenset()
    return moves
