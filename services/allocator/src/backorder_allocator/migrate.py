"""Forward-only migrations: numbered SQL files, each run once, in its own transaction, by one process at a time."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

import asyncpg

from backorder_allocator.errors import ConfigurationError
from backorder_allocator.statements import Connection

LOCK = 0x6261636B_616C6C6F
"""Key of the advisory lock that migrations hold."""

CREATE_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of migrations/, such as 0001_foundation.sql."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this version of the service, in order."""
    found = sorted(
        (path for path in files(__package__).joinpath("migrations").iterdir() if path.name.endswith(".sql")),
        key=lambda path: path.name,
    )
    return [
        Migration(int(path.name.split("_")[0]), path.name.removesuffix(".sql"), path.read_text(encoding="utf-8"))
        for path in found
    ]


async def pending(connection: Connection) -> list[Migration]:
    """The migrations that the database lacks.

    Raises ConfigurationError if the database has one that this version doesn't know, or another text of one.
    """
    known = {migration.version: migration for migration in migrations()}
    try:
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations ORDER BY version")
    except asyncpg.UndefinedTableError:
        rows = []
    for row in rows:
        migration = known.pop(row["version"], None)
        if migration is None:
            raise ConfigurationError(
                f"the database has migration {row['name']}, which this version of backorder-allocator doesn't know: "
                "run the version that made it, or a newer one"
            )
        if migration.checksum != row["checksum"]:
            raise ConfigurationError(
                f"migration {row['name']} was applied with another text than this version has: "
                "the database was not made by a released version"
            )
    return list(known.values())


async def apply(connection: Connection) -> list[Migration]:
    """Apply what is pending; gives what was applied."""
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    try:
        await connection.execute(CREATE_HISTORY)
        todo = await pending(connection)
        for migration in todo:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
        return todo
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def require_current(connection: Connection) -> None:
    """Raises ConfigurationError unless the database is exactly at this version."""
    todo = await pending(connection)
    if todo:
        raise ConfigurationError(
            f"the database lacks {len(todo)} migrations, first {todo[0].name}: run `backorder-allocator migrate`"
        )
