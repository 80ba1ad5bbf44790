"""`audit` finds what is broken, rule by rule, and calls nothing broken that the service does by itself."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from backorder_allocator import audits, chains
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import Rules, SupplyDue
from backorder_allocator.promises import PromiseRules
from tests.allocator.stored_shop import HOUR, StoredShop, a_week, day, line
from tests.conftest import Databases


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def week(postgres: Databases, migrated: str) -> AsyncIterator[asyncpg.Connection]:
    """A database after a week in which everything happened once. Whoever changes it rolls back."""
    connection = await asyncpg.connect(postgres.create_database(template=migrated), server_settings=SESSION)
    await a_week(connection)
    yield connection
    await connection.close()


async def test_after_a_week_in_which_everything_happened_all_rules_were_looked_at_and_hold(
    week: asyncpg.Connection,
) -> None:
    checks = await audits.audit(week)
    assert {check.rule: check.examples for check in checks if check.violations} == {}
    assert [check.rule for check in checks if not check.checked] == []


BREAKS = (
    ("stock is conserved", "UPDATE pools SET on_hand = on_hand + 1"),
    ("stock is conserved", "UPDATE stock_movements SET quantity = quantity + 1 WHERE kind = 'adjusted'"),
    ("line quantities add up", "UPDATE orders SET release_no = 0 WHERE order_id = 'standard'"),
    ("counters equal their sums", "UPDATE pools SET waiting = waiting + 1"),
    ("queues by day equal their sums", "UPDATE queue_days SET waiting = waiting + 1"),
    ("queues by day equal their sums", "UPDATE queue_days SET day = day + 1"),
    ("queues by day equal their sums", "UPDATE pools SET queue_end = '2026-10-01Z' WHERE sku = 'X'"),
    ("supplies equal their receipts", "UPDATE supplies SET received = received + 1"),
    ("supplies equal their receipts", "DELETE FROM supplies WHERE supply_id = 'S-2'"),
    ("no unit rests while a line waits", "UPDATE pools SET on_hand = on_hand + 1 WHERE sku = 'X'"),
    (
        "no unit rests while a line waits",
        "UPDATE pools SET on_hand = on_hand + 5, safety_stock = 4 WHERE sku = 'X'",
    ),
    ("held units have a reason", "UPDATE lines SET releases = '[]', quantity_released = 0 WHERE order_id = 'standard'"),
    ("held units have a reason", "UPDATE orders SET escalated = true WHERE order_id = 'whole'"),
    ("held units have a reason", "UPDATE pools SET preorder_over = true WHERE sku = 'P'"),
    ("held units have a reason", "DELETE FROM timers WHERE kind = 'release'"),
    ("pools follow their policy", "UPDATE pools SET safety_stock = 1 WHERE sku = 'X'"),
    ("pools follow their policy", "UPDATE pools SET policy_revision = 2 WHERE sku = 'Y'"),
    ("pools follow their policy", "UPDATE pools SET low = false"),
    ("timers stand", "DELETE FROM timers WHERE kind = 'escalate'"),
    ("timers stand", "UPDATE timers SET due_at = due_at + interval '1 s' WHERE kind = 'overdue'"),
    ("timers stand", "UPDATE supplies SET overdue = false WHERE supply_id = 'S-2'"),
    ("what came early waits", "UPDATE fulfilments SET waits = true WHERE shipment_id = 'sh1'"),
    ("what came early waits", "UPDATE fulfilments SET waits = false WHERE shipment_id = 'sh0'"),
    ("shipments add up", "DELETE FROM fulfilments WHERE shipment_id = 'sh2'"),
    (
        "releases add up to what was told",
        "UPDATE lines SET releases = '[[1, 1]]', quantity_released = 1 WHERE order_id = 'standard'",
    ),
    ("releases add up to what was told", "DELETE FROM events WHERE type = 'ShipmentMismatch'"),
    ("rejections add up to what was told", "DELETE FROM events WHERE type = 'BackorderRejected'"),
    ("promises are as told", "UPDATE lines SET promised_at = promised_at + interval '1 s' WHERE order_id = 'gold'"),
    ("promises are as told", "UPDATE lines SET first_promised_at = promised_at WHERE order_id = 'standard'"),
    ("promises are as told", "DELETE FROM events WHERE type = 'BackorderCreated' AND key = 'standard'"),
    (
        "promises are as told",
        "UPDATE events SET value = replace(value, 'previous_promised_at', 'x') WHERE type = 'PromiseChanged'",
    ),
    ("availability is as told", "UPDATE pools SET shown = jsonb_set(shown, '{waiting}', '7')"),
    ("availability is as told", "UPDATE pools SET shown = NULL WHERE sku = 'P'"),
    (
        "nobody loses by a receipt or another's cancel",
        "UPDATE events SET caused_by = 'receipt r2' WHERE caused_by = 'adjustment a1'",
    ),
    (
        "nobody loses by a receipt or another's cancel",
        "UPDATE events SET value = replace(value, 'stock_lost', 'cancelled') WHERE caused_by = 'adjustment a1'",
    ),
    (
        "a line that is closed is told nothing more",
        """UPDATE lines SET quantity_cancelled = quantity_ordered, quantity_waiting = 0, quantity_allocated = 0,
                            quantity_released = 0, releases = '[]' WHERE order_id = 'gold'""",
    ),
    ("what was applied made its rows", "UPDATE journal SET applied = 0"),
    ("what was applied made its rows", "DELETE FROM cancels"),
    ("what was applied made its rows", "DELETE FROM stock_movements WHERE kind = 'received'"),
    ("versions have no gap", "DELETE FROM events WHERE key = 'gold' AND version = 1"),
    ("versions have no gap", "UPDATE pools SET availability_version = 9 WHERE sku = 'X'"),
    ("the log has no gap", "DELETE FROM events WHERE key = 'gold'"),
    ("the journal says what happened", "UPDATE journal SET what = '{}' WHERE kind = 'timer'"),
    ("the journal says what happened", "UPDATE journal SET rules_id = 99"),
    ("the journal says what happened", "UPDATE events SET caused_by = 'planner:1' WHERE type = 'PromiseChanged'"),
    ("the journal says what happened", "UPDATE events SET caused_by = 'somebody' WHERE type = 'SupplyOverdue'"),
    ("every input is worked once", "UPDATE cursors SET next_offset = next_offset + 1"),
    ("the first in rank is served first", "UPDATE orders SET ranked_at = '2026-01-01Z' WHERE order_id = 'standard'"),
    (
        "events add up to what waits",
        "UPDATE lines SET quantity_waiting = 0, quantity_cancelled = 1 WHERE order_id = 'gold'",
    ),
    ("no supply covers two promises", "UPDATE lines SET promised_at = '2026-11-08Z' WHERE order_id = 'gold'"),
    ("no supply covers two promises", "UPDATE supplies SET quantity = 2 WHERE supply_id = 'S-1'"),
    ("no supply covers two promises", "UPDATE supplies SET overdue = true WHERE supply_id = 'S-1'"),
)


@pytest.mark.parametrize(("rule", "change"), BREAKS)
async def test_what_somebody_changed_by_hand_is_found(week: asyncpg.Connection, rule: str, change: str) -> None:
    transaction = week.transaction()
    await transaction.start()
    try:
        assert await week.execute(change) not in {"UPDATE 0", "DELETE 0"}
        checks = await audits.check(week)
    finally:
        await transaction.rollback()
    assert rule in {check.rule for check in checks if check.violations}


async def test_every_rule_has_a_break_that_it_finds(week: asyncpg.Connection) -> None:
    assert {rule for rule, _ in BREAKS} == {check.rule for check in await audits.audit(week)}


async def test_what_is_told_of_a_line_after_it_was_shipped_is_found(connection: asyncpg.Connection) -> None:
    shop = StoredShop(connection)
    await shop.send(shop.order("1", 2))
    await shop.send(shop.receipt("r", 2))
    await shop.send(shop.shipment("sh", "1", (1, 2)))
    await assert_clean(connection)
    # As if the units had been filled and released only after the warehouse shipped them.
    await connection.execute("UPDATE fulfilments SET batch_id = (SELECT min(batch_id) FROM journal)")
    broken = {check.rule for check in await audits.audit(connection) if check.violations}
    assert broken == {"a line that is closed is told nothing more"}


async def test_a_violation_says_how_it_came_about(week: asyncpg.Connection) -> None:
    transaction = week.transaction()
    await transaction.start()
    try:
        await week.execute("UPDATE pools SET on_hand = on_hand + 1 WHERE sku = 'X'")
        found = await audits.check(week)
        await chains.explain(week, found)
    finally:
        await transaction.rollback()
    checks = {check.rule: check for check in found}
    chain = checks["stock is conserved"].chain
    assert {link["link"] for link in chain} >= {"stock", "event", "journal entry"}
    assert all(link["words"] for link in chain)
    assert not checks["timers stand"].chain


# ── what is no violation ─────────────────────────────────────────────────────────────────────────────────────────────


async def assert_clean(connection: asyncpg.Connection) -> None:
    broken = {check.rule: check.examples for check in await audits.audit(connection) if check.violations}
    assert broken == {}


async def test_what_the_warehouse_ships_of_its_own_accord_is_not_served_out_of_turn(
    connection: asyncpg.Connection,
) -> None:
    shop = StoredShop(connection)
    await shop.send(shop.order("first", 3), shop.order("second", 2), shop.shipment("sh", "second", (1, 2)))
    await shop.send(shop.receipt("r", 5))
    await assert_clean(connection)


async def test_an_overdue_supply_that_promises_may_lean_on_counts_however_the_clock_stands(
    connection: asyncpg.Connection,
) -> None:
    shop = StoredShop(connection, Rules(promises=PromiseRules(overdue_after=3 * 24 * HOUR)))
    await shop.open()
    await shop.send(shop.supply("S", 5, day(1)))
    assert await shop.fire(SupplyDue("S", "X"), day(1))
    shop.now = day(4)
    await shop.send(shop.order("1", 3))
    await shop.plan()
    promised_at, stale = await connection.fetchrow(
        "SELECT promised_at, stale_since FROM lines JOIN pools USING (pool_id)"
    )
    assert (promised_at, stale) == (day(7), None)
    await assert_clean(connection)


async def test_a_preorder_that_waits_for_its_timer_is_still_one_whatever_the_clock_says(
    connection: asyncpg.Connection,
) -> None:
    shop = StoredShop(connection)
    await shop.send(
        shop.policy("P", backorders="preorder", release_at=day(1)),
        shop.receipt("r", 2, "P"),
        shop.order("1", line(1, 2, "P")),
    )
    shop.now = day(2)
    await shop.plan()
    await assert_clean(connection)
