"""Purchases of some stretch of time: orders, cancels and stock corrections, whatever data they come from."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backorder_local.errors import LocalError

HISTORY_LINES = 20_000
"""Lines before the replayed ones, for the forecast."""
MARGIN_LINES = 2_000
"""Read beyond the last line wanted, so that the last order is whole."""
MAX_ORDER_LINES = 1_000
"""What a message may have; a longer invoice becomes several orders."""


@dataclass(frozen=True, slots=True)
class Line:
    line_no: int
    sku: str
    quantity: int
    unit_price: str


@dataclass(frozen=True, slots=True)
class Order:
    """`email` is made up; None for a guest, of whom nothing is known."""

    order_id: str
    placed_at: datetime
    customer_id: str
    email: str | None
    currency: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """`lines`: (line_no, units; None for the whole line), or None for the whole order."""

    id: str
    order_id: str
    at: datetime
    lines: tuple[tuple[int, int | None], ...] | None


@dataclass(frozen=True, slots=True)
class Correction:
    """Units written off (negative) or found."""

    id: str
    sku: str
    at: datetime
    delta: int
    reason: str


@dataclass(frozen=True, slots=True)
class Purchases:
    """A stretch of time: `orders`, `cancels` and `corrections` are in the order in which they happened.

    `history` are the orders before it; `remarks` say what was chosen or made up."""

    source: str
    history: tuple[Order, ...]
    orders: tuple[Order, ...]
    cancels: tuple[Cancel, ...]
    corrections: tuple[Correction, ...]
    remarks: tuple[str, ...]
    titles: Callable[[str], str]
    """What a SKU is called; empty where the data doesn't say."""

    @property
    def start(self) -> datetime:
        return self.orders[0].placed_at

    @property
    def end(self) -> datetime:
        """The last thing that happens."""
        happened = [self.orders[-1].placed_at]
        happened += [cancel.at for cancel in self.cancels[-1:]]
        happened += [correction.at for correction in self.corrections[-1:]]
        return max(happened)

    @property
    def line_count(self) -> int:
        return sum(len(order.lines) for order in self.orders)


def split(orders: Iterable[Order], lines: int) -> tuple[tuple[Order, ...], tuple[Order, ...]]:
    """History, and whole orders with as nearly `lines` lines as whole orders can be. Raises LocalError without any."""
    ordered = sorted(orders, key=lambda order: (order.placed_at, order.order_id))
    if not ordered:
        raise LocalError("The data has no purchases that could be replayed.")
    spare = max(0, min(HISTORY_LINES, sum(len(order.lines) for order in ordered) - lines))
    history: list[Order] = []
    replayed: list[Order] = []
    passed = taken = 0
    for order in ordered:
        if not replayed and passed + len(order.lines) <= spare:
            passed += len(order.lines)
            history.append(order)
        elif not replayed or abs(taken + len(order.lines) - lines) < abs(taken - lines):
            taken += len(order.lines)
            replayed.append(order)
        else:
            break
    return tuple(history), tuple(replayed)


def price(amount: float) -> str:
    """Money as messages have it. A price below zero (a bad debt) counts as none."""
    return f"{max(0.0, amount):.2f}" if math.isfinite(amount) else "0.00"


def span(orders: Sequence[Order]) -> timedelta:
    return orders[-1].placed_at - orders[0].placed_at if orders else timedelta(0)
