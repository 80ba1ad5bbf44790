"""`what-if` says what would be, by the rules that would decide it, and writes nothing."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from backorder_allocator import arguments
from backorder_allocator.arguments import Delay, Receipt
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.what_if import Idea, show, what_if
from tests.allocator.stored_shop import RULES, StoredShop, day, line

DAY = timedelta(days=1)


@pytest.fixture
async def shop(connection: asyncpg.Connection) -> StoredShop:
    """Of X, 3 and 4 wait for supplies of 5 and 5 on days 10 and 20; "gold" (2) is ahead of both."""
    shop = StoredShop(connection)
    await shop.send(
        shop.supply("S-1", 5, day(10)),
        shop.supply("S-2", 5, day(20)),
        shop.order("first", 3),
        shop.order("second", 4),
        shop.order("gold", 2, segment="gold"),
    )
    await shop.plan()
    return shop


async def ask(shop: StoredShop, *ideas: Idea) -> dict[str, Any]:
    return await what_if(shop.connection, ideas, RULES, shop.now)


def told(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """(effect, order, units allocated after, waiting after, days from the start before and after)."""
    return [
        (
            each["effect"],
            each["order_id"],
            each["allocated_after"],
            each["waiting_after"],
            on_day(each["date_before"]),
            on_day(each["date_after"]),
        )
        for each in found["lines"]
    ]


def on_day(date: datetime | None) -> int | None:
    return None if date is None else (date.date() - day(0).date()).days


async def test_a_receipt_fills_the_first_in_rank_and_brings_others_forward(shop: StoredShop) -> None:
    found = await ask(shop, Receipt("X", "main", 4))
    assert told(found) == [
        ("gains", "gold", 2, 0, 10, 0),
        ("gains", "first", 2, 1, 10, 10),
        ("gains", "second", 0, 4, 20, 10),
    ]
    assert found["pools"] == [
        {
            "sku": "X",
            "location": "main",
            "on_hand_before": 0,
            "on_hand_after": 4,
            "available_before": 0,
            "available_after": 0,
            "waiting_before": 9,
            "waiting_after": 5,
        }
    ]
    assert [event["type"] for event in found["events"]] == [
        "BackorderFilled",
        "BackorderFilled",
        "AllocationReleased",
        "AllocationReleased",
    ]


async def test_a_delay_moves_those_who_lean_on_the_supply_and_nobody_else(shop: StoredShop) -> None:
    assert told(await ask(shop, Delay("S-2", 7 * DAY))) == [("loses", "second", 0, 4, 20, 27)]
    # Beyond the other one, it is that which comes first.
    assert told(await ask(shop, Delay("S-1", 15 * DAY))) == [
        ("loses", "gold", 0, 2, 10, 20),
        ("loses", "first", 0, 3, 10, 20),
        ("loses", "second", 0, 4, 20, 25),
    ]


async def test_a_supply_may_come_earlier_and_may_be_named_with_its_sku(shop: StoredShop) -> None:
    await shop.send(shop.supply("S-2", 5, day(20), sku="Y"), shop.order("other", line(1, 1, "Y")))
    both = await ask(shop, Delay("S-2", -5 * DAY))
    assert told(both) == [("gains", "second", 0, 4, 20, 15), ("gains", "other", 0, 1, 20, 15)]
    assert told(await ask(shop, Delay("S-2/Y", -5 * DAY))) == [("gains", "other", 0, 1, 20, 15)]


async def test_an_order_with_a_head_start_pushes_others_back_and_hears_its_date(shop: StoredShop) -> None:
    found = await ask(shop, shop.order("vip", 2, segment="gold"))
    assert told(found) == [
        ("new", "vip", 0, 2, None, 10),
        ("loses", "first", 0, 3, 10, 20),
        ("loses", "second", 0, 4, 20, None),
    ]
    assert [event["words"] for event in found["events"]] == [
        "2 begin to wait (ordered, backorder); 2 of 2 wait; behind 2 units; promised 2026-11-12 09:00Z by supply S-1"
    ]


async def test_an_order_is_refused_by_the_policy_as_it_would_be(shop: StoredShop) -> None:
    await shop.send(shop.policy("X", backorders="deny"))
    [refused] = (await ask(shop, shop.order("late", 1)))["lines"]
    assert (refused["rejected_after"], refused["waiting_after"]) == (1, 0)


async def test_ideas_happen_one_after_the_other_in_the_order_given(shop: StoredShop) -> None:
    order = shop.order("new", 9)
    late = await ask(shop, Receipt("X", "main", 12), order)
    early = await ask(shop, order, Receipt("X", "main", 12))
    assert [each["allocated_after"] for each in late["lines"] if each["effect"] == "new"] == [3]
    assert [each["allocated_after"] for each in early["lines"] if each["effect"] == "new"] == [3]
    # What is there already when it is placed is allocated, and never waited for.
    assert [event["quantity"] for event in created(late)] == [6]
    assert [event["quantity"] for event in created(early)] == [9]
    assert late["ideas"] == ["12 of X arrive at main", "order new is placed"]


def created(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"quantity": int(e["words"].split()[0])} for e in found["events"] if e["type"] == "BackorderCreated"]


async def test_one_supply_may_be_delayed_twice(shop: StoredShop) -> None:
    found = await ask(shop, Delay("S-2", 3 * DAY), Delay("S-2", 4 * DAY))
    assert told(found) == [("loses", "second", 0, 4, 20, 27)]


async def test_a_complete_order_gains_in_pools_that_nobody_named(shop: StoredShop) -> None:
    await shop.send(
        shop.receipt("y", 1, "Y"), shop.order("whole", line(1, 1, "Y"), line(2, 1, "Z"), delivery="complete")
    )
    found = await ask(shop, Receipt("Z", "main", 1))
    assert [(each["effect"], each["sku"], each["released_after"]) for each in found["lines"]] == [
        ("gains", "Y", 1),
        ("gains", "Z", 1),
    ]


async def test_nothing_is_written_and_no_lock_is_waited_for(shop: StoredShop, database_url: str) -> None:
    before = await everything(shop.connection)
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT * FROM pools, orders, supplies FOR UPDATE")
            await ask(shop, Receipt("X", "main", 4), Delay("S-1", DAY), shop.order("new", 3))
    finally:
        await other.close()
    assert await everything(shop.connection) == before


async def everything(connection: asyncpg.Connection) -> list[Any]:
    tables = ("pools", "lines", "orders", "supplies", "stock_movements", "events", "journal", "timers", "queue_days")
    return [await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


async def test_what_would_be_is_what_is_once_it_happens(shop: StoredShop) -> None:
    found = await ask(shop, Delay("S-1", 15 * DAY), Receipt("X", "main", 3))
    await shop.send(shop.supply("S-1", 5, day(25), revision=2), shop.receipt("r", 3))
    await shop.plan()
    rows = await shop.connection.fetch("SELECT order_id, quantity_allocated, quantity_waiting, promised_at FROM lines")
    happened = {row["order_id"]: tuple(row)[1:3] for row in rows}
    dates = {row["order_id"]: row["promised_at"] for row in rows if row["quantity_waiting"]}
    assert {each["order_id"]: (each["allocated_after"], each["waiting_after"]) for each in found["lines"]} == happened
    assert {each["order_id"]: each["date_after"] for each in found["lines"] if each["waiting_after"]} == dates


async def test_what_nobody_named_is_an_error_that_says_so(shop: StoredShop) -> None:
    for idea, problem in (
        (Receipt("Q", "main", 1), "SKU Q is not known: no order, stock or supply has named it"),
        (Receipt("X", "moon", 1), "SKU X is not known at moon, but at main"),
        (Delay("S-9", DAY), "nothing is to come of supply S-9"),
        (Delay("S-1/Y", DAY), "nothing is to come of supply S-1/Y"),
        (shop.order("first", 1), "order first is known already: give it another order_id"),
    ):
        with pytest.raises(ConfigurationError) as error:
            await ask(shop, idea)
        assert str(error.value) == problem


async def test_in_words_it_names_who_and_says_when_nothing_moves(
    shop: StoredShop, capsys: pytest.CaptureFixture[str]
) -> None:
    show(await ask(shop, Receipt("X", "main", 2)), json=False)
    said = capsys.readouterr().out
    assert said.startswith("if 2 of X arrive at main:\nX at main: 0 → 2 on hand, 0 → 0 available, 9 → 7 waiting\n")
    assert "gains\tgold\t1\tX\tmain\t0 → 2\t2 → 0\t" in said
    show(await ask(shop, Delay("S-1", timedelta(0))), json=False)
    assert capsys.readouterr().out.endswith("nobody gains or loses, and no date moves\n")


# ── what operators type ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_operators_type_is_understood() -> None:
    assert arguments.receipt("X=40") == Receipt("X", "main", 40)
    assert arguments.receipt("A=B=40@out let") == Receipt("A=B", "out let", 40)
    assert arguments.delay("S/1=x=7d") == Delay("S/1=x", 7 * DAY)
    assert arguments.delay("S-1/X=-36h") == Delay("S-1/X", timedelta(hours=-36))
    assert arguments.span("2w") == timedelta(weeks=2)


@pytest.mark.parametrize("text", ["X", "X=", "X=-1", "X=0", "X=1000000001", "X=1.5", "=3", "X=3@", "X=3@a:b", "X=٣"])
def test_a_receipt_that_is_not_understood_says_what_is_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as PHONE-X=40@main|units are from 1"):
        arguments.receipt(text)


@pytest.mark.parametrize("text", ["S-1", "=7d", "S-1=7", "S-1=d", "S-1=7y", "S-1=99999999w", "S-1=--7d"])
def test_a_delay_that_is_not_understood_says_what_is_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as|more than 36500 days"):
        arguments.delay(text)


def test_an_order_needs_no_more_than_an_operator_can_know() -> None:
    now = datetime(2026, 11, 3, tzinfo=UTC)
    short = {
        "order_id": "new",
        "currency": "EUR",
        "customer": {"customer_id": "c"},
        "lines": [{"line_no": 1, "sku": "X", "quantity": 1, "unit_price": "1.00"}],
    }
    assert arguments.order(json.dumps(short), now).placed_at == now
    for wrong, problem in (
        ("{", "is not JSON"),
        ("[]", "is not an OrderPlaced message"),
        (json.dumps(short | {"lines": []}), "lines"),
        (json.dumps(short | {"type": "OrderCancelled", "by": "shop", "lines": None}), "is OrderCancelled"),
    ):
        with pytest.raises(ValueError, match=problem):
            arguments.order(wrong, now)
