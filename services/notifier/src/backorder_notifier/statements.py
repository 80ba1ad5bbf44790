"""How SQL is run: by functions named as their files in sql/, in the modules called …store, and in reports."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any

import asyncpg

from backorder_notifier.telemetry import SQL_SECONDS, timed

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

STATEMENT_SECONDS = 10
TRANSACTION_SECONDS = 30
COMMAND_SECONDS = 15  # the client gives up after the server should have
BORROW_SECONDS = 20  # for a connection of the pool, and for giving it back


async def open_pool(url: str, *, size: int) -> asyncpg.Pool:
    """Connections whose every wait ends; none is opened yet. What the URL says of TLS holds (default: prefer)."""
    pool: asyncpg.Pool = await asyncpg.create_pool(
        url,
        min_size=0,  # so that a database that is away can be waited for
        max_size=size,
        timeout=10,
        command_timeout=COMMAND_SECONDS,
        connect=_connect,
        server_settings={
            "application_name": "backorder-notifier",
            "jit": "off",
            "statement_timeout": f"{STATEMENT_SECONDS}s",
            "lock_timeout": "5s",
            # A frozen process must not hold the rows of a batch for longer than this.
            "idle_in_transaction_session_timeout": "15s",
        },
    )
    return pool


async def _connect(*arguments: Any, **settings: Any) -> asyncpg.Connection:
    """A connection whose transactions end by themselves, where the server can do that (from PostgreSQL 17 on).

    A process that is frozen while it prepares a statement is not idle to the server, nor is its statement running: no
    other limit would end its transaction, and what it has locked would stay so.
    """
    ending = settings["server_settings"] | {"transaction_timeout": f"{TRANSACTION_SECONDS}s"}
    made: asyncpg.Connection
    try:
        made = await asyncpg.connect(*arguments, **settings | {"server_settings": ending})
    except asyncpg.UndefinedObjectError:
        made = await asyncpg.connect(*arguments, **settings)
    return made


@asynccontextmanager
async def borrowed(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """A connection of the pool. Every wait ends: for a free one, to a server that says nothing, to give it back.

    After a failover connections may lead to a server that only lets us read, and would for ever: all are made anew.
    """
    try:
        async with pool.acquire(timeout=BORROW_SECONDS) as connection:
            yield connection
    except asyncpg.ReadOnlySQLTransactionError:
        await pool.expire_connections()
        raise


@cache
def statement(name: str) -> str:
    """The text of sql/<name>.sql."""
    return files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


async def run(connection: Connection, name: str, *arguments: Any) -> list[asyncpg.Record]:
    """The rows of sql/<name>.sql; its time goes to the metric of that name."""
    with timed(SQL_SECONDS.labels(name)):
        rows: list[asyncpg.Record] = await connection.fetch(statement(name), *arguments)
        return rows


def columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows turned into one list a column, as unnest takes them."""
    lists: list[list[Any]] = [[] for _ in range(width)]
    for row in rows:
        for column, value in zip(lists, row, strict=True):
            column.append(value)
    return lists


def hashable(row: asyncpg.Record) -> list[Any]:
    """The columns, arrays as tuples."""
    return [tuple(value) if isinstance(value, list) else value for value in row]
