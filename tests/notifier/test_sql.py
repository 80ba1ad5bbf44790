import inspect
import re
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

import backorder_notifier
from backorder_notifier import store

SQL = files(backorder_notifier).joinpath("sql")
STATEMENTS = sorted(entry.name.removesuffix(".sql") for entry in SQL.iterdir())


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_statement_prepares_against_the_migrated_schema(connection: asyncpg.Connection, name: str) -> None:
    await connection.prepare(store.statement(name))


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_a_function_says_what_it_does_and_takes_time_as_an_argument(name: str) -> None:
    text = store.statement(name)
    code = re.sub(r"--.*", "", text)
    assert text.startswith("-- ")
    assert not re.search(r"\b(now\(\)|current_timestamp|clock_timestamp)", code)
    assert f'_run(connection, "{name}"' in inspect.getsource(getattr(store, name))
    for number in set(re.findall(r"\$(\d+)", code)):
        assert re.search(rf"\${number}\b|\.\.", text.split("\nSELECT")[0]), f"${number} is not explained"


def test_only_the_store_and_migrations_run_sql() -> None:
    for path in Path(str(files(backorder_notifier))).glob("*.py"):
        if path.name not in {"store.py", "migrate.py"}:
            assert not re.search(r"\.(fetch|fetchrow|fetchval|execute|executemany)\(", path.read_text()), path.name


async def test_what_is_due_is_found_by_its_index_among_many_that_are_settled(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO orders (order_id, known_at, customer_id)
        SELECT 'o' || i, now(), 'c' FROM generate_series(1, 20000) i;
        INSERT INTO deliveries (delivery_id, order_id, position, kind, channel, state, due_at, recorded_at, settled_at)
        SELECT gen_random_uuid(), 'o' || i, 1, 'backorder_created', 'email', 'sent', now(), now(), now()
        FROM generate_series(1, 20000) i;
        INSERT INTO deliveries (delivery_id, order_id, position, kind, channel, state, due_at, recorded_at)
        SELECT gen_random_uuid(), 'o' || i, 2, 'backorder_filled', 'email', 'due', now(), now()
        FROM generate_series(1, 50) i;
        ANALYZE;
        """
    )
    plan = await connection.fetch(
        "EXPLAIN " + store.statement("claim_deliveries").replace("$1", "now()").replace("$2", "4")
        .replace("$3", "gen_random_uuid()").replace("$4", "now()")
    )  # fmt: skip
    text = "\n".join(row[0] for row in plan)
    assert "deliveries_due" in text
    assert "Seq Scan on deliveries" not in text
