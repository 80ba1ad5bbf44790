"""The intake: halves what can't be stored, stands still for a bug, tries again what may pass."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from backorder_allocator import batches, dead_letters, store
from backorder_allocator.batches import Record
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import Input
from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_schemas import OrderPlaced
from tests.allocator.records import Partitions
from tests.allocator.test_batches import assert_audit_is_clean, order, waiting


@pytest.fixture
async def intake(database_url: str) -> AsyncIterator[Intake]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2, server_settings=SESSION) as pool:
        made = Intake(pool, Context(), lambda: None)
        made.stopping.set()  # no pause between tries
        async with pool.acquire() as connection:
            await store.add_cursors(connection, [("orders", 0)])
        yield made


def spoiled(record: Record) -> Record:
    """An order that the codec would never let through: PostgreSQL has no text with NUL in it."""
    assert isinstance(record.read, Input)
    assert isinstance(record.read.message, OrderPlaced)
    message = record.read.message.model_copy(update={"order_id": "o\x00"})
    return replace(record, read=Input(message, record.at))


async def test_one_message_that_cannot_be_stored_is_found_among_many_and_the_others_are_worked(intake: Intake) -> None:
    records = Partitions().records(order(str(number), 1) for number in range(40))
    records[23] = spoiled(records[23])
    assert await intake.take(lambda: records)
    async with intake.pool.acquire() as connection:
        assert set(await waiting(connection)) == {str(number) for number in range(40) if number != 23}
        (letter,) = await dead_letters.find(connection)
        assert (letter.offset, letter.reason) == (23, "impossible")
        assert await store.read_cursors(connection, [("orders", 0)]) == {("orders", 0): 40}
        await assert_audit_is_clean(connection)


async def test_a_bug_stops_the_input_and_drains_nothing_into_dead_letters(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Partitions().records([order("1", 1)])

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(batches, "decide", broken)
        assert not await intake.take(lambda: records)
    assert intake.health.stopped_by == "ZeroDivisionError: a bug"
    async with intake.pool.acquire() as connection:
        assert await dead_letters.find(connection) == []
        assert await store.read_cursors(connection, [("orders", 0)]) == {("orders", 0): 0}
    assert await intake.take(lambda: records)
    assert intake.health.stopped_by is None


async def test_a_connection_that_is_ended_in_the_middle_of_a_batch_loses_nothing(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Partitions().records([order("1", 1)])
    real = store.append_journal

    async def cut(connection: Any, *args: Any, **more: Any) -> Any:
        async with intake.pool.acquire() as other:
            await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
        return await real(connection, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(store, "append_journal", cut)
        assert not await intake.take(lambda: records)
    assert intake.health.stopped_by is None
    assert await intake.take(lambda: records)
    async with intake.pool.acquire() as connection:
        assert await waiting(connection) == {"1": 1}
        await assert_audit_is_clean(connection)


async def test_a_rebalance_waits_for_the_batch_in_hand(intake: Intake) -> None:
    from backorder_allocator.subscribers import Positions

    events = []
    positions = Positions(intake, "")
    started = asyncio.Event()

    async def batch() -> None:
        async with intake.in_hand:
            started.set()
            await asyncio.sleep(0)
            events.append("batch")

    working = asyncio.create_task(batch())
    await started.wait()
    await positions.on_partitions_revoked(set())
    events.append("revoked")
    await working
    assert events == ["batch", "revoked"]


async def test_a_batch_that_is_too_large_for_any_time_limit_is_worked_in_smaller_ones(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Partitions().records(order(str(number), 1) for number in range(40))
    real = batches.work

    async def slow(connection: Any, some: Any, *args: Any) -> Any:
        if len(some) > 5:
            raise asyncpg.IdleInTransactionSessionTimeoutError("too slow, says a test")
        return await real(connection, some, *args)

    monkeypatch.setattr(batches, "work", slow)
    tries = 1
    while not await intake.take(lambda: records):
        tries += 1
    assert tries == 4
    async with intake.pool.acquire() as connection:
        assert len(await waiting(connection)) == 40
        await assert_audit_is_clean(connection)
