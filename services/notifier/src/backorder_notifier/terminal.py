"""What every command does with its terminal: settings in, a connection, answers out, exit codes."""

import asyncio
import contextlib
import getpass
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NoReturn, TypeVar

import asyncpg
import typer

from backorder_notifier import migrate
from backorder_notifier.display import print_json, print_rows
from backorder_notifier.errors import WRONG_ADDRESS, ConfigurationError, UnreachableError, is_data_error, is_not_ready
from backorder_notifier.settings import Settings, read_settings
from backorder_notifier.statements import Connection

T = TypeVar("T")
Work = Callable[[asyncpg.Connection], Awaitable[T]]

Json = Annotated[bool, typer.Option("--json", help="JSON with stable keys.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]

_LONGEST_AGE: Final = timedelta(days=36_500)

COMMAND_SECONDS = 300
"""Longer than the service allows itself: nobody waits for an operator's answer but the operator."""


def settings() -> Settings:
    return read_settings(os.environ)


def settings_without_database() -> Settings:
    """For commands that need only what the shop's messages look like."""
    return read_settings(os.environ, needs_database=False)


def now() -> datetime:
    """The one place where commands look at the clock."""
    return datetime.now(UTC)


def user() -> str:
    """Who gives this command, as the operating system has it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def user_and_host() -> str:
    """The same with the machine, for what is looked at from others."""
    return f"{user()}@{socket.gethostname()}"


def problem(text: str) -> NoReturn:
    """The command found a problem, or not what it was asked for: exit 1."""
    sys.stderr.write(f"backorder-notifier: {text}\n")
    raise typer.Exit(1)


def answer(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str, *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, columns, empty)


_AGES: Final = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def age(text: str) -> timedelta:
    """ "30d", "36h", "90m" or "2w". Raises ConfigurationError."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdecimal()) or unit not in _AGES or len(number) > 6:
        raise ConfigurationError(f"{text!r} is not an age such as 30d or 36h")
    length = int(number) * _AGES[unit]
    if length > _LONGEST_AGE:
        raise ConfigurationError(f"{text!r} is more than {_LONGEST_AGE.days} days")
    return length


def time_of(text: str) -> datetime:
    """A moment as RFC 3339 with a zone, or as an age such as 2h: so long before now. Raises ConfigurationError."""
    with contextlib.suppress(ConfigurationError):
        return now() - age(text)
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at
    raise ConfigurationError(f"{text!r} is not a time such as 2026-11-02T09:00:00Z, or an age such as 2h or 3d")


def with_database(work: Work[T], *, any_schema: bool = False) -> T:
    """`work` over one connection. Raises UnreachableError or ConfigurationError where there is none to be had."""
    url = settings().database_url.get_secret_value()

    async def connected() -> T:
        connection = await connect(url)
        try:
            if not any_schema:
                await migrate.check(connection)
            return await work(connection)
        finally:
            await connection.close(timeout=5)

    return asyncio.run(saying_where(connected()))


async def saying_where(work: Awaitable[T]) -> T:
    """`work`; what the database refuses is said in words, without the text of the error: that may quote a customer."""
    try:
        return await work
    except WRONG_ADDRESS as error:
        raise ConfigurationError(f"NOTIFIER_DATABASE_URL: the server refuses it ({type(error).__name__})") from None
    except asyncpg.InsufficientPrivilegeError:
        raise ConfigurationError("NOTIFIER_DATABASE_URL: its user lacks a right that this needs") from None
    except Exception as error:
        if is_data_error(error):
            raise ConfigurationError("what is given is nothing that a database could hold") from None
        if not is_not_ready(error):
            raise
        raise UnreachableError(f"the database is not reachable ({type(error).__name__})") from None


async def connect(url: str) -> asyncpg.Connection:
    connection: asyncpg.Connection = await asyncpg.connect(
        url,
        timeout=10,
        command_timeout=COMMAND_SECONDS,
        server_settings={"application_name": "backorder-notifier-cli", "jit": "off", "lock_timeout": "10s"},
    )
    return connection


def reading(work: Callable[[Connection], Awaitable[T]]) -> T:
    """`work` over one snapshot, which nothing is written to."""

    async def look(connection: asyncpg.Connection) -> T:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await work(connection)

    return with_database(look)
