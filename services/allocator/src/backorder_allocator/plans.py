"""The plans of stale pools, from their rows: in one snapshot without locks, or under the locks of the pools."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from backorder_allocator import store
from backorder_allocator.availability import Shown
from backorder_allocator.decision import Rules
from backorder_allocator.moves import Move, moves, needs_plan
from backorder_allocator.promises import Coming, Projection, Promise, Waiting, in_utc, project, steps
from backorder_allocator.state import Pool, PoolKey
from backorder_allocator.statements import Connection, columns, run


@dataclass(frozen=True, slots=True)
class StalePool:
    """A pool as the planner reads it; `pool` is without what only decisions need."""

    pool: Pool
    pool_id: int
    revision: int
    is_stale: bool
    """It changed since it was planned, or its availability was true for a time that is over."""
    shown: Shown | None
    """Its availability as last published."""
    availability_version: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The lines of one pool that move, in rank order, planned at a revision of it."""

    revision: int
    moves: Sequence[Move] = ()


async def read_pools(connection: Connection, ids: Iterable[int], at: datetime, rules: Rules) -> list[StalePool]:
    """Pools with the policies that were applied to them, as they are at a time."""
    rows = await run(connection, "pools_to_plan", list(ids))
    with_policy = {row["sku"] for row in rows if row["policy_revision"]}
    policies = await store.policies_of(connection, with_policy) if with_policy else {}
    return [
        StalePool(
            Pool(
                PoolKey(row["sku"], row["location"]),
                row["pool_id"],
                row["on_hand"],
                row["allocated"],
                row["waiting"],
                policy=policies[row["sku"]].policy if row["policy_revision"] else rules.default_policy,
                safety_stock=row["safety_stock"],
                over=row["preorder_over"],
                named=row["named"],
                causes=store.causes_of(row["causes"]),
            ),
            row["pool_id"],
            row["revision"],
            row["stale_since"] is not None or (row["ages_at"] is not None and row["ages_at"] <= at),
            _shown(row["shown"]),
            row["availability_version"],
        )
        for row in rows
    ]


async def read_projections(
    connection: Connection, pools: Sequence[StalePool], at: datetime, rules: Rules
) -> dict[int, Projection]:
    """What pools can give by when, seen from `at`, by pool id."""
    coming: dict[PoolKey, list[Coming]] = {each.pool.key: [] for each in pools}
    for supply in (await store.supplies_to_come(connection, [each.pool_id for each in pools])).values():
        seen = supply.coming(at)
        if supply.pool is not None and seen is not None:
            coming[supply.pool].append(seen)
    return {each.pool_id: project(each.pool.unassigned, coming[each.pool.key], at, rules.promises) for each in pools}


async def make_plans(connection: Connection, pools: Iterable[StalePool], at: datetime, rules: Rules) -> dict[int, Plan]:
    """The plans of those pools that need one, by pool id."""
    to_plan = [each for each in pools if each.is_stale and needs_plan(each.pool, at)]
    if not to_plan:
        return {}
    projections = await read_projections(connection, to_plan, at, rules)
    found = await read_lines(connection, to_plan, projections, at)
    made = {
        each.pool_id: Plan(each.revision, moves(each.pool, found[each.pool_id], projections[each.pool_id], at))
        for each in to_plan
    }
    await store.limit_idling(connection, sum(map(len, found.values())))
    return made


async def read_lines(
    connection: Connection, pools: Sequence[StalePool], projections: Mapping[int, Projection], at: datetime
) -> dict[int, list[tuple[Waiting, int]]]:
    """By pool id, all lines whose promise moves and few others, each with the units that wait ahead and its own."""
    known = [_known(each, projections[each.pool_id], at) for each in pools]
    rows = await run(connection, "lines_to_plan", *columns(known, 4))
    await store.allow_idling(connection, len(rows))
    found: dict[int, list[tuple[Waiting, int]]] = {each.pool_id: [] for each in pools}
    for row in rows:
        found[row["pool_id"]].append((store.waiting_of(row), row["wanted"]))
    return found


def _known(stale: StalePool, projection: Projection, at: datetime) -> tuple[int, str, int | None, datetime | None]:
    """What `lines_to_plan` has to know of a pool to leave out the lines whose date stays."""
    release_at = stale.pool.release_at(at)
    text = steps_as_json(steps(projection, release_at, at))
    return stale.pool_id, text, stale.pool.policy.default_lead_time_days, release_at


def steps_as_json(known: Iterable[tuple[int, Promise]]) -> str:
    """The units of each step with the day that is promised up to there, as text: arrays of them differ in length."""
    days = [(reached, in_utc(promise.at).date()) for reached, promise in known if promise.at]
    return json.dumps([[reached for reached, _ in days], [day.isoformat() for _, day in days]])


def shown_as_json(shown: Shown) -> str:
    next_at = shown.next_promise_at
    return json.dumps(asdict(shown) | {"next_promise_at": None if next_at is None else next_at.isoformat()})


def _shown(text: str | None) -> Shown | None:
    if text is None:
        return None
    kept = json.loads(text)
    next_at = kept["next_promise_at"]
    kept["next_promise_at"] = None if next_at is None else datetime.fromisoformat(next_at)
    return Shown(**kept)
