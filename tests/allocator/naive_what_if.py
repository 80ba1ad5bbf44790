"""What `what-if` must answer, from whole queues: all lines of all pools concerned, planned before and after.

Slower with every line that waits, but nothing is left out that could matter. Decides by `decide` and plans by `plan`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from backorder_allocator import reading, store
from backorder_allocator import what_if as real
from backorder_allocator.allocation import decide
from backorder_allocator.arguments import Delay, Receipt
from backorder_allocator.decision import Event, Input, Message, Rules
from backorder_allocator.promises import UNKNOWN, Promise, Waiting, held, moved, plan, project
from backorder_allocator.state import Line, Order, Pool, PoolKey, State
from backorder_allocator.what_if import Idea
from backorder_allocator.words import covered_by
from backorder_schemas import OrderPlaced

Dates = dict[tuple[str, int], Promise]

ORDERS_OF_QUEUES = """
SELECT o.order_id, o.placed_at, o.ranked_at AS order_ranked_at, o.delivery, o.customer_id, o.fingerprint, o.release_no,
       o.escalates_at, o.escalated, l.*, p.sku, p.location
FROM orders o JOIN lines l USING (order_id) JOIN pools p USING (pool_id)
WHERE o.order_id IN (
    SELECT order_id FROM lines WHERE pool_id = ANY ($1::bigint[])
        AND (quantity_waiting > 0 OR quantity_allocated > quantity_shipped + quantity_released))
"""
"""All lines of the orders that wait or hold units in pools, wherever these are."""


async def what_if(connection: asyncpg.Connection, ideas: Sequence[Idea], rules: Rules, now: datetime) -> dict[str, Any]:
    named = sorted({key for idea in ideas for key in await real._named_by(connection, idea)})
    before = await _read(connection, named, rules)
    after, events = before, list[Event]()
    for number, idea in enumerate(ideas, 1):
        for message in _messages(idea, after, now, f"what-if:{number}"):
            decision = decide(after, [Input(message, now)], rules)
            after = decision.state
            events += decision.events
    return {
        "at": now,
        "ideas": [real._in_words(idea) for idea in ideas],
        "pools": [real._pool(key, before.pools.get(key, Pool(key)), after.pools[key]) for key in named],
        "lines": _lines(before, after, _dates(before, named, rules, now), _dates(after, named, rules, now)),
        "events": [real._event(event) for event in events],
    }


async def _read(connection: asyncpg.Connection, named: Sequence[PoolKey], rules: Rules) -> State:
    """Pools, what is to come for them, and everybody who waits or holds units in them."""
    skus = {key.sku for key in named}
    state = State(policies=await store.policies_of(connection, skus))
    found = await reading.pools_of(connection, skus, rules.default_policy)
    ids = {each.pool.key: each.pool_id for each in found}
    for key in named:
        real._check_known(key, ids, state)
    concerned = [ids[key] for key in named if key in ids]
    state.supplies = await store.supplies_to_come(connection, concerned)
    others = {sku for each in found for sku in each.pool.policy.substitutes}
    for row in await connection.fetch(ORDERS_OF_QUEUES, concerned):
        order = state.orders.setdefault(
            row["order_id"],
            Order(
                row["order_id"],
                row["placed_at"],
                row["order_ranked_at"],
                delivery=row["delivery"],
                customer_id=row["customer_id"],
                fingerprint=row["fingerprint"],
                release_no=row["release_no"],
                escalates_at=row["escalates_at"],
                escalated=row["escalated"],
            ),
        )
        order.lines[row["line_no"]] = store.line_of(row)
        others.add(row["sku"])
    found += await reading.pools_of(connection, others - skus, rules.default_policy)
    state.pools = {each.pool.key: each.pool for each in found}
    return state


def _messages(idea: Idea, state: State, now: datetime, name: str) -> list[Message]:
    match idea:
        case OrderPlaced():
            return [idea]
        case Receipt():
            return [real._received(idea, now, name)]
        case Delay():
            named = (
                supply
                for supply in state.supplies.values()
                if idea.supply in {supply.key.supply_id, f"{supply.key.supply_id}/{supply.key.sku}"} and supply.to_come
            )
            return [real._delayed(supply, idea.by, now, name) for supply in sorted(named, key=lambda each: each.key)]


def _all(state: State) -> dict[tuple[str, int], Line]:
    return {(order.order_id, number): line for order in state.orders.values() for number, line in order.lines.items()}


def _dates(state: State, pools: Iterable[PoolKey], rules: Rules, now: datetime) -> Dates:
    """The dates of all lines in these pools that wait, or that are there and may not ship yet or any more."""
    dates: Dates = {}
    for pool in (state.pools[key] for key in pools if key in state.pools):
        coming = (supply.coming(now) for supply in state.supplies.values() if supply.pool == pool.key)
        projection = project(pool.unassigned, [each for each in coming if each is not None], now, rules.promises)
        release_at = pool.release_at(now)
        lines = [line for line in _all(state).values() if line.pool == pool.key]
        queue = sorted((line for line in lines if line.waiting), key=lambda line: line.rank)
        waiting = [
            Waiting(
                line.order_id,
                line.line_no,
                line.waiting,
                state.orders[line.order_id].placed_at or now,
                line.promised_at,
                line.first_promised_at,
                line.lead,
            )
            for line in queue
        ]
        days = pool.policy.default_lead_time_days
        promises = plan(waiting, projection, lead_time_days=days, release_at=release_at, now=now)
        dates |= {(line.order_id, line.line_no): date for line, date in zip(queue, promises, strict=True)}
        for line in lines:
            if line.allocated and not line.waiting:
                dates[line.order_id, line.line_no] = held(release_at if line.held else None, now)
    return dates


def _lines(before: State, after: State, dates_before: Dates, dates_after: Dates) -> list[dict[str, Any]]:
    lines_before = _all(before)
    lines = []
    for key, line in _all(after).items():
        told = _line(lines_before.get(key), line, dates_before.get(key, UNKNOWN), dates_after.get(key, UNKNOWN))
        if told is not None:
            lines.append((["new", "gains", "loses"].index(told["effect"]), line.pool, line.rank, told))
    return [told for *_, told in sorted(lines, key=lambda each: each[:3])]


def _line(before: Line | None, after: Line, was: Promise, would_be: Promise) -> dict[str, Any] | None:
    effect = "new"
    if before is not None:
        more = (after.allocated - before.allocated) or (after.released - before.released)
        if more:
            effect = "gains" if more > 0 else "loses"
        elif moved(was.at, would_be.at):
            effect = "gains" if would_be.at is not None and (was.at is None or would_be.at < was.at) else "loses"
        else:
            return None
    return {
        "order_id": after.order_id,
        "line_no": after.line_no,
        "sku": after.pool.sku,
        "location": after.pool.location,
        "effect": effect,
        "quantity_ordered": after.ordered,
        "allocated_before": before.allocated if before else 0,
        "allocated_after": after.allocated,
        "waiting_before": before.waiting if before else 0,
        "waiting_after": after.waiting,
        "released_before": before.released if before else 0,
        "released_after": after.released,
        "rejected_after": after.rejected,
        "promised_at": before.promised_at if before else None,
        "date_before": was.at,
        "date_after": would_be.at,
        "covered_by": covered_by(would_be),
        "supply_id": would_be.supply_id,
    }
