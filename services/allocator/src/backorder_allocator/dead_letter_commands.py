"""`backorder-allocator dlq …`: messages that could not be used are listed, shown, driven again, forgotten."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import typer

from backorder_allocator import answers, arguments, dead_letters, redriving, settings
from backorder_allocator.output import as_json, show_table
from backorder_allocator.statements import Connection
from backorder_allocator.terminal import Json, load, say, understood

dlq = typer.Typer(no_args_is_help=True, help="Messages that could not be used: list, look at, drive again, forget.")

Reason = Annotated[str | None, typer.Option(help="Only those with this reason, such as invalid.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most, oldest first.")]
All = Annotated[bool, typer.Option("--all", help="Also those that were driven again with success.")]


@dlq.command("list")
def dlq_list(reason: Reason = None, all_too: All = False, limit: Limit = 1000, json: Json = False) -> None:
    """List dead letters."""
    find = partial(dead_letters.find, reason=reason, resolved_too=all_too, limit=limit)
    letters = asyncio.run(answers.with_connection(load(), find))
    show_table([redriving.summary(letter) for letter in letters], json=json)


@dlq.command("show")
def dlq_show(
    dead_letter_id: int,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show all values: they may be contact data.")] = False,
    _json: Json = True,
) -> None:
    """Show one dead letter, always as JSON. Values that may be contact data are masked."""
    find = partial(dead_letters.find, dead_letter_id=dead_letter_id, resolved_too=True)
    letters = asyncio.run(answers.with_connection(load(), find))
    if not letters:
        raise typer.Exit(say(f"there is no dead letter {dead_letter_id}", 1))
    as_json(redriving.shown(letters[0], unmasked=unmasked))


@dlq.command("redrive")
def dlq_redrive(
    dead_letter_id: Annotated[int | None, typer.Argument(help="One dead letter; none: all that match.")] = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    limit: Limit = 1000,
    json: Json = False,
) -> None:
    """Drive dead letters through allocation again. Exit 1 if one can still not be used, or there is none of this id."""
    loaded = load()
    rows = asyncio.run(
        answers.with_connection(
            loaded, lambda connection: _redrive(connection, loaded, dead_letter_id, reason, limit, dry_run)
        )
    )
    if dead_letter_id is not None and not rows:
        raise typer.Exit(say(f"there is no dead letter {dead_letter_id}", 1))
    show_table(rows, json=json)
    if any(row["outcome"] == "dead_letter" for row in rows):
        raise typer.Exit(1)


async def _redrive(
    connection: Connection,
    loaded: settings.Settings,
    dead_letter_id: int | None,
    reason: str | None,
    limit: int,
    dry_run: bool,
) -> list[dict[str, Any]]:
    # One that is named and was resolved before is answered, too.
    letters = await dead_letters.find(
        connection, dead_letter_id=dead_letter_id, reason=reason, resolved_too=dead_letter_id is not None, limit=limit
    )
    return [row async for row in redriving.drive(connection, loaded.rules(), letters, dry_run=dry_run)]


@dlq.command("purge")
def dlq_purge(
    older_than: Annotated[str, typer.Option("--older-than", metavar="TIME", help="Such as 30d or 36h.")],
    json: Json = False,
) -> None:
    """Forget dead letters that are older than that, driven again or not: they may hold contact data."""
    age = understood(arguments.span, older_than)
    if age < timedelta(0):
        raise typer.BadParameter(f"{older_than!r} is not an age")
    before = datetime.now(UTC) - age
    purged = asyncio.run(answers.with_connection(load(), partial(dead_letters.purge, before=before)))
    if json:
        as_json({"purged": purged, "failed_before": before})
    else:
        typer.echo(f"purged: {purged}")
