"""The command `backorder-notifier`. Answers go to stdout, logs to stderr; `--json` gives stable keys.

Exit codes: 0 fine, 1 it found a problem, 2 wrong usage, settings or set-up, 3 the database or Kafka is not reachable.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import asyncpg
import typer
from aiokafka.errors import KafkaError

from backorder_notifier import (
    customer_commands,
    guard_store,
    migrate,
    order_commands,
    preview_commands,
    reports,
    store,
    terminal,
)
from backorder_notifier.dead_letter_commands import dlq
from backorder_notifier.display import moment, print_json, print_rows
from backorder_notifier.errors import NotifierError, UnreachableError
from backorder_notifier.shown_settings import shown
from backorder_notifier.terminal import Json, answer, reading, with_database

cli = typer.Typer(
    help="Tells customers what happens to their backorders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(dlq, name="dlq")
cli.add_typer(customer_commands.suppressions, name="suppressions")


def main() -> None:
    """Exit codes: 0 fine, 1 it found a problem, 2 wrong usage or settings, 3 database or Kafka not reachable."""
    try:
        cli()
    except NotifierError as error:
        sys.stderr.write("".join(f"backorder-notifier: {line}\n" for line in str(error).splitlines()))
        sys.exit(error.exit_code)


def _accept(what: str, text: str) -> Any:
    return typer.Option(f"--accept-{what}", help=text)


@cli.command("run")
def run(
    recreated_topic: Annotated[
        bool, _accept("recreated-topic", "Read a topic that was deleted and made again from its beginning.")
    ] = False,
    partition_count: Annotated[bool, _accept("partition-count", "Go on with a changed number of partitions.")] = False,
    lost_messages: Annotated[
        bool, _accept("lost-messages", "Go on behind messages that are gone and were not read.")
    ] = False,
    restored_database: Annotated[
        bool, _accept("restored-database", "Go on with a database that doesn't know what was published: a new epoch.")
    ] = False,
    unsafe_durability: Annotated[
        bool, _accept("unsafe-durability", "Run on a database that may lose what it has confirmed.")
    ] = False,
    why: Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Kept with what is accepted.")] = None,
) -> None:
    """Read events, tell customers, publish outcomes; until SIGTERM or Ctrl-C."""
    from backorder_notifier.accepting import Accepting  # noqa: PLC0415
    from backorder_notifier.app import run as serve  # noqa: PLC0415 - half a second that other commands don't need
    from backorder_notifier.guards import What  # noqa: PLC0415

    flags: dict[What, bool] = {
        "recreated_topic": recreated_topic,
        "partition_count": partition_count,
        "lost_messages": lost_messages,
        "restored_database": restored_database,
        "unsafe_durability": unsafe_durability,
    }
    accepted = frozenset(what for what, is_accepted in flags.items() if is_accepted)
    asyncio.run(serve(terminal.settings(), Accepting(accepted, terminal.user(), why)))


@cli.command("migrate")
def migrate_command(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if something is pending.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the database to the schema of this release."""

    async def work(connection: asyncpg.Connection) -> list[migrate.Migration]:
        return await (migrate.pending(connection) if check else migrate.migrate(connection, terminal.now()))

    names = [migration.name for migration in with_database(work, any_schema=True)]
    if as_json:
        print_json({"pending": names} if check else {"applied": names})
    else:
        verb = "pending" if check else "applied"
        sys.stdout.write("".join(f"{verb} {name}\n" for name in names) or "the schema is up to date\n")
    if check and names:
        raise typer.Exit(1)


@cli.command("status")
def status(as_json: Json = False) -> None:
    """What was decided and sent, what waits and for what, and where reading goes on."""
    now = terminal.now()

    async def work(connection: Any) -> dict[str, Any]:
        waits = await reports.report_waits(connection, now)
        relay = await reports.report_relay(connection)
        identity, accepted = await guard_store.read_identity(connection), await guard_store.list_accepted(connection, 1)
        moments = {name: moment(getattr(waits, name)) for name in ("oldest_update", "next_decision", "oldest_due")}
        return {
            "updates": [asdict(row) for row in await reports.report_updates(connection)],
            "deliveries": [asdict(row) for row in await reports.report_deliveries(connection)],
            "waits": asdict(waits) | moments,
            "domain_backoffs": [
                asdict(row) | {"until": moment(row.until)} for row in await reports.report_backoffs(connection, now)
            ],
            "relay": None
            if relay is None
            else asdict(relay)
            | {
                "ends_at": moment(relay.ends_at),
                "refused_at": moment(relay.refused_at),
                "active": relay.ends_at > now,
            },
            "cursors": [
                asdict(row) | {"refused_at": moment(row.refused_at)} for row in await store.list_cursors(connection)
            ],
            "identity": asdict(identity) | {"seen_at": moment(identity.seen_at)},
            "last_intervention": None
            if not accepted
            else asdict(accepted[0]) | {"at": moment(accepted[0].at), "detail": json.loads(accepted[0].detail)},
        }

    found = reading(work)
    if as_json:
        print_json(found)
        return
    print_rows(found["updates"], ("kind", "state", "reason", "updates"), "No events yet.")
    print_rows(found["deliveries"], ("kind", "channel", "state", "reason", "deliveries"), "No messages yet.")
    print_rows(
        [{"waits": name.replace("_", " "), "value": value} for name, value in found["waits"].items()],
        ("waits", "value"),
        "",
    )
    print_rows(found["domain_backoffs"], ("domain", "refusals", "until"), "No domain asked us to wait.")
    print_rows(
        [found["relay"]] if found["relay"] else [],
        ("holder", "epoch", "ends_at", "active", "refused", "refused_at"),
        "Nobody publishes.",
    )
    positions = ("topic", "partition", "next_offset", "refused", "refused_at")
    print_rows(found["cursors"], positions, "Nothing was read yet.")
    print_rows([found["identity"]], ("epoch", "system_identifier", "timeline", "seen_at"), "")
    if decided := found["last_intervention"]:
        print_rows([decided | {"detail": json.dumps(decided["detail"])}], ("at", "by", "what", "why", "detail"), "")


@cli.command("lag")
def lag_command(as_json: Json = False) -> None:
    """How far each input partition is behind its log, in records and seconds. Needs Kafka."""
    from backorder_notifier.lag import lag  # noqa: PLC0415

    settings = terminal.settings()

    async def cursors(connection: Any) -> dict[tuple[str, int], int]:
        return {(row.topic, row.partition): row.next_offset for row in await store.list_cursors(connection)}

    servers, known = settings.bootstrap_servers, reading(cursors)
    try:
        rows = asyncio.run(lag(servers, settings.topic_prefix, known, terminal.now()))
    except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
        raise UnreachableError(f"Kafka is not reachable ({type(error).__name__})") from None
    answer(rows, ("topic", "partition", "end_offset", "next_offset", "lag", "lag_seconds"), "", as_json=as_json)


@cli.command("audit")
def audit(
    topics: Annotated[
        bool, typer.Option("--topics", help="And that the topics say what the database does. Needs Kafka.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 also for a rule that was never looked at.")] = False,
    as_json: Json = False,
) -> None:
    """Check the rules that must always hold, on the live system; it only reads. Exit 1 if one is broken."""
    from backorder_notifier import audit_commands  # noqa: PLC0415 - Kafka's library, which other commands don't need

    if not audit_commands.audit(topics=topics, strict=strict, as_json=as_json):
        raise typer.Exit(1)


@cli.command("doctor")
def doctor(as_json: Json = False) -> None:
    """Whether everything that `run` needs is there; nothing is sent or changed. Exit 1 if something is wrong."""
    from backorder_notifier.doctor import examine  # noqa: PLC0415

    found = asyncio.run(examine(terminal.settings()))
    answer([asdict(each) for each in found], ("about", "state", "says"), "", as_json=as_json)
    if any(each.state == "wrong" for each in found):
        raise typer.Exit(1)


@cli.command("settings")
def settings_command(as_json: Json = False) -> None:
    """Every setting, its value and default; secrets masked."""
    rows = [asdict(row) for row in shown(terminal.settings())]
    answer(rows, ("name", "value", "default"), "", as_json=as_json)


cli.command("why")(order_commands.why)
cli.command("outbox")(order_commands.outbox)
cli.command("resend")(order_commands.resend)
cli.command("forget")(customer_commands.forget)
cli.command("export")(customer_commands.export)
cli.command("render")(preview_commands.render)
cli.command("gallery")(preview_commands.gallery)
