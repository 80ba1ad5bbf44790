"""Hostile records through the notifier: each is used or refused with a reason, and what is used can be told."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from backorder_notifier.applying import Circumstances, OrderInHand, Upgrade, in_hand, take
from backorder_notifier.audits import audit
from backorder_notifier.contacts import Customer, changed
from backorder_notifier.intake import READS, give_up_waiting, take_batch
from backorder_notifier.items import Item, VersionedEvent
from backorder_notifier.policy import Policy
from backorder_notifier.reading import _as_record
from backorder_notifier.rows import OrderRow, Record
from backorder_notifier.sorting import judge, sort
from backorder_notifier.teller import tell_due
from backorder_notifier.telling import look_at
from backorder_schemas import DeadLetter, OrderPlaced, Versions
from backorder_schemas.topics import TOPIC_OF, TYPES
from tests.conftest import Databases
from tests.notifier.messages import NOON, Log, contact_changed, created, filled, placed, shipped
from tests.schemas.hostile import EXAMPLES, MAKERS, TRIED, ZONES, HostileRecord, hostile_records, hostile_settings

KINDS = tuple(kind for kind in MAKERS if TOPIC_OF[TYPES[kind]].name in READS)
PREFIX = "t."
POLICY = Policy(channels=("email", "sms", "webhook"))
EMPTY = (
    "TRUNCATE cursors, versions, parked, deliveries, updates, messages, orders, customers, dead_letters, products,"
    " availability, outbox, attempts"
)

FORGED = {
    "the events of an order are there once each, without gap",
    "no message tells an older state than the one before",
}
"""What holds as long as an allocator writes the events: of these here an audit should say that it doesn't."""

pytestmark = [
    pytest.mark.timeout(0 if EXAMPLES else 120),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]
batches_of_records = st.lists(hostile_records(KINDS, bent=25), min_size=1, max_size=20)


def as_record(hostile: HostileRecord, offset: int = 0) -> Record:
    """As the reader takes it from Kafka."""
    record = ConsumerRecord(
        topic=PREFIX + hostile.topic,
        partition=0,
        offset=offset,
        timestamp=hostile.timestamp,
        timestamp_type=0,
        key=hostile.key,
        value=hostile.value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=hostile.headers,
    )
    return _as_record(PREFIX, record)


@hostile_settings(40, share=25)
@given(batches_of_records)
def test_what_can_be_read_can_be_applied_to_its_order_and_kept_as_json(hostile: list[HostileRecord]) -> None:
    judged = [(record, judge(record)) for record in map(as_record, hostile)]
    batch = sort(judged)
    assert len(batch.dead) == sum(isinstance(verdict, DeadLetter) for _, verdict in judged)
    TRIED["applied by the notifier"] += len(batch.items) + len(batch.changes)
    customers: dict[str, Customer] = {}
    for change, recorded_at in batch.changes:
        known = customers.get(change.customer_id) or Customer(change.customer_id)
        customers[change.customer_id] = changed(known, change, recorded_at)
    orders: dict[str, OrderInHand] = {}
    versions: Versions[Item] = Versions()
    for item in batch.items:
        message = item.message
        if isinstance(message, OrderPlaced):
            customers.setdefault(message.customer.customer_id, Customer(message.customer.customer_id))
        row = OrderRow(message.order_id, None, None, None, "UTC", "{}", "{}")
        order = orders.setdefault(message.order_id, in_hand(row))
        circumstances = Circumstances(customers, {}, None, Upgrade())
        ready: Sequence[Item] = [item]
        if isinstance(message, VersionedEvent):
            ready = versions.feed(item.record.topic, message.order_id, message.epoch, message.version, item).ready
        for each in ready:
            take(order, each, circumstances)
    for order in orders.values():
        again = in_hand(replace(order.row, dossier=order.dossier_json(), told=order.told_json()))
        assert again.dossier == order.dossier
        assert again.told == order.told
        for zone in ZONES:
            look_at(order.dossier, order.told, (), zone, POLICY)


# ── in the database ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Bench:
    """One database that many examples share, one after the other."""

    runner: asyncio.Runner
    connection: asyncpg.Connection


@pytest.fixture(scope="module")
def bench(postgres: Databases, migrated: str) -> Iterator[Bench]:
    url = postgres.create_database(template=migrated)
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url))
        yield Bench(runner, connection)
        runner.run(connection.close())


@hostile_settings(25, share=300)
@given(batches_of_records)
def test_a_batch_of_hostile_records_is_used_or_refused_and_all_of_it_is_decided(
    bench: Bench, hostile: list[HostileRecord]
) -> None:
    bench.runner.run(_take_and_tell(bench.connection, hostile))


async def _take_and_tell(connection: asyncpg.Connection, hostile: Sequence[HostileRecord]) -> None:
    await connection.execute(EMPTY)
    ends: Counter[str] = Counter()
    records = []
    for each in hostile:
        records.append(as_record(each, ends[each.topic]))
        ends[each.topic] += 1
    for part in (records[: len(records) // 2], records[len(records) // 2 :]):
        await take_batch(connection, part, NOON, POLICY)
    letters = await connection.fetch("SELECT reason, detail FROM dead_letters")
    TRIED["in the notifier's database: used"] += len(records) - len(letters)
    TRIED["in the notifier's database: dead letters"] += len(letters)
    assert all(letter["reason"] and 0 < len(letter["detail"]) <= 2_000 for letter in letters)
    positions = await connection.fetch("SELECT topic, next_offset FROM cursors")
    assert {row["topic"].removeprefix(PREFIX): row["next_offset"] for row in positions} == dict(ends)
    now = NOON
    for time_passes in (timedelta(hours=1), timedelta(days=3), timedelta(days=30)):
        now += time_passes
        await give_up_waiting(connection, now, timedelta(minutes=15), POLICY)
        for _ in range(20):
            report = await tell_due(connection, POLICY, now)
            assert not report.failed
            if not report.looked_at:
                break
    broken = [check for check in await audit(connection, POLICY) if check.violations]
    assert {check.rule for check in broken} <= FORGED, broken


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
async def test_the_first_and_the_last_moment_there_is_keep_nobody_from_being_told(
    connection: asyncpg.Connection, moment: datetime
) -> None:
    log = Log()
    said = contact_changed(occurred_at=moment, timezone="Europe/Berlin", email="ada@example.org")
    await take_batch(connection, log.records(said, placed(placed_at=moment)), NOON, POLICY)
    await take_batch(connection, log.records(placed(placed_at=moment), created(occurred_at=moment)), NOON, POLICY)
    await take_batch(connection, log.records(filled(occurred_at=moment), shipped(occurred_at=moment)), NOON, POLICY)
    report = await tell_due(connection, POLICY, NOON + timedelta(hours=1))
    assert (report.messages, report.failed) == (1, [])
    kept = "SELECT count(*) FROM updates WHERE isfinite(occurred_at)"
    assert await connection.fetchval(kept) == await connection.fetchval("SELECT count(*) FROM updates") == 3
