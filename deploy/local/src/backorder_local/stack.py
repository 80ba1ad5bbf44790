"""The whole of Backorder on this machine: servers, databases, topics, services, in that order and back."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from backorder_local import finder, services, state
from backorder_local.finder import Server, Way, Wish
from backorder_local.place import Place, place
from backorder_local.services import Service
from backorder_local.state import State

CHECK_SECONDS = 0.2


@dataclass(frozen=True)
class Plan:
    """What to start. Without services: the servers alone. `prefix` goes before topics, groups and databases.

    With `own_sink` the mails go to a sink of ours, even where an environment variable names a mail server.
    With `unsafe_durability` a PostgreSQL that the user named may run without fsync."""

    wish: Wish = Wish()  # noqa: RUF009  frozen
    data_dir: Path | None = None
    prefix: str = ""
    with_services: bool = True
    own_sink: bool = False
    unsafe_durability: bool = False
    allocator_port: int = 0
    notifier_port: int = 0


@dataclass(frozen=True)
class Stack:
    """A stack that is ready. `state` is what other terminals see of it."""

    place: Place
    kafka: Server
    postgres: Server
    mail: Server
    services: tuple[Service, ...]
    state: State


@contextmanager
def stack(plan: Plan, say: Callable[[str], None]) -> Iterator[Stack]:
    """Starts what the plan says and ends it with the block, in reverse order. Raises LocalError."""
    with ExitStack() as opened:
        home = opened.enter_context(place(plan.data_dir))
        say(f"Starting servers in {home.folder}")
        kafka = opened.enter_context(finder.kafka(home, plan.wish, say))
        postgres = opened.enter_context(finder.postgres(home, plan.wish, say))
        mail_wish = replace(plan.wish, way=Way.EMBEDDED) if plan.own_sink else plan.wish
        mail = opened.enter_context(finder.mail(home, mail_wish, say))
        for server in (postgres, mail, kafka):  # the slowest last
            server.wait()
            say(f"  {server.name} ({server.way}) answers")
        variables = services.settings(
            kafka=kafka.address,
            postgres_url=postgres.address,
            smtp=mail.address,
            prefix=plan.prefix,
            allocator_port=plan.allocator_port,
            notifier_port=plan.notifier_port,
        )
        running: tuple[Service, ...] = ()
        if plan.with_services:
            say("Making databases, tables and topics")
            services.prepare(home, postgres.address, variables)
            say("Starting the services")
            running = opened.enter_context(services.services(home, variables, unsafe_durability=plan.unsafe_durability))
        known = State(
            pid=os.getpid(),
            started=state.own_start(),
            folder=str(home.folder),
            prefix=plan.prefix,
            kafka=kafka.address,
            postgres=postgres.address,
            smtp=mail.address,
            sink=mail.process is not None,
            services={service.name: service.url for service in running},
            variables={
                finder.KAFKA_VARIABLE: kafka.address,
                finder.POSTGRES_VARIABLE: postgres.address,
                finder.SMTP_VARIABLE: mail.address,
            }
            | (variables if plan.with_services else {}),
        )
        opened.enter_context(state.published(known))
        yield Stack(home, kafka, postgres, mail, running, known)


def watch(stack: Stack) -> None:
    """Returns never: raises LocalError when a process of the stack ends."""
    while True:
        check(stack)
        time.sleep(CHECK_SECONDS)


def check(stack: Stack) -> None:
    """Raises LocalError if a process of the stack has ended."""
    servers = (stack.kafka, stack.postgres, stack.mail)
    processes = [server.process for server in servers if server.process is not None]
    processes += [service.process for service in stack.services]
    for process in processes:
        if process.exit_code() is not None:
            raise process.failure(f"ended by itself with exit code {process.exit_code()}")
