"""Finds each server: named by an environment variable, else embedded. The stack and the tests use this one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from backorder_local.kafka import start_kafka
from backorder_local.mail_sink import start_mail_sink
from backorder_local.place import Place
from backorder_local.postgres import start_postgres
from backorder_local.processes import Process

KAFKA_VARIABLE = "BACKORDER_KAFKA"  # host:port,host:port
POSTGRES_VARIABLE = "BACKORDER_POSTGRES"  # postgresql://… of a user who may create databases
SMTP_VARIABLE = "BACKORDER_SMTP"  # smtp://host:port


class Way(StrEnum):
    """How a server was had."""

    ENV = "env"
    DOCKER = "docker"
    EMBEDDED = "embedded"


@dataclass(frozen=True)
class Server:
    """A server that answers. `address` is what a client needs; `process` is set where it is ours."""

    name: str
    address: str
    way: Way
    process: Process | None = None


@contextmanager
def kafka(place: Place, *, port: int = 0, say: Callable[[str], None]) -> Iterator[Server]:
    named = os.environ.get(KAFKA_VARIABLE)
    if named:
        yield Server("Kafka", named, Way.ENV)
        return
    address, process = start_kafka(place.folder / "kafka", place.logs, port=port, temporary=place.temporary, say=say)
    try:
        yield Server("Kafka", address, Way.EMBEDDED, process)
    finally:
        process.stop()


@contextmanager
def postgres(place: Place, *, port: int = 0, durable: bool = True) -> Iterator[Server]:
    named = os.environ.get(POSTGRES_VARIABLE)
    if named:
        yield Server("PostgreSQL", named, Way.ENV)
        return
    address, process = start_postgres(
        place.folder / "postgres", place.logs, port=port, temporary=place.temporary, durable=durable
    )
    try:
        yield Server("PostgreSQL", address, Way.EMBEDDED, process)
    finally:
        process.stop()


@contextmanager
def mail(place: Place, *, port: int = 0) -> Iterator[Server]:
    named = os.environ.get(SMTP_VARIABLE)
    if named:
        yield Server("SMTP", named, Way.ENV)
        return
    address, process = start_mail_sink(place.mails.parent, place.logs, port=port)
    try:
        yield Server("SMTP", address, Way.EMBEDDED, process)
    finally:
        process.stop()
