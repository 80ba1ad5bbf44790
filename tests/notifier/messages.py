"""Messages and records as the tests send them: only what a test is about is named."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from backorder_notifier.rows import Record
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    CancelledLine,
    ContactChanged,
    Customer,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    PromiseChanged,
    ReleasedLine,
    ShippedLine,
    SkuAvailability,
    SkuPolicyChanged,
    encode,
)

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def line(line_no: int = 1, quantity: int = 15, sku: str = "PHONE-X", **fields: Any) -> OrderLine:
    values: dict[str, Any] = {"line_no": line_no, "sku": sku, "quantity": quantity, "unit_price": Decimal("499.00")}
    return OrderLine(**values | fields)


def placed(order_id: str = "1001", *, email: str | None = "ada@example.org", **fields: Any) -> OrderPlaced:
    """`customer` is a dict of fields to change; `lines` are made by `line`."""
    customer = {"customer_id": "c-7", "email": email, "name": "Ada"} | fields.pop("customer", {})
    values: dict[str, Any] = {
        "id": f"shop/{order_id}",
        "occurred_at": NOON,
        "order_id": order_id,
        "placed_at": NOON,
        "currency": "EUR",
        "customer": Customer(**customer),
        "lines": (line(),),
    }
    return OrderPlaced(**values | fields)


def order_cancelled(
    order_id: str = "1001", lines: Mapping[int, int | None] | None = None, **fields: Any
) -> OrderCancelled:
    """`lines`: units by line number, None for the whole line; left out, the whole order."""
    values: dict[str, Any] = {
        "id": f"shop/{order_id}/cancelled",
        "occurred_at": NOON,
        "order_id": order_id,
        "by": "customer",
        "lines": lines and tuple(CancelledLine(line_no=number, quantity=units) for number, units in lines.items()),
    }
    return OrderCancelled(**values | fields)


def _event(order_id: str, version: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{order_id}/v{version}",
        "occurred_at": NOON,
        "version": version,
        "epoch": 1,
        "caused_by": f"{order_id}/cause-{version}",
        "order_id": order_id,
        "customer_id": "c-7",
        "line_no": 1,
        "sku": "PHONE-X",
        "location": "main",
    } | fields


def created(order_id: str = "1001", version: int = 1, **fields: Any) -> BackorderCreated:
    quantities = {"quantity": 5, "quantity_waiting": 5, "quantity_ordered": 15, "quantity_allocated": 10}
    rest = {"kind": "backorder", "reason": "ordered"}
    return BackorderCreated(**_event(order_id, version, quantities | rest | fields))


def filled(order_id: str = "1001", version: int = 2, **fields: Any) -> BackorderFilled:
    return BackorderFilled(**_event(order_id, version, {"quantity": 5, "quantity_waiting": 0} | fields))


def cancelled(order_id: str = "1001", version: int = 2, **fields: Any) -> BackorderCancelled:
    return BackorderCancelled(
        **_event(order_id, version, {"quantity": 5, "quantity_waiting": 0, "by": "customer"} | fields)
    )


def rejected(order_id: str = "1001", version: int = 1, **fields: Any) -> BackorderRejected:
    return BackorderRejected(**_event(order_id, version, {"quantity": 5, "reason": "waiting_limit"} | fields))


def moved(
    order_id: str = "1001", version: int = 2, promised_at: datetime | None = None, **fields: Any
) -> PromiseChanged:
    return PromiseChanged(**_event(order_id, version, {"promised_at": promised_at, "cause": "supply_moved"} | fields))


def _on_allocations(order_id: str, version: int, fields: dict[str, Any]) -> dict[str, Any]:
    return _event(order_id, version, {"id": f"{order_id}/allocations/v{version}"} | fields)


def released(
    order_id: str = "1001", version: int = 1, units: Mapping[int, int] | None = None, **fields: Any
) -> AllocationReleased:
    """`units` by line number."""
    lines = tuple(
        ReleasedLine(line_no=number, sku="PHONE-X", location="main", quantity=quantity)
        for number, quantity in (units or {1: 10}).items()
    )
    values = _on_allocations(order_id, version, {"release_no": version, "lines": lines, "complete": False} | fields)
    return AllocationReleased(
        **{name: value for name, value in values.items() if name in AllocationReleased.model_fields}
    )


def revoked(order_id: str = "1001", version: int = 2, **fields: Any) -> AllocationRevoked:
    return AllocationRevoked(
        **_on_allocations(order_id, version, {"release_no": 1, "quantity": 5, "reason": "stock_lost"} | fields)
    )


def shipped(
    order_id: str = "1001", shipment_id: str = "s-1", units: Mapping[int, int] | None = None, **fields: Any
) -> LinesShipped:
    """`units` by line number."""
    values: dict[str, Any] = {
        "id": f"wms/{order_id}/{shipment_id}",
        "occurred_at": NOON,
        "shipment_id": shipment_id,
        "order_id": order_id,
        "lines": tuple(
            ShippedLine(line_no=number, quantity=quantity) for number, quantity in (units or {1: 15}).items()
        ),
    }
    return LinesShipped(**values | fields)


def delivered(order_id: str = "1001", shipment_id: str = "s-1", **fields: Any) -> LinesDelivered:
    values: dict[str, Any] = {
        "id": f"carrier/{order_id}/{shipment_id}",
        "occurred_at": NOON,
        "shipment_id": shipment_id,
        "order_id": order_id,
        "delivered_at": NOON,
    }
    return LinesDelivered(**values | fields)


def sku_policy(sku: str = "PHONE-X", revision: int = 1, **fields: Any) -> SkuPolicyChanged:
    values: dict[str, Any] = {
        "id": f"erp/{sku}/{revision}",
        "occurred_at": NOON,
        "sku": sku,
        "revision": revision,
        "backorders": "allow",
    }
    return SkuPolicyChanged(**values | fields)


def availability(sku: str = "PHONE-X", version: int = 1, status: str = "in_stock", **fields: Any) -> SkuAvailability:
    values: dict[str, Any] = {
        "id": f"availability/{sku}/{version}",
        "occurred_at": NOON,
        "version": version,
        "epoch": 1,
        "caused_by": "planner:1",
        "sku": sku,
        "location": "main",
        "status": status,
        "available": 7 if status == "in_stock" else 0,
        "waiting": 0,
    }
    return SkuAvailability(**values | fields)


def contact_changed(customer_id: str = "c-7", revision: int = 1, **fields: Any) -> ContactChanged:
    values: dict[str, Any] = {
        "id": f"crm/{customer_id}/{revision}",
        "occurred_at": NOON,
        "customer_id": customer_id,
        "revision": revision,
    }
    return ContactChanged(**values | fields)


class Log:
    """Records as Kafka would number them, one partition a topic. Each is recorded at `now`, which a test may move."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now
        self.next_offset: dict[str, int] = {}

    def record(self, message: Any) -> Record:
        encoded = encode(message, source="/test")
        return self.raw(encoded.topic, encoded.key, encoded.value, tuple(encoded.headers))

    def records(self, *messages: Any) -> list[Record]:
        return [self.record(message) for message in messages]

    def raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = ()
    ) -> Record:
        offset = self.next_offset.get(topic, 0)
        self.next_offset[topic] = offset + 1
        return Record(topic, f"t.{topic}", 0, offset, self.now, key, value, headers)
