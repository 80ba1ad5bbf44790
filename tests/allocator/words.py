"""What the world is told, in words that a story can quote."""

from datetime import UTC, datetime

from backorder_allocator.decision import Event
from backorder_allocator.moves import Move

DAY_ZERO = datetime(2026, 11, 2, 9, tzinfo=UTC)
"""Days are told as the days since this one, a Monday."""


def in_words(event: Event) -> str:
    said, kind = event.fields, str(event.kind.__name__)
    pool = f"{said.get('sku')} at {said.get('location')}"
    of_line = f"{said.get('order_id')}/{said.get('line_no')}: {said.get('quantity')}"
    instead = f", instead: {', '.join(said['substitutes'])}" if said.get("substitutes") else ""
    match kind:
        case "AllocationReleased":
            parts = ", ".join(f"{each.quantity} of line {each.line_no}" for each in said["lines"])
            return f"{event.key}: release {said['release_no']}: {parts}{' (complete)' if said['complete'] else ''}"
        case "AllocationRevoked":
            release = f"release {said['release_no']}" if said["release_no"] else "what was held"
            return f"{of_line} revoked from {release} ({said['reason']})"
        case "BackorderCreated":
            how = " as a preorder" if said["kind"] == "preorder" else ""
            when = f", {day_in_words(said['promised_at'])}" if said["promised_at"] else ""
            waits = f"{said['quantity_waiting']} wait{how}{when}{instead}"
            return f"{of_line} begin to wait ({said['reason']}), {waits}"
        case "BackorderFilled":
            held = {None: "", "complete": " (held)", "preorder": " (held for its release)"}[said["held"]]
            return f"{of_line} filled, {said['quantity_waiting']} wait{held}"
        case "BackorderCancelled":
            return f"{of_line} cancelled by {said['by']}, {said['quantity_waiting']} wait"
        case "BackorderRejected":
            return f"{of_line} rejected ({said['reason']}){instead}"
        case "ShipmentMismatch":
            return f"{of_line} shipped, but {said['reason']}"
        case "StockShortfall":
            return f"{pool}: short of {said['quantity']}"
        case "LowStock":
            return f"{pool}: {said['available']} left, the mark is {said['low_stock_at']}"
        case "SupplyOverdue":
            units = f"{said['quantity']} of {said['supply_id']} from {said['supplier']}"
            return f"{pool}: {units} overdue, {said['orders_waiting']} orders wait"
        case _:
            raise AssertionError(f"no words for {kind}")


def promise_in_words(move: Move) -> str:
    old, new = day_in_words(move.line.promised_at), day_in_words(move.promised_at)
    return f"{move.line.order_id}/{move.line.line_no}: {old} becomes {new} ({move.cause})"


def day_in_words(moment: datetime | None) -> str:
    return "unknown" if moment is None else f"day {(moment.date() - DAY_ZERO.date()).days}"
