"""What the warehouse shipped and the carrier delivered.

What was really shipped is a fact even where it differs from what was released: it is booked, and the difference said.
"""

from collections import Counter

from backorder_allocator.decision import APPLIED, Decided, Fulfilment, LateLetter, Outcome
from backorder_allocator.fingerprints import fingerprint
from backorder_allocator.state import FulfilmentKey, Line, Order, PoolKey
from backorder_allocator.work import Work, again
from backorder_schemas import (
    AllocationRevoked,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LinesDelivered,
    LinesShipped,
    ShipmentMismatch,
)

TOLD_IN_ORDER: tuple[Decided, ...] = (BackorderRejected, AllocationRevoked, BackorderCreated, BackorderFilled)
"""How the contract orders the events of a line that one message causes."""


def ship(work: Work, message: LinesShipped) -> Outcome:
    """Shipped units leave on hand and allocation together; a shipment that comes before its order waits for it."""
    key = shipment_key(message)
    content = fingerprint(message)
    seen = work.state.fulfilments.get(key)
    if seen is not None:
        what = f"shipment {message.shipment_id} of order {message.order_id}"
        return again(seen == content, f"{what} was sent with other content")
    order = work.state.orders.get(message.order_id)
    early = order is None or order.placed_at is None
    if order is not None and not early:
        problem = impossible(order, message)
        if problem:
            return Outcome("dead_letter", "impossible", problem)
    work.state.fulfilments[key] = content
    work.decision.fulfilments.append(Fulfilment(message, key, content, early, work.item.now))
    if order is None:
        order = work.new_order(message.order_id)
    if early:
        order.early_shipments += (message,)
        return APPLIED
    book(work, order, message)
    return APPLIED


def deliver(work: Work, message: LinesDelivered) -> Outcome:
    """Remember that a shipment reached the customer: nothing is decided by it."""
    key = FulfilmentKey("delivered", message.shipment_id, message.order_id)
    content = fingerprint(message)
    seen = work.state.fulfilments.get(key)
    if seen is not None:
        what = f"delivery of shipment {message.shipment_id} of order {message.order_id}"
        return again(seen == content, f"{what} was sent with other content")
    work.state.fulfilments[key] = content
    work.decision.fulfilments.append(Fulfilment(message, key, content, False, work.item.now))
    return APPLIED


def book_early(work: Work, order: Order) -> None:
    """Book the shipments that waited for this order, before it is released: what has left is never told to ship."""
    for message in order.early_shipments:
        key = shipment_key(message)
        problem = impossible(order, message)
        if problem:
            # Nothing of it was booked: who sends it again hears the same, or sends a better one.
            work.state.fulfilments.pop(key, None)
            work.decision.late_letters.append(LateLetter(key, "impossible", problem))
        else:
            work.decision.booked_shipments.append(key)
            book(work, order, message)
    if order.early_shipments:
        sort_by_line(work)
    order.early_shipments = ()


def sort_by_line(work: Work) -> None:
    """Placing and shipping are one message here, and the events of a line have one order within a message.

    How many wait is counted anew in that order, from what waits after all of them.
    """
    of_lines: dict[tuple[str, int], list[int]] = {}
    for at, event in enumerate(work.events):
        if event.kind in TOLD_IN_ORDER:
            of_lines.setdefault((event.key, event.fields["line_no"]), []).append(at)
    for (order_id, line_no), places in of_lines.items():
        in_order = sorted((work.events[at] for at in places), key=lambda event: TOLD_IN_ORDER.index(event.kind))
        for at, event in zip(places, in_order, strict=True):
            work.events[at] = event
        waiting = work.state.orders[order_id].lines[line_no].waiting
        for event in reversed(in_order):
            if "quantity_waiting" in event.fields:
                event.fields["quantity_waiting"] = waiting
                waiting += event.fields["quantity"] * (1 if event.kind is BackorderFilled else -1)


def impossible(order: Order, message: LinesShipped) -> str:
    """Why this can't have been shipped; empty where it can."""
    for line_no, units in shipped_units(message):
        line = order.lines.get(line_no)
        if line is None:
            return f"order {order.order_id} has no line {line_no}"
        if line.shipped + units > line.ordered:
            return (
                f"order {order.order_id} line {line_no}: {line.shipped} of {line.ordered} units were shipped, "
                f"{units} more can't be"
            )
    return ""


def book(work: Work, order: Order, message: LinesShipped) -> None:
    """Take the shipped units from where they are; others lose by rank what is no longer there."""
    pools: dict[PoolKey, None] = {}
    for line_no, units in shipped_units(message):
        line = order.lines[line_no]
        book_line(work, order, line, units, message.shipment_id)
        pools[line.pool] = None
    for key in pools:
        work.take_what_is_not_there(work.pool(key))
    work.touch(order)


def book_line(work: Work, order: Order, line: Line, units: int, shipment_id: str) -> None:
    """Released units go first, then held, waiting, cancelled, rejected ones."""
    pool = work.pool(line.pool)
    held = line.held
    left = units - ship_released(line, units)
    from_held = min(left, held)
    left -= from_held
    from_waiting = min(left, line.waiting)
    left -= from_waiting
    from_cancelled = min(left, line.cancelled)
    from_rejected = left - from_cancelled
    pool.on_hand -= units
    pool.allocated -= units - from_waiting - from_cancelled - from_rejected
    if from_waiting:
        work.shift(line, -from_waiting)
    line.cancelled -= from_cancelled
    line.rejected -= from_rejected
    line.allocated += from_waiting + from_cancelled + from_rejected
    line.shipped += units
    work.change_line(line)
    if from_waiting:
        work.tell(BackorderFilled, order, line, quantity=from_waiting, quantity_waiting=line.waiting, held=None)
    if from_waiting or from_cancelled or from_rejected:
        work.moves(line.pool, "stock_lost")
    for reason, taken in (
        ("not_released", from_held),
        ("not_allocated", from_waiting),
        ("cancelled", from_cancelled),
        ("rejected", from_rejected),
    ):
        if taken:
            work.alert(
                ShipmentMismatch,
                line.pool,
                shipment_id=shipment_id,
                order_id=order.order_id,
                line_no=line.line_no,
                quantity=taken,
                reason=reason,
            )


def ship_released(line: Line, units: int) -> int:
    """Take up to `units` from the releases of a line, the oldest first; gives how many there were."""
    left = units
    kept: list[tuple[int, int]] = []
    for release_no, released in line.releases:
        taken = min(left, released)
        left -= taken
        if taken < released:
            kept.append((release_no, released - taken))
    line.releases = tuple(kept)
    return units - left


def shipped_units(message: LinesShipped) -> list[tuple[int, int]]:
    """(line number, units) in the order of the lines; a line that is named twice was shipped in sum."""
    units: Counter[int] = Counter()
    for each in message.lines:
        units[each.line_no] += each.quantity
    return sorted(units.items())


def shipment_key(message: LinesShipped) -> FulfilmentKey:
    return FulfilmentKey("shipped", message.shipment_id, message.order_id)
