"""Messages to look at and to check templates with, made of the examples in `backorder_schemas.examples`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from backorder_notifier.channel import Recipient
from backorder_notifier.content import Alternative, Content, ContentLine, Shipment
from backorder_notifier.kinds import Kind
from backorder_schemas import (
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    ContactChanged,
    LinesDelivered,
    LinesShipped,
    OrderPlaced,
    PromiseChanged,
    SkuPolicyChanged,
)
from backorder_schemas.examples import EXAMPLES

M = TypeVar("M")


def _example(kind: type[M]) -> M:
    return next(message for message in EXAMPLES if isinstance(message, kind))


_PLACED: Final = _example(OrderPlaced)
_CONTACT: Final = _example(ContactChanged)
_CREATED: Final = _example(BackorderCreated)
_FILLED: Final = _example(BackorderFilled)
_CHANGED: Final = _example(PromiseChanged)
_CANCELLED: Final = _example(BackorderCancelled)
_REJECTED: Final = _example(BackorderRejected)
_SHIPPED: Final = _example(LinesShipped)
_DELIVERED: Final = _example(LinesDelivered)
_TITLE: Final = _example(SkuPolicyChanged).title

UNSUBSCRIBE_URL: Final = "https://notify.shop.example.org/unsubscribe/4pXz0nq1mV8tQyRk2bLwHg"


@dataclass(frozen=True, slots=True)
class Sample:
    """One message. `name` is unique among those of its kind; the first of each kind is its plainest."""

    name: str
    content: Content
    as_of: datetime

    @property
    def kind(self) -> Kind:
        return self.content.kind


def recipient(locale: str) -> Recipient:
    return Recipient(
        customer_id=_CONTACT.customer_id,
        email=_CONTACT.email,
        phone=_CONTACT.phone,
        name=_CONTACT.name,
        locale=locale,
        timezone=_CONTACT.timezone or "UTC",
        unsubscribe_token=None,
    )


# The line of the example: 15 ordered, 10 were there, 5 wait.
_LINE: Final = ContentLine(
    line_no=_CREATED.line_no,
    sku=_CREATED.sku,
    title=_TITLE,
    ordered=_CREATED.quantity_ordered,
    waiting=_CREATED.quantity_waiting,
    ready=_CREATED.quantity_allocated,
    expected=_CREATED.promised_at,
)
_SECOND: Final = ContentLine(line_no=2, sku=_REJECTED.sku, ordered=4, ready=0, waiting=4)
_THIRD: Final = ContentLine(line_no=3, sku="CABLE-2M", title="Cable, 2 m", ordered=2000, ready=2000)
_ALTERNATIVES: Final = (Alternative(sku="PHONE-W", title="Phone W"), Alternative(sku="PHONE-V"))
_SHIPMENT: Final = Shipment(
    shipment_id=_SHIPPED.shipment_id,
    carrier=_SHIPPED.carrier,
    tracking_number=_SHIPPED.tracking_number,
    tracking_url=_SHIPPED.tracking_url,
)
_ARRIVED: Final = _SHIPMENT.model_copy(update={"delivered_at": _DELIVERED.delivered_at})


def _line(line: ContentLine, **changes: Any) -> ContentLine:
    return line.model_copy(update=changes)


def _sample(kind: Kind, name: str, *lines: ContentLine, at: datetime = _CREATED.occurred_at, **more: Any) -> Sample:
    given: dict[str, Any] = {"kind": kind, "order_id": _PLACED.order_id, "order_url": _PLACED.order_url, **more}
    return Sample(name, Content(lines=lines, **given), at)


_MOVED: Final[Mapping[str, Any]] = {
    "expected": _CHANGED.promised_at,
    "previous": _CHANGED.previous_promised_at,
    "move": "later",
    "cause": _CHANGED.cause,
}
_SHIPPED_PART: Final[Mapping[str, Any]] = {"shipped_now": 10, "shipped": 10}
_PROMISED: Final = _CREATED.promised_at


def _many(lines: int, *, every: int, **changes: Any) -> tuple[ContentLine, ...]:
    """Lines of an order that is long: of every so many one waits, of the others all is there (or as `changes` say)."""
    return tuple(
        ContentLine(
            line_no=number,
            sku=f"CABLE-{number}M",
            title=f"Cable, {number} m",
            ordered=12 + number % 30,
            ready=12 + number % 30,
            **changes,
        )
        if number % every
        else ContentLine(
            line_no=number,
            sku=f"PHONE-{number}",
            title=f"Phone {number}, black",
            ordered=15,
            ready=10,
            created=5,
            waiting=5,
            expected=_PROMISED,
        )
        for number in range(1, lines + 1)
    )


SAMPLES: Final[tuple[Sample, ...]] = (
    _sample("backorder_created", "in part", _line(_LINE, created=5, alternatives=_ALTERNATIVES[:1])),
    _sample("backorder_created", "no date, no page", _line(_LINE, created=5, expected=None), order_url=None),
    _sample(
        "backorder_created",
        "one delivery",
        _line(_LINE, created=5),
        _line(_SECOND, created=4, alternatives=_ALTERNATIVES),
        _THIRD,
        delivery="complete",
    ),
    _sample("backorder_created", "pre-order", _line(_LINE, created=15, waiting=15, ready=0, preorder=True)),
    _sample("backorder_created", "one unit, late", _line(_LINE, created=1, waiting=1, ordered=1, ready=0), late=True),
    _sample("backorder_created", "40 lines", *_many(40, every=13)),
    _sample("promise_changed", "later", _line(_LINE, **_MOVED), at=_CHANGED.occurred_at),
    _sample(
        "promise_changed",
        "earlier",
        _line(
            _LINE,
            expected=_CHANGED.previous_promised_at,
            previous=_CHANGED.promised_at,
            move="earlier",
            cause="cancelled_ahead",
        ),
    ),
    _sample(
        "promise_changed",
        "lost",
        _line(_LINE, expected=None, previous=_PROMISED, move="lost", cause="supply_cancelled"),
    ),
    _sample(
        "promise_changed",
        "several",
        _line(_LINE, **_MOVED),
        _line(_SECOND, expected=_PROMISED, move="appeared", cause="supply_announced"),
        delivery="complete",
    ),
    _sample("promise_approaching", "in two days", _LINE, due_on=_PROMISED, at=_PROMISED or _CREATED.occurred_at),
    _sample(
        "promise_approaching",
        "of one of two",
        _line(_LINE, waiting=1),
        _line(_SECOND, expected=_CHANGED.promised_at),
        due_on=_PROMISED,
        order_url=None,
    ),
    _sample(
        "promise_missed",
        "no new date",
        _LINE,
        due_on=_PROMISED,
        at=(_PROMISED or _CREATED.occurred_at) + timedelta(days=1),
    ),
    _sample(
        "promise_missed",
        "new date",
        _line(_LINE, **{**_MOVED, "cause": "supply_overdue"}),
        due_on=_PROMISED,
        at=(_PROMISED or _CREATED.occurred_at) + timedelta(days=1),
    ),
    _sample(
        "backorder_filled",
        "in part",
        _line(_LINE, filled=3, waiting=_FILLED.quantity_waiting, ready=13, shipped=10),
        at=_FILLED.occurred_at,
    ),
    _sample("backorder_filled", "in whole", _line(_LINE, filled=5, waiting=0, ready=15, expected=None)),
    _sample(
        "backorder_filled",
        "held for the rest",
        _line(_LINE, filled=5, waiting=0, ready=15, expected=None, held="complete"),
        _SECOND,
        delivery="complete",
    ),
    _sample(
        "backorder_filled",
        "pre-ordered and there at once",
        _line(_LINE, created=15, filled=15, waiting=0, ready=15, held="preorder", preorder=True),
    ),
    _sample(
        "backorder_filled",
        "held until released",
        _line(_LINE, filled=1, waiting=14, ready=1, held="preorder", preorder=True),
    ),
    _sample(
        "shipped",
        "the rest waits",
        _line(_LINE, **_SHIPPED_PART),
        shipments=(_SHIPMENT,),
        at=_SHIPPED.occurred_at,
    ),
    _sample(
        "shipped",
        "all, with a new date of another line",
        _line(_LINE, shipped=15, shipped_now=5, ready=15, waiting=0, expected=None),
        _line(_SECOND, expected=_CHANGED.promised_at, previous=_PROMISED, move="later", cause="overtaken"),
        shipments=(_SHIPMENT,),
    ),
    _sample(
        "shipped", "no tracking", _line(_LINE, shipped=1, shipped_now=1, ordered=1, ready=1, waiting=0, expected=None)
    ),
    _sample(
        "shipped",
        "40 lines",
        *(_line(each, shipped_now=each.ready, shipped=each.ready, created=0) for each in _many(40, every=13)),
        shipments=(_SHIPMENT,),
    ),
    _sample(
        "delivered",
        "the rest waits",
        _line(_LINE, **_SHIPPED_PART),
        shipments=(_ARRIVED,),
        at=_DELIVERED.occurred_at,
    ),
    _sample(
        "feedback_request",
        "all delivered",
        _line(_LINE, waiting=0, shipped=15, ready=15, expected=None),
        shipments=(_ARRIVED,),
        at=_DELIVERED.occurred_at,
    ),
    _sample("feedback_request", "no page", order_url=None),
    _sample(
        "backorder_cancelled",
        "by the customer",
        _line(_LINE, cancelled=_CANCELLED.quantity, cancelled_by="customer", waiting=0, ready=13, expected=None),
        at=_CANCELLED.occurred_at,
    ),
    _sample("backorder_cancelled", "by the shop", _line(_LINE, cancelled=1, cancelled_by="shop", waiting=4)),
    _sample(
        "backorder_cancelled",
        "by both, and a fill",
        _line(_LINE, cancelled=2, cancelled_by="shop", waiting=3),
        _line(_SECOND, cancelled=2, cancelled_by="customer", filled=2, ready=2, waiting=0),
    ),
    _sample(
        "backorder_rejected",
        "with alternatives",
        _line(_SECOND, waiting=0, rejected=_REJECTED.quantity, rejected_because="denied", alternatives=_ALTERNATIVES),
    ),
    _sample(
        "backorder_rejected",
        "in part, the rest waits",
        _line(_LINE, created=5),
        _line(_SECOND, waiting=1, created=1, rejected=3, rejected_because="waiting_limit"),
    ),
    _sample(
        "allocation_revoked",
        "stock lost",
        _line(_LINE, created=2, lost=2, waiting=2, ready=13, expected=None),
        at=datetime.fromisoformat("2026-11-06T09:00:00+00:00"),
    ),
    _sample(
        "allocation_revoked",
        "one unit, another line shipped, late",
        _line(_LINE, created=1, lost=1, waiting=1, ready=14),
        _line(_SECOND, shipped=4, shipped_now=4, ready=4, waiting=0),
        shipments=(_SHIPMENT,),
        late=True,
    ),
)

HUGE: Final[tuple[Sample, ...]] = (
    _sample("backorder_created", "1,000 lines that wait", *_many(1000, every=1)),
    _sample("backorder_created", "1,000 lines of which 20 wait", *_many(1000, every=50)),
)
"""To look at. They have nothing that the others haven't, and would take long at each start."""


def samples_of(kind: Kind) -> tuple[Sample, ...]:
    return tuple(sample for sample in SAMPLES if sample.kind == kind)
