"""What others send by mistake: dates at the ends of the calendar, the largest quantities, the longest orders."""

import json
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backorder_allocator.allocation import decide
from backorder_allocator.decision import Input, Message, Rules
from backorder_allocator.promises import PromiseRules
from backorder_allocator.ranking import EARLIEST, LATEST, HeadStartRules
from backorder_allocator.state import State
from backorder_schemas import Customer, DeadLetter, OrderPlaced, StockReceived, SupplyExpected, decode
from tests.allocator.shop import MONDAY, Shop, day, line

BOUND = 1_000_000_000
CENTURY = timedelta(days=36_500)
LONGEST_RULES = Rules(
    head_starts=HeadStartRules(by_segment={"gold": CENTURY}),
    promises=PromiseRules(handling=CENTURY, overdue_after=CENTURY),
    escalates_after=CENTURY,
)
ENDS = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]


def test_a_preorder_without_a_release_date_never_reaches_the_rules() -> None:
    policy = {"type": "SkuPolicyChanged", "id": "1", "occurred_at": "2026-11-02T09:00:00Z", "sku": "X", "revision": 1}
    without = decode("catalog", b"X", json.dumps({**policy, "backorders": "preorder"}).encode(), [])
    assert isinstance(without, DeadLetter)
    assert (without.reason, without.detail) == (
        "invalid",
        "message: release_at is needed where backorders is preorder",
    )
    with_date = {**policy, "backorders": "preorder", "release_at": "2026-12-01T00:00:00Z"}
    assert not isinstance(decode("catalog", b"X", json.dumps(with_date).encode(), []), DeadLetter)


# -- dates in the years 1 and 9999


def whole_life(shop: Shop, at: datetime) -> None:
    """Everything that can happen to a SKU, with this date wherever there is one."""
    shop.order("plain", 3, placed_at=at, segment="gold")
    shop.order("complete", line(1, 1), line(2, 1, sku="Y"), placed_at=at, delivery="complete")
    shop.expect("S1", 2, at)
    shop.plan()
    shop.count(1, at=at)
    shop.policy("preorder", release_at=at, default_lead_time_days=36_500, max_wait_days=36_500)
    shop.order("by lead time", 9, placed_at=at, segment="gold")
    shop.plan()
    shop.count(0, at=at)
    shop.ship("plain", (1, 1))
    shop.deliver("plain", "S")
    shop.cancel("by lead time", [(1, 1)])
    shop.receive(1, of="S1")
    shop.expect("S1", 5, at)
    shop.plan()
    shop.until(day(1))
    shop.until(LATEST)
    shop.plan()
    shop.order("after all timers", 1, placed_at=at, delivery="complete")
    shop.cancel_supply("S1")
    shop.plan()


@pytest.mark.parametrize("at", ENDS, ids=["year 1", "year 9999"])
@pytest.mark.parametrize("now", [EARLIEST, MONDAY, LATEST], ids=["at the beginning", "now", "at the end"])
@pytest.mark.parametrize("rules", [Rules(), LONGEST_RULES], ids=["no settings", "the longest settings"])
def test_dates_at_the_ends_of_the_calendar_are_dates_like_others(at: datetime, now: datetime, rules: Rules) -> None:
    shop = Shop(rules, stock=2)
    shop.now = now
    whole_life(shop, at)
    for moment in moments_in((shop.state, shop.timers)):
        assert EARLIEST <= moment <= LATEST, "beyond these it could not be stored"


def moments_in(value: Any) -> list[datetime]:
    if isinstance(value, datetime):
        return [value]
    if isinstance(value, dict):
        return [moment for each in (*value.keys(), *value.values()) for moment in moments_in(each)]
    if isinstance(value, list | tuple):
        return [moment for each in value for moment in moments_in(each)]
    if is_dataclass(value):
        return [moment for field in fields(value) for moment in moments_in(getattr(value, field.name))]
    return []


def test_a_supply_for_the_year_9999_is_a_promise_for_then_and_one_of_the_year_1_is_none() -> None:
    shop = Shop()
    shop.expect("S1", 1, ENDS[0])
    shop.order("1001", 1)
    assert shop.line("1001").promised_at is None
    shop.expect("S2", 1, ENDS[1])
    shop.plan()
    assert shop.line("1001").promised_at == LATEST
    assert shop.until(MONDAY + timedelta(days=1)) == ["X at main: 1 of S1 from Acme overdue, 1 orders wait"]


def test_a_preorder_for_the_year_9999_holds_until_then_and_one_for_the_year_1_is_over() -> None:
    shop = Shop(stock=5)
    shop.policy("preorder", release_at=ENDS[1])
    assert shop.order("1001", 1)[-1] == "1001/1: 1 filled, 0 wait (held for its release)"
    assert shop.line("1001").promised_at == LATEST
    assert shop.policy("preorder", release_at=ENDS[0]) == ["1001: release 1: 1 of line 1 (complete)"]
    assert shop.order("1002", 1) == ["1002: release 1: 1 of line 1 (complete)"]


def test_orders_placed_in_the_year_1_are_all_ahead_of_others_and_not_ahead_of_each_other() -> None:
    shop = Shop(LONGEST_RULES)
    shop.order("now", 1)
    shop.order("gold of the year 1", 1, placed_at=ENDS[0], segment="gold")
    shop.order("b of the year 1", 1, placed_at=ENDS[0])
    assert [said.split("/")[0] for said in shop.receive(2) if "filled" in said] == [
        "b of the year 1",
        "gold of the year 1",
    ]


# -- quantities at the bound, summed over a batch


def test_quantities_at_the_bound_sum_over_a_batch_and_are_promised_to_the_unit() -> None:
    customer = Customer(customer_id="c-7")
    batch: list[Message] = []
    for n in range(12):
        id_ = f"{n:02}"
        batch.append(
            StockReceived(id=id_, occurred_at=MONDAY, receipt_id=id_, sku="X", quantity=BOUND, supply_id=f"S{n}")
        )
        batch.append(
            SupplyExpected(
                id=id_,
                occurred_at=MONDAY,
                supply_id=f"T{n:02}",
                revision=1,
                sku="X",
                quantity=BOUND,
                expected_at=day(n + 1),
                supplier="Acme",
            )
        )
    batch += [
        OrderPlaced(
            id=f"{n}",
            occurred_at=MONDAY,
            order_id=f"order {n}",
            placed_at=MONDAY,
            currency="EUR",
            customer=customer,
            lines=tuple(line(number, BOUND) for number in range(1, 9)),
        )
        for n in range(3)
    ]
    decision = decide(State(), [Input(message, MONDAY) for message in batch], Rules())
    assert {outcome.kind for outcome in decision.outcomes} == {"applied"}
    [pool] = decision.state.pools.values()
    assert (pool.on_hand, pool.allocated, pool.waiting) == (12 * BOUND, 12 * BOUND, 12 * BOUND)
    last = decision.state.orders["order 2"].lines
    assert [last[number].promised_at for number in range(1, 9)] == [day(n) for n in range(5, 13)]


def test_stock_and_what_it_lost_may_be_far_beyond_what_one_message_can_say() -> None:
    shop = Shop()
    for _ in range(3):
        shop.receive(BOUND)
    shop.order("1001", BOUND, BOUND, BOUND)
    assert shop.count(0)[-1] == f"X at main: short of {3 * BOUND}"
    for _ in range(3):
        shop.adjust(-BOUND)
    assert shop.pool() == (-3 * BOUND, 0, 3 * BOUND)
    shop.policy(safety_stock=BOUND, waiting_limit=BOUND, low_stock_at=BOUND)
    shop.expect("S1", BOUND, day(3))
    assert shop.plan() == [], "it fills what stock lacks"
    assert shop.order("1002", 1) == ["1002/1: 1 rejected (waiting_limit)"]


# -- the longest order


def test_an_order_of_a_thousand_lines_is_one_order() -> None:
    shop = Shop(stock=600)
    shop.expect("S1", 300, day(3))
    said = shop.order("1001", *[1] * 1000, delivery="complete")
    assert len(said) == 400
    assert said[0] == "1001/601: 1 begin to wait (ordered), 1 wait, day 3"
    assert said[-1] == "1001/1000: 1 begin to wait (ordered), 1 wait"
    shop.receive(399)
    [*fills, first, second] = shop.receive(1)
    assert fills == ["1001/1000: 1 filled, 0 wait"]
    assert first.startswith("1001: release 1: 1 of line 1, 1 of line 2, ")
    assert second.endswith(", 1 of line 1000 (complete)")
    assert len(shop.cancel("1001")) == 1000
    assert shop.pool() == (1000, 0, 0)


def test_an_order_of_a_thousand_skus_is_shipped_in_one_message() -> None:
    shop = Shop()
    shop.order("1001", *[line(number, 2, sku=f"SKU {number}") for number in range(1, 1001)])
    assert len(shop.ship("1001", *[(number, 2) for number in range(1, 1001)])) == 2000
    assert all(pool.on_hand == -2 for pool in shop.state.pools.values())
