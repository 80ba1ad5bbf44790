"""The planner's transactions: promises and availability of stale pools are computed again, and what moved is told.

The lines whose date moves are found in one snapshot without locks. Then one short transaction locks their pools and
orders, checks that nothing changed since, writes and tells. What the journal says of it is enough to repeat it by
`plan_once`: its time, its pools, in the state they were in, and how many lines it wrote at most.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from backorder_allocator import plans, store
from backorder_allocator.availability import Shown, ages_at, availability
from backorder_allocator.decision import Event, Rules
from backorder_allocator.events import SealedEvent, seal
from backorder_allocator.fail_points import reached
from backorder_allocator.loading import Context
from backorder_allocator.moves import Move, needs_plan
from backorder_allocator.plans import Plan, StalePool
from backorder_allocator.promises import Cause
from backorder_allocator.state import PoolKey
from backorder_allocator.statements import Connection, columns, run
from backorder_allocator.store import JournalEntry
from backorder_schemas import PromiseChanged, SkuAvailability

UNNUMBERED = "planner:?"
"""Stands for the journal number, which is known only while the log's head is held."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one transaction did; pools by id."""

    done: Sequence[int] = ()
    """Nothing of these is left to plan."""
    left: Mapping[int, Plan] = field(default_factory=dict)
    """Not done, because one transaction writes so many lines at most: to go on with these plans."""
    lost: Sequence[int] = ()
    """A batch holds these, or changed them since they were planned: to be planned anew."""
    events: int = 0
    told: Mapping[Cause, int] = field(default_factory=dict)
    """How many promises moved."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one transaction does with one pool."""

    stale: StalePool
    moves: Sequence[Move]
    is_done: bool


async def plan_once(connection: Connection, pools: Sequence[PoolKey], at: datetime, most: int, context: Context) -> Run:
    """Plan pools at a time and commit the first `most` lines that move, and availability of the pools that are done."""
    ids = (await store.pool_ids(connection, pools)).values()
    return await commit(connection, ids, await read_plans(connection, ids, at, context.rules), at, most, context)


async def read_plans(connection: Connection, ids: Iterable[int], at: datetime, rules: Rules) -> dict[int, Plan]:
    """The plans of those pools that need one, from one snapshot without locks."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await plans.make_plans(connection, await plans.read_pools(connection, ids, at, rules), at, rules)


async def commit(
    connection: Connection,
    ids: Iterable[int],
    planned: Mapping[int, Plan] | None,
    at: datetime,
    most: int,
    context: Context,
) -> Run:
    """Write and tell the first `most` moves of plans, and the availability of the pools that are done with that.

    Without plans (None) the pools are planned under their locks: then no batch can come between, and all of them wait.
    """
    async with connection.transaction():
        if planned is None:
            rows = await run(connection, "wait_for_pools", list(ids))
        else:
            rows = await run(connection, "lock_stale_pools", list(ids))
        locked = await plans.read_pools(connection, [row["pool_id"] for row in rows], at, context.rules)
        if planned is None:
            planned = await plans.make_plans(connection, locked, at, context.rules)
        parts, left, lost = _parts(locked, planned, at, most)
        lost += set(ids) - {each.pool_id for each in locked}
        if not parts:
            return Run([], left, lost)
        events = await _write(connection, parts, at, context)
        what = {"at": at.isoformat(), "pools": [part.stale.pool.key for part in parts], "most": most}
        entry = await _append(connection, events, what, at, context)
    context.memory.has_number(entry.number)
    return Run(
        [part.stale.pool_id for part in parts if part.is_done],
        left,
        lost,
        len(events),
        Counter(move.cause for part in parts for move in part.moves if move.cause),
    )


def _parts(
    locked: Iterable[StalePool], planned: Mapping[int, Plan], at: datetime, most: int
) -> tuple[list[_Part], dict[int, Plan], list[int]]:
    """What one transaction does, what is left of the plans after it, and the pools whose plan is out of date.

    Pools come in the order of their names, which is the same in every database.
    """
    parts: list[_Part] = []
    left: dict[int, Plan] = {}
    lost: list[int] = []
    room = most
    for stale in sorted(locked, key=lambda each: each.pool.key):
        if not stale.is_stale:
            continue
        plan = Plan(stale.revision)
        if needs_plan(stale.pool, at):
            plan = planned.get(stale.pool_id, Plan(-1))
            if plan.revision != stale.revision:
                lost.append(stale.pool_id)
                continue
        if left or (plan.moves and not room):
            left[stale.pool_id] = plan
            continue
        taken, rest = plan.moves[:room], plan.moves[room:]
        room -= len(taken)
        parts.append(_Part(stale, taken, not rest))
        if rest:
            # Our own write makes the revision grow by one.
            left[stale.pool_id] = Plan(plan.revision + 1, rest)
    return parts, left, lost


async def _write(connection: Connection, parts: Sequence[_Part], at: datetime, context: Context) -> list[SealedEvent]:
    """Write what changes, and give the events of it, in which only the journal number is missing."""
    moved = [move for part in parts for move in part.moves]
    events = await _tell(connection, moved, at) if moved else []
    shown: dict[int, Shown] = {}
    aging: dict[int, datetime | None] = {}
    done = [part.stale for part in parts if part.is_done]
    projections = await plans.read_projections(connection, done, at, context.rules)
    for stale in done:
        if not stale.pool.named:
            continue
        now_shown = availability(stale.pool, projections[stale.pool_id], at)
        aging[stale.pool_id] = ages_at(stale.pool, projections[stale.pool_id], at)
        if now_shown != stale.shown:
            shown[stale.pool_id] = now_shown
            events.append(_available(stale, now_shown, at))
    sealed = seal(events, context.epoch, {})
    rows = [
        (
            part.stale.pool_id,
            part.is_done,
            plans.shown_as_json(shown[part.stale.pool_id]) if part.stale.pool_id in shown else None,
            aging.get(part.stale.pool_id),
        )
        for part in parts
    ]
    await run(connection, "write_planned_pools", *columns(rows, 4))
    return sealed


async def _tell(connection: Connection, moved: Sequence[Move], at: datetime) -> list[Event]:
    """Write the promises of lines under the locks of their orders, and give the events of those that are told."""
    rows = await run(connection, "lock_orders_to_tell", sorted({move.line.order_id for move in moved}))
    customers = {row["order_id"]: row["customer_id"] for row in rows}
    versions = {row["order_id"]: row["backorders_version"] for row in rows}
    events = []
    for move in moved:
        if move.cause is None:
            continue
        line = move.line
        versions[line.order_id] += 1
        fields = {
            "order_id": line.order_id,
            "customer_id": customers[line.order_id],
            "line_no": line.line_no,
            "sku": move.pool.sku,
            "location": move.pool.location,
            "promised_at": move.promised_at,
            "previous_promised_at": line.promised_at,
            "first_promised_at": move.first_promised_at,
            "cause": move.cause,
        }
        why = {"promised_by": move.promised_by}
        version = versions[line.order_id]
        events.append(Event(PromiseChanged, "backorders", line.order_id, fields, at, UNNUMBERED, None, version, why))
    lines = [
        (
            move.line.order_id,
            move.line.line_no,
            move.promised_at,
            move.first_promised_at,
            move.lead.at if move.lead else None,
            move.lead.days if move.lead else None,
        )
        for move in moved
    ]
    await run(connection, "write_promises", *columns(lines, 6))
    await run(connection, "count_backorder_events", list(versions), list(versions.values()))
    return events


def _available(stale: StalePool, shown: Shown, at: datetime) -> Event:
    sku, location = stale.pool.key
    fields = {"sku": sku, "location": location, **asdict(shown)}
    version = stale.availability_version + 1
    return Event(SkuAvailability, "availability", f"{location}:{sku}", fields, at, UNNUMBERED, None, version)


async def _append(
    connection: Connection, events: Sequence[SealedEvent], what: dict[str, Any], at: datetime, context: Context
) -> JournalEntry:
    """Last, the journal and the events. They carry its number, so the log's head is held for their COPY, too."""
    batch_id = await store.next_batch_id(connection)
    if events:
        await store.notify_events(connection)
    reached("planner.written")
    entry = await store.append_journal(
        connection, batch_id, "planner", what, at, len(events), {}, context.rules_id, context.epoch, context.memory
    )
    if events:
        cause = f"planner:{entry.number}"
        # `caused_by` stands before any field with a text of others, and quotes in those are escaped.
        name, numbered = f'"caused_by":"{UNNUMBERED}"', f'"caused_by":"{cause}"'
        copied = [each._replace(caused_by=cause, value=each.value.replace(name, numbered, 1)) for each in events]
        await store.append_events(connection, batch_id, copied)
    reached("planner.before_commit")
    return entry
