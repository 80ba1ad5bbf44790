"""How messages change what is known of an order, and which of them are news to its customer. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, assert_never

from backorder_notifier.dossier import Dossier, Event, LineEvent, LineState, ShipmentState
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
            if event.reason == "stock_lost":
                return "allocation_revoked"
            # Units that were there already. Who was told of the order as one that waits was told of them, too.
            return "backorder_cancelled" if dossier.ever_waited else "never_waited"
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
    if event.by == "shop":
        fields["cancelled_by_shop"] = (*dossier.cancelled_by_shop, event.id)
    if event.lines is None:
        fields["whole_cancelled"] = True
    else:
        requested = dict(dossier.cancel_requested)
        for each in event.lines:
            before = requested.get(each.line_no, 0)
            requested[each.line_no] = None if before is None or each.quantity is None else before + each.quantity
        fields["cancel_requested"] = requested
    return dossier.model_copy(update=fields)
