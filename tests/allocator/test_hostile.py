"""Hostile records through the allocator: each is decided or refused with a reason; what is decided can be stored."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from backorder_allocator import audits, batches, planning, store
from backorder_allocator.allocation import decide
from backorder_allocator.batches import Record
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import Decision, Input, Rules
from backorder_allocator.events import alerts_per_sku, seal
from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_allocator.promises import PromiseRules
from backorder_allocator.state import PoolKey, State
from backorder_allocator.subscribers import read
from backorder_allocator.timers import timer_of
from backorder_schemas import Decoded, decode
from backorder_schemas.topics import MAX_VALUE_BYTES
from tests.allocator.pure_planner import plan_pool
from tests.allocator.test_batches import EMPTY, HEAD_STARTS
from tests.conftest import Databases
from tests.schemas import samples
from tests.schemas.hostile import EXAMPLES, LONG_ID, TRIED, HostileRecord, hostile_records, hostile_settings

KINDS = (
    *("OrderPlaced", "OrderPlaced", "OrderCancelled", "StockReceived", "StockAdjusted", "StockCounted"),
    *("SupplyExpected", "SupplyCancelled", "SkuPolicyChanged", "LinesShipped", "LinesDelivered"),
)
RULES = Rules(HEAD_STARTS, PromiseRules(timedelta(days=3), timedelta(days=7)), escalates_after=timedelta(days=5))
NOW = datetime(2026, 11, 3, tzinfo=UTC)
OUTCOMES = {"applied", "duplicate", "ignored", "dead_letter"}
PREFIX = "t."
A_BATCH = 20

pytestmark = [
    pytest.mark.timeout(0 if EXAMPLES else 120),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]
batches_of_records = st.lists(hostile_records(KINDS, bent=25), min_size=1, max_size=A_BATCH)


def as_read(hostile: HostileRecord, offset: int = 0) -> Record:
    """As the subscriber reads it from Kafka."""
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
    return read(record, PREFIX)


@hostile_settings(60, share=25)
@given(batches_of_records)
def test_what_can_be_read_is_decided_and_all_that_is_told_of_it_can_be_read(hostile: list[HostileRecord]) -> None:
    inputs = [each.read for each in map(as_read, hostile) if isinstance(each.read, Input)]
    at_once = decide(State(), inputs, RULES)
    state = State()
    one_by_one = []
    for item in inputs:
        decision = decide(state, [item], RULES)
        judge(decision)
        one_by_one += decision.events
        state = decision.state
        for pool in list(state.pools.values()):
            plan_pool(state.copy(), pool, item.now, RULES.promises)
    assert at_once.events == one_by_one, "how records are cut into batches changes nothing"


def judge(decision: Decision) -> None:
    for outcome in decision.outcomes:
        TRIED[f"decided: {outcome.kind}"] += 1
        assert outcome.kind in OUTCOMES
        assert outcome.kind != "dead_letter" or (outcome.reason and 0 < len(outcome.detail) <= 2_000)
    for pool in decision.state.pools.values():
        assert 0 <= pool.allocated <= max(0, pool.on_hand)
        assert pool.waiting >= 0
        assert not (pool.waiting and pool.available), "a unit rests while somebody waits"
    for order in decision.state.orders.values():
        for line in order.lines.values():
            assert line.ordered == line.allocated + line.waiting + line.cancelled + line.rejected
            assert min(line.allocated, line.waiting, line.cancelled, line.rejected, line.held) >= 0
    for event in seal(decision.events, 1, dict.fromkeys(alerts_per_sku(decision.events), 0)):
        value = event.value.encode()
        assert len(value) <= MAX_VALUE_BYTES
        if event.version:
            assert isinstance(decode(event.topic, event.key.encode(), value, ()), Decoded)


def test_a_thousand_substitutes_for_a_thousand_lines_are_no_flood() -> None:
    substitutes = [f"{number:04}{LONG_ID[4:]}" for number in range(1_000)]
    policy = json.dumps(
        samples.fields("SkuPolicyChanged", sku="X", substitutes=substitutes), ensure_ascii=False
    ).encode()
    lines = [samples.line(line_no=number, sku="X") for number in range(1, 1_001)]
    order = json.dumps(samples.fields("OrderPlaced", lines=lines)).encode()
    hostile = [HostileRecord("catalog", None, policy, (), 0), HostileRecord("orders", None, order, (), 0)]
    decision = decide(State(), [each.read for each in map(as_read, hostile) if isinstance(each.read, Input)], RULES)
    told = seal(decision.events, 1, dict.fromkeys(alerts_per_sku(decision.events), 0))
    assert len(told) >= 1_000
    assert sum(len(event.value.encode()) for event in told) < 20 * MAX_VALUE_BYTES


# ── what is decided can be stored ────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Bench:
    """One database that many examples share, one after the other."""

    runner: asyncio.Runner
    pool: asyncpg.Pool


@pytest.fixture(scope="module")
def bench(postgres: Databases, migrated: str) -> Iterator[Bench]:
    url = postgres.create_database(template=migrated)
    with asyncio.Runner() as runner:
        pool = runner.run(_pool(url))
        yield Bench(runner, pool)
        runner.run(pool.close())


async def _pool(url: str) -> asyncpg.Pool:
    pool: asyncpg.Pool = await asyncpg.create_pool(url, min_size=1, max_size=1, server_settings=SESSION)
    return pool


@hostile_settings(30, share=300)
@given(batches_of_records)
def test_a_batch_of_hostile_records_is_applied_or_refused_and_the_books_agree(
    bench: Bench, hostile: list[HostileRecord]
) -> None:
    bench.runner.run(_work_and_audit(bench.pool, hostile))


async def _work_and_audit(pool: asyncpg.Pool, hostile: Sequence[HostileRecord]) -> None:
    async with pool.acquire() as connection:
        await connection.execute(EMPTY)
        context = Context(RULES, rules_id=await store.register_rules(connection, RULES))
        topics = {each.topic for each in hostile}
        await store.add_cursors(connection, [(topic, 0) for topic in topics])
    intake = Intake(pool, context, lambda: None)
    intake.stopping.set()  # no pause between tries
    assert await intake.take(lambda: numbered(hostile)), intake.health
    async with pool.acquire() as connection:
        done = await connection.fetchrow(
            "SELECT sum(applied + duplicates + ignored + dead_letters) AS done, sum(dead_letters) AS dead FROM journal"
        )
        letters = await connection.fetch("SELECT reason, detail FROM dead_letters")
        assert done["done"] == len(hostile)
        TRIED["in the allocator's database: used"] += len(hostile) - done["dead"]
        TRIED["in the allocator's database: dead letters"] += done["dead"]
        assert all(letter["reason"] and 0 < len(letter["detail"]) <= 2_000 for letter in letters)
        for row in await connection.fetch("SELECT * FROM timers WHERE due_at <= $1 ORDER BY due_at LIMIT 5", NOW):
            await batches.fire(connection, timer_of(row), row["due_at"], context, NOW)
        named = [PoolKey(row["sku"], row["location"]) for row in await connection.fetch("SELECT * FROM pools")]
        if named:
            await planning.plan_once(connection, named, NOW, 5_000, context)
        broken = [check for check in await audits.audit(connection) if check.violations]
        assert not broken


def numbered(hostile: Sequence[HostileRecord]) -> list[Record]:
    ends: Counter[str] = Counter()
    records = []
    for each in hostile:
        records.append(as_read(each, ends[each.topic]))
        ends[each.topic] += 1
    return records
