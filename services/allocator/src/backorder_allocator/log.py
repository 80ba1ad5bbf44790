"""The event log as the relay sees it: whose turn it is to publish, what comes next, and how far it is."""

from dataclasses import dataclass

import asyncpg

from backorder_allocator import telemetry
from backorder_allocator.errors import LeaseLostError, LostCommitsError
from backorder_allocator.events import SealedEvent
from backorder_allocator.statements import Connection, run


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to publish. `epoch` fences whoever held it before; `seq` and `journal` are the position."""

    epoch: int
    seq: int
    journal: int


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event and its place in the log."""

    seq: int
    journal: int
    event: SealedEvent


async def take_lease(connection: Connection, holder: str, seconds: float) -> Lease | None:
    """Take or renew the lease; None while another process holds it."""
    rows = await run(connection, "take_relay_lease", holder, seconds)
    return Lease(rows[0]["epoch"], rows[0]["seq"], rows[0]["journal"]) if rows else None


async def compared(connection: Connection, before: Lease | None, lease: Lease | None) -> Lease | None:
    """What to remember of a lease that was asked for; `before`: the one that we held.

    Another process had it meanwhile: we were refused, which is counted in the database. Raises LostCommitsError where
    the position went back, which it never does by itself.
    """
    if before is not None and lease is not None and lease.seq < before.seq:
        raise LostCommitsError(f"the log was published up to {before.seq}, and the database says {lease.seq}")
    if before is not None and (lease is None or lease.epoch != before.epoch):
        telemetry.FENCED.labels("relay").inc()
        await run(connection, "refuse_relay")
    return lease


async def give_lease_back(connection: Connection, holder: str, epoch: int) -> None:
    await run(connection, "release_relay_lease", holder, epoch)


async def events_to_publish(connection: Connection, position: Lease, limit: int) -> list[LoggedEvent]:
    """The next events after a position, in log order."""
    rows = await run(connection, "events_to_publish", position.journal, position.seq, limit)
    return [LoggedEvent(row["seq"], row["number"], _event(row)) for row in rows]


async def current_availability(connection: Connection, since: Lease, until: int, position: Lease) -> list[SealedEvent]:
    """What is published, up to `position`, of each key of `availability` in the log after `since` and up to `until`."""
    rows = await run(
        connection, "current_availability", since.journal, since.seq, until, position.journal, position.seq
    )
    return [_event(row) for row in rows]


def _event(row: asyncpg.Record) -> SealedEvent:
    return SealedEvent(
        row["topic"],
        row["key"],
        row["version"],
        row["id"],
        row["type"],
        row["occurred_at"],
        row["caused_by"],
        row["traceparent"],
        row["value"],
    )


async def move(connection: Connection, position: Lease) -> None:
    """Move the position. Raises LeaseLostError if another holder took over meanwhile."""
    if not await run(connection, "move_relay", position.epoch, position.seq, position.journal):
        raise LeaseLostError(f"the relay's epoch {position.epoch} is over: another process publishes now")
