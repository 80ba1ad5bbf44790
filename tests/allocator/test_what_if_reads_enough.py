"""What `what-if` reads is enough: it answers as if it had read whole queues and planned them before and after."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from backorder_allocator.arguments import Delay, Receipt
from backorder_allocator.decision import Message, Rules
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.promises import PromiseRules
from backorder_allocator.ranking import HeadStartRules
from backorder_allocator.state import Policy
from backorder_allocator.what_if import Idea, what_if
from backorder_schemas import (
    Customer,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    SkuPolicyChanged,
    StockAdjusted,
    StockReceived,
    SupplyExpected,
)
from tests.allocator import naive_what_if
from tests.allocator.shared_database import SharedDatabase
from tests.allocator.stored_shop import HOUR, StoredShop, day, line
from tests.allocator.strategies import ORDER_IDS, SEGMENT_HEAD_STARTS, START

Pools = st.SearchStrategy[tuple[str, str]]

POOLS = [("X", "main"), ("Y", "main"), ("X", "outlet"), ("Z", "main")]
LEAD_TIMES = st.sampled_from([None, None, 0, 2, 5, 12])
moments = st.integers(-4, 50).map(lambda number: day(number / 3))  # so few days that many are the same
quantities = st.integers(1, 4)
shop_rules = st.builds(
    Rules,
    head_starts=st.just(HeadStartRules(SEGMENT_HEAD_STARTS)),
    promises=st.builds(
        PromiseRules,
        st.sampled_from([timedelta(0), timedelta(0), timedelta(days=1), timedelta(hours=30)]),
        st.sampled_from([None, timedelta(0), timedelta(days=2)]),
    ),
    default_policy=st.builds(Policy, default_lead_time_days=LEAD_TIMES, safety_stock=st.sampled_from([0, 0, 1])),
)


def policy(sku: str) -> st.SearchStrategy[SkuPolicyChanged]:
    return st.builds(
        SkuPolicyChanged,
        id=st.just(f"policy {sku}"),
        occurred_at=st.just(START),
        sku=st.just(sku),
        revision=st.just(1),
        backorders=st.sampled_from(["allow", "allow", "preorder", "preorder", "deny"]),
        waiting_limit=st.sampled_from([None, None, None, 8]),
        max_wait_days=st.sampled_from([None, None, None, 6]),
        safety_stock=st.sampled_from([0, 0, 1, 3]),
        low_stock_at=st.sampled_from([None, 1]),
        release_at=moments,
        default_lead_time_days=LEAD_TIMES,
        substitutes=st.sampled_from([(), ("Y", "Z")]),
    )


@st.composite
def orders(draw: st.DrawFn, order_id: str, pools: Pools) -> OrderPlaced:
    lines = []
    for line_no in range(1, draw(st.integers(1, 3)) + 1):
        sku, location = draw(pools)
        lines.append(
            OrderLine(
                line_no=line_no,
                sku=sku,
                location=location,
                quantity=draw(quantities),
                unit_price=Decimal(1),
                accepts_backorder=draw(st.sampled_from([True] * 9 + [False])),
            )
        )
    return OrderPlaced(
        id=f"placed {order_id}",
        occurred_at=START,
        order_id=order_id,
        placed_at=START + draw(st.sampled_from([0, 0, 1, 24, 25, 60])) * HOUR,
        currency="EUR",
        customer=Customer(customer_id="c", segment=draw(st.sampled_from(["standard", "standard", "gold", "platinum"]))),
        delivery=draw(st.sampled_from(["split", "complete"])),
        lines=tuple(lines),
    )


@st.composite
def supplies(draw: st.DrawFn, number: int, pools: Pools) -> SupplyExpected:
    sku, location = draw(pools)
    return SupplyExpected(
        id=f"supply {number}",
        occurred_at=START,
        supply_id=draw(st.sampled_from(["s1", "s2", "s10", "ß"])),
        revision=number,
        sku=sku,
        location=location,
        quantity=draw(st.integers(1, 8)),
        expected_at=draw(moments),
        supplier="acme",
    )


@st.composite
def histories(draw: st.DrawFn, pools: Pools) -> list[Message]:
    """What a shop was told: policies, stock and supplies first, then orders, among which stock comes and goes."""
    messages: list[Message] = [draw(policy(sku)) for sku in ("X", "Y") if draw(st.booleans())]
    messages += [draw(supplies(number, pools)) for number in range(1, draw(st.integers(1, 7)))]
    for number in range(draw(st.integers(0, 3))):
        sku, location = draw(pools)
        messages.append(
            StockReceived(
                id=f"stock {number}",
                occurred_at=START,
                receipt_id=f"stock {number}",
                sku=sku,
                location=location,
                quantity=draw(st.integers(1, 6)),
            )
        )
    placed = [draw(orders(order_id, pools)) for order_id in draw(st.permutations(ORDER_IDS))[draw(st.integers(0, 8)) :]]
    for number, order in enumerate(placed):
        sku, location = draw(pools)
        about: dict[str, Any] = {"id": f"m{number}", "occurred_at": START, "sku": sku, "location": location}
        match draw(st.sampled_from(["nothing", "nothing", "nothing", "receipt", "adjustment", "cancel"])):
            case "receipt":
                messages.append(StockReceived(receipt_id=f"r{number}", quantity=draw(quantities), **about))
            case "adjustment":
                messages.append(
                    StockAdjusted(adjustment_id=f"a{number}", delta=-draw(quantities), reason="broken", **about)
                )
            case "cancel" if number:
                named = draw(st.sampled_from(placed[:number])).order_id
                messages.append(OrderCancelled(id=f"m{number}", occurred_at=START, order_id=named, by="shop"))
        messages.append(order)
    return messages


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[Message], list[Idea]]:
    """A history and what is asked after it: of its own pools and supplies, or once in a while of others."""
    pools = st.sampled_from(draw(st.sampled_from([POOLS[:1], POOLS[:2], POOLS[:2], POOLS])))
    history = draw(histories(pools))
    announced = sorted({message.supply_id for message in history if isinstance(message, SupplyExpected)})
    receipts = st.builds(lambda pool, units: Receipt(pool[0], pool[1], units), pools, st.integers(1, 9))
    delays = st.builds(
        Delay,
        st.sampled_from([*announced * 3, "s1/X"]),
        st.integers(-20, 40).map(lambda number: number * timedelta(hours=8)),
    )
    of_any_kind = st.one_of(receipts, delays, orders("new", pools), orders("0 new", pools))
    return history, draw(st.lists(of_any_kind, min_size=1, max_size=4))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(questions(), shop_rules, st.booleans(), st.integers(0, 8))
def test_the_answer_is_that_of_whole_queues(
    database: SharedDatabase, question: tuple[list[Message], list[Idea]], rules: Rules, planned: bool, days: int
) -> None:
    history, ideas = question
    database.runner.run(compare(database.connection, history, rules, planned, timedelta(days), ideas))


async def compare(
    connection: asyncpg.Connection,
    history: Sequence[Message],
    rules: Rules,
    planned: bool,
    later: timedelta,
    ideas: Sequence[Idea],
) -> None:
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        shop = StoredShop(connection, rules)
        await shop.open()
        await shop.send(*history)
        if planned:
            await shop.plan()
        now = shop.now + later
        assert await answer(what_if, connection, ideas, rules, now) == await answer(
            naive_what_if.what_if, connection, ideas, rules, now
        )
    finally:
        await transaction.rollback()


async def answer(
    ask: Any, connection: asyncpg.Connection, ideas: Sequence[Idea], rules: Rules, now: datetime
) -> dict[str, Any] | str:
    try:
        found: dict[str, Any] = await ask(connection, ideas, rules, now)
    except ConfigurationError as error:
        return str(error)
    return found


async def test_of_a_sku_that_has_a_policy_and_no_pool_yet_all_is_new(connection: asyncpg.Connection) -> None:
    shop = StoredShop(connection)
    await shop.open()
    await shop.send(shop.policy("W", default_lead_time_days=5))
    ideas = (Receipt("W", "main", 3), shop.order("new", line(1, 2, "W"), line(2, 2, "W")))
    found = await what_if(connection, ideas, shop.rules, shop.now)
    assert found == await naive_what_if.what_if(connection, ideas, shop.rules, shop.now)
    assert [(told["effect"], told["allocated_after"], told["covered_by"]) for told in found["lines"]] == [
        ("new", 2, "stock"),
        ("new", 1, "lead_time"),
    ]
    assert await connection.fetchval("SELECT count(*) FROM pools") == 0
