import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest
from asyncpg.exceptions import PostgresError

import backorder_notifier
from backorder_notifier.statements import statement

SQL = files(backorder_notifier).joinpath("sql")
SOURCES = sorted(Path(str(files(backorder_notifier))).glob("*.py"))
STATEMENTS = sorted(entry.name.removesuffix(".sql") for entry in SQL.iterdir())


async def test_each_statement_prepares_against_the_migrated_schema(connection: asyncpg.Connection) -> None:
    wrong = {}
    for name in STATEMENTS:
        try:
            await connection.prepare(statement(name))
        except PostgresError as error:
            wrong[name] = str(error)
    assert not wrong


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_says_what_it_does_and_takes_time_as_an_argument(name: str) -> None:
    text = statement(name)
    code = re.sub(r"--.*", "", text)
    assert text.startswith("-- ")
    assert not re.search(r"\b(now\(\)|current_timestamp|clock_timestamp)", code)
    for number in set(re.findall(r"\$(\d+)", code)):
        assert re.search(rf"\${number}\b|\.\.", text.split("\nSELECT")[0]), f"${number} is not explained"


def test_each_statement_is_run_by_the_one_function_that_has_its_name() -> None:
    functions = Counter(
        name
        for path in SOURCES
        for function, name in re.findall(r"async def (\w+)\([^@]*?run\(\s*connection, \"(\w+)\"", path.read_text())
        if function == name
    )
    # Those of an audit are in a table, each with the sentence that it proves.
    assert functions == Counter(name for name in STATEMENTS if not name.startswith("audit_"))


def test_only_stores_reports_and_migrations_run_sql() -> None:
    for path in SOURCES:
        if not re.fullmatch(r"store|\w+_store|reports|statements|migrate", path.stem):
            assert not re.search(r"\.(fetch|fetchrow|fetchval|execute|executemany)\(", path.read_text()), path.name


async def plan_of(connection: asyncpg.Connection, name: str, *arguments: str) -> str:
    text = statement(name)
    for number, argument in reversed(list(enumerate(arguments, 1))):
        text = text.replace(f"${number}", argument)
    return "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + text))


async def test_what_is_known_of_an_order_is_found_by_index_among_many(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO orders (order_id, known_at, customer_id, tell_at)
        SELECT 'o' || i, now(), 'c' || i, CASE WHEN i % 100 = 0 THEN now() END FROM generate_series(1, 20000) i;
        INSERT INTO customers (customer_id) SELECT 'c' || i FROM generate_series(1, 20000) i;
        INSERT INTO updates (
            event_id, order_id, topic, kind, caused_by, occurred_at, recorded_at, event, state, decided_at
        )
        SELECT 'e' || i, 'o' || i, 'backorders', 'shipped', 'x', now(), now(), '{}', 'told', now()
        FROM generate_series(1, 20000) i;
        ANALYZE;
        """
    )
    for name, arguments, index in (
        ("lock_orders", ("ARRAY['o1', 'o2']",), "orders_pkey"),
        ("lock_customers", ("ARRAY['c1', 'c2']",), "customers_pkey"),
        ("known_updates", ("ARRAY['e1', 'e2']",), "updates_pkey"),
        ("pending_marks", ("ARRAY['o1', 'o2']",), "updates_pending"),
        ("revive_shipments", ("ARRAY['o1']", "ARRAY[now()]"), "updates_of_order"),
    ):
        plan = await plan_of(connection, name, *arguments)
        assert index in plan, f"{name}\n{plan}"
        assert "Seq Scan" not in plan, f"{name}\n{plan}"
