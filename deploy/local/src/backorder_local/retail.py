"""Online Retail (UCI): invoices of a UK web shop, December 2010 to December 2011."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from backorder_local.purchases import (
    HISTORY_LINES,
    MARGIN_LINES,
    MAX_ORDER_LINES,
    Cancel,
    Correction,
    Line,
    Order,
    Purchases,
    price,
    split,
)

COLUMNS = {
    "InvoiceNo": pa.string(),
    "StockCode": pa.string(),
    "Description": pa.string(),
    "Quantity": pa.int64(),
    "InvoiceDate": pa.timestamp("us"),
    "UnitPrice": pa.float64(),
    "CustomerID": pa.int64(),
}
NO_GOODS = frozenset({"POST", "DOT", "M", "m", "C2", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK", "PADS"})
"""Stock codes of postage, discounts, fees, samples and manual entries."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of Online Retail that is no order line: a cancellation or a correction."""

    invoice: str
    customer: int | None
    sku: str
    quantity: int
    at: datetime
    text: str


def read(table: Iterable[tuple[Any, ...]], lines: int) -> Purchases:
    """Invoices with C are cancellations. Lines without customer are write-offs where they are negative, units found
    where they cost nothing, else purchases of guests."""
    invoices: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    returned: list[_Row] = []
    corrected: list[_Row] = []
    texts: dict[str, str] = {}
    taken = 0
    for invoice, sku, description, quantity, at, unit_price, customer in table:
        if None in {invoice, sku, quantity, at} or quantity == 0 or sku in NO_GOODS:
            continue
        other = _Row(invoice, customer, sku, quantity, at.replace(tzinfo=UTC), description or "")
        if invoice.startswith("C"):
            returned.append(other)
        elif quantity < 0 or (customer is None and not unit_price):
            corrected.append(other)
        else:
            invoices[invoice].append((sku, quantity, at, unit_price, customer))
            texts.setdefault(sku, description or "")
            taken += 1
            if taken == HISTORY_LINES + lines + MARGIN_LINES:
                break
    orders = [order for invoice, content in invoices.items() for order in retail_orders(invoice, content)]
    history, replayed = split(orders, lines)
    start, end = replayed[0].placed_at, replayed[-1].placed_at
    cancels, unmatched = retail_cancels(replayed, [row for row in returned if start <= row.at <= end])
    corrections = tuple(
        Correction(f"{row.invoice}/{number}", row.sku, row.at, row.quantity, row.text or "not said")
        for number, row in enumerate(sorted(corrected, key=lambda row: row.at), start=1)
        if start <= row.at <= end
    )
    return Purchases(
        source="Online Retail",
        history=history,
        orders=replayed,
        cancels=cancels,
        corrections=corrections,
        remarks=(
            f"cancels are real (invoices with C); {unmatched} of their lines are about earlier purchases and left out",
            f"{len(corrections)} write-offs and finds are stock adjustments",
            "postage, discounts and fees are left out",
            "buyers without CustomerID are guests without address; the others' mail addresses are made up",
        ),
        titles=lambda sku: texts.get(sku, ""),
    )


def retail_orders(invoice: str, content: Sequence[tuple[Any, ...]]) -> Iterator[Order]:
    """One order, or several where the invoice is longer than a message may be."""
    _, _, at, _, customer = content[0]
    for part, first in enumerate(range(0, len(content), MAX_ORDER_LINES)):
        yield Order(
            order_id=f"{invoice}-{part + 1}" if part else invoice,
            placed_at=at.replace(tzinfo=UTC),
            customer_id=f"guest-{invoice}" if customer is None else f"customer-{customer}",
            email=None if customer is None else f"customer-{customer}@example.org",
            currency="GBP",
            lines=tuple(
                Line(number, sku, quantity, price(unit_price or 0))
                for number, (sku, quantity, _, unit_price, _) in enumerate(
                    content[first : first + MAX_ORDER_LINES], start=1
                )
            ),
        )


def retail_cancels(orders: Sequence[Order], returned: Sequence[_Row]) -> tuple[tuple[Cancel, ...], int]:
    """Cancels of the customer's newest purchases of the same SKU, and how many lines have none here.

    The data names no invoice that a cancellation is about."""
    bought: dict[tuple[str, str], list[tuple[Order, Line]]] = defaultdict(list)
    for order in orders:
        for line in order.lines:
            bought[order.customer_id, line.sku].append((order, line))
    left = {(order.order_id, line.line_no): line.quantity for order in orders for line in order.lines}
    found: dict[tuple[str, str], tuple[datetime, dict[int, int]]] = {}
    unmatched = 0
    for row in sorted(returned, key=lambda row: row.at):
        units = -row.quantity
        for order, line in reversed(bought[f"customer-{row.customer}", row.sku]):
            taken = min(units, left[order.order_id, line.line_no])
            if order.placed_at <= row.at and taken > 0:
                left[order.order_id, line.line_no] -= taken
                units -= taken
                of_order = found.setdefault((row.invoice, order.order_id), (row.at, defaultdict(int)))[1]
                of_order[line.line_no] += taken
        unmatched += units == -row.quantity
    cancels = [
        Cancel(f"{invoice}/{order_id}", order_id, at, tuple(sorted(units.items())))
        for (invoice, order_id), (at, units) in found.items()
    ]
    return tuple(sorted(cancels, key=lambda cancel: (cancel.at, cancel.id))), unmatched
