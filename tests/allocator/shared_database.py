"""One database for many examples of a property, one after the other: to make one for each would take longer than it."""

import asyncio
from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True)
class SharedDatabase:
    """Examples are plain functions, so the loop comes along. Each leaves the database as it found it."""

    runner: asyncio.Runner
    connection: asyncpg.Connection
