"""One transaction a poll batch: positions, contacts, events in order of version, what is to be told, dead letters."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from backorder_notifier import store
from backorder_notifier.contacts import Contact, contact_of
from backorder_notifier.errors import is_data_error
from backorder_notifier.fail_points import reached
from backorder_notifier.outcomes import Outcome, outcome
from backorder_notifier.rows import DeadLetterRow, OrderRow, ParkedRow, Record
from backorder_notifier.store import Connection, Partition
from backorder_notifier.updates import (
    BEFORE_START,
    Applied,
    BackorderEvent,
    Delivery,
    counted,
    plan_deliveries,
)
from backorder_schemas import (
    DeadLetter,
    Decoded,
    Gap,
    OrderPlaced,
    Position,
    Versions,
    decode,
)

EVENTS = "backorders"
READS = ("orders", EVENTS)
"""The topics that the notifier reads, without prefix."""

Judged = tuple[Record, Decoded | DeadLetter]


@dataclass(slots=True)
class Report:
    """What a batch did, to be counted and logged once it is committed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    dead: list[tuple[Record, DeadLetter]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    due: int = 0
    to_publish: int = 0

    def add(self, other: "Report") -> None:
        self.outcomes.update(other.outcomes)
        self.dead += other.dead
        self.gaps += other.gaps
        self.due += other.due
        self.to_publish += other.to_publish


@dataclass(frozen=True, slots=True)
class _Item:
    """An event and the record that it came in, which is what is kept while it waits."""

    record: Record
    event: BackorderEvent
    traceparent: str | None


def _event(record: Record, verdict: Decoded | DeadLetter) -> _Item | None:
    if isinstance(verdict, Decoded) and isinstance(verdict.message, BackorderEvent):
        return _Item(record, verdict.message, verdict.traceparent)
    return None


async def take_batch(
    connection: Connection, records: Sequence[Record], now: datetime, start_at: datetime | None
) -> Report:
    """Take records in, each once whoever brings them. Records of a partition come in the order of their offsets.

    Raises what the database raises, with nothing changed, except for a value that it can't store: that record is found
    by halving and becomes a dead letter.
    """
    judged = [(record, _judge(record)) for record in records]
    return await _take(connection, judged, now, start_at)


def _judge(record: Record) -> Decoded | DeadLetter:
    return decode(record.topic, record.key, record.value, record.headers)


async def _take(connection: Connection, judged: Sequence[Judged], now: datetime, start_at: datetime | None) -> Report:
    try:
        return await _take_once(connection, judged, now, start_at)
    except Exception as error:
        if not is_data_error(error):
            raise
    if len(judged) == 1:
        refused = DeadLetter("impossible", "the database can't store a value of it")
        return await _take_once(connection, [(judged[0][0], refused)], now, start_at)
    half = len(judged) // 2
    report = await _take(connection, judged[:half], now, start_at)
    report.add(await _take(connection, judged[half:], now, start_at))
    return report


async def _take_once(
    connection: Connection, judged: Sequence[Judged], now: datetime, start_at: datetime | None
) -> Report:
    after: dict[Partition, int] = {}
    for record, _ in judged:
        after[record.full_topic, record.partition] = record.offset + 1
    async with connection.transaction():
        positions = await store.lock_cursors(connection, list(after))
        if len(positions) < len(after):
            await store.stub_cursors(connection, list(after))
            positions = await store.lock_cursors(connection, list(after))
        # Compared by <, not for contiguity: transaction markers leave holes in offsets.
        fresh = [each for each in judged if each[0].offset >= positions[each[0].full_topic, each[0].partition]]
        report = await apply_judged(connection, fresh, now, start_at)
        report.outcomes["repeated"] += len(judged) - len(fresh)
        await store.move_cursors(connection, after)
        reached("intake.before_commit")
    reached("intake.after_commit")
    return report


async def apply_judged(
    connection: Connection, judged: Sequence[Judged], now: datetime, start_at: datetime | None
) -> Report:
    """What records say, in the caller's transaction: contacts, deliveries, dead letters."""
    report = Report()
    contacts: dict[str, Contact] = {}
    items = []
    for record, verdict in judged:
        if isinstance(verdict, DeadLetter):
            report.dead.append((record, verdict))
            continue
        report.outcomes["wrong_key"] += not verdict.key_matches
        if isinstance(verdict.message, OrderPlaced):
            contacts.setdefault(verdict.message.order_id, contact_of(verdict.message))
            report.outcomes["contact"] += 1
        elif item := _event(record, verdict):
            items.append(item)
        else:
            report.outcomes["not_for_us"] += 1
    if report.dead:
        await store.bury(connection, now, report.dead)
        report.outcomes["dead_letter"] += len(report.dead)
        report.to_publish += len(report.dead)

    order_ids = contacts.keys() | {item.event.order_id for item in items}
    if order_ids:
        orders = await _lock(connection, order_ids)
        orders, outcomes = await _meet(connection, contacts, orders, now, report)
        applied = await _in_order(connection, items, (), now, report)
        await _record(connection, applied, orders, outcomes, now, start_at, report)
    return report


async def give_up_waiting(
    connection: Connection, now: datetime, wait: timedelta, start_at: datetime | None, limit: int = 100
) -> Report:
    """Apply events that have waited too long for an earlier version of their key, and report the gaps."""
    report = Report()
    keys = [key for topic, key in await store.overdue_keys(connection, now - wait, limit) if topic == EVENTS]
    if keys:
        async with connection.transaction():
            orders = await _lock(connection, keys)
            # Asked again under the locks: what was missing may have come meanwhile, and others may wait only now.
            overdue = await store.overdue_keys(connection, now - wait, limit)
            keys = [key for key in keys if (EVENTS, key) in overdue]
            applied = await _in_order(connection, (), keys, now, report)
            await _record(connection, applied, orders, [], now, start_at, report)
    return report


async def redrive(
    connection: Connection,
    now: datetime,
    start_at: datetime | None,
    ids: Sequence[int] | None,
    reasons: Sequence[str] | None,
    *,
    dry_run: bool,
    after: int = 0,
    limit: int = 100,
) -> tuple[list[tuple[DeadLetterRow, DeadLetter | None]], Report]:
    """Run stored bytes through the transaction of a batch: each letter, and why it is refused still (None: used).

    The oldest `limit` whose id is higher than `after`: no letter means that there are no more.
    """
    async with connection.transaction():
        letters = await store.lock_dead_letters(connection, ids, reasons, after, limit)
        verdicts = [_judge(letter.record) for letter in letters]
        results = [
            (letter, verdict if isinstance(verdict, DeadLetter) else None)
            for letter, verdict in zip(letters, verdicts, strict=True)
        ]
        if dry_run:
            return results, Report()
        usable = [
            (letter.record, verdict)
            for letter, verdict in zip(letters, verdicts, strict=True)
            if not isinstance(verdict, DeadLetter)
        ]
        report = await apply_judged(connection, usable, now, start_at)
        used = [letter.dead_letter_id for letter, refused in results if refused is None]
        await store.mark_redriven(connection, used, now)
    return results, report


async def _lock(connection: Connection, order_ids: Iterable[str]) -> dict[str, OrderRow]:
    wanted = set(order_ids)
    orders = await store.lock_orders(connection, wanted)
    if len(orders) < len(wanted):
        # Locked again as a whole, and read anew: a lock taken late would be out of order.
        await store.stub_orders(connection, wanted)
        orders = await store.lock_orders(connection, wanted)
    return orders


async def _meet(
    connection: Connection, contacts: dict[str, Contact], orders: dict[str, OrderRow], now: datetime, report: Report
) -> tuple[dict[str, OrderRow], list[Outcome]]:
    """Record contacts of orders not known yet, and wake the deliveries that waited for them."""
    new = {order_id: contact for order_id, contact in contacts.items() if orders[order_id].known_at is None}
    if not new:
        return orders, []
    await store.record_contacts(connection, now, new.values())
    orders = orders | {
        order_id: replace(orders[order_id], known_at=now, customer_id=contact.customer_id, withheld=contact.withheld)
        for order_id, contact in new.items()
    }
    waited = [order_id for order_id in new if orders[order_id].deliveries]
    outcomes: list[Outcome] = []
    if waited:
        waiting = await store.waiting_deliveries(connection, waited)
        due = [each.delivery_id for each in waiting if orders[each.order_id].withheld is None]
        await store.make_due(connection, due, now)
        report.due += len(due)
        reasons = {each.delivery_id: orders[each.order_id].withheld for each in waiting}
        await store.withhold(connection, {key: reason for key, reason in reasons.items() if reason is not None}, now)
        for each in waiting:
            order = orders[each.order_id]
            if order.withheld is not None:
                orders[each.order_id], told = _not_told(
                    order, each.kind, each.channel, order.withheld, each.about, now, each.traceparent
                )
                outcomes.append(told)
    return orders, outcomes


async def _in_order(
    connection: Connection, items: Sequence[_Item], give_up: Sequence[str], now: datetime, report: Report
) -> list[Applied]:
    """The events whose turn it is by the rule of `Versions`, its state in the database. Their orders are locked."""
    keys = sorted({item.event.order_id for item in items} | set(give_up))
    if not keys:
        return []
    known = await store.read_versions(connection, EVENTS, keys)
    parked = await store.read_parked(connection, EVENTS, keys)
    waiting: dict[str, list[tuple[int, _Item]]] = {}
    for row in parked:
        judgement = _judge(row.record)
        if item := _event(row.record, judgement):
            waiting.setdefault(row.key, []).append((row.version, item))
        elif isinstance(judgement, DeadLetter):  # of an older release, which could read it
            await store.bury(connection, now, [(row.record, judgement)])
    versions = Versions(
        Position(EVENTS, key, epoch, version, tuple(waiting.get(key, ()))) for key, (epoch, version) in known.items()
    )
    ready: list[_Item] = []
    for item in items:
        event = item.event
        turn = versions.feed(EVENTS, event.order_id, event.epoch, event.version, item)
        report.outcomes[{"apply": "applied", "ignore": "old_version", "wait": "waits"}[turn.action]] += 1
        ready += turn.ready
        report.gaps += [turn.gap] if turn.gap else []
    for key in give_up:
        turn = versions.give_up(EVENTS, key)
        ready += turn.ready
        report.gaps += [turn.gap] if turn.gap else []

    positions = list(versions.positions())
    await store.save_versions(connection, EVENTS, [(each.key, each.epoch, each.version) for each in positions])
    before = {(row.key, row.epoch, row.version) for row in parked}
    after = {(each.key, each.epoch, version): item for each in positions for version, item in each.waiting}
    if gone := before - after.keys():
        await store.unpark(connection, EVENTS, sorted(gone))
    if came := after.keys() - before:
        rows = [
            ParkedRow(key, epoch, version, after[key, epoch, version].record) for key, epoch, version in sorted(came)
        ]
        await store.park(connection, EVENTS, now, rows)
    return [Applied(item.event, item.traceparent) for item in ready]


async def _record(
    connection: Connection,
    applied: Sequence[Applied],
    orders: dict[str, OrderRow],
    outcomes: list[Outcome],
    now: datetime,
    start_at: datetime | None,
    report: Report,
) -> None:
    """Write what is to be told, and the outcomes of what can't be."""
    told = set()
    if applied:
        told = await store.told_events(connection, [each.event.id for each in applied], "email")
    deliveries = plan_deliveries(applied, orders, told, start_at)
    changed = {each.order_id: orders[each.order_id] for each in deliveries}
    changed |= {each.order_id: orders[each.order_id] for each in outcomes}
    changed = counted(changed, deliveries)
    for each in deliveries:
        if each.reason is not None and each.reason != BEFORE_START:
            changed[each.order_id], failed = _not_told(
                changed[each.order_id], each.kind, each.channel, each.reason, each.about, now, each.traceparent
            )
            outcomes.append(failed)
    if deliveries:
        await store.record_deliveries(connection, now, deliveries)
        await store.record_updates(connection, deliveries)
    if outcomes:
        await store.append_outbox(connection, outcomes)
    if changed:
        await store.count_deliveries(connection, changed.values())
    _count(report, deliveries)
    report.to_publish += len(outcomes)


def _not_told(
    order: OrderRow,
    kind: str,
    channel: str,
    reason: str,
    about: Sequence[str],
    now: datetime,
    traceparent: str | None,
) -> tuple[OrderRow, Outcome]:
    """The outcome of a delivery that will never be tried, and the order after it."""
    after = replace(order, outcome_version=order.outcome_version + 1)
    return after, outcome(
        order_id=order.order_id,
        customer_id=order.customer_id,
        version=after.outcome_version,
        kind=kind,
        channel=channel,
        attempts=0,
        failure=reason,
        about=about,
        occurred_at=now,
        traceparent=traceparent,
    )


def _count(report: Report, deliveries: Sequence[Delivery]) -> None:
    report.due += sum(each.state == "due" for each in deliveries)
    for each in deliveries:
        report.outcomes[f"delivery_{each.state}"] += 1
