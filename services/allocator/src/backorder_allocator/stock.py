"""Stock that is received, adjusted or counted."""

from typing import assert_never

from backorder_allocator.decision import APPLIED, Movement, Outcome, StockMessage
from backorder_allocator.fingerprints import fingerprint
from backorder_allocator.ranking import storable
from backorder_allocator.state import MovementKey, PoolKey
from backorder_allocator.supplies import receive
from backorder_allocator.work import Work, again
from backorder_schemas import StockAdjusted, StockCounted, StockReceived


def move_stock(work: Work, message: StockMessage) -> Outcome:
    """On hand changes; in the same message, waiting lines are filled by rank, or the last in rank lose."""
    key = movement_key(message)
    movement = Movement(key, 0, fingerprint(message), work.item.now, message.id)
    seen = work.state.movements.get(key)
    if seen is not None:
        what = f"{key.kind} {key.document_id} of {message.sku} at {message.location}"
        return again(seen == movement.fingerprint, f"{what} was sent with other content")
    work.state.movements[key] = movement.fingerprint
    work.decision.movements.append(movement)
    pool = work.named_pool(key.pool)
    neutral = False
    match message:
        case StockReceived():
            movement.quantity = message.quantity
            movement.supply_id, movement.supplier = message.supply_id, message.supplier
            neutral = message.supply_id is not None and receive(work, pool, message.supply_id, message.quantity)
        case StockAdjusted():
            movement.quantity = message.delta
        case StockCounted():
            counted_at = storable(message.occurred_at)
            if pool.counted_at is not None and counted_at < pool.counted_at:
                return Outcome("ignored", "older_count")
            pool.counted_at = counted_at
            movement.quantity = message.counted - pool.on_hand
        case _:
            assert_never(message)
    pool.on_hand += movement.quantity
    if movement.quantity < 0:
        work.moves(key.pool, "stock_lost")
    elif movement.quantity and not neutral:
        work.moves(key.pool, "stock_received")
    if not work.take_what_is_not_there(pool):
        work.serve(pool)
    return APPLIED


def movement_key(message: StockMessage) -> MovementKey:
    """The natural key of a message about stock."""
    pool = PoolKey(message.sku, message.location)
    match message:
        case StockReceived():
            return MovementKey("received", message.receipt_id, pool)
        case StockAdjusted():
            return MovementKey("adjusted", message.adjustment_id, pool)
        case StockCounted():
            return MovementKey("counted", message.count_id, pool)
        case _:
            assert_never(message)
