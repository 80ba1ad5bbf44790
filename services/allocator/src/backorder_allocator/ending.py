"""How the process ends: asked by a signal or because it is broken, always in time, whatever hangs."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Coroutine, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, TypeVar

import asyncpg

from backorder_allocator import telemetry
from backorder_allocator.errors import BrokenError, ConfigurationError, NotReadyError

log = telemetry.logger(__name__)

Result = TypeVar("Result")

AT_LAST_SECONDS = 27.0
"""The contract gives 30 s. All that `app` waits for together is less than this."""
GIVE_UP_SECONDS = 3.0
"""For something that was abandoned to notice it."""


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set `stop`. Whatever hangs then, the process ends with 0 in the time promised."""
    loop = asyncio.get_running_loop()
    asked = threading.Event()

    # Not by the loop's own handlers: a loop that hangs would never hear of it.
    def stopping(_number: int, _frame: FrameType | None) -> None:
        if not asked.is_set():
            asked.set()
            at_last(0)
            with suppress(RuntimeError):  # the loop is closed: all is done
                loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopping)


def at_last(code: int) -> None:
    """End the process with this code when it has not ended by itself in time.

    Nothing is lost by it: positions and leases are in the database, and locks end with the connection.
    """
    last_resort = threading.Timer(AT_LAST_SECONDS, _end, [code])
    last_resort.daemon = True
    last_resort.start()


def _end(code: int) -> None:
    log.warning("ended before all was closed: nothing is lost")
    os._exit(code)


async def unless(stop: asyncio.Event, beginning: Coroutine[Any, Any, Result]) -> Result | None:
    """What is awaited, or None as soon as the process has to end: it may wait long for a world that is not ready."""
    begins, stops = asyncio.create_task(beginning), asyncio.create_task(stop.wait())
    await asyncio.wait([begins, stops], return_when=asyncio.FIRST_COMPLETED)
    stops.cancel()
    if begins.done():
        return begins.result()
    begins.cancel()
    await asyncio.wait([begins], timeout=GIVE_UP_SECONDS)
    if begins.done() and not begins.cancelled() and (error := begins.exception()) is not None:
        log.info("what was begun was given up", **telemetry.described(error))
    return None


async def until(stop: asyncio.Event, work: Mapping[str, "asyncio.Task[None]"]) -> None:
    """Until it is time to stop. None of `work` ever ends before: a process without it would look healthy.

    Raises BrokenError, or what a part raised that has a way out for an operator.
    """
    stops = asyncio.create_task(stop.wait())
    await asyncio.wait([stops, *work.values()], return_when=asyncio.FIRST_COMPLETED)
    stops.cancel()
    for name, task in work.items():
        if not task.done():
            continue
        if task.cancelled():
            raise BrokenError(f"{name} was cancelled")
        error = task.exception()
        if isinstance(error, BrokenError | ConfigurationError | NotReadyError | asyncpg.InsufficientPrivilegeError):
            raise error
        if not stop.is_set():
            said = f"{type(error).__name__}: {telemetry.text_of(error)}" if error else "without a reason"
            raise BrokenError(f"{name} ended: {said}") from error


async def within(seconds: float, what: str, work: Awaitable[Any]) -> bool:
    """Wait for something so long; False if it did not end well, which the log says and nobody else needs to know."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.warning("did not finish in time: what is not done is read and published again", what=what)
        return False
    except Exception as error:
        log.warning("did not end well", what=what, **telemetry.described(error))
        return False
    return True
