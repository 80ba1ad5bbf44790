"""`backorder-notifier dlq …`: messages that could not be used are listed, shown, driven again, forgotten."""

import sys
from typing import Annotated, Any, Final

import asyncpg
import typer

from backorder_notifier import intake, privacy_store, store, terminal
from backorder_notifier.display import dead_letter_content, dead_letter_json, moment, print_json, print_rows
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.terminal import Json, Limit, answer, problem, with_database

dlq = typer.Typer(help="Messages that could not be used.", no_args_is_help=True)

_PORTION: Final = 1000  # of dead letters in one transaction
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only with this reason.")]


@dlq.command("list")
def dlq_list(reason: Reasons = None, limit: Limit = 100, as_json: Json = False) -> None:
    """Where they were and why they are refused, newest first."""

    async def work(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        return [dead_letter_json(row) for row in await store.list_dead_letters(connection, reason or None, limit)]

    columns = ("id", "topic", "partition", "offset", "reason", "detail", "failed_at", "redriven_at")
    answer(with_database(work), columns, "No dead letters.", as_json=as_json)


@dlq.command("show")
def dlq_show(
    dead_letter_id: Annotated[int, typer.Argument(metavar="ID")],
    reveal: Annotated[bool, typer.Option("--reveal", help="With values, which may be contact data.")] = False,
    as_json: Json = False,
) -> None:
    """One of them; key, value and headers masked unless asked."""

    async def work(connection: asyncpg.Connection) -> dict[str, Any] | None:
        row = await store.read_dead_letter(connection, dead_letter_id)
        return None if row is None else dead_letter_json(row) | dead_letter_content(row, reveal=reveal)

    content = with_database(work)
    if content is None:
        problem(f"there is no dead letter {dead_letter_id}")
    if as_json or not sys.stdout.isatty():
        print_json(content)
    else:
        print_rows([{"field": name, "value": value} for name, value in content.items()], ("field", "value"), "")


@dlq.command("redrive")
def dlq_redrive(
    dead_letter_ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    reason: Reasons = None,
    every: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen.")] = False,
    as_json: Json = False,
) -> None:
    """Use stored bytes again, in the same transaction as a batch would. Twice has the effect of once."""
    if not dead_letter_ids and not reason and not every:
        raise ConfigurationError("dlq redrive: name ids, a --reason, or --all")
    policy = terminal.settings().policy

    async def work(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            # In parts, each a transaction: all there are may be more than memory holds.
            results, _ = await intake.redrive(
                connection,
                terminal.now(),
                policy,
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

    rows = with_database(work)
    if as_json:
        print_json({"dry_run": dry_run, "letters": rows})
    else:
        print_rows(rows, ("id", "used", "reason", "detail"), "Nothing to drive again.")
    if any(not row["used"] for row in rows):
        raise typer.Exit(1)


@dlq.command("purge")
def dlq_purge(
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="Such as 30d or 36h.")],
    as_json: Json = False,
) -> None:
    """Forget those that failed before then, driven again or not: they may hold contact data.

    One that is not published yet stays.
    """
    before = terminal.now() - terminal.age(older_than)

    async def work(connection: asyncpg.Connection) -> int:
        purged = 0
        while portion := await privacy_store.purge_dead_letters(connection, before, _PORTION):
            purged += portion
        return purged

    purged = with_database(work)
    if as_json:
        print_json({"purged": purged, "failed_before": moment(before)})
    else:
        sys.stdout.write(f"purged {purged}\n")
