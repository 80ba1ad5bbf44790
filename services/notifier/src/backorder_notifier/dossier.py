"""What is known of an order from its messages: pure. One JSON document beside the order's row.

Topics are read side by side: what one says may come before what another said earlier. So each figure is kept as its own
topic says it (sums and last states, which don't mind what the others do), and `standing` puts them together.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field

from backorder_notifier.kinds import Kind
from backorder_notifier.reasons import NotNews
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderPlaced,
    PromiseChanged,
)
from backorder_schemas.outputs import PromiseCause

Held = Literal["complete", "preorder"]

LineEvent = (
    BackorderCreated | BackorderFilled | BackorderCancelled | BackorderRejected | PromiseChanged | AllocationRevoked
)
Event = LineEvent | AllocationReleased | LinesShipped | LinesDelivered | OrderCancelled
"""What changes an order after it was placed."""


class Part(BaseModel):
    """Base of what is kept as JSON: immutable; defaults are left out when written."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LineState(Part):
    """One line, figure by figure as messages say them; `standing` says where its units are."""

    sku: str
    location: str = "main"
    ordered: int | None = None
    waiting: int = 0
    rejected: int = 0
    cancelled: int = 0  # Σ BackorderCancelled
    revoked: int = 0  # Σ AllocationRevoked, reason cancelled
    born_cancelled: int = 0  # by a cancel that came before the order, which no event tells
    revoked_at_least: int = 0  # as its first BackorderCreated shows, whose AllocationRevoked may come later
    released: int = 0  # Σ AllocationReleased − Σ AllocationRevoked with a release_no
    shipped: int = 0
    held: Held | None = None  # why the last fill was not released with it; it may have been since
    preorder: bool = False
    promised_at: datetime | None = None  # the date last published; null: not known
    cause: PromiseCause | None = None  # of this date, where it differs from the first one
    substitutes: tuple[str, ...] = ()
    ever_waited: bool = False
    reminded: tuple[date, ...] = ()  # the told days of which promise_approaching was decided
    missed: tuple[date, ...] = ()  # the told days of which promise_missed was decided


class ShipmentState(Part):
    """One LinesShipped: units by line number. `message_id` is null while only its LinesDelivered came."""

    lines: dict[int, int] = Field(default_factory=dict)
    message_id: str | None = None
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    delivered_at: datetime | None = None


class Dossier(Part):
    """`lines` by line number, `shipments` by id. Before `placed`, only lines that events named are known."""

    placed: bool = False
    lines: dict[int, LineState] = Field(default_factory=dict)
    shipments: dict[str, ShipmentState] = Field(default_factory=dict)
    cancel_ids: tuple[str, ...] = ()
    cancel_requested: dict[int, int | None] = Field(default_factory=dict)  # units by line; null: all
    whole_cancelled: bool = False
    feedback_decided: bool = False

    @property
    def ever_waited(self) -> bool:
        return any(line.ever_waited for line in self.lines.values())


class ToldLine(Part):
    """What the customer last heard of a line. `told_at`: when this promised day was told first."""

    waiting: int
    promised_at: datetime | None = None
    told_at: datetime | None = None


Told = Annotated[dict[int, ToldLine], "by line number"]
"""What the customer was last told of the order, as the provider accepted it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the units of a line are: ordered = ready + waiting + cancelled + rejected, shipped ≤ ready.

    `ready` are the customer's now, shipped ones included. `ordered` and `ready` are None while no message said how many
    were ordered.
    """

    ordered: int | None
    ready: int | None
    waiting: int
    cancelled: int
    rejected: int
    shipped: int


def standing(dossier: Dossier, line_no: int) -> Standing:
    """Where the units of this line are, as far as its messages came."""
    line = dossier.lines[line_no]
    cancelled = line.cancelled + line.born_cancelled + max(line.revoked, line.revoked_at_least)
    if line.ordered is None:
        return Standing(None, None, line.waiting, cancelled, line.rejected, line.shipped)
    left = line.ordered
    if not line.ever_waited:
        # Of a line that never waited, a cancel before its order is all that tells: no event follows it.
        cancelled = max(cancelled, _requested(dossier, line_no, left))
    rejected = min(line.rejected, left)
    waiting = min(line.waiting, left - rejected)
    cancelled = min(cancelled, left - rejected - waiting)
    ready = left - rejected - waiting - cancelled
    shipped = min(line.shipped, left)
    # What left the warehouse is a fact before the allocator has booked it: it takes waiting, cancelled, rejected units
    # in this order (contract §8.9), so "still waits" is never said of what is on its way.
    more = max(0, shipped - ready)
    from_waiting = min(more, waiting)
    from_cancelled = min(more - from_waiting, cancelled)
    return Standing(
        ordered=left,
        ready=ready + more,
        waiting=waiting - from_waiting,
        cancelled=cancelled - from_cancelled,
        rejected=rejected - (more - from_waiting - from_cancelled),
        shipped=shipped,
    )


def place(dossier: Dossier, message: OrderPlaced) -> Dossier:
    """The order as it was placed, under what came before it. The first one counts."""
    if dossier.placed:
        return dossier
    lines = dict(dossier.lines)
    for each in message.lines:
        known = lines.get(each.line_no) or _new_line(dossier, each.line_no, each.sku, each.location)
        lines[each.line_no] = known.model_copy(update={"ordered": each.quantity, "sku": each.sku})
    return dossier.model_copy(update={"placed": True, "lines": lines})


def apply(dossier: Dossier, event: Event) -> Dossier:
    """The order after an event; the same object where it changes nothing. Events of a versioned topic come in order."""
    match event:
        case BackorderCreated():
            return _created(dossier, event)
        case BackorderFilled():
            return _set(dossier, event, waiting=event.quantity_waiting, held=event.held, ever_waited=True)
        case BackorderCancelled():
            line = _line(dossier, event)
            units = line.cancelled + event.quantity
            return _set(dossier, event, waiting=event.quantity_waiting, cancelled=units, ever_waited=True)
        case BackorderRejected():
            units = _line(dossier, event).rejected + event.quantity
            return _set(dossier, event, rejected=units, substitutes=event.substitutes)
        case PromiseChanged():
            return _set(dossier, event, promised_at=event.promised_at, cause=event.cause, ever_waited=True)
        case AllocationRevoked():
            return _revoked(dossier, event)
        case AllocationReleased():
            return _released(dossier, event)
        case LinesShipped():
            return _shipped(dossier, event)
        case LinesDelivered():
            shipment = dossier.shipments.get(event.shipment_id) or ShipmentState()
            if shipment.delivered_at is not None:
                return dossier
            return _with_shipment(dossier, event.shipment_id, shipment, delivered_at=event.delivered_at)
        case OrderCancelled():
            return _cancel_requested(dossier, event)
        case _:
            assert_never(event)


def news_of(dossier: Dossier, event: Event) -> Kind | NotNews | None:
    """What an event is to a customer, by the order as it stands before it; None: nothing that anybody would ask for."""
    match event:
        case BackorderCreated():
            return "backorder_created" if event.reason == "ordered" else "allocation_revoked"
        case BackorderFilled():
            return "shipped_tells_it" if shipped_by(dossier, event.caused_by) else "backorder_filled"
        case BackorderCancelled():
            return "backorder_cancelled"
        case BackorderRejected():
            return "backorder_rejected"
        case PromiseChanged():
            return "promise_changed"
        case AllocationRevoked():
            return "cancel_tells_it" if event.reason == "cancelled" else "allocation_revoked"
        case AllocationReleased() | OrderCancelled():
            return None
        case LinesShipped():
            return _news_of_shipment(dossier, event)
        case LinesDelivered():
            shipment = dossier.shipments.get(event.shipment_id)
            if shipment is not None and shipment.delivered_at is not None:
                return "repeated"
            return "delivered" if dossier.ever_waited else "never_waited"
        case _:
            assert_never(event)


def shipped_by(dossier: Dossier, message_id: str) -> bool:
    """Whether this message is a shipment of the order."""
    return any(shipment.message_id == message_id for shipment in dossier.shipments.values())


def _news_of_shipment(dossier: Dossier, event: LinesShipped) -> Kind | NotNews:
    known = dossier.shipments.get(event.shipment_id)
    if known is not None and known.message_id is not None:
        return "repeated"
    units = _units(event)
    if _is_impossible(dossier, units):
        return "more_than_ordered"
    # Nothing of it was ever released as far as we know: the allocator's events may be behind, so it is decided later.
    behind = not any(line.released for number, line in dossier.lines.items() if number in units)
    return "shipped" if behind or dossier.ever_waited else "never_waited"


def _units(event: LinesShipped) -> Mapping[int, int]:
    units: Counter[int] = Counter()  # a line may be named twice
    for each in event.lines:
        units[each.line_no] += each.quantity
    return units


def _is_impossible(dossier: Dossier, units: Mapping[int, int]) -> bool:
    """As the allocator refuses it: a line that the order doesn't have, or more than was ordered."""
    for line_no, shipped in units.items():
        line = dossier.lines.get(line_no)
        if line is None:
            if dossier.placed:
                return True
        elif line.ordered is not None and line.shipped + shipped > line.ordered:
            return True
    return False


def _requested(dossier: Dossier, line_no: int, ordered: int) -> int:
    if dossier.whole_cancelled:
        return ordered
    units = dossier.cancel_requested.get(line_no, 0)
    return ordered if units is None else min(units, ordered)


def _new_line(dossier: Dossier, line_no: int, sku: str, location: str) -> LineState:
    shipped = sum(shipment.lines.get(line_no, 0) for shipment in dossier.shipments.values())
    return LineState(sku=sku, location=location, shipped=shipped)


def _line(dossier: Dossier, event: LineEvent) -> LineState:
    return dossier.lines.get(event.line_no) or _new_line(dossier, event.line_no, event.sku, event.location)


def _set(dossier: Dossier, event: LineEvent, **fields: Any) -> Dossier:
    line = _line(dossier, event).model_copy(update=fields)
    return dossier.model_copy(update={"lines": dossier.lines | {event.line_no: line}})


def _created(dossier: Dossier, event: BackorderCreated) -> Dossier:
    line = _line(dossier, event)
    fields: dict[str, Any] = {
        "ordered": event.quantity_ordered,
        "waiting": event.quantity_waiting,
        "preorder": event.kind == "preorder",
        "promised_at": event.promised_at,
        "cause": "stock_lost" if event.reason == "stock_lost" else None,
        "ever_waited": True,
    }
    if event.substitutes:
        fields["substitutes"] = event.substitutes
    if not line.ever_waited:
        # The first one shows what no event told: units that were cancelled before the order came. Later ones don't, as
        # their AllocationRevoked are on another topic, which may be ahead or behind.
        gone = event.quantity_ordered - event.quantity_allocated - event.quantity_waiting - line.rejected
        fields["born_cancelled" if event.reason == "ordered" else "revoked_at_least"] = max(0, gone)
    return _set(dossier, event, **fields)


def _revoked(dossier: Dossier, event: AllocationRevoked) -> Dossier:
    line = _line(dossier, event)
    fields: dict[str, Any] = {}
    if event.reason == "cancelled":
        fields["revoked"] = line.revoked + event.quantity
    if event.release_no is not None:
        fields["released"] = line.released - event.quantity
    return _set(dossier, event, **fields) if fields else dossier


def _released(dossier: Dossier, event: AllocationReleased) -> Dossier:
    lines = dict(dossier.lines)
    for each in event.lines:
        line = lines.get(each.line_no) or _new_line(dossier, each.line_no, each.sku, each.location)
        lines[each.line_no] = line.model_copy(update={"released": line.released + each.quantity})
    return dossier.model_copy(update={"lines": lines})


def _shipped(dossier: Dossier, event: LinesShipped) -> Dossier:
    known = dossier.shipments.get(event.shipment_id)
    units = _units(event)
    if (known is not None and known.message_id is not None) or _is_impossible(dossier, units):
        return dossier
    lines = dict(dossier.lines)
    for line_no, shipped in units.items():
        if line_no in lines:
            line = lines[line_no]
            lines[line_no] = line.model_copy(update={"shipped": line.shipped + shipped})
    return _with_shipment(
        dossier.model_copy(update={"lines": lines}),
        event.shipment_id,
        known or ShipmentState(),
        lines=dict(units),
        message_id=event.id,
        carrier=event.carrier,
        tracking_number=event.tracking_number,
        tracking_url=event.tracking_url,
    )


def _with_shipment(dossier: Dossier, shipment_id: str, shipment: ShipmentState, **fields: Any) -> Dossier:
    shipments = dossier.shipments | {shipment_id: shipment.model_copy(update=fields)}
    return dossier.model_copy(update={"shipments": shipments})


def _cancel_requested(dossier: Dossier, event: OrderCancelled) -> Dossier:
    if event.id in dossier.cancel_ids:
        return dossier
    fields: dict[str, Any] = {"cancel_ids": (*dossier.cancel_ids, event.id)}
    if event.lines is None:
        fields["whole_cancelled"] = True
    else:
        requested = dict(dossier.cancel_requested)
        for each in event.lines:
            before = requested.get(each.line_no, 0)
            requested[each.line_no] = None if before is None or each.quantity is None else before + each.quantity
        fields["cancel_requested"] = requested
    return dossier.model_copy(update=fields)
