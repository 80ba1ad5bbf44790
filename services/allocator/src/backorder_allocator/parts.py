"""Parts of the service that work beside the input: each a loop on a connection of its own, woken or by the clock."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Generic, Protocol, TypeVar

import asyncpg

from backorder_allocator import telemetry
from backorder_allocator.connections import passes, pause_seconds, worth_a_line

log = telemetry.logger(__name__)

Key = TypeVar("Key")
Connect = Callable[[], Awaitable[asyncpg.Connection]]

LONGEST_PAUSE_SECONDS = 10.0
CLOSE_SECONDS = 2.0
CALM_SECONDS = 30.0
"""A failure after so long without one is the first of a new trouble."""
FIRST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 300.0


class Setbacks(Generic[Key]):
    """What fails by itself, again and again: it rests, twice as long each time, so that all others go on."""

    def __init__(self) -> None:
        self._failed: dict[Key, tuple[int, float]] = {}
        """How often in a row, and until when it rests (monotonic)."""

    def failed(self, key: Key) -> None:
        times = self._failed.get(key, (0, 0.0))[0] + 1
        rest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2 ** min(times - 1, 10))
        self._failed[key] = (times, monotonic() + rest)

    def succeeded(self, key: Key) -> None:
        self._failed.pop(key, None)

    def resting(self) -> set[Key]:
        now = monotonic()
        return {key for key, (_, until) in self._failed.items() if until > now}

    def __len__(self) -> int:
        """How many fail now. What was not tried for a while after its rest is not there any more."""
        now = monotonic()
        self._failed = {key: (n, until) for key, (n, until) in self._failed.items() if until > now - CALM_SECONDS}
        return len(self._failed)


class Part(Protocol):
    """What `keep` runs."""

    name: str
    wake: asyncio.Event
    """Something happened that a turn may have to look at."""
    ending: asyncio.Event
    """The process ends: the transaction in hand is the last."""

    def failing(self) -> int:
        """How many of the things it does fail with an error that does not pass by itself."""

    async def turn(self, connection: asyncpg.Connection) -> float:
        """Do what there is to do. Gives how many seconds it may sleep if nobody wakes it; 0: there is more at once."""


async def keep(part: Part, connect: Connect) -> None:
    """Let a part take turns until `ending`. What may pass is tried again; a bug ends this with its exception."""
    failures = 0
    while not part.ending.is_set():
        connection: asyncpg.Connection | None = None
        started = monotonic()
        try:
            connection = await connect()
            await _take_turns(part, connection)
        except Exception as error:
            if not passes(error):
                raise
            failures = failures + 1 if monotonic() - started < CALM_SECONDS else 1
            telemetry.PART_FAILURES.labels(part.name, type(error).__name__).inc()
            if worth_a_line(failures):
                log.warning("tries again", part=part.name, failures=failures, **telemetry.described(error))
        finally:
            if connection is not None:
                await close(connection)
        await sleep(part.ending, pause_seconds(failures, LONGEST_PAUSE_SECONDS))


async def _take_turns(part: Part, connection: asyncpg.Connection) -> None:
    while not part.ending.is_set():
        part.wake.clear()
        await sleep(part.wake, await part.turn(connection))


async def close(connection: asyncpg.Connection) -> None:
    """Close a connection that may be broken in any way, also while this task is being cancelled."""
    with suppress(Exception):
        await connection.close(timeout=CLOSE_SECONDS)
    connection.terminate()


async def sleep(woken: asyncio.Event, seconds: float) -> None:
    """Sleep so long, or until woken."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()
