"""One transaction a poll batch: positions, customers, orders, what may concern them, products, dead letters."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from backorder_notifier import contact_store, store
from backorder_notifier.applying import (
    Circumstances,
    OrderInHand,
    Upgrade,
    id_of,
    in_hand,
    may_have_update,
    take,
    upgrade_of,
)
from backorder_notifier.contacts import Customer, changed
from backorder_notifier.errors import is_data_error
from backorder_notifier.fail_points import reached
from backorder_notifier.fences import Memory
from backorder_notifier.items import Item, VersionedEvent
from backorder_notifier.policy import Policy
from backorder_notifier.rows import Key, KnownUpdate, Partition, Record, SavedOrder
from backorder_notifier.sorting import Batch, Judged, judge, sort
from backorder_notifier.statements import Connection
from backorder_notifier.telling import Mark, look_at
from backorder_notifier.turns import Turns, keys_of, open_turns, save_turns
from backorder_schemas import DeadLetter, Gap, OrderPlaced

READS = ("orders", "backorders", "allocations", "fulfilment", "catalog", "customers", "availability")
"""The topics that the notifier reads, without prefix."""

NOT_STORED: Final = DeadLetter("impossible", "the database can't store a value of it")

OLD: Final = timedelta(minutes=5)
"""A record as old as this when it is read is one of a backlog."""


@dataclass(slots=True)
class Report:
    """What a batch did, to be counted and logged once it is committed. `tell_at`: when the first order is due.

    `changes`: how many customers and orders are not as they were. `refused`: partitions that another process works by
    now, and how far it is.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    dead: list[tuple[Record, DeadLetter]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    tell_at: datetime | None = None
    to_publish: int = 0
    changes: int = 0
    refused: list[tuple[Partition, int]] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        self.outcomes.update(other.outcomes)
        self.dead += other.dead
        self.gaps += other.gaps
        self.tell_at = min(filter(None, (self.tell_at, other.tell_at)), default=None)
        self.to_publish += other.to_publish
        self.changes += other.changes
        self.refused += other.refused


async def take_batch(
    connection: Connection, records: Sequence[Record], now: datetime, policy: Policy, memory: Memory | None = None
) -> Report:
    """Take records in, each once whoever brings them. Records of a partition come in the order of their offsets.

    `memory`: of a process that reads on and on. Raises LostCommitsError where the database is behind it, and what the
    database raises, with nothing changed, except for a value that it can't store: that record is found by halving and
    becomes a dead letter.
    """
    judged = [(record, judge(record)) for record in (in_time(each, now) for each in records)]
    return await _take(connection, judged, now, policy, memory or Memory())


def in_time(record: Record, now: datetime) -> Record:
    """A sender's clock may be ahead, by years even: then its news would settle, and be told, only after that."""
    return replace(record, recorded_at=now) if record.recorded_at > now else record


async def _take(
    connection: Connection, judged: Sequence[Judged], now: datetime, policy: Policy, memory: Memory
) -> Report:
    try:
        return await _take_once(connection, judged, now, policy, memory)
    except Exception as error:
        if not is_data_error(error):
            raise
    if len(judged) == 1:
        return await _take_once(connection, [(judged[0][0], NOT_STORED)], now, policy, memory)
    half = len(judged) // 2
    report = await _take(connection, judged[:half], now, policy, memory)
    report.add(await _take(connection, judged[half:], now, policy, memory))
    return report


async def _take_once(
    connection: Connection, judged: Sequence[Judged], now: datetime, policy: Policy, memory: Memory
) -> Report:
    first: dict[Partition, int] = {}
    after: dict[Partition, tuple[int, bool]] = {}
    for record, _ in judged:
        first.setdefault(_partition(record), record.offset)
        after[_partition(record)] = record.offset + 1, now - record.recorded_at > OLD
    reached("intake.begun")
    async with connection.transaction():
        positions = await store.lock_cursors(connection, list(after))
        if len(positions) < len(after):
            await store.stub_cursors(connection, list(after))
            positions = await store.lock_cursors(connection, list(after))
        reached("intake.locked")
        refused = memory.refused(positions, first)
        # Compared by <, not for contiguity: transaction markers leave holes in offsets.
        fresh = [each for each in judged if each[0].offset >= positions[_partition(each[0])].next_offset]
        report = await apply_batch(connection, sort(fresh), now, policy, upgrade_of(positions))
        report.outcomes["repeated"] += len(judged) - len(fresh)
        await store.move_cursors(
            connection, now, memory.process, {each: (*after[each], each in refused) for each in after}
        )
        reached("intake.before_commit")
    reached("intake.after_commit")
    memory.commit({each: max(positions[each].next_offset, after[each][0]) for each in after})
    report.refused = [(each, positions[each].next_offset) for each in sorted(refused)]
    return report


def _partition(record: Record) -> Partition:
    return record.full_topic, record.partition


async def apply_batch(
    connection: Connection,
    batch: Batch,
    now: datetime,
    policy: Policy,
    upgrade: Upgrade,
    overdue: Sequence[Key] = (),
) -> Report:
    """What records say, in the caller's transaction. `overdue`: keys that need not wait any longer."""
    report = Report(outcomes=batch.outcomes, dead=batch.dead, to_publish=len(batch.dead))
    if batch.dead:
        await store.bury(connection, now, batch.dead)
    customers = await _take_contacts(connection, batch, report)
    order_ids = {item.message.order_id for item in batch.items} | {key for _, key in overdue}
    if order_ids:
        await store.stub_orders(connection, order_ids)
        rows = await store.lock_orders(connection, order_ids)
        turns = await open_turns(connection, keys_of(batch.items) | set(overdue))
        items = _in_turn(batch.items, overdue, turns, report)
        circumstances = Circumstances(customers, await _known(connection, items), policy.start_at, upgrade)
        orders = {order_id: in_hand(row) for order_id, row in rows.items()}
        for item in items:
            take(orders[item.message.order_id], item, circumstances)
        await save_turns(connection, turns, now)
        await _save(connection, orders, now, policy, report)
        report.gaps += turns.gaps
        report.dead += turns.unreadable
        report.to_publish += len(turns.unreadable)
    if batch.products:
        await store.save_products(connection, ((sku, *rest) for sku, rest in batch.products.items()))
    if batch.stock:
        await store.save_availability(connection, ((*pool, *rest) for pool, rest in batch.stock.items()))
    return report


async def _take_contacts(connection: Connection, batch: Batch, report: Report) -> Mapping[str, Customer]:
    """The customers of the batch, locked, after what they said of themselves."""
    placed = [item.message for item in batch.items if isinstance(item.message, OrderPlaced)]
    ids = {message.customer.customer_id for message in placed} | {change.customer_id for change, _ in batch.changes}
    if not ids:
        return {}
    await contact_store.stub_customers(connection, ids)
    customers = await contact_store.lock_customers(connection, ids)
    before = dict(customers)
    for change, recorded_at in batch.changes:
        customer = customers[change.customer_id]
        customers[change.customer_id] = changed(customer, change, recorded_at)
        is_new = change.revision > customer.revision
        report.outcomes["contact_changed" if is_new else "old_revision"] += 1
    if after := [customer for key, customer in customers.items() if customer is not before[key]]:
        await contact_store.save_customers(connection, after)
        report.changes += len(after)
    return customers


def _in_turn(items: Sequence[Item], overdue: Sequence[Key], turns: Turns, report: Report) -> list[Item]:
    """What is to be applied, in the order of the batch."""
    ready: list[Item] = []
    for item in items:
        event = item.message
        if not isinstance(event, VersionedEvent):
            ready.append(item)
            continue
        outcome, released = turns.take(item, event)
        report.outcomes[outcome] += 1
        ready += released
        if outcome == "old_version" and turns.was_passed(item, event):
            ready.append(replace(item, out_of_turn=True))
    for key in overdue:
        ready += turns.give_up(key)
    return ready


async def _known(connection: Connection, items: Sequence[Item]) -> dict[str, KnownUpdate]:
    """Updates that are there already for events of the batch, by id."""
    events = [(item, item.message) for item in items if may_have_update(item.message)]
    ids = {message.id for _, message in events}
    if not ids:
        return {}
    known = await store.known_updates(connection, sorted(ids))
    # An id that was given to two messages is rare enough to ask again.
    names = {id_of(item, known) for item, _ in events} - ids
    return known | await store.known_updates(connection, sorted(names)) if names else known


async def _save(
    connection: Connection, orders: Mapping[str, OrderInHand], now: datetime, policy: Policy, report: Report
) -> None:
    """Write orders and updates, and when each order is to be looked at next."""
    touched = {order_id: order for order_id, order in orders.items() if order.is_changed}
    report.changes += len(touched)
    if not touched:
        return
    if contacts := [order.contact for order in touched.values() if order.contact is not None]:
        await store.place_orders(connection, now, contacts)
    if updates := [update for order in touched.values() for update in order.updates]:
        await store.record_updates(connection, now, updates)
        report.outcomes.update(f"update_{update.state}" for update in updates)
    if waited_at := {order_id: order.waited_at for order_id, order in touched.items() if order.waited_at is not None}:
        await store.revive_shipments(connection, waited_at)
    marks: dict[str, list[Mark]] = {}
    for mark in await store.pending_marks(connection, touched):
        span = (Mark(mark.kind, mark.line_no, at) for at in (mark.first_at, mark.last_at))
        marks.setdefault(mark.order_id, []).extend(span)
    saved = [_saved(order, marks.get(order_id, ()), policy) for order_id, order in touched.items()]
    await store.save_orders(connection, saved)
    report.tell_at = min((order.tell_at for order in saved if order.tell_at is not None), default=None)


def _saved(order: OrderInHand, marks: Iterable[Mark], policy: Policy) -> SavedOrder:
    tell_at = look_at(order.dossier, order.told, marks, order.row.timezone, policy) if order.is_known else None
    return SavedOrder(order.row.order_id, order.dossier_json(), order.told_json(), tell_at)


async def give_up_waiting(
    connection: Connection, now: datetime, wait: timedelta, policy: Policy, limit: int = 100
) -> Report:
    """Apply events that have waited too long for an earlier version of their key, and report the gaps."""
    keys = await store.overdue_keys(connection, now - wait, limit)
    if not keys:
        return Report()
    async with connection.transaction():
        await store.lock_orders(connection, {key for _, key in keys})
        # Asked again under the locks: what was missing may have come meanwhile, and others may wait only now.
        overdue = await store.overdue_keys(connection, now - wait, limit)
        keys = [key for key in keys if key in overdue]
        upgrade = upgrade_of(await store.read_positions(connection))
        report = await apply_batch(connection, Batch(), now, policy, upgrade, keys)
        reached("house.before_commit")
    return report
