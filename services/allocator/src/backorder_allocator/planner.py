"""The planner's loop: takes stale pools, the longest waiting first, a bounded number a turn, and has them planned.

Bursts are conflated: a pool that changed a hundred times since the last turn is planned once. Several processes may
plan at the same time; who comes second finds the pool changed or done, and leaves it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter

import asyncpg

from backorder_allocator import telemetry
from backorder_allocator.connections import passes
from backorder_allocator.errors import LostCommitsError
from backorder_allocator.fail_points import reached
from backorder_allocator.loading import Context
from backorder_allocator.parts import Setbacks, sleep
from backorder_allocator.planning import commit, read_plans
from backorder_allocator.plans import Plan
from backorder_allocator.statements import run

log = telemetry.logger(__name__)

POOLS_A_TURN = 1000
POOLS_AT_ONCE = 50
"""Input waits while Python plans them."""
LINES_AT_ONCE = 5000
LONGEST_BREAK_SECONDS = 1.0
"""Between two portions of a turn."""
IDLE_SECONDS = 2.0
"""How long it sleeps when nobody wakes it: another process may have left pools behind."""
TRIES = 3
"""So often a pool may change between its plan and the lock; then it is planned under the lock."""


class Planner:
    """Plans stale pools. `on_events` is called after a commit that has something to publish."""

    name = "planner"

    def __init__(self, context: Context, interval: float, on_events: Callable[[], None]) -> None:
        self.context = context
        self.interval = interval
        self.on_events = on_events
        self.wake = asyncio.Event()
        self.ending = asyncio.Event()
        self.lost: Counter[int] = Counter()
        """How often in a row each pool changed while it was planned."""
        self.setbacks: Setbacks[int] = Setbacks()

    async def turn(self, connection: asyncpg.Connection) -> float:
        started = perf_counter()
        found = await self.run(connection, datetime.now(UTC), self.interval)
        if not found:
            return IDLE_SECONDS
        telemetry.PLANNER_RUNS.inc()
        telemetry.PLANNER_SECONDS.observe(perf_counter() - started)
        return 0 if found == POOLS_A_TURN else IDLE_SECONDS

    async def run(self, connection: asyncpg.Connection, at: datetime, over: float | None = None) -> int:
        """Plan pools that are stale at a time. Gives how many it found.

        `over`: spread over so many seconds at least; then each portion is planned at the time when its turn comes.
        """
        rows = await run(connection, "stale_pools", POOLS_A_TURN, list(self.setbacks.resting()), at)
        telemetry.STALE_POOLS.set(len(rows))
        cut = list(portions([(row["pool_id"], row["waiting"] if row["causes"] else 0) for row in rows]))
        for ids in cut:
            began = perf_counter()
            await self.attempt(connection, ids, at if over is None else datetime.now(UTC))
            if over is not None:
                # Planning is worth less than input: it takes no more than half of the time, nor much of it at once.
                # But the pools behind one with a very long queue wait for it once, not twice.
                took = perf_counter() - began
                await sleep(self.ending, max(min(took, LONGEST_BREAK_SECONDS), over / len(cut) - took))
        return len(rows)

    def failing(self) -> int:
        return len(self.setbacks)

    async def attempt(self, connection: asyncpg.Connection, ids: Sequence[int], at: datetime) -> None:
        """Plan pools; where one of them can't be planned, the others are."""
        if self.ending.is_set():
            return
        try:
            await self.plan(connection, ids, at)
        except Exception as error:
            if passes(error) or isinstance(error, LostCommitsError):
                raise
            if len(ids) > 1:
                for pool_id in ids:
                    await self.attempt(connection, [pool_id], at)
                return
            self.setbacks.failed(ids[0])
            telemetry.PART_FAILURES.labels(self.name, type(error).__name__).inc()
            why = telemetry.described(error) | {"stack": telemetry.stack_of(error)}
            log.error("a pool can't be planned: this error does not pass by itself", pool_id=ids[0], **why)

    async def plan(self, connection: asyncpg.Connection, ids: Sequence[int], at: datetime) -> None:
        calm = [each for each in ids if self.lost[each] < TRIES]
        if calm:
            await self.go_on(connection, calm, await read_plans(connection, calm, at, self.context.rules), at)
        for pool_id in [each for each in ids if self.lost[each] >= TRIES]:
            await self.go_on(connection, [pool_id], None, at)

    async def go_on(
        self, connection: asyncpg.Connection, ids: Sequence[int], planned: Mapping[int, Plan] | None, at: datetime
    ) -> None:
        """Commit plans, a bounded number of lines in each transaction, until nothing is left of them."""
        while ids and not self.ending.is_set():
            result = await commit(connection, ids, planned, at, LINES_AT_ONCE, self.context)
            reached("planner.committed")
            self.lost.update(result.lost)
            for pool_id in set(ids).difference(result.lost, result.left):
                # Done, by this process or another.
                del self.lost[pool_id]
                self.setbacks.succeeded(pool_id)
            for cause, lines in result.told.items():
                telemetry.PROMISES_MOVED.labels(cause).inc(lines)
            if result.events:
                self.on_events()
            ids, planned = list(result.left), result.left


def portions(pools: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Pools (id, units that wait) cut into what is planned together: many short queues, or one long one."""
    portion: list[int] = []
    units = 0
    for pool_id, waiting in pools:
        if portion and (len(portion) == POOLS_AT_ONCE or units + waiting > LINES_AT_ONCE):
            yield portion
            portion, units = [], 0
        portion.append(pool_id)
        units += waiting
    if portion:
        yield portion
