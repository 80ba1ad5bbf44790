"""A process that stands still for longer than its lease, or has no rights: it does no harm, and says what is wrong."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from backorder_notifier import delivery_store
from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.delivering import Limits, Patience, Provider
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.sending import Sending
from backorder_notifier.starting import ready_database
from backorder_notifier.statements import open_pool
from tests.notifier.staged import delivery, stage
from tests.notifier.world import eventually

LEASE = timedelta(seconds=1)


class Watching:
    """Takes everything, and notes whether the sender's lease was still running then."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.in_time: list[bool] = []

    async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
        del now
        ends_at = await self.pool.fetchval("SELECT due_at FROM deliveries WHERE delivery_id = $1", outgoing.delivery_id)
        self.in_time.append(ends_at > datetime.now(UTC))
        return Answer("sent")

    async def close(self) -> None:
        pass


async def test_what_was_taken_so_slowly_that_another_may_have_it_is_not_begun(
    connection: asyncpg.Connection, database: str
) -> None:
    """Else a sender that was frozen would send an old message after a newer one of its replacement."""
    staged = await stage(connection)
    async with await open_pool(database, size=8) as pool:
        watching = Watching(pool)
        patience = Patience(LEASE, LEASE, LEASE, timedelta(days=5))
        provider = Provider(watching, Limits(1000, 4), patience)
        senders = Sending(pool, {"email": provider}, lambda: None, lambda: datetime.now(UTC))
        async with connection.transaction():
            await delivery_store.refill_provider(connection, "email", datetime.now(UTC), 1000, 1000)
            work = asyncio.create_task(senders.run())

            async def waits() -> Any:
                return await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")

            await eventually(waits)
            await asyncio.sleep(LEASE.total_seconds())  # it is time itself that passes here

        async def sent() -> bool:
            return bool((await delivery(connection, staged))["state"] == "sent")

        await eventually(sent)
        senders.stop()
        await work
    assert watching.in_time == [True]
    assert (await delivery(connection, staged))["attempts"] == 1


async def test_a_user_without_rights_is_told_so_at_start(connection: asyncpg.Connection, database: str) -> None:
    role = urlsplit(database).path[1:] + "_reader"
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'reads'")
    try:
        parts = urlsplit(database)
        url = urlunsplit(parts._replace(netloc=f"{role}:reads@{parts.hostname}:{parts.port}"))
        async with await open_pool(url, size=1) as pool:
            with pytest.raises(ConfigurationError, match="NOTIFIER_DATABASE_URL: its user lacks a right"):
                await ready_database(pool)
    finally:
        await connection.execute(f"DROP ROLE {role}")
