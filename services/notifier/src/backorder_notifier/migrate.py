"""Forward-only migrations: migrations/0001_….sql and on, each in a transaction of its own, their checksums kept."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files

import asyncpg

from backorder_notifier.errors import ConfigurationError
from backorder_notifier.statements import Connection

LOCK = 0x626F5F6E6F746966  # "bo_notif": one migration at a time per database

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    checksum: str
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All of this release, in order."""
    found = []
    for entry in sorted(files(__package__).joinpath("migrations").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            sql = entry.read_text(encoding="utf-8")
            number, _, _rest = entry.name.partition("_")
            checksum = hashlib.sha256(sql.encode()).hexdigest()
            found.append(Migration(int(number), entry.name.removesuffix(".sql"), checksum, sql))
    return tuple(found)


async def pending(connection: Connection) -> list[Migration]:
    """What is to be applied, in order. Raises ConfigurationError where the database is not one of this release."""
    applied: dict[int, tuple[str, str]] = {}
    if await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations ORDER BY version")
        applied = {row["version"]: (row["name"], row["checksum"]) for row in rows}
    known = {migration.version: migration for migration in migrations()}
    for version, (name, checksum) in applied.items():
        if version not in known:
            raise ConfigurationError(
                f"the database has migration {name}, which this release does not know: it is too old"
            )
        if checksum != known[version].checksum:
            raise ConfigurationError(
                f"migration {name} is not the one that the database was made with (checksums differ)"
            )
    return [migration for version, migration in known.items() if version not in applied]


async def check(connection: Connection) -> None:
    """Raises ConfigurationError unless the schema is exactly that of this release."""
    if missing := await pending(connection):
        names = ", ".join(migration.name for migration in missing)
        raise ConfigurationError(f"the database lacks {names}: run backorder-notifier migrate")


async def migrate(connection: asyncpg.Connection, now: datetime) -> list[Migration]:
    """Applies what is pending and returns it. Of two at once the second waits, then finds nothing to do."""
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    try:
        await connection.execute(CREATE_TABLE)
        todo = await pending(connection)
        for migration in todo:
            async with connection.transaction():
                # The time as an argument, as everywhere: scripts have no $1.
                await connection.execute("SELECT set_config('backorder.now', $1, true)", now.isoformat())
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                    now,
                )
        return todo
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)
