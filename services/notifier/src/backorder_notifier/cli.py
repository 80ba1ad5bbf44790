"""The command `backorder-notifier`."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import asyncpg
import typer

from backorder_notifier import intake, migrate, store
from backorder_notifier.display import (
    dead_letter_content,
    dead_letter_json,
    delivery_json,
    print_json,
    print_rows,
    status_json,
)
from backorder_notifier.errors import WRONG_ADDRESS, ConfigurationError, NotifierError, UnreachableError, is_not_ready
from backorder_notifier.settings import Settings, read_settings
from backorder_notifier.shown_settings import shown

T = TypeVar("T")
Work = Callable[[asyncpg.Connection], Awaitable[T]]

cli = typer.Typer(
    help="Tells customers what happens to their backorders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dlq = typer.Typer(help="Messages that could not be used.", no_args_is_help=True)
cli.add_typer(dlq, name="dlq")

Json = Annotated[bool, typer.Option("--json", help="JSON with stable keys.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]


def main() -> None:
    """Exit codes: 0 fine, 1 it found a problem, 2 wrong usage or settings, 3 database or Kafka not reachable."""
    try:
        cli()
    except NotifierError as error:
        sys.stderr.write(f"backorder-notifier: {error}\n")
        sys.exit(error.exit_code)


@cli.command("run")
def run() -> None:
    """Read events, tell customers, publish outcomes; until SIGTERM or Ctrl-C."""
    from backorder_notifier.app import run as serve  # noqa: PLC0415 - half a second that other commands don't need

    asyncio.run(serve(_settings()))


@cli.command("migrate")
def migrate_command(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if something is pending.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the database to the schema of this release."""

    async def work(connection: asyncpg.Connection) -> list[migrate.Migration]:
        return await (migrate.pending(connection) if check else migrate.migrate(connection, datetime.now(UTC)))

    names = [migration.name for migration in _with_database(work)]
    if as_json:
        print_json({"pending": names} if check else {"applied": names})
    else:
        verb = "pending" if check else "applied"
        sys.stdout.write("".join(f"{verb} {name}\n" for name in names) or "the schema is up to date\n")
    if check and names:
        raise typer.Exit(1)


@cli.command("status")
def status(as_json: Json = False) -> None:
    """How many deliveries are in which state, what waits, and where reading goes on."""

    async def work(connection: asyncpg.Connection) -> dict[str, Any]:
        await migrate.check(connection)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return status_json(
                await store.count_states(connection),
                await store.backlog(connection),
                await store.list_cursors(connection),
            )

    content = _with_database(work)
    if as_json:
        print_json(content)
        return
    print_rows(content["deliveries"], ("kind", "state", "reason", "deliveries"), "No deliveries yet.")
    print_rows(
        [{"waits": name.replace("_", " "), "value": value} for name, value in content["waits"].items()],
        ("waits", "value"),
        "",
    )
    print_rows(content["cursors"], ("topic", "partition", "next_offset"), "Nothing was read yet.")


@cli.command("outbox")
def outbox(
    state: Annotated[list[str] | None, typer.Option(help="due, waiting_for_contact, sent, failed or withheld.")] = None,
    order: Annotated[str | None, typer.Option("--order", help="Of this order only.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """What customers are told: every message with its state, newest first."""
    known = {"due", "waiting_for_contact", "sent", "failed", "withheld"}
    if unknown := set(state or ()) - known:
        raise ConfigurationError(f"--state {', '.join(sorted(unknown))}: should be one of {', '.join(sorted(known))}")

    async def work(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        await migrate.check(connection)
        return [delivery_json(row) for row in await store.list_deliveries(connection, state or None, order, limit)]

    rows = _with_database(work)
    if as_json:
        print_json(rows)
    else:
        columns = ("recorded_at", "order_id", "position", "kind", "state", "reason", "attempts", "settled_at")
        print_rows(rows, columns, "Nothing.")


@cli.command("settings")
def settings_command(as_json: Json = False) -> None:
    """Every setting, its value and default; secrets masked."""
    rows = [
        {"name": row.name, "value": row.value, "default": row.default, "is_set": row.is_set}
        for row in shown(_settings())
    ]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("name", "value", "default"), "")


@dlq.command("list")
def dlq_list(
    reason: Annotated[list[str] | None, typer.Option(help="Only with this reason.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Where they were and why they are refused, newest first."""

    async def work(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        await migrate.check(connection)
        return [dead_letter_json(row) for row in await store.list_dead_letters(connection, reason or None, limit)]

    rows = _with_database(work)
    if as_json:
        print_json(rows)
    else:
        columns = ("id", "topic", "partition", "offset", "reason", "detail", "failed_at", "redriven_at")
        print_rows(rows, columns, "No dead letters.")


@dlq.command("show")
def dlq_show(
    dead_letter_id: Annotated[int, typer.Argument(metavar="ID")],
    reveal: Annotated[bool, typer.Option("--reveal", help="With values, which may be contact data.")] = False,
    as_json: Json = False,
) -> None:
    """One of them; key, value and headers masked unless asked."""

    async def work(connection: asyncpg.Connection) -> dict[str, Any] | None:
        await migrate.check(connection)
        row = await store.read_dead_letter(connection, dead_letter_id)
        return None if row is None else dead_letter_json(row) | dead_letter_content(row, reveal=reveal)

    content = _with_database(work)
    if content is None:
        raise ConfigurationError(f"there is no dead letter {dead_letter_id}")
    if as_json or not sys.stdout.isatty():
        print_json(content)
    else:
        print_rows([{"field": name, "value": value} for name, value in content.items()], ("field", "value"), "")


@dlq.command("redrive")
def dlq_redrive(
    dead_letter_ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    reason: Annotated[list[str] | None, typer.Option(help="All with this reason.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen.")] = False,
    as_json: Json = False,
) -> None:
    """Use stored bytes again, in the same transaction as a batch would. Twice has the effect of once."""
    if not dead_letter_ids and not reason and not every:
        raise ConfigurationError("dlq redrive: name ids, a --reason, or --all")
    settings = _settings()

    async def work(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        await migrate.check(connection)
        rows: list[dict[str, Any]] = []
        while True:
            # In parts, each a transaction: all there are may be more than memory holds.
            results, _ = await intake.redrive(
                connection,
                datetime.now(UTC),
                settings.start_at,
                dead_letter_ids or None,
                reason or None,
                dry_run=dry_run,
                after=rows[-1]["id"] if rows else 0,
            )
            if not results:
                return rows
            rows += [
                {
                    "id": letter.dead_letter_id,
                    "used": refused is None,
                    "reason": None if refused is None else refused.reason,
                    "detail": None if refused is None else refused.detail,
                }
                for letter, refused in results
            ]

    rows = _with_database(work)
    if as_json:
        print_json({"dry_run": dry_run, "letters": rows})
    else:
        print_rows(rows, ("id", "used", "reason", "detail"), "Nothing to drive again.")
    if any(not row["used"] for row in rows):
        raise typer.Exit(1)


def _settings() -> Settings:
    return read_settings(os.environ)


def _with_database(work: Work[T]) -> T:
    """`work` over one connection. Raises UnreachableError or ConfigurationError where there is none to be had."""
    url = _settings().database_url.get_secret_value()

    async def connected() -> T:
        connection = await asyncpg.connect(
            url, timeout=10, command_timeout=60, server_settings={"application_name": "backorder-notifier-cli"}
        )
        try:
            return await work(connection)
        finally:
            await connection.close(timeout=5)

    try:
        return asyncio.run(connected())
    except WRONG_ADDRESS as error:
        raise ConfigurationError(f"NOTIFIER_DATABASE_URL: the server refuses it ({type(error).__name__})") from None
    except Exception as error:
        if not is_not_ready(error):
            raise
        raise UnreachableError(f"the database is not reachable ({type(error).__name__})") from None
