"""The SQL of the service: one statement a file in sql/, file name = statement name = metric label."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from time import perf_counter
from typing import Any

import asyncpg

from backorder_allocator.telemetry import STATEMENT_SECONDS

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Rows = list[asyncpg.Record]


@contextmanager
def _given_up(connection: Connection) -> Iterator[None]:
    """A server that does not even end a statement by its time limit is not there any more.

    Without this, the rollback and the reset of the connection would wait for it once more each.
    """
    try:
        yield
    except TimeoutError:
        connection.terminate()
        raise


@cache
def statement(name: str) -> str:
    """The text of sql/<name>.sql."""
    return files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


async def run(connection: Connection, name: str, *args: Any) -> Rows:
    """Run one statement and give its rows."""
    started = perf_counter()
    with _given_up(connection):
        rows: Rows = await connection.fetch(statement(name), *args)
    STATEMENT_SECONDS.labels(name).observe(perf_counter() - started)
    return rows


async def stream(connection: Connection, name: str, *args: Any) -> AsyncIterator[asyncpg.Record]:
    """The rows of one statement, a portion at a time. Needs a transaction."""
    async for row in connection.cursor(statement(name), *args, prefetch=2000):
        yield row


async def copy(connection: Connection, table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Append rows to a table by COPY."""
    started = perf_counter()
    with _given_up(connection):
        try:
            await connection.copy_records_to_table(table, columns=columns, records=rows)
        except (OverflowError, UnicodeEncodeError) as error:
            # Of a value that no column takes, the driver makes an error of its own only in arguments of statements.
            raise asyncpg.NumericValueOutOfRangeError(type(error).__name__) from error
    STATEMENT_SECONDS.labels(f"copy_{table}").observe(perf_counter() - started)


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as columns, for `unnest`."""
    turned = [list(column) for column in zip(*rows, strict=True)]
    return turned or [[] for _ in range(width)]
