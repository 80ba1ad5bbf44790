"""Reads what messages can touch as `loading` does, but without locks and without writing, for whoever only asks.

In one snapshot that says as much as locks do: nothing changes in it. Pools that are not there yet stay out, and
`decide` makes them.
"""

from collections.abc import Iterable

from backorder_allocator import loading, queues, reading, store
from backorder_allocator.decision import Rules
from backorder_allocator.reading import PoolNow
from backorder_allocator.state import State
from backorder_allocator.statements import Connection
from backorder_allocator.store import LockedPool
from backorder_allocator.touching import Touched


async def load(connection: Connection, state: State, pools: Iterable[PoolNow], touched: Touched, rules: Rules) -> None:
    """Add to the state, which has those pools and what is to come for them, all else that the messages can touch.

    The messages are orders that nobody knows yet, receipts, and supplies for pools they are announced for already.
    """
    known = {
        each.pool_id: LockedPool(each.pool, each.pool.policy.revision, each.queue_end)
        for each in pools
        if each.pool.key in touched.pools
    }
    may_give, may_lose = queues.bounds(known, touched, {}, {})
    heads, order_ids = await queues.read_queues(connection, known, touched, may_give, may_lose)
    if order_ids:
        state.orders = await store.read_orders(connection, order_ids)
    loading.set_horizons(state, heads, known)
    await queues.read_places(connection, state, touched, known, may_lose, rules)
    # What an order holds in other pools may be released by what happens in these; substitutes are named.
    others = {line.pool.sku for order in state.orders.values() for line in order.lines.values() if line.held}
    others.update(sku for each in known.values() for sku in each.pool.policy.substitutes)
    others -= {key.sku for key in state.pools}
    for each in await reading.pools_of(connection, others, rules.default_policy) if others else ():
        state.pools[each.pool.key] = each.pool
