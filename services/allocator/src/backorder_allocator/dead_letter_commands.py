"""`backorder-allocator dlq …`: messages that could not be used are listed, shown, driven again, forgotten."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import typer

from backorder_allocator import answers, arguments, dead_letter_reports, dead_letters, masking, purging, redriving
from backorder_allocator.dead_letters import Facts, Which
from backorder_allocator.interventions import Asked, operator
from backorder_allocator.output import Streamed, as_json, show_table
from backorder_allocator.settings import Settings
from backorder_allocator.statements import Connection
from backorder_allocator.terminal import Json, load, say, understood

dlq = typer.Typer(no_args_is_help=True, help="Messages that could not be used: list, look at, drive again, forget.")

GENTLE = 50.0
"""Letters a second, where nobody says how fast: what is downstream has its ordinary work, too."""

Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Dead letters by their ids.")]
Reasons = Annotated[
    list[str] | None, typer.Option("--reason", metavar="REASON", help="Only with this reason, such as invalid.")
]
Topics = Annotated[list[str] | None, typer.Option("--topic", metavar="TOPIC", help="Only of this topic.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Failed from then on: RFC 3339, or an age such as 2h or 3d.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Failed before then.")]
Why = Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for whoever asks later; without contact data.")]
Who = Annotated[str | None, typer.Option(metavar="NAME", help="Who wants it; else the user of the system.")]


@dlq.command("list")
def dlq_list(
    reason: Reasons = None,
    topic: Topics = None,
    since: Since = None,
    until: Until = None,
    all_too: Annotated[bool, typer.Option("--all", help="Also what was driven again with success.")] = False,
    each: Annotated[bool, typer.Option("--each", help="One by one, oldest first.")] = False,
    causes: Annotated[bool, typer.Option("--causes", help="By cause, also with --json.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 1000,
    json: Json = False,
) -> None:
    """Why messages are dead: by cause, most open ones first. One by one with --each, or --json without --causes."""
    loaded = load()
    which = _which(loaded, None, reason, topic, since, until, resolved_too=all_too)
    if each and causes:
        raise typer.BadParameter("--each or --causes, not both")
    rows: list[dict[str, Any]]
    if causes or not (each or json):
        ask_causes = partial(dead_letter_reports.causes, which=which, limit=limit + 1)
        rows = [asdict(cause) for cause in asyncio.run(answers.with_connection(loaded, ask_causes))]
    else:
        ask_each = partial(dead_letter_reports.listed, which=which, limit=limit + 1)
        letters: list[Facts] = asyncio.run(answers.with_connection(loaded, ask_each))
        rows = [masking.summary(letter) for letter in letters]
    if not rows:
        _note("no dead letters" if all_too else "no dead letters that are open")
    elif len(rows) > limit:
        _note(f"these are the first {limit}: there are more, see --limit")
    if json or not sys.stdout.isatty():
        show_table(rows[:limit], json=json)
    elif rows:
        show_table(rows[:limit] if "count" in rows[0] else [_short(row) for row in rows[:limit]], json=False)
        _note("look at one: dlq show ID; what would become of them now: dlq redrive --reason REASON --dry-run")


@dlq.command("show")
def dlq_show(
    dead_letter_id: Annotated[int, typer.Argument(metavar="ID")],
    unmasked: Annotated[
        bool, typer.Option("--unmasked", "--reveal", help="Show all values: they may be contact data.")
    ] = False,
    _json: Json = True,
) -> None:
    """Show one dead letter with what was done about it, always as JSON. What may be contact data is masked."""

    async def ask(connection: Connection) -> dict[str, Any] | None:
        letters = await dead_letters.find(connection, Which(ids=[dead_letter_id], resolved_too=True))
        redrives = await dead_letter_reports.redrives(connection, dead_letter_id)
        return masking.shown(letters[0], redrives, unmasked=unmasked) if letters else None

    shown = asyncio.run(answers.with_connection(load(), ask))
    if shown is None:
        raise typer.Exit(say(f"there is no dead letter {dead_letter_id}", 1))
    as_json(shown)


@dlq.command("redrive")
def dlq_redrive(
    dead_letter_ids: Ids = None,
    reason: Reasons = None,
    topic: Topics = None,
    since: Since = None,
    until: Until = None,
    _all: Annotated[bool, typer.Option("--all", help="All that are open, as when nothing is named.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each now, and change nothing.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0, metavar="N", help=f"So many a second at most ({GENTLE:.0f}); 0: as fast as it goes."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many at most, oldest first.")] = None,
    why: Why = None,
    who: Who = None,
    json: Json = False,
) -> None:
    """Drive dead letters through allocation again: by id, by what they have in common, or all that are open.

    Exit 1 if one can still not be used, or there is none of an id that was named. Doing it again drives none twice.
    """
    loaded = load()
    filters = reason, topic, since, until
    if dead_letter_ids and (any(filters) or _all):
        raise typer.BadParameter("name ids, or what letters have in common, not both")
    if _all and any(filters):
        raise typer.BadParameter("--all or some of them, not both")
    # One that is named and was resolved before is answered, too.
    which = _which(loaded, dead_letter_ids, *filters, resolved_too=bool(dead_letter_ids))
    asked = None if dry_run else _asked(who, why)
    # What is only tried reaches nobody downstream.
    pace = redriving.Pace((0 if dry_run else GENTLE) if rate is None else rate)
    outcomes: Counter[tuple[str, str]] = Counter()
    seen: set[int] = set()

    async def drive(connection: Connection) -> None:
        with Streamed(json=json) as rows:
            driven = redriving.drive_all(
                connection, loaded.rules(), which, dry_run=dry_run, pace=pace, limit=limit, asked=asked
            )
            async for row in driven:
                rows.add(row)
                outcomes[row["outcome"], row["reason"]] += 1
                if dead_letter_ids:
                    seen.add(row["id"])

    try:
        asyncio.run(answers.with_connection(loaded, drive))
    finally:
        _sum_up(outcomes, dry_run=dry_run)
    missing = [] if limit else sorted(set(dead_letter_ids or ()) - seen)
    if missing:
        say(f"there is no dead letter {', '.join(map(str, missing))}", 1)
    if missing or any(outcome == "dead_letter" for outcome, _ in outcomes):
        raise typer.Exit(1)


@dlq.command("purge")
def dlq_purge(
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="Such as 30d or 36h.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many it would be, and change nothing.")] = False,
    why: Why = None,
    who: Who = None,
    json: Json = False,
) -> None:
    """Forget dead letters that failed longer ago, driven again or not: they may hold contact data.

    What is not on its topic yet stays.
    """
    age = understood(arguments.span, older_than)
    if age < timedelta(0):
        raise typer.BadParameter(f"{older_than!r} is not an age")
    now = datetime.now(UTC)
    asked = _asked(who, why)

    async def purge(connection: Connection) -> purging.Purged:
        if dry_run:
            return await purging.would_purge(connection, now - age)
        return await purging.purge(connection, now - age, asked, now)

    purged = asyncio.run(answers.with_connection(load(), purge))
    answer = {"purged": purged.letters, "failed_before": now - age, "unresolved": purged.unresolved, "dry_run": dry_run}
    if json:
        as_json(answer)
    else:
        typer.echo(f"{'would purge' if dry_run else 'purged'}: {purged.letters}")
        if purged.unresolved:
            _note(f"{purged.unresolved} of them {'are' if dry_run else 'were'} open: never driven again with success")


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """What of a letter fits on a line of a terminal."""
    return {
        "id": row["id"],
        "place": f"{row['topic']}-{row['partition']} {row['offset']}",
        "failed_at": row["failed_at"],
        "reason": row["newest_reason"] or row["reason"],
        "detail": row["newest_detail"] or row["detail"],
        "redrives": row["redrives"],
        "outcome": row["outcome"],
    }


def _which(
    loaded: Settings,
    ids: Sequence[int] | None,
    reasons: Sequence[str] | None,
    topics: Sequence[str] | None,
    since: str | None,
    until: str | None,
    *,
    resolved_too: bool,
) -> Which:
    now = datetime.now(UTC)
    read = partial(arguments.moment, now=now)
    return Which(
        ids=ids or None,
        reasons=reasons or None,
        topics=[topic.removeprefix(loaded.topic_prefix) for topic in topics or ()] or None,
        since=None if since is None else understood(read, since),
        until=None if until is None else understood(read, until),
        resolved_too=resolved_too,
    )


def _asked(who: str | None, why: str | None) -> Asked:
    for name, text in (("--who", who), ("--why", why)):
        if text is not None and (not text.strip() or len(text) > 500 or not text.isprintable()):
            raise typer.BadParameter(f"{name}: should be one line of up to 500 characters")
    return Asked(who or operator(), why)


def _sum_up(outcomes: Counter[tuple[str, str]], *, dry_run: bool) -> None:
    """What became of all of them, beside the answer: also where the rest could not be done."""
    if not outcomes:
        _note("nothing to drive again")
        return
    said = ", ".join(
        f"{count} {f'still refused ({reason})' if outcome == 'dead_letter' else outcome}"
        for (outcome, reason), count in outcomes.most_common()
    )
    _note(f"{'would be' if dry_run else 'driven again'}: {said}")


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
