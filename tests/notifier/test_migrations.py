import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from backorder_notifier import migrate
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.intake import take_batch
from backorder_notifier.policy import Policy
from backorder_schemas import BackorderCreated
from tests.notifier.messages import NOON, Log, created, filled, moved, placed, rejected, shipped
from tests.notifier.world import World

DAY = timedelta(days=1)
PROMISED = NOON + 9 * DAY
UPGRADE = NOON + DAY


async def test_the_first_time_makes_the_schema_and_the_second_changes_nothing(postgres: Any, tmp_path: Any) -> None:
    world = World("127.0.0.1:1", postgres.create_database(), tmp_path, "smtp://127.0.0.1:1")
    names = [each.name for each in migrate.migrations()]
    assert names[0] == "0001_first"
    assert await world.json("migrate", "--check", expect=1) == {"pending": names}
    assert await world.json("migrate") == {"applied": names}
    assert await world.json("migrate") == {"applied": []}
    assert await world.json("migrate", "--check") == {"pending": []}


@pytest.fixture
async def earlier(postgres: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncpg.Connection]:
    """A database as 0001 left it: five orders, each with a delivery in another state, all read to offset 7."""
    connection = await asyncpg.connect(postgres.create_database())
    first = migrate.migrations()[:1]
    with monkeypatch.context() as only_the_first:
        only_the_first.setattr(migrate, "migrations", lambda: first)
        await migrate.migrate(connection, NOON)
    states = ("sent", "failed", "withheld", "due", "waiting_for_contact")
    for number, state in enumerate(states):
        order_id = str(number)
        known = state != "waiting_for_contact"
        customer_id, email = (f"c-{number % 2}", "ada@example.org") if known else (None, None)
        await connection.execute(
            "INSERT INTO orders (order_id, known_at, customer_id, email, locale, timezone, placed_at, deliveries)"
            " VALUES ($1, $2, $3, $4, 'en', 'UTC', $2, 1)",
            order_id, NOON if known else None, customer_id, email,
        )  # fmt: skip
        settled = NOON if state in {"sent", "failed", "withheld"} else None
        reason = {"failed": "smtp 550", "withheld": "no_email"}.get(state)
        delivery_id = await connection.fetchval(
            "INSERT INTO deliveries"
            " (delivery_id, order_id, position, kind, channel, state, reason, due_at, recorded_at, settled_at)"
            " VALUES (gen_random_uuid(), $1, 1, 'backorder_created', 'email', $2, $3, $4, $4, $5)"
            " RETURNING delivery_id",
            order_id, state, reason, NOON, settled,
        )  # fmt: skip
        event = _created(order_id)
        await connection.execute(
            "INSERT INTO updates (event_id, channel, delivery_id, ordinal, occurred_at, event)"
            " VALUES ($1, 'email', $2, 1, $3, $4)",
            event.id, delivery_id, NOON, event.model_dump_json(),
        )  # fmt: skip
        await connection.execute("INSERT INTO versions VALUES ('backorders', $1, 1, 1)", order_id)
    await connection.execute("INSERT INTO cursors VALUES ('t.backorders', 0, 10), ('t.orders', 0, 10)")
    yield connection
    await connection.close()


def _created(order_id: str) -> BackorderCreated:
    return created(order_id, promised_at=PROMISED)


async def test_an_upgrade_keeps_what_was_told_and_what_was_still_to_be_told(earlier: asyncpg.Connection) -> None:
    await migrate.migrate(earlier, UPGRADE)
    rows = await earlier.fetch("SELECT order_id, state, reason, line_no, caused_by FROM updates ORDER BY order_id")
    assert [tuple(row) for row in rows] == [
        ("0", "told", None, 1, "0/cause-1"),
        ("1", "not_told", "smtp 550", 1, "1/cause-1"),
        ("2", "not_told", "no_email", 1, "2/cause-1"),
        ("3", "pending", None, 1, "3/cause-1"),
        ("4", "pending", None, 1, "4/cause-1"),
    ]
    customers = await earlier.fetch("SELECT customer_id, unsubscribe_token FROM customers ORDER BY customer_id")
    assert [row["customer_id"] for row in customers] == ["c-0", "c-1"]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", row["unsubscribe_token"]) for row in customers)


async def test_after_an_upgrade_all_is_read_again_and_nothing_is_told_twice(earlier: asyncpg.Connection) -> None:
    await migrate.migrate(earlier, UPGRADE)
    log = Log()
    told_below = [
        *(_created(str(number)) for number in range(5)),
        moved("0", 2, PROMISED + 5 * DAY),
        rejected("1", 2),
        moved("2", 2, PROMISED + DAY),
    ]
    others = [placed(str(number), customer={"customer_id": f"c-{number % 2}"}) for number in range(5)]
    await take_batch(earlier, log.records(*told_below, *others, shipped("0", units={1: 10})), UPGRADE, Policy())
    log.now = UPGRADE
    log.next_offset["backorders"] = 10
    new = [filled("0", 3), shipped("0", "s-2", {1: 5})]
    await take_batch(earlier, log.records(*new), UPGRADE, Policy())

    rows = await earlier.fetch("SELECT order_id, kind, state, reason FROM updates ORDER BY order_id, ordinal")
    assert [tuple(row) for row in rows] == [
        ("0", "backorder_created", "told", None),
        ("0", "promise_changed", "pending", None),  # the customer knows of another date
        ("0", "shipped", "not_told", "before_upgrade"),
        ("0", "backorder_filled", "pending", None),
        ("0", "shipped", "pending", None),
        ("1", "backorder_created", "not_told", "smtp 550"),
        ("1", "backorder_rejected", "not_told", "before_upgrade"),
        ("2", "backorder_created", "not_told", "no_email"),
        ("2", "promise_changed", "pending", None),
        ("3", "backorder_created", "pending", None),
        ("4", "backorder_created", "pending", None),
    ]
    told = json.loads(await earlier.fetchval("SELECT told FROM orders WHERE order_id = '0'"))
    assert (told["1"]["waiting"], told["1"]["promised_at"]) == (5, PROMISED.isoformat().replace("+00:00", "Z"))
    waiting = await earlier.fetch("SELECT order_id FROM orders WHERE told = '{}' AND tell_at IS NOT NULL ORDER BY 1")
    assert [row["order_id"] for row in waiting] == ["2", "3", "4"]


async def test_a_database_that_begins_with_this_release_was_never_upgraded(connection: asyncpg.Connection) -> None:
    assert await connection.fetchval("SELECT count(*) FROM upgrades") == 0


async def test_a_migration_that_was_changed_after_it_was_applied_is_refused(connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE schema_migrations SET checksum = 'other'")
    with pytest.raises(ConfigurationError, match="checksums differ"):
        await migrate.check(connection)
    with pytest.raises(ConfigurationError, match="checksums differ"):
        await migrate.migrate(connection, datetime.now(UTC))


async def test_a_database_of_a_newer_release_is_refused(connection: asyncpg.Connection) -> None:
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_future', 'x', now())")
    with pytest.raises(ConfigurationError, match="9999_future"):
        await migrate.check(connection)


async def test_the_service_does_not_start_on_an_empty_database_and_says_what_to_do(
    postgres: Any, kafka: str, tmp_path: Any
) -> None:
    world = World(kafka, postgres.create_database(), tmp_path, "smtp://127.0.0.1:1")
    code, _, err = await world.command("run")
    assert code == 2
    assert "run backorder-notifier migrate" in err.splitlines()[-1]
