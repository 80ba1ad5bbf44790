"""How PostgreSQL runs the statements of a batch: EXPLAIN on a loaded database, with nothing kept of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from backorder_allocator.statements import statement
from tests.bench.loaded import Load

AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """One statement, once: where it looked, how many rows its scans gave, pages touched, and how long."""

    statement: str
    scans: str
    rows: int
    buffers: int
    wal_kib: float
    ms: float


async def plans(connection: asyncpg.Connection, load: Load) -> list[Plan]:
    """The statements whose cost could grow, for a batch of 1,000 orders or receipts of one unit."""
    ids = [1 + at % load.pools for at in range(AT_ONCE)]
    pools = sorted(set(ids))
    units = AT_ONCE // len(pools)
    ahead = datetime.now(UTC) - timedelta(days=2)
    found = []
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SET LOCAL jit = off")
        found.append(await explained(connection, "lock_pools", pools))
        heads = [pools, [units] * len(pools)]
        found.append(await explained(connection, "queue_heads", *heads))
        rows = await connection.fetch(statement("queue_heads"), *heads)
        orders = [row["order_id"] for row in rows]
        found.append(await explained(connection, "lock_orders", orders))
        found.append(await explained(connection, "lines_of_orders", orders))
        places = [ids, [ahead] * AT_ONCE, [f"x-{at}" for at in range(AT_ONCE)], [1] * AT_ONCE]
        found.append(await explained(connection, "units_ahead", *places))
        days = [[row["pool_id"] for row in rows], [row["ranked_at"] for row in rows], [-1] * len(rows)]
        found.append(await explained(connection, "move_queue_days", *days))
        numbers = [row["line_no"] for row in rows]
        ones, zeros, nothing = [1] * len(rows), [0] * len(rows), [None] * len(rows)
        changed = [orders, numbers, ones, zeros, zeros, zeros, zeros, ones, ["[[1, 1]]"] * len(rows), *[nothing] * 4]
        found.append(await explained(connection, "update_lines", *changed))
    finally:
        await transaction.rollback()
    return found


async def explained(connection: asyncpg.Connection, name: str, *arguments: Any) -> Plan:
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {statement(name)}", *arguments)
    (answer,) = json.loads(text)
    top = answer["Plan"]
    nodes = list(_nodes(top))
    scans: dict[str, None] = {}
    rows = 0.0
    for node in nodes:
        if "Relation Name" in node and "Scan" in node["Node Type"]:
            by = f" by {node['Index Name']}" if "Index Name" in node else ", whole"
            scans[node["Relation Name"] + by] = None
            rows += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    buffers = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    wal = top.get("WAL Bytes", 0) / 1024
    return Plan(name, "; ".join(scans), round(rows), buffers, wal, answer["Execution Time"])


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
