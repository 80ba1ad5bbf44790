"""Histories of one order as an allocator, a warehouse and a carrier make them, beside how it really stands: a model.

Nothing of the notifier is used here. An action does what it can of what it was asked, and gives the events that it
causes, in the order of the contract.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LinesDelivered,
    LinesShipped,
    OrderPlaced,
    PromiseChanged,
)
from tests.notifier import messages

Event = (
    BackorderCreated
    | BackorderFilled
    | BackorderCancelled
    | BackorderRejected
    | PromiseChanged
    | AllocationReleased
    | AllocationRevoked
    | LinesShipped
    | LinesDelivered
)

FIRST_DAY = date(2026, 11, 20)


@dataclass(slots=True)
class Truth:
    """Where the units of a line are: ordered = allocated + waiting + cancelled + rejected, shipped ≤ allocated."""

    line_no: int
    ordered: int
    allocated: int = 0
    waiting: int = 0
    cancelled: int = 0
    rejected: int = 0
    shipped: int = 0
    promised_at: datetime | None = None

    @property
    def sku(self) -> str:
        return f"SKU-{self.line_no}"


@dataclass(slots=True)
class Shop:
    """One order, `1001`. Numbers given to actions are taken modulo what is possible."""

    lines: dict[int, Truth] = field(default_factory=dict)
    backorders: int = 0
    allocations: int = 0
    causes: int = 0
    shipments: int = 0
    on_the_way: list[str] = field(default_factory=list)

    def place(self, wanted: list[tuple[int, int, int, int]], promised: int | None) -> tuple[OrderPlaced, list[Event]]:
        """`wanted`: ordered, there, refused and the rest waits."""
        cause = self._cause()
        events: list[Event] = []
        there = {}
        for line_no, (ordered, allocated, rejected, _) in enumerate(wanted, 1):
            truth = Truth(line_no, ordered, min(allocated, ordered))
            truth.rejected = min(rejected, truth.ordered - truth.allocated)
            truth.waiting = truth.ordered - truth.allocated - truth.rejected
            self.lines[line_no] = truth
            if truth.rejected:
                events.append(
                    messages.rejected(**self._line(truth, cause), quantity=truth.rejected, reason="waiting_limit")
                )
            if truth.waiting:
                truth.promised_at = at(promised)
                events.append(self._created(truth, truth.waiting, "ordered", cause))
            if truth.allocated:
                there[line_no] = truth.allocated
        if there:
            events.append(self._released(there, cause))
        order = messages.placed(
            lines=tuple(messages.line(each.line_no, each.ordered, each.sku) for each in self.lines.values())
        )
        return order, events

    def fill(self, truth: Truth, number: int) -> list[Event]:
        units = _some(number, truth.waiting)
        if not units:
            return []
        cause = self._cause()
        truth.waiting -= units
        truth.allocated += units
        filled = messages.filled(**self._line(truth, cause), quantity=units, quantity_waiting=truth.waiting)
        return [filled, self._released({truth.line_no: units}, cause)]

    def lose(self, truth: Truth, number: int) -> list[Event]:
        units = _some(number, truth.allocated - truth.shipped)
        if not units:
            return []
        cause = self._cause()
        truth.allocated -= units
        truth.waiting += units
        first = (units + 1) // 2  # of two releases
        parts = [first, units - first] if units > first else [first]
        revoked: list[Event] = [self._revoked(truth, part, "stock_lost", cause) for part in parts]
        return [*revoked, self._created(truth, units, "stock_lost", cause)]

    def cancel(self, truth: Truth, number: int) -> list[Event]:
        units = _some(number, truth.ordered - truth.cancelled - truth.rejected - truth.shipped)
        if not units:
            return []
        cause = self._cause()
        from_waiting = min(units, truth.waiting)
        from_allocated = units - from_waiting
        truth.waiting -= from_waiting
        truth.allocated -= from_allocated
        truth.cancelled += units
        events: list[Event] = []
        if from_allocated:
            events.append(self._revoked(truth, from_allocated, "cancelled", cause))
        if from_waiting:
            of_line = self._line(truth, cause)
            events.append(
                messages.cancelled(**of_line, quantity=from_waiting, quantity_waiting=truth.waiting, by="customer")
            )
        return events

    def move(self, truth: Truth, number: int | None) -> list[Event]:
        before, truth.promised_at = truth.promised_at, at(number)
        if not truth.waiting or before == truth.promised_at:
            truth.promised_at = before
            return []
        dates: dict[str, Any] = {"promised_at": truth.promised_at, "previous_promised_at": before}
        return [messages.moved(**self._line(truth, self._cause()), **dates)]

    def ship(self, truth: Truth, number: int) -> list[Event]:
        """Units that are there, or a few that still wait."""
        units = _some(number, truth.allocated + truth.waiting - truth.shipped)
        if not units:
            return []
        self.shipments += 1
        shipment_id = f"s-{self.shipments}"
        shipped = messages.shipped(shipment_id=shipment_id, units={truth.line_no: units})
        self.on_the_way.append(shipment_id)
        from_waiting = max(0, truth.shipped + units - truth.allocated)
        truth.waiting -= from_waiting
        truth.allocated += from_waiting
        truth.shipped += units
        if not from_waiting:
            return [shipped]
        of_line = self._line(truth, shipped.id)
        return [shipped, messages.filled(**of_line, quantity=from_waiting, quantity_waiting=truth.waiting)]

    def deliver(self, number: int, now: datetime) -> list[Event]:
        if not self.on_the_way:
            return []
        shipment_id = self.on_the_way.pop(number % len(self.on_the_way))
        return [messages.delivered(shipment_id=shipment_id, delivered_at=now)]

    def _cause(self) -> str:
        self.causes += 1
        return f"cause-{self.causes}"

    def _line(self, truth: Truth, cause: str) -> dict[str, Any]:
        self.backorders += 1
        return {"version": self.backorders, "line_no": truth.line_no, "sku": truth.sku, "caused_by": cause}

    def _created(self, truth: Truth, units: int, reason: str, cause: str) -> Event:
        return messages.created(
            **self._line(truth, cause),
            quantity=units,
            quantity_waiting=truth.waiting,
            quantity_ordered=truth.ordered,
            quantity_allocated=truth.allocated,
            reason=reason,
            promised_at=truth.promised_at,
        )

    def _revoked(self, truth: Truth, units: int, reason: str, cause: str) -> Event:
        self.allocations += 1
        of_line: dict[str, Any] = {"line_no": truth.line_no, "sku": truth.sku, "caused_by": cause}
        return messages.revoked(version=self.allocations, quantity=units, reason=reason, **of_line)

    def _released(self, units: dict[int, int], cause: str) -> Event:
        self.allocations += 1
        return messages.released(version=self.allocations, units=units, caused_by=cause)


def at(number: int | None) -> datetime | None:
    """Noon of a day; None: not known."""
    if number is None:
        return None
    return datetime.combine(FIRST_DAY, messages.NOON.timetz()) + timedelta(days=number)


def _some(number: int, there: int) -> int:
    return 1 + number % there if there > 0 else 0
