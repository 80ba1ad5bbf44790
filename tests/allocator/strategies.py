"""Random histories of messages, made so that things collide: few SKUs, few orders, small quantities, much repeated."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from hypothesis import strategies as st

from backorder_schemas import (
    CancelledLine,
    Customer,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    StockAdjusted,
    StockCounted,
    StockReceived,
)

Message = OrderPlaced | OrderCancelled | StockReceived | StockAdjusted | StockCounted
Pools = st.SearchStrategy[tuple[str, str]]

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
MOST = 1_000_000_000
# Their byte order is neither the order in which they are placed, nor that of numbers, nor that of a dictionary.
ORDER_IDS = ("9", "10", "b", "B", "ä", "a", "z", "Ω", "🧵", "1", "a b", "00")
POOLS = (("X", "main"), ("X", "outlet"), ("Y", "main"))
SEGMENT_HEAD_STARTS = {"gold": timedelta(days=2), "platinum": timedelta(days=5)}
VALUE_HEAD_STARTS = ((Decimal("50.00"), "EUR", timedelta(days=1)), (Decimal("80.00"), "EUR", timedelta(days=3)))


@dataclass(frozen=True)
class Arrival:
    """A message and the timestamp of its record, which is *now* for everything it causes."""

    message: Message
    now: datetime


@dataclass(frozen=True)
class _Cancel:
    """A cancel before it is known which orders there are: numbers that are brought into range later."""

    order: int
    lines: tuple[tuple[int, int | None], ...] | None
    by: Literal["customer", "shop"]


@dataclass(frozen=True)
class _Again:
    """An earlier message sent once more: as it was, under another id, or with other content."""

    which: int
    change: str


@st.composite
def histories(draw: st.DrawFn, most_messages: int = 30, *, with_a_long_order: bool = False) -> list[Arrival]:
    """Messages in the order received."""
    quantities = draw(st.sampled_from([st.integers(1, 5)] * 9 + [st.sampled_from([1, 3, MOST - 1, MOST])]))
    # Often all is about one pool: what two pools have to do with each other is seldom the question.
    pools = st.sampled_from(POOLS[: draw(st.sampled_from([1, 1, 2, 3]))])
    step = st.one_of(
        _orders(quantities, pools),
        _orders(quantities, pools),
        _orders(quantities, pools),
        _cancels(quantities),
        _cancels(quantities),
        _receipts(quantities, pools),
        _receipts(quantities, pools),
        _adjustments(quantities, pools),
        _counts(pools),
        st.builds(_Again, st.integers(0, 99), st.sampled_from(["nothing", "id", "content"])),
    )
    length = draw(st.integers(1, most_messages))
    steps = draw(st.lists(step, min_size=length, max_size=length))
    if with_a_long_order:
        for one in draw(_long_orders(pools)):
            steps.insert(draw(st.integers(0, len(steps))), one)
    minutes = draw(st.lists(st.integers(-3, 60), min_size=len(steps), max_size=len(steps)))
    now = START
    arrivals = []
    for message, passed in zip(_resolved(steps), minutes, strict=True):
        now += timedelta(minutes=passed)  # may go back a little: records of several partitions
        arrivals.append(Arrival(message, now))
    return arrivals


@st.composite
def batches(draw: st.DrawFn, history: Sequence[Arrival]) -> list[list[Arrival]]:
    """The history cut into batches at random."""
    cuts = sorted(draw(st.sets(st.integers(1, len(history)), max_size=6)) | {0, len(history)})
    return [list(history[start:end]) for start, end in itertools.pairwise(cuts)]


@st.composite
def _orders(draw: st.DrawFn, quantities: st.SearchStrategy[int], pools: Pools) -> OrderPlaced:
    line_nos = draw(st.lists(st.sampled_from([1, 2, 3, 7]), min_size=1, max_size=3, unique=True))
    lines = []
    for line_no in line_nos:
        sku, location = draw(pools)
        price = draw(st.sampled_from([Decimal(0), Decimal("10.00"), Decimal("25.00")]))
        accepts = draw(st.sampled_from([True, True, True, False]))
        lines.append(
            OrderLine(
                line_no=line_no,
                sku=sku,
                quantity=draw(quantities),
                unit_price=price,
                location=location,
                accepts_backorder=accepts,
            )
        )
    return OrderPlaced(
        id="?",
        occurred_at=START,
        order_id="?",
        placed_at=START + timedelta(hours=draw(st.sampled_from([0, 0, 0, 1, 2, 24, 25, 48, 72, 999]))),
        currency=draw(st.sampled_from(["EUR", "EUR", "USD"])),
        customer=Customer(customer_id="c", segment=draw(st.sampled_from(["standard", "standard", "gold", "platinum"]))),
        delivery=draw(st.sampled_from(["split", "complete"])),
        lines=tuple(lines),
    )


@st.composite
def _long_orders(draw: st.DrawFn, pools: Pools) -> list[OrderPlaced | StockReceived]:
    """An order so long that its release may be cut, every tenth line of another SKU, and receipts that may suffice."""
    order = draw(_orders(st.just(1), pools))
    first = order.lines[0]
    lines = (
        first.model_copy(update={"line_no": number, "sku": "Z" if number % 10 == 0 else first.sku})
        for number in range(1, draw(st.sampled_from([501, 600, 1000])) + 1)
    )
    receipts = [
        StockReceived(id="?", occurred_at=START, receipt_id="?", sku=sku, location=first.location, quantity=quantity)
        for sku, quantity in ((first.sku, draw(st.integers(450, 1200))), ("Z", draw(st.integers(50, 120))))
    ]
    return [order.model_copy(update={"lines": tuple(lines)}), *receipts]


@st.composite
def _cancels(draw: st.DrawFn, quantities: st.SearchStrategy[int]) -> _Cancel:
    line = st.tuples(st.integers(0, 12), st.none() | quantities)
    lines = draw(st.none() | st.lists(line, min_size=1, max_size=3).map(tuple))
    return _Cancel(draw(st.integers(0, 99)), lines, draw(st.sampled_from(["customer", "shop"])))


@st.composite
def _receipts(draw: st.DrawFn, quantities: st.SearchStrategy[int], pools: Pools) -> StockReceived:
    sku, location = draw(pools)
    return StockReceived(
        id="?", occurred_at=START, receipt_id="?", sku=sku, location=location, quantity=draw(quantities)
    )


@st.composite
def _adjustments(draw: st.DrawFn, quantities: st.SearchStrategy[int], pools: Pools) -> StockAdjusted:
    sku, location = draw(pools)
    delta = draw(quantities) * draw(st.sampled_from([-1, -1, 1]))
    return StockAdjusted(
        id="?", occurred_at=START, adjustment_id="?", sku=sku, location=location, delta=delta, reason="found"
    )


@st.composite
def _counts(draw: st.DrawFn, pools: Pools) -> StockCounted:
    sku, location = draw(pools)
    at = START + timedelta(hours=draw(st.integers(0, 4)))
    counted = draw(st.integers(0, 12))
    return StockCounted(id="?", occurred_at=at, count_id="?", sku=sku, location=location, counted=counted)


def _resolved(
    steps: Sequence[OrderPlaced | StockReceived | StockAdjusted | StockCounted | _Cancel | _Again],
) -> list[Message]:
    """Gives every message its ids; a cancel its order and lines, a repeat the message that it repeats."""
    placed = [step for step in steps if isinstance(step, OrderPlaced)]
    order_ids = iter([*ORDER_IDS, *(f"o{number}" for number in range(len(placed)))])
    orders = [
        order.model_copy(update={"order_id": order_id}) for order, order_id in zip(placed, order_ids, strict=False)
    ]
    waiting_orders = iter(orders)
    messages: list[Message] = []
    for number, step in enumerate(steps):
        fresh = {"id": f"m{number}"}
        match step:
            case OrderPlaced():
                messages.append(next(waiting_orders).model_copy(update=fresh))
            case StockReceived():
                messages.append(step.model_copy(update={**fresh, "receipt_id": f"r{number}"}))
            case StockAdjusted():
                messages.append(step.model_copy(update={**fresh, "adjustment_id": f"a{number}"}))
            case StockCounted():
                messages.append(step.model_copy(update={**fresh, "count_id": f"c{number}"}))
            case _Cancel():
                messages.append(_cancel_of(step, orders, f"m{number}"))
            case _Again():
                messages.append(
                    _repeat(messages[step.which % len(messages)], step.change, number) if messages else _first()
                )
    return messages


def _cancel_of(cancel: _Cancel, orders: Sequence[OrderPlaced], id_: str) -> OrderCancelled:
    order = orders[cancel.order % len(orders)] if orders else None
    order_id = order.order_id if order else "never placed"
    line_nos = [line.line_no for line in order.lines] if order else [1]
    # The same line may be named twice.
    lines = [
        CancelledLine(line_no=line_nos[position % len(line_nos)] if position < 12 else 99, quantity=quantity)
        for position, quantity in cancel.lines or ()
    ]
    return OrderCancelled(
        id=id_, occurred_at=START, order_id=order_id, by=cancel.by, lines=None if cancel.lines is None else tuple(lines)
    )


def _repeat(message: Message, change: str, number: int) -> Message:
    again: dict[str, object] = {"occurred_at": message.occurred_at + timedelta(hours=1)}
    if not isinstance(message, OrderCancelled):  # of a cancel, the id is the natural key
        again["id"] = f"m{number}"
    if change == "nothing":
        return message
    if change == "id":
        if isinstance(message, OrderPlaced):
            again["lines"] = message.lines[::-1]
        return message.model_copy(update=again)
    match message:
        case OrderPlaced():
            first, *rest = message.lines
            again["lines"] = (first.model_copy(update={"quantity": first.quantity % MOST + 1}), *rest)
        case OrderCancelled():
            again["by"] = "shop" if message.by == "customer" else "customer"
        case StockReceived():
            again["quantity"] = message.quantity % MOST + 1
        case StockAdjusted():
            again["delta"] = -message.delta
        case StockCounted():
            again["counted"] = message.counted + 1
    return message.model_copy(update=again)


def _first() -> StockReceived:
    return StockReceived(id="m0", occurred_at=START, receipt_id="r0", sku="X", location="main", quantity=1)
