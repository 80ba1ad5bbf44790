"""Both services of Backorder as processes of their own, with the settings that lead them to the stack's servers."""

import os
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from asyncpg.exceptions import DuplicateDatabaseError, PostgresError

from backorder_local import postgres, processes
from backorder_local.errors import LocalError
from backorder_local.place import Place
from backorder_local.processes import Process

READY_SECONDS = 60
RISKS = {"allocator": ("--accept-unsafe-durability",), "notifier": ("--accept-unsafe-durability",)}
STOP_SECONDS = 30  # what a service may take to finish the batch in hand
NOTIFIER_UNLESS_SET = {
    "NOTIFIER_MAIL_FROM": "Backorder <shop@example.org>",
    # The mail sink takes as many as come, and who tries things out is one customer who wants all of them.
    "NOTIFIER_EMAIL_PER_SECOND": "1000",
    "NOTIFIER_DAILY_CAP": "1000",
}


@dataclass(frozen=True)
class Service:
    """A service that runs. `url` is its HTTP address."""

    name: str
    url: str
    process: Process


def settings(
    *, kafka: str, postgres_url: str, smtp: str, prefix: str, allocator_port: int, notifier_port: int
) -> dict[str, str]:
    """The environment variables of both services: what is set for them already, and what is ours. Port 0: a free one.

    Commands in another terminal get all of it: `why` says when something is due by the settings that the service has.
    """
    ports = {
        "allocator": processes.port_or_free(allocator_port, "Allocator", "--allocator-port"),
        "notifier": processes.port_or_free(notifier_port, "Notifier", "--notifier-port"),
    }
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(("ALLOCATOR_", "NOTIFIER_"))}
    variables = {
        **passed_on,
        "NOTIFIER_SMTP_URL": smtp,
        **{name: os.environ.get(name, value) for name, value in NOTIFIER_UNLESS_SET.items()},
    }
    for service, port in ports.items():
        variables |= {
            f"{service.upper()}_DATABASE_URL": database_url(postgres_url, f"{prefix}{service}"),
            f"{service.upper()}_KAFKA_BOOTSTRAP_SERVERS": kafka,
            f"{service.upper()}_TOPIC_PREFIX": prefix,
            f"{service.upper()}_HTTP_PORT": str(port),
        }
    return variables


def database_url(administrator_url: str, name: str) -> str:
    return urlunsplit(urlsplit(administrator_url)._replace(path=f"/{quote(name)}"))


def prepare(place: Place, administrator_url: str, variables: Mapping[str, str]) -> None:
    """Makes the databases, their tables and the topics, as far as they aren't there. Raises LocalError."""
    for name in ("ALLOCATOR_DATABASE_URL", "NOTIFIER_DATABASE_URL"):
        make_database(administrator_url, urlsplit(variables[name]).path[1:])
    commands = (
        ("allocator", "migrate"),
        ("allocator", "topics", "--apply"),
        ("notifier", "migrate"),
    )
    with ExitStack() as started:
        for process in [run(place, started, " ".join(command[:2]), command, variables) for command in commands]:
            processes.finish(process)


def make_database(administrator_url: str, quoted_name: str) -> None:
    name = unquote(quoted_name)
    try:
        postgres.execute(administrator_url, f'CREATE DATABASE "{name}"')
    except DuplicateDatabaseError:
        pass
    except PostgresError as error:
        raise LocalError(f"The database {name!r} could not be made: {error}", exit_code=3) from error


def run(place: Place, started: ExitStack, name: str, command: tuple[str, ...], variables: Mapping[str, str]) -> Process:
    service, *arguments = command
    program = Path(sysconfig.get_path("scripts")) / f"backorder-{service}"
    if not program.exists():
        raise LocalError(f"{program} is missing: install backorder-{service} into the same environment.")
    process = processes.start(
        place, name, [program, *arguments], env=os.environ | dict(variables), grace_seconds=STOP_SECONDS
    )
    started.callback(process.stop)
    return process


@contextmanager
def services(
    place: Place, variables: Mapping[str, str], *, unsafe_durability: bool
) -> Iterator[tuple[Service, Service]]:
    """Runs allocator and notifier until the end of the block; yields them once both are ready. Raises LocalError.

    They refuse a PostgreSQL that may lose what it acknowledged, unless the user said that it may.
    """
    with ExitStack() as started:
        allocator, notifier = (
            Service(
                name,
                f"http://127.0.0.1:{variables[f'{name.upper()}_HTTP_PORT']}",
                run(place, started, name, (name, "run", *(RISKS[name] if unsafe_durability else ())), variables),
            )
            for name in ("allocator", "notifier")
        )
        for service in (allocator, notifier):
            processes.wait_until(
                lambda url=service.url: is_ready(url),  # type: ignore[misc]
                process=service.process,
                what=f"{service.url}/readyz",
                timeout_seconds=READY_SECONDS,
            )
        try:
            yield allocator, notifier
        finally:
            for service in (allocator, notifier):
                service.process.begin_to_stop()


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310  an http address of our own
            return bool(answer.status == 200)
    except OSError:  # refused, or an answer that says "not yet"
        return False
