"""What a subscriber knows who follows the rule of `Versions`, and nothing but the topics."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LowStock,
    PromiseChanged,
    ShipmentMismatch,
    SkuAvailability,
    StockShortfall,
    SupplyOverdue,
    Versions,
)
from tests.e2e.world import OUTPUTS, Read, World

LineKey = tuple[str, int]
"""(order_id, line_no)."""


@dataclass(slots=True)
class SeenLine:
    """Units of one line by the events about it, and the date that it was promised last."""

    sku: str
    released: int = 0
    mismatched: int = 0
    """Shipped without having been released."""
    waiting: int = 0
    rejected: int = 0
    promised_at: datetime | None = None
    first_promised_at: datetime | None = None

    @property
    def told(self) -> int:
        """Units whose whereabouts were told, without those that were cancelled."""
        return self.released + self.mismatched + self.waiting + self.rejected


@dataclass
class Subscriber:
    """Follows all topics of the allocator from their beginning."""

    lines: dict[LineKey, SeenLine] = field(default_factory=dict)
    messages: list[Any] = field(default_factory=list)
    """Everything applied, in order per key."""
    availability: dict[str, SkuAvailability] = field(default_factory=dict)
    """The last of each key."""
    repeats: int = 0
    versions: "Versions[Any]" = field(default_factory=Versions)
    bytes_of: dict[str, bytes] = field(default_factory=dict)

    def follow(self, records: Iterable[Read]) -> "Subscriber":
        """Applies records. An event published again must be the same, byte for byte."""
        for record in records:
            message = record.message
            assert message is not None, record
            assert record.key is not None
            assert record.value is not None
            assert self.bytes_of.setdefault(message.id, record.value) == record.value
            key = record.key.decode()
            verdict = self.versions.feed(record.topic, key, message.epoch, message.version, message)
            assert verdict.action != "wait", f"{record.topic} {key}: version {message.version} came too early"
            self.repeats += verdict.action == "ignore"
            for ready in verdict.ready:
                self.apply(ready)
        return self

    def apply(self, message: Any) -> None:
        self.messages.append(message)
        match message:
            case AllocationReleased():
                for each in message.lines:
                    self.line(message.order_id, each.line_no, each.sku).released += each.quantity
            case AllocationRevoked():
                # Held units were never released.
                if message.release_no is not None:
                    self.line_of(message).released -= message.quantity
            case BackorderCreated():
                line = self.line_of(message)
                line.waiting += message.quantity
                assert line.waiting == message.quantity_waiting, message
                line.promised_at = message.promised_at
                line.first_promised_at = line.first_promised_at or message.promised_at
            case BackorderFilled() | BackorderCancelled():
                line = self.line_of(message)
                line.waiting -= message.quantity
                assert line.waiting == message.quantity_waiting, message
            case BackorderRejected():
                self.line_of(message).rejected += message.quantity
            case PromiseChanged():
                line = self.line_of(message)
                assert message.previous_promised_at == line.promised_at, message
                line.promised_at = message.promised_at
                line.first_promised_at = line.first_promised_at or message.promised_at
                assert message.first_promised_at == line.first_promised_at, message
            case ShipmentMismatch():
                line = self.line_of(message)
                line.mismatched += message.quantity
                if message.reason == "rejected":
                    line.rejected -= message.quantity
            case SkuAvailability():
                self.availability[f"{message.location}:{message.sku}"] = message
            case LowStock() | StockShortfall() | SupplyOverdue():
                pass
            case _:
                raise AssertionError(f"a subscriber does not know what {message} is for")

    def line_of(self, message: Any) -> SeenLine:
        return self.line(message.order_id, message.line_no, message.sku)

    def line(self, order_id: str, line_no: int, sku: str) -> SeenLine:
        return self.lines.setdefault((order_id, line_no), SeenLine(sku))

    def released_of(self, order_id: str) -> int:
        return sum(line.released for (order, _), line in self.lines.items() if order == order_id)

    def waiting_of(self, order_id: str) -> int:
        return sum(line.waiting for (order, _), line in self.lines.items() if order == order_id)

    def waiting_orders(self) -> set[str]:
        return {order for (order, _), line in self.lines.items() if line.waiting}


async def follow(world: World) -> Subscriber:
    """A subscriber that has read everything up to now."""
    return Subscriber().follow(await world.read(*OUTPUTS))
