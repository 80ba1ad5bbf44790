"""What the database shows of input messages, asked for many at once."""

from collections.abc import Sequence
from typing import assert_never

from backorder_allocator.decision import Message
from backorder_allocator.fingerprints import fingerprint
from backorder_allocator.statements import Connection, columns, run
from backorder_allocator.stock import movement_key
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

Key = tuple[object, ...]


async def shown(connection: Connection, messages: Sequence[Message]) -> list[bool]:
    """Of each message, whether what it says is in the database: its own content, or a revision as high as its own."""
    found = await _found(connection, messages)
    return [_is_shown(message, found.get(key_of(message))) for message in messages]


def key_of(message: Message) -> Key:
    """What makes a message the same as another one."""
    match message:
        case OrderPlaced():
            return ("order", message.order_id)
        case OrderCancelled():
            return ("cancel", message.id)
        case StockReceived() | StockAdjusted() | StockCounted():
            key = movement_key(message)
            return ("movement", *key.pool, key.kind, key.document_id)
        case SupplyExpected() | SupplyCancelled():
            return ("supply", message.sku, message.supply_id)
        case SkuPolicyChanged():
            return ("policy", message.sku)
        case LinesShipped():
            return ("fulfilment", "shipped", message.shipment_id, message.order_id)
        case LinesDelivered():
            return ("fulfilment", "delivered", message.shipment_id, message.order_id)
        case _:
            assert_never(message)


def _is_shown(message: Message, found: bytes | int | None) -> bool:
    match message:
        case SupplyExpected() | SupplyCancelled() | SkuPolicyChanged():
            return isinstance(found, int) and found >= message.revision
        case _:
            return found is not None and found == fingerprint(message)


async def _found(connection: Connection, messages: Sequence[Message]) -> dict[Key, bytes | int]:
    """Fingerprints, or revisions, by key."""
    keys: dict[str, set[Key]] = {}
    for message in messages:
        kind, *rest = key_of(message)
        keys.setdefault(str(kind), set()).add(tuple(rest))
    found: dict[Key, bytes | int] = {}
    for kind, wanted in keys.items():
        match kind:
            case "order":
                rows = await run(connection, "audit_placed_orders", [order_id for (order_id,) in wanted])
                found |= {("order", row["order_id"]): row["fingerprint"] for row in rows}
            case "cancel":
                rows = await run(connection, "known_cancels", [id_ for (id_,) in wanted])
                found |= {("cancel", row["id"]): row["fingerprint"] for row in rows}
            case "movement":
                rows = await run(connection, "audit_movements", *columns(wanted, 4))
                found |= {
                    ("movement", row["sku"], row["location"], row["kind"], row["document_id"]): row["fingerprint"]
                    for row in rows
                }
            case "supply":
                rows = await run(connection, "audit_supply_revisions", *columns(wanted, 2))
                found |= {("supply", row["sku"], row["supply_id"]): row["revision"] for row in rows}
            case "policy":
                rows = await run(connection, "audit_policy_revisions", [sku for (sku,) in wanted])
                found |= {("policy", row["sku"]): row["revision"] for row in rows}
            case _:
                rows = await run(connection, "known_fulfilments", *columns(wanted, 3))
                found |= {
                    ("fulfilment", row["kind"], row["shipment_id"], row["order_id"]): row["fingerprint"] for row in rows
                }
    return found
