"""The planner without a database: one run of it over a pool, and whom it tells."""

from datetime import datetime
from itertools import accumulate

from backorder_allocator.moves import Move, moves, needs_plan
from backorder_allocator.promises import PromiseRules, Waiting, project
from backorder_allocator.state import Line, Pool, State


def plan_pool(state: State, pool: Pool, now: datetime, rules: PromiseRules) -> list[Move]:
    """Plan the lines of a pool that wait or are held for the release of a pre-order; those whose date moved."""
    lines = {}
    if needs_plan(pool, now):
        is_on = pool.takes_preorders(now)
        lines = {
            (line.order_id, line.line_no): line
            for order in state.orders.values()
            for line in order.lines.values()
            if line.pool == pool.key and (line.waiting or (is_on and line.held))
        }
    queue = [as_planned(state, line) for line in sorted(lines.values(), key=lambda line: line.rank)]
    coming = [supply.coming(now) for supply in state.supplies.values() if supply.pool == pool.key]
    projection = project(pool.unassigned, [each for each in coming if each is not None], now, rules)
    wanted = accumulate(line.units for line in queue)
    found = moves(pool, list(zip(queue, wanted, strict=True)), projection, now)
    for move in found:
        line = lines[move.line.order_id, move.line.line_no]
        line.promised_at, line.first_promised_at, line.lead = move.promised_at, move.first_promised_at, move.lead
    pool.causes = frozenset()
    return [move for move in found if move.cause]


def as_planned(state: State, line: Line) -> Waiting:
    placed_at = state.orders[line.order_id].placed_at
    assert placed_at is not None
    return Waiting(
        line.order_id,
        line.line_no,
        line.waiting,
        placed_at,
        line.promised_at,
        line.first_promised_at,
        line.lead,
    )
