"""Every statement fits the migrated schema, says what it guarantees, and the hot ones use their index."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from backorder_allocator import statements
from tests.conftest import Databases

PACKAGE = Path(str(files("backorder_allocator")))
NAMES = sorted(path.stem for path in (PACKAGE / "sql").glob("*.sql"))


@pytest.fixture(scope="module")
async def empty(postgres: Databases, migrated: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.create_database(template=migrated))
    yield connection
    await connection.close()


@pytest.mark.parametrize("name", NAMES)
async def test_a_statement_fits_the_schema_and_begins_with_what_it_guarantees(
    empty: asyncpg.Connection, name: str
) -> None:
    text = statements.statement(name)
    assert text.startswith("-- ")
    assert not re.search(r"\bnow\s*\(", text, re.IGNORECASE), "time comes in as a parameter"
    if not text.splitlines()[-1].startswith("NOTIFY"):
        await empty.prepare(text)


def test_every_statement_is_used_and_none_is_missing() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py"))
    used = set(re.findall(r'(?:run|stream)\(\s*[\w.]+,\s*"(\w+)"', code))
    used |= set(re.findall(r'"((?:audit|compare)_\w+)"', code))
    assert used == set(NAMES)


LONG = """
INSERT INTO pools (sku, location, on_hand, allocated, waiting)
VALUES ('HOT', 'main', 50000, 50000, 100000), ('COLD', 'main', 9, 9, 9);
INSERT INTO orders (order_id, placed_at, ranked_at)
SELECT format('o%s', n), at, at
FROM generate_series(1, 150000) n, LATERAL (SELECT '2026-11-02Z'::timestamptz + n * interval '1 s') AS t (at);
INSERT INTO lines
SELECT format('o%s', n), 1, 1, '2026-11-02Z'::timestamptz + n * interval '1 s', 1,
       CASE WHEN n <= 50000 THEN 1 ELSE 0 END, CASE WHEN n <= 50000 THEN 0 ELSE 1 END, 0, 0, 0,
       CASE WHEN n <= 50000 THEN 1 ELSE 0 END, CASE WHEN n <= 50000 THEN '[[1, 1]]'::jsonb ELSE '[]' END
FROM generate_series(1, 150000) n;
INSERT INTO lines
SELECT format('held %s', n), 1, 2, '2026-11-02Z'::timestamptz + n * interval '1 s', 1, 1, 0, 0, 0, 0, 0, '[]'
FROM generate_series(1, 9) n;
INSERT INTO queue_days SELECT 1, '2026-11-02Z'::date, 36400 UNION SELECT 1, '2026-11-03Z'::date, 63600;
INSERT INTO queue_days
SELECT pool, '2026-01-01'::date + day, 1 FROM generate_series(3, 300) pool, generate_series(1, 300) day;
INSERT INTO policies
SELECT format('S%s', n), 1, NULL, 'allow', NULL, NULL, 0, NULL, NULL, NULL, '{}', false, '', '2026-11-02Z', 'x'
FROM generate_series(1, 10000) n;
INSERT INTO supplies
    (sku, supply_id, revision, pool_id, quantity, received, expected_at, cancelled, overdue, fingerprint)
SELECT 'HOT', format('s%s', n), 1, 1, 5, CASE WHEN n <= 3 THEN 0 ELSE 5 END, '2026-11-09Z', false, false, ''
FROM generate_series(1, 50000) n;
INSERT INTO fulfilments (kind, shipment_id, order_id, body, fingerprint, early, waits, happened_at, batch_id, ordinal)
SELECT 'shipped', 'sh', format('o%s', n), '{}', '', n <= 3, n <= 3, '2026-11-02Z', n, 0
FROM generate_series(1, 50000) n;
INSERT INTO timers SELECT 'escalate', format('o%s', n), '', '2026-11-09Z' FROM generate_series(1, 50000) n;
INSERT INTO journal
SELECT n, n, 'batch', '[]', '2026-11-02Z', (n - 1) * 100 + 1, 100, 100, 0, 0, 0 FROM generate_series(1, 1000) n;
INSERT INTO events
SELECT (n - 1) / 100 + 1, (n - 1) % 100, 'allocations', format('o%s', n), 1, gen_random_uuid(), 'AllocationReleased',
       '2026-11-02Z', 'x', NULL, '{}'
FROM generate_series(1, 100000) n;
ANALYZE;
"""

DAY_2 = datetime(2026, 11, 3, tzinfo=UTC)
HOT: dict[str, tuple[tuple[Any, ...], str, int]] = {
    "queue_heads": (([1], [7]), "lines_waiting", 7),
    "queue_tails": (([1, 2], [7, 7], ["o5", "o50006"]), "lines_released", 8),
    "queue_of_pool": ((1, 10), "lines_waiting", 10),
    "units_ahead": (([1, 1], [DAY_2 + timedelta(seconds=50)] * 2, ["a", "b"], [1, 1]), "lines_waiting", 51),
    "move_queue_days": (([1, 1, 7], [DAY_2] * 3, [1, 2, 3]), "queue_days_pkey", 2),
    "orders_holding": (([1, 2],), "lines_held", 9),
    "lock_orders": ((["o5", "o6"],), "orders_pkey", 2),
    "read_orders": ((["o5", "o6"],), "orders_pkey", 2),
    "lines_of_orders": ((["o5", "o6"],), "lines_pkey", 2),
    "lines_by_order": (("o50007",), "lines_waiting", 6),
    "units_of_orders": ((["o5", "o6"], ["o5"], [1], [1]), "lines_pkey", 2),
    "early_shipments": ((["o2", "o600"],), "fulfilments_that_wait", 1),
    "known_fulfilments": ((["shipped"], ["sh"], ["o600"]), "fulfilments_pkey", 1),
    "book_fulfilments": ((["sh"], ["o2"]), "fulfilments_pkey", 1),
    "lock_pools": (([1, 2],), "pools", 2),
    "policies_of_skus": ((["S5", "S6"],), "policies_pkey", 2),
    "supplies_to_come": (([1, 2],), "supplies_to_come", 3),
    "lock_supplies": ((["s5"], ["HOT"]), "supplies_pkey", 2),
    "pools_of_supplies": ((["s5"], ["HOT"]), "supplies_pkey", 1),
    "take_timer": (("escalate", "o5", "", datetime(2026, 11, 9, tzinfo=UTC)), "timers_due", 1),
    "drop_timers": ((["escalate"], ["o5"], [""]), "timers_pkey", 1),
    "events_to_publish": ((900, 89950, 50), "events_pkey", 150),
    "events_by_order": (("o5",), "a_version_is_given_once", 1),
}


@pytest.fixture(scope="module")
async def long_queue(postgres: Databases, migrated: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.create_database(template=migrated))
    await connection.execute(LONG)
    yield connection
    await connection.close()


@pytest.mark.parametrize("plan", ["custom", "generic"])
@pytest.mark.parametrize("name", HOT)
async def test_a_hot_statement_reads_by_its_index_and_no_more_rows_than_it_needs(
    long_queue: asyncpg.Connection, name: str, plan: str
) -> None:
    """On 100,000 waiting lines in one pool and 100,000 past events, also by the plan that is made for any arguments."""
    args, index, most_rows = HOT[name]
    transaction = long_queue.transaction()
    await transaction.start()
    try:
        await long_queue.execute(f"SET LOCAL plan_cache_mode = force_{plan}_plan")
        (row,) = await long_queue.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statements.statement(name)}", *args)
    finally:
        await transaction.rollback()
    nodes = list(_nodes(json.loads(row[0])[0]["Plan"]))
    assert index in {node.get("Index Name", node.get("Relation Name")) for node in nodes}
    read = [
        (node["Relation Name"], (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in nodes
        if node["Node Type"].endswith("Scan") and "Relation Name" in node
    ]
    assert max(rows for _, rows in read) <= most_rows, read


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
