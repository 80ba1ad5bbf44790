"""Sees when a background task of the client libraries has ended: they go on without it, silently, and nothing is read.

FastStream starts a consume task anew that crashed, but not one that was cancelled; aiokafka starts none of its own.
A process in that state would look healthy and do nothing. It ends instead, and whoever watches over it starts another.
"""

import asyncio
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Final

from faststream.kafka import KafkaBroker

from backorder_notifier.errors import NotifierError, describe
from backorder_notifier.reading import Reader
from backorder_notifier.telemetry import logger

log = logger("watching")

_SECONDS: Final = 0.5
# Where aiokafka's consumer keeps them. A test sees whether they are still there.
_INNER_TASKS: Final = {
    "coordination": "_coordinator._coordination_task",
    "fetching": "_fetcher._fetch_task",
    "metadata": "_client._sync_task",
}
_MOST_CRASHES: Final = 20  # of the consume task, which nothing of ours should ever crash


async def watch(broker: KafkaBroker, reader: Reader) -> None:
    """Until cancelled. Raises NotifierError when one has ended, or what the reader ends the process with."""
    ended_before: Mapping[str, str] = {}
    while True:
        await asyncio.sleep(_SECONDS)
        if reader.ended_by is not None:
            raise reader.ended_by
        ended = dict(_ended(broker))
        # Twice in a row: between a crash and the new start there is a moment without any.
        if gone := ended.keys() & ended_before.keys():
            name = min(gone)
            log.error("library_task_ended", task=name, why=ended[name])
            raise NotifierError(f"{name} ended, which it never should; see the log")
        ended_before = ended


def _ended(broker: KafkaBroker) -> Iterator[tuple[str, str]]:
    """Names of tasks that should go on and don't, and why."""
    for subscriber in broker.subscribers:
        consuming: list[asyncio.Task[Any]] = getattr(subscriber, "tasks", [])
        if consuming and all(task.done() for task in consuming):
            yield "consuming", _why(consuming[-1])
        elif len(consuming) > _MOST_CRASHES:
            yield "consuming", f"crashed {len(consuming) - 1} times, at last by {_why(consuming[-2])}"
        consumer = getattr(subscriber, "consumer", None)
        if consumer is None:
            continue
        for name, place in _INNER_TASKS.items():
            task = attrgetter(place)(consumer)
            if task is not None and task.done():
                yield name, _why(task)


def _why(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return describe(error)["error"] if error is not None else "returned"
