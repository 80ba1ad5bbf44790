"""Who gets which unit: the rules of DESIGN §3 as one pure function over rows.

`decide` takes messages one by one in the order received, so that `decide(state, [a, b])` equals deciding `a` and then
`b`: batch size, restarts and redelivery never change who gets what. It reads no clock and no random number; *now* comes
with each message. Every unit is in one place at any moment: ordered = allocated + waiting + cancelled + rejected.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, assert_never

from backorder_allocator.fingerprints import fingerprint
from backorder_allocator.ranking import HeadStartRules, head_start, ranked_at, storable
from backorder_allocator.state import Line, MovementKey, Order, Pool, PoolKey, Queue, State
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    ReleasedLine,
    StockAdjusted,
    StockCounted,
    StockReceived,
    StockShortfall,
)

LINES_PER_RELEASE = 500

Message = OrderPlaced | OrderCancelled | StockReceived | StockAdjusted | StockCounted
Topic = Literal["allocations", "backorders", "stock-alerts"]
Decided = (
    type[AllocationReleased]
    | type[AllocationRevoked]
    | type[BackorderCreated]
    | type[BackorderFilled]
    | type[BackorderCancelled]
    | type[BackorderRejected]
    | type[StockShortfall]
)


@dataclass(frozen=True, slots=True)
class Input:
    """One message and *now*: the timestamp of its record."""

    message: Message
    now: datetime
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message. `reason` and `detail` say why a message can never be used."""

    kind: Literal["applied", "duplicate", "ignored", "dead_letter"]
    reason: str = ""
    detail: str = ""


APPLIED = Outcome("applied")
DUPLICATE = Outcome("duplicate")


@dataclass(slots=True)
class Event:
    """A decision event before it is sealed: `fields` are those of its message without id, version and epoch.

    `version` counts per (topic, key). It is 0 on `stock-alerts`, where the store counts, since pools of one SKU decided
    in two transactions share a key.
    """

    kind: Decided
    topic: Topic
    key: str
    fields: dict[str, Any]
    now: datetime
    caused_by: str
    traceparent: str | None
    version: int = 0


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
class Decision:
    """The state after the messages, what became of each, the events in log order, and the rows that changed."""

    state: State
    outcomes: list[Outcome] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    pools: dict[PoolKey, Pool] = field(default_factory=dict)
    new_orders: dict[str, Order] = field(default_factory=dict)
    """Orders (with all their lines) that had no row before."""
    changed_orders: dict[str, Order] = field(default_factory=dict)
    new_lines: dict[tuple[str, int], Line] = field(default_factory=dict)
    changed_lines: dict[tuple[str, int], Line] = field(default_factory=dict)


class IncompleteStateError(Exception):
    """A bug: the state holds less of a pool than its messages can touch."""


def decide(state: State, inputs: Sequence[Input], rules: HeadStartRules) -> Decision:
    """Apply messages one by one to a copy of `state`; `state` itself stays as it is."""
    work = _Work(Decision(state.copy()), rules)
    for item in inputs:
        work.decision.outcomes.append(work.take(item))
    return work.decision


class _Work:
    """One decision in the making: the working copy, its queues, and the events of the message in hand."""

    def __init__(self, decision: Decision, rules: HeadStartRules) -> None:
        self.decision = decision
        self.state = decision.state
        self.rules = rules
        self.queues: dict[PoolKey, Queue] = {}
        waiting: dict[PoolKey, list[Line]] = {}
        for order in self.state.orders.values():
            for line in order.lines.values():
                if line.waiting:
                    waiting.setdefault(line.pool, []).append(line)
        for key, lines in waiting.items():
            self.queues[key] = Queue(lines)
        self.item: Input
        self.events: list[Event] = []
        self.touched: dict[str, Order] = {}

    def take(self, item: Input) -> Outcome:
        self.item = item
        self.events = []
        self.touched = {}
        message = item.message
        match message:
            case OrderPlaced():
                outcome = self.place(message)
            case OrderCancelled():
                outcome = self.cancel(message)
            case StockReceived() | StockAdjusted() | StockCounted():
                outcome = self.move_stock(message)
            case _:
                assert_never(message)
        for order in self.touched.values():
            self.release(order)
        self.close_message()
        return outcome

    # ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────

    def place(self, message: OrderPlaced) -> Outcome:
        content = fingerprint(message)
        order = self.state.orders.get(message.order_id)
        if order is not None and order.fingerprint is not None:
            return _again(order.fingerprint == content, f"order {message.order_id} was placed with other content")
        if order is None:
            order = Order(message.order_id)
            self.state.orders[order.order_id] = order
            self.decision.new_orders[order.order_id] = order
        else:
            self.change(order)
        start = head_start(message, self.rules)
        order.placed_at = storable(min(message.placed_at, self.item.now))
        order.ranked_at = ranked_at(order.placed_at, start)
        order.head_start, order.head_start_reason = start.duration, start.reason
        order.delivery = message.delivery
        order.customer_id = message.customer.customer_id
        order.fingerprint = content
        ordered = sorted(message.lines, key=lambda each: each.line_no)
        for each in ordered:
            line = Line(
                (order.ranked_at, order.order_id, each.line_no), PoolKey(each.sku, each.location), each.quantity
            )
            order.lines[each.line_no] = line
            self.decision.new_lines[order.order_id, each.line_no] = line
        for early in order.early_cancels:
            for line, units in _named_units(order, early):
                line.cancelled += min(units, line.ordered - line.cancelled)
        for each in ordered:
            self.begin(order, order.lines[each.line_no], each)
        self.touched[order.order_id] = order
        return APPLIED

    def begin(self, order: Order, line: Line, asked: OrderLine) -> None:
        """Give a new line what is there now; the rest waits or is rejected."""
        pool = self.pool(line.pool)
        wanted = line.ordered - line.cancelled
        # Nobody who arrives later takes what a waiting customer is owed.
        line.allocated = 0 if pool.waiting else min(wanted, pool.available)
        pool.allocated += line.allocated
        rest = wanted - line.allocated
        if not rest:
            return
        if asked.accepts_backorder:
            self.wait(order, line, rest, "ordered")
        else:
            line.rejected += rest
            self.tell(BackorderRejected, order, line, quantity=rest, reason="not_accepted", substitutes=())

    def wait(self, order: Order, line: Line, units: int, reason: Literal["ordered", "stock_lost"]) -> None:
        line.waiting += units
        self.pool(line.pool).waiting += units
        queue = self.queues.get(line.pool)
        if queue is None:
            queue = self.queues[line.pool] = Queue([])
        queue.join(line)
        self.tell(
            BackorderCreated,
            order,
            line,
            quantity=units,
            quantity_waiting=line.waiting,
            quantity_ordered=line.ordered,
            quantity_allocated=line.allocated,
            kind="backorder",
            reason=reason,
            promised_at=None,
            substitutes=(),
        )

    def cancel(self, message: OrderCancelled) -> Outcome:
        content = fingerprint(message)
        seen = self.state.cancels.get(message.id)
        if seen is not None:
            return _again(seen == content, f"cancel {message.id} was sent with other content")
        order = self.state.orders.get(message.order_id)
        if order is not None and order.placed_at is not None:
            unknown = [each.line_no for each in message.lines or () if each.line_no not in order.lines]
            if unknown:
                return Outcome("dead_letter", "impossible", f"order {order.order_id} has no line {unknown[0]}")
        early = order is None or order.placed_at is None
        self.state.cancels[message.id] = content
        self.decision.cancels.append(Cancel(message, content, early, self.item.now))
        if order is None:
            order = Order(message.order_id)
            self.state.orders[order.order_id] = order
            self.decision.new_orders[order.order_id] = order
        if early:
            order.early_cancels += (message,)
            return APPLIED
        # All lines are booked before freed stock serves the queue: else a line that is about to be cancelled could be
        # filled by another line of the same message.
        freed: dict[PoolKey, None] = {}
        for line, units in _named_units(order, message):
            if self.cancel_line(order, line, units, message.by):
                freed[line.pool] = None
        for key in freed:
            self.serve(self.pool(key))
        self.touched.setdefault(order.order_id, order)
        return APPLIED

    def cancel_line(self, order: Order, line: Line, units: int, by: str) -> bool:
        """Cancel up to `units` open units: waiting ones first, then held, then released. True if stock was freed."""
        from_waiting = min(units, line.waiting)
        from_allocated = min(units - from_waiting, line.allocated - line.shipped)
        if not from_waiting and not from_allocated:
            return False
        if from_allocated:
            self.take_back(order, line, from_allocated, "cancelled")
        if from_waiting:
            # A cancelled backorder frees demand, not supply: it fills nobody.
            line.waiting -= from_waiting
            self.pool(line.pool).waiting -= from_waiting
            if not line.waiting:
                self.queues[line.pool].leave(line)
            self.tell(BackorderCancelled, order, line, quantity=from_waiting, quantity_waiting=line.waiting, by=by)
        line.cancelled += from_waiting + from_allocated
        self.change_line(line)
        return from_allocated > 0

    def take_back(self, order: Order, line: Line, units: int, reason: Literal["cancelled", "stock_lost"]) -> None:
        """Take allocated units from a line: held ones first, then the newest release first."""
        from_held = min(units, line.held)
        self.pool(line.pool).allocated -= units
        line.allocated -= units
        if from_held:
            self.tell(AllocationRevoked, order, line, release_no=None, quantity=from_held, reason=reason)
        left = units - from_held
        while left:
            release_no, released = line.releases[-1]
            revoked = min(left, released)
            kept = ((release_no, released - revoked),) if revoked < released else ()
            line.releases = (*line.releases[:-1], *kept)
            left -= revoked
            self.tell(AllocationRevoked, order, line, release_no=release_no, quantity=revoked, reason=reason)
        self.change_line(line)

    # ── stock ────────────────────────────────────────────────────────────────────────────────────────────────────

    def move_stock(self, message: StockReceived | StockAdjusted | StockCounted) -> Outcome:
        key = movement_key(message)
        pool = self.pool(key.pool)
        movement = Movement(key, 0, fingerprint(message), self.item.now, message.id)
        seen = self.state.movements.get(movement.key)
        if seen is not None:
            what = f"{movement.key.kind} {movement.key.document_id} of {message.sku} at {message.location}"
            return _again(seen == movement.fingerprint, f"{what} was sent with other content")
        self.state.movements[movement.key] = movement.fingerprint
        self.decision.movements.append(movement)
        match message:
            case StockReceived():
                movement.quantity = message.quantity
                movement.supply_id, movement.supplier = message.supply_id, message.supplier
            case StockAdjusted():
                movement.quantity = message.delta
            case StockCounted():
                counted_at = storable(message.occurred_at)
                if pool.counted_at is not None and counted_at < pool.counted_at:
                    return Outcome("ignored", "older_count")
                pool.counted_at = counted_at
                movement.quantity = message.counted - pool.on_hand
            case _:
                assert_never(message)
        pool.on_hand += movement.quantity
        lost = pool.allocated - max(0, pool.on_hand)
        if lost > 0:
            self.lose(pool, lost)
        else:
            self.serve(pool)
        return APPLIED

    def serve(self, pool: Pool) -> None:
        """Fill waiting lines in rank order until nothing is available."""
        queue = self.queues.get(pool.key)
        while pool.waiting and pool.available:
            line = queue.first() if queue else None
            if line is None or queue is None or self.beyond_horizon(line):
                raise IncompleteStateError(f"the queue of {pool.key} is longer than what was loaded")
            units = min(pool.available, line.waiting)
            pool.allocated += units
            pool.waiting -= units
            line.allocated += units
            line.waiting -= units
            if not line.waiting:
                queue.leave(line)
            self.change_line(line)
            order = self.state.orders[line.order_id]
            self.touched.setdefault(order.order_id, order)
            # Whether the units are held shows when the message is done: another line of the order may be filled too.
            self.tell(BackorderFilled, order, line, quantity=units, quantity_waiting=line.waiting, held=None)

    def beyond_horizon(self, line: Line) -> bool:
        if line.pool not in self.state.horizons:
            return False
        horizon = self.state.horizons[line.pool]
        return horizon is None or line.rank > horizon

    def lose(self, pool: Pool, units: int) -> None:
        """Send allocated units back to the queue: last in rank first, those not yet released before all others."""
        lines = [
            line
            for order in self.state.orders.values()
            for line in order.lines.values()
            if line.pool == pool.key and line.allocated > line.shipped
        ]
        lines.sort(key=lambda line: line.rank, reverse=True)
        taken: dict[int, int] = {}
        left = units
        for of_class in ("held", "released"):
            for index, line in enumerate(lines):
                there = line.held if of_class == "held" else line.released
                taken[index] = taken.get(index, 0) + min(left, there)
                left -= min(left, there)
        if left:
            raise IncompleteStateError(f"{pool.key} lost {units} units, {left} of them allocated to no loaded line")
        for index, from_line in taken.items():
            if from_line:
                line = lines[index]
                order = self.state.orders[line.order_id]
                self.take_back(order, line, from_line, "stock_lost")
                self.wait(order, line, from_line, "stock_lost")
                self.touched.setdefault(order.order_id, order)
        self.events.append(
            self.event(
                StockShortfall,
                "stock-alerts",
                pool.key.sku,
                {"sku": pool.key.sku, "location": pool.key.location, "quantity": units},
            )
        )

    # ── releases, events, bookkeeping ────────────────────────────────────────────────────────────────────────────

    def release(self, order: Order) -> None:
        """Let the held units of an order ship if its delivery rule allows it: at most once for each message."""
        waits = any(line.waiting for line in order.lines.values())
        if order.delivery == "complete" and waits:
            return
        held = [(number, line, line.held) for number, line in sorted(order.lines.items()) if line.held]
        for start in range(0, len(held), LINES_PER_RELEASE):
            part = held[start : start + LINES_PER_RELEASE]
            order.release_no += 1
            for _, line, units in part:
                line.releases = (*line.releases, (order.release_no, units))
                self.change_line(line)
            lines = tuple(
                ReleasedLine(line_no=number, sku=line.pool.sku, location=line.pool.location, quantity=units)
                for number, line, units in part
            )
            is_last = start + LINES_PER_RELEASE >= len(held)
            fields = {
                "order_id": order.order_id,
                "customer_id": order.customer_id,
                "release_no": order.release_no,
                "lines": lines,
                "complete": is_last and not waits,
            }
            self.events.append(self.event(AllocationReleased, "allocations", order.order_id, fields))

    def close_message(self) -> None:
        """Say which fills are held, now that releases are known, and count versions in the order of the events."""
        for event in self.events:
            if event.topic == "stock-alerts":
                continue
            order = self.state.orders[event.key]
            if event.topic == "allocations":
                order.allocations_version += 1
                event.version = order.allocations_version
            else:
                order.backorders_version += 1
                event.version = order.backorders_version
            if event.kind is BackorderFilled and order.lines[event.fields["line_no"]].held:
                event.fields["held"] = "complete"
            self.change(order)
        self.decision.events.extend(self.events)

    def tell(self, kind: Decided, order: Order, line: Line, /, **fields: Any) -> None:
        about = {
            "order_id": order.order_id,
            "customer_id": order.customer_id,
            "line_no": line.line_no,
            "sku": line.pool.sku,
            "location": line.pool.location,
        }
        topic: Topic = "allocations" if kind is AllocationRevoked else "backorders"
        self.events.append(self.event(kind, topic, order.order_id, about | fields))

    def event(
        self,
        kind: Decided,
        topic: Topic,
        key: str,
        fields: dict[str, Any],
    ) -> Event:
        return Event(kind, topic, key, fields, self.item.now, self.item.message.id, self.item.traceparent)

    def pool(self, key: PoolKey) -> Pool:
        """The pool by its name; one that nobody named before begins empty."""
        pool = self.state.pools.get(key)
        if pool is None:
            pool = self.state.pools[key] = Pool(key)
        self.decision.pools[key] = pool
        return pool

    def change(self, order: Order) -> None:
        if order.order_id not in self.decision.new_orders:
            self.decision.changed_orders[order.order_id] = order

    def change_line(self, line: Line) -> None:
        name = (line.order_id, line.line_no)
        if name not in self.decision.new_lines:
            self.decision.changed_lines[name] = line


def _again(same: bool, difference: str) -> Outcome:
    """The outcome of a message whose natural key was seen before."""
    return DUPLICATE if same else Outcome("dead_letter", "conflicting_duplicate", difference)


def _named_units(order: Order, message: OrderCancelled) -> list[tuple[Line, int]]:
    """The lines a cancel names, with the most units it takes from each. Lines the order doesn't have are left out."""
    lines = [line for _, line in sorted(order.lines.items())]
    if message.lines is None:
        return [(line, line.ordered) for line in lines]
    # A line that is named twice is one cancel of the sum, so that its events come once and in their order.
    named: dict[int, int] = {}
    for each in message.lines:
        if each.line_no in order.lines:
            units = each.quantity or order.lines[each.line_no].ordered
            named[each.line_no] = named.get(each.line_no, 0) + units
    return [(line, named[line.line_no]) for line in lines if line.line_no in named]


def movement_key(message: StockReceived | StockAdjusted | StockCounted) -> MovementKey:
    """The natural key of a message about stock."""
    pool = PoolKey(message.sku, message.location)
    match message:
        case StockReceived():
            return MovementKey("received", message.receipt_id, pool)
        case StockAdjusted():
            return MovementKey("adjusted", message.adjustment_id, pool)
        case StockCounted():
            return MovementKey("counted", message.count_id, pool)
        case _:
            assert_never(message)
