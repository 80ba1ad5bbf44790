"""The transaction of a batch: what PostgreSQL holds afterwards is what `decide` says, whatever was loaded for it."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from backorder_allocator import audits, batches, dead_letters, loading, planning, statements, store
from backorder_allocator.allocation import decide
from backorder_allocator.batches import Record, Worked
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import EscalationDue, Event, Input, Outcome, Rules, Timer
from backorder_allocator.loading import Context
from backorder_allocator.promises import PromiseRules
from backorder_allocator.ranking import HeadStartRules, ValueRule
from backorder_allocator.redriving import drive
from backorder_allocator.state import FulfilmentKey, Line, Order, Policy, PoolKey, Rank, State, SupplyKey
from backorder_allocator.statements import Connection
from backorder_allocator.store import LockedPool
from backorder_allocator.touching import touched_by
from backorder_schemas import (
    CancelledLine,
    Customer,
    DeadLetter,
    LinesShipped,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    ShippedLine,
    SkuPolicyChanged,
    StockAdjusted,
    StockCounted,
    StockReceived,
    SupplyExpected,
)
from tests.allocator.pure_planner import plan_pool
from tests.allocator.records import Partitions
from tests.allocator.strategies import (
    SEGMENT_HEAD_STARTS,
    START,
    VALUE_HEAD_STARTS,
    Fire,
    Plan,
    Sent,
    Step,
    settings_of_a_shop,
    whole_histories,
)
from tests.allocator.strategies import batches as cuts_of
from tests.allocator.test_whole_histories import DEFAULT_EXAMPLES, EXAMPLES, on_random_histories, rules_of
from tests.conftest import Databases

NOW = datetime(2026, 11, 3, tzinfo=UTC)
HEAD_STARTS = HeadStartRules(SEGMENT_HEAD_STARTS, tuple(ValueRule(*rule) for rule in VALUE_HEAD_STARTS))
RULES = Rules(HEAD_STARTS)
TABLES = (
    "pools orders lines stock_movements cancels cursors journal events alert_versions dead_letters policies supplies "
    "queue_days fulfilments timers rules"
)
# TRUNCATE makes new files for each, which takes longer than an example.
EMPTY = "; ".join(f"DELETE FROM {table}" for table in TABLES.split()) + "; UPDATE log_head SET seq = 0, journal = 0"


async def work(connection: Connection, records: list[Record], context: Context) -> Worked:
    await store.add_cursors(connection, {(record.topic, record.partition) for record in records})
    return await batches.work(connection, records, context, NOW)


async def assert_audit_is_clean(connection: Connection, beside: str = "") -> None:
    broken = {check.rule: check.examples for check in await audits.audit(connection) if check.violations}
    broken.pop(beside, None)
    assert broken == {}


# ── against decide on everything ─────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Bench:
    """One database that many examples share, one after the other."""

    runner: asyncio.Runner
    connection: asyncpg.Connection


@pytest.fixture(scope="module")
def bench(postgres: Databases, migrated: str) -> Iterator[Bench]:
    url = postgres.create_database(template=migrated)
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(url, server_settings=SESSION))
        yield Bench(runner, connection)
        runner.run(connection.close())


@pytest.mark.timeout(300 if EXAMPLES <= DEFAULT_EXAMPLES else 0)
@settings(on_random_histories, max_examples=EXAMPLES // 10)
@given(data=st.data())
def test_the_database_holds_what_decide_says_for_any_cut_into_batches(bench: Bench, data: st.DataObject) -> None:
    history = data.draw(whole_histories())
    shop = data.draw(settings_of_a_shop())
    cut = data.draw(cuts_of(history))
    repeats = data.draw(st.lists(st.booleans(), min_size=len(cut), max_size=len(cut)))
    bench.runner.run(compare(bench.connection, rules_of(shop), cut, repeats))


async def compare(
    connection: asyncpg.Connection,
    rules: Rules,
    cut: Sequence[Sequence[Step]],
    repeats: Iterable[bool] = itertools.repeat(False),
) -> None:
    """Work a history in batches, and decide it step by step without a database: both know the same in the end."""
    await connection.execute(EMPTY)
    context = Context(rules, rules_id=await store.register_rules(connection, rules))
    partitions = Partitions()
    told = Told()
    for part, repeat in zip(cut, repeats, strict=False):
        # Timers fire and the planner runs between batches.
        for kind, steps in itertools.groupby(part, key=type):
            if kind is Fire:
                for _ in steps:
                    await _fire(connection, told, context)
            elif kind is Plan:
                for step in steps:
                    assert isinstance(step, Plan)
                    await planning.plan_once(connection, [PoolKey(*step.pool)], step.now, 1_000, context)
                    told.plan(PoolKey(*step.pool), step.now, rules)
            else:
                records = partitions.records(step for step in steps if isinstance(step, Sent))
                outcomes = (await work(connection, records, context)).outcomes
                expected = told.decide([read for record in records if isinstance(read := record.read, Input)], rules)
                assert [(o.kind, o.reason) for o in outcomes] == [(o.kind, o.reason) for o in expected]
                if repeat:
                    assert (await work(connection, records, context)).records == ()
    await assert_the_database_holds(connection, told, context)


@dataclass
class Told:
    """What `decide` on everything says, one message after the other."""

    state: State = field(default_factory=State)
    events: list[Event] = field(default_factory=list)
    timers: dict[Timer, datetime] = field(default_factory=dict)
    policies: set[str] = field(default_factory=set)
    late: int = 0

    def decide(self, inputs: Iterable[Input], rules: Rules) -> list[Outcome]:
        outcomes = []
        for item in inputs:
            if isinstance(item.message, Timer):
                del self.timers[item.message]
            decision = decide(self.state, [item], rules)
            self.state = decision.state
            self.events += decision.events
            self.late += len(decision.late_letters)
            for timer, due in decision.timers.items():
                self.timers.pop(timer, None)
                if due is not None:
                    self.timers[timer] = due
            outcomes += decision.outcomes
        return outcomes

    def plan(self, key: PoolKey, now: datetime, rules: Rules) -> None:
        """What the planner tells is not looked at here, but later events of the order get their versions after it."""
        pool = self.state.pools.get(key)
        for move in plan_pool(self.state, pool, now, rules.promises) if pool else ():
            self.state.orders[move.line.order_id].backorders_version += 1


async def _fire(connection: asyncpg.Connection, told: Told, context: Context) -> None:
    if told.timers:
        due, _, timer = min((due, store.timer_row(timer), timer) for timer, due in told.timers.items())
        assert not await batches.fire(connection, timer, due - timedelta(microseconds=1), context, NOW)
        told.decide([Input(timer, due)], context.rules)
        assert await batches.fire(connection, timer, due, context, NOW)


async def assert_the_database_holds(connection: asyncpg.Connection, told: Told, context: Context) -> None:
    state = told.state
    assert await _events(connection) == _expected_events(told.events)
    ids = {
        PoolKey(row["sku"], row["location"]): row["pool_id"] for row in await connection.fetch("SELECT * FROM pools")
    }
    known = await store.policies_of(connection, [*state.policies, *(key.sku for key in ids)])
    assert known == state.policies
    async with connection.transaction():
        locked = await store.lock_pools(connection, ids.values())
        for each in locked.values():
            pool = each.pool
            pool.policy = known[pool.key.sku].policy if each.policy_revision else context.rules.default_policy
            assert pool.policy.revision == each.policy_revision
        orders = await store.lock_orders(connection, await _ids(connection, "orders", "order_id"))
        assert orders == {order_id: _at_rest(order) for order_id, order in state.orders.items()}
        keys = [SupplyKey(*row) for row in await connection.fetch("SELECT supply_id, sku FROM supplies")]
        assert await store.lock_supplies(connection, keys) == state.supplies
        fulfilments = await connection.fetch("SELECT kind, shipment_id, order_id FROM fulfilments")
        assert (
            await store.known_fulfilments(connection, [FulfilmentKey(*row) for row in fulfilments]) == state.fulfilments
        )
    pools = {each.pool.key: replace(each.pool, pool_id=None) for each in locked.values() if each.pool.named}
    assert pools == {key: replace(pool, pool_id=None) for key, pool in state.pools.items()}
    timers = await connection.fetch("SELECT kind, subject, supply_id, due_at FROM timers")
    assert {tuple(row) for row in timers} == {(*store.timer_row(timer), due) for timer, due in told.timers.items()}
    waiting = sorted((line.pool, line.rank, line.waiting) for line in _lines(state) if line.waiting)
    await _assert_places(connection, waiting, {each.pool.key: each for each in locked.values()}, ids)
    await _assert_letters(connection, told)
    # Here timers fire before their time: a supply is overdue, and counts from a moment before its date.
    await assert_audit_is_clean(connection, beside="no supply covers two promises")


async def _assert_places(
    connection: asyncpg.Connection,
    waiting: Sequence[tuple[PoolKey, Rank, int]],
    locked: Mapping[PoolKey, LockedPool],
    ids: Mapping[PoolKey, int],
) -> None:
    """The sums by day, the ends of the queues, and what they say is ahead of places."""
    days: Counter[tuple[PoolKey, str]] = Counter()
    for key, rank, units in waiting:
        days[key, rank[0].astimezone(UTC).date().isoformat()] += units
        end = locked[key].queue_end
        assert end is not None
        assert rank[0] <= end
    rows = await connection.fetch(
        "SELECT sku, location, day::text, q.waiting FROM queue_days q JOIN pools USING (pool_id)"
    )
    assert {(PoolKey(row["sku"], row["location"]), row["day"]): row["waiting"] for row in rows} == days
    beside = [(key, (rank[0] - timedelta(hours=3), "", 1)) for key, rank, _ in waiting if rank[0].year > 1]
    places = [(key, rank) for key, rank, _ in waiting] + beside
    assert await store.units_ahead(connection, {(ids[key], rank) for key, rank in places}) == {
        (ids[key], rank): sum(units for other, ahead, units in waiting if other == key and ahead < rank)
        for key, rank in places
    }


async def _assert_letters(connection: asyncpg.Connection, told: Told) -> None:
    """A shipment waits with its record, until its order comes; one that can't be is a dead letter then."""
    waits = {
        FulfilmentKey("shipped", message.shipment_id, message.order_id)
        for order in told.state.orders.values()
        for message in order.early_shipments
    }
    rows = await connection.fetch(
        "SELECT * FROM fulfilments WHERE waits OR topic IS NOT NULL OR header_names IS NOT NULL"
    )
    assert {FulfilmentKey(row["kind"], row["shipment_id"], row["order_id"]) for row in rows} == waits
    for row in rows:
        assert (row["topic"], row["key"], row["value"]) == ("fulfilment", b"key", b"value")
        assert (row["header_names"], row["header_values"]) == ([b"name", b"null"], [b"\xff", None])
    letters = await dead_letters.find(connection)
    refused = await connection.fetchval("SELECT coalesce(sum(dead_letters), 0) FROM journal")
    assert len(letters) == refused + told.late
    assert all(letter.headers == (("name", b"\xff"), ("null", None)) for letter in letters)


def _at_rest(order: Order) -> Order:
    """As it is loaded: what came before an order is needed no more once it is there, and cancels have no order."""
    if order.placed_at is not None:
        return replace(order, early_cancels=(), early_shipments=())
    return replace(order, early_cancels=tuple(sorted(order.early_cancels, key=lambda cancel: cancel.id)))


def _lines(state: State) -> Iterator[Line]:
    return (line for order in state.orders.values() for line in order.lines.values())


async def _ids(connection: asyncpg.Connection, table: str, column: str) -> list[Any]:
    return [row[0] for row in await connection.fetch(f"SELECT {column} FROM {table}")]


async def _events(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "SELECT topic, key, type, version, value, caused_by, why FROM events JOIN journal USING (batch_id) "
        "WHERE kind <> 'planner' ORDER BY number, ordinal"
    )
    events = []
    for row in rows:
        value = json.loads(row["value"])
        for name in ("id", "type", "occurred_at", "version", "epoch", "caused_by"):
            del value[name]
        why = None if row["why"] is None else json.loads(row["why"])
        events.append((row["topic"], row["key"], row["type"], row["version"], value, row["caused_by"], why))
    return events


def _expected_events(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    alerts: Counter[str] = Counter()
    expected = []
    for event in events:
        version = event.version
        if event.topic == "stock-alerts":
            alerts[event.key] += 1
            version = alerts[event.key]
        fields = json.loads(to_json(event.fields))
        expected.append((event.topic, event.key, event.kind.__name__, version, fields, event.caused_by, event.why))
    return expected


async def _pools(connection: asyncpg.Connection) -> dict[PoolKey, int]:
    """On hand by pool."""
    return {
        PoolKey(row["sku"], row["location"]): row["on_hand"] for row in await connection.fetch("SELECT * FROM pools")
    }


# ── what a single batch must and must not do ─────────────────────────────────────────────────────────────────────────


def order(order_id: str, *quantities: int, sku: str = "X", **more: Any) -> Sent:
    lines = tuple(
        OrderLine(line_no=number, sku=sku, quantity=quantity, unit_price=Decimal(1))
        for number, quantity in enumerate(quantities, 1)
    )
    fields: dict[str, Any] = {
        "placed_at": START,
        "currency": "EUR",
        "customer": Customer(customer_id="c"),
        "lines": lines,
    } | more
    return Sent(OrderPlaced(id=f"placed {order_id}", occurred_at=START, order_id=order_id, **fields), START)


def receipt(receipt_id: str, quantity: int, sku: str = "X") -> Sent:
    return Sent(
        StockReceived(id=receipt_id, occurred_at=START, receipt_id=receipt_id, sku=sku, quantity=quantity), START
    )


def cancel(order_id: str, id_: str = "cancel") -> Sent:
    return Sent(OrderCancelled(id=id_, occurred_at=START, order_id=order_id, by="customer"), START)


def shipment(order_id: str, quantity: int, shipment_id: str = "sh") -> Sent:
    shipped = (ShippedLine(line_no=1, quantity=quantity),)
    name = f"{shipment_id} {order_id}"
    return Sent(
        LinesShipped(id=name, occurred_at=START, shipment_id=shipment_id, order_id=order_id, lines=shipped), START
    )


def policy(revision: int, sku: str = "X", now: datetime = START, **fields: Any) -> Sent:
    rules: dict[str, Any] = {"backorders": "allow"} | fields
    name = f"{sku} {revision}"
    return Sent(SkuPolicyChanged(id=name, occurred_at=START, sku=sku, revision=revision, **rules), now)


async def waiting(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT order_id, sum(quantity_waiting)::bigint AS units FROM lines GROUP BY order_id"
    )
    return {row["order_id"]: row["units"] for row in rows}


async def test_a_record_below_the_cursor_changes_nothing(connection: asyncpg.Connection) -> None:
    partitions = Partitions()
    first = partitions.records([receipt("r1", 10), order("1", 15)])
    context = Context(RULES)
    await work(connection, first, context)
    again = await work(connection, [*first, *partitions.records([order("2", 1)])], context)
    assert [record.offset for record in again.records] == [1]
    assert await waiting(connection) == {"1": 5, "2": 1}
    await assert_audit_is_clean(connection)


async def test_a_zombies_write_is_refused_because_its_cursor_has_moved(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """Two processes believe they own the partition and work the same records at the same moment."""
    records = Partitions().records([receipt("r1", 10), *(order(str(number), 3) for number in range(20))])
    await store.add_cursors(connection, {(record.topic, 0) for record in records})
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    both = await asyncio.gather(
        batches.work(connection, records, Context(RULES), NOW),
        batches.work(other, records, Context(RULES), NOW),
    )
    await other.close()
    assert sorted(len(each.records) for each in both) == [0, 21]
    assert sum((await waiting(connection)).values()) == 50
    await assert_audit_is_clean(connection)


async def test_dead_letters_are_kept_byte_for_byte_and_the_cursor_moves_past_them(
    connection: asyncpg.Connection,
) -> None:
    partitions = Partitions()
    records = [partitions.broken("orders", "not_json"), *partitions.records([order("1", 1)])]
    worked = await work(connection, records, Context(RULES))
    assert [outcome.kind for outcome in worked.outcomes] == ["dead_letter", "applied"]
    (letter,) = await dead_letters.find(connection)
    assert (letter.key, letter.value, letter.headers) == (b"key", b"value", (("name", b"\xff"), ("null", None)))
    assert (letter.topic, letter.partition, letter.offset, letter.reason) == ("orders", 0, 0, "not_json")
    assert await store.read_cursors(connection, [("orders", 0)]) == {("orders", 0): 2}


async def test_a_dead_letter_driven_again_twice_has_the_effect_of_once(connection: asyncpg.Connection) -> None:
    arrival = order("1", 3)
    record = Partitions().broken("orders", "invalid")
    value = arrival.message.model_dump_json().encode()
    record = Record("orders", 0, 0, START, b"1", value, (), record.read)
    await work(connection, [record], Context(RULES))
    letters = await dead_letters.find(connection)
    tried = [row async for row in drive(connection, RULES, letters, dry_run=True)]
    assert [row["outcome"] for row in tried] == ["applied"]
    assert await waiting(connection) == {}
    first = [row async for row in drive(connection, RULES, letters, dry_run=False)]
    second = [row async for row in drive(connection, RULES, letters, dry_run=False)]
    assert [row["outcome"] for row in first + second] == ["applied", "resolved before"]
    assert await waiting(connection) == {"1": 3}
    assert await dead_letters.find(connection) == []
    await assert_audit_is_clean(connection)


async def test_a_dead_letter_that_is_still_wrong_keeps_its_first_reason_and_shows_the_newest(
    connection: asyncpg.Connection,
) -> None:
    await work(connection, [Partitions().broken("orders", "invalid")], Context(RULES))
    rows = [row async for row in drive(connection, RULES, await dead_letters.find(connection), dry_run=False)]
    assert [row["reason"] for row in rows] == ["not_json"]
    (letter,) = await dead_letters.find(connection)
    assert (letter.reason, letter.newest_reason, letter.redrives, letter.resolved_at) == (
        "invalid",
        "not_json",
        1,
        None,
    )


async def test_a_cancel_and_its_order_that_meet_in_two_processes_are_both_honoured(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """By a wrong key they are on two partitions, so that nothing but the order's row brings them together."""
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    await store.add_cursors(connection, [("orders", 0), ("orders", 1)])
    for number in range(15):
        name = f"o{number}"
        placed = Record("orders", 0, number, START, None, b"", (), Input(order(name, 2).message, START))
        cancelled = Record("orders", 1, number, START, None, b"", (), Input(cancel(name, name).message, START))
        await asyncio.gather(
            batches.work(connection, [placed], Context(RULES), NOW),
            batches.work(other, [cancelled], Context(RULES), NOW),
        )
    await other.close()
    assert set((await waiting(connection)).values()) == {0}
    await assert_audit_is_clean(connection)


async def test_an_order_that_is_complete_in_another_pool_is_released_by_a_receipt_there(
    connection: asyncpg.Connection,
) -> None:
    """The receipt names one pool; the release changes a line of another, which has to be locked, too."""
    partitions = Partitions()
    context = Context(RULES)
    await work(
        connection,
        partitions.records([receipt("r1", 1, "A"), order("1", lines=lines(("A", 1), ("B", 1)), delivery="complete")]),
        context,
    )
    assert await connection.fetchval("SELECT count(*) FROM events WHERE type = 'AllocationReleased'") == 0
    await work(connection, partitions.records([receipt("r2", 1, "B")]), Context(RULES))
    (released,) = await connection.fetch("SELECT value FROM events WHERE type = 'AllocationReleased'")
    assert [line["sku"] for line in json.loads(released["value"])["lines"]] == ["A", "B"]
    await assert_audit_is_clean(connection)


async def test_a_receipt_reads_no_more_of_a_long_queue_than_it_can_fill(connection: asyncpg.Connection) -> None:
    partitions = Partitions()
    context = Context(RULES)
    await work(connection, partitions.records(order(f"{number:04}", 1) for number in range(2000)), context)
    read: list[int] = []
    real = store.lock_orders

    async def counted(connection: Connection, order_ids: Any) -> Any:
        read.append(len(order_ids))
        return await real(connection, order_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "lock_orders", counted)
        await work(connection, partitions.records([receipt("r1", 7)]), context)
    assert read == [7]
    assert sum((await waiting(connection)).values()) == 1993


async def test_the_largest_quantities_add_up_over_a_batch(connection: asyncpg.Connection) -> None:
    most = 1_000_000_000
    arrivals = [order(str(number), *[most] * 10) for number in range(10)]
    arrivals += [receipt(f"r{number}", most) for number in range(100)]
    await work(connection, Partitions().records(arrivals), Context(RULES))
    assert set((await waiting(connection)).values()) == {0}
    assert await connection.fetchval("SELECT allocated FROM pools") == 100 * most
    await assert_audit_is_clean(connection)


async def test_counts_and_losses_in_one_batch_take_from_lines_that_were_not_in_it(
    connection: asyncpg.Connection,
) -> None:
    partitions = Partitions()
    context = Context(RULES)
    later = START + timedelta(hours=1)
    await work(
        connection, partitions.records([receipt("r1", 10), *(order(str(number), 2) for number in range(5))]), context
    )
    changes = [
        Sent(StockCounted(id="c1", occurred_at=START, count_id="c1", sku="X", counted=7), later),
        Sent(StockAdjusted(id="a1", occurred_at=START, adjustment_id="a1", sku="X", delta=-3, reason="broken"), later),
    ]
    await work(connection, partitions.records(changes), context)
    assert await waiting(connection) == {"0": 0, "1": 0, "2": 2, "3": 2, "4": 2}
    await assert_audit_is_clean(connection)


async def test_dates_at_the_ends_of_the_calendar_are_stored_and_ranked(connection: asyncpg.Connection) -> None:
    first = datetime(1, 1, 1, tzinfo=UTC)
    gold = Customer(customer_id="g", segment="gold")
    arrivals = [
        order("now", 1, placed_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        order("first day", 1, placed_at=first, customer=gold),
    ]
    partitions = Partitions()
    await work(connection, partitions.records(arrivals), Context(RULES))
    await work(connection, partitions.records([receipt("r1", 1)]), Context(RULES))
    assert await waiting(connection) == {"now": 1, "first day": 0}
    assert await connection.fetchval("SELECT placed_at FROM orders WHERE order_id = 'now'") == START


async def test_a_line_that_a_cancel_names_twice_loses_both_amounts(connection: asyncpg.Connection) -> None:
    twice = tuple(CancelledLine(line_no=1, quantity=2) for _ in range(2))
    named = OrderCancelled(id="c", occurred_at=START, order_id="1", by="shop", lines=twice)
    partitions = Partitions()
    await work(connection, partitions.records([order("1", 5), Sent(named, START)]), Context(RULES))
    assert await waiting(connection) == {"1": 1}
    await assert_audit_is_clean(connection)


def lines(*skus_and_quantities: tuple[str, int]) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(line_no=number, sku=sku, quantity=quantity, unit_price=Decimal(1))
        for number, (sku, quantity) in enumerate(skus_and_quantities, 1)
    )


def adjustment(adjustment_id: str, delta: int, sku: str = "X") -> Sent:
    return Sent(
        StockAdjusted(
            id=adjustment_id, occurred_at=START, adjustment_id=adjustment_id, sku=sku, delta=delta, reason="broken"
        ),
        START,
    )


async def test_held_units_that_a_batch_releases_do_not_hide_those_that_lose_before_them(
    connection: asyncpg.Connection,
) -> None:
    """The last in rank is held when the batch is loaded and released when stock is lost: the one before it loses."""
    history = [
        receipt("r1", 2, "A"),
        order("1", lines=lines(("A", 1), ("B", 1)), delivery="complete"),
        order("2", lines=lines(("A", 1), ("C", 1)), delivery="complete"),
        receipt("r2", 1, "C"),
        adjustment("a", -1, "A"),
    ]
    await compare(connection, RULES, [history[:3], history[3:]])


UNTIL_SOMEBODY_WAITS_FOR_US = """
DO $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))) LOOP
        PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
    END LOOP;
END $$
"""


async def _work_while_placed(
    connection: asyncpg.Connection, database_url: str, placed: list[Record], then: list[Record]
) -> None:
    """Work `then`, which waits for the locks of another process that is about to commit `placed`."""
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    context = Context(RULES)
    touched = touched_by(batches._inputs(placed))
    await loading.prepare(other, touched, context)
    async with other.transaction():
        await batches._work_once(other, placed, touched, context, NOW)
        working = asyncio.create_task(batches.work(connection, then, Context(RULES), NOW))
        async with asyncio.timeout(10):
            await other.execute(UNTIL_SOMEBODY_WAITS_FOR_US)
    await working
    await other.close()


def _on_another_partition(*arrivals: Sent) -> list[Record]:
    """As if by a wrong key: what another process works at the same moment."""
    return [replace(record, partition=1) for record in Partitions().records(arrivals)]


async def test_a_cancel_frees_stock_for_a_queue_that_grew_while_it_waited_for_its_locks(
    connection: asyncpg.Connection, database_url: str
) -> None:
    partitions = Partitions()
    await work(connection, partitions.records([receipt("r1", 2)]), Context(RULES))
    cancelled = _on_another_partition(receipt("r2", 1), cancel("1"))
    await store.add_cursors(connection, {(record.topic, record.partition) for record in cancelled})
    await work(connection, partitions.records([order("0", 1)]), Context(RULES))
    await _work_while_placed(
        connection,
        database_url,
        partitions.records([order("1", 1), *(order(str(n), 1) for n in range(2, 6))]),
        cancelled,
    )
    assert await waiting(connection) == {"0": 0, "1": 0, "2": 0, "3": 0, "4": 1, "5": 1}
    await assert_audit_is_clean(connection)


async def test_who_loses_is_the_last_in_rank_even_if_a_cancelled_order_came_while_the_batch_waited(
    connection: asyncpg.Connection, database_url: str
) -> None:
    partitions = Partitions()
    await work(connection, partitions.records([receipt("r1", 3), order("1", 1), order("2", 1)]), Context(RULES))
    gold = Customer(customer_id="g", segment="gold")
    placed = partitions.records([order("9", 1), order("0", 2, customer=gold)])
    losing = _on_another_partition(receipt("r2", 1), cancel("9"), adjustment("a", -1))
    await store.add_cursors(connection, {(record.topic, record.partition) for record in losing})
    await _work_while_placed(connection, database_url, placed, losing)
    # "0" was served before: by the receipt and by what the cancel freed.
    assert await waiting(connection) == {"0": 0, "1": 0, "2": 1, "9": 0}
    await assert_audit_is_clean(connection)


async def test_pool_ids_of_another_database_are_forgotten(connection: asyncpg.Connection) -> None:
    """As after a restore under a running service: the row of that id is gone, or is another pool's."""
    context = Context(RULES, pool_ids={PoolKey("X", "main"): 999, PoolKey("Y", "main"): 1})
    await work(connection, Partitions().records([receipt("r1", 3), order("1", 2), receipt("r2", 1, "Y")]), context)
    assert await _pools(connection) == {PoolKey("X", "main"): 3, PoolKey("Y", "main"): 1}
    await assert_audit_is_clean(connection)


# ── what else a batch reads, and for whom it waits ───────────────────────────────────────────────────────────────────


async def test_an_order_that_a_loss_releases_does_not_hide_who_holds_units_before_it(
    connection: asyncpg.Connection,
) -> None:
    """After the release date (its timer is late), who loses one unit is released with the others it held."""
    released_at = START + timedelta(hours=1)
    late = START + timedelta(hours=2)
    before: list[Step] = [
        policy(1, backorders="preorder", release_at=released_at),
        receipt("r1", 3),
        order("1", 1),
        order("2", 1, 1),
    ]
    losses = [replace(adjustment(f"a{number}", -1), now=late) for number in range(2)]
    await compare(connection, RULES, [before, losses])
    assert await waiting(connection) == {"1": 1, "2": 1}


async def test_a_batch_takes_as_many_statements_for_many_messages_as_for_few(connection: asyncpg.Connection) -> None:
    context = Context(RULES)
    partitions = Partitions()
    soon = START + timedelta(days=1)

    def arrivals(name: str, count: int) -> Iterator[Sent]:
        for number in range(count):
            sku = f"{name} {number}"
            supply: dict[str, Any] = {"id": sku, "occurred_at": START, "supply_id": "s", "sku": sku, "supplier": "ajax"}
            yield policy(1, sku, low_stock_at=1, substitutes=("Y",))
            yield Sent(SupplyExpected(revision=1, quantity=9, expected_at=soon, **supply), START)
            yield Sent(StockReceived(receipt_id="r", quantity=2, **supply), START)
            yield order(sku, 5, sku=sku, delivery="complete")
            yield cancel(sku, sku)
            yield shipment(sku, 1)
            yield adjustment(sku, -1, sku)

    async def statements_for(name: str, count: int) -> list[str]:
        keys = [PoolKey(f"{name} {number}", "main") for number in range(count)]
        context.pool_ids.update(await store.pool_ids(connection, keys))
        records = partitions.records(arrivals(name, count))
        await store.add_cursors(connection, {(record.topic, record.partition) for record in records})
        with statements_that_run() as said:
            await batches.work(connection, records, context, NOW)
        return said

    await statements_for("first", 1)  # of which the pool of the substitute is remembered
    few, many = await statements_for("few", 2), await statements_for("many", 60)
    assert few == many
    assert len(few) < 40


async def test_orders_alone_need_no_statement_for_what_is_not_there(connection: asyncpg.Connection) -> None:
    context = Context(RULES)
    partitions = Partitions()
    await work(connection, partitions.records([order("1", 1)]), context)
    with statements_that_run() as said:
        await batches.work(connection, partitions.records([order("2", 1)]), context, NOW)
    assert said == [
        "lock_cursors",
        "lock_pools",
        "supplies_to_come",
        "lock_orders",
        "next_batch_id",
        "move_queue_days",
        "update_pools",
        "move_cursors",
        "append_journal",
        "notify_events",
    ]


@contextmanager
def statements_that_run() -> Iterator[list[str]]:
    """The names of the statements that run inside, in their order."""
    said: list[str] = []
    real = statements.statement

    def named(name: str) -> str:
        said.append(name)
        return real(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statements, "statement", named)
        yield said


async def test_a_count_reads_no_more_allocated_lines_than_it_can_take_from(connection: asyncpg.Connection) -> None:
    partitions = Partitions()
    context = Context(RULES)
    placed = [receipt("r1", 500), *(order(f"{number:03}", 1) for number in range(500))]
    await work(connection, partitions.records(placed), context)
    read: list[int] = []
    real = store.lock_orders

    async def counted(connection: Connection, order_ids: Any) -> Any:
        read.append(len(order_ids))
        return await real(connection, order_ids)

    count = Sent(StockCounted(id="c1", occurred_at=START, count_id="c1", sku="X", counted=497), START)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "lock_orders", counted)
        await work(connection, partitions.records([count]), context)
    assert read == [3]
    assert {order_id for order_id, units in (await waiting(connection)).items() if units} == {"497", "498", "499"}


async def test_a_count_reads_no_more_of_a_queue_than_it_brings(connection: asyncpg.Connection) -> None:
    partitions = Partitions()
    placed = [receipt("r1", 200), *(order(f"{number:03}", 1) for number in range(500))]
    await work(connection, partitions.records(placed), Context(RULES))
    read: list[int] = []
    real = store.lock_orders

    async def counted(connection: Connection, order_ids: Any) -> Any:
        read.append(len(order_ids))
        return await real(connection, order_ids)

    def count(id_: str, counted: int) -> Sent:
        return Sent(StockCounted(id=id_, occurred_at=START, count_id=id_, sku="X", counted=counted), START)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "lock_orders", counted)
        await work(connection, partitions.records([count("c1", 200), count("c2", 200)]), Context(RULES))
        assert read == []
        await work(connection, partitions.records([count("c3", 203)]), Context(RULES))
        assert read == [3]
        # Three lose, and three of those that wait then are filled again.
        await work(connection, partitions.records([count("c4", 200), count("c5", 203)]), Context(RULES))
    filled = {order_id for order_id, units in (await waiting(connection)).items() if not units}
    assert filled == {f"{number:03}" for number in range(203)}
    await assert_audit_is_clean(connection)


async def test_a_cancel_and_an_escalation_read_no_order_beside_their_own(connection: asyncpg.Connection) -> None:
    partitions = Partitions()
    stock = [receipt("r1", 50), *(order(f"{number:02}", 1) for number in range(50))]
    waits = order("waits", lines=lines(("X", 1), ("Y", 1)), delivery="complete")
    rules = Rules(escalates_after=timedelta(days=1))
    await work(connection, partitions.records([receipt("r2", 9, "Y"), *stock, waits]), Context(rules))
    read: list[Any] = []
    real = store.lock_orders

    async def counted(connection: Connection, order_ids: Any) -> Any:
        read.append(set(order_ids))
        return await real(connection, order_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "lock_orders", counted)
        due = await connection.fetchval("SELECT due_at FROM timers")
        assert await batches.fire(connection, EscalationDue("waits"), due, Context(rules), NOW)
        await work(connection, partitions.records([cancel("waits")]), Context(rules))
    assert read == [{"waits"}, {"waits"}]
    await assert_audit_is_clean(connection)


async def test_a_transaction_over_many_lines_may_idle_longer_until_it_takes_the_head_of_the_log(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    partitions = Partitions()
    placed = [order(str(number), 1) for number in range(4)]
    await work(connection, partitions.records(placed), Context(RULES))
    limits: list[str] = []

    def note(name: str) -> None:
        real = getattr(store, name)

        async def noted(connection: Connection, *args: Any, **named: Any) -> Any:
            limits.append(await connection.fetchval("SHOW idle_in_transaction_session_timeout"))
            return await real(connection, *args, **named)

        monkeypatch.setattr(store, name, noted)

    note("next_batch_id")
    note("append_journal")
    await work(connection, partitions.records([receipt("r1", 1)]), Context(RULES))
    assert limits == ["10s", "10s"]
    monkeypatch.setattr(store, "MANY_ROWS", 2)
    monkeypatch.setattr(store, "IDLE_ROWS_A_SECOND", 1)
    await work(connection, partitions.records([receipt("r2", 3)]), Context(RULES))
    assert limits[2:] == ["13s", "10s"]
    await connection.execute("SET idle_in_transaction_session_timeout = 0")
    await work(connection, partitions.records([adjustment("a1", -4)]), Context(RULES))
    assert limits[4] == "0"


async def test_a_pool_that_is_made_while_its_policy_changes_begins_with_the_new_one(
    connection: asyncpg.Connection, database_url: str
) -> None:
    ordered = _on_another_partition(order("1", 2))
    await store.add_cursors(connection, {(record.topic, record.partition) for record in ordered} | {("catalog", 0)})
    changed = Partitions().records([policy(1, backorders="deny")])
    await _work_while_placed(connection, database_url, changed, ordered)
    assert await connection.fetchval("SELECT quantity_rejected FROM lines") == 2
    assert await connection.fetchval("SELECT policy_revision FROM pools") == 1


async def test_a_policy_reaches_the_pool_that_another_process_is_making(
    connection: asyncpg.Connection, database_url: str
) -> None:
    changed = Partitions().records([policy(1, safety_stock=7)])
    await store.add_cursors(connection, [("catalog", 0)])
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    async with other.transaction():
        await store.pool_ids(other, [PoolKey("X", "main")])
        working = asyncio.create_task(batches.work(connection, changed, Context(RULES), NOW))
        async with asyncio.timeout(10):
            await other.execute(UNTIL_SOMEBODY_WAITS_FOR_US)
    await working
    await other.close()
    assert await connection.fetchval("SELECT safety_stock FROM pools WHERE policy_revision = 1") == 7


async def test_a_shipment_and_its_order_that_meet_in_two_processes_are_both_booked(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """They are on two topics, so two processes work them; nothing but the order's row brings them together."""
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    partitions = Partitions()
    await work(connection, partitions.records([receipt("r1", 2000)]), Context(RULES))
    await store.add_cursors(connection, [("orders", 0), ("fulfilment", 0)])
    for number in range(3):
        names = [f"o{number}.{part:03}" for part in range(200)]
        await asyncio.gather(
            batches.work(connection, partitions.records(order(name, 2) for name in names), Context(RULES), NOW),
            # In the opposite order: rows that both make must not be waited for crosswise.
            batches.work(other, partitions.records(shipment(name, 2) for name in names[::-1]), Context(RULES), NOW),
        )
    await other.close()
    assert await connection.fetchval("SELECT sum(quantity_shipped)::bigint FROM lines") == 1200
    assert await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    await assert_audit_is_clean(connection)


async def test_receipts_of_a_supply_that_nobody_announced_count_from_two_processes(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """At two locations, so that no pool brings them together."""
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    await store.add_cursors(connection, [("stock-received", 0), ("stock-received", 1)])
    for number in range(10):
        records = [
            Record("stock-received", partition, number, START, None, b"", (), Input(message, START))
            for partition, location in enumerate(("main", "outlet"))
            for message in (
                StockReceived(
                    id=f"{location} {number}",
                    occurred_at=START,
                    receipt_id=f"r{number}",
                    sku="X",
                    location=location,
                    quantity=1,
                    supply_id=f"s{number}",
                ),
            )
        ]
        await asyncio.gather(
            batches.work(connection, records[:1], Context(RULES), NOW),
            batches.work(other, records[1:], Context(RULES), NOW),
        )
    await other.close()
    assert [row[0] for row in await connection.fetch("SELECT received FROM supplies")] == [2] * 10


async def test_a_timer_that_two_processes_fire_is_taken_once(connection: asyncpg.Connection, database_url: str) -> None:
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    rules = replace(RULES, escalates_after=timedelta(hours=1))
    partitions = Partitions()
    placed = [receipt("r1", 1, "A"), order("1", lines=lines(("A", 1), ("B", 1)), delivery="complete")]
    await work(connection, partitions.records(placed), Context(rules))
    due = await connection.fetchval("SELECT due_at FROM timers")
    taken = await asyncio.gather(
        *(batches.fire(each, EscalationDue("1"), due, Context(rules), NOW) for each in (connection, other))
    )
    await other.close()
    assert sorted(taken) == [False, True]
    assert await connection.fetchval("SELECT count(*) FROM events WHERE type = 'AllocationReleased'") == 1
    what = json.loads(await connection.fetchval("SELECT what FROM journal WHERE kind = 'timer'"))
    assert what == {"kind": "escalate", "subject": "1", "supply_id": "", "due": due.isoformat()}


# ── shipments that come before their orders ──────────────────────────────────────────────────────────────────────────


def as_record(sent: Sent, topic: str, offset: int = 0) -> Record:
    """With its bytes, as they would be driven again."""
    value = sent.message.model_dump_json().encode()
    return Record(topic, 0, offset, sent.now, b"k", value, (("h", b"\xff"),), Input(sent.message, sent.now))


async def test_a_shipment_that_waited_for_an_order_it_cannot_be_of_is_a_dead_letter_at_its_own_place(
    connection: asyncpg.Connection,
) -> None:
    context = Context(RULES)
    early = [as_record(shipment("1", 1, "first"), "fulfilment", 4), as_record(shipment("1", 5), "fulfilment", 5)]
    assert [outcome.kind for outcome in (await work(connection, early, context)).outcomes] == ["applied", "applied"]
    await work(connection, Partitions().records([receipt("r1", 2), order("1", 2)]), context)
    (letter,) = await dead_letters.find(connection)
    assert (letter.topic, letter.partition, letter.offset, letter.reason) == ("fulfilment", 0, 5, "impossible")
    assert (letter.key, letter.value, letter.headers) == (b"k", early[1].value, (("h", b"\xff"),))
    assert await connection.fetchval("SELECT quantity_shipped FROM lines") == 1
    # It was never booked, so it is not taken for a repeat.
    (row,) = [row async for row in drive(connection, RULES, [letter], dry_run=False)]
    assert (row["outcome"], row["reason"]) == ("dead_letter", "impossible")


async def test_a_shipment_that_is_refused_with_its_order_may_be_sent_again_in_the_same_batch(
    connection: asyncpg.Connection,
) -> None:
    history: list[Step] = [shipment("1", 5), receipt("r1", 2), order("1", 2), shipment("1", 2)]
    for cut in ([history], [history[:1], history[1:]], [[each] for each in history]):
        await compare(connection, RULES, cut)
        (letter,) = await dead_letters.find(connection)
        assert (letter.topic, letter.offset, letter.reason) == ("fulfilment", 0, "impossible")
        assert await connection.fetchval("SELECT quantity_shipped FROM lines") == 2


async def test_shipments_that_wait_take_from_others_as_soon_as_their_order_comes(
    connection: asyncpg.Connection,
) -> None:
    """What was shipped was allocated to others: they lose it, although the batch names only the order."""
    before: list[Step] = [receipt("r1", 3), order("1", 1), order("2", 2), shipment("3", 2)]
    cuts: list[list[list[Step]]] = [[before, [order("3", 2)]], [[*before, order("3", 2)]]]
    for cut in cuts:
        await compare(connection, RULES, cut)
        assert await waiting(connection) == {"1": 0, "2": 2, "3": 0}


# ── the journal knows the rules ──────────────────────────────────────────────────────────────────────────────────────


async def test_rules_have_one_number_and_are_given_back_as_they_were(connection: asyncpg.Connection) -> None:
    default = Policy("preorder", 1, 2, 3, 4, START, 5, ("Y", "Z"), 0)
    rules = Rules(HEAD_STARTS, PromiseRules(timedelta(days=1.5), timedelta(0)), default, timedelta(microseconds=1))
    numbers = [await store.register_rules(connection, each) for each in (rules, Rules(), rules)]
    assert numbers[0] == numbers[2] != numbers[1]
    assert await store.rules_by_id(connection, numbers[0]) == rules
    assert await store.rules_by_id(connection, numbers[1]) == Rules()


async def test_a_redrive_is_in_the_journal_by_the_place_of_its_record(connection: asyncpg.Connection) -> None:
    record = as_record(Sent(order("1", 3).message, START), "orders", 7)
    context = Context(RULES, rules_id=await store.register_rules(connection, RULES))
    await work(connection, [replace(record, read=DeadLetter("invalid", "made by a test"))], context)
    assert [row async for row in drive(connection, RULES, await dead_letters.find(connection), dry_run=False)]
    row = await connection.fetchrow("SELECT what, rules_id FROM journal WHERE kind = 'redrive'")
    assert json.loads(row["what"]) == {"topic": "orders", "partition": 0, "offset": 7}
    assert row["rules_id"] == context.rules_id
