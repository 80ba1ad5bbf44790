"""Sums that no column holds: whoever brings one beyond its limit is refused, the others go on."""

import json
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Any

import asyncpg
import pytest

from backorder_allocator import dead_letters, planning, store
from backorder_allocator.connections import SESSION
from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_allocator.state import PoolKey
from backorder_schemas.topics import TOPIC_OF, TYPES
from tests.allocator.test_hostile import NOW, RULES, numbered
from tests.schemas.hostile import MOST, HostileRecord
from tests.schemas.samples import fields

LIMIT = 2**63 - 1
SUPPLY = "INSERT INTO supplies (sku, supply_id, revision, quantity, received, cancelled, overdue, fingerprint)"
numbers = count(1)


def said(kind: str, **changes: Any) -> HostileRecord:
    """The example of this type, changed, under an id of its own."""
    content = fields(kind) | {"id": f"{kind}-{next(numbers)}"} | changes
    return HostileRecord(TOPIC_OF[TYPES[kind]].name, None, json.dumps(content).encode(), (), 1_793_600_000_000)


def ordered(order_id: str, *quantities: int, sku: str = "X") -> HostileRecord:
    lines = [
        {"line_no": number, "sku": sku, "quantity": quantity, "unit_price": "1"}
        for number, quantity in enumerate(quantities, start=1)
    ]
    return said("OrderPlaced", order_id=order_id, lines=lines)


def received(units: int, **changes: Any) -> HostileRecord:
    of = {"receipt_id": f"r-{next(numbers)}", "sku": "X", "location": "main", "supply_id": None, "quantity": units}
    return said("StockReceived", **of | changes)


def counted(units: int) -> HostileRecord:
    return said("StockCounted", count_id=f"c-{next(numbers)}", sku="X", location="main", counted=units)


def adjusted(units: int) -> HostileRecord:
    return said("StockAdjusted", adjustment_id=f"a-{next(numbers)}", sku="X", location="main", delta=units)


@pytest.fixture
async def intake(database_url: str) -> AsyncIterator[Intake]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1, server_settings=SESSION) as pool:
        async with pool.acquire() as connection:
            context = Context(RULES, rules_id=await store.register_rules(connection, RULES))
            await store.add_cursors(connection, [(topic.name, 0) for topic in TOPIC_OF.values()])
        made = Intake(pool, context, lambda: None)
        made.stopping.set()  # no pause between tries
        yield made


async def outcomes(intake: Intake, hostile: Sequence[HostileRecord], setting: str = "") -> list[str]:
    """What becomes of each record, in a shop where stock, demand or a counter is `setting`: "impossible", or ""."""
    async with intake.pool.acquire() as connection:
        if setting:
            await connection.execute(setting)
    records = numbered(hostile)
    assert await intake.take(lambda: records), intake.health
    async with intake.pool.acquire() as connection:
        letters = {(each.topic, each.offset): each.reason for each in await dead_letters.find(connection)}
        named = [PoolKey(row["sku"], row["location"]) for row in await connection.fetch("SELECT * FROM pools")]
        await planning.plan_once(connection, named, NOW, 5_000, intake.context)
    return [letters.get((record.topic, record.offset), "") for record in records]


def pool(**columns: int) -> str:
    """The pool of X, with a queue or stock of many years."""
    names, values = ", ".join(columns), ", ".join(map(str, columns.values()))
    return f"INSERT INTO pools (sku, location, named, {names}) VALUES ('X', 'main', true, {values})"


@pytest.mark.parametrize(
    ("setting", "hostile", "expected"),
    [
        (pool(on_hand=LIMIT - 5), [received(3), received(5), ordered("o", 1), received(1)], ["", "impossible", "", ""]),
        (pool(on_hand=-LIMIT), [adjusted(-MOST), adjusted(MOST), adjusted(-MOST)], ["impossible", "", ""]),
        (pool(on_hand=-LIMIT), [counted(MOST), ordered("o", 1)], ["impossible", ""]),
        (pool(waiting=LIMIT - 5), [ordered("o", 5), ordered("p", 1), ordered("q", 1, sku="Y")], ["", "impossible", ""]),
        (pool(revision=LIMIT), [received(1), ordered("q", 1, sku="Y")], ["impossible", ""]),
        (
            f"{SUPPLY} VALUES ('X', 's', 0, 0, {LIMIT - 5}, false, false, '')",
            [received(5, supply_id="s"), received(1, supply_id="s"), received(1)],
            ["", "impossible", ""],
        ),
        (
            f"INSERT INTO orders (order_id, allocations_version, release_no) VALUES ('o', 0, {2**31 - 1})",
            [received(9), ordered("o", 1), ordered("p", 1)],
            ["", "impossible", ""],
        ),
        (
            f"INSERT INTO orders (order_id, backorders_version) VALUES ('o', {LIMIT})",
            [ordered("o", 1), ordered("p", 1)],
            ["impossible", ""],
        ),
        (
            f"INSERT INTO alert_versions VALUES ('X', {LIMIT})",
            [received(5), ordered("o", 5), counted(0), ordered("p", 1)],
            ["", "", "impossible", ""],
        ),
    ],
    ids=["on hand", "below zero", "a count", "waiting", "revision", "received", "releases", "versions", "alerts"],
)
async def test_one_beyond_the_limit_is_refused_and_the_others_go_on(
    intake: Intake, setting: str, hostile: list[HostileRecord], expected: list[str]
) -> None:
    assert await outcomes(intake, hostile, setting) == expected


async def test_what_one_message_sums_up_beyond_any_column_is_what_the_order_has(intake: Intake) -> None:
    a_thousand_times = [{"line_no": 1, "quantity": MOST}] * 1_000
    line = [{"line_no": 1, "quantity": 1}]
    hostile = [
        received(MOST),
        ordered("o", MOST, MOST, 5),
        said("OrderCancelled", order_id="o", lines=a_thousand_times),
        said("LinesShipped", order_id="o", shipment_id="s", lines=a_thousand_times),
        said("LinesShipped", order_id="later", shipment_id="s", lines=a_thousand_times),
        said("OrderCancelled", order_id="later", lines=a_thousand_times),
        ordered("later", 3),
        said("LinesShipped", order_id="o", shipment_id="t", lines=line),
    ]
    assert await outcomes(intake, hostile) == ["", "", "", "impossible", "impossible", "", "", ""]


async def test_a_thousand_orders_of_the_largest_lines_add_up(intake: Intake) -> None:
    hostile = [ordered(f"o-{number}", *[MOST] * 10) for number in range(100)]
    hostile += [received(MOST) for _ in range(301)]
    assert set(await outcomes(intake, hostile)) == {""}
    async with intake.pool.acquire() as connection:
        row = await connection.fetchrow("SELECT on_hand, allocated, waiting FROM pools WHERE sku = 'X'")
    assert tuple(row) == (301 * MOST, 301 * MOST, 699 * MOST)
