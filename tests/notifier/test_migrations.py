from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from backorder_notifier import migrate
from backorder_notifier.errors import ConfigurationError
from tests.notifier.world import World


async def test_the_first_time_makes_the_schema_and_the_second_changes_nothing(postgres: Any, tmp_path: Any) -> None:
    world = World("127.0.0.1:1", postgres.create_database(), tmp_path, "smtp://127.0.0.1:1")
    assert await world.json("migrate", "--check", expect=1) == {"pending": ["0001_first"]}
    assert await world.json("migrate") == {"applied": ["0001_first"]}
    assert await world.json("migrate") == {"applied": []}
    assert await world.json("migrate", "--check") == {"pending": []}


async def test_a_migration_that_was_changed_after_it_was_applied_is_refused(connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE schema_migrations SET checksum = 'other'")
    with pytest.raises(ConfigurationError, match="checksums differ"):
        await migrate.check(connection)
    with pytest.raises(ConfigurationError, match="checksums differ"):
        await migrate.migrate(connection, datetime.now(UTC))


async def test_a_database_of_a_newer_release_is_refused(connection: asyncpg.Connection) -> None:
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_future', 'x', now())")
    with pytest.raises(ConfigurationError, match="9999_future"):
        await migrate.check(connection)


async def test_the_service_does_not_start_on_an_empty_database_and_says_what_to_do(
    postgres: Any, kafka: str, tmp_path: Any
) -> None:
    world = World(kafka, postgres.create_database(), tmp_path, "smtp://127.0.0.1:1")
    code, _, err = await world.command("run")
    assert code == 2
    assert "run backorder-notifier migrate" in err.splitlines()[-1]
