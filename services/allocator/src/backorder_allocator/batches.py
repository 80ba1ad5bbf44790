"""One transaction for a poll batch, a dead letter or a timer: lock, load, decide, write, take the log's head, commit.

The cost grows with what is touched, never with the length of a queue or the history. What is touched is found first;
where that shows only under the locks, the transaction is rolled back and started over with the larger set.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import asyncpg

from backorder_allocator import dead_letters, interventions, loading, store, telemetry
from backorder_allocator.allocation import decide
from backorder_allocator.dead_letters import RawRecord, Refused
from backorder_allocator.decision import Decision, Input, Outcome, Timer
from backorder_allocator.events import alerts_per_sku, seal
from backorder_allocator.fail_points import reached
from backorder_allocator.fulfilment import shipment_key
from backorder_allocator.interventions import Asked
from backorder_allocator.loading import Context, MoreToLockError
from backorder_allocator.remembering import PartitionKey
from backorder_allocator.state import State
from backorder_allocator.statements import Connection
from backorder_allocator.store import JournalEntry
from backorder_allocator.touching import Touched, touched_by
from backorder_allocator.writing import Sources, write
from backorder_schemas import DeadLetter, LinesShipped, SkuPolicyChanged

log = telemetry.logger(__name__)

Result = TypeVar("Result")

STARTS = 20
"""How often one transaction may start over because it had to lock more, or met a row made meanwhile."""


@dataclass(frozen=True, slots=True)
class Record(RawRecord):
    """One Kafka record and what was read from it."""

    read: Input | DeadLetter


@dataclass(frozen=True, slots=True)
class Worked:
    """What a transaction did: the records that were not done before, their outcomes, and its place in the log."""

    records: Sequence[Record]
    outcomes: Sequence[Outcome]
    events: int
    journal: JournalEntry | None
    cursors: Mapping[PartitionKey, int] = field(default_factory=dict)
    """How far its partitions are worked now, by whomever."""
    refused: Collection[PartitionKey] = ()
    """The partitions that another process works, though they were ours."""


async def work(connection: Connection, records: Sequence[Record], context: Context, now: datetime) -> Worked:
    """Work a poll batch, in the order given. Records below their cursor are dropped: they were done before.

    Raises LostCommitsError where a cursor or the log is behind what this process has seen committed.
    """
    touched = touched_by(_inputs(records))
    once = partial(_work_once, connection, records, touched, context, now)
    worked = await _in_one_transaction(connection, touched, context, once)
    context.memory.committed(worked.cursors)
    if worked.journal is not None:
        context.memory.has_number(worked.journal.number)
    for topic, partition in worked.refused:
        telemetry.FENCED.labels("partition").inc()
        log.warning("refused: another process works this partition", topic=topic, partition=partition)
    return worked


async def redrive(
    connection: Connection,
    dead_letter_id: int,
    record: Record,
    context: Context,
    now: datetime,
    *,
    topics_ago: int = 0,
    asked: Asked | None = None,
) -> Outcome | None:
    """Run a dead letter's bytes through the same transaction once more; *now* of the rules is the record's timestamp.

    None if it was resolved before. `asked`: who wants it, which is written down in the same transaction.
    """
    touched = touched_by(_inputs([record]))
    once = partial(_redrive_once, connection, dead_letter_id, record, topics_ago, touched, context, now, asked)
    return await _in_one_transaction(connection, touched, context, once)


async def try_redrive(
    connection: Connection, dead_letter_id: int, record: Record, context: Context, now: datetime
) -> Outcome | None:
    """What `redrive` would come to now: all of it is done, and rolled back."""
    # What it makes (pools too) is gone afterwards, so nothing of it may be remembered.
    context = replace(context, pool_ids=dict(context.pool_ids), policies=dict(context.policies))
    transaction = connection.transaction()
    await transaction.start()
    try:
        return await redrive(connection, dead_letter_id, record, context, now)
    finally:
        await transaction.rollback()


async def fire(connection: Connection, timer: Timer, due: datetime, context: Context, now: datetime) -> bool:
    """Take a timer and do what is due; *now* of the rules is when it was due. False: it is not due then any more.

    That is so where another process has taken it, or a message has moved it or taken its reason away.
    """
    touched = touched_by([Input(timer, due)])
    once = partial(_fire_once, connection, timer, due, touched, context, now)
    entry = await _in_one_transaction(connection, touched, context, once)
    if entry is None:
        return False
    context.memory.has_number(entry.number)
    return True


async def _in_one_transaction(
    connection: Connection, touched: Touched, context: Context, once: Callable[[], Awaitable[Result]]
) -> Result:
    """Do it in a transaction; start over with what it has to lock in addition, as often as it takes."""
    for _ in range(STARTS):
        await loading.prepare(connection, touched, context)
        try:
            async with connection.transaction():
                return await once()
        except MoreToLockError as more:
            more.grow(touched)
            telemetry.RESTARTS.labels("more_to_lock").inc()
        except asyncpg.UniqueViolationError as error:
            # Another transaction made a row that had not been there to lock: an order by a cancel or a shipment of it,
            # or a supply by its receipt.
            telemetry.RESTARTS.labels("made_meanwhile").inc()
            log.info("transaction starts over", **telemetry.described(error))
    raise RuntimeError(f"a transaction was started {STARTS} times and always had to lock more")


async def _work_once(
    connection: Connection, records: Sequence[Record], touched: Touched, context: Context, now: datetime
) -> Worked:
    await loading.lock_policies(connection, touched)
    ends = {(record.topic, record.partition): record.offset + 1 for record in records}
    cursors = await store.lock_cursors(connection, ends)
    context.memory.see(cursors)
    fresh = [record for record in records if record.offset >= cursors[record.topic, record.partition]]
    refused = await _refuse(connection, records, cursors, context, now) if len(fresh) < len(records) else frozenset()
    if not fresh:
        return Worked((), (), 0, None, cursors, refused)
    state = await loading.load(connection, touched, context)
    reached("store.locked")
    decision = decide(state, _inputs(fresh), context.rules)
    outcomes = _outcomes(fresh, decision)
    batch_id = await store.next_batch_id(connection)
    events = await _write(connection, batch_id, state, decision, _sources(fresh, outcomes), context, now)
    await dead_letters.keep(connection, _refused(fresh, outcomes), now)
    moved = {key: max(end, cursors[key]) for key, end in ends.items()}
    await store.move_cursors(connection, moved)
    reached("store.written")
    await store.limit_idling(connection, _lines(state))
    counts = _counts(outcomes)
    entry = await _append(connection, batch_id, "batch", _ranges(fresh, cursors), now, events, counts, context)
    if events or counts.get("dead_letter") or decision.late_letters:
        await store.notify_events(connection)
    reached("store.before_commit")
    context.memory.commits(moved)
    return Worked(fresh, outcomes, events, entry, moved, refused)


async def _refuse(
    connection: Connection,
    records: Iterable[Record],
    cursors: Mapping[PartitionKey, int],
    context: Context,
    now: datetime,
) -> frozenset[PartitionKey]:
    """Count what was done before; gives the partitions that another process works in our place, and notes it there."""
    done = Counter(key for record in records if record.offset < cursors[key := (record.topic, record.partition)])
    refused = context.memory.overtaken(cursors) & done.keys()
    for key, count in done.items():
        if key not in refused:
            telemetry.REDELIVERED.labels(key[0]).inc(count)
    if refused:
        await store.refuse_cursors(connection, refused, now)
    return refused


async def _append(
    connection: Connection,
    batch_id: int,
    kind: str,
    what: object,
    now: datetime,
    events: int,
    counts: Mapping[str, int],
    context: Context,
) -> JournalEntry:
    return await store.append_journal(
        connection, batch_id, kind, what, now, events, counts, context.rules_id, context.epoch, context.memory
    )


async def _redrive_once(
    connection: Connection,
    dead_letter_id: int,
    record: Record,
    topics_ago: int,
    touched: Touched,
    context: Context,
    now: datetime,
    asked: Asked | None,
) -> Outcome | None:
    await loading.lock_policies(connection, touched)
    state = await loading.load(connection, touched, context)
    # After the locks of what it is about: a shipment that waited in vain takes them in this order, too.
    if not await dead_letters.lock_unresolved(connection, dead_letter_id):
        return None
    decision = decide(state, _inputs([record]), context.rules)
    (outcome,) = _outcomes([record], decision)
    batch_id = await store.next_batch_id(connection)
    events = 0
    if outcome.kind != "dead_letter":
        events = await _write(connection, batch_id, state, decision, _sources([record], [outcome]), context, now)
    await dead_letters.note_redrive(connection, dead_letter_id, now, outcome.kind, outcome.reason, outcome.detail)
    place: dict[str, Any] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    if topics_ago:
        place["topics_ago"] = topics_ago
    if asked is not None:
        came = {"outcome": outcome.kind, "reason": outcome.reason, "detail": dead_letters.storable(outcome.detail)}
        detail = {"dead_letter_id": dead_letter_id, **place, **came}
        await interventions.record(connection, asked, "dead_letter_redriven", detail, now)
    await store.limit_idling(connection, _lines(state))
    counts = _counts([outcome])
    await _append(connection, batch_id, "redrive", place, now, events, counts, context)
    await store.notify_events(connection)
    reached("redrive.before_commit")
    return outcome


async def _fire_once(
    connection: Connection, timer: Timer, due: datetime, touched: Touched, context: Context, now: datetime
) -> JournalEntry | None:
    await loading.lock_policies(connection, touched)
    state = await loading.load(connection, touched, context)
    # After the locks of what it is about, which whoever sets or moves it holds, too.
    if not await store.take_timer(connection, timer, due):
        return None
    decision = decide(state, [Input(timer, due)], context.rules)
    batch_id = await store.next_batch_id(connection)
    events = await _write(connection, batch_id, state, decision, Sources(), context, now)
    await store.limit_idling(connection, _lines(state))
    kind, subject, supply_id = store.timer_row(timer)
    what = {"kind": kind, "subject": subject, "supply_id": supply_id, "due": due.isoformat()}
    counts = _counts(decision.outcomes)
    entry = await _append(connection, batch_id, "timer", what, now, events, counts, context)
    if events:
        await store.notify_events(connection)
    reached("timer.before_commit")
    return entry


def _ranges(records: Iterable[Record], cursors: Mapping[PartitionKey, int]) -> list[dict[str, Any]]:
    """The offsets of records in the order in which they are worked, which is what a replay has to know of a batch.

    A poll gives one range for each partition; where partitions take turns, each turn is a range.
    """
    ranges: list[dict[str, Any]] = []
    reached_to: dict[PartitionKey, int] = {}
    last: PartitionKey | None = None
    for record in records:
        key = (record.topic, record.partition)
        if key != last:
            # It begins where the one before ended, so that holes left by transaction markers belong to one, too.
            begin = reached_to.get(key) or cursors[key] or record.offset
            ranges.append({"topic": record.topic, "partition": record.partition, "from": begin})
        ranges[-1]["to"] = reached_to[key] = record.offset + 1
        last = key
    return ranges


def _inputs(records: Iterable[Record]) -> list[Input]:
    return [record.read for record in records if isinstance(record.read, Input)]


def _outcomes(records: Iterable[Record], decision: Decision) -> list[Outcome]:
    """The outcome of each record; one that could not be read has its own."""
    decided = iter(decision.outcomes)
    return [
        next(decided) if isinstance(read := record.read, Input) else Outcome("dead_letter", read.reason, read.detail)
        for record in records
    ]


def _sources(records: Iterable[Record], outcomes: Iterable[Outcome]) -> Sources:
    """The messages that were applied and of which rows keep more than the rules need."""
    sources = Sources()
    for record, outcome in zip(records, outcomes, strict=True):
        if outcome.kind != "applied" or not isinstance(record.read, Input):
            continue
        match record.read.message:
            case SkuPolicyChanged(sku=sku, revision=revision):
                sources.policies[sku, revision] = record.read
            case LinesShipped() as shipment:
                # The first: one that is refused later may come again.
                sources.shipments.setdefault(shipment_key(shipment), record)
            case _:
                pass
    return sources


async def _write(
    connection: Connection,
    batch_id: int,
    before: State,
    decision: Decision,
    sources: Sources,
    context: Context,
    now: datetime,
) -> int:
    """Write the rows and the events of a decision; gives the number of events."""
    await write(connection, batch_id, before, decision, sources, now)
    reached("store.first_write")
    per_sku = alerts_per_sku(decision.events)
    alert_versions = await store.count_alerts(connection, per_sku) if per_sku else {}
    sealed = seal(decision.events, context.epoch, alert_versions)
    if sealed:
        await store.append_events(connection, batch_id, sealed)
    return len(sealed)


def _lines(state: State) -> int:
    """How many lines were read."""
    return sum(len(order.lines) for order in state.orders.values())


def _refused(records: Iterable[Record], outcomes: Iterable[Outcome]) -> list[Refused]:
    return [
        Refused(record, outcome.reason, outcome.detail)
        for record, outcome in zip(records, outcomes, strict=True)
        if outcome.kind == "dead_letter"
    ]


def _counts(outcomes: Iterable[Outcome]) -> Mapping[str, int]:
    return Counter(outcome.kind for outcome in outcomes)
