"""What a subscriber knows who follows the rule of `Versions`, and nothing but the topics."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    Versions,
)
from tests.e2e.world import Read, World

LineKey = tuple[str, int]
"""(order_id, line_no)."""


@dataclass(slots=True)
class SeenLine:
    """Units of one line by the events about it."""

    sku: str
    released: int = 0
    waiting: int = 0
    rejected: int = 0

    @property
    def told(self) -> int:
        """Units whose whereabouts were told, without those that were cancelled."""
        return self.released + self.waiting + self.rejected


@dataclass
class Subscriber:
    """Follows `allocations` and `backorders` from their beginning."""

    lines: dict[LineKey, SeenLine] = field(default_factory=dict)
    messages: list[Any] = field(default_factory=list)
    """Everything applied, in order per key."""
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
                if message.release_no is not None:
                    self.line(message.order_id, message.line_no, message.sku).released -= message.quantity
            case BackorderCreated():
                line = self.line(message.order_id, message.line_no, message.sku)
                line.waiting += message.quantity
                assert line.waiting == message.quantity_waiting, message
            case BackorderFilled() | BackorderCancelled():
                line = self.line(message.order_id, message.line_no, message.sku)
                line.waiting -= message.quantity
                assert line.waiting == message.quantity_waiting, message
            case BackorderRejected():
                self.line(message.order_id, message.line_no, message.sku).rejected += message.quantity
            case _:  # held units that were never released
                pass

    def line(self, order_id: str, line_no: int, sku: str) -> SeenLine:
        return self.lines.setdefault((order_id, line_no), SeenLine(sku))

    def released_of(self, order_id: str) -> int:
        return sum(line.released for (order, _), line in self.lines.items() if order == order_id)

    def waiting_of(self, order_id: str) -> int:
        return sum(line.waiting for (order, _), line in self.lines.items() if order == order_id)

    def waiting_orders(self) -> set[str]:
        return {order for (order, _), line in self.lines.items() if line.waiting}

    def by_sku(self) -> dict[str, tuple[int, int]]:
        """(released, waiting) units of each SKU."""
        found: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for line in self.lines.values():
            released, waiting = found[line.sku]
            found[line.sku] = (released + line.released, waiting + line.waiting)
        return dict(found)


async def follow(world: World) -> Subscriber:
    """A subscriber that has read everything up to now."""
    return Subscriber().follow(await world.read("allocations", "backorders"))
