"""The planner on a real PostgreSQL: what moved is told, once, with its cause; what did not move is told to nobody."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backorder_allocator import batches, planner, planning, store, timers
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import Rules
from backorder_allocator.loading import Context
from backorder_allocator.planner import Planner, portions
from backorder_allocator.planning import Run
from backorder_allocator.plans import Plan
from backorder_allocator.promises import Cause, PromiseRules, later
from backorder_allocator.ranking import HeadStartRules
from backorder_allocator.state import PoolKey
from backorder_schemas import (
    Customer,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    SkuPolicyChanged,
    StockCounted,
    StockReceived,
    SupplyCancelled,
    SupplyExpected,
)
from tests.allocator.records import Partitions
from tests.allocator.strategies import AnyMessage, Sent
from tests.allocator.test_batches import EMPTY, work
from tests.conftest import Databases

MONDAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
A = PoolKey("A", "main")
MOST = 5000


def day(number: float) -> datetime:
    return MONDAY + timedelta(days=number)


# ── rows, as a batch would leave them ────────────────────────────────────────────────────────────────────────────────


async def pool(
    connection: asyncpg.Connection,
    key: PoolKey = A,
    *,
    on_hand: int = 0,
    allocated: int = 0,
    supplies: Sequence[tuple[int, float]] = (),
    queue: Sequence[int] = (),
    causes: Sequence[Cause] = ("supply_announced",),
    **columns: Any,
) -> int:
    """A stale pool with supplies S1, S2 … of (units, day), and one order a line: A-1, A-2 …"""
    pool_id: int = await connection.fetchval(
        "INSERT INTO pools (sku, location, on_hand, allocated, waiting, named, revision) "
        "VALUES ($1, $2, $3, $4, $5, true, 7) RETURNING pool_id",
        *key, on_hand, allocated, sum(queue),
    )  # fmt: skip
    for number, (units, on) in enumerate(supplies, start=1):
        await supply(connection, pool_id, f"{key.location}-S{number}", units, on)
    for number, units in enumerate(queue, start=1):
        await line(connection, pool_id, f"{key.sku}-{number}", waiting=units, ranked_at=MONDAY + timedelta(number))
    for name, value in columns.items():
        await connection.execute(f"UPDATE pools SET {name} = $1 WHERE pool_id = $2", value, pool_id)
    await changed(connection, pool_id, *causes)
    return pool_id


async def supply(connection: asyncpg.Connection, pool_id: int, supply_id: str, units: int, on: float) -> None:
    await connection.execute(
        "INSERT INTO supplies (sku, supply_id, revision, pool_id, quantity, received, expected_at, cancelled, overdue, "
        "fingerprint) SELECT sku, $2, 1, pool_id, $3, 0, $4, false, false, '' FROM pools WHERE pool_id = $1",
        pool_id, supply_id, units, day(on),
    )  # fmt: skip


async def line(
    connection: asyncpg.Connection,
    pool_id: int,
    order_id: str,
    *,
    waiting: int = 0,
    held: int = 0,
    ranked_at: datetime = MONDAY,
    line_no: int = 1,
    **columns: Any,
) -> None:
    await connection.execute(
        "INSERT INTO orders (order_id, placed_at, ranked_at, customer_id, backorders_version) "
        "VALUES ($1, $2, $2, $3, 1) ON CONFLICT DO NOTHING",
        order_id, MONDAY, f"customer of {order_id}",
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO lines VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, 0, '[]')",
        order_id, line_no, pool_id, ranked_at, waiting + held, held, waiting,
    )  # fmt: skip
    for name, value in columns.items():
        await connection.execute(f"UPDATE lines SET {name} = $1 WHERE order_id = $2", value, order_id)


async def changed(connection: asyncpg.Connection, pool_id: int, *causes: Cause) -> None:
    """What every transaction that changes a pool notes."""
    await connection.execute(
        "UPDATE pools SET revision = revision + 1, causes = causes | $2, stale_since = coalesce(stale_since, $3) "
        "WHERE pool_id = $1",
        pool_id, store.causes_mask(causes), MONDAY,
    )  # fmt: skip


async def policy(connection: asyncpg.Connection, sku: str, **columns: Any) -> None:
    columns = {"backorders": "allow", "safety_stock": 0, **columns}
    await connection.execute(
        f"INSERT INTO policies (sku, revision, substitutes, preorder_over, fingerprint, changed_at, caused_by, "
        f"{', '.join(columns)}) VALUES ($1, 1, '{{}}', false, '', '2026-11-02Z', 'x', "
        f"{', '.join(f'${n}' for n in range(2, 2 + len(columns)))})",
        sku, *columns.values(),
    )  # fmt: skip
    await connection.execute("UPDATE pools SET policy_revision = 1 WHERE sku = $1", sku)


@pytest.fixture
async def other(postgres: Databases, migrated: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to another database."""
    made = await asyncpg.connect(postgres.create_database(template=migrated), server_settings=SESSION)
    yield made
    await made.close()


# ── what the planner did ─────────────────────────────────────────────────────────────────────────────────────────────


async def run_planner(
    connection: asyncpg.Connection, *, at: datetime = MONDAY, most: int = MOST, rules: Rules | None = None
) -> Run:
    rows = await connection.fetch("SELECT sku, location FROM pools WHERE stale_since IS NOT NULL")
    pools = [PoolKey(*row) for row in rows]
    return await planning.plan_once(connection, pools, at, most, Context(rules or Rules()))


async def told(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    """Every event in log order, as it is published."""
    rows = await connection.fetch("SELECT value FROM events JOIN journal USING (batch_id) ORDER BY number, ordinal")
    return [json.loads(row["value"]) for row in rows]


async def moves(connection: asyncpg.Connection) -> list[tuple[str, float | None, float | None, str]]:
    """The promises that moved: (order, from day, to day, cause); what was told is forgotten."""
    events = [event for event in await told(connection) if event["type"] == "PromiseChanged"]
    await connection.execute("TRUNCATE events")
    return [
        (each["order_id"], _day_of(each["previous_promised_at"]), _day_of(each["promised_at"]), each["cause"])
        for each in events
    ]


def _day_of(text: str | None) -> float | None:
    return None if text is None else (datetime.fromisoformat(text) - MONDAY) / timedelta(1)


async def stored(connection: asyncpg.Connection) -> dict[str, float | None]:
    rows = await connection.fetch("SELECT order_id, promised_at FROM lines ORDER BY order_id")
    return {row[0]: None if row[1] is None else (row[1] - MONDAY) / timedelta(1) for row in rows}


EIGHT_SUPPLIES = ((6, 1), (4, 2), (2, 3), (4, 4), (8, 5), (4, 6), (4, 7), (4, 8))
EIGHT_LINES = (6, 2, 3, 6, 6, 1, 2, 2)


async def test_exactly_those_whose_date_moved_are_told_and_why(connection: asyncpg.Connection) -> None:
    pool_id = await pool(connection, supplies=EIGHT_SUPPLIES, queue=EIGHT_LINES)
    await run_planner(connection)
    announced = [(f"A-{n}", None, on, "supply_announced") for n, on in enumerate((1, 2, 3, 5, 5, 5, 6, 6), start=1)]
    assert await moves(connection) == announced
    # The 8 of day 5 move to day 9.
    await connection.execute("UPDATE supplies SET expected_at = $1 WHERE supply_id = 'main-S5'", day(9))
    await changed(connection, pool_id, "supply_moved")
    await run_planner(connection)
    assert await moves(connection) == [
        ("A-4", 5, 6, "supply_moved"),
        ("A-5", 5, 7, "supply_moved"),
        ("A-6", 5, 7, "supply_moved"),
        ("A-7", 6, 8, "supply_moved"),
        ("A-8", 6, 8, "supply_moved"),
    ]
    # Nothing leans on it now: nobody is told that it is cancelled.
    await connection.execute("UPDATE supplies SET cancelled = true WHERE supply_id = 'main-S5'")
    await changed(connection, pool_id, "supply_cancelled")
    await run_planner(connection)
    assert await moves(connection) == []
    await connection.execute("UPDATE supplies SET cancelled = true WHERE supply_id = 'main-S8'")
    await changed(connection, pool_id, "supply_cancelled")
    await run_planner(connection)
    assert await moves(connection) == [("A-7", 8, None, "supply_cancelled"), ("A-8", 8, None, "supply_cancelled")]
    assert list((await stored(connection)).values()) == [1, 2, 3, 6, 7, 7, None, None]


async def test_an_event_says_what_the_contract_promises(connection: asyncpg.Connection) -> None:
    pool_id = await pool(connection, supplies=[(2, 3)], queue=[1])
    await run_planner(connection)
    await connection.execute("UPDATE supplies SET expected_at = $1", day(5))
    await changed(connection, pool_id, "supply_moved")
    await run_planner(connection, at=day(1))
    first, _, second, available = await told(connection)
    assert (first["version"], first["first_promised_at"]) == (2, "2026-11-05T09:00:00Z")
    del second["id"], available["id"]
    assert second == {
        "type": "PromiseChanged",
        "occurred_at": "2026-11-03T09:00:00Z",
        "version": 3,
        "epoch": 1,
        "caused_by": "planner:2",
        "order_id": "A-1",
        "customer_id": "customer of A-1",
        "line_no": 1,
        "sku": "A",
        "location": "main",
        "promised_at": "2026-11-07T09:00:00Z",
        "previous_promised_at": "2026-11-05T09:00:00Z",
        "first_promised_at": "2026-11-05T09:00:00Z",
        "cause": "supply_moved",
    }
    assert available == {
        "type": "SkuAvailability",
        "occurred_at": "2026-11-03T09:00:00Z",
        "version": 2,
        "epoch": 1,
        "caused_by": "planner:2",
        "sku": "A",
        "location": "main",
        "status": "backorder",
        "available": 0,
        "waiting": 1,
        "next_promise_at": "2026-11-07T09:00:00Z",
    }
    (row,) = await connection.fetch("SELECT * FROM journal WHERE number = 2")
    assert (row["kind"], row["at"], row["event_count"]) == ("planner", day(1), 2)
    assert json.loads(row["what"]) == {"at": "2026-11-03T09:00:00+00:00", "pools": [["A", "main"]], "most": MOST}
    assert await connection.fetchval("SELECT array_agg(caused_by) FROM events WHERE key = 'A-1'") == [
        "planner:1",
        "planner:2",
    ]


async def test_the_time_of_the_run_is_now_and_handling_comes_on_top(connection: asyncpg.Connection) -> None:
    rules = Rules(promises=PromiseRules(handling=timedelta(1), overdue_after=timedelta(2)))
    await pool(connection, supplies=[(1, -3), (1, 4)], queue=[1, 1], causes=["supply_overdue"])
    await run_planner(connection, at=day(1), rules=rules)
    # The first one is overdue: it counts as coming two days from now.
    assert await moves(connection) == [("A-1", None, 4, "recomputed"), ("A-2", None, 5, "recomputed")]


async def test_a_lead_time_date_is_fixed_when_first_computed_even_if_nobody_is_told(
    connection: asyncpg.Connection,
) -> None:
    pool_id = await pool(connection, queue=[1], causes=["policy_changed"])
    await policy(connection, "A", default_lead_time_days=3)
    await run_planner(connection, at=day(5))
    # The date counted from the order has passed: from now, then.
    assert await moves(connection) == [("A-1", None, 8, "policy_changed")]
    await connection.execute("UPDATE lines SET lead_at = NULL, lead_days = NULL")
    await changed(connection, pool_id, "recomputed")
    await run_planner(connection, at=day(5.2))
    assert await moves(connection) == []
    assert await connection.fetchval("SELECT lead_at FROM lines") == day(8.2)
    assert await stored(connection) == {"A-1": 8}
    await changed(connection, pool_id, "recomputed")
    await run_planner(connection, at=day(7))
    assert await moves(connection) == []
    assert await connection.fetchval("SELECT lead_at FROM lines") == day(8.2)


async def test_who_is_held_for_the_release_of_a_preorder_is_told_when_it_moves(connection: asyncpg.Connection) -> None:
    pool_id = await pool(connection, on_hand=5, allocated=5, causes=["policy_changed"])
    await policy(connection, "A", backorders="preorder", release_at=day(20))
    await line(connection, pool_id, "held", held=5, first_promised_at=day(10), promised_at=day(10))
    await run_planner(connection)
    assert await moves(connection) == [("held", 10, 20, "policy_changed")]
    # Released: whoever has stock keeps the promise that was last made.
    await connection.execute("UPDATE pools SET preorder_over = true")
    await changed(connection, pool_id, "policy_changed")
    await run_planner(connection)
    assert await moves(connection) == []


async def test_availability_is_told_where_it_differs_from_what_was_shown(connection: asyncpg.Connection) -> None:
    in_stock = await pool(connection, PoolKey("A", "main"), on_hand=3, causes=[])
    await pool(connection, PoolKey("B", "north"), queue=[2], causes=[])
    unnamed = await pool(connection, PoolKey("C", "main"), causes=[], named=False)
    await run_planner(connection)
    first = [(event["version"], event["location"], event["sku"], event["status"]) for event in await told(connection)]
    assert first == [(1, "main", "A", "in_stock"), (1, "north", "B", "backorder")]
    assert await connection.fetch("SELECT FROM pools WHERE stale_since IS NOT NULL") == []
    for each in (in_stock, unnamed):
        await changed(connection, each)
    await run_planner(connection)
    assert len(await told(connection)) == 2
    await connection.execute("UPDATE pools SET on_hand = 4 WHERE pool_id = $1", in_stock)
    await changed(connection, in_stock)
    await run_planner(connection)
    [*_, last] = await told(connection)
    assert (last["version"], last["available"]) == (2, 4)
    assert await connection.fetchval("SELECT key FROM events WHERE type = 'SkuAvailability' LIMIT 1") == "main:A"


async def test_availability_is_told_again_when_time_alone_made_it_untrue(connection: asyncpg.Connection) -> None:
    await policy(connection, "A", default_lead_time_days=5)
    await policy(connection, "B", max_wait_days=4)
    by_lead = await pool(connection, A, policy_revision=1, causes=[])
    too_late = await pool(connection, PoolKey("B", "main"), supplies=[(1, 7)], policy_revision=1, causes=[])
    planning_part = Planner(Context(), 0, lambda: None)

    async def shown_at(at: float) -> list[tuple[str, str, float | None]]:
        before = len(await told(connection))
        await planning_part.run(connection, day(at))
        news = (await told(connection))[before:]
        return [(event["sku"], event["status"], _day_of(event["next_promise_at"])) for event in news]

    assert await shown_at(0) == [("A", "backorder", 5), ("B", "out_of_stock", None)]
    assert await shown_at(0.9) == []
    assert await shown_at(1.5) == [("A", "backorder", 6.5)]
    assert await shown_at(3) == [("A", "backorder", 8), ("B", "backorder", 7)]
    ages = await connection.fetch("SELECT pool_id, ages_at FROM pools ORDER BY pool_id")
    assert [tuple(row) for row in ages] == [(by_lead, day(4)), (too_late, None)]


async def test_more_moves_than_one_transaction_may_write_are_told_in_several_as_if_in_one(
    connection: asyncpg.Connection,
) -> None:
    supplies = [(3, 1), (7, 2)]
    for key in (A, PoolKey("B", "main")):
        await pool(connection, key, supplies=supplies, queue=[1] * 10)
    context = Context(Rules())
    ids = [row[0] for row in await connection.fetch("SELECT pool_id FROM pools")]
    plans = await planning.read_plans(connection, ids, MONDAY, context.rules)
    first = await planning.commit(connection, ids, plans, MONDAY, 6, context)
    assert (first.done, first.events, set(first.left)) == ([], 6, set(ids))
    # What is left goes on with the same plans; what was written is not told again.
    second = await planning.commit(connection, list(first.left), first.left, MONDAY, 6, context)
    assert (second.done, second.events) == ([ids[0]], 6 + 1)
    third = await planning.commit(connection, list(second.left), second.left, MONDAY, 6, context)
    last = await planning.commit(connection, list(third.left), third.left, MONDAY, 6, context)
    assert (last.done, last.events, last.left) == ([ids[1]], 2 + 1, {})
    expected = [(f"{sku}-{n}", None, 1 if n <= 3 else 2, "supply_announced") for sku in "AB" for n in range(1, 11)]
    assert await moves(connection) == expected
    whats = await connection.fetch("SELECT what ->> 'pools' AS pools FROM journal ORDER BY number")
    assert [json.loads(row["pools"]) for row in whats] == [
        [["A", "main"]],
        [["A", "main"], ["B", "main"]],
        [["B", "main"]],
        [["B", "main"]],
    ]


async def test_a_plan_that_is_out_of_date_writes_nothing(connection: asyncpg.Connection) -> None:
    pool_id = await pool(connection, supplies=[(1, 3)], queue=[1])
    context = Context(Rules())
    plans = await planning.read_plans(connection, [pool_id], MONDAY, context.rules)
    await connection.execute("UPDATE supplies SET expected_at = $1", day(5))
    await changed(connection, pool_id, "supply_moved")
    late = await planning.commit(connection, [pool_id], plans, MONDAY, MOST, context)
    assert (late.lost, late.done, late.events) == ([pool_id], [], 0)
    assert await connection.fetchval("SELECT count(*) FROM journal") == 0
    # Nor does one whose lines another planner has written meanwhile.
    plans = await planning.read_plans(connection, [pool_id], MONDAY, context.rules)
    await run_planner(connection)
    late = await planning.commit(connection, [pool_id], plans, MONDAY, MOST, context)
    assert (late.lost, late.done, late.events) == ([], [], 0)
    assert await moves(connection) == [("A-1", None, 5, "supply_moved")]


async def test_a_pool_that_a_batch_holds_is_left_for_the_next_run_or_waited_for(
    connection: asyncpg.Connection, database_url: str
) -> None:
    held, free = [await pool(connection, PoolKey(sku, "main"), on_hand=1) for sku in "AB"]
    context = Context(Rules())
    batch = await asyncpg.connect(database_url, server_settings=SESSION)
    transaction = batch.transaction()
    await transaction.start()
    await batch.execute("SELECT FROM pools WHERE pool_id = $1 FOR UPDATE", held)
    run = await planning.commit(connection, [held, free], {}, MONDAY, MOST, context)
    assert (run.lost, run.done) == ([held], [free])
    waiting = asyncio.create_task(planning.commit(connection, [held], None, MONDAY, MOST, context))
    await asyncio.sleep(0)
    await transaction.rollback()
    assert (await waiting).done == [held]
    await batch.close()


async def test_a_run_is_repeated_from_its_journal_in_another_database_event_by_event(
    connection: asyncpg.Connection, other: asyncpg.Connection
) -> None:
    keys = [PoolKey(sku, location) for sku in ("Ä", "B", "A") for location in ("main", "east")]
    for database, in_order in ((connection, keys), (other, keys[::-1])):
        for key in in_order:
            await pool(database, key, supplies=[(2, 1), (2, 2)])
        for number in range(9):
            for line_no, key in enumerate(keys):
                pool_id = await database.fetchval("SELECT pool_id FROM pools WHERE (sku, location) = ($1, $2)", *key)
                at = day(-number)
                await line(database, pool_id, f"o{number}", waiting=1, ranked_at=at, line_no=line_no + 1)
        await database.execute("UPDATE pools SET waiting = 9")
    await Planner(Context(), 0, lambda: None).run(connection, MONDAY)
    for row in await connection.fetch("SELECT what, at FROM journal ORDER BY number"):
        what = json.loads(row["what"])
        pools = [PoolKey(*pool) for pool in what["pools"]]
        at = datetime.fromisoformat(what["at"])
        assert at == row["at"]
        await planning.plan_once(other, pools, at, what["most"], Context(Rules()))
    read = "SELECT id, value FROM events JOIN journal USING (batch_id) ORDER BY number, ordinal"
    assert await other.fetch(read) == await connection.fetch(read)
    assert await connection.fetchval("SELECT count(*) FROM events") == 6 * (4 + 1)


async def test_a_pool_that_always_changes_between_plan_and_lock_is_planned_under_the_lock(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool_id = await pool(connection, supplies=[(1, 3)], queue=[1])
    tries = 0

    async def read_and_change(*args: Any) -> dict[int, Plan]:
        nonlocal tries
        tries += 1
        found = await planning.read_plans(*args)
        await changed(connection, pool_id)
        return found

    monkeypatch.setattr(planner, "read_plans", read_and_change)
    part = Planner(Context(), 0, lambda: None)
    while await connection.fetchval("SELECT count(*) FROM journal") == 0:
        await part.run(connection, MONDAY)
    assert tries == planner.TRIES
    assert await moves(connection) == [("A-1", None, 3, "supply_announced")]
    assert not part.lost


async def test_a_long_queue_that_always_changes_is_read_once_for_each_portion_that_is_told(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool_id = await pool(connection, supplies=[(3, 3)], queue=[1, 1, 1])
    monkeypatch.setattr(planner, "LINES_AT_ONCE", 1)
    in_vain = 0

    async def read_and_change(*args: Any) -> dict[int, Plan]:
        nonlocal in_vain
        in_vain += 1
        found = await planning.read_plans(*args)
        await changed(connection, pool_id)
        return found

    async def commit_and_change(*args: Any) -> Run:
        done = await planning.commit(*args)
        await changed(connection, pool_id)
        return done

    monkeypatch.setattr(planner, "read_plans", read_and_change)
    monkeypatch.setattr(planner, "commit", commit_and_change)
    part = Planner(Context(), 0, lambda: None)
    moved: list[str] = []
    while len(moved) < 3:
        await part.run(connection, MONDAY)
        moved += [order_id for order_id, *_ in await moves(connection)]
    assert moved == ["A-1", "A-2", "A-3"]
    assert in_vain == planner.TRIES


async def test_a_pool_that_can_t_be_planned_rests_and_stops_no_other(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute(
        "ALTER TABLE lines ADD CONSTRAINT no_promise_for_b CHECK (order_id <> 'B-1' OR promised_at IS NULL)"
    )
    for sku in "ABC":
        await pool(connection, PoolKey(sku, "main"), supplies=[(1, 3)], queue=[1])
    part = Planner(Context(), 0, lambda: None)
    await part.run(connection, MONDAY)
    assert [(order_id, to) for order_id, _, to, _ in await moves(connection)] == [("A-1", 3), ("C-1", 3)]
    assert part.failing() == 1
    assert await part.run(connection, MONDAY) == 0
    # It is tried again when it has rested.
    monkeypatch.setattr(part.setbacks, "resting", set)
    await connection.execute("ALTER TABLE lines DROP CONSTRAINT no_promise_for_b")
    await part.run(connection, MONDAY)
    assert [(order_id, to) for order_id, _, to, _ in await moves(connection)] == [("B-1", 3)]
    assert part.failing() == 0


async def test_after_a_run_the_planner_rests_so_that_bursts_are_told_once(
    connection: asyncpg.Connection, database_url: str
) -> None:
    pool_id = await pool(connection, on_hand=1)
    published = asyncio.Event()
    part = Planner(Context(), 3600, published.set)
    own = await asyncpg.connect(database_url, server_settings=SESSION)
    turn = asyncio.create_task(part.turn(own))
    await published.wait()
    await changed(connection, pool_id)
    part.wake.set()
    # The process ends: it need not rest any more, and what changed since is planned by another.
    assert not turn.done()
    part.ending.set()
    await turn
    assert len(await told(connection)) == 1
    assert await connection.fetchval("SELECT count(*) FROM pools WHERE stale_since IS NOT NULL") == 1
    await own.close()


def test_short_queues_are_planned_together_and_a_long_one_alone() -> None:
    assert list(portions([])) == []
    assert list(portions([(1, 10), (2, 6000), (3, 4000), (4, 1000), (5, 1)])) == [[1], [2], [3, 4], [5]]
    assert [len(portion) for portion in portions([(n, 0) for n in range(120)])] == [50, 50, 20]


# ── against a plan from nothing, two planners at a time ──────────────────────────────────────────────────────────────


@dataclass
class Bench:
    """One database that many examples share, one after the other, and two processes that plan."""

    runner: asyncio.Runner
    connections: tuple[asyncpg.Connection, asyncpg.Connection]


@pytest.fixture(scope="module")
def bench(postgres: Databases, migrated: str) -> Iterator[Bench]:
    url = postgres.create_database(template=migrated)
    with asyncio.Runner() as runner:
        first = runner.run(asyncpg.connect(url, server_settings=SESSION))
        second = runner.run(asyncpg.connect(url, server_settings=SESSION))
        yield Bench(runner, (first, second))
        for each in (first, second):
            runner.run(each.close())


SUPPLIES = st.sampled_from(["s1", "s2", "s3"])
UNITS = st.integers(1, 6)
SKUS = st.sampled_from(["X", "X", "X", "Y"])
STEPS = st.one_of(
    *[st.tuples(st.just("order"), SKUS, UNITS, st.sampled_from(["standard", "gold"]))] * 4,
    *[st.tuples(st.just("supply"), SKUS, SUPPLIES, UNITS, st.integers(-1, 9))] * 4,
    st.tuples(st.just("no supply"), SKUS, SUPPLIES),
    *[st.tuples(st.just("receipt"), SKUS, UNITS, SUPPLIES | st.none())] * 2,
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("count"), SKUS, st.integers(0, 3)),
    st.tuples(st.just("policy"), SKUS, st.sampled_from([None, 2, 5]), st.sampled_from([None, 3, 6]), st.integers(0, 1)),
    *[st.tuples(st.just("time"), st.integers(1, 40))] * 2,
    *[st.tuples(st.just("plan"))] * 3,
)


def message_of(step: tuple[Any, ...], number: int, now: datetime) -> AnyMessage:
    every: dict[str, Any] = {"id": f"m{number}", "occurred_at": now}
    match step:
        case "order", sku, units, segment:
            line = OrderLine(line_no=1, sku=sku, quantity=units, unit_price=Decimal(1))
            customer = Customer(customer_id="c", segment=segment)
            return OrderPlaced(
                **every, order_id=f"o{number}", placed_at=now, currency="EUR", customer=customer, lines=(line,)
            )
        case "supply", sku, supply_id, units, on:
            supply = {"supply_id": supply_id, "revision": number, "quantity": units, "supplier": "acme"}
            return SupplyExpected(**every, **supply, sku=sku, expected_at=day(on))
        case "no supply", sku, supply_id:
            return SupplyCancelled(**every, supply_id=supply_id, revision=number, sku=sku)
        case "receipt", sku, units, supply_id:
            return StockReceived(**every, receipt_id=f"r{number}", sku=sku, quantity=units, supply_id=supply_id)
        case "cancel", which:
            return OrderCancelled(**every, order_id=f"o{which}", by="customer")
        case "count", sku, counted:
            return StockCounted(**every, count_id=f"c{number}", sku=sku, counted=counted)
        case "policy", sku, lead, release, safety:
            sold: dict[str, Any] = {"backorders": "allow"}
            if release is not None:
                sold = {"backorders": "preorder", "release_at": day(release)}
            return SkuPolicyChanged(
                **every, **sold, sku=sku, revision=number, default_lead_time_days=lead, safety_stock=safety
            )
        case _:
            raise AssertionError(step)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=15, max_size=40))
def test_after_a_run_every_promise_is_what_planning_from_nothing_gives(
    bench: Bench, steps: list[tuple[Any, ...]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "LINES_AT_ONCE", 2)
        patch.setattr(planner, "POOLS_AT_ONCE", 1)
        bench.runner.run(_work_and_plan(bench.connections, [*steps, ("plan",)]))


async def _work_and_plan(
    connections: tuple[asyncpg.Connection, asyncpg.Connection], steps: list[tuple[Any, ...]]
) -> None:
    connection = connections[0]
    await connection.execute(EMPTY)
    rules = Rules(HeadStartRules({"gold": timedelta(days=2)}), PromiseRules(handling=timedelta(hours=20)))
    context = Context(rules)
    planners = [Planner(context, 0, lambda: None) for _ in connections]
    partitions = Partitions()
    batch: list[Sent] = []
    now = MONDAY
    for number, step in enumerate(steps, start=1):
        if step[0] == "time":
            now += timedelta(hours=step[1])
        elif step[0] != "plan":
            batch.append(Sent(message_of(step, number, now), now))
        else:
            if batch:
                await work(connection, partitions.records(batch), context)
            batch = []
            await _fire_what_is_due(connection, context, now)
            while await connection.fetchval("SELECT count(*) FROM pools WHERE stale_since IS NOT NULL"):
                await asyncio.gather(*(each.run(own, now) for each, own in zip(planners, connections, strict=True)))
            await _assert_planned(connection, rules, now)
    assert await connection.fetch(GAPS) == []


async def _fire_what_is_due(connection: asyncpg.Connection, context: Context, now: datetime) -> None:
    due = "SELECT * FROM timers WHERE due_at <= $1 ORDER BY due_at, kind, subject, supply_id LIMIT 1"
    while row := await connection.fetchrow(due, now):
        assert await batches.fire(connection, timers.timer_of(row), row["due_at"], context, now)


GAPS = """
SELECT topic, key FROM events GROUP BY topic, key HAVING min(version) <> 1 OR max(version) <> count(*)
UNION ALL
SELECT 'availability', sku FROM pools
WHERE availability_version
    <> (SELECT count(*) FROM events WHERE topic = 'availability' AND key = location || ':' || sku)
"""


OPEN_SUPPLIES = "SELECT * FROM supplies WHERE pool_id = $1 AND to_come > 0"


async def _assert_planned(connection: asyncpg.Connection, rules: Rules, now: datetime) -> None:
    """Pool by pool, line by line: the first date by which what comes covers all that wait up to here."""
    for row in await connection.fetch(
        "SELECT p.*, backorders, release_at, default_lead_time_days FROM pools p LEFT JOIN policies USING (sku)"
    ):
        coming = [
            (each["expected_at"], each["to_come"])
            for each in await connection.fetch(
                "SELECT * FROM supplies WHERE pool_id = $1 AND to_come > 0", row["pool_id"]
            )
            if not each["overdue"] and each["expected_at"] >= now
        ]
        in_preorder = row["backorders"] == "preorder" and not row["preorder_over"] and row["release_at"] > now
        wanted = 0
        for line in await connection.fetch(
            "SELECT * FROM lines WHERE pool_id = $1 AND quantity_waiting > 0 ORDER BY ranked_at, order_id, line_no",
            row["pool_id"],
        ):
            wanted += line["quantity_waiting"]
            there = row["on_hand"] - row["allocated"] - row["safety_stock"]
            expected = None
            for date, units in sorted(coming):
                there += units
                if expected is None and there >= wanted:
                    expected = later(date, rules.promises.handling)
            if expected is None and row["default_lead_time_days"] is not None:
                assert line["lead_days"] == row["default_lead_time_days"]
                if row["preorder_over"]:
                    continue  # the release was promised where the lead time was shorter: that has come now
                expected = line["lead_at"]
            if expected is not None and in_preorder:
                expected = max(expected, row["release_at"])
            told = line["promised_at"]
            assert (told and told.date()) == (expected and expected.date()), (row, line)


async def test_a_long_queue_is_planned_in_a_transaction_that_may_idle_longer_and_not_with_the_head_of_the_log(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MANY_ROWS", 2)
    limit = "SHOW idle_in_transaction_session_timeout"
    seen: list[str] = []
    allow, append = store.allow_idling, store.append_journal

    async def allowed(connection: asyncpg.Connection, rows: int) -> None:
        await allow(connection, rows)
        seen.append(await connection.fetchval(limit))

    async def appended(connection: asyncpg.Connection, *args: Any) -> Any:
        seen.append(await connection.fetchval(limit))
        return await append(connection, *args)

    monkeypatch.setattr(store, "allow_idling", allowed)
    monkeypatch.setattr(store, "append_journal", appended)
    monkeypatch.setattr(store, "IDLE_ROWS_A_SECOND", 1)
    pool_id = await pool(connection, supplies=[(6, 5)], queue=[1, 2, 3])
    await planning.commit(connection, [pool_id], None, day(1), MOST, Context())
    assert seen == ["13s", "10s"]
