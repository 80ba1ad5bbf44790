"""What goes into a decision and what comes out of it, as plain values."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from backorder_allocator.promises import PromiseRules
from backorder_allocator.ranking import HeadStartRules
from backorder_allocator.state import (
    FulfilmentKey,
    Line,
    MovementKey,
    Order,
    Policy,
    Pool,
    PoolKey,
    State,
    StoredPolicy,
    Supply,
    SupplyKey,
)
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LinesDelivered,
    LinesShipped,
    LowStock,
    OrderCancelled,
    OrderPlaced,
    PromiseChanged,
    ShipmentMismatch,
    SkuAvailability,
    SkuPolicyChanged,
    StockAdjusted,
    StockCounted,
    StockReceived,
    StockShortfall,
    SupplyCancelled,
    SupplyExpected,
    SupplyOverdue,
)


class EscalationDue(NamedTuple):
    """A `complete` order has waited long enough: it becomes `split`."""

    order_id: str

    @property
    def cause(self) -> str:
        return f"timer:escalate:{self.order_id}"


class ReleaseDue(NamedTuple):
    """The release date of a pre-order has come."""

    sku: str

    @property
    def cause(self) -> str:
        return f"timer:release:{self.sku}"


class SupplyDue(NamedTuple):
    """The date of a supply has passed."""

    supply_id: str
    sku: str

    @property
    def cause(self) -> str:
        return f"timer:overdue:{self.sku}:{self.supply_id}"


LONGEST_ID: Final = 200
"""Characters of an id in messages."""
Timer = EscalationDue | ReleaseDue | SupplyDue
StockMessage = StockReceived | StockAdjusted | StockCounted
Message = (
    OrderPlaced
    | OrderCancelled
    | StockMessage
    | SupplyExpected
    | SupplyCancelled
    | SkuPolicyChanged
    | LinesShipped
    | LinesDelivered
)
Topic = Literal["allocations", "backorders", "availability", "stock-alerts"]
Decided = (
    type[AllocationReleased]
    | type[AllocationRevoked]
    | type[BackorderCreated]
    | type[BackorderFilled]
    | type[BackorderCancelled]
    | type[BackorderRejected]
    | type[PromiseChanged]
    | type[SkuAvailability]
    | type[LowStock]
    | type[StockShortfall]
    | type[SupplyOverdue]
    | type[ShipmentMismatch]
)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a shop, from its settings. What a rule gave is stored: a changed setting affects new demand."""

    head_starts: HeadStartRules = field(default_factory=HeadStartRules)
    promises: PromiseRules = field(default_factory=PromiseRules)
    default_policy: Policy = field(default_factory=Policy)
    escalates_after: timedelta | None = None
    """From placed_at until a `complete` order that still waits becomes `split`."""


@dataclass(frozen=True, slots=True)
class Input:
    """One message and *now*: the timestamp of its record; or a timer and when it was due."""

    message: Message | Timer
    now: datetime
    traceparent: str | None = None

    @property
    def cause(self) -> str:
        """What `caused_by` of its events says."""
        message = self.message
        if isinstance(message, EscalationDue | ReleaseDue | SupplyDue):
            # Each of the ids in it may be as long as `caused_by`.
            return message.cause[:LONGEST_ID]
        return message.id


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message. `reason` and `detail` say why a message can never be used, or was ignored."""

    kind: Literal["applied", "duplicate", "ignored", "dead_letter"]
    reason: str = ""
    detail: str = ""


APPLIED = Outcome("applied")
DUPLICATE = Outcome("duplicate")


@dataclass(slots=True)
class Event:
    """A decision event before it is sealed: `fields` are those of its message without id, version and epoch.

    `version` counts per (topic, key). It is 0 on `stock-alerts`, where the store counts, since pools of one SKU decided
    in two transactions share a key. `why` is what bound the decision; it is kept for `explain` and not published.
    """

    kind: Decided
    topic: Topic
    key: str
    fields: dict[str, Any]
    now: datetime
    caused_by: str
    traceparent: str | None
    version: int = 0
    why: dict[str, Any] | None = None


@dataclass(slots=True)
class Movement:
    """A change of on hand, in units, by a receipt, an adjustment or a count."""

    key: MovementKey
    quantity: int
    fingerprint: bytes
    now: datetime
    caused_by: str
    supply_id: str | None = None
    supplier: str | None = None


@dataclass(slots=True)
class Cancel:
    """A cancel that was taken; `early` when it came before its order."""

    message: OrderCancelled
    fingerprint: bytes
    early: bool
    now: datetime


@dataclass(slots=True)
class Fulfilment:
    """A shipment or delivery that was taken; `early` when it came before its order and waits for it."""

    message: LinesShipped | LinesDelivered
    key: FulfilmentKey
    fingerprint: bytes
    early: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class LateLetter:
    """A shipment that waited for its order and turned out impossible when the order came."""

    key: FulfilmentKey
    reason: str
    detail: str


@dataclass(slots=True)
class Decision:
    """The state after the messages, what became of each, the events in log order, and the rows that changed."""

    state: State
    outcomes: list[Outcome] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    fulfilments: list[Fulfilment] = field(default_factory=list)
    booked_shipments: list[FulfilmentKey] = field(default_factory=list)
    """Shipments that waited for their order and are booked now, or refused."""
    late_letters: list[LateLetter] = field(default_factory=list)
    pools: dict[PoolKey, Pool] = field(default_factory=dict)
    supplies: dict[SupplyKey, Supply] = field(default_factory=dict)
    policies: dict[str, StoredPolicy] = field(default_factory=dict)
    timers: dict[Timer, datetime | None] = field(default_factory=dict)
    """Set to this time, or taken away (None)."""
    new_orders: dict[str, Order] = field(default_factory=dict)
    """Orders (with all their lines) that had no row before."""
    changed_orders: dict[str, Order] = field(default_factory=dict)
    new_lines: dict[tuple[str, int], Line] = field(default_factory=dict)
    changed_lines: dict[tuple[str, int], Line] = field(default_factory=dict)
