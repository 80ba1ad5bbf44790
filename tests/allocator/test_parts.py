"""Parts that work beside the input: they go on when a connection is lost, and end when the process does."""

import asyncio
from functools import partial

import asyncpg
import pytest

from backorder_allocator import parts
from backorder_allocator.connections import SESSION
from backorder_allocator.parts import Setbacks, keep


class Counting:
    """A part that counts its turns, each by a statement."""

    name = "counting"

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.ending = asyncio.Event()
        self.turns = 0
        self.pause = 3600.0
        self.turned = asyncio.Condition()

    async def turn(self, connection: asyncpg.Connection) -> float:
        await connection.execute("SELECT 1")
        async with self.turned:
            self.turns += 1
            self.turned.notify_all()
        return self.pause

    def failing(self) -> int:
        return 0

    async def until(self, turns: int) -> None:
        async with asyncio.timeout(20), self.turned:
            await self.turned.wait_for(lambda: self.turns >= turns)


async def test_a_part_takes_turns_when_woken_until_the_process_ends(database_url: str) -> None:
    part = Counting()
    kept = asyncio.create_task(keep(part, partial(asyncpg.connect, database_url, server_settings=SESSION)))
    await part.until(1)
    part.wake.set()
    await part.until(2)
    part.pause = 0
    part.wake.set()
    # There is more at once: nobody has to wake it.
    await part.until(5)
    part.ending.set()
    async with asyncio.timeout(5):
        await kept


async def test_a_part_goes_on_with_another_connection_when_one_is_lost(
    connection: asyncpg.Connection, database_url: str
) -> None:
    part = Counting()
    kept = asyncio.create_task(keep(part, partial(asyncpg.connect, database_url, server_settings=SESSION)))
    await part.until(1)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    part.wake.set()
    await part.until(2)
    part.ending.set()
    part.wake.set()
    async with asyncio.timeout(5):
        await kept


async def test_a_bug_ends_a_part_loudly(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Counting()

    async def wrong(_: asyncpg.Connection) -> float:
        raise KeyError("a bug")

    monkeypatch.setattr(part, "turn", wrong)
    with pytest.raises(KeyError):
        await keep(part, partial(asyncpg.connect, database_url, server_settings=SESSION))


def test_what_fails_rests_twice_as_long_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(parts, "monotonic", lambda: now)
    setbacks: Setbacks[str] = Setbacks()
    setbacks.failed("a")
    now += 4.9
    assert setbacks.resting() == {"a"}
    now += 0.2
    assert (setbacks.resting(), len(setbacks)) == (set(), 1)
    setbacks.failed("a")
    now += 9.9
    assert setbacks.resting() == {"a"}
    for _ in range(20):
        setbacks.failed("a")
    now += parts.LONGEST_REST_SECONDS - 0.1
    assert setbacks.resting() == {"a"}
    # Nobody tried it again for long: it is not there any more.
    now += 60
    assert len(setbacks) == 0
    setbacks.failed("b")
    setbacks.succeeded("b")
    assert len(setbacks) == 0
