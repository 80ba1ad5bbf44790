import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from backorder_notifier import migrate
from tests.notifier.season import a_season
from tests.notifier.smtp_script import ScriptedServer, scripted_server
from tests.notifier.world import World


@pytest.fixture(scope="session")
def migrated(postgres: Any) -> str:
    """A database of this release's schema, to be copied."""
    url: str = postgres.create_database()

    async def make() -> None:
        connection = await asyncpg.connect(url)
        await migrate.migrate(connection, datetime.now(UTC))
        await connection.close()

    asyncio.run(make())
    return url


@dataclass(frozen=True)
class Season:
    """A database after a season in which everything happened, to be copied."""

    url: str
    ended_at: datetime


@pytest.fixture(scope="session")
def season(postgres: Any, migrated: str) -> Season:
    url: str = postgres.create_database(template=migrated)

    async def live() -> datetime:
        connection = await asyncpg.connect(url)
        shop = await a_season(connection)
        await connection.close()
        return shop.now

    return Season(url, asyncio.run(live()))


@pytest.fixture
def database(postgres: Any, migrated: str) -> str:
    """The URL of a database of one's own."""
    url: str = postgres.create_database(template=migrated)
    return url


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def script() -> AsyncIterator[ScriptedServer]:
    """A mail server that takes everything until told otherwise."""
    async with scripted_server() as server:
        yield server


@pytest.fixture
async def make_world(
    kafka: str, postgres: Any, migrated: str, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[tuple[World, ScriptedServer]]]]:
    """Makes worlds, each with a mail server of its own."""
    async with AsyncExitStack() as stack:

        async def make() -> tuple[World, ScriptedServer]:
            script = await stack.enter_async_context(scripted_server())
            world = World(kafka, postgres.create_database(template=migrated), tmp_path, script.url)
            stack.push_async_callback(world.close)
            await world.create_topics()
            return world, script

        yield make


@pytest.fixture
async def world(kafka: str, database: str, tmp_path: Path, script: ScriptedServer) -> AsyncIterator[World]:
    world = World(kafka, database, tmp_path, script.url)
    await world.create_topics()
    yield world
    await world.close()
