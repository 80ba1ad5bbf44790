"""What makes a message the same as another for the naive model: its natural key and its business fields."""

from collections import Counter
from collections.abc import Mapping

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

KeyedMessage = (
    OrderPlaced | OrderCancelled | StockReceived | StockAdjusted | StockCounted | LinesShipped | LinesDelivered
)


def natural_key(message: KeyedMessage) -> object:
    match message:
        case OrderPlaced():
            return "order", message.order_id
        case OrderCancelled():
            return "cancel", message.id
        case StockReceived():
            return "receipt", message.receipt_id, message.sku, message.location
        case StockAdjusted():
            return "adjustment", message.adjustment_id, message.sku, message.location
        case StockCounted():
            return "count", message.count_id, message.sku, message.location
        case LinesShipped():
            return "shipment", message.shipment_id, message.order_id
        case LinesDelivered():
            return "delivery", message.shipment_id, message.order_id


def business_fields(message: KeyedMessage) -> object:
    """What must be equal for a repeat to be a repeat: no ids of messages, no times of sending, no contact fields."""
    match message:
        case OrderPlaced():
            order = message.placed_at, message.currency, message.delivery
            customer = message.customer.customer_id, message.customer.segment
            lines = {
                line.line_no: (line.sku, line.location, line.quantity, line.unit_price, line.accepts_backorder)
                for line in message.lines
            }
            return order, customer, lines
        case OrderCancelled():
            named = None if message.lines is None else Counter((line.line_no, line.quantity) for line in message.lines)
            return message.order_id, message.by, message.reason, named
        case StockReceived():
            return message.quantity, message.supply_id, message.supplier
        case StockAdjusted():
            return message.delta, message.reason
        case StockCounted():
            return message.counted
        case LinesShipped():
            shipped = Counter((line.line_no, line.quantity) for line in message.lines)
            return shipped, message.carrier, message.tracking_number, message.tracking_url
        case LinesDelivered():
            return message.delivered_at


def without_ids(message: SkuPolicyChanged | SupplyExpected | SupplyCancelled) -> Mapping[str, object]:
    """The business fields of a message that has a revision."""
    return message.model_dump(exclude={"id", "occurred_at"})
