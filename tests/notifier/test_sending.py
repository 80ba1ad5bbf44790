"""The senders of one process on a real database and mail server: what they do when noting down takes its time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from backorder_notifier import store
from backorder_notifier.intake import take_batch
from backorder_notifier.sending import Patience, Sending
from backorder_notifier.settings import Sender, SmtpServer
from backorder_notifier.smtp import MailServer
from tests.notifier.messages import Log, created, filled, placed
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.world import eventually

LEASE = timedelta(seconds=1.5)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with await store.open_pool(database, size=4) as pool:
        yield pool


def sending(pool: asyncpg.Pool, script: ScriptedServer, give_up_after: timedelta = timedelta(days=5)) -> Sending:
    """One mail at a time, so that a second one is claimed and waits."""
    server = MailServer(SmtpServer("127.0.0.1", script.port, "none"), LEASE / 2)
    patience = Patience(LEASE, timedelta(seconds=0.05), timedelta(seconds=0.1), give_up_after)
    return Sending(pool, server, Sender("shop@example.org", None), patience, 1, lambda: None)


async def record(connection: asyncpg.Connection, *messages: Any) -> None:
    await take_batch(connection, Log().records(*messages), datetime.now(UTC), None)


async def states(connection: asyncpg.Connection) -> list[tuple[str, str | None]]:
    rows = await store.list_deliveries(connection, None, None, 100)
    return [(row.state, row.reason) for row in sorted(rows, key=lambda row: (row.order_id, row.position))]


async def test_a_mail_taken_while_the_database_is_away_for_longer_than_the_lease_is_not_sent_again(
    pool: asyncpg.Pool, connection: asyncpg.Connection, script: ScriptedServer, postgres: Any
) -> None:
    await record(connection, placed(), created())
    name = await connection.fetchval("SELECT current_database()")
    admin = await asyncpg.connect(postgres.admin_url)
    gone = asyncio.Event()

    async def away() -> None:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        gone.set()

    hold = script.hold_answers()
    senders = sending(pool, script)
    work = asyncio.create_task(senders.run())
    await eventually(lambda: _true(len(script.seen) == 1))
    await away()
    hold.set()
    await asyncio.sleep(2 * LEASE.total_seconds())
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await admin.close()

    async def settled() -> bool:
        async with pool.acquire() as again:
            return await states(again) == [("sent", None)]

    await eventually(settled)
    senders.stop()
    await work
    assert len(script.seen) == 1


async def _true(value: bool) -> bool:
    return value


async def test_what_waited_beyond_its_lease_is_left_to_whoever_has_it_now(
    pool: asyncpg.Pool, connection: asyncpg.Connection, database: str, script: ScriptedServer
) -> None:
    await record(connection, placed("1"), placed("2"), created("1"), created("2"))
    senders = sending(pool, script)
    async with connection.transaction():
        # Whichever goes first can't be noted down until here is the end.
        await connection.execute("SELECT FROM orders FOR UPDATE")
        work = asyncio.create_task(senders.run())
        await eventually(lambda: _true(len(script.accepted) == 1))
        await asyncio.sleep(LEASE.total_seconds())
        other = await asyncpg.connect(database)
        now = datetime.now(UTC)
        claimed = await store.claim_deliveries(other, now, 10, uuid4(), now + timedelta(minutes=1))
        await other.close()
        assert len(claimed) == 2  # both leases are over
    await eventually(lambda: _count_sent(connection))
    senders.stop()
    await work
    assert len(script.accepted) == 1


async def _count_sent(connection: asyncpg.Connection) -> int:
    return [state for state, _ in await states(connection)].count("sent")


async def test_a_mail_that_cannot_be_made_is_given_up_and_later_news_of_the_order_are_told(
    pool: asyncpg.Pool, connection: asyncpg.Connection, script: ScriptedServer
) -> None:
    """An address of an older release stands in for any row that nothing can be made of."""
    await record(connection, placed(), created(), filled())
    await connection.execute("UPDATE orders SET email = 'nobody'")
    senders = sending(pool, script, give_up_after=timedelta(seconds=0.2))
    work = asyncio.create_task(senders.run())
    await eventually(lambda: _all_failed(connection))
    senders.stop()
    await work
    assert await states(connection) == [("failed", "gave up: rendering failed")] * 2


async def _all_failed(connection: asyncpg.Connection) -> bool:
    return {state for state, _ in await states(connection)} == {"failed"}
