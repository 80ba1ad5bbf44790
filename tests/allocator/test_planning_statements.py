"""What the planner, `what-if`, the timers and the relay look for is found by an index, however long the history is."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from backorder_allocator import statements
from backorder_allocator.ranking import EARLIEST
from tests.conftest import Databases

HISTORY = """
INSERT INTO pools (sku, location, waiting, named, stale_since)
SELECT format('s%s', n), 'main', 0, true, CASE WHEN n % 5000 = 0 THEN '2026-11-02Z'::timestamptz END
FROM generate_series(1, 20000) n;
INSERT INTO orders (order_id, placed_at, ranked_at)
SELECT format('o%s', n), '2026-11-02Z', '2026-11-02Z' FROM generate_series(1, 60000) n;
-- Pool 1 has a queue of 5,000 lines, pool 2 one of 3 and 2 held ones; all else has been shipped long ago.
INSERT INTO lines
SELECT format('o%s', n), 1, CASE WHEN n <= 5000 THEN 1 WHEN n <= 5005 THEN 2 ELSE n % 300 + 1 END,
       '2026-11-02Z'::timestamptz + n * interval '1 s', 1, (n > 5003)::int, (n <= 5003)::int, 0, 0, (n > 5005)::int, 0,
       '[]'
FROM generate_series(1, 60000) n;
INSERT INTO timers
SELECT 'escalate', format('o%s', n), '', '2026-11-02Z'::timestamptz + n * interval '1 day'
FROM generate_series(1, 30000) n;
INSERT INTO journal
SELECT n, n, 'planner', '{}', '2026-11-02Z', (n - 1) * 100 + 1, 100, 0, 0, 0, 0 FROM generate_series(1, 500) n;
INSERT INTO events
SELECT (n - 1) / 100 + 1, (n - 1) % 100, 'availability', format('main:s%s', n % 1000), (n - 1) / 1000 + 1,
       gen_random_uuid(), 'SkuAvailability', '2026-11-02Z', 'x', NULL, '{}'
FROM generate_series(1, 50000) n;
ANALYZE;
"""
DAY = datetime(2026, 11, 2, tzinfo=UTC)
STEPS = '[[0, 2], ["2026-11-02", "2026-11-09"]]'
LOOKED_FOR: dict[str, tuple[tuple[Any, ...], str, int]] = {
    "stale_pools": ((1000, [], DAY), "pools_stale", 4),
    "lock_stale_pools": (([1, 2],), "pools_pkey", 2),
    "wait_for_pools": (([1, 2],), "pools_pkey", 2),
    "pools_to_plan": (([1, 2],), "pools_pkey", 2),
    "lines_to_plan": (([2], [STEPS], [None], [DAY]), "lines_waiting", 5),
    "dates_that_move": (
        ([2, None], [STEPS] * 2, [STEPS] * 2, [True] * 2, [1, 2], [DAY] * 2, ["a", "b"], [1, 1], [9, 9]),
        "lines_waiting",
        3,
    ),
    "lock_orders_to_tell": ((["o5", "o6"],), "orders_pkey", 2),
    "write_promises": ((["o5", "o6"], [1, 1], [DAY] * 2, [DAY] * 2, [None] * 2, [None] * 2), "lines_pkey", 2),
    "count_backorder_events": ((["o5", "o6"], [1, 1]), "orders_pkey", 2),
    "write_planned_pools": (([1, 2], [True, False], [None, "{}"], [DAY, None]), "pools_pkey", 2),
    "due_timers": ((DAY + timedelta(7), 100, EARLIEST, "", "", ""), "timers_due", 7),
    "next_timer": ((DAY + timedelta(7),), "timers_due", 1),
    "current_availability": ((491, 49_000, 51_000, 500, 50_000), "a_version_is_given_once", 1000),
}


@pytest.fixture(scope="module")
async def long_history(postgres: Databases, migrated: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.create_database(template=migrated))
    await connection.execute(HISTORY)
    yield connection
    await connection.close()


@pytest.mark.parametrize("plan", ["custom", "generic"])
@pytest.mark.parametrize("name", LOOKED_FOR)
async def test_a_statement_reads_by_its_index_and_no_more_rows_than_it_needs(
    long_history: asyncpg.Connection, name: str, plan: str
) -> None:
    args, index, most_rows = LOOKED_FOR[name]
    transaction = long_history.transaction()
    await transaction.start()
    try:
        await long_history.execute(f"SET LOCAL plan_cache_mode = force_{plan}_plan")
        (row,) = await long_history.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statements.statement(name)}", *args)
    finally:
        await transaction.rollback()
    nodes = list(_nodes(json.loads(row[0])[0]["Plan"]))
    assert index in {node.get("Index Name") for node in nodes}
    read = [
        (node["Relation Name"], (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in nodes
        if node["Node Type"].endswith("Scan") and "Relation Name" in node
    ]
    assert max(rows for _, rows in read) <= most_rows, read


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
