"""Head starts by themselves: which one counts, what it does to the rank, and how it is said."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from backorder_allocator.ranking import (
    EARLIEST,
    NO_HEAD_START,
    HeadStart,
    HeadStartRules,
    ValueRule,
    head_start,
    ranked_at,
    sentence,
)
from backorder_schemas import Customer, OrderLine, OrderPlaced

MONDAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = HeadStartRules(
    by_segment={"gold": 2 * DAY, "platinum": 5 * DAY, "plain": timedelta(0)},
    by_value=(
        ValueRule(Decimal("500.00"), "EUR", DAY),
        ValueRule(Decimal("900.00"), "EUR", 4 * DAY),
        ValueRule(Decimal("100.00"), "USD", 3 * DAY),
    ),
)


def order(*lines: tuple[int, str], segment: str = "standard", currency: str = "EUR") -> OrderPlaced:
    return OrderPlaced(
        id="m",
        occurred_at=MONDAY,
        order_id="1001",
        placed_at=MONDAY,
        currency=currency,
        customer=Customer(customer_id="c-7", segment=segment),
        lines=tuple(
            OrderLine(line_no=number, sku="X", quantity=quantity, unit_price=Decimal(price))
            for number, (quantity, price) in enumerate(lines, start=1)
        ),
    )


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        (order((1, "10.00")), NO_HEAD_START),
        (order((1, "10.00"), segment="unheard of"), NO_HEAD_START),
        (order((1, "10.00"), segment="plain"), NO_HEAD_START),
        (order((1, "10.00"), segment="gold"), HeadStart(2 * DAY, "gold")),
        (order((50, "10.00"), segment="gold"), HeadStart(2 * DAY, "gold")),
        (order((90, "10.00"), segment="gold"), HeadStart(4 * DAY, "order value from 900.00 EUR")),
        (order((90, "10.00"), segment="platinum"), HeadStart(5 * DAY, "platinum")),
        (order((2, "249.99"), (1, "0.02")), HeadStart(DAY, "order value from 500.00 EUR")),
        (order((2, "249.99"), (1, "0.019999")), NO_HEAD_START),
        (order((1, "100.00"), currency="USD"), HeadStart(3 * DAY, "order value from 100.00 USD")),
        (order((1, "9999.00"), currency="GBP"), NO_HEAD_START),
    ],
)
def test_the_larger_of_the_head_starts_by_segment_and_by_value_counts(placed: OrderPlaced, expected: HeadStart) -> None:
    assert head_start(placed, RULES) == expected


def test_without_rules_nobody_has_a_head_start() -> None:
    assert head_start(order((1, "10.00"), segment="gold"), HeadStartRules()) == NO_HEAD_START


def test_a_head_start_moves_the_rank_back_by_its_duration() -> None:
    assert ranked_at(MONDAY, NO_HEAD_START) == MONDAY
    assert ranked_at(MONDAY, HeadStart(2 * DAY, "gold")) == datetime(2026, 10, 31, 9, tzinfo=UTC)


def test_a_rank_before_the_first_day_of_the_calendar_is_that_day() -> None:
    first = datetime(1, 1, 1, tzinfo=UTC)
    for placed_at in (first, first + DAY, first + 2 * DAY):
        assert ranked_at(placed_at, HeadStart(2 * DAY, "gold")) == EARLIEST
    assert ranked_at(first + 3 * DAY, HeadStart(2 * DAY, "gold")) == first + DAY


@pytest.mark.parametrize(
    ("duration", "reason", "words"),
    [
        (timedelta(0), None, "no head start: served by the time the order was placed"),
        (2 * DAY, "gold", "gold: served as if ordered 2 days earlier"),
        (timedelta(days=1, hours=1), "gold", "gold: served as if ordered 1 day 1 hour earlier"),
        (timedelta(minutes=90), "vip", "vip: served as if ordered 1 hour 30 minutes earlier"),
        (timedelta(seconds=61), "vip", "vip: served as if ordered 1 minute 1 second earlier"),
    ],
)
def test_a_head_start_can_be_said_in_a_sentence(duration: timedelta, reason: str | None, words: str) -> None:
    assert sentence(duration, reason) == words
