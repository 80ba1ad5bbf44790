"""The rows a batch works on, as plain values: pools, supplies, orders, lines, and what was seen before.

`State` is what `allocation.decide` reads. It need not hold a whole queue: the store loads the first lines of it, as
many as there may be units to give, and says in `horizons` how far it read, so that no line behind can be served early.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from backorder_allocator.promises import Cause, Coming, Lead
from backorder_schemas import LinesShipped, OrderCancelled

MovementKind = Literal["received", "adjusted", "counted"]


class PoolKey(NamedTuple):
    """The name of a pool: the thing that has stock, a queue and promises."""

    sku: str
    location: str


class MovementKey(NamedTuple):
    """The natural key of something that changed on hand: a receipt, an adjustment or a count."""

    kind: MovementKind
    document_id: str
    pool: PoolKey


class SupplyKey(NamedTuple):
    """The natural key of a supply: what a supplier announced."""

    supply_id: str
    sku: str


class FulfilmentKey(NamedTuple):
    """The natural key of what the warehouse or the carrier said about an order."""

    kind: Literal["shipped", "delivered"]
    shipment_id: str
    order_id: str


Rank = tuple[datetime, str, int]
"""The place in a queue: (ranked_at, order_id, line_no). Ids compare by code point, which is UTF-8 byte order."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one SKU. Revision 0 is the default of the settings."""

    backorders: Literal["allow", "deny", "preorder"] = "allow"
    waiting_limit: int | None = None
    max_wait_days: int | None = None
    safety_stock: int = 0
    low_stock_at: int | None = None
    release_at: datetime | None = None
    default_lead_time_days: int | None = None
    substitutes: tuple[str, ...] = ()
    revision: int = 0


DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """The newest policy of a SKU. `over`: its pre-order has ended, by its timer or because its date had passed."""

    policy: Policy
    fingerprint: bytes
    over: bool = False


@dataclass(slots=True)
class Pool:
    """Stock and queue of one pool, in units. `pool_id` is None until the store has a row for it."""

    key: PoolKey
    pool_id: int | None = None
    on_hand: int = 0
    allocated: int = 0
    """Allocated and not yet shipped."""
    waiting: int = 0
    counted_at: datetime | None = None
    policy: Policy = DEFAULT_POLICY
    safety_stock: int = 0
    """Of the policy when it was applied to this pool: a changed default serves nobody by itself."""
    over: bool = False
    """The pre-order of the policy has ended."""
    named: bool = False
    """An order, stock or a supply has named it; rows are made before that, to have something to lock."""
    low: bool = False
    """LowStock was said, and stock was not above the mark since."""
    causes: frozenset[Cause] = frozenset()
    """What may have moved promises since the planner last ran."""

    @property
    def unassigned(self) -> int:
        """What promises start from: negative where allocations or the safety stock lack units."""
        return self.on_hand - self.allocated - self.safety_stock

    @property
    def available(self) -> int:
        return max(0, self.on_hand - self.allocated - self.safety_stock)

    def takes_preorders(self, now: datetime) -> bool:
        """Whether pre-order is on: units wait or are held until `release_at`."""
        policy = self.policy
        return (
            policy.backorders == "preorder"
            and not self.over
            and policy.release_at is not None
            and now < policy.release_at
        )

    def release_at(self, now: datetime) -> datetime | None:
        """Until when units wait or are held for a pre-order; None where none is on."""
        return self.policy.release_at if self.takes_preorders(now) else None

    def copy(self) -> "Pool":
        return Pool(
            self.key,
            self.pool_id,
            self.on_hand,
            self.allocated,
            self.waiting,
            self.counted_at,
            self.policy,
            self.safety_stock,
            self.over,
            self.named,
            self.low,
            self.causes,
        )


@dataclass(slots=True)
class Supply:
    """What a supplier announced for one pool, in units. Revision 0: only receipts have named it yet."""

    key: SupplyKey
    revision: int = 0
    pool: PoolKey | None = None
    quantity: int = 0
    received: int = 0
    """By all receipts that name it, at any location, whenever they came."""
    expected_at: datetime | None = None
    first_expected_at: datetime | None = None
    """What the supplier promised first: lateness is measured against it."""
    supplier: str | None = None
    cancelled: bool = False
    overdue: bool = False
    """Its timer has said so for this revision."""
    fingerprint: bytes = b""

    @property
    def to_come(self) -> int:
        return 0 if self.cancelled else max(0, self.quantity - self.received)

    def coming(self, now: datetime) -> Coming | None:
        """As promises see it; None when nothing more comes."""
        if self.expected_at is None or not self.to_come:
            return None
        overdue = self.overdue or self.expected_at < now
        return Coming(self.key.supply_id, self.to_come, self.expected_at, overdue)

    def copy(self) -> "Supply":
        return Supply(
            self.key,
            self.revision,
            self.pool,
            self.quantity,
            self.received,
            self.expected_at,
            self.first_expected_at,
            self.supplier,
            self.cancelled,
            self.overdue,
            self.fingerprint,
        )


@dataclass(slots=True)
class Line:
    """One SKU of one order, in units. Always ordered = allocated + waiting + cancelled + rejected."""

    rank: Rank
    pool: PoolKey
    ordered: int
    allocated: int = 0
    waiting: int = 0
    cancelled: int = 0
    rejected: int = 0
    shipped: int = 0
    releases: tuple[tuple[int, int], ...] = ()
    """(release_no, units) for what was released and neither revoked nor shipped, oldest first."""
    promised_at: datetime | None = None
    """The date last published."""
    first_promised_at: datetime | None = None
    lead: Lead | None = None

    @property
    def order_id(self) -> str:
        return self.rank[1]

    @property
    def line_no(self) -> int:
        return self.rank[2]

    @property
    def released(self) -> int:
        return sum(units for _, units in self.releases) if self.releases else 0

    @property
    def held(self) -> int:
        """Units that are allocated and may not ship yet."""
        released = sum(units for _, units in self.releases) if self.releases else 0
        return self.allocated - self.shipped - released

    def copy(self) -> "Line":
        return Line(
            self.rank,
            self.pool,
            self.ordered,
            self.allocated,
            self.waiting,
            self.cancelled,
            self.rejected,
            self.shipped,
            self.releases,
            self.promised_at,
            self.first_promised_at,
            self.lead,
        )


@dataclass(slots=True)
class Order:
    """An order and its lines by number. A *stub* (placed_at None): only a cancel or a shipment has named it yet."""

    order_id: str
    placed_at: datetime | None = None
    ranked_at: datetime | None = None
    head_start: timedelta = timedelta(0)
    head_start_reason: str | None = None
    delivery: Literal["split", "complete"] = "split"
    customer_id: str | None = None
    fingerprint: bytes | None = None
    release_no: int = 0
    allocations_version: int = 0
    backorders_version: int = 0
    escalates_at: datetime | None = None
    """When a `complete` order becomes `split`; None: no timer was set."""
    escalated: bool = False
    lines: dict[int, Line] = field(default_factory=dict)
    early_cancels: tuple[OrderCancelled, ...] = ()
    """Cancels that came before the order."""
    early_shipments: tuple[LinesShipped, ...] = ()
    """Shipments that came before the order, in the order they came."""

    def copy(self) -> "Order":
        return Order(
            self.order_id,
            self.placed_at,
            self.ranked_at,
            self.head_start,
            self.head_start_reason,
            self.delivery,
            self.customer_id,
            self.fingerprint,
            self.release_no,
            self.allocations_version,
            self.backorders_version,
            self.escalates_at,
            self.escalated,
            {number: line.copy() for number, line in self.lines.items()},
            self.early_cancels,
            self.early_shipments,
        )


@dataclass(slots=True)
class State:
    """What one decision may read: every row that its messages can touch."""

    pools: dict[PoolKey, Pool] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    supplies: dict[SupplyKey, Supply] = field(default_factory=dict)
    """Those that messages name, and all of the pools above that have units to come."""
    policies: dict[str, StoredPolicy] = field(default_factory=dict)
    """Of SKUs whose policy messages change; a pool carries its own."""
    movements: dict[MovementKey, bytes] = field(default_factory=dict)
    """Natural key → fingerprint of the content."""
    cancels: dict[str, bytes] = field(default_factory=dict)
    """Message id → fingerprint of the content."""
    fulfilments: dict[FulfilmentKey, bytes] = field(default_factory=dict)
    """Natural key → fingerprint of the content."""
    horizons: dict[PoolKey, Rank | None] = field(default_factory=dict)
    """For pools whose queue is longer than what is loaded: the last rank up to which it is loaded whole (None: not)."""
    ahead: dict[PoolKey, dict[Rank, int]] = field(default_factory=dict)
    """For those pools where dates depend on the place: units that wait ahead of a rank, now; all wait ahead of a rank
    that is left out."""
    orders_waiting: dict[PoolKey, int] = field(default_factory=dict)
    """For those pools whose supply's timer is due: how many orders wait."""

    def copy(self) -> "State":
        return State(
            {key: pool.copy() for key, pool in self.pools.items()},
            {order_id: order.copy() for order_id, order in self.orders.items()},
            {key: supply.copy() for key, supply in self.supplies.items()},
            dict(self.policies),
            dict(self.movements),
            dict(self.cancels),
            dict(self.fulfilments),
            dict(self.horizons),
            self.ahead,
            self.orders_waiting,
        )


class Queue:
    """The waiting lines of one pool in rank order."""

    __slots__ = ("_first", "_lines", "_ranks")

    def __init__(self, lines: list[Line]) -> None:
        self._lines = sorted(lines, key=lambda line: line.rank)
        self._ranks = [line.rank for line in self._lines]
        self._first = 0
        """Those before it were served. Taking them out would move all behind them, for each of a hundred thousand."""

    def first(self) -> Line | None:
        return self._lines[self._first] if self._first < len(self._lines) else None

    def join(self, line: Line) -> None:
        """Take a line in at its rank; one that is in already stays where it is."""
        at = bisect_left(self._ranks, line.rank, self._first)
        if at == len(self._ranks) or self._ranks[at] != line.rank:
            self._lines.insert(at, line)
            self._ranks.insert(at, line.rank)

    def leave(self, line: Line) -> None:
        at = bisect_left(self._ranks, line.rank, self._first)
        if at == self._first:
            self._first += 1
        else:
            del self._lines[at], self._ranks[at]
