"""Messages and records as the tests send them: only what a test is about is named."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from backorder_notifier.rows import Record
from backorder_schemas import (
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    Customer,
    OrderLine,
    OrderPlaced,
    encode,
)

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def placed(order_id: str = "1001", *, email: str | None = "ada@example.org", **fields: Any) -> OrderPlaced:
    customer = {"customer_id": "c-7", "email": email, "name": "Ada"} | fields.pop("customer", {})
    lines = (OrderLine(line_no=1, sku="PHONE-X", quantity=15, unit_price=Decimal("499.00")),)
    values: dict[str, Any] = {
        "id": f"shop/{order_id}",
        "occurred_at": NOON,
        "order_id": order_id,
        "placed_at": NOON,
        "currency": "EUR",
        "customer": Customer(**customer),
        "lines": lines,
    }
    return OrderPlaced(**values | fields)


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


class Log:
    """Records as Kafka would number them, one partition a topic."""

    def __init__(self) -> None:
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
        return Record(topic, f"t.{topic}", 0, offset, NOON, key, value, headers)
