"""A shop to tell stories about: every step answers with what the world is told, in words, in that order.

Nothing but `decide` and the planner run. Whatever the story is about, the books must balance after each step.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from backorder_allocator.allocation import decide
from backorder_allocator.decision import Event, Input, Message, Rules, Timer
from backorder_allocator.promises import PromiseRules, later
from backorder_allocator.ranking import HeadStartRules
from backorder_allocator.state import Line, PoolKey, State
from backorder_schemas import (
    CancelledLine,
    Customer,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    ShippedLine,
    SkuPolicyChanged,
    StockAdjusted,
    StockCounted,
    StockReceived,
    SupplyCancelled,
    SupplyExpected,
)
from tests.allocator.books import Books
from tests.allocator.pure_planner import plan_pool
from tests.allocator.words import DAY_ZERO, in_words, promise_in_words

MONDAY = DAY_ZERO
GOLD_IS_TWO_DAYS_AHEAD = Rules(head_starts=HeadStartRules(by_segment={"gold": timedelta(days=2)}))
OVERDUE_COMES_IN_A_WEEK = Rules(promises=PromiseRules(overdue_after=timedelta(days=7)))
ESCALATES_AFTER_FIVE_DAYS = Rules(escalates_after=timedelta(days=5))


def day(number: float) -> datetime:
    """So many days after the story began, at nine."""
    return MONDAY + timedelta(days=number)


class Shop:
    """One SKU ("X" at "main") unless said otherwise; every message comes an hour after the one before."""

    def __init__(self, rules: Rules | None = None, *, stock: int = 0) -> None:
        self.rules = rules or Rules()
        self.state = State()
        self.now = MONDAY
        self.sent: list[Message] = []
        self.timers: dict[Timer, datetime] = {}
        self.late_letters: list[tuple[str, str]] = []
        self.events: list[Event] = []
        """Of the last step."""
        self.outcome = ""
        self.books = Books()
        if stock:
            self.receive(stock)

    # -- time

    def send(self, message: Message) -> list[str]:
        self.sent.append(message)
        said = self._decide(message)
        self.now = later(self.now, timedelta(hours=1))
        return said

    def until(self, moment: datetime) -> list[str]:
        """Time goes by, and each timer that comes due on the way is fired, one by one, at its own time."""
        said: list[str] = []
        while due := [(at, timer.cause, timer) for timer, at in self.timers.items() if at <= moment]:
            at, _, timer = min(due)
            del self.timers[timer]
            self.now = max(self.now, at)
            said += self._decide(timer, at)
        self.now = max(self.now, moment)
        return said

    def plan(self) -> list[str]:
        """The planner runs now, for all pools in which something happened that may have moved a date."""
        self.state = self.state.copy()
        moves = [
            move
            for _, pool in sorted(self.state.pools.items())
            if pool.causes
            for move in plan_pool(self.state, pool, self.now, self.rules.promises)
        ]
        return [promise_in_words(move) for move in moves]

    def _decide(self, message: Message | Timer, now: datetime | None = None) -> list[str]:
        decision = decide(self.state, [Input(message, now or self.now)], self.rules)
        self.books.close(self.state, decision)
        self.state = decision.state
        self.events = decision.events
        [outcome] = decision.outcomes
        self.outcome = outcome.reason or outcome.kind
        self.late_letters += [(letter.key.shipment_id, letter.reason) for letter in decision.late_letters]
        for timer, due in decision.timers.items():
            self.timers.pop(timer, None)
            if due is not None:
                self.timers[timer] = due
        return [in_words(event) for event in decision.events]

    # -- messages

    def send_again(self, message: Message | None = None, **changes: Any) -> list[str]:
        """A message (the last one) once more, under another id unless that is what makes it the same."""
        message = message or self.sent[-1]
        if not isinstance(message, OrderCancelled):
            changes = {"id": f"again-{len(self.sent)}", **changes}
        return self.send(message.model_copy(update={"occurred_at": self.now, **changes}))

    def order(
        self,
        order_id: str,
        *lines: int | OrderLine,
        placed_at: datetime | None = None,
        segment: str = "standard",
        currency: str = "EUR",
        delivery: Literal["split", "complete"] = "split",
    ) -> list[str]:
        all_lines = [each if isinstance(each, OrderLine) else line(n, each) for n, each in enumerate(lines, start=1)]
        return self.send(
            OrderPlaced(
                id=f"{order_id}-placed",
                occurred_at=self.now,
                order_id=order_id,
                placed_at=placed_at or self.now,
                currency=currency,
                customer=Customer(customer_id="c-7", segment=segment, email="ada@example.org", name="Ada"),
                delivery=delivery,
                lines=tuple(all_lines),
            )
        )

    def cancel(
        self,
        order_id: str,
        lines: Sequence[tuple[int, int | None]] | None = None,
        *,
        by: Literal["customer", "shop"] = "customer",
    ) -> list[str]:
        named = None if lines is None else tuple(CancelledLine(line_no=n, quantity=q) for n, q in lines)
        id_ = self._id("cancel")
        return self.send(OrderCancelled(id=id_, occurred_at=self.now, order_id=order_id, by=by, lines=named))

    def receive(
        self, quantity: int, sku: str = "X", location: str = "main", *, of: str | None = None, by: str | None = None
    ) -> list[str]:
        """Units arrive, `of` a supply `by` a supplier where the receipt says so."""
        id_ = self._id("receipt")
        return self.send(
            StockReceived(
                id=id_,
                occurred_at=self.now,
                receipt_id=id_,
                sku=sku,
                location=location,
                quantity=quantity,
                supply_id=of,
                supplier=by,
            )
        )

    def adjust(self, delta: int, sku: str = "X") -> list[str]:
        id_ = self._id("adjustment")
        return self.send(
            StockAdjusted(id=id_, occurred_at=self.now, adjustment_id=id_, sku=sku, delta=delta, reason="broken")
        )

    def count(self, counted: int, at: datetime | None = None) -> list[str]:
        id_ = self._id("count")
        return self.send(StockCounted(id=id_, occurred_at=at or self.now, count_id=id_, sku="X", counted=counted))

    def policy(
        self,
        backorders: Literal["allow", "deny", "preorder"] = "allow",
        *,
        sku: str = "X",
        revision: int | None = None,
        **rules: Any,
    ) -> list[str]:
        """How a SKU is sold from now on; the next revision unless said otherwise."""
        known = self.state.policies.get(sku)
        return self.send(
            SkuPolicyChanged(
                id=self._id("policy"),
                occurred_at=self.now,
                sku=sku,
                revision=revision or (known.policy.revision + 1 if known else 1),
                backorders=backorders,
                **rules,
            )
        )

    def expect(
        self,
        supply_id: str,
        quantity: int,
        at: datetime,
        *,
        sku: str = "X",
        location: str = "main",
        supplier: str = "Acme",
        revision: int | None = None,
    ) -> list[str]:
        """A supplier announces, or revises what was announced; the next revision unless said otherwise."""
        return self.send(
            SupplyExpected(
                id=self._id("expected"),
                occurred_at=self.now,
                supply_id=supply_id,
                revision=revision or self._revision(supply_id, sku),
                sku=sku,
                location=location,
                quantity=quantity,
                expected_at=at,
                supplier=supplier,
            )
        )

    def cancel_supply(self, supply_id: str, *, sku: str = "X", revision: int | None = None) -> list[str]:
        revision = revision or self._revision(supply_id, sku)
        id_ = self._id("called-off")
        return self.send(SupplyCancelled(id=id_, occurred_at=self.now, supply_id=supply_id, revision=revision, sku=sku))

    def ship(self, order_id: str, *lines: tuple[int, int], shipment_id: str | None = None) -> list[str]:
        """The warehouse shipped (line number, units)."""
        return self.send(
            LinesShipped(
                id=self._id("shipped"),
                occurred_at=self.now,
                shipment_id=shipment_id or f"shipment-{len(self.sent)}",
                order_id=order_id,
                lines=tuple(ShippedLine(line_no=n, quantity=units) for n, units in lines),
            )
        )

    def deliver(self, order_id: str, shipment_id: str) -> list[str]:
        return self.send(
            LinesDelivered(
                id=self._id("delivered"),
                occurred_at=self.now,
                shipment_id=shipment_id,
                order_id=order_id,
                delivered_at=self.now,
            )
        )

    def _id(self, kind: str) -> str:
        return f"{kind}-{len(self.sent)}"

    def _revision(self, supply_id: str, sku: str) -> int:
        return next(
            (each.revision + 1 for key, each in self.state.supplies.items() if key == (supply_id, sku)),
            1,
        )

    # -- how things stand

    def line(self, order_id: str, line_no: int = 1) -> Line:
        return self.state.orders[order_id].lines[line_no]

    def has(self, order_id: str, line_no: int = 1) -> tuple[int, int]:
        """(allocated, waiting) units of a line."""
        units = self.line(order_id, line_no)
        return units.allocated, units.waiting

    def pool(self, sku: str = "X", location: str = "main") -> tuple[int, int, int]:
        """(on hand, allocated, waiting) units of a pool."""
        pool = self.state.pools[PoolKey(sku, location)]
        return pool.on_hand, pool.allocated, pool.waiting

    def promised(self, *order_ids: str) -> list[float | None]:
        """The day that each of these orders was last told for its first line."""
        dates = [self.line(order_id).promised_at for order_id in order_ids]
        return [None if at is None else (at - MONDAY) / timedelta(days=1) for at in dates]


def line(
    line_no: int, quantity: int, sku: str = "X", location: str = "main", price: str = "10.00", accepts: bool = True
) -> OrderLine:
    return OrderLine(
        line_no=line_no,
        sku=sku,
        quantity=quantity,
        unit_price=Decimal(price),
        location=location,
        accepts_backorder=accepts,
    )
