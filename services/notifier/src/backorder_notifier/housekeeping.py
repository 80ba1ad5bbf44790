"""What is looked after every few seconds: events that wait too long, messages that grew old, gauges."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from backorder_notifier import redriving, store, told_store
from backorder_notifier.clock import Clock
from backorder_notifier.counting import count_and_log
from backorder_notifier.intake import Report, give_up_waiting
from backorder_notifier.policy import Policy
from backorder_notifier.privacy import purge
from backorder_notifier.pulse import Pulse
from backorder_notifier.reading import Reader
from backorder_notifier.statements import borrowed
from backorder_notifier.telemetry import (
    DELIVERIES,
    OLDEST_DUE_SECONDS,
    PENDING,
    PURGED_LETTERS,
    UNPUBLISHED,
    logger,
)

log = logger("housekeeping")

_SECONDS: Final = 5.0
_STALE_AT_ONCE: Final = 500
_PURGE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class House:
    """`committed`: called with what giving up on missing versions did. `woken`: orders are to be decided on again.

    `keep`: how long orders that are over are kept. `keep_letters`: how long dead letters are.
    """

    pool: asyncpg.Pool
    policy: Policy
    keep: timedelta
    keep_letters: timedelta
    committed: Callable[[Report], None]
    woken: Callable[[], None]
    reader: Reader
    clock: Clock
    pulse: Pulse = field(default_factory=lambda: Pulse("housekeeping"))


async def keep_house(house: House) -> None:
    """Until cancelled."""
    purge_at = time.monotonic() + random.uniform(0, _PURGE_SECONDS)  # noqa: S311  not all processes at once
    while True:
        await asyncio.sleep(_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            await _once(house, house.clock())
            if time.monotonic() > purge_at:
                await _purge(house, house.clock())
                purge_at = time.monotonic() + _PURGE_SECONDS
            house.pulse.succeeds()
        except Exception as error:
            house.pulse.fails(log, "housekeeping_failed", error)


async def _purge(house: House, now: datetime) -> None:
    """Orders that are over and older than anybody asks for; dead letters, which may hold contact data, by age."""
    orders = 0
    async with borrowed(house.pool) as connection:
        while (purged := await purge(connection, now - house.keep, now)).orders:
            orders += purged.orders
            house.pulse.turns()
        letters = await redriving.purge(connection, now - house.keep_letters, None, now)
    if orders:
        log.info("purged", orders=orders)
    if letters.letters:
        PURGED_LETTERS.inc(letters.letters)
        log.info("purged", dead_letters=letters.letters, unresolved=letters.unresolved)


async def _once(house: House, now: datetime) -> None:
    async with borrowed(house.pool) as connection:
        await house.reader.compare(connection)
        report = await give_up_waiting(connection, now, house.policy.gap_wait, house.policy)
        stale = await told_store.wake_stale_orders(connection, now, now - house.policy.stale_after, _STALE_AT_ONCE)
        waits = await store.backlog(connection)
    count_and_log(report)
    house.committed(report)
    if stale:
        log.info("messages_grew_old", orders=stale)
        house.woken()
    DELIVERIES.labels("due").set(waits.due)
    PENDING.set(waits.pending)
    OLDEST_DUE_SECONDS.set((now - waits.oldest_due).total_seconds() if waits.oldest_due else 0)
    UNPUBLISHED.labels("notifications").set(waits.outcomes_unpublished)
    UNPUBLISHED.labels("notifier.dlq").set(waits.dead_letters_unpublished)
    await house.reader.lag()
