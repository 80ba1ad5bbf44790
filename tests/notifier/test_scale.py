"""What is asked often costs no more after years, nor where one customer has thousands of orders."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from backorder_notifier import told_store
from backorder_notifier.statements import statement
from tests.notifier.messages import NOON
from tests.notifier.staged import stage_many
from tests.notifier.test_sql import plan_of

DAY = timedelta(days=1)


async def test_what_was_sent_before_is_not_read_through(connection: asyncpg.Connection) -> None:
    await stage_many(connection, 20_000, prefix="sent")
    await connection.execute("UPDATE deliveries SET state = 'sent', settled_at = recorded_at")
    await connection.execute("INSERT INTO attempts SELECT delivery_id, 1, recorded_at, 'sent' FROM deliveries")
    await stage_many(connection, 300, prefix="waits")
    await connection.execute("VACUUM ANALYZE")
    for name, arguments in (
        ("backlog", ()),
        ("wake_stale_orders", (f"'{NOON + 2 * DAY}'", f"'{NOON + DAY}'", "20")),
        ("wake_stale_orders", (f"'{NOON + 2 * DAY}'", f"'{NOON - DAY}'", "20")),
        ("why_deliveries", ("'sent7'",)),
        ("why_attempts", ("'sent7'",)),
        ("lock_deliveries_to_resend", ("'sent7'", f"'{NOON}'")),
        ("report_outbox", ("NULL", "'sent7'", "NULL", "NULL", "false", "50")),
    ):
        plan = await plan_of(connection, name, *arguments)
        for table in ("orders", "messages", "deliveries", "attempts"):
            assert f"Seq Scan on {table}" not in plan, f"{name}\n{plan}"
        # Backwards through all of it, to the oldest that waits.
        assert "deliveries_newest" not in plan, f"{name}\n{plan}"


async def test_what_is_due_is_found_by_index_where_much_is_due(connection: asyncpg.Connection) -> None:
    await stage_many(connection, 20_000)
    await connection.execute("UPDATE orders SET tell_at = known_at")
    await connection.execute("INSERT INTO customers (customer_id) SELECT customer_id FROM orders")
    await connection.execute("VACUUM ANALYZE")
    now = f"'{NOON + DAY}'"
    for name, arguments in (
        ("is_anything_due", ("'email'", now)),
        ("read_load", ("'email'", now)),
        ("take_orders_to_tell", (now, "200")),
        ("next_tell_at", ()),
    ):
        plan = await plan_of(connection, name, *arguments)
        for table in ("orders", "customers", "deliveries"):
            assert f"Seq Scan on {table}" not in plan, f"{name}\n{plan}"


async def test_many_dead_letters_are_counted_without_reading_them(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO dead_letters (
            topic, full_topic, partition, record_offset, recorded_at, record_value, header_names, header_values, reason,
            detail, failed_at, published_at, redriven_at
        )
        SELECT
            'orders', 'orders', 0, i, $1::timestamptz, convert_to(repeat(md5(i::text), 20), 'UTF8'), '{}', '{}',
            'invalid', '', $1::timestamptz, $1::timestamptz, CASE WHEN i % 2 = 0 THEN $1::timestamptz END
        FROM generate_series(1, 20000) AS i
        """,
        NOON,
    )
    await connection.execute("VACUUM ANALYZE dead_letters")
    plan = await plan_of(connection, "backlog")
    assert "Seq Scan on dead_letters" not in plan, plan


async def test_orders_whose_message_waits_for_long_are_woken_the_oldest_first_some_at_a_time(
    connection: asyncpg.Connection,
) -> None:
    await stage_many(connection, 30)
    await connection.execute(
        "UPDATE deliveries SET recorded_at = recorded_at - interval '1 hour' WHERE order_id = 'o9'"
    )
    await connection.execute("UPDATE messages SET composed_at = $1 WHERE order_id = 'o1'", NOON + DAY)  # made anew
    now = NOON + 2 * DAY
    assert await told_store.wake_stale_orders(connection, now, NOON + DAY, 1) == 1
    assert await connection.fetchval("SELECT order_id FROM orders WHERE tell_at = $1", now) == "o9"
    assert await told_store.wake_stale_orders(connection, now, NOON + DAY, 30) == 28
    assert await told_store.wake_stale_orders(connection, now, NOON + DAY, 30) == 0


async def test_a_customer_s_messages_of_a_day_are_counted_once_however_many_orders_are_decided_on(
    connection: asyncpg.Connection,
) -> None:
    """Else a few thousand messages of one customer hold up everybody's: the statement would end by its timeout."""
    await stage_many(connection, 300)
    await connection.execute("UPDATE messages SET customer_id = 'shop of shops' WHERE order_id <> 'o300'; ANALYZE")
    orders = [f"o{number}" for number in range(1, 101)]
    asked = [(order, "shop of shops", NOON - DAY) for order in orders] + [("o300", "o300", NOON - DAY)]
    message: UUID = await connection.fetchval("SELECT message_id FROM messages WHERE order_id = 'o1'")
    counts = await told_store.count_messages(connection, asked, [message])
    assert counts == dict.fromkeys(orders, 298) | {"o300": 1}
    later = await told_store.count_messages(connection, [("o1", "shop of shops", NOON + DAY)], [])
    assert not later

    columns = [list(each) for each in zip(*asked, strict=True)]
    explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement('count_messages')}"
    text = await connection.fetchval(explained, *columns, [])
    read = [step["Actual Rows"] * step["Actual Loops"] for step in _steps(json.loads(text)[0]["Plan"])]
    assert max(read) < 1000


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _steps(part)
