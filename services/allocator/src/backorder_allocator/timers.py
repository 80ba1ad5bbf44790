"""What happens by itself at a time: due timers are found without locks and fired one by one, each in a transaction.

Several processes may find the same timer; whoever locks it first fires it, and it is gone for the others.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg

from backorder_allocator import batches, store, telemetry
from backorder_allocator.connections import passes
from backorder_allocator.decision import EscalationDue, ReleaseDue, SupplyDue, Timer
from backorder_allocator.errors import LostCommitsError
from backorder_allocator.fail_points import reached
from backorder_allocator.loading import Context
from backorder_allocator.parts import Setbacks, sleep
from backorder_allocator.ranking import EARLIEST
from backorder_allocator.statements import run

log = telemetry.logger(__name__)

TIMERS_AT_ONCE = 100
LONGEST_SLEEP_SECONDS = 2.0
"""Another process may have set a timer that is due before all that were known."""
REST_SECONDS = 0.2
"""It is woken by every batch, and not every batch is worth a look."""


class Timers:
    """Fires timers when they are due. `on_commit` is called after each."""

    name = "timers"

    def __init__(self, context: Context, on_commit: Callable[[], None]) -> None:
        self.context = context
        self.on_commit = on_commit
        self.wake = asyncio.Event()
        self.ending = asyncio.Event()
        self.setbacks: Setbacks[Timer] = Setbacks()

    async def turn(self, connection: asyncpg.Connection) -> float:
        """Fire what is due now."""
        now = datetime.now(UTC)
        resting = self.setbacks.resting()
        last = (EARLIEST, "", "", "")
        while True:
            rows = await run(connection, "due_timers", now, TIMERS_AT_ONCE, *last)
            due = [row for row in rows if timer_of(row) not in resting]
            for row in due:
                if self.ending.is_set():
                    return LONGEST_SLEEP_SECONDS
                await self.attempt(connection, timer_of(row), row["due_at"])
            if len(rows) < TIMERS_AT_ONCE:
                break
            if due:
                return 0
            last = tuple(rows[-1])
        await sleep(self.ending, REST_SECONDS)
        next_at: datetime | None = (await run(connection, "next_timer", now))[0]["due_at"]
        if next_at is None:
            return LONGEST_SLEEP_SECONDS
        return min(LONGEST_SLEEP_SECONDS, max(0.001, (next_at - datetime.now(UTC)).total_seconds()))

    def failing(self) -> int:
        return len(self.setbacks)

    async def attempt(self, connection: asyncpg.Connection, timer: Timer, due: datetime) -> None:
        """Fire a timer; one that can't be fired rests, so that the others are."""
        try:
            await self.fire(connection, timer, due)
        except Exception as error:
            if passes(error) or isinstance(error, LostCommitsError):
                raise
            self.setbacks.failed(timer)
            telemetry.PART_FAILURES.labels(self.name, type(error).__name__).inc()
            why = telemetry.described(error) | {"stack": telemetry.stack_of(error)}
            log.error("a timer can't be fired: this error does not pass by itself", timer=timer.cause, **why)

    async def fire(self, connection: asyncpg.Connection, timer: Timer, due: datetime) -> None:
        now = datetime.now(UTC)
        if await batches.fire(connection, timer, due, self.context, now):
            reached("timer.committed")
            telemetry.TIMERS_FIRED.labels(store.timer_row(timer)[0]).inc()
            telemetry.TIMER_LATE_SECONDS.observe((now - due).total_seconds())
            self.on_commit()
        self.setbacks.succeeded(timer)


def timer_of(row: asyncpg.Record | Mapping[str, Any]) -> Timer:
    """The timer of a row or a journal entry; what its columns mean is said in `store.timer_row`, which writes them."""
    match row["kind"]:
        case "escalate":
            return EscalationDue(row["subject"])
        case "release":
            return ReleaseDue(row["subject"])
        case _:
            return SupplyDue(row["supply_id"], row["subject"])
