"""Messages as a shop and a warehouse send them: plain JSON under the key of the contract."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

OPENING = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""When the first order of a test is placed; in the past, since a later date counts as now."""

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One record to publish. `topic` is without prefix."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class OrderLine:
    sku: str
    quantity: int
    location: str = "main"
    accepts_backorder: bool = True


def order(
    order_id: str,
    *lines: OrderLine | tuple[str, int],
    after: timedelta = timedelta(0),
    placed_at: datetime | None = None,
    segment: str = "standard",
    email: str | None = None,
    delivery: str = "split",
) -> Message:
    """An order placed `after` the opening, or at a given moment; its lines are numbered from 1."""
    customer = {"customer_id": f"customer-of-{order_id}", "segment": segment}
    named = [each if isinstance(each, OrderLine) else OrderLine(*each) for each in lines]
    content = {
        **_head("OrderPlaced", f"{order_id}/placed"),
        "order_id": order_id,
        "placed_at": rfc3339(placed_at or OPENING + after),
        "currency": "EUR",
        "customer": customer | ({"email": email} if email else {}),
        "delivery": delivery,
        "lines": [
            {
                "line_no": number,
                "sku": each.sku,
                "quantity": each.quantity,
                "unit_price": "10.00",
                "location": each.location,
                "accepts_backorder": each.accepts_backorder,
            }
            for number, each in enumerate(named, start=1)
        ],
    }
    return _message("orders", order_id, content)


def cancel(order_id: str, *lines: tuple[int, int | None], name: str = "cancelled", by: str = "customer") -> Message:
    """Cancels (line_no, quantity or None for all of it); without lines the whole order."""
    content = {**_head("OrderCancelled", f"{order_id}/{name}"), "order_id": order_id, "by": by}
    if lines:
        content["lines"] = [{"line_no": number, "quantity": quantity} for number, quantity in lines]
    return _message("orders", order_id, content)


def receipt(
    receipt_id: str, sku: str, quantity: int, *, location: str = "main", supply_id: str | None = None
) -> Message:
    content = {
        **_head("StockReceived", f"received/{receipt_id}/{sku}/{location}"),
        "receipt_id": receipt_id,
        "sku": sku,
        "location": location,
        "quantity": quantity,
        "supply_id": supply_id,
    }
    return _message("stock-received", sku, content)


def adjustment(adjustment_id: str, sku: str, delta: int) -> Message:
    content = {
        **_head("StockAdjusted", f"adjusted/{adjustment_id}/{sku}"),
        "adjustment_id": adjustment_id,
        "sku": sku,
        "location": "main",
        "delta": delta,
        "reason": "damaged",
    }
    return _message("stock-adjusted", sku, content)


def count(count_id: str, sku: str, counted: int, *, after: timedelta = timedelta(0)) -> Message:
    content = {
        **_head("StockCounted", f"counted/{count_id}/{sku}", after),
        "count_id": count_id,
        "sku": sku,
        "location": "main",
        "counted": counted,
    }
    return _message("stock-adjusted", sku, content)


def supply(supply_id: str, sku: str, quantity: int, expected_at: datetime, *, revision: int = 1) -> Message:
    content = {
        **_head("SupplyExpected", f"supply/{supply_id}/{sku}/{revision}"),
        "supply_id": supply_id,
        "revision": revision,
        "sku": sku,
        "location": "main",
        "quantity": quantity,
        "expected_at": rfc3339(expected_at),
        "supplier": "the supplier",
    }
    return _message("inbound-supply", sku, content)


def supply_cancelled(supply_id: str, sku: str, *, revision: int) -> Message:
    head = _head("SupplyCancelled", f"supply/{supply_id}/{sku}/{revision}")
    return _message("inbound-supply", sku, head | {"supply_id": supply_id, "revision": revision, "sku": sku})


def policy(sku: str, *, revision: int = 1, backorders: str = "allow", **rules: Any) -> Message:
    """A policy; `rules` are further fields of it, dates as RFC 3339."""
    head = _head("SkuPolicyChanged", f"policy/{sku}/{revision}")
    return _message("catalog", sku, head | {"sku": sku, "revision": revision, "backorders": backorders, **rules})


def shipment(shipment_id: str, order_id: str, *lines: tuple[int, int]) -> Message:
    """Ships (line_no, quantity)."""
    content = {
        **_head("LinesShipped", f"shipped/{shipment_id}/{order_id}"),
        "shipment_id": shipment_id,
        "order_id": order_id,
        "lines": [{"line_no": number, "quantity": quantity} for number, quantity in lines],
    }
    return _message("fulfilment", order_id, content)


def rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def message_ids(messages: Sequence[Message]) -> list[str]:
    return [json.loads(message.value or b"")["id"] for message in messages]


def _head(kind: str, message_id: str, after: timedelta = timedelta(0)) -> dict[str, Any]:
    return {"type": kind, "id": message_id, "occurred_at": rfc3339(OPENING + after)}


def _message(topic: str, key: str, content: dict[str, Any]) -> Message:
    return Message(topic, key.encode(), json.dumps(content).encode())
