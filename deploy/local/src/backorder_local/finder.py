"""Finds each server: named by an environment variable, else in Docker, else embedded. For the stack and the tests."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from asyncpg.exceptions import InterfaceError, PostgresError

from backorder_local import containers, mail_sink, processes
from backorder_local import kafka as embedded_kafka
from backorder_local import postgres as embedded_postgres
from backorder_local.errors import LocalError
from backorder_local.place import Place
from backorder_local.processes import Process

KAFKA_VARIABLE = "BACKORDER_KAFKA"  # host:port,host:port
POSTGRES_VARIABLE = "BACKORDER_POSTGRES"  # postgresql://… of a user who may create databases
SMTP_VARIABLE = "BACKORDER_SMTP"  # smtp://host:port
WAY_VARIABLE = "BACKORDER_WITH"
EXAMPLES = {
    KAFKA_VARIABLE: "127.0.0.1:9092",
    POSTGRES_VARIABLE: "postgresql://user:password@127.0.0.1:5432/postgres",
    SMTP_VARIABLE: "smtp://127.0.0.1:1025",
}
START_SECONDS = 60
NAMED_SECONDS = 5


class Way(StrEnum):
    """How a server is had."""

    ENV = "env"
    DOCKER = "docker"
    EMBEDDED = "embedded"


@dataclass(frozen=True)
class Wish:
    """What the user asked for. No way: the first that works. Port 0: a free one. Not durable: without fsync."""

    way: Way | None = None
    kafka_port: int = 0
    postgres_port: int = 0
    smtp_port: int = 0
    durable: bool = True


@dataclass(frozen=True)
class Server:
    """A server that was started or named. `address` is what a client needs; `process` is set where it is ours."""

    name: str
    address: str
    way: Way
    answers: Callable[[], bool]
    process: Process | None = None

    def wait(self) -> None:
        """Returns once it answers in its own protocol. Raises LocalError."""
        what, seconds = (self.name, START_SECONDS) if self.process else (self.address_named(), NAMED_SECONDS)
        try:
            processes.wait_until(self.answers, process=self.process, what=what, timeout_seconds=seconds)
        except LocalError as error:
            if self.way is not Way.ENV:
                raise
            way_out = "unset BACKORDER_KAFKA BACKORDER_POSTGRES BACKORDER_SMTP to start our own"
            raise LocalError(
                f"{error}\nIt was named by the environment: {way_out}.", exit_code=error.exit_code
            ) from error

    def address_named(self) -> str:
        """The address without the password that it may have."""
        return f"{self.name} at {self.address.rpartition('@')[2]}"


def wanted_way(text: str | None) -> Way | None:
    """The way from BACKORDER_WITH or an option. Raises LocalError."""
    try:
        return Way(text) if text else None
    except ValueError:
        raise LocalError(f"{WAY_VARIABLE} or --with is {text!r}: it may be {', '.join(Way)}") from None


def choose(variable: str, place: Place, wish: Wish, say: Callable[[str], None]) -> Way:
    """The way for the server that this variable may name. Raises LocalError where the wanted one can't be had."""
    named = bool(os.environ.get(variable))
    if wish.way is Way.ENV and not named:
        raise LocalError(f"Without {variable} there is nothing to connect to. Example: {variable}={EXAMPLES[variable]}")
    if wish.way is Way.DOCKER and not place.temporary:
        raise LocalError(
            "With Docker the data ends with the containers. For data that is kept in a folder: --with embedded."
        )
    if wish.way is Way.DOCKER and (reason := containers.refusal(say)) is not None:
        raise LocalError(
            f"Docker can't be used: {reason}\nStart or repair it, or use the embedded way: --with embedded."
        )
    if wish.way is not None:
        return wish.way
    if named:
        return Way.ENV
    # Data in a folder is what embedded servers are good at: it stays the user's own, readable without the engine.
    return Way.DOCKER if place.temporary and containers.refusal(say) is None else Way.EMBEDDED


@contextmanager
def kafka(place: Place, wish: Wish, say: Callable[[str], None]) -> Iterator[Server]:
    """A Kafka; `address` is its bootstrap servers. It may not answer yet: see `Server.wait`."""
    way = choose(KAFKA_VARIABLE, place, wish, say)
    process: Process | None = None
    if way is Way.ENV:
        address = os.environ[KAFKA_VARIABLE]
        if not all(part.rpartition(":")[2].isdigit() for part in address.split(",")):
            raise LocalError(f"{KAFKA_VARIABLE} is {address!r}: it must be host:port, several with commas")
    elif way is Way.DOCKER:
        address, process = containers.start_kafka(place, port=wish.kafka_port)
    else:
        address, process = embedded_kafka.start_kafka(place, port=wish.kafka_port, say=say)
    with stopping(process):
        yield Server("Kafka", address, way, lambda: embedded_kafka.answers(address), process)


@contextmanager
def postgres(place: Place, wish: Wish, say: Callable[[str], None]) -> Iterator[Server]:
    """A PostgreSQL; `address` is the URL of a user who may create databases. It may not answer yet: `Server.wait`."""
    way = choose(POSTGRES_VARIABLE, place, wish, say)
    process: Process | None = None
    if way is Way.ENV:
        address = os.environ[POSTGRES_VARIABLE]
        if not address.startswith(("postgresql://", "postgres://")):
            raise LocalError(f"{POSTGRES_VARIABLE} must look like {EXAMPLES[POSTGRES_VARIABLE]}")
    elif way is Way.DOCKER:
        address, process = containers.start_postgres(place, port=wish.postgres_port, durable=wish.durable)
    else:
        address, process = embedded_postgres.start_postgres(place, port=wish.postgres_port, durable=wish.durable)

    def answers() -> bool:
        try:
            return embedded_postgres.answers(address)
        except (PostgresError, InterfaceError, ValueError) as error:
            raise LocalError(f"PostgreSQL refuses {POSTGRES_VARIABLE}: {error}", exit_code=3) from error

    with stopping(process):
        yield Server("PostgreSQL", address, way, answers, process)


@contextmanager
def mail(place: Place, wish: Wish, say: Callable[[str], None]) -> Iterator[Server]:
    """A mail server; `address` is its URL. With Docker too it is our sink, whose mails `backorder mail` can show."""
    way = Way.EMBEDDED
    process: Process | None = None
    if wish.way is Way.ENV or (wish.way is None and os.environ.get(SMTP_VARIABLE)):
        way = choose(SMTP_VARIABLE, place, wish, say)
        address = os.environ[SMTP_VARIABLE]
        url = urlsplit(address)
        if not url.scheme.startswith("smtp") or url.hostname is None:
            raise LocalError(f"{SMTP_VARIABLE} must look like {EXAMPLES[SMTP_VARIABLE]}")
    else:
        address, process = mail_sink.start_mail_sink(place, port=wish.smtp_port)
    with stopping(process):
        yield Server("Mail sink", address, way, lambda: mail_sink.answers(address), process)


@contextmanager
def stopping(process: Process | None) -> Iterator[None]:
    try:
        yield
    finally:
        if process is not None:
            process.stop()
