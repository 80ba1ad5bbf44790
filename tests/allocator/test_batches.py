"""The transaction of a batch: what PostgreSQL holds afterwards is what `decide` says, whatever was loaded for it."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backorder_allocator import audits, batches, dead_letters, store
from backorder_allocator.allocation import Decision, Input, Outcome, decide
from backorder_allocator.batches import Record, Rules, Worked
from backorder_allocator.connections import SESSION
from backorder_allocator.ranking import HeadStartRules, ValueRule
from backorder_allocator.redriving import drive
from backorder_allocator.state import PoolKey, State
from backorder_allocator.statements import Connection
from backorder_schemas import (
    CancelledLine,
    Customer,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    StockAdjusted,
    StockCounted,
    StockReceived,
)
from tests.allocator.records import Partitions
from tests.allocator.strategies import (
    SEGMENT_HEAD_STARTS,
    START,
    VALUE_HEAD_STARTS,
    Arrival,
    histories,
)
from tests.allocator.strategies import batches as cuts
from tests.conftest import Databases

NOW = datetime(2026, 11, 3, tzinfo=UTC)
HEAD_STARTS = HeadStartRules(SEGMENT_HEAD_STARTS, tuple(ValueRule(*rule) for rule in VALUE_HEAD_STARTS))
EMPTY = """
TRUNCATE pools, orders, lines, stock_movements, cancels, cursors, journal, events, alert_versions, dead_letters;
UPDATE log_head SET seq = 0, journal = 0
"""


async def work(connection: Connection, records: list[Record], rules: Rules) -> Worked:
    await store.add_cursors(connection, {(record.topic, record.partition) for record in records})
    return await batches.work(connection, records, rules, NOW)


async def assert_audit_is_clean(connection: Connection) -> None:
    broken = {check.rule: check.examples for check in await audits.audit(connection) if check.violations}
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


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_database_holds_what_decide_says_for_any_cut_into_batches(bench: Bench, data: st.DataObject) -> None:
    history = data.draw(histories())
    cut = data.draw(cuts(history))
    repeats = data.draw(st.lists(st.booleans(), min_size=len(cut), max_size=len(cut)))
    bench.runner.run(_compare(bench.connection, history, cut, repeats))


async def _compare(
    connection: asyncpg.Connection, history: list[Arrival], cut: list[list[Arrival]], repeats: list[bool]
) -> None:
    await connection.execute(EMPTY)
    rules = Rules(HEAD_STARTS)
    partitions = Partitions()
    outcomes: list[Outcome] = []
    for part, repeat in zip(cut, repeats, strict=True):
        records = partitions.records(part)
        outcomes += (await work(connection, records, rules)).outcomes
        if repeat:
            assert (await work(connection, records, rules)).records == ()
    expected = decide(State(), [Input(arrival.message, arrival.now) for arrival in history], HEAD_STARTS)
    assert [(o.kind, o.reason) for o in outcomes] == [(o.kind, o.reason) for o in expected.outcomes]
    assert await _events(connection) == _expected_events(expected)
    assert await _lines(connection) == {
        (line.order_id, line.line_no): (
            line.pool,
            line.rank[0],
            line.ordered,
            line.allocated,
            line.waiting,
            line.cancelled,
            line.rejected,
            [list(release) for release in line.releases],
        )
        for order in expected.state.orders.values()
        for line in order.lines.values()
    }
    assert await _pools(connection) == {
        key: (pool.on_hand, pool.allocated, pool.waiting, pool.counted_at) for key, pool in expected.state.pools.items()
    }
    await assert_audit_is_clean(connection)


async def _events(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "SELECT topic, key, type, version, value, caused_by FROM events JOIN journal USING (batch_id) "
        "ORDER BY number, ordinal"
    )
    events = []
    for row in rows:
        value = json.loads(row["value"])
        for name in ("id", "type", "occurred_at", "version", "epoch", "caused_by"):
            del value[name]
        events.append((row["topic"], row["key"], row["type"], row["version"], value, row["caused_by"]))
    return events


def _expected_events(decision: Decision) -> list[tuple[Any, ...]]:
    alerts: dict[str, int] = {}
    expected = []
    for event in decision.events:
        version = event.version
        if event.topic == "stock-alerts":
            version = alerts[event.key] = alerts.get(event.key, 0) + 1
        fields = event.fields | {
            name: [line.model_dump() for line in value] if name == "lines" else list(value)
            for name, value in event.fields.items()
            if isinstance(value, tuple)
        }
        expected.append((event.topic, event.key, event.kind.__name__, version, fields, event.caused_by))
    return expected


async def _lines(connection: asyncpg.Connection) -> dict[tuple[str, int], tuple[Any, ...]]:
    rows = await connection.fetch("SELECT * FROM lines JOIN pools USING (pool_id)")
    return {
        (row["order_id"], row["line_no"]): (
            PoolKey(row["sku"], row["location"]),
            row["ranked_at"],
            row["quantity_ordered"],
            row["quantity_allocated"],
            row["quantity_waiting"],
            row["quantity_cancelled"],
            row["quantity_rejected"],
            json.loads(row["releases"]),
        )
        for row in rows
    }


async def _pools(connection: asyncpg.Connection) -> dict[PoolKey, tuple[Any, ...]]:
    rows = await connection.fetch("SELECT * FROM pools")
    return {
        PoolKey(row["sku"], row["location"]): (row["on_hand"], row["allocated"], row["waiting"], row["counted_at"])
        for row in rows
    }


# ── what a single batch must and must not do ─────────────────────────────────────────────────────────────────────────


def order(order_id: str, *quantities: int, sku: str = "X", **more: Any) -> Arrival:
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
    return Arrival(OrderPlaced(id=f"placed {order_id}", occurred_at=START, order_id=order_id, **fields), START)


def receipt(receipt_id: str, quantity: int, sku: str = "X") -> Arrival:
    return Arrival(
        StockReceived(id=receipt_id, occurred_at=START, receipt_id=receipt_id, sku=sku, quantity=quantity), START
    )


def cancel(order_id: str, id_: str = "cancel") -> Arrival:
    return Arrival(OrderCancelled(id=id_, occurred_at=START, order_id=order_id, by="customer"), START)


async def waiting(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT order_id, sum(quantity_waiting)::bigint AS units FROM lines GROUP BY order_id"
    )
    return {row["order_id"]: row["units"] for row in rows}


async def test_a_record_below_the_cursor_changes_nothing(connection: asyncpg.Connection) -> None:
    partitions = Partitions()
    first = partitions.records([receipt("r1", 10), order("1", 15)])
    rules = Rules(HEAD_STARTS)
    await work(connection, first, rules)
    again = await work(connection, [*first, *partitions.records([order("2", 1)])], rules)
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
        batches.work(connection, records, Rules(HEAD_STARTS), NOW),
        batches.work(other, records, Rules(HEAD_STARTS), NOW),
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
    worked = await work(connection, records, Rules(HEAD_STARTS))
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
    await work(connection, [record], Rules(HEAD_STARTS))
    letters = await dead_letters.find(connection)
    tried = [row async for row in drive(connection, HEAD_STARTS, letters, dry_run=True)]
    assert [row["outcome"] for row in tried] == ["applied"]
    assert await waiting(connection) == {}
    first = [row async for row in drive(connection, HEAD_STARTS, letters, dry_run=False)]
    second = [row async for row in drive(connection, HEAD_STARTS, letters, dry_run=False)]
    assert [row["outcome"] for row in first + second] == ["applied", "resolved before"]
    assert await waiting(connection) == {"1": 3}
    assert await dead_letters.find(connection) == []
    await assert_audit_is_clean(connection)


async def test_a_dead_letter_that_is_still_wrong_stays_with_its_new_reason(connection: asyncpg.Connection) -> None:
    await work(connection, [Partitions().broken("orders", "invalid")], Rules(HEAD_STARTS))
    rows = [row async for row in drive(connection, HEAD_STARTS, await dead_letters.find(connection), dry_run=False)]
    assert [row["reason"] for row in rows] == ["not_json"]
    (letter,) = await dead_letters.find(connection)
    assert (letter.reason, letter.redrives, letter.resolved_at) == ("not_json", 1, None)


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
            batches.work(connection, [placed], Rules(HEAD_STARTS), NOW),
            batches.work(other, [cancelled], Rules(HEAD_STARTS), NOW),
        )
    await other.close()
    assert set((await waiting(connection)).values()) == {0}
    await assert_audit_is_clean(connection)


async def test_an_order_that_is_complete_in_another_pool_is_released_by_a_receipt_there(
    connection: asyncpg.Connection,
) -> None:
    """The receipt names one pool; the release changes a line of another, which has to be locked, too."""
    partitions = Partitions()
    rules = Rules(HEAD_STARTS)
    await work(
        connection,
        partitions.records([receipt("r1", 1, "A"), order("1", lines=lines(("A", 1), ("B", 1)), delivery="complete")]),
        rules,
    )
    assert await connection.fetchval("SELECT count(*) FROM events WHERE type = 'AllocationReleased'") == 0
    await work(connection, partitions.records([receipt("r2", 1, "B")]), Rules(HEAD_STARTS))
    (released,) = await connection.fetch("SELECT value FROM events WHERE type = 'AllocationReleased'")
    assert [line["sku"] for line in json.loads(released["value"])["lines"]] == ["A", "B"]
    await assert_audit_is_clean(connection)


async def test_a_receipt_reads_no_more_of_a_long_queue_than_it_can_fill(connection: asyncpg.Connection) -> None:
    partitions = Partitions()
    rules = Rules(HEAD_STARTS)
    await work(connection, partitions.records(order(f"{number:04}", 1) for number in range(2000)), rules)
    read: list[int] = []
    real = store.lock_orders

    async def counted(connection: Connection, order_ids: Any) -> Any:
        read.append(len(order_ids))
        return await real(connection, order_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "lock_orders", counted)
        await work(connection, partitions.records([receipt("r1", 7)]), rules)
    assert read == [7]
    assert sum((await waiting(connection)).values()) == 1993


async def test_the_largest_quantities_add_up_over_a_batch(connection: asyncpg.Connection) -> None:
    most = 1_000_000_000
    arrivals = [order(str(number), *[most] * 10) for number in range(10)]
    arrivals += [receipt(f"r{number}", most) for number in range(100)]
    await work(connection, Partitions().records(arrivals), Rules(HEAD_STARTS))
    assert set((await waiting(connection)).values()) == {0}
    assert await connection.fetchval("SELECT allocated FROM pools") == 100 * most
    await assert_audit_is_clean(connection)


async def test_counts_and_losses_in_one_batch_take_from_lines_that_were_not_in_it(
    connection: asyncpg.Connection,
) -> None:
    partitions = Partitions()
    rules = Rules(HEAD_STARTS)
    later = START + timedelta(hours=1)
    await work(
        connection, partitions.records([receipt("r1", 10), *(order(str(number), 2) for number in range(5))]), rules
    )
    changes = [
        Arrival(StockCounted(id="c1", occurred_at=START, count_id="c1", sku="X", counted=7), later),
        Arrival(
            StockAdjusted(id="a1", occurred_at=START, adjustment_id="a1", sku="X", delta=-3, reason="broken"), later
        ),
    ]
    await work(connection, partitions.records(changes), rules)
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
    await work(connection, partitions.records(arrivals), Rules(HEAD_STARTS))
    await work(connection, partitions.records([receipt("r1", 1)]), Rules(HEAD_STARTS))
    assert await waiting(connection) == {"now": 1, "first day": 0}
    assert await connection.fetchval("SELECT placed_at FROM orders WHERE order_id = 'now'") == START


async def test_a_line_that_a_cancel_names_twice_loses_both_amounts(connection: asyncpg.Connection) -> None:
    twice = tuple(CancelledLine(line_no=1, quantity=2) for _ in range(2))
    named = OrderCancelled(id="c", occurred_at=START, order_id="1", by="shop", lines=twice)
    partitions = Partitions()
    await work(connection, partitions.records([order("1", 5), Arrival(named, START)]), Rules(HEAD_STARTS))
    assert await waiting(connection) == {"1": 1}
    await assert_audit_is_clean(connection)


def lines(*skus_and_quantities: tuple[str, int]) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(line_no=number, sku=sku, quantity=quantity, unit_price=Decimal(1))
        for number, (sku, quantity) in enumerate(skus_and_quantities, 1)
    )


def adjustment(adjustment_id: str, delta: int, sku: str = "X") -> Arrival:
    return Arrival(
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
    await _compare(connection, history, [history[:3], history[3:]], [False, False])


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
    rules = Rules(HEAD_STARTS)
    touched = batches._touched(placed)
    await batches._learn_pool_ids(other, touched, rules)
    async with other.transaction():
        await batches._work_once(other, placed, touched, rules, NOW)
        working = asyncio.create_task(batches.work(connection, then, Rules(HEAD_STARTS), NOW))
        async with asyncio.timeout(10):
            await other.execute(UNTIL_SOMEBODY_WAITS_FOR_US)
    await working
    await other.close()


def _on_another_partition(*arrivals: Arrival) -> list[Record]:
    """As if by a wrong key: what another process works at the same moment."""
    return [replace(record, partition=1) for record in Partitions().records(arrivals)]


async def test_a_cancel_frees_stock_for_a_queue_that_grew_while_it_waited_for_its_locks(
    connection: asyncpg.Connection, database_url: str
) -> None:
    partitions = Partitions()
    await work(connection, partitions.records([receipt("r1", 2)]), Rules(HEAD_STARTS))
    cancelled = _on_another_partition(receipt("r2", 1), cancel("1"))
    await store.add_cursors(connection, {(record.topic, record.partition) for record in cancelled})
    await work(connection, partitions.records([order("0", 1)]), Rules(HEAD_STARTS))
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
    await work(connection, partitions.records([receipt("r1", 3), order("1", 1), order("2", 1)]), Rules(HEAD_STARTS))
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
    rules = Rules(HEAD_STARTS, pool_ids={PoolKey("X", "main"): 999, PoolKey("Y", "main"): 1})
    await work(connection, Partitions().records([receipt("r1", 3), order("1", 2), receipt("r2", 1, "Y")]), rules)
    assert {key: on_hand for key, (on_hand, *_) in (await _pools(connection)).items()} == {
        PoolKey("X", "main"): 3,
        PoolKey("Y", "main"): 1,
    }
    await assert_audit_is_clean(connection)
