"""Who was frozen and is overtaken is refused; who finds that the database has lost commits ends."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from backorder_notifier import store
from backorder_notifier.fences import LostCommitsError, Memory
from backorder_notifier.relay import LEASE_NAME, Relay
from backorder_notifier.rows import CursorPosition
from backorder_notifier.statements import open_pool
from backorder_notifier.telemetry import REGISTRY
from tests.notifier.messages import created, filled, placed
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.world import Process, World, eventually, get

FENCED_RELAYS = ("backorder_notifier_fenced_total", {"what": "relay"})
HERE, ELSEWHERE = ("t.orders", 0), ("t.orders", 1)


@asynccontextmanager
async def database_of(world: World) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(world.database)
    yield connection
    await connection.close()


async def worked(world: World, topic: str, offset: int) -> None:
    """Until so many records of its one partition that has any are."""

    async def there() -> bool:
        async with database_of(world) as connection:
            at = await connection.fetchval(
                "SELECT sum(next_offset) FROM cursors WHERE topic = $1", world.prefix + topic
            )
        return bool(at is not None and at >= offset)

    await eventually(there, 40)


async def logged(process: Process, event: str) -> dict[str, Any]:
    """The first line of that name."""
    await process.logged(f'"event": "{event}"', 60)
    lines = (json.loads(line) for line in process.log.splitlines() if line.startswith("{"))
    return next(line for line in lines if line["event"] == event)


async def test_who_wakes_up_with_a_batch_that_another_has_worked_meanwhile_is_refused_and_counted(
    world: World, script: ScriptedServer
) -> None:
    await world.send(placed("1"))
    sleeper = await world.start(BACKORDER_FAIL_POINT="intake.begun=stop@3")
    await worked(world, "orders", 1)
    await world.send(created("1"))
    await worked(world, "backorders", 1)
    await world.send(filled("1", 2, quantity=5, quantity_waiting=10))
    await sleeper.logged("fail point intake.begun: stop", 40)
    await world.start()
    await worked(world, "backorders", 2)
    told = await world.settled(2, 40)
    sleeper.process.send_signal(signal.SIGCONT)
    line = await logged(sleeper, "fenced")
    assert (line["what"], line["topic"], line["worked_by_another_up_to"]) == (
        "partition",
        f"{world.prefix}backorders",
        2,
    )
    _, metrics = await asyncio.to_thread(get, f"http://127.0.0.1:{sleeper.port}/metrics")
    assert 'backorder_notifier_fenced_total{what="partition"} 1.0' in metrics
    refused = [row for row in (await world.json("status"))["cursors"] if row["refused"]]
    assert [(row["topic"], row["refused"]) for row in refused] == [(f"{world.prefix}backorders", 1)]
    assert refused[0]["refused_at"]
    assert len(await world.deliveries()) == len(told) == len(script.accepted)


async def test_commits_that_are_lost_under_a_running_process_end_it_and_are_told_after_all(
    world: World, script: ScriptedServer
) -> None:
    """Set back, as a crash without synchronous_commit or a failover to a server that lagged would."""
    running = await world.start()
    await world.send(placed("1"), created("1"))
    await world.settled(1)
    async with database_of(world) as connection:
        kept = await connection.fetch("SELECT topic, partition, next_offset FROM cursors")
        await world.send(placed("2"), created("2"))
        await world.settled(2)
        assert await eventually(lambda: world.outcomes("2"))
        async with connection.transaction():
            await connection.execute(ALL_OF_ORDER_2)
            for row in kept:
                await connection.execute(
                    "UPDATE cursors SET next_offset = $3 WHERE topic = $1 AND partition = $2", *row.values()
                )
    # Nothing more comes: that it is quiet hides nothing.
    async with asyncio.timeout(30):
        assert await running.process.wait() == 2
    last = running.log.rpartition("backorder-notifier: ")[2]
    assert last.startswith(f"the database has lost commits: topic {world.prefix}")
    assert "was worked up to offset" in last
    again = await world.start(ready=False)
    async with asyncio.timeout(60):
        assert await again.process.wait() == 2
    assert "order 2 version 1" in again.log
    assert "--accept-restored-database" in again.log
    await world.start("--accept-restored-database")
    await world.settled(2)
    assert sorted(Counter(mail["Message-ID"] for mail in script.accepted).values()) == [1, 2]


ALL_OF_ORDER_2 = """
DELETE FROM attempts WHERE delivery_id IN (SELECT delivery_id FROM deliveries WHERE order_id = '2');
DELETE FROM deliveries WHERE order_id = '2';
DELETE FROM updates WHERE order_id = '2';
DELETE FROM messages WHERE order_id = '2';
DELETE FROM versions WHERE key = '2';
DELETE FROM outbox;
DELETE FROM orders WHERE order_id = '2';
"""


async def test_a_batch_on_a_position_that_went_back_ends_the_process_before_anything_is_worked(world: World) -> None:
    running = await world.start()
    await world.send(placed("1"), created("1"))
    await world.settled(1)
    async with database_of(world) as connection:
        await connection.execute("UPDATE cursors SET next_offset = 0")
    await world.send(filled("1", 2, quantity=5, quantity_waiting=10))
    async with asyncio.timeout(30):
        assert await running.process.wait() == 2
    async with database_of(world) as connection:
        assert not await connection.fetchval("SELECT count(*) FROM updates WHERE event_id = '1/v2'")
        assert not await connection.fetchval("SELECT sum(next_offset) FROM cursors")


# ── the relay ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def relaying(world: World) -> AsyncIterator[tuple[Relay, asyncpg.Connection]]:
    """A relay with two outcomes to publish."""
    pool = await open_pool(world.database, size=3)
    async with database_of(world) as connection:
        await connection.execute(
            "INSERT INTO outbox (order_id, version, record_key, record_value, header_names, header_values)"
            " SELECT 'o', n, 'o', '{}', '{}', '{}' FROM generate_series(1, 2) AS n"
        )
        yield Relay(pool, [world.kafka], world.prefix), connection
    await pool.close()


async def test_a_relay_that_publishes_while_another_has_taken_over_forgets_nothing_and_is_counted(
    relaying: tuple[Relay, asyncpg.Connection], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, connection = relaying
    publish = relay._publish

    async def slowly(*arguments: Any) -> None:
        await publish(*arguments)
        later = datetime.now(UTC) + timedelta(minutes=1)
        assert await store.take_lease(connection, LEASE_NAME, uuid4(), later, later + timedelta(minutes=1)) == 2
        relay.stop()

    monkeypatch.setattr(relay, "_publish", slowly)
    before = REGISTRY.get_sample_value(*FENCED_RELAYS) or 0
    await relay.run()
    assert REGISTRY.get_sample_value(*FENCED_RELAYS) == before + 1
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 2  # who has the lease publishes them again
    status = await world.json("status")
    assert (status["relay"]["refused"], status["relay"]["epoch"]) == (1, 2)
    assert status["relay"]["refused_at"]


async def test_a_relay_that_finds_nothing_of_what_it_published_ends_the_process(
    relaying: tuple[Relay, asyncpg.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, connection = relaying
    publish = relay._publish

    async def lost(*arguments: Any) -> None:
        await publish(*arguments)
        await connection.execute("DELETE FROM outbox")

    monkeypatch.setattr(relay, "_publish", lost)
    with pytest.raises(LostCommitsError, match="outcomes that were just published are not there"):
        await relay.run()
    await relay._end()


# ── what a process remembers ─────────────────────────────────────────────────────────────────────────────────────────


def at(offset: int, by: Any = None) -> dict[tuple[str, int], CursorPosition]:
    return {HERE: CursorPosition(offset, 0, by, None)}


def test_what_was_never_worked_since_it_was_assigned_is_read_again_and_not_refused() -> None:
    memory = Memory()
    memory.see({HERE: 10})
    assert memory.refused(at(20, uuid4()), {HERE: 10}) == set()
    memory.commit({HERE: 20})
    assert memory.refused(at(30, uuid4()), {HERE: 20}) == {HERE}
    memory.let_go()
    assert memory.refused(at(30, uuid4()), {HERE: 20}) == set()


def test_a_commit_of_ones_own_whose_reply_was_lost_is_no_other_process() -> None:
    memory = Memory()
    memory.commit({HERE: 20})
    assert memory.refused(at(30, memory.process), {HERE: 20}) == set()
    assert memory.refused(at(30, uuid4()), {HERE: 30}) == set()  # nothing of the batch is done


def test_a_position_that_went_back_is_seen_wherever_it_is_looked_at() -> None:
    memory = Memory()
    memory.see({HERE: 10, ELSEWHERE: 0})
    memory.commit({HERE: 12})
    memory.let_go()  # another's by now: it may only grow
    for look in (
        lambda: memory.see({HERE: 11}),
        lambda: memory.check({HERE: 11, ELSEWHERE: 0}),
        lambda: memory.check({}),
        lambda: memory.refused(at(11), {HERE: 11}),
    ):
        with pytest.raises(LostCommitsError, match="was worked up to offset 12"):
            look()
    memory.check({HERE: 12})
    memory.check({HERE: 11}, {HERE: 10})  # what was known when the database was asked
