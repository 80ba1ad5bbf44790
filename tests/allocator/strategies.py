"""Random histories of everything that the allocator is told, of timers that fire and of pools that are planned.

Made so that things collide: few SKUs, few orders, small quantities, much repeated.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeVar, assert_never

from hypothesis import strategies as st

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

Message = OrderPlaced | OrderCancelled | StockReceived | StockAdjusted | StockCounted
AnyMessage = Message | LinesShipped | LinesDelivered | SkuPolicyChanged | SupplyExpected | SupplyCancelled
Pools = st.SearchStrategy[tuple[str, str]]
Anything = TypeVar("Anything")

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
MOST = 1_000_000_000
# Their byte order is neither the order in which they are placed, nor that of numbers, nor that of a dictionary.
ORDER_IDS = ("9", "10", "b", "B", "ä", "a", "z", "Ω", "🧵", "1", "a b", "00")
POOLS = (("X", "main"), ("X", "outlet"), ("Y", "main"))
SEGMENT_HEAD_STARTS = {"gold": timedelta(days=2), "platinum": timedelta(days=5)}
VALUE_HEAD_STARTS = ((Decimal("50.00"), "EUR", timedelta(days=1)), (Decimal("80.00"), "EUR", timedelta(days=3)))
HOUR = timedelta(hours=1)
FIRST_YEAR = datetime(1, 1, 1, tzinfo=UTC)
LAST_YEAR = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def _one_of(*weighted: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of the strategies, each so many times as often: `st.one_of` takes those that are named twice for one."""
    strategies = [strategy for weight, strategy in weighted for _ in range(weight)]
    return st.integers(0, len(strategies) - 1).flatmap(lambda number: strategies[number])


_PLACED = _one_of(
    (6, st.sampled_from([0, 0, 0, 1, 2, 24, 25, 48, 72, 999]).map(lambda hours: START + hours * HOUR)),
    (1, st.sampled_from([START - 30 * HOUR, FIRST_YEAR, LAST_YEAR])),
)
_ACCEPTS = st.sampled_from([True] * 9 + [False])
_EARLY = st.sampled_from([False, False, False, True])


@dataclass(frozen=True)
class Sent:
    """Any message and the timestamp of its record."""

    message: AnyMessage
    now: datetime


@dataclass(frozen=True)
class Fire:
    """The next of the timers that stand fires, if there is one, with its due time as *now*."""


@dataclass(frozen=True)
class Plan:
    """The planner runs for one pool."""

    pool: tuple[str, str]
    now: datetime


Step = Sent | Fire | Plan


@dataclass(frozen=True)
class Settings:
    """The settings that decisions depend on."""

    default_policy: SkuPolicyChanged | None
    handling_days: int
    overdue_days: int | None
    """None: an overdue supply is ignored."""
    escalate_after: timedelta | None


@dataclass(frozen=True)
class _Cancel:
    """A cancel before it is known which orders there are: numbers that are brought into range later.

    `early`: the order may be any, also one that is placed later.
    """

    order: int
    lines: tuple[tuple[int, int | None], ...] | None
    by: Literal["customer", "shop"]
    early: bool


@dataclass(frozen=True)
class _Ship:
    """A shipment before it is known which orders there are."""

    order: int
    early: bool
    lines: tuple[tuple[int, int | None], ...]  # None: as many as were ordered
    shipment_id: str | None


@dataclass(frozen=True)
class _Deliver:
    which: int
    days: int


@dataclass(frozen=True)
class _Revised:
    """A message whose revision is so much more than the highest one sent so far."""

    message: SkuPolicyChanged | SupplyExpected | SupplyCancelled
    more: int


@dataclass(frozen=True)
class _Plan:
    pool: tuple[str, str]


@dataclass(frozen=True)
class _Again:
    """An earlier message sent once more: as it was, under another id, or with other content."""

    which: int
    change: str


@st.composite
def whole_histories(draw: st.DrawFn, most_steps: int = 30, *, with_a_long_order: bool = False) -> list[Step]:
    """Everything that happens to an allocator in the order in which it happens; it begins with a message."""
    quantities = draw(st.sampled_from([st.integers(1, 5)] * 9 + [st.sampled_from([1, 3, MOST - 1, MOST])]))
    pools = st.sampled_from(POOLS[: draw(st.sampled_from([1, 1, 2, 3]))])
    of_all_kinds: dict[str, list[tuple[int, st.SearchStrategy[Any]]]] = {
        "cancels": [(2, _cancels(quantities))],
        "stock": [(1, _receipts(quantities, pools)), (1, _adjustments(quantities, pools)), (1, _counts(pools))],
        "policies": [(1, _policies())],
        "supplies": [(4, _supplies(quantities, pools)), (2, _deliveries_of_supplies(quantities, pools))],
        "shipments": [(3, _shipments(quantities)), (1, _deliveries())],
        "time": [(4, st.just(Fire()))],
        "again": [(1, st.builds(_Again, st.integers(0, 99), st.sampled_from(["nothing", "id", "content"])))],
    }
    # Often a few kinds of things happen many times: else what three of them do to each other would be seldom seen.
    kinds = [kind for kind in of_all_kinds if draw(st.booleans())]
    step = _one_of(
        (5, _orders(quantities, pools)),
        (2, _receipts(quantities, pools)),
        (2, st.builds(_Plan, pools)),
        *itertools.chain.from_iterable(of_all_kinds[kind] for kind in kinds),
    )
    length = draw(st.sampled_from([1, 3, 6, 12, 18, 24, 30])) * most_steps // 30
    steps = draw(st.lists(step, min_size=length, max_size=length))
    if draw(st.booleans()):
        steps = [draw(_receipts(quantities, pools)), *steps]
    if "supplies" in kinds:
        steps = draw(st.lists(_supplies(quantities, pools), max_size=4)) + steps
    if "policies" in kinds:
        steps = draw(st.lists(_policies(), max_size=2)) + steps
    if with_a_long_order:
        for one in draw(_long_orders(pools)):
            steps.insert(draw(st.integers(0, len(steps))), one)
    if not steps or isinstance(steps[0], Fire | _Plan):
        steps.insert(0, draw(_orders(quantities, pools)))
    steps += [_Plan(pool) for pool in POOLS]
    passed = draw(st.sampled_from([st.integers(-3, 60), st.integers(-3, 60), st.integers(-60, 60 * 30)]))
    minutes = draw(st.lists(passed, min_size=len(steps), max_size=len(steps)))
    return list(_at_their_times(steps, minutes))


def _at_their_times(steps: Sequence[Any], minutes: Sequence[int]) -> Iterator[Step]:
    messages = iter(_resolved([step for step in steps if not isinstance(step, Fire | _Plan)]))
    now = START
    for step, passed in zip(steps, minutes, strict=True):
        now += timedelta(minutes=passed)  # may go back: records of several partitions
        match step:
            case Fire():
                yield step
            case _Plan():
                yield Plan(step.pool, now)
            case _:
                yield Sent(next(messages), now)


@st.composite
def settings_of_a_shop(draw: st.DrawFn) -> Settings:
    default = draw(_one_of((3, st.none()), (1, _policies().map(lambda revised: revised.message))))
    assert default is None or isinstance(default, SkuPolicyChanged)
    if default is not None and default.backorders == "preorder":
        default = default.model_copy(update={"backorders": "allow"})  # one date for all SKUs there are is no pre-order
    return Settings(
        default_policy=default,
        handling_days=draw(st.sampled_from([0, 0, 1, 3])),
        overdue_days=draw(st.sampled_from([None, 0, 2])),
        escalate_after=draw(st.sampled_from([None, timedelta(0), 2 * HOUR, timedelta(days=3), timedelta(days=4e6)])),
    )


@st.composite
def batches(draw: st.DrawFn, history: Sequence[Anything]) -> list[list[Anything]]:
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
        lines.append(
            OrderLine(
                line_no=line_no,
                sku=sku,
                quantity=draw(quantities),
                unit_price=price,
                location=location,
                accepts_backorder=draw(_ACCEPTS),
            )
        )
    return OrderPlaced(
        id="?",
        occurred_at=START,
        order_id="?",
        placed_at=draw(_PLACED),
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
    return _Cancel(draw(st.integers(0, 99)), lines, draw(st.sampled_from(["customer", "shop"])), draw(_EARLY))


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


@st.composite
def _policies(draw: st.DrawFn) -> _Revised:
    few = st.sampled_from([None, None, None, 0, 1, 3, 6])
    policy = SkuPolicyChanged(
        id="?",
        occurred_at=START,
        sku=draw(st.sampled_from(["X", "X", "X", "Y"])),
        revision=1,
        backorders=draw(st.sampled_from(["allow", "allow", "preorder", "preorder", "preorder", "deny"])),
        waiting_limit=draw(few),
        max_wait_days=draw(st.sampled_from([None, None, None, None, 0, 1, 3])),
        safety_stock=draw(st.sampled_from([0] * 8 + [1, 1, 2, 2, 3, MOST])),
        low_stock_at=draw(few),
        release_at=draw(st.integers(-5, 30).map(lambda hours: START + hours * HOUR) | _dates),
        default_lead_time_days=draw(st.sampled_from([None, None, 0, 1, 10, 36_500])),
        substitutes=tuple(draw(st.lists(st.sampled_from(["X", "Y", "Z"]), unique=True))),
    )
    return _Revised(policy, draw(_revisions))


@st.composite
def _supplies(draw: st.DrawFn, quantities: st.SearchStrategy[int], pools: Pools) -> _Revised:
    sku, location = draw(pools)
    supply_id = draw(_supply_ids)
    more = draw(_revisions)
    if draw(st.sampled_from([False] * 5 + [True])):
        return _Revised(SupplyCancelled(id="?", occurred_at=START, supply_id=supply_id, revision=1, sku=sku), more)
    expected = SupplyExpected(
        id="?",
        occurred_at=START,
        supply_id=supply_id,
        revision=1,
        sku=sku,
        location=location,
        quantity=min(MOST, draw(quantities) * draw(st.sampled_from([1, 3, 10]))),
        expected_at=draw(_dates),
        supplier=draw(st.sampled_from(["acme", "ajax"])),
    )
    return _Revised(expected, more)


@st.composite
def _deliveries_of_supplies(draw: st.DrawFn, quantities: st.SearchStrategy[int], pools: Pools) -> StockReceived:
    return draw(_receipts(quantities, pools)).model_copy(update={"supply_id": draw(_supply_ids), "supplier": "acme"})


@st.composite
def _shipments(draw: st.DrawFn, quantities: st.SearchStrategy[int]) -> _Ship:
    line = st.tuples(st.integers(0, 12), st.sampled_from([None, None]) | quantities)
    lines = draw(st.lists(line, min_size=1, max_size=3).map(tuple))
    return _Ship(draw(st.integers(0, 99)), draw(_EARLY), lines, draw(st.sampled_from([None, None, None, "shared"])))


def _deliveries() -> st.SearchStrategy[_Deliver]:
    return st.builds(_Deliver, st.integers(0, 99), st.integers(0, 1))


_supply_ids = st.sampled_from(["s1", "s2", "s10", "ß"])
_revisions = st.sampled_from([1, 1, 1, 1, 1, 5, 0, -1])
_dates = _one_of(
    (6, st.integers(-10, 120).map(lambda hours: START + hours * HOUR)),
    (3, st.sampled_from([START, START + 24 * HOUR, START + 48 * HOUR, START + 72 * HOUR])),
    (1, st.sampled_from([FIRST_YEAR, LAST_YEAR])),
)


def _resolved(
    steps: Sequence[
        OrderPlaced | StockReceived | StockAdjusted | StockCounted | _Cancel | _Ship | _Deliver | _Revised | _Again
    ],
) -> list[AnyMessage]:
    """Gives every message its ids; a cancel its order and lines, a repeat the message that it repeats."""
    placed = [step for step in steps if isinstance(step, OrderPlaced)]
    order_ids = iter([*ORDER_IDS, *(f"o{number}" for number in range(len(placed)))])
    orders = [
        order.model_copy(update={"order_id": order_id}) for order, order_id in zip(placed, order_ids, strict=False)
    ]
    waiting_orders = iter(orders)
    revisions: dict[object, int] = {}
    messages: list[AnyMessage] = []
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
                messages.append(_cancel_of(step, orders if step.early else _known(orders, messages), f"m{number}"))
            case _Ship():
                messages.append(_shipment_of(step, orders if step.early else _known(orders, messages), number))
            case _Deliver():
                shipped = [message for message in messages if isinstance(message, LinesShipped)]
                messages.append(_delivery_of(step, shipped, f"m{number}"))
            case _Revised():
                last = revisions.get(_what_is_revised(step.message), 0)
                revision = max(1, last + step.more)
                revisions[_what_is_revised(step.message)] = max(last, revision)
                messages.append(step.message.model_copy(update={**fresh, "revision": revision}))
            case _Again():
                messages.append(
                    _repeat(messages[step.which % len(messages)], step.change, number) if messages else _first()
                )
    return messages


def _known(orders: Sequence[OrderPlaced], messages: Sequence[AnyMessage]) -> Sequence[OrderPlaced]:
    """The orders that were placed before; all, if none was."""
    placed = {message.order_id for message in messages if isinstance(message, OrderPlaced)}
    return [order for order in orders if order.order_id in placed] or orders


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


def _shipment_of(ship: _Ship, orders: Sequence[OrderPlaced], number: int) -> LinesShipped:
    order = orders[ship.order % len(orders)] if orders else None
    ordered = {line.line_no: line.quantity for line in order.lines} if order else {1: 1}
    lines = []
    for position, units in ship.lines:
        line_no = list(ordered)[position % len(ordered)]
        # Seldom more than was ordered or an unknown line, but the same line may be named twice.
        wanted = ordered[line_no] if units is None or position == 11 else 1 + units % ordered[line_no]
        lines.append(ShippedLine(line_no=line_no if position < 12 else 99, quantity=wanted))
    order_id = order.order_id if order else "never placed"
    shipment_id = ship.shipment_id or f"sh{number}"
    return LinesShipped(
        id=f"m{number}", occurred_at=START, shipment_id=shipment_id, order_id=order_id, lines=tuple(lines)
    )


def _delivery_of(deliver: _Deliver, shipped: Sequence[LinesShipped], id_: str) -> LinesDelivered:
    shipment = shipped[deliver.which % len(shipped)] if shipped else None
    return LinesDelivered(
        id=id_,
        occurred_at=START,
        shipment_id=shipment.shipment_id if shipment else "never shipped",
        order_id=shipment.order_id if shipment else "never placed",
        delivered_at=START + deliver.days * 24 * HOUR,
    )


def _what_is_revised(message: SkuPolicyChanged | SupplyExpected | SupplyCancelled) -> object:
    return message.sku if isinstance(message, SkuPolicyChanged) else (message.supply_id, message.sku)


def _repeat(message: AnyMessage, change: str, number: int) -> AnyMessage:
    again: dict[str, object] = {"occurred_at": message.occurred_at + timedelta(hours=1)}
    if not isinstance(message, OrderCancelled):  # of a cancel, the id is the natural key
        again["id"] = f"m{number}"
    if change == "nothing":
        return message
    if change == "id":
        if isinstance(message, OrderPlaced | LinesShipped):
            again["lines"] = message.lines[::-1]
        return message.model_copy(update=again)
    match message:
        case OrderPlaced() | LinesShipped():
            first, *rest = message.lines
            again["lines"] = (first.model_copy(update={"quantity": first.quantity % MOST + 1}), *rest)
        case OrderCancelled():
            again["by"] = "shop" if message.by == "customer" else "customer"
        case StockReceived() | SupplyExpected():
            again["quantity"] = message.quantity % MOST + 1
        case StockAdjusted():
            again["delta"] = -message.delta
        case StockCounted():
            again["counted"] = message.counted + 1
        case LinesDelivered():
            again["delivered_at"] = message.delivered_at + HOUR
        case SkuPolicyChanged():
            again["safety_stock"] = message.safety_stock % MOST + 1
        case SupplyCancelled():
            return SupplyExpected(**message.model_dump(exclude={"type"}), quantity=1, expected_at=START, supplier="s")
        case _:
            assert_never(message)
    return message.model_copy(update=again)


def _first() -> StockReceived:
    return StockReceived(id="m0", occurred_at=START, receipt_id="r0", sku="X", location="main", quantity=1)
