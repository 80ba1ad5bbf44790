"""`backorder-notifier dlq …`: messages that could not be used are listed, shown, driven again, forgotten."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Final

import asyncpg
import typer

from backorder_notifier import dead_letter_store, redriving, terminal
from backorder_notifier.dead_letter_store import Asked, PurgedLetters, Which
from backorder_notifier.display import (
    StreamedRows,
    cause_json,
    dead_letter_content,
    dead_letter_json,
    moment,
    print_json,
    print_rows,
    redriven_json,
)
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.terminal import Json, Limit, answer, problem, with_database

dlq = typer.Typer(help="Messages that could not be used.", no_args_is_help=True)

_GENTLE: Final = 50.0  # letters a second, where nobody says how fast: downstream has its ordinary work, too
_CAUSE: Final = ("topic", "reason", "detail", "count", "open", "resolved", "first_seen", "last_seen", "example_id")
_LETTER: Final = ("id", "topic", "partition", "offset", "reason", "detail", "failed_at", "redrives", "redriven_at")

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
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """Why messages are dead: by cause, most open ones first. One by one with --each, or --json without --causes."""
    if each and causes:
        raise ConfigurationError("dlq list: --each or --causes, not both")
    which = _which(None, reason, topic, since, until, resolved_too=all_too)
    by_cause = causes or not (each or as_json)

    async def work(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        if by_cause:
            return [
                cause_json(each) for each in await dead_letter_store.dead_letter_causes(connection, which, limit + 1)
            ]
        return [
            dead_letter_json(each) for each in await dead_letter_store.list_dead_letters(connection, which, limit + 1)
        ]

    rows = with_database(work)
    if not rows:
        _note("no dead letters" if all_too else "no dead letters that are open")
    elif len(rows) > limit:
        _note(f"these are the first {limit}: there are more, see --limit")
    if rows or as_json:
        answer(rows[:limit], _CAUSE if by_cause else _LETTER, "", as_json=as_json)
    if rows and not as_json and sys.stdout.isatty():
        _note("look at one: dlq show ID; what would become of them now: dlq redrive --reason REASON --dry-run")


@dlq.command("show")
def dlq_show(
    dead_letter_id: Annotated[int, typer.Argument(metavar="ID")],
    reveal: Annotated[
        bool, typer.Option("--reveal", "--unmasked", help="With values, which may be contact data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One of them with what was done about it; key, value and headers masked unless asked."""

    async def work(connection: asyncpg.Connection) -> dict[str, Any] | None:
        which = Which(ids=[dead_letter_id], resolved_too=True)
        letters = await dead_letter_store.find_dead_letters(connection, which)
        history = await dead_letter_store.redrives_of_letter(connection, dead_letter_id)
        return next(
            (
                dead_letter_json(each.facts) | dead_letter_content(each.record, history, reveal=reveal)
                for each in letters
            ),
            None,
        )

    content = with_database(work)
    if content is None:
        problem(f"there is no dead letter {dead_letter_id}")
    if as_json or not sys.stdout.isatty():
        print_json(content)
    else:
        fields = [{"field": name, "value": _in_a_cell(value)} for name, value in content.items()]
        print_rows(fields, ("field", "value"), "")


@dlq.command("redrive")
def dlq_redrive(
    dead_letter_ids: Ids = None,
    reason: Reasons = None,
    topic: Topics = None,
    since: Since = None,
    until: Until = None,
    every: Annotated[bool, typer.Option("--all", help="All that are open, as when nothing is named.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each now, and change nothing.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0, metavar="N", help=f"So many a second at most ({_GENTLE:.0f}); 0: as fast as it goes."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many at most, oldest first.")] = None,
    why: Why = None,
    who: Who = None,
    as_json: Json = False,
) -> None:
    """Use stored bytes again as a batch would: by id, by what letters have in common, or all that are open.

    Exit 1 if one is refused still, or there is none of an id that was named. Doing it again uses none twice.
    """
    filters = reason, topic, since, until
    if dead_letter_ids and (any(filters) or every):
        raise ConfigurationError("dlq redrive: name ids, or what letters have in common, not both")
    if every and any(filters):
        raise ConfigurationError("dlq redrive: --all or some of them, not both")
    policy = terminal.settings().policy
    # One that is named and was used before is answered, too.
    which = _which(dead_letter_ids, *filters, resolved_too=bool(dead_letter_ids))
    asked = None if dry_run else _asked(who, why)
    # What is only tried reaches nobody downstream.
    pace = redriving.Pace((0 if dry_run else _GENTLE) if rate is None else rate)
    outcomes: Counter[tuple[str, str | None]] = Counter()
    seen: set[int] = set()

    async def work(connection: asyncpg.Connection) -> None:
        head = f'{{"dry_run": {"true" if dry_run else "false"}, "letters": '
        with StreamedRows(as_json=as_json, head=head, tail="}") as rows:
            driven = redriving.drive_all(
                connection, which, policy, terminal.now, dry_run=dry_run, pace=pace, limit=limit, asked=asked
            )
            async for came in driven:
                rows.add(redriven_json(came))
                outcomes[came.outcome, came.reason] += 1
                if dead_letter_ids:
                    seen.add(came.dead_letter_id)

    try:
        with_database(work)
    finally:
        _sum_up(outcomes, dry_run=dry_run)
    missing = [] if limit else sorted(set(dead_letter_ids or ()) - seen)
    if missing:
        problem(f"there is no dead letter {', '.join(map(str, missing))}")
    if any(outcome == "dead_letter" for outcome, _ in outcomes):
        raise typer.Exit(1)


@dlq.command("purge")
def dlq_purge(
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="Such as 30d or 36h.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many it would be, and change nothing.")] = False,
    why: Why = None,
    who: Who = None,
    as_json: Json = False,
) -> None:
    """Forget those that failed longer ago, driven again or not: they may hold contact data.

    One that is not published yet stays.
    """
    now = terminal.now()
    before = now - terminal.age(older_than)
    asked = _asked(who, why)

    async def work(connection: asyncpg.Connection) -> PurgedLetters:
        if dry_run:
            return await dead_letter_store.count_purgeable(connection, before)
        return await redriving.purge(connection, before, asked, now)

    purged = with_database(work)
    if as_json:
        counts = {"purged": purged.letters, "failed_before": moment(before), "unresolved": purged.unresolved}
        print_json(counts | {"dry_run": dry_run})
    else:
        sys.stdout.write(f"{'would purge' if dry_run else 'purged'} {purged.letters}\n")
        if purged.unresolved:
            _note(f"{purged.unresolved} of them {'are' if dry_run else 'were'} open: never driven again with success")


def _in_a_cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _which(
    ids: Sequence[int] | None,
    reasons: Sequence[str] | None,
    topics: Sequence[str] | None,
    since: str | None,
    until: str | None,
    *,
    resolved_too: bool,
) -> Which:
    return Which(
        ids=ids or None,
        reasons=reasons or None,
        topics=topics or None,
        since=None if since is None else terminal.time_of(since),
        until=None if until is None else terminal.time_of(until),
        resolved_too=resolved_too,
    )


def _asked(who: str | None, why: str | None) -> Asked:
    for name, text in (("--who", who), ("--why", why)):
        if text is not None and (not text.strip() or len(text) > 500 or not text.isprintable()):
            raise ConfigurationError(f"{name}: should be one line of up to 500 characters")
    return Asked(who or terminal.user_and_host(), why)


def _sum_up(outcomes: Counter[tuple[str, str | None]], *, dry_run: bool) -> None:
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
