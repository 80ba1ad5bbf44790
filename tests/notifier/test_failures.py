"""What fails passes, or stands still and says so: nothing is lost by it, nothing told twice, and no log overflows."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from backorder_notifier import reading, statements, teller_loop
from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.content import ContentLine
from backorder_notifier.delivering import Limits, Patience, Provider
from backorder_notifier.errors import is_not_ready
from backorder_notifier.intake import take_batch
from backorder_notifier.outcomes import outcome
from backorder_notifier.policy import Policy
from backorder_notifier.pulse import Pulse
from backorder_notifier.reading import Reader
from backorder_notifier.relay import Relay
from backorder_notifier.sending import Sending
from backorder_notifier.statements import borrowed, open_pool
from backorder_notifier.telemetry import Logger
from backorder_notifier.teller_loop import Teller
from backorder_schemas import CustomerNotified, Decoded, decode
from tests.notifier.messages import NOON, Log, created, placed
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.staged import delivery, stage
from tests.notifier.wire import wire, wire_to
from tests.notifier.world import Process, World, eventually, get

LEASE = timedelta(seconds=1)
PATIENCE = Patience(LEASE, timedelta(milliseconds=100), timedelta(seconds=1), timedelta(days=5))


def now() -> datetime:
    return datetime.now(UTC)


class Taking:
    """A mail server that takes everything, and counts."""

    def __init__(self) -> None:
        self.taken = 0

    async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
        del outgoing, now
        self.taken += 1
        return Answer("sent")

    async def close(self) -> None:
        pass


# What passes by itself


async def fails(connection: asyncpg.Connection, *statements: str) -> BaseException:
    """What the last one raises."""
    *before, last = statements
    for each in before:
        await connection.execute(each)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is what the test looks at
        await connection.execute(last)
    return raised.value


async def deadlock(connection: asyncpg.Connection, other: asyncpg.Connection) -> BaseException:
    for each in (connection, other):
        await each.execute("SET deadlock_timeout = '50ms'")
    await connection.execute("BEGIN; SELECT pg_advisory_xact_lock(1)")
    await other.execute("BEGIN; SELECT pg_advisory_xact_lock(2)")
    found = await asyncio.gather(
        connection.execute("SELECT pg_advisory_xact_lock(2)"),
        other.execute("SELECT pg_advisory_xact_lock(1)"),
        return_exceptions=True,
    )
    (error,) = [each for each in found if isinstance(each, BaseException)]
    return error


async def serialization(connection: asyncpg.Connection, other: asyncpg.Connection) -> BaseException:
    await connection.execute("CREATE TABLE one (value integer); INSERT INTO one VALUES (1)")
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM one")
    await other.execute("UPDATE one SET value = 2")
    return await fails(connection, "UPDATE one SET value = 3")


async def lock_timeout(connection: asyncpg.Connection, other: asyncpg.Connection) -> BaseException:
    await other.execute("BEGIN; LOCK TABLE orders")
    return await fails(connection, "SET lock_timeout = '10ms'", "SELECT * FROM orders")


async def statement_timeout(connection: asyncpg.Connection, _other: asyncpg.Connection) -> BaseException:
    return await fails(connection, "SET statement_timeout = '10ms'", "SELECT pg_sleep(5)")


async def client_gave_up(connection: asyncpg.Connection, _other: asyncpg.Connection) -> BaseException:
    with pytest.raises(TimeoutError) as raised:
        await connection.execute("SELECT pg_sleep(5)", timeout=0.05)
    return raised.value


async def idle_for_too_long(connection: asyncpg.Connection, other: asyncpg.Connection) -> BaseException:
    pid = connection.get_server_pid()
    await connection.execute("SET idle_in_transaction_session_timeout = '10ms'; BEGIN")
    await gone(other, pid)
    return await fails(connection, "SELECT 1")


async def shut_down(connection: asyncpg.Connection, other: asyncpg.Connection) -> BaseException:
    pid = connection.get_server_pid()
    sleeping = asyncio.create_task(fails(connection, "SELECT pg_sleep(5)"))

    async def sleeps() -> bool:
        return bool(
            await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", pid)
        )

    await eventually(sleeps)
    await other.execute(f"SELECT pg_terminate_backend({pid})")
    return await sleeping


async def cut_while_idle(connection: asyncpg.Connection, other: asyncpg.Connection) -> BaseException:
    pid = connection.get_server_pid()
    await other.execute(f"SELECT pg_terminate_backend({pid})")
    await gone(other, pid)
    return await fails(connection, "SELECT 1")


async def read_only(connection: asyncpg.Connection, _other: asyncpg.Connection) -> BaseException:
    return await fails(connection, "SET default_transaction_read_only = on", "UPDATE orders SET name = 'x'")


async def failed_transaction(connection: asyncpg.Connection, _other: asyncpg.Connection) -> BaseException:
    await connection.execute("BEGIN")
    await fails(connection, "SELECT 1 / 0")
    return await fails(connection, "SELECT 1")


async def full_disk(connection: asyncpg.Connection, _other: asyncpg.Connection) -> BaseException:
    """As PostgreSQL says it; no disk is filled for it."""
    return await fails(
        connection, "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    )


async def gone(other: asyncpg.Connection, pid: int) -> None:
    async def is_gone() -> bool:
        return not await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)

    await eventually(is_gone)


PASSES = [
    deadlock, serialization, lock_timeout, statement_timeout, client_gave_up, idle_for_too_long, shut_down,
    cut_while_idle, read_only, failed_transaction, full_disk,
]  # fmt: skip


@pytest.mark.parametrize("cause", PASSES)
async def test_what_passes_by_itself_is_known_as_such(
    cause: Callable[..., Awaitable[BaseException]], database: str
) -> None:
    connection, other = await asyncpg.connect(database), await asyncpg.connect(database)
    try:
        error = await cause(connection, other)
    finally:
        await connection.close(timeout=2)
        await other.close(timeout=2)
    assert is_not_ready(error), repr(error)


async def test_too_many_connections_and_no_server_pass_too(
    connection: asyncpg.Connection, database: str, postgres: Any
) -> None:
    name = database.rpartition("/")[2]
    role = f"{name}_few"
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'few' CONNECTION LIMIT 0")
    try:
        with pytest.raises(asyncpg.TooManyConnectionsError) as refused:
            await asyncpg.connect(database, user=role, password="few")
        assert is_not_ready(refused.value)
    finally:
        await connection.execute(f"DROP ROLE {role}")
    with pytest.raises(OSError) as nobody:  # noqa: PT011
        await asyncpg.connect("postgresql://u@127.0.0.1:9/x")
    assert is_not_ready(nobody.value)


async def test_what_does_not_pass_is_not_taken_for_it(connection: asyncpg.Connection) -> None:
    for statement in ("SELECT 1 / 0", "SELECT nothing", "INSERT INTO orders (order_id) VALUES (NULL)"):
        assert not is_not_ready(await fails(connection, statement))


async def test_connections_to_a_server_that_only_lets_us_read_are_not_kept(
    connection: asyncpg.Connection, database: str
) -> None:
    """After a failover the old server may live on as a standby, and a pool would keep its connections to it."""
    name = database.rpartition("/")[2]
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with await open_pool(database, size=2) as pool:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with borrowed(pool) as borrowed_one:
                await borrowed_one.execute("UPDATE orders SET name = 'x'")
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        async with borrowed(pool) as borrowed_one:
            await borrowed_one.execute("UPDATE orders SET name = 'x'")


async def test_a_process_that_is_frozen_while_it_prepares_a_statement_holds_no_locks_for_long(
    connection: asyncpg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the server it is neither idle nor at work: only a limit of the whole transaction ends it."""
    if connection.get_server_version() < (17,):
        pytest.skip("before PostgreSQL 17 transactions have no limit")
    monkeypatch.setattr(statements, "TRANSACTION_SECONDS", 1)
    await stage(connection)
    async with wire_to(database) as line, await open_pool(line.url(database), size=2) as pool:

        async def freezes() -> None:
            async with borrowed(pool) as frozen, frozen.transaction():
                await frozen.fetch("SELECT FROM orders FOR UPDATE")
                line.freeze_after_prepare = True
                await frozen.fetch("SELECT 'a statement that was never prepared'")

        work = asyncio.create_task(freezes())

        async def is_frozen() -> bool:
            found = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event = 'ClientRead' AND state = 'active' AND datname = current_database()"
            )
            return bool(found)

        await eventually(is_frozen)
        await connection.fetch("SELECT FROM orders FOR UPDATE", timeout=10)
        line.cut()
        with pytest.raises(Exception) as lost:  # noqa: PT011 - which one depends on what is noticed first
            await work
        assert is_not_ready(lost.value)


# The answer to a COMMIT is lost


async def test_a_decision_whose_commit_was_not_answered_is_made_once(
    connection: asyncpg.Connection, database: str
) -> None:
    messages = [message.model_copy(update={"occurred_at": now()}) for message in (placed(), created())]
    await take_batch(connection, Log(now=now()).records(*messages), now(), Policy())
    reports: list[Any] = []
    async with wire_to(database) as line, await open_pool(line.url(database), size=2) as pool:
        teller = Teller(pool, Policy(), lambda: now() + timedelta(minutes=5), reports.append)
        line.lose_answers_to_commits = 1
        work = asyncio.create_task(teller.run())

        async def decided_and_gone_on() -> bool:
            return bool(reports)

        await eventually(decided_and_gone_on)
        teller.stop()
        await work
    assert line.lose_answers_to_commits == 0
    assert [report.messages for report in reports] == [0]  # the first was never heard of
    assert await connection.fetchval("SELECT count(*) FROM messages") == 1
    assert await connection.fetchval("SELECT count(*) FROM deliveries") == 1
    assert await connection.fetchval("SELECT state FROM updates WHERE event_id = '1001/v1'") == "told"


async def test_a_mail_whose_mark_was_committed_and_not_answered_goes_once_and_is_reported_once(
    connection: asyncpg.Connection, database: str
) -> None:
    staged = await stage(connection, due_at=now())
    mails = Taking()
    async with wire_to(database) as line, await open_pool(line.url(database), size=6) as pool:
        taking = mails.send

        async def send(outgoing: Outgoing, at: datetime) -> Answer:
            line.lose_answers_to_commits = 1  # the next one is that of the mark
            return await taking(outgoing, at)

        mails.send = send  # type: ignore[method-assign,assignment]
        senders = Sending(pool, {"email": Provider(mails, Limits(1000, 4), PATIENCE)}, lambda: None, now)
        work = asyncio.create_task(senders.run())

        async def marked() -> bool:
            return bool((await delivery(connection, staged))["state"] == "sent")

        await eventually(marked)
        await asyncio.sleep(2 * LEASE.total_seconds())  # in which it would be sent again
        senders.stop()
        await work
    assert line.lose_answers_to_commits == 0
    assert mails.taken == 1
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
    assert await connection.fetchval("SELECT count(*) FROM attempts") == 1


# What takes too long is made smaller

SLOW = """
CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE {what} FOR EACH ROW EXECUTE FUNCTION sleep();
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "STATEMENT_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
async def test_a_round_that_takes_too_long_is_cut_until_it_does_not(
    connection: asyncpg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [placed(f"o{number}") for number in range(40)] + [created(f"o{number}") for number in range(40)]
    records = Log(now=now()).records(*(each.model_copy(update={"occurred_at": now()}) for each in messages))
    await take_batch(connection, records, now(), Policy())
    await connection.execute(SLOW.format(what="UPDATE ON updates"))
    monkeypatch.setattr(teller_loop, "LIMIT", 40)
    async with await open_pool(database, size=2) as pool:
        teller = Teller(pool, Policy(), lambda: now() + timedelta(minutes=5), lambda _report: None)
        work = asyncio.create_task(teller.run())

        async def all_decided() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM updates WHERE state = 'pending'")

        await eventually(all_decided)
        teller.stop()
        await work


@asynccontextmanager
async def reading_by_hand(world: World) -> AsyncIterator[tuple[Reader, AIOKafkaConsumer, Callable[[], Awaitable[Any]]]]:
    """A reader and its consumer, and what polls once as the library would."""

    async def library(consumer: AIOKafkaConsumer) -> list[Any]:
        return [record for part in (await consumer.getmany(timeout_ms=100)).values() for record in part]

    async with (
        await open_pool(world.database, size=3) as pool,
        AIOKafkaConsumer(
            bootstrap_servers=world.kafka, enable_auto_commit=False, auto_offset_reset="earliest"
        ) as consumer,
    ):
        reader = Reader(world.prefix, pool, Policy(), lambda _report: None, now)
        reader.consumer = lambda: consumer

        async def poll() -> Any:
            records = await reader.poll(library, consumer)
            if records:
                await reader.take(records)

        yield reader, consumer, poll


@pytest.mark.usefixtures("impatient")
async def test_a_batch_that_takes_too_long_is_cut_until_it_does_not(
    world: World, connection: asyncpg.Connection
) -> None:
    await connection.execute(SLOW.format(what="INSERT ON orders"))
    for number in range(40):
        order = placed(f"o{number}")
        await world.send_raw("orders", order.order_id.encode(), order.model_dump_json().encode(), partition=0)
    async with reading_by_hand(world) as (reader, consumer, poll):
        consumer.assign([TopicPartition(f"{world.prefix}orders", 0)])
        await reader.on_partitions_assigned(consumer.assignment())

        async def all_taken() -> bool:
            await poll()
            return bool(await connection.fetchval("SELECT count(*) FROM orders") == 40)

        await eventually(all_taken)
        assert reader.is_ready()


async def test_what_failed_before_its_partition_went_to_another_is_not_held_against_it(
    world: World, connection: asyncpg.Connection
) -> None:
    """With nothing more to read it would not be ready for ever."""
    await world.send_raw("orders", b"k", b"{}", partition=0)
    async with reading_by_hand(world) as (reader, consumer, poll):
        consumer.assign([TopicPartition(f"{world.prefix}orders", 0)])
        await reader.on_partitions_assigned(consumer.assignment())
        assert reader.is_ready()
        await connection.execute("ALTER TABLE dead_letters RENAME TO away")

        async def failed() -> bool:
            await poll()
            return not reader.is_ready()

        await eventually(failed)
        await reader.on_partitions_revoked(consumer.assignment())
        consumer.assign([TopicPartition(f"{world.prefix}orders", 1)])
        await reader.on_partitions_assigned(consumer.assignment())
        assert reader.is_ready()


async def test_partitions_that_nobody_placed_are_placed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was to do it was cut off: they would be read from anywhere, or not at all."""
    monkeypatch.setattr(reading, "_PLACE_SECONDS", 0.5)
    async with reading_by_hand(world) as (reader, consumer, poll):
        consumer.assign([TopicPartition(f"{world.prefix}orders", 0)])

        async def ready() -> bool:
            await poll()
            return reader.is_ready()

        await eventually(ready)


# What does not pass stands still, loudly


async def test_a_mail_that_can_not_be_marked_is_not_sent_again_and_again(
    connection: asyncpg.Connection, database: str
) -> None:
    staged = await stage(connection, due_at=now())
    await connection.execute("ALTER TABLE deliveries ADD CONSTRAINT a_bug CHECK (state <> 'sent')")
    mails = Taking()
    async with await open_pool(database, size=6) as pool:
        senders = Sending(pool, {"email": Provider(mails, Limits(1000, 4), PATIENCE)}, lambda: None, now)
        work = asyncio.create_task(senders.run())
        (pulse,) = senders.pulses

        async def says_so() -> bool:
            return not pulse.is_well

        await eventually(says_so)
        await asyncio.sleep(3 * LEASE.total_seconds())  # in which another would take it, if it were let go
        assert mails.taken == 1
        await connection.execute("ALTER TABLE deliveries DROP CONSTRAINT a_bug")

        async def marked() -> bool:
            return bool((await delivery(connection, staged))["state"] == "sent") and pulse.is_well

        await eventually(marked)
        senders.stop()
        await work
    assert mails.taken == 1


async def test_a_lane_that_is_cancelled_does_not_leave_the_others_to_go_on_without_it(database: str) -> None:
    class Standing:
        """In the place of a lane: waits, or ends in a way."""

        def __init__(self, ends: BaseException | None) -> None:
            self.ends = ends

        async def run(self, _seconds: float) -> None:
            if self.ends is None:
                await asyncio.Event().wait()
            else:
                raise self.ends

    async with await open_pool(database, size=1) as pool:
        for end, seen in ((asyncio.CancelledError(), asyncio.CancelledError), (KeyError("a bug"), KeyError)):
            senders = Sending(pool, {}, lambda: None, now)
            senders._lanes = [Standing(None), Standing(end)]  # type: ignore[list-item]
            work = asyncio.create_task(senders.run())
            await asyncio.wait({work}, timeout=5)
            with pytest.raises(seen):
                await work


async def test_an_outcome_can_be_made_however_much_the_message_told() -> None:
    """Refused, it would be refused after the mail was sent, and the mail be sent again."""
    wide = "🙂" * 190  # four bytes each
    made = outcome(
        order_id=wide, customer_id=wide, version=1, epoch=1, kind="backorder_filled", channel="email", attempts=1,
        failure=None, about=[f"{wide}{number:010}" for number in range(1500)],
        lines=[
            ContentLine(line_no=number + 1, sku=f"{wide}{number:010}", waiting=1, expected=NOON)
            for number in range(1000)
        ],
        occurred_at=NOON, traceparent=None,
    )  # fmt: skip
    assert len(made.value) <= 1_000_000
    decoded = decode("notifications", made.key, made.value, made.headers)
    assert isinstance(decoded, Decoded)
    assert isinstance(decoded.message, CustomerNotified)
    assert len(decoded.message.about) == 1000
    assert decoded.message.told == ()


# What is away is waited for


async def test_while_kafka_is_away_outcomes_stay_and_are_published_when_it_is_back(
    connection: asyncpg.Connection, database: str, world: World
) -> None:
    staged = await stage(connection, due_at=now())
    mails = Taking()
    host, _, port = world.kafka.partition(",")[0].rpartition(":")
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(wire(host, int(port)))
        pool = await stack.enter_async_context(await open_pool(database, size=8))
        line.cut()
        relay = Relay(pool, [f"127.0.0.1:{line.port}"], world.prefix)
        senders = Sending(pool, {"email": Provider(mails, Limits(1000, 4), PATIENCE)}, relay.poke, now)
        work = [asyncio.create_task(each) for each in (relay.run(), senders.run())]

        async def sent_and_not_published() -> bool:
            return not relay.pulse.is_well and (await delivery(connection, staged))["state"] == "sent"

        await eventually(sent_and_not_published)
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
        line.mend()

        async def published() -> bool:
            return relay.pulse.is_well and not await connection.fetchval("SELECT count(*) FROM outbox")

        await eventually(published)
        relay.stop()
        senders.stop()
        await asyncio.gather(*work)
    assert len(await world.outcomes()) == 1


async def test_a_database_that_is_away_is_waited_for_with_few_words(world: World, script: ScriptedServer) -> None:
    async with wire_to(world.database) as line:
        process = await world.start(NOTIFIER_DATABASE_URL=line.url(world.database))
        await world.send(placed("before"), created("before"))
        await world.settled(1)
        lines_before = process.log.count("\n")
        line.cut()
        for number in range(10):
            await world.send(placed(f"o{number}"), created(f"o{number}"))

        async def says_so() -> bool:
            return (await answers(process, "readyz"))[0] == 503

        await eventually(says_so)
        await asyncio.sleep(3)  # an outage, in which it tries again and again
        status, body = await answers(process, "livez")
        assert status == 200, body
        said = process.log.count("\n") - lines_before
        line.mend()
        await world.settled(11, 40)
        assert len(script.accepted) == 11
        assert said <= 20, process.log
        assert process.process.returncode is None


async def answers(process: Process, page: str) -> tuple[int, str]:
    return await asyncio.to_thread(get, f"http://127.0.0.1:{process.port}/{page}")


class Written:
    """In the place of a logger: the levels of the lines."""

    def __init__(self) -> None:
        self.levels: list[str] = []

    def warning(self, _event: str, **_more: Any) -> None:
        self.levels.append("warning")

    def error(self, _event: str, **_more: Any) -> None:
        self.levels.append("error")


def test_a_part_says_little_of_what_passes_and_more_of_what_does_not() -> None:
    for error, level, most in (
        (ConnectionResetError(), "warning", 25),
        (asyncpg.DiskFullError(), "error", 105),
        (KeyError("a bug"), "error", 105),
    ):
        log, pulse = Written(), Pulse("telling")
        for _ in range(1000):
            pulse.fails(cast("Logger", log), "failed", error)
        assert 10 < len(log.levels) < most
        assert set(log.levels) == {level}
        assert not pulse.is_well
        assert pulse.pause(15) <= 18
        pulse.succeeds()
        assert pulse.is_well


def test_a_part_that_does_not_come_round_any_more_is_not_alive() -> None:
    assert Pulse("telling").is_alive
    assert not Pulse("telling", longest_seconds=0).is_alive


# The end, asked for at any moment

MOMENTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.6, 2.1, 3.0)
AT_ONCE = 4


async def test_a_process_that_is_told_to_end_at_any_moment_of_its_start_ends_in_order(world: World) -> None:
    for first in range(0, len(MOMENTS), AT_ONCE):
        ends = await asyncio.gather(*(ended_after(world, seconds) for seconds in MOMENTS[first : first + AT_ONCE]))
        assert ends == [0] * len(ends), [process.log for process in world.processes[first:]]


def catches_sigterm(status: Path) -> bool:
    caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


async def ended_after(world: World, seconds: float) -> int:
    """The exit code of one that hears of it so long after it can hear at all: Python itself takes 30 ms to begin."""
    process = await world.start(ready=False)
    status = Path(f"/proc/{process.process.pid}/status")

    async def hears() -> bool:
        return catches_sigterm(status)

    await eventually(hears)
    await asyncio.sleep(seconds)  # the moments are spread over what a start takes
    return await process.stop()
