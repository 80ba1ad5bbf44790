"""The rows a batch works on, as plain values: pools, orders, lines, and what was seen before.

`State` is what `allocation.decide` reads. It need not hold a whole queue: the store loads the first lines of it, as
many as there may be units to give, and says in `horizons` how far it read, so that no line behind can be served early.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from backorder_schemas import OrderCancelled

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


Rank = tuple[datetime, str, int]
"""The place in a queue: (ranked_at, order_id, line_no). Ids compare by code point, which is UTF-8 byte order."""


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

    @property
    def available(self) -> int:
        return max(0, self.on_hand - self.allocated)

    def copy(self) -> "Pool":
        return Pool(self.key, self.pool_id, self.on_hand, self.allocated, self.waiting, self.counted_at)


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

    @property
    def order_id(self) -> str:
        return self.rank[1]

    @property
    def line_no(self) -> int:
        return self.rank[2]

    @property
    def released(self) -> int:
        return sum(units for _, units in self.releases)

    @property
    def held(self) -> int:
        """Units that are allocated and may not ship yet."""
        return self.allocated - self.shipped - self.released

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
        )


@dataclass(slots=True)
class Order:
    """An order and its lines by number. A *stub* (placed_at None) stands for an order that only a cancel has named."""

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
    lines: dict[int, Line] = field(default_factory=dict)
    early_cancels: tuple[OrderCancelled, ...] = ()
    """Cancels that came before the order."""

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
            {number: line.copy() for number, line in self.lines.items()},
            self.early_cancels,
        )


@dataclass(slots=True)
class State:
    """What one decision may read: every pool, order, movement and cancel that its messages can touch."""

    pools: dict[PoolKey, Pool] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    movements: dict[MovementKey, bytes] = field(default_factory=dict)
    """Natural key → fingerprint of the content."""
    cancels: dict[str, bytes] = field(default_factory=dict)
    """Message id → fingerprint of the content."""
    horizons: dict[PoolKey, Rank | None] = field(default_factory=dict)
    """For pools whose queue is longer than what is loaded: the last rank up to which it is loaded whole (None: not)."""

    def copy(self) -> "State":
        return State(
            {key: pool.copy() for key, pool in self.pools.items()},
            {order_id: order.copy() for order_id, order in self.orders.items()},
            dict(self.movements),
            dict(self.cancels),
            dict(self.horizons),
        )


class Queue:
    """The waiting lines of one pool in rank order."""

    __slots__ = ("_lines", "_ranks")

    def __init__(self, lines: list[Line]) -> None:
        self._lines = sorted(lines, key=lambda line: line.rank)
        self._ranks = [line.rank for line in self._lines]

    def first(self) -> Line | None:
        return self._lines[0] if self._lines else None

    def join(self, line: Line) -> None:
        """Take a line in at its rank; one that is in already stays where it is."""
        at = bisect_left(self._ranks, line.rank)
        if at == len(self._ranks) or self._ranks[at] != line.rank:
            self._lines.insert(at, line)
            self._ranks.insert(at, line.rank)

    def leave(self, line: Line) -> None:
        at = bisect_left(self._ranks, line.rank)
        del self._lines[at], self._ranks[at]
