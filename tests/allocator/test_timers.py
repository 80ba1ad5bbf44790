"""Timers on a real PostgreSQL: what is due is fired once, in its order, and a bad one stops no other."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from backorder_allocator import audits, batches, timers
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import EscalationDue, ReleaseDue, Rules, SupplyDue, Timer
from backorder_allocator.loading import Context
from backorder_allocator.parts import Setbacks
from backorder_allocator.timers import Timers
from backorder_schemas import SkuPolicyChanged, StockReceived, SupplyExpected
from tests.allocator.records import Partitions
from tests.allocator.strategies import Sent
from tests.allocator.test_batches import order, work


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.fixture
def part() -> Timers:
    return Timers(Context(), lambda: None)


async def set_timer(
    connection: asyncpg.Connection, kind: str, subject: str, due: datetime, supply_id: str = ""
) -> None:
    await connection.execute("INSERT INTO timers VALUES ($1, $2, $3, $4)", kind, subject, supply_id, due)


@pytest.fixture
def fired(monkeypatch: pytest.MonkeyPatch) -> list[Timer]:
    """The timers that were fired; the transaction of each only takes it. Those of the SKU "bad" fail."""
    seen: list[Timer] = []

    async def fire(connection: asyncpg.Connection, timer: Timer, due: datetime, *_: Any) -> bool:
        seen.append(timer)
        if isinstance(timer, ReleaseDue) and timer.sku.startswith("bad"):
            raise KeyError("a bug")
        return bool(await connection.fetch("DELETE FROM timers WHERE due_at = $1 RETURNING kind", due))

    monkeypatch.setattr(batches, "fire", fire)
    return seen


async def test_what_is_due_is_fired_by_its_time_and_the_rest_is_waited_for(
    connection: asyncpg.Connection, part: Timers, fired: list[Timer]
) -> None:
    await set_timer(connection, "release", "A", ago(1))
    await set_timer(connection, "overdue", "A", ago(3), "S1")
    await set_timer(connection, "escalate", "17", ago(2))
    await set_timer(connection, "escalate", "18", ago(-0.5))
    pause = await part.turn(connection)
    assert fired == [SupplyDue("S1", "A"), EscalationDue("17"), ReleaseDue("A")]
    assert 0 < pause <= 0.5
    await connection.execute("UPDATE timers SET due_at = $1", ago(-3600))
    assert await part.turn(connection) == timers.LONGEST_SLEEP_SECONDS
    await connection.execute("DELETE FROM timers")
    assert await part.turn(connection) == timers.LONGEST_SLEEP_SECONDS
    assert len(fired) == 3


async def test_a_timer_that_fails_rests_and_stops_no_other_however_many_fail(
    connection: asyncpg.Connection, part: Timers, fired: list[Timer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "TIMERS_AT_ONCE", 2)
    for number in range(5):
        await set_timer(connection, "release", f"bad{number}", ago(10 - number))
    await set_timer(connection, "release", "good", ago(1))
    while await part.turn(connection) == 0:
        pass
    assert fired == [*(ReleaseDue(f"bad{number}") for number in range(5)), ReleaseDue("good")]
    assert part.failing() == 5
    await set_timer(connection, "release", "next", ago(0))
    while await part.turn(connection) == 0:
        pass
    assert fired[6:] == [ReleaseDue("next")]
    # They are tried again when they have rested.
    part.setbacks = Setbacks()
    await connection.execute("UPDATE timers SET subject = 'better' WHERE subject = 'bad0'")
    while await part.turn(connection) == 0:
        pass
    assert fired[7:] == [ReleaseDue("better"), *(ReleaseDue(f"bad{number}") for number in range(1, 5))]
    assert part.failing() == 4


async def test_no_timer_is_begun_once_the_process_ends(
    connection: asyncpg.Connection, part: Timers, fired: list[Timer]
) -> None:
    await set_timer(connection, "release", "A", ago(1))
    part.ending.set()
    await part.turn(connection)
    assert fired == []


async def test_a_supply_that_did_not_come_is_overdue_once_however_many_processes_look(
    connection: asyncpg.Connection, database_url: str
) -> None:
    expected_at = ago(60)
    supply = SupplyExpected(
        id="s",
        occurred_at=ago(90),
        supply_id="S1",
        revision=1,
        sku="A",
        quantity=5,
        expected_at=expected_at,
        supplier="x",
    )
    history: list[Sent | Sent] = [Sent(supply, ago(90)), order("1", 2, sku="A")]
    await work(connection, Partitions().records(history), Context())
    other = await asyncpg.connect(database_url, server_settings=SESSION)
    woken: list[str] = []
    parts = [Timers(Context(), lambda: woken.append("relay")) for _ in range(2)]
    await asyncio.gather(*(each.turn(own) for each, own in zip(parts, (connection, other), strict=True)))
    values = await connection.fetch("SELECT value, caused_by FROM events WHERE type = 'SupplyOverdue'")
    assert [row["caused_by"] for row in values] == ["timer:overdue:A:S1"]
    assert json.loads(values[0]["value"])["orders_waiting"] == 1
    assert await connection.fetchval("SELECT count(*) FROM timers") == 0
    assert await connection.fetchval("SELECT count(*) FROM journal WHERE kind = 'timer'") == 1
    assert woken == ["relay"]
    assert [each.failing() for each in parts] == [0, 0]
    await other.close()


async def test_timers_of_the_longest_ids_are_fired_and_what_they_cause_says_of_which_as_far_as_there_is_room(
    connection: asyncpg.Connection,
) -> None:
    sku, other, order_id, supply_id = ("x" * 200, "y" * 200, "o" * 200, "s" * 200)
    then = ago(10)
    release_at = ago(5)
    complete = order("2", 2, sku=other, delivery="complete", placed_at=then).message
    history: list[Sent | Sent] = [
        Sent(
            SkuPolicyChanged(
                id="p", occurred_at=then, sku=sku, revision=1, backorders="preorder", release_at=release_at
            ),
            then,
        ),
        Sent(StockReceived(id="r", occurred_at=then, receipt_id="r", sku=sku, quantity=1), then),
        Sent(StockReceived(id="q", occurred_at=then, receipt_id="q", sku=other, quantity=1), then),
        Sent(
            SupplyExpected(
                id="s",
                occurred_at=then,
                supply_id=supply_id,
                revision=1,
                sku=other,
                quantity=5,
                expected_at=release_at,
                supplier="z",
            ),
            then,
        ),
        Sent(order("1", 1, sku=sku).message, then),
        Sent(complete.model_copy(update={"order_id": order_id}), then),
    ]
    context = Context(Rules(escalates_after=timedelta(seconds=3)))
    await work(connection, Partitions().records(history), context)
    part = Timers(context, lambda: None)
    await part.turn(connection)
    assert part.failing() == 0
    rows = await connection.fetch("SELECT type, caused_by FROM events WHERE caused_by LIKE 'timer:%' ORDER BY batch_id")
    assert {tuple(row) for row in rows} == {
        ("AllocationReleased", f"timer:release:{sku}"[:200]),
        ("AllocationReleased", f"timer:escalate:{order_id}"[:200]),
        ("SupplyOverdue", f"timer:overdue:{other}:{supply_id}"[:200]),
    }
    checks = {check.rule: check.violations for check in await audits.audit(connection)}
    assert checks["the journal says what happened"] == 0
