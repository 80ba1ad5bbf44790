"""What messages can touch, as far as they say it themselves: found before anything is locked or read. Pure.

Units are upper bounds of what a batch may give and take in each pool, whatever order its messages come in and whatever
becomes of them: how much of a queue is read follows from them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from backorder_allocator.decision import EscalationDue, Input, ReleaseDue, StockMessage, SupplyDue
from backorder_allocator.fulfilment import shipment_key
from backorder_allocator.state import FulfilmentKey, MovementKey, PoolKey, SupplyKey
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


@dataclass(slots=True)
class Touched:
    """What messages name, and what showed under the locks of an earlier start to be touched as well."""

    placed: dict[str, list[tuple[OrderPlaced, datetime]]] = field(default_factory=dict)
    """Orders and their *now*, by id; more than one where an id comes again."""
    cancelled: set[str] = field(default_factory=set)
    escalating: set[str] = field(default_factory=set)
    shipped: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Units by order id and line number."""
    cancels: set[str] = field(default_factory=set)
    movements: set[MovementKey] = field(default_factory=set)
    fulfilments: set[FulfilmentKey] = field(default_factory=set)
    supplies: set[SupplyKey] = field(default_factory=set)
    unlocated: set[SupplyKey] = field(default_factory=set)
    """Supplies that are named without their location."""
    due: set[SupplyKey] = field(default_factory=set)
    """Supplies whose timers are due."""
    policies: set[str] = field(default_factory=set)
    """SKUs whose policy may change, or whose pre-order may end."""
    pools: set[PoolKey] = field(default_factory=set)
    announced: set[PoolKey] = field(default_factory=set)
    """Pools to which supplies are announced."""
    sent_back: set[PoolKey] = field(default_factory=set)
    """Pools in which units may begin to wait or be rejected, so that substitutes are told."""
    substitutes: dict[str, set[str]] = field(default_factory=dict)
    """By SKU, of its policies that come in the batch."""
    ordered: Counter[PoolKey] = field(default_factory=Counter)
    arriving: Counter[PoolKey] = field(default_factory=Counter)
    leaving: Counter[PoolKey] = field(default_factory=Counter)
    counted: dict[PoolKey, list[int]] = field(default_factory=dict)
    also: set[PoolKey] = field(default_factory=set)
    """Pools that no message names: of substitutes, of supplies, of what orders hold."""
    shipped_early: set[str] = field(default_factory=set)
    """Orders of the batch for which shipments wait in the database."""

    @property
    def amended(self) -> set[str]:
        """The orders that messages name after they were placed."""
        return self.cancelled | self.escalating | {order_id for order_id, _ in self.shipped}


def touched_by(inputs: Iterable[Input]) -> Touched:
    """What these messages can touch."""
    touched = Touched()
    for each in inputs:
        _note(touched, each)
    if touched.shipped:
        _note_shipped_at_once(touched)
    return touched


def _note_shipped_at_once(touched: Touched) -> None:
    """Orders that are shipped in the batch in which they are placed."""
    for order_id, messages in touched.placed.items():
        for message, _ in messages:
            for line in message.lines:
                units = touched.shipped.get((order_id, line.line_no), 0)
                if units:
                    touched.leaving[PoolKey(line.sku, line.location)] += units


def _note(touched: Touched, item: Input) -> None:
    message = item.message
    match message:
        case OrderPlaced():
            touched.placed.setdefault(message.order_id, []).append((message, item.now))
            for line in message.lines:
                pool = PoolKey(line.sku, line.location)
                touched.pools.add(pool)
                touched.sent_back.add(pool)
                touched.ordered[pool] += line.quantity
        case OrderCancelled():
            touched.cancelled.add(message.order_id)
            touched.cancels.add(message.id)
        case StockReceived() | StockAdjusted() | StockCounted():
            _note_stock(touched, message)
        case SupplyExpected():
            pool = PoolKey(message.sku, message.location)
            touched.pools.add(pool)
            touched.announced.add(pool)
            touched.supplies.add(SupplyKey(message.supply_id, message.sku))
        case SupplyCancelled():
            touched.unlocated.add(SupplyKey(message.supply_id, message.sku))
        case SkuPolicyChanged():
            touched.policies.add(message.sku)
            touched.substitutes.setdefault(message.sku, set()).update(message.substitutes)
        case LinesShipped():
            touched.fulfilments.add(shipment_key(message))
            for shipped in message.lines:
                touched.shipped[message.order_id, shipped.line_no] += shipped.quantity
        case LinesDelivered():
            touched.fulfilments.add(FulfilmentKey("delivered", message.shipment_id, message.order_id))
        case EscalationDue():
            touched.escalating.add(message.order_id)
        case ReleaseDue():
            touched.policies.add(message.sku)
        case SupplyDue():
            key = SupplyKey(message.supply_id, message.sku)
            touched.unlocated.add(key)
            touched.due.add(key)
        case _:
            assert_never(message)


def _note_stock(touched: Touched, message: StockMessage) -> None:
    key = movement_key(message)
    pool = key.pool
    touched.movements.add(key)
    touched.pools.add(pool)
    match message:
        case StockReceived():
            touched.arriving[pool] += message.quantity
            if message.supply_id is not None:
                touched.supplies.add(SupplyKey(message.supply_id, message.sku))
        case StockAdjusted():
            if message.delta > 0:
                touched.arriving[pool] += message.delta
            else:
                touched.leaving[pool] -= message.delta
                touched.sent_back.add(pool)
        case StockCounted():
            touched.counted.setdefault(pool, []).append(message.counted)
            touched.sent_back.add(pool)
        case _:
            assert_never(message)
