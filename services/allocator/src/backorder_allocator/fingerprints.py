"""What counts as the same content when a message comes again (CONTRACT: "The same thing again").

`id`, `occurred_at`, contact fields, `order_url` and the order of lines don't count; equal instants and equal amounts
are equal however they were written.
"""

from hashlib import blake2b
from typing import assert_never

from backorder_allocator.decision import Message
from backorder_schemas import (
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderPlaced,
    SkuPolicyChanged,
    StockAdjusted,
    StockCounted,
    StockReceived,
    SupplyCancelled,
    SupplyExpected,
)

FINGERPRINT_BYTES = 16


def fingerprint(message: Message) -> bytes:
    """16 bytes that are equal for equal business content of two messages of one natural key."""
    return blake2b(repr(content(message)).encode(), digest_size=FINGERPRINT_BYTES).digest()


def content(message: Message) -> tuple[object, ...]:
    """The business fields beside the natural key."""
    match message:
        case OrderPlaced():
            lines = sorted(
                (
                    line.line_no,
                    line.sku,
                    line.location,
                    line.quantity,
                    str(line.unit_price.normalize()),
                    line.accepts_backorder,
                )
                for line in message.lines
            )
            customer = message.customer
            return (
                message.placed_at.isoformat(),
                message.currency,
                customer.customer_id,
                customer.segment,
                message.delivery,
                lines,
            )
        case OrderCancelled():
            named = None if message.lines is None else sorted((n.line_no, n.quantity or 0) for n in message.lines)
            return (message.order_id, message.by, message.reason, named)
        case StockReceived():
            return (message.quantity, message.supply_id, message.supplier)
        case StockAdjusted():
            return (message.delta, message.reason)
        case StockCounted():
            return (message.counted,)
        case SupplyExpected():
            return ("expected", message.location, message.quantity, message.expected_at.isoformat(), message.supplier)
        case SupplyCancelled():
            return ("cancelled",)
        case SkuPolicyChanged():
            return (
                message.title,
                message.backorders,
                message.waiting_limit,
                message.max_wait_days,
                message.safety_stock,
                message.low_stock_at,
                None if message.release_at is None else message.release_at.isoformat(),
                message.default_lead_time_days,
                message.substitutes,
            )
        case LinesShipped():
            shipped = sorted((line.line_no, line.quantity) for line in message.lines)
            return (shipped, message.carrier, message.tracking_number, message.tracking_url)
        case LinesDelivered():
            return (message.delivered_at.isoformat(),)
        case _:
            assert_never(message)
