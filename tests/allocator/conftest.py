"""A migrated database for each test, copied from one that was migrated once."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from backorder_allocator import migrate
from backorder_allocator.connections import SERVICE
from tests.allocator.shared_database import SharedDatabase
from tests.conftest import Databases


@pytest.fixture(scope="session")
def migrated(postgres: Databases) -> str:
    """The URL of a migrated, empty database that nobody connects to: a template."""
    url = postgres.create_database()

    async def apply() -> None:
        connection = await asyncpg.connect(url)
        try:
            await migrate.apply(connection)
        finally:
            await connection.close()

    asyncio.run(apply())
    return url


@pytest.fixture
def database_url(postgres: Databases, migrated: str) -> str:
    """The URL of a migrated, empty database of this test alone."""
    return postgres.create_database(template=migrated)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's database, with the session settings of the service."""
    connection = await asyncpg.connect(database_url, server_settings=SERVICE)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def database(postgres: Databases, migrated: str) -> Iterator[SharedDatabase]:
    """A migrated database that the examples of a module's properties share."""
    url = postgres.create_database(template=migrated)
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url, server_settings=SERVICE))
        yield SharedDatabase(runner, connection)
        runner.run(connection.close())
