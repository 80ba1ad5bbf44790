"""Backorder on this machine: the whole stack in one command, and a look into it."""

import asyncio
import json
import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from backorder_local import doctor as checks
from backorder_local import finder, messages, shown
from backorder_local.errors import LocalError
from backorder_local.finder import Way, Wish
from backorder_local.mail_store import MailStore
from backorder_local.place import mails_of
from backorder_local.stack import Plan, stack, watch
from backorder_local.state import running_stack

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
mail_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(mail_app, name="mail")

DataDir = Annotated[
    Path | None, typer.Option(help="Keep everything in this folder. Without: a temporary one, removed at the end.")
]
OfStack = Annotated[Path | None, typer.Option("--data-dir", help="Which stack, where several run.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
UnsafeDurability = Annotated[
    bool,
    typer.Option(
        "--accept-unsafe-durability",
        envvar="BACKORDER_ACCEPT_UNSAFE_DURABILITY",
        help="The PostgreSQL of BACKORDER_POSTGRES may run without fsync and lose what it acknowledged.",
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.", show_default=True)]


@app.command()
def up(
    data_dir: DataDir = None,
    way: Annotated[
        Way | None,
        typer.Option("--with", envvar=finder.WAY_VARIABLE, help="Force where Kafka and PostgreSQL come from."),
    ] = None,
    services: Annotated[bool, typer.Option(help="Run the services too, or the servers alone.")] = True,
    prefix: Annotated[str, typer.Option(help="Before all topics, groups and databases, on servers others use.")] = "",
    kafka_port: Port = 0,
    postgres_port: Port = 0,
    smtp_port: Port = 0,
    allocator_port: Port = 0,
    notifier_port: Port = 0,
    unsafe_durability: UnsafeDurability = False,
) -> None:
    """Run the whole stack until Ctrl-C: Kafka, PostgreSQL, a mail sink, allocator and notifier."""
    end_on_signals()
    plan = Plan(
        wish=Wish(way, kafka_port=kafka_port, postgres_port=postgres_port, smtp_port=smtp_port),
        data_dir=data_dir,
        prefix=prefix,
        with_services=services,
        allocator_port=allocator_port,
        notifier_port=notifier_port,
        unsafe_durability=unsafe_durability,
    )
    try:
        with stack(plan, say) as running:
            print(shown.how_to_connect(running.state), flush=True)
            watch(running)
    except KeyboardInterrupt:
        say("Ended.")


@app.command()
def demo(
    lines: Annotated[int, typer.Option(min=1, help="Order lines to replay, about.")] = 20_000,
    data: Annotated[
        Path | None,
        typer.Option(help="A parquet file with the columns of Online Retail. Without: Complete Journey, from PyPI."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Times real time, such as 3600: an hour a second. Without: as fast as possible."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another one makes other receipts and cancels.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up afterwards, until Ctrl-C.")] = False,
    way: Annotated[
        Way | None,
        typer.Option("--with", envvar=finder.WAY_VARIABLE, help="Force where Kafka and PostgreSQL come from."),
    ] = None,
    unsafe_durability: UnsafeDurability = False,
    as_json: AsJson = False,
) -> None:
    """Replay real purchases through the whole stack, and sum up what happened. Exit 1 if an audit finds a problem."""
    end_on_signals()
    if speed is not None and speed <= 0:
        raise LocalError("--speed must be above 0")
    try:
        from backorder_local import demo as demos  # noqa: PLC0415  half a second of pyarrow that only this needs

        demos.run(demos.Wanted(lines, data, speed, seed, way, keep, as_json, unsafe_durability), say)
    except KeyboardInterrupt:
        say("Ended.")
        raise typer.Exit(130) from None


@app.command()
def env(data_dir: OfStack = None, as_json: AsJson = False) -> None:
    """Environment variables that lead to the running stack: eval "$(backorder env)"."""
    state = running_stack(data_dir)
    print(json.dumps(state.variables, indent=2) if as_json else shown.exports(state))


@app.command()
def send(
    topic: Annotated[str, typer.Argument(help="Its name without prefix, such as orders.")],
    file: Annotated[Path, typer.Argument(help="JSON messages, one a line; - for standard input.")] = Path("-"),
    data_dir: OfStack = None,
) -> None:
    """Publish messages to a topic of the running stack, checked and with the right keys."""
    state = running_stack(data_dir)
    outgoing = messages.checked(topic, lines_of(file))
    asyncio.run(messages.send(state.kafka, state.prefix, outgoing))
    say(f"{len(outgoing)} sent to {state.prefix}{topic}")


@app.command()
def read(
    topic: Annotated[str, typer.Argument(help="Its name without prefix, such as backorders.")],
    follow: Annotated[bool, typer.Option(help="Wait for more, until Ctrl-C.")] = False,
    data_dir: OfStack = None,
) -> None:
    """Print the messages of a topic of the running stack, one a line."""
    state = running_stack(data_dir)

    async def print_all() -> None:
        async for record in messages.read(state.kafka, state.prefix + topic, follow=follow):
            print("null" if record.value is None else record.value.decode(errors="replace"), flush=follow)

    with suppress(KeyboardInterrupt):
        asyncio.run(print_all())


@mail_app.callback()
def mail(
    context: typer.Context,
    to: Annotated[str | None, typer.Option(help="Only to addresses that contain this.")] = None,
    order: Annotated[str | None, typer.Option(help="Only those that name this order.")] = None,
    data_dir: OfStack = None,
    as_json: AsJson = False,
) -> None:
    """List the mails that the sink got, or show one: backorder mail show ID."""
    if context.invoked_subcommand is None:
        kept = mail_store(data_dir).mails(to=to)
        chosen = [each for each in kept if order is None or each.names(order)]
        print(shown.mails_as_json(chosen) if as_json else shown.mails(chosen), end="")


@mail_app.command("show")
def show_mail(
    id_: Annotated[int, typer.Argument(metavar="ID")], data_dir: OfStack = None, as_json: AsJson = False
) -> None:
    """Show one mail: headers and text, decoded."""
    found = mail_store(data_dir).mail(id_)
    if found is None:
        raise LocalError(f"There is no mail {id_}. List them with: backorder mail", exit_code=1)
    print(shown.mail_as_json(found) if as_json else shown.mail(found))


@app.command()
def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look at this machine: can the stack run here, and how."""
    results = checks.examine(data_dir)
    print(shown.checks_as_json(results) if as_json else shown.checks(results))
    if any(result.status is checks.Status.FAIL for result in results):
        raise typer.Exit(1)


def mail_store(data_dir: Path | None) -> MailStore:
    """The mails of the chosen folder, running or not, else those of the running stack. Raises LocalError."""
    if data_dir is None:
        state = running_stack(None)
        if not state.sink:
            raise LocalError(f"The stack sends its mails to {state.smtp}, a server of yours: look there.")
        data_dir = Path(state.folder)
    path = mails_of(data_dir)
    if not path.exists():
        raise LocalError(f"There are no mails in {data_dir}: no stack has run on it.")
    return MailStore(path)


def lines_of(file: Path) -> list[bytes]:
    if file == Path("-"):
        return sys.stdin.buffer.readlines()
    try:
        return file.read_bytes().splitlines()
    except OSError as error:
        raise LocalError(f"{file} can't be read: {error.strerror}") from error


def say(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


def end_on_signals() -> None:
    """SIGTERM and a closed terminal end the stack as Ctrl-C does. With nohup, a closed terminal doesn't."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def main() -> None:
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns of what it then retries
    try:
        app()
    except LocalError as error:
        print(f"backorder: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # | head
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
