"""One batch, one transaction: lock, load, decide, write, move the cursors, take the log's head, commit.

The cost grows with what a batch touches, never with the length of a queue or the history. What a batch touches is found
first; where that shows only under the locks (an order that is held together over several pools), the transaction is
rolled back and started over with the larger set, so that locks are always taken in one order.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

import asyncpg

from backorder_allocator import dead_letters, store, telemetry
from backorder_allocator.allocation import Decision, Input, Outcome, decide, movement_key
from backorder_allocator.dead_letters import Headers, Refused
from backorder_allocator.events import alerts_per_sku, seal
from backorder_allocator.fail_points import reached
from backorder_allocator.ranking import HeadStartRules
from backorder_allocator.state import MovementKey, Pool, PoolKey, Rank, State
from backorder_allocator.statements import Connection
from backorder_allocator.store import JournalEntry, PartitionKey
from backorder_schemas import (
    DeadLetter,
    OrderCancelled,
    OrderPlaced,
    StockAdjusted,
    StockCounted,
    StockReceived,
)

log = telemetry.logger(__name__)

STARTS = 20
"""How often one transaction may start over because it had to lock more, or met a row made meanwhile."""


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record and what was read from it. `topic` is without prefix, `at` the record's timestamp."""

    topic: str
    partition: int
    offset: int
    at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers
    read: Input | DeadLetter


@dataclass(slots=True)
class Rules:
    """What the transaction needs beside its records: the shop's rules, the epoch of event ids, and known pool ids."""

    head_starts: HeadStartRules
    epoch: int = 1
    pool_ids: MutableMapping[PoolKey, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Worked:
    """What a transaction did: the records that were not done before, their outcomes, and its place in the log."""

    records: Sequence[Record]
    outcomes: Sequence[Outcome]
    events: int
    journal: JournalEntry | None


class _MoreToLockError(Exception):
    """The transaction touches pools that it has not locked."""

    def __init__(self, pools: set[PoolKey]) -> None:
        super().__init__(f"{len(pools)} more pools")
        self.pools = pools


@dataclass(slots=True)
class _Touched:
    """What messages can touch, found without locks. Units by pool: upper bounds of what they may give and take."""

    placed: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    cancels: set[str] = field(default_factory=set)
    movements: set[MovementKey] = field(default_factory=set)
    pools: set[PoolKey] = field(default_factory=set)
    ordered: Counter[PoolKey] = field(default_factory=Counter)
    arriving: Counter[PoolKey] = field(default_factory=Counter)
    leaving: Counter[PoolKey] = field(default_factory=Counter)
    least_counted: dict[PoolKey, int] = field(default_factory=dict)


async def work(connection: Connection, records: Sequence[Record], rules: Rules, now: datetime) -> Worked:
    """Work a poll batch, in the order given. Records below their cursor are dropped: they were done before."""
    touched = _touched(records)
    for _ in range(STARTS):
        await _learn_pool_ids(connection, touched, rules)
        try:
            async with connection.transaction():
                return await _work_once(connection, records, touched, rules, now)
        except _MoreToLockError as grown:
            touched.pools |= grown.pools
            telemetry.RESTARTS.labels("more_to_lock").inc()
        except asyncpg.UniqueViolationError as error:
            # Another transaction made a row that had not been there to lock: an order, or its cancel, by another key.
            telemetry.RESTARTS.labels("made_meanwhile").inc()
            log.info("transaction starts over", **telemetry.described(error))
    raise RuntimeError(f"a batch was started {STARTS} times and always had to lock more")


async def _work_once(
    connection: Connection, records: Sequence[Record], touched: _Touched, rules: Rules, now: datetime
) -> Worked:
    ends: dict[PartitionKey, int] = {}
    starts: dict[PartitionKey, int] = {}
    for record in records:
        starts.setdefault((record.topic, record.partition), record.offset)
        ends[record.topic, record.partition] = record.offset + 1
    cursors = await store.lock_cursors(connection, ends)
    fresh = [record for record in records if record.offset >= cursors[record.topic, record.partition]]
    for record in records:
        if record.offset < cursors[record.topic, record.partition]:
            telemetry.REDELIVERED.labels(record.topic).inc()
    if not fresh:
        return Worked((), (), 0, None)
    decision, outcomes = await _decide(connection, fresh, touched, rules)
    what = [
        # A range begins where the last one ended, so that holes left by transaction markers belong to one, too.
        {"topic": topic, "partition": partition, "from": cursor or starts[topic, partition], "to": end}
        for (topic, partition), end in ends.items()
        if end > (cursor := cursors[topic, partition])
    ]
    batch_id = await store.next_batch_id(connection)
    events = await _write(connection, batch_id, decision, rules)
    await dead_letters.keep(connection, _refused(fresh, outcomes), now)
    await store.move_cursors(connection, {key: max(end, cursors[key]) for key, end in ends.items()})
    reached("store.written")
    entry = await store.append_journal(connection, batch_id, "batch", what, now, events, _counts(outcomes))
    if events or any(outcome.kind == "dead_letter" for outcome in outcomes):
        await store.notify_events(connection)
    reached("store.before_commit")
    return Worked(fresh, outcomes, events, entry)


async def redrive(
    connection: Connection, dead_letter_id: int, record: Record, rules: Rules, now: datetime, *, dry_run: bool
) -> Outcome | None:
    """Run a dead letter's bytes through the same transaction once more; *now* of the rules is the record's timestamp.

    None if it was resolved before. With `dry_run` everything is rolled back.
    """
    touched = _touched([record])
    for _ in range(STARTS):
        await _learn_pool_ids(connection, touched, rules)
        try:
            async with connection.transaction():
                outcome = await _redrive_once(connection, dead_letter_id, record, touched, rules, now)
                if dry_run:
                    raise _DryRunError(outcome)
                return outcome
        except _DryRunError as tried:
            return tried.outcome
        except _MoreToLockError as grown:
            touched.pools |= grown.pools
            telemetry.RESTARTS.labels("more_to_lock").inc()
        except asyncpg.UniqueViolationError:
            telemetry.RESTARTS.labels("made_meanwhile").inc()
    raise RuntimeError(f"dead letter {dead_letter_id} was started {STARTS} times and always had to lock more")


class _DryRunError(Exception):
    """Rolls a transaction back that was only to be tried."""

    def __init__(self, outcome: Outcome | None) -> None:
        super().__init__("dry run")
        self.outcome = outcome


async def _redrive_once(
    connection: Connection, dead_letter_id: int, record: Record, touched: _Touched, rules: Rules, now: datetime
) -> Outcome | None:
    if not await dead_letters.lock_unresolved(connection, dead_letter_id):
        return None
    decision, (outcome,) = await _decide(connection, [record], touched, rules)
    if outcome.kind == "dead_letter":
        await dead_letters.note_redrive(connection, dead_letter_id, None, outcome.kind, outcome.reason, outcome.detail)
        return outcome
    batch_id = await store.next_batch_id(connection)
    events = await _write(connection, batch_id, decision, rules)
    await dead_letters.note_redrive(connection, dead_letter_id, now, outcome.kind)
    what = {"dead_letter": dead_letter_id}
    await store.append_journal(connection, batch_id, "redrive", what, now, events, _counts([outcome]))
    await store.notify_events(connection)
    return outcome


async def _decide(
    connection: Connection, records: Sequence[Record], touched: _Touched, rules: Rules
) -> tuple[Decision, list[Outcome]]:
    """Load what the records touch, decide, and give each record its outcome."""
    inputs = [record.read for record in records if isinstance(record.read, Input)]
    state = await _load(connection, touched, rules)
    decision = decide(state, inputs, rules.head_starts)
    decided = iter(decision.outcomes)
    outcomes = [
        next(decided) if isinstance(read := record.read, Input) else Outcome("dead_letter", read.reason, read.detail)
        for record in records
    ]
    return decision, outcomes


async def _write(connection: Connection, batch_id: int, decision: Decision, rules: Rules) -> int:
    """Write the rows and the events of a decision; gives the number of events."""
    await store.write(connection, decision, rules.pool_ids)
    reached("store.first_write")
    per_sku = alerts_per_sku(decision.events)
    alert_versions = await store.count_alerts(connection, per_sku) if per_sku else {}
    sealed = seal(decision.events, rules.epoch, alert_versions)
    if sealed:
        await store.append_events(connection, batch_id, sealed)
    return len(sealed)


def _touched(records: Iterable[Record]) -> _Touched:
    touched = _Touched()
    for record in records:
        if isinstance(record.read, DeadLetter):
            continue
        message = record.read.message
        match message:
            case OrderPlaced():
                touched.placed.add(message.order_id)
                for line in message.lines:
                    pool = PoolKey(line.sku, line.location)
                    touched.pools.add(pool)
                    touched.ordered[pool] += line.quantity
                continue
            case OrderCancelled():
                touched.cancelled.add(message.order_id)
                touched.cancels.add(message.id)
                continue
            case StockReceived() | StockAdjusted() | StockCounted():
                key = movement_key(message)
                pool = key.pool
                touched.movements.add(key)
                touched.pools.add(pool)
            case _:
                assert_never(message)
        match message:
            case StockReceived():
                touched.arriving[pool] += message.quantity
            case StockAdjusted():
                (touched.arriving if message.delta > 0 else touched.leaving)[pool] += abs(message.delta)
            case StockCounted():
                touched.arriving[pool] += message.counted
                touched.least_counted[pool] = min(message.counted, touched.least_counted.get(pool, message.counted))
            case _:
                assert_never(message)
    return touched


async def _learn_pool_ids(connection: Connection, touched: _Touched, rules: Rules) -> None:
    """Make sure that every pool the records name has a row to lock, and that its id is known."""
    unknown = [key for key in touched.pools if key not in rules.pool_ids]
    if unknown:
        rules.pool_ids.update(await store.pool_ids(connection, unknown))


async def _load(connection: Connection, touched: _Touched, rules: Rules) -> State:
    """Lock and read everything that the messages can touch."""
    state = State()
    to_lock = {rules.pool_ids[key] for key in touched.pools}
    freed: Counter[int] = Counter()
    counted: set[str] = set()
    if touched.cancelled:
        for order_id, pool_id, units in await store.units_of_orders(connection, touched.cancelled):
            counted.add(order_id)
            freed[pool_id] += units
        to_lock.update(freed)
    locked = await store.lock_pools(connection, to_lock) if to_lock else {}
    for pool in locked.values():
        state.pools[pool.key] = pool
    if not touched.pools <= state.pools.keys():
        # Ids never change, but a database that was restored under a running service has others.
        rules.pool_ids.clear()
        raise _MoreToLockError(touched.pools)
    heads, order_ids = await _read_queues(connection, locked, touched, freed)
    if order_ids:
        state.orders = await store.lock_orders(connection, order_ids)
    _check_locked(state, touched, counted)
    # Counted in one walk: an order may have a thousand lines in as many pools.
    loaded: Counter[PoolKey] = Counter()
    for order in state.orders.values():
        for line in order.lines.values():
            loaded[line.pool] += line.waiting
    for pool_id, pool in locked.items():
        if loaded[pool.key] < pool.waiting:
            state.horizons[pool.key] = max(heads[pool_id]) if pool_id in heads else None
    if touched.cancels:
        state.cancels = await store.known_cancels(connection, touched.cancels)
    if touched.movements:
        state.movements = await store.known_movements(connection, touched.movements, rules.pool_ids)
    return state


async def _read_queues(
    connection: Connection, locked: Mapping[int, Pool], touched: _Touched, freed: Mapping[int, int]
) -> tuple[dict[int, list[Rank]], set[str]]:
    """The heads of the queues that may be served, and every order that may change: named, served, or losing stock.

    A cancelled line leaves the queue without taking units, so what cancels name is read on top of what they free.
    Those who lose are counted without the orders that are read anyway: what becomes of these in the batch, be it that
    they are cancelled or that their held units are released, must not hide those who lose in their place.
    """
    may_give: dict[int, int] = {}
    may_lose: dict[int, int] = {}
    for pool_id, pool in locked.items():
        named_in_cancels = freed.get(pool_id, 0)
        gives = pool.available + touched.arriving[pool.key] + 2 * named_in_cancels
        # Orders that are placed and cancelled in this same batch free units, too.
        if touched.cancelled & touched.placed:
            gives += touched.ordered[pool.key]
        if pool.waiting and gives:
            may_give[pool_id] = gives
        loses = touched.leaving[pool.key]
        if pool.key in touched.least_counted:
            most_allocated = pool.allocated + touched.ordered[pool.key] + gives
            loses += max(0, most_allocated - touched.least_counted[pool.key])
        if loses and pool.allocated:
            may_lose[pool_id] = loses
    heads = await store.queue_heads(connection, may_give) if may_give else {}
    read_anyway = touched.placed | touched.cancelled | {rank[1] for ranks in heads.values() for rank in ranks}
    tails = await store.queue_tails(connection, may_lose, read_anyway) if may_lose else set()
    return heads, tails | read_anyway


def _check_locked(state: State, touched: _Touched, counted: Set[str]) -> None:
    """Every line that may change has its pool locked, too, and what cancels may free was `counted`.

    A release of a `complete` order changes lines in all its pools; an order that a cancel names may have been placed by
    another process after its pools and units were looked up: then too little of the queues was read, even if its pools
    are locked.
    """
    late = {order_id for order_id in touched.cancelled - counted if order_id in state.orders}
    missing = {
        line.pool
        for order in state.orders.values()
        if order.delivery == "complete" or order.order_id in late
        for line in order.lines.values()
        if line.pool not in state.pools or order.order_id in late
    }
    if missing:
        raise _MoreToLockError(missing)


def _refused(records: Iterable[Record], outcomes: Iterable[Outcome]) -> list[Refused]:
    return [
        Refused(r.topic, r.partition, r.offset, r.at, r.key, r.value, r.headers, outcome.reason, outcome.detail)
        for r, outcome in zip(records, outcomes, strict=True)
        if outcome.kind == "dead_letter"
    ]


def _counts(outcomes: Iterable[Outcome]) -> Mapping[str, int]:
    return Counter(outcome.kind for outcome in outcomes)
