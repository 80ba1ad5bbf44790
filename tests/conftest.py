"""Real servers for all tests, found as the stack finds them.

BACKORDER_KAFKA and BACKORDER_POSTGRES may name running ones; else they are started, once a session.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from backorder_local import finder
from backorder_local import postgres as local_postgres
from backorder_local.mail_sink import KeepMails, smtp_server
from backorder_local.mail_store import Mail, MailStore
from backorder_local.place import Place
from backorder_local.place import place as make_place
from backorder_local.processes import port_or_free


class Databases:
    """Makes fresh databases; those it made are dropped at the end of the session."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url
        self.made: list[str] = []

    def create_database(self, template: str | None = None) -> str:
        """The URL of a new database, empty or a copy of `template` (a URL from here, nobody connected). Some 20 ms."""
        name = f"test_{secrets.token_hex(8)}"
        source = urlsplit(template).path[1:] if template else "template1"
        local_postgres.execute(self.admin_url, f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY FILE_COPY')
        self.made.append(name)
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{name}"))

    def drop_all(self) -> None:
        for name in self.made:
            local_postgres.execute(self.admin_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


class MailSink:
    """An SMTP server in a thread.

    Set `handler.refuse` to a function from the envelope to another answer than 250, such as "451 4.3.0 Later", or None.
    """

    def __init__(self, path: Path) -> None:
        self.store = MailStore(path)
        self.store.create()
        self.handler = KeepMails(self.store)
        self.port = port_or_free(0, "Mail sink", "")
        self.smtp_url = f"smtp://127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[Mail]:
        """What was taken, oldest first: .recipients, .subject, .text, .html, .message (parsed), .received_at."""
        return self.store.mails()

    def messages_to(self, address: str) -> list[Mail]:
        return self.store.mails(to=address)

    def reset(self) -> None:
        """Forgets the mails and takes all again."""
        self.store.clear()
        self.handler.refuse = take_all


def take_all(_envelope: Envelope) -> str | None:
    return None


class SinkController(Controller):
    def factory(self):  # type: ignore[no-untyped-def]
        return smtp_server(self.handler)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def wish() -> finder.Wish:
    """What BACKORDER_WITH says, without fsync: no test crashes the machine."""
    return finder.Wish(finder.wanted_way(os.environ.get(finder.WAY_VARIABLE)), durable=False)


@pytest.fixture(scope="session", autouse=True)
def nothing_ends_the_tests_as_if_all_were_well() -> Iterator[None]:
    """The services end their process for good when they took too long to stop: not with 0, where that is a test's."""
    ours, end = os.getpid(), os._exit

    def ends(status: int) -> NoReturn:
        end(status or 70 if os.getpid() == ours else status)

    os._exit = ends
    yield
    os._exit = end


@pytest.fixture
def unique() -> str:
    """A prefix for the topics and groups of one test, so that tests share a broker and not their data."""
    return f"t{secrets.token_hex(6)}."


@pytest.fixture(scope="session")
def server_place() -> Iterator[Place]:
    """The temporary folder of the servers of this session."""
    with make_place(None) as place:
        yield place


@pytest.fixture(scope="session")
def kafka(server_place: Place) -> Iterator[str]:
    """Bootstrap servers "host:port,…" of a real Kafka. Tests keep apart by the topic prefix."""
    with finder.kafka(server_place, wish(), say) as server:
        server.wait()
        yield server.address


@pytest.fixture(scope="session")
def postgres(server_place: Place) -> Iterator[Databases]:
    """A real PostgreSQL: `.create_database()` for a fresh one, `.admin_url`."""
    with finder.postgres(server_place, wish(), say) as server:
        server.wait()
        databases = Databases(server.address)
        yield databases
        if os.environ.get("BACKORDER_POSTGRES"):  # one that was started for the session ends with all it holds
            databases.drop_all()


@pytest.fixture(scope="session")
def mail_sink(server_place: Place) -> Iterator[MailSink]:
    """A mail server: `.smtp_url`, `.messages`, `.messages_to(address)`, `.handler.refuse`, `.reset()`."""
    sink = MailSink(server_place.folder / "mail_sink" / "mails.sqlite")
    controller = SinkController(sink.handler, hostname="127.0.0.1", port=sink.port)
    controller.start()
    yield sink
    controller.stop()
