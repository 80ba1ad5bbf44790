"""The command `backorder-allocator`. Answers go to stdout, logs to stderr; `--json` gives stable keys.

Exit codes: 0 fine, 1 it found a problem, 2 wrong usage, settings or set-up, 3 the database or Kafka is not reachable.
"""

import asyncio
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from aiokafka.errors import KafkaError
from typer.core import TyperCommand

from backorder_allocator import (
    answers,
    app,
    arguments,
    audits,
    comparing,
    connections,
    doctor,
    explaining,
    migrate,
    replaying,
    settings,
    topic_audits,
    topics,
    what_if,
)
from backorder_allocator.dead_letter_commands import dlq
from backorder_allocator.errors import BrokenError, ConfigurationError, NotReadyError
from backorder_allocator.guards import Accepted
from backorder_allocator.lag import lag
from backorder_allocator.output import as_json, show_table
from backorder_allocator.terminal import Json, load, say, understood

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
cli.add_typer(dlq, name="dlq")


def main() -> None:
    """The entry point: turns errors that have a way out into one line and an exit code."""
    try:
        cli()
    except ConfigurationError as error:
        sys.exit(say(error, 2))
    except NotReadyError as error:
        sys.exit(say(error, 3))
    except BrokenError:
        sys.exit(1)  # the log has said why
    except asyncpg.InsufficientPrivilegeError as error:
        sys.exit(say(f"the database user lacks a right: {error}", 2))
    except asyncpg.DataError as error:
        # Such as bytes that are no UTF-8, or a number beyond all numbers.
        sys.exit(say(f"what is given is nothing that a database could hold: {error}", 2))
    except connections.PASSING_DATABASE_ERRORS as error:
        sys.exit(say(f"the database is not reachable: {error!r}", 3))
    except KafkaError as error:
        sys.exit(say(f"Kafka is not reachable: {error!r}", 3))


@cli.command()
def run(
    recreated_topic: Annotated[
        bool, typer.Option("--accept-recreated-topic", help="A topic was made again: begin at its beginning.")
    ] = False,
    partition_count: Annotated[
        bool, typer.Option("--accept-partition-count", help="A topic has other partitions: go on with them.")
    ] = False,
    lost_messages: Annotated[
        bool, typer.Option("--accept-lost-messages", help="Messages were deleted unread: go on behind them.")
    ] = False,
    restored_database: Annotated[
        bool,
        typer.Option("--accept-restored-database", help="The database is older than what was published: a new epoch."),
    ] = False,
    unsafe_durability: Annotated[
        bool, typer.Option("--accept-unsafe-durability", help="A crash of PostgreSQL may lose what was acknowledged.")
    ] = False,
    why: Annotated[
        str | None, typer.Option("--why", metavar="TEXT", help="Kept with whatever is accepted, for who asks later.")
    ] = None,
) -> None:
    """Read what happens, decide who gets what and when, publish, until SIGTERM.

    What must not be gone past without a person's word ends it at the start: one line, exit 2. The flags give that word;
    each counts only where it is needed, and is written down.
    """
    accepted = Accepted(
        recreated_topic=recreated_topic,
        partition_count=partition_count,
        lost_messages=lost_messages,
        restored_database=restored_database,
        unsafe_durability=unsafe_durability,
        why=why,
    )
    asyncio.run(app.run(load(), accepted))


@cli.command("migrate")
def migrate_command(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if something is to be done.")] = False,
    json: Json = False,
) -> None:
    """Bring the database to this version's tables. Forward only; safe to run from several places at once."""
    done = asyncio.run(answers.with_connection(load(), migrate.pending if check else migrate.apply, migrating=True))
    names = [migration.name for migration in done]
    if json:
        as_json({"pending" if check else "applied": names})
    else:
        verb = "pending" if check else "applied"
        typer.echo(f"{verb}: {', '.join(names)}" if names else "nothing to do")
    if check and names:
        raise typer.Exit(1)


@cli.command("topics")
def topics_command(
    apply: Annotated[bool, typer.Option("--apply", help="Make the topics that are missing.")] = False,
    json: Json = False,
) -> None:
    """Compare the topics in Kafka with the contract. Exit 1 if one is missing."""
    loaded = load()
    states = asyncio.run(_topics(loaded, apply=apply))
    rows = [
        {
            "topic": state.name,
            "key": state.topic.key,
            "partitions": state.partitions,
            "compacted": state.topic.compacted,
            "differences": list(state.differences),
        }
        for state in states
    ]
    show_table(rows, json=json)
    if any(state.partitions is None for state in states):
        raise typer.Exit(1)


async def _topics(loaded: settings.Settings, *, apply: bool) -> list[topics.TopicState]:
    admin = await connections.patiently("Kafka", lambda: connections.admin(loaded), loaded.start_timeout_seconds)
    try:
        states = await topics.compare(admin, loaded.topic_prefix)
        missing = [state for state in states if state.partitions is None]
        if apply and missing:
            await topics.create(admin, missing, loaded.topic_replication)
            states = await topics.until_all_exist(admin, loaded.topic_prefix)
        return states
    finally:
        await admin.close()


@cli.command("doctor")
def doctor_command(json: Json = False) -> None:
    """Whether everything that `run` needs is there, and whether it would begin. Nothing is changed.

    Exit 1 if something is wrong, 3 if the database or Kafka can't be reached.
    """
    found = asyncio.run(doctor.examine(load()))
    doctor.show(found, json=json)
    if code := doctor.exit_code(found):
        raise typer.Exit(code)


@cli.command("settings")
def settings_command(json: Json = False) -> None:
    """Show all settings in force; secrets are masked."""
    shown = settings.shown(load())
    if json:
        as_json(shown)
    else:
        show_table([{"setting": name, "value": value} for name, value in shown.items()], json=False)


@cli.command()
def status(json: Json = False) -> None:
    """Where everything stands: input, publishing, queues, dead letters."""
    found = asyncio.run(answers.with_connection(load(), answers.status))
    answers.show_status(found, json=json)


@cli.command()
def queue(
    sku: str,
    location: str | None = None,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    json: Json = False,
) -> None:
    """Who waits for a SKU, in the order in which they will be served, and why; what is to come, and for whom."""
    loaded = load()
    rules, now = loaded.rules(), datetime.now(UTC)
    ask = partial(answers.queue, sku=sku, location=location, limit=limit, rules=rules, now=now)
    answers.show_queue(asyncio.run(answers.with_connection(loaded, ask)), json=json)


@cli.command()
def explain(order_id: str, json: Json = False) -> None:
    """Everything that was decided about an order, with its causes."""
    found = asyncio.run(answers.with_connection(load(), partial(explaining.explain, order_id=order_id)))
    if found is None:
        raise typer.Exit(say(f"order {order_id} is not known", 1))
    explaining.show(found, json=json)


@cli.command("suppliers")
def suppliers_command(json: Json = False) -> None:
    """How each supplier keeps its dates: receipts against the date announced first, and what is overdue now."""
    show_table(
        asyncio.run(answers.with_connection(load(), partial(answers.suppliers, now=datetime.now(UTC)))), json=json
    )


@cli.command("lag")
def lag_command(json: Json = False) -> None:
    """How far each input partition is behind its log. Needs Kafka."""
    loaded = load()
    show_table(asyncio.run(_lag(loaded)), json=json)


async def _lag(loaded: settings.Settings) -> list[dict[str, Any]]:
    return await lag(loaded, await answers.with_connection(loaded, answers.positions))


class _InTheOrderGiven(TyperCommand):
    """Remembers in which order options were given, of different ones too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta["given"] = [option.name for option in given]
        return super().parse_args(ctx, args)


@cli.command("what-if", cls=_InTheOrderGiven)
def what_if_command(
    context: typer.Context,
    receive: Annotated[
        list[str] | None, typer.Option(metavar="SKU=UNITS[@LOCATION]", help="Units arrive: X=40@main.")
    ] = None,
    delay: Annotated[
        list[str] | None,
        typer.Option(metavar="SUPPLY[/SKU]=TIME", help="A supply comes later: S-17=7d; earlier: S-17=-2d."),
    ] = None,
    order: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An OrderPlaced message as JSON is placed.")
    ] = None,
    json: Json = False,
) -> None:
    """Who would gain, who would lose and which dates would move, by the real rules. Nothing is written.

    All options may be given several times; they happen one after the other, in the order given.
    """
    loaded = load()
    now = datetime.now(UTC)
    rest: dict[str, list[what_if.Idea]] = {
        "receive": [understood(arguments.receipt, text) for text in reversed(receive or ())],
        "delay": [understood(arguments.delay, text) for text in reversed(delay or ())],
        "order": [_order_of(path, now) for path in reversed(order or ())],
    }
    ideas = [rest[name].pop() for name in context.meta["given"] if name in rest]
    if not ideas:
        raise typer.BadParameter("what if what? Give --receive, --delay or --order")
    ask = partial(what_if.what_if, ideas=ideas, rules=loaded.rules(), now=now)
    what_if.show(asyncio.run(answers.with_connection(loaded, ask)), json=json)


def _order_of(path: Path, now: datetime) -> what_if.Idea:
    try:
        return arguments.order(path.read_text(encoding="utf-8"), now)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path}: {getattr(error, 'strerror', None) or error}") from None


@cli.command()
def audit(
    topics: Annotated[
        bool, typer.Option("--topics", help="And that the topics say what the database does. Needs Kafka.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 also for a rule that was never looked at.")] = False,
    json: Json = False,
) -> None:
    """Check the rules that must always hold, on the live system; it only reads. Exit 1 if one is broken."""
    loaded = load()
    ask = partial(topic_audits.audit, settings=loaded) if topics else audits.audit
    found = asyncio.run(answers.with_connection(loaded, ask))
    audits.show(found, json=json, strict=strict)
    if not audits.is_clean(found, strict=strict):
        raise typer.Exit(1)


@cli.command("replay")
def replay_command(
    into: Annotated[str, typer.Option(metavar="DATABASE_URL", help="An empty database; it gets all tables.")],
    until: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Stop at this journal entry, and compare the log alone.")
    ] = None,
    json: Json = False,
) -> None:
    """Repeat everything that happened, from the topics' bytes, in an empty database; compare events and state.

    Exit 1 if anything differs. The service may run meanwhile.
    """
    loaded = load()
    progress = partial(typer.echo, err=True)
    ask = partial(replaying.replay_into, settings=loaded, into=into, until=until, say=progress)
    found = asyncio.run(answers.with_connection(loaded, ask))
    comparing.show(found, json=json)
    if found.differences:
        raise typer.Exit(1)
