"""The schema goes forward only, once, and says clearly where a database does not fit."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from backorder_allocator import migrate
from backorder_allocator.errors import ConfigurationError
from tests.conftest import Databases


async def test_migrating_twice_changes_nothing_the_second_time(connection: asyncpg.Connection) -> None:
    assert await migrate.apply(connection) == []
    assert await migrate.pending(connection) == []


async def test_an_empty_database_has_everything_pending_and_is_refused(postgres: Databases) -> None:
    connection = await asyncpg.connect(postgres.create_database())
    assert await migrate.pending(connection) == migrate.migrations()
    with pytest.raises(ConfigurationError, match="run `backorder-allocator migrate`"):
        await migrate.require_current(connection)
    await connection.close()


async def test_four_processes_that_migrate_at_once_apply_each_migration_once(postgres: Databases) -> None:
    url = postgres.create_database()
    connections = [await asyncpg.connect(url) for _ in range(4)]
    applied = await asyncio.gather(*(migrate.apply(each) for each in connections))
    assert sorted(len(each) for each in applied) == [0, 0, 0, len(migrate.migrations())]
    for each in connections:
        await each.close()


async def test_a_database_of_a_newer_version_is_refused(connection: asyncpg.Connection) -> None:
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_future', 'x')")
    with pytest.raises(ConfigurationError, match="9999_future"):
        await migrate.require_current(connection)


async def test_a_migration_whose_text_was_changed_is_refused(connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1")
    with pytest.raises(ConfigurationError, match="0001_foundation"):
        await migrate.require_current(connection)


OF_THE_FIRST_VERSION = """
INSERT INTO pools (sku, location, waiting) VALUES ('X', 'main', 7), ('X', 'outlet', 0);
INSERT INTO lines
SELECT format('o%s', n), 1, 1, '2026-11-02T12:00Z'::timestamptz + n * interval '8 hours', n, 0, n, 0, 0, 0, 0, '[]'
FROM unnest(ARRAY[1, 2, 4]) AS n;
INSERT INTO stock_movements
SELECT pool_id, 'received', 'r', 3, 's', NULL, '', '2026-11-02Z', 'x' FROM pools;
"""


async def test_what_a_database_of_the_first_version_holds_is_counted_by_day_and_by_supply(
    postgres: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(postgres.create_database())
    every = migrate.migrations()
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "migrations", lambda: every[:1])
        await migrate.apply(connection)
    await connection.execute(OF_THE_FIRST_VERSION)
    await migrate.apply(connection)
    days = await connection.fetch("SELECT day::text, waiting FROM queue_days ORDER BY day")
    assert [tuple(row) for row in days] == [("2026-11-02", 1), ("2026-11-03", 6)]
    pools = await connection.fetch("SELECT queue_end, named, stale_since FROM pools ORDER BY pool_id")
    assert [row["queue_end"] for row in pools] == [datetime(2026, 11, 3, 20, tzinfo=UTC), None]
    assert all(row["named"] and row["stale_since"] for row in pools)
    (supply,) = await connection.fetch("SELECT sku, supply_id, received, revision, to_come FROM supplies")
    assert tuple(supply) == ("X", "s", 6, 0, 0)
    await connection.close()
