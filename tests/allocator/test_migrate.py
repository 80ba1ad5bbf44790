"""The schema goes forward only, once, and says clearly where a database does not fit."""

import asyncio

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
