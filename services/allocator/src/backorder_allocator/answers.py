"""What operators ask: where does everything stand, who waits and why, which supplier is late."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import asyncpg

from backorder_allocator import connections, reading, store, words
from backorder_allocator.decision import Rules
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.migrate import require_current
from backorder_allocator.output import as_json, show_table
from backorder_allocator.promises import Promise, PromiseRules, plan, project
from backorder_allocator.ranking import sentence
from backorder_allocator.reading import PoolNow
from backorder_allocator.settings import Settings
from backorder_allocator.state import Supply
from backorder_allocator.statements import Connection, run

Result = TypeVar("Result")


async def with_connection(
    settings: Settings, ask: Callable[[Connection], Awaitable[Result]], *, migrating: bool = False
) -> Result:
    """Ask on a connection of its own, of a database at this version's schema unless `migrating`.

    Raises NotReadyError if the database can't be reached in time, ConfigurationError if its schema is another.
    """
    connect = partial(connections.command_connection, settings)
    connection = await connections.patiently("PostgreSQL", connect, settings.start_timeout_seconds)
    try:
        if not migrating:
            await require_current(connection)
        return await ask(connection)
    finally:
        await connection.close()


async def status(connection: Connection) -> dict[str, Any]:
    """Input positions, publishing, queues and dead letters. Keys are documented in the README."""
    row = dict((await run(connection, "status"))[0])
    server, decided = await run(connection, "newest_identity"), await run(connection, "newest_intervention")
    return row | {
        "identity": dict(server[0]) if server else None,
        "last_intervention": dict(decided[0]) if decided else None,
        "cursors": [dict(cursor) for cursor in await run(connection, "all_cursors")],
    }


async def positions(connection: Connection) -> dict[tuple[str, int], int]:
    """How far each input partition is worked."""
    rows = await run(connection, "all_cursors")
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


def show_status(found: dict[str, Any], *, json: bool) -> None:
    if json:
        as_json(found)
        return
    plain = {name: value for name, value in found.items() if name != "cursors"}
    for name in ("identity", "last_intervention"):
        plain[name] = (
            ", ".join(f"{key} {value}" for key, value in (found[name] or {}).items() if value is not None) or None
        )
    show_table([{"what": name, "value": value} for name, value in plain.items()], json=False)
    show_table(found["cursors"], json=False, title="done up to")


async def queue(
    connection: Connection, sku: str, location: str | None, limit: int, rules: Rules, now: datetime
) -> list[dict[str, Any]]:
    """The pools of a SKU, what is to come for them, and their first `limit` waiting lines in the order of serving.

    Dates are planned anew from the rows. Raises ConfigurationError for a SKU that nobody named.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        pools = await reading.pools_of(connection, [sku], rules.default_policy, location)
        if not pools:
            where = "" if location is None else f" at {location}"
            raise ConfigurationError(f"SKU {sku}{where} is not known: no order, stock or supply has named it")
        supplies = await reading.supplies_of(connection, [each.pool_id for each in pools])
        lines = {each.pool_id: await run(connection, "queue_of_pool", each.pool_id, limit) for each in pools}
    return [_pool(each, supplies.get(each.pool.key, []), lines[each.pool_id], rules.promises, now) for each in pools]


def _pool(
    found: PoolNow, supplies: Sequence[Supply], lines: Sequence[asyncpg.Record], rules: PromiseRules, now: datetime
) -> dict[str, Any]:
    """One pool. The promises of the first lines of a queue don't depend on the lines behind."""
    pool = found.pool
    coming = [each for supply in supplies if (each := supply.coming(now)) is not None]
    projection = project(pool.unassigned, coming, now, rules)
    dates = dict(zip(projection.supply_ids, projection.dates, strict=True))
    queue = [store.waiting_of(row) for row in lines]
    policy = asdict(pool.policy)
    release_at = pool.release_at(now)
    promises = plan(
        queue, projection, lead_time_days=pool.policy.default_lead_time_days, release_at=release_at, now=now
    )
    return {
        "sku": pool.key.sku,
        "location": pool.key.location,
        "on_hand": pool.on_hand,
        "allocated": pool.allocated,
        "available": pool.available,
        "safety_stock": pool.safety_stock,
        "waiting": pool.waiting,
        "counted_at": pool.counted_at,
        "is_planned": found.is_planned,
        "policy": policy | {"words": words.of_policy(pool, now)},
        "supplies": [
            {
                "supply_id": supply.key.supply_id,
                "supplier": supply.supplier,
                "quantity": supply.quantity,
                "received": supply.received,
                "to_come": supply.to_come,
                "expected_at": supply.expected_at,
                "first_expected_at": supply.first_expected_at,
                "overdue": any(each.overdue for each in coming if each.supply_id == supply.key.supply_id),
                "counts_at": dates.get(supply.key.supply_id),
            }
            for supply in supplies
        ],
        "queue": [_line(row, promised) for row, promised in zip(lines, promises, strict=True)],
    }


def _line(row: asyncpg.Record, planned: Promise) -> dict[str, Any]:
    return {
        "place": row["place"],
        "order_id": row["order_id"],
        "line_no": row["line_no"],
        "quantity_waiting": row["quantity_waiting"],
        "quantity_ordered": row["quantity_ordered"],
        "placed_at": row["placed_at"],
        "ranked_at": row["ranked_at"],
        "head_start": row["head_start"],
        "head_start_reason": row["head_start_reason"],
        "why": sentence(row["head_start"], row["head_start_reason"]),
        "promised_at": row["promised_at"],
        "first_promised_at": row["first_promised_at"],
        "planned_at": planned.at,
        "covered_by": words.covered_by(planned),
        "supply_id": planned.supply_id,
    }


def show_queue(found: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        as_json(found)
        return
    for pool in found:
        safety = f", safety stock {pool['safety_stock']}" if pool["safety_stock"] else ""
        print(
            f"{pool['sku']} at {pool['location']}: {pool['on_hand']} on hand, {pool['allocated']} allocated{safety}, "
            f"{pool['available']} available, {pool['waiting']} waiting"
        )
        print(f"policy: {pool['policy']['words']}")
        for each in pool["supplies"]:
            late = ", overdue" if each["overdue"] else ""
            leans = "" if each["counts_at"] else "; no promise leans on it"
            print(
                f"to come: {each['to_come']} of {each['quantity']} by {each['supplier']} (supply {each['supply_id']}), "
                f"expected at {words.moment(each['expected_at'])}{late}{leans}"
            )
        columns = ("place", "order_id", "line_no", "quantity_waiting", "quantity_ordered", "placed_at", "promised_at")
        show_table(
            [
                {name: row[name] for name in columns}
                | {"covered_by": row["supply_id"] or row["covered_by"], "why": row["why"]}
                for row in pool["queue"]
            ],
            json=False,
        )


async def suppliers(connection: Connection, now: datetime) -> list[dict[str, Any]]:
    """How each supplier keeps its dates. Keys are documented in the README."""
    return [dict(row) for row in await run(connection, "suppliers", now)]
