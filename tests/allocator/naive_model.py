"""What the allocator must decide, written a second time and as plainly as it goes.

One message at a time over plain lists, every sum computed anew when it is needed. Written from the design and the
contract alone and imports nothing of the allocator, so that a mistake of one is not a mistake of both.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from backorder_schemas import OrderCancelled, OrderPlaced, StockAdjusted, StockCounted, StockReceived

Message = OrderPlaced | OrderCancelled | StockReceived | StockAdjusted | StockCounted
Pool = tuple[str, str]  # (sku, location)
Event = dict[str, object]

APPLIED, DUPLICATE, IGNORED = "applied", "duplicate", "ignored"
CONFLICT, IMPOSSIBLE = "conflicting_duplicate", "impossible"
LINES_IN_A_RELEASE = 500


@dataclass
class Line:
    """Where the units of one line are. `released` holds (release_no, units), the newest last."""

    order_id: str
    line_no: int
    pool: Pool
    ranked_at: datetime
    ordered: int
    waiting: int = 0
    held: int = 0
    cancelled: int = 0
    rejected: int = 0
    released: list[tuple[int, int]] = field(default_factory=list)

    @property
    def allocated(self) -> int:
        return self.held + sum(units for _, units in self.released)

    @property
    def rank(self) -> tuple[datetime, bytes, int]:
        return self.ranked_at, self.order_id.encode(), self.line_no

    def event(self, type_: str, **fields: object) -> Event:
        sku, location = self.pool
        about = {"order_id": self.order_id, "line_no": self.line_no, "sku": sku, "location": location}
        return {"type": type_, "key": self.order_id, **about, **fields}


@dataclass(frozen=True)
class Answer:
    """`outcome` is applied, duplicate, ignored or the reason of a dead letter."""

    outcome: str
    events: list[Event]


class NaiveModel:
    """`segments`: head start by segment. `values`: (from amount on, currency, head start)."""

    def __init__(
        self,
        segments: Mapping[str, timedelta] | None = None,
        values: Sequence[tuple[Decimal, str, timedelta]] = (),
    ) -> None:
        self.segments = dict(segments or {})
        self.values = list(values)
        self.on_hand: dict[Pool, int] = {}
        self.counted_at: dict[Pool, datetime] = {}
        self.lines: list[Line] = []
        self.complete_orders: set[str] = set()
        self.releases: dict[str, int] = {}  # order_id -> the last release_no; a key for every order that is known
        self.early_cancels: list[OrderCancelled] = []
        self.contents: dict[object, object] = {}  # natural key -> business fields
        self.events: list[Event] = []

    # -- what the outside sees

    def receive(self, message: Message, now: datetime) -> Answer:
        """Takes one message with the record's timestamp and answers with what it did."""
        self.events = []
        outcome = self._outcome(message, now)
        self._release()
        return Answer(outcome, self.events)

    def units_of_lines(self) -> dict[tuple[str, int], dict[str, object]]:
        return {
            (line.order_id, line.line_no): {
                "ordered": line.ordered,
                "waiting": line.waiting,
                "held": line.held,
                "released": dict(line.released),
                "cancelled": line.cancelled,
                "rejected": line.rejected,
                "ranked_at": line.ranked_at,
            }
            for line in self.lines
        }

    def units_of_pools(self) -> dict[Pool, dict[str, int]]:
        return {
            pool: {
                "on_hand": self.on_hand.get(pool, 0),
                "allocated": sum(line.allocated for line in self.lines if line.pool == pool),
                "waiting": sum(line.waiting for line in self.lines if line.pool == pool),
            }
            for pool in {*self.on_hand, *(line.pool for line in self.lines)}
        }

    # -- one message

    def _outcome(self, message: Message, now: datetime) -> str:
        key, content = natural_key(message), business_fields(message)
        if key in self.contents:
            return DUPLICATE if self.contents[key] == content else CONFLICT
        if isinstance(message, OrderCancelled) and self._names_an_unknown_line(message):
            return IMPOSSIBLE
        self.contents[key] = content

        if isinstance(message, OrderPlaced):
            self._place(message, now)
        elif isinstance(message, OrderCancelled):
            if message.order_id in self.releases:
                self._cancel(message)
            else:
                self.early_cancels.append(message)
        else:
            pool = (message.sku, message.location)
            before = self.on_hand.get(pool, 0)
            if isinstance(message, StockReceived):
                self.on_hand[pool] = before + message.quantity
            elif isinstance(message, StockAdjusted):
                self.on_hand[pool] = before + message.delta
            else:
                if pool in self.counted_at and message.occurred_at < self.counted_at[pool]:
                    return IGNORED
                self.counted_at[pool] = message.occurred_at
                self.on_hand[pool] = message.counted
            self._take_what_is_not_there(pool)
            self._serve(pool)
        return APPLIED

    def _place(self, order: OrderPlaced, now: datetime) -> None:
        ranked_at = min(order.placed_at, now) - self.head_start(order)
        self.releases[order.order_id] = 0
        if order.delivery == "complete":
            self.complete_orders.add(order.order_id)
        for placed in sorted(order.lines, key=lambda line: line.line_no):
            pool = (placed.sku, placed.location)
            line = Line(order.order_id, placed.line_no, pool, ranked_at, placed.quantity)
            line.cancelled = self._cancelled_early(line)
            somebody_waits = any(other.waiting for other in self.lines if other.pool == pool)
            available = 0 if somebody_waits else self._available(pool)
            self.lines.append(line)
            wanted = line.ordered - line.cancelled
            line.held = min(wanted, available)
            missing = wanted - line.held
            if missing and placed.accepts_backorder:
                line.waiting = missing
                self._say_created(line, missing, "ordered")
            elif missing:
                line.rejected = missing
                self.events.append(
                    line.event("BackorderRejected", quantity=missing, reason="not_accepted", substitutes=())
                )

    def _cancel(self, cancel: OrderCancelled) -> None:
        touched = []
        for line in self._lines_of(cancel.order_id):
            units = min(wanted_of(cancel, line), line.waiting + line.allocated)
            if not units:
                continue
            from_waiting = min(units, line.waiting)
            line.waiting -= from_waiting
            from_held = min(units - from_waiting, line.held)
            line.held -= from_held
            taken: list[tuple[int | None, int]] = [(None, from_held)] if from_held else []
            taken += take_released(line, units - from_waiting - from_held)
            line.cancelled += units
            self._say_revoked(line, taken, "cancelled")
            if from_waiting:
                self.events.append(
                    line.event("BackorderCancelled", quantity=from_waiting, quantity_waiting=line.waiting, by=cancel.by)
                )
            touched.append(line.pool)
        for pool in dict.fromkeys(touched):
            self._serve(pool)

    def _cancelled_early(self, line: Line) -> int:
        named = sum(wanted_of(cancel, line) for cancel in self.early_cancels if cancel.order_id == line.order_id)
        return min(line.ordered, named)

    def _names_an_unknown_line(self, cancel: OrderCancelled) -> bool:
        known = {line.line_no for line in self._lines_of(cancel.order_id)}
        known_order = cancel.order_id in self.releases
        return known_order and any(named.line_no not in known for named in cancel.lines or ())

    # -- stock that comes and goes

    def _serve(self, pool: Pool) -> None:
        available = self._available(pool)
        for line in sorted((line for line in self.lines if line.pool == pool), key=lambda line: line.rank):
            units = min(line.waiting, available)
            if units:
                available -= units
                line.waiting -= units
                line.held += units
                self.events.append(
                    line.event("BackorderFilled", quantity=units, quantity_waiting=line.waiting, held=None)
                )

    def _take_what_is_not_there(self, pool: Pool) -> None:
        last_first = sorted(
            (line for line in self.lines if line.pool == pool), key=lambda line: line.rank, reverse=True
        )
        missing = sum(line.allocated for line in last_first) - max(0, self.on_hand[pool])
        if missing <= 0:
            return
        sku, location = pool
        self.events.append(
            {"type": "StockShortfall", "key": sku, "sku": sku, "location": location, "quantity": missing}
        )
        taken: dict[tuple[str, int], list[tuple[int | None, int]]] = {}
        for line in last_first:
            units = min(line.held, missing)
            line.held -= units
            missing -= units
            taken[line.order_id, line.line_no] = [(None, units)] if units else []
        for line in last_first:
            from_released = take_released(line, min(missing, line.allocated - line.held))
            missing -= sum(units for _, units in from_released)
            taken[line.order_id, line.line_no] += from_released
        for line in last_first:
            lost = taken[line.order_id, line.line_no]
            if lost:
                units = sum(units for _, units in lost)
                line.waiting += units
                self._say_revoked(line, lost, "stock_lost")
                self._say_created(line, units, "stock_lost")

    def _available(self, pool: Pool) -> int:
        return max(0, self.on_hand.get(pool, 0) - sum(line.allocated for line in self.lines if line.pool == pool))

    def _release(self) -> None:
        """At the end of a message: release what may go, then say which fills of this message are still held."""
        for order_id in self.releases:
            lines = self._lines_of(order_id)
            waits = any(line.waiting for line in lines)
            if order_id in self.complete_orders and waits:
                continue
            going = sorted((line for line in lines if line.held), key=lambda line: line.line_no)
            while going:
                part, going = going[:LINES_IN_A_RELEASE], going[LINES_IN_A_RELEASE:]
                self._release_part(order_id, part, complete=not waits and not going)
        for event in self.events:
            if event["type"] == "BackorderFilled":
                [line] = [line for line in self._lines_of(str(event["key"])) if line.line_no == event["line_no"]]
                event["held"] = "complete" if line.held else None

    def _release_part(self, order_id: str, part: list[Line], *, complete: bool) -> None:
        release_no = self.releases[order_id] = self.releases[order_id] + 1
        said = []
        for line in part:
            sku, location = line.pool
            said.append({"line_no": line.line_no, "sku": sku, "location": location, "quantity": line.held})
            line.released.append((release_no, line.held))
            line.held = 0
        about = {"type": "AllocationReleased", "key": order_id, "order_id": order_id}
        self.events.append({**about, "release_no": release_no, "lines": said, "complete": complete})

    # -- small things

    def head_start(self, order: OrderPlaced) -> timedelta:
        value = sum(line.quantity * Fraction(line.unit_price) for line in order.lines)
        head_starts = [timedelta(0), self.segments.get(order.customer.segment, timedelta(0))]
        head_starts += [
            head_start
            for amount, currency, head_start in self.values
            if currency == order.currency and value >= Fraction(amount)
        ]
        return max(head_starts)

    def _lines_of(self, order_id: str) -> list[Line]:
        return [line for line in self.lines if line.order_id == order_id]

    def _say_revoked(self, line: Line, taken: Sequence[tuple[int | None, int]], reason: str) -> None:
        for release_no, units in taken:
            self.events.append(line.event("AllocationRevoked", release_no=release_no, quantity=units, reason=reason))

    def _say_created(self, line: Line, units: int, reason: str) -> None:
        self.events.append(
            line.event(
                "BackorderCreated",
                quantity=units,
                quantity_waiting=line.waiting,
                quantity_ordered=line.ordered,
                quantity_allocated=line.allocated,
                kind="backorder",
                reason=reason,
                promised_at=None,
                substitutes=(),
            )
        )


def take_released(line: Line, units: int) -> list[tuple[int | None, int]]:
    """Takes units from the newest release first; answers (release_no, units) for each one taken from."""
    taken: list[tuple[int | None, int]] = []
    while units:
        release_no, there = line.released.pop()
        given = min(units, there)
        if given < there:
            line.released.append((release_no, there - given))
        taken.append((release_no, given))
        units -= given
    return taken


def wanted_of(cancel: OrderCancelled, line: Line) -> int:
    """How many units of this line the cancel names, whether they are open or not."""
    if cancel.lines is None:
        return line.ordered
    named = [entry.quantity for entry in cancel.lines if entry.line_no == line.line_no]
    return sum(line.ordered if quantity is None else quantity for quantity in named)


def natural_key(message: Message) -> object:
    if isinstance(message, OrderPlaced):
        return "order", message.order_id
    if isinstance(message, OrderCancelled):
        return "cancel", message.id
    if isinstance(message, StockReceived):
        return "receipt", message.receipt_id, message.sku, message.location
    if isinstance(message, StockAdjusted):
        return "adjustment", message.adjustment_id, message.sku, message.location
    return "count", message.count_id, message.sku, message.location


def business_fields(message: Message) -> object:
    """What must be equal for a repeat to be a repeat: no ids of messages, no times of sending, no contact fields."""
    if isinstance(message, OrderPlaced):
        order = message.placed_at, message.currency, message.delivery
        customer = message.customer.customer_id, message.customer.segment
        lines = {
            line.line_no: (line.sku, line.location, line.quantity, line.unit_price, line.accepts_backorder)
            for line in message.lines
        }
        return order, customer, lines
    if isinstance(message, OrderCancelled):
        named = None if message.lines is None else Counter((line.line_no, line.quantity) for line in message.lines)
        return message.order_id, message.by, message.reason, named
    if isinstance(message, StockReceived):
        return message.quantity, message.supply_id, message.supplier
    if isinstance(message, StockAdjusted):
        return message.delta, message.reason
    return message.counted
