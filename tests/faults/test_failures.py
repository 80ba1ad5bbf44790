"""What PostgreSQL says when it can't: what may pass is tried again and done once, what does not pass stops loudly."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import structlog
from asyncpg.exceptions._base import DataError as ArgumentError
from asyncpg.exceptions._base import InterfaceError

from backorder_allocator import batches, store, telemetry
from backorder_allocator.batches import Record
from backorder_allocator.connections import SESSION, passes
from backorder_allocator.errors import NotReadyError
from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_allocator.probing import LIVE_SECONDS, Probes
from backorder_allocator.publishing import Publisher
from backorder_allocator.relay import Relay
from backorder_allocator.watching import end_silent_sessions
from tests.allocator.records import Partitions
from tests.allocator.test_batches import NOW, assert_audit_is_clean, order, receipt, waiting
from tests.conftest import Databases
from tests.e2e.processes import eventually
from tests.faults.campaign.proxy import Hold, Link, Pass
from tests.faults.test_lost_replies import through

PASSING = [
    *(asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.ConnectionDoesNotExistError),
    *(asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError),
    *(asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.IdleInTransactionSessionTimeoutError),
    *(asyncpg.TransactionTimeoutError, asyncpg.IdleSessionTimeoutError, asyncpg.TooManyConnectionsError),
    *(asyncpg.ReadOnlySQLTransactionError, asyncpg.InFailedSQLTransactionError, asyncpg.OutOfMemoryError),
    *(asyncpg.InvalidCachedStatementError, InterfaceError, ConnectionResetError, TimeoutError),
]
STOPPING = [
    *(asyncpg.DiskFullError, asyncpg.PostgresIOError, asyncpg.InsufficientPrivilegeError, asyncpg.CheckViolationError),
    *(asyncpg.UndefinedTableError, asyncpg.InvalidPasswordError, asyncpg.DataCorruptedError, ArgumentError, KeyError),
]


@pytest.mark.parametrize("kind", [*PASSING, *STOPPING], ids=lambda kind: kind.__name__)
def test_what_passes_by_itself_is_known(kind: type[Exception]) -> None:
    assert passes(kind("said by a test")) == (kind in PASSING)


@dataclass
class Site:
    """A database with a batch already done, and a second one to do; `admin` is nobody's connection."""

    url: str
    admin: asyncpg.Connection
    partitions: Partitions
    batch: list[Record]
    roles: list[str] = field(default_factory=list)
    """Made for the test; dropped at its end."""

    @asynccontextmanager
    async def intake(self, url: str | None = None, **session: str) -> AsyncIterator[Intake]:
        settings = SESSION | session
        pool = asyncpg.create_pool(url or self.url, min_size=0, max_size=2, server_settings=settings, command_timeout=3)
        async with pool:
            made = Intake(pool, Context(), lambda: None)
            made.stopping.set()  # no pause between tries
            yield made


@pytest.fixture
async def link(site: Site) -> AsyncIterator[Link]:
    """Between the service and its database."""
    port = urlsplit(site.url).port
    assert port is not None
    made = Link("database", "postgres", port)
    await made.listen()
    yield made
    await made.close()


@pytest.fixture
async def site(postgres: Databases, migrated: str) -> AsyncIterator[Site]:
    url = postgres.create_database(migrated)
    admin = await asyncpg.connect(url)
    partitions = Partitions()
    await store.add_cursors(admin, [("orders", 0), ("stock-received", 0)])
    await batches.work(admin, partitions.records([receipt("r", 1)]), Context(), NOW)
    made = Site(url, admin, partitions, partitions.records([order("1", 2)]))
    yield made
    for role in made.roles:
        await admin.execute(f"DROP OWNED BY {role}")
        await admin.execute(f"DROP ROLE {role}")
    await admin.close()


Obstacle = Callable[[Site], AbstractAsyncContextManager[dict[str, str]]]
"""While it is entered, the batch can't be done. Gives settings of the session that it needs; "url" is not one."""


@asynccontextmanager
async def a_lock_held_too_long(site: Site) -> AsyncIterator[dict[str, str]]:
    async with site.admin.transaction():
        await site.admin.execute("SELECT FROM pools FOR UPDATE")
        yield {"lock_timeout": "100"}


@asynccontextmanager
async def a_statement_that_takes_too_long(site: Site) -> AsyncIterator[dict[str, str]]:
    async with site.admin.transaction():
        await site.admin.execute("SELECT FROM pools FOR UPDATE")
        yield {"statement_timeout": "100"}


@asynccontextmanager
async def a_deadlock(site: Site) -> AsyncIterator[dict[str, str]]:
    """Somebody with a tool locks the other way round: first the pool, then a cursor."""

    async def waits() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        await site.admin.execute("SELECT pg_stat_clear_snapshot()")
        return bool(await site.admin.fetchval(query))

    async def lock_the_cursor() -> None:
        await eventually(waits, "the batch to wait for its pool")
        # Whoever waited longest is ended; it is the batch.
        await site.admin.execute("SELECT FROM cursors FOR UPDATE")

    async with site.admin.transaction():
        await site.admin.execute("SELECT FROM pools FOR UPDATE")
        locking = asyncio.create_task(lock_the_cursor())
        yield {"deadlock_timeout": "50"}
        await locking


@asynccontextmanager
async def a_standby_that_was_the_primary(site: Site) -> AsyncIterator[dict[str, str]]:
    name = await site.admin.fetchval("SELECT quote_ident(current_database())")
    await site.admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    yield {}
    await site.admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@asynccontextmanager
async def no_connection_left(site: Site) -> AsyncIterator[dict[str, str]]:
    """An ordinary user who may have one, and has it."""
    user, password = f"limited_{secrets.token_hex(4)}", secrets.token_hex(8)
    await site.admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}' CONNECTION LIMIT 1")
    site.roles.append(user)
    await site.admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}")
    await site.admin.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {user}")
    parts = urlsplit(site.url)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))
    held = await asyncpg.connect(url)
    try:
        yield {"url": url}
    finally:
        await held.close()


OBSTACLES: dict[Obstacle, str] = {
    a_lock_held_too_long: "LockNotAvailableError",
    a_statement_that_takes_too_long: "QueryCanceledError",
    a_deadlock: "DeadlockDetectedError",
    a_standby_that_was_the_primary: "ReadOnlySQLTransactionError",
    no_connection_left: "TooManyConnectionsError",
}


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda each: each.__name__)
async def test_what_stands_in_the_way_for_a_while_is_waited_out(site: Site, obstacle: Obstacle) -> None:
    # Entered first and left in between: the same sessions must get on afterwards.
    async with obstacle(site) as session:
        url = session.pop("url", None)
        making = site.intake(url, **session)
        intake = await making.__aenter__()
        assert not await intake.take(lambda: site.batch)
        assert (intake.health.failing_with or "").startswith(OBSTACLES[obstacle])
        assert intake.health.stopped_by is None, "it is no bug"
    assert await intake.take(lambda: site.batch)
    await making.__aexit__(None, None, None)
    assert await waiting(site.admin) == {"1": 1}
    assert await site.admin.fetchval("SELECT count(*) FROM journal") == 2
    await assert_audit_is_clean(site.admin)


async def test_a_transaction_that_idled_too_long_is_done_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.append_journal

    async def after_a_nap(*args: Any, **more: Any) -> Any:
        await asyncio.sleep(0.3)
        return await real(*args, **more)

    async with site.intake(idle_in_transaction_session_timeout="100") as intake:
        with monkeypatch.context() as patch:
            patch.setattr(store, "append_journal", after_a_nap)
            assert not await intake.take(lambda: site.batch)
        assert intake.health.stopped_by is None
        assert await intake.take(lambda: site.batch)
    assert await waiting(site.admin) == {"1": 1}


async def test_a_full_disk_stops_the_input_loudly_and_it_goes_on_when_there_is_space(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any, **__: Any) -> Any:
        raise asyncpg.DiskFullError("could not extend file: No space left on device")

    async with site.intake() as intake:
        with monkeypatch.context() as patch:
            patch.setattr(store, "append_events", full)
            assert not await intake.take(lambda: site.batch)
            assert not await intake.take(lambda: site.batch)
        assert told(intake) == "DiskFullError: could not extend file: No space left on device"
        assert telemetry.STOPPED._value.get() == 1
        assert await site.admin.fetchval("SELECT count(*) FROM dead_letters") == 0, "nothing is drained"
        assert await intake.take(lambda: site.batch)
        assert told(intake) is None
        assert telemetry.STOPPED._value.get() == 0
    assert await waiting(site.admin) == {"1": 1}


async def test_a_bug_that_stays_is_told_once_and_tried_less_and_less_often(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    pauses: list[int] = []

    async def pause(intake: Intake) -> None:
        pauses.append(intake.health.failures)

    monkeypatch.setattr(Intake, "pause", pause)
    async with site.intake() as intake:
        intake.stopping.clear()
        with monkeypatch.context() as patch, structlog.testing.capture_logs() as said:
            patch.setattr(batches, "decide", bug)
            for _ in range(4):
                assert not await intake.take(lambda: site.batch)
                # What is read again is read from the cursors, which can be had.
                await intake.positions([("orders", 0)])
        assert pauses == [1, 2, 3, 4]
        assert [line["event"] for line in said] == ["input stands still: this error does not pass by itself"]
        assert told(intake) == "ZeroDivisionError: a bug"
        assert await intake.take(lambda: site.batch)
        assert told(intake) is None


def told(intake: Intake) -> str | None:
    """What stops it, as /readyz says."""
    return intake.health.stopped_by


async def test_a_network_that_swallows_everything_is_given_up_and_another_connection_taken(
    site: Site, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.lock_cursors

    async def into_a_black_hole(*args: Any) -> Any:
        link.change(Hold(("to_server", "to_client")))
        return await real(*args)

    async with site.intake(through(link, site.url)) as intake:
        with monkeypatch.context() as patch:
            patch.setattr(store, "lock_cursors", into_a_black_hole)
            assert not await intake.take(lambda: site.batch)
        assert intake.health.stopped_by is None
        link.change(Pass())
        assert await intake.take(lambda: site.batch)
    assert await waiting(site.admin) == {"1": 1}


async def test_a_bug_in_publishing_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    errors: list[Exception] = [NotReadyError("Kafka is away")] * 2 + [ZeroDivisionError("a bug")] * 2
    relay = Relay("r", "", lambda: pytest.fail("nothing is to be sent"))
    publisher = Publisher(relay, lambda: asyncpg.connect(site.url))
    seen: list[int] = []

    async def turn(_: asyncpg.Connection) -> bool:
        seen.append(publisher.failures)
        if errors:
            raise errors.pop(0)
        publisher.last_turn.set()
        return False

    monkeypatch.setattr(relay, "turn", turn)
    async with asyncio.timeout(20):
        await publisher.run()
    assert seen == [0, 1, 2, 3, 4, 0]
    assert publisher.failing_with is None


async def test_a_process_is_alive_while_it_begins_and_not_once_nobody_polls(site: Site) -> None:
    """What `live` says when the client library's tasks have died, which no request to it would show."""
    async with site.intake() as intake:
        intake.stopping.clear()
        runs = asyncio.create_task(asyncio.sleep(3600))
        consumer = SimpleNamespace(
            _coordinator=SimpleNamespace(_coordination_task=runs, coordinator_id=1),
            _fetcher=SimpleNamespace(_fetch_task=runs),
            _client=SimpleNamespace(_sync_task=runs),
            assignment=set,
        )
        subscriber = SimpleNamespace(consumer=None, tasks=[runs])
        probes = Probes(intake.pool, intake, subscriber, Publisher(Relay("r", "", never), never), ())
        assert (await probes.live()).ok, "the consumer is not made yet"
        subscriber.consumer = consumer
        assert (await probes.live()).ok

        intake.health.last_attempt = intake.health.last_poll = monotonic() - LIVE_SECONDS - 1
        assert (await probes.live()).reasons == ("nothing was asked for, and no batch done, for 60 s",)
        async with intake.in_hand:
            assert (await probes.live()).ok, "a batch may take longer"
        intake.health.last_poll = monotonic()
        assert (await probes.live()).ok
        runs.cancel()
        await asyncio.wait([runs])
        assert (await probes.live()).reasons == ("the member of the consumer group has ended",)


async def never() -> Any:
    raise AssertionError("nothing is to be connected")


async def in_the_middle_of_preparing(frozen: asyncpg.Connection) -> None:
    """The driver asks the server to flush, and synchronizes only when it executes."""
    await frozen.prepare("SELECT 'never executed'")


async def in_the_middle_of_a_copy(frozen: asyncpg.Connection) -> None:
    async def nothing_comes() -> AsyncIterator[bytes]:
        began.set()
        await asyncio.sleep(3600)
        yield b""

    began = asyncio.Event()
    copying = asyncio.create_task(frozen.copy_to_table("alert_versions", source=nothing_comes()))
    await began.wait()
    copying.add_done_callback(lambda task: task.cancelled() or task.exception())


@pytest.mark.parametrize(
    "freeze", [in_the_middle_of_preparing, in_the_middle_of_a_copy], ids=lambda each: each.__name__
)
async def test_a_process_that_freezes_where_no_time_limit_counts_holds_the_log_for_seconds_only(
    site: Site, freeze: Callable[[asyncpg.Connection], Awaitable[None]]
) -> None:
    strict = SESSION | {"application_name": "backorder-allocator", "statement_timeout": "100"}
    strict |= {"idle_in_transaction_session_timeout": "100"}
    frozen = await asyncpg.connect(site.url, server_settings=strict)
    await frozen.execute("BEGIN")
    await frozen.execute("SELECT FROM log_head FOR UPDATE")
    await freeze(frozen)

    async def is_free() -> bool:
        await end_silent_sessions(site.admin, 0.5)
        return not await site.admin.fetch("SELECT FROM pg_locks WHERE pid = $1", frozen.get_server_pid())

    await eventually(is_free, "what it held to be free")
    async with site.intake() as intake:
        assert await intake.take(lambda: site.batch)
    assert await waiting(site.admin) == {"1": 1}
    frozen.terminate()
