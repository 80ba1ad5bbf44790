"""Worlds for tests: each has its own topics and a copy of one migrated database."""

import secrets
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.e2e.processes import SCRIPTS, clean_environment
from tests.e2e.world import World, made_world

COMPLETE_ESCALATES_AFTER = timedelta(seconds=4)
"""In the world `running`."""


@pytest.fixture(scope="session")
def migrated(postgres: Databases) -> str:
    """The URL of a database that `backorder-allocator migrate` has made; to be copied, not used."""
    return migrated_database(postgres, "allocator")


def migrated_database(postgres: Databases, service: str) -> str:
    url = postgres.create_database()
    settings = {
        f"{service.upper()}_DATABASE_URL": url,
        f"{service.upper()}_KAFKA_BOOTSTRAP_SERVERS": "nobody.example:9092",
    }
    subprocess.run([SCRIPTS / f"backorder-{service}", "migrate"], env=clean_environment() | settings, check=True)
    return url


@pytest.fixture
async def world(kafka: str, postgres: Databases, migrated: str, unique: str, tmp_path: Path) -> AsyncIterator[World]:
    """A system without services yet; what a test starts on it ends with the test."""
    async with made_world(kafka, unique, postgres.create_database(migrated), tmp_path) as made:
        yield made
        print(made.explain())  # pytest shows it where a test failed


@pytest.fixture(scope="package")
async def running(
    kafka: str, postgres: Databases, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """One running allocator for all tests that keep apart by SKUs and orders; audited at the end."""
    prefix = f"t{secrets.token_hex(6)}."
    folder = tmp_path_factory.mktemp("running")
    async with made_world(kafka, prefix, postgres.create_database(migrated), folder) as made:
        days = COMPLETE_ESCALATES_AFTER / timedelta(days=1)
        await made.allocator(ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=f"{days:.12f}")
        yield made
        print(made.explain())
        await made.audit()
