"""Who is ahead of whom: the head start of an order and the sentence that explains it.

A line is ranked by `ranked_at = placed_at - head_start`. Head starts never change after the order is taken, so a queue
needs no re-ranking, and a line can be overtaken only by orders placed within their head start after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

from backorder_schemas import OrderPlaced

EXACT_DIGITS = 60
"""More than the largest order can have: the default of 28 would round it."""
EARLIEST = datetime.min.replace(tzinfo=UTC) + timedelta(microseconds=1)
LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)
"""Beyond these, PostgreSQL's driver writes infinity and reads it back without a zone, which compares with nothing."""


@dataclass(frozen=True, slots=True)
class ValueRule:
    """Orders of at least `at_least` in `currency` get `head_start`."""

    at_least: Decimal
    currency: str
    head_start: timedelta


@dataclass(frozen=True, slots=True)
class HeadStartRules:
    """The head starts of a shop: by customer segment and by order value; the larger of both counts."""

    by_segment: Mapping[str, timedelta] = field(default_factory=dict)
    by_value: tuple[ValueRule, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadStart:
    """How much earlier than it was placed an order is treated as placed, and why (None: no head start)."""

    duration: timedelta
    reason: str | None


NO_HEAD_START = HeadStart(timedelta(0), None)


def head_start(order: OrderPlaced, rules: HeadStartRules) -> HeadStart:
    """The head start of an order under the rules of the moment it is taken."""
    best = NO_HEAD_START
    by_segment = rules.by_segment.get(order.customer.segment)
    if by_segment is not None and by_segment > best.duration:
        best = HeadStart(by_segment, order.customer.segment)
    if rules.by_value:
        with localcontext(prec=EXACT_DIGITS):
            value = sum((line.quantity * line.unit_price for line in order.lines), Decimal(0))
        for rule in rules.by_value:
            if rule.currency == order.currency and value >= rule.at_least and rule.head_start > best.duration:
                best = HeadStart(rule.head_start, f"order value from {rule.at_least} {rule.currency}")
    return best


def storable(moment: datetime) -> datetime:
    """The moment, or the nearest that can be stored: some senders write the first or last one for "not known"."""
    return min(max(moment, EARLIEST), LATEST)


def ranked_at(placed_at: datetime, start: HeadStart) -> datetime:
    """The moment that decides the place in the queue; never before the first day of the calendar."""
    if placed_at - EARLIEST <= start.duration:
        return EARLIEST
    return placed_at - start.duration


def sentence(duration: timedelta, reason: str | None) -> str:
    """The head start in words, such as "gold: served as if ordered 2 days earlier"."""
    if reason is None:
        return "no head start: served by the time the order was placed"
    return f"{reason}: served as if ordered {spoken(duration)} earlier"


def spoken(duration: timedelta) -> str:
    """A duration as a person says it: "2 days", "1 day 6 hours", "1 minute 30 seconds"."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "day"), (hours, "hour"), (minutes, "minute"), (seconds, "second")]
    return " ".join(f"{n} {unit}" if n == 1 else f"{n} {unit}s" for n, unit in parts if n) or "0 seconds"
