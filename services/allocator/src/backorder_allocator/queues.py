"""How much of queues a transaction reads: as much as there are units to give or lose, and what is ahead of places.

Lines that wait or hold units change only under the lock of their pool, which is held here: what is read stays true.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Set
from itertools import chain

from backorder_allocator import store
from backorder_allocator.decision import Rules
from backorder_allocator.ranking import EARLIEST, head_start, ranked_at, storable
from backorder_allocator.state import PoolKey, Rank, State
from backorder_allocator.statements import Connection
from backorder_allocator.store import LockedPool
from backorder_allocator.touching import Touched


def bounds(
    locked: Mapping[int, LockedPool], touched: Touched, freed: Mapping[int, int], shipped: Mapping[int, int]
) -> tuple[dict[int, int], dict[int, int]]:
    """How many units of waiting lines, and of allocated ones, have to be read at most: by pool id, 0 left out.

    `freed`: units ordered that cancels name; `shipped`: units that shipments name.
    """
    leaving = touched.leaving.copy()
    for order_id in touched.shipped_early:
        for message, _ in touched.placed[order_id]:
            for line in message.lines:
                leaving[PoolKey(line.sku, line.location)] += line.quantity
    frees_new_orders = not touched.cancelled.isdisjoint(touched.placed)
    may_give: dict[int, int] = {}
    may_lose: dict[int, int] = {}
    for pool_id, each in locked.items():
        pool = each.pool
        # A policy may lower the safety stock.
        there = max(0, pool.on_hand - pool.allocated) if pool.key.sku in touched.policies else pool.available
        loses = leaving[pool.key] + shipped.get(pool_id, 0)
        counts = touched.counted.get(pool.key, [])
        # A count brings what it finds beyond what is on hand then: what is now or was counted, but for losses.
        least = min([pool.on_hand, *counts]) - loses
        brings = sum(max(0, counted - least) for counted in counts)
        gives = there + touched.arriving[pool.key] + brings + freed.get(pool_id, 0)
        if frees_new_orders:
            gives += touched.ordered[pool.key]
        if pool.waiting and gives:
            # What is cancelled, or shipped without having been filled, leaves the queue without taking units.
            may_give[pool_id] = gives + freed.get(pool_id, 0) + shipped.get(pool_id, 0)
        if counts:
            # What a count brings, it doesn't take as well; another one may.
            others = gives - brings if len(counts) == 1 else gives
            loses += max(0, pool.allocated + touched.ordered[pool.key] + others - min(counts))
        if loses:
            may_lose[pool_id] = loses
    return may_give, may_lose


async def read_queues(
    connection: Connection,
    locked: Mapping[int, LockedPool],
    touched: Touched,
    may_give: Mapping[int, int],
    may_lose: Mapping[int, int],
) -> tuple[dict[int, list[Rank]], Set[str]]:
    """The heads of the queues that may be served, and every order that may change: named, served, or losing stock."""
    heads = await store.queue_heads(connection, may_give) if may_give else {}
    orders = touched.placed.keys() | touched.amended | {rank[1] for ranks in heads.values() for rank in ranks}
    if touched.policies:
        of_these = [pool_id for pool_id, each in locked.items() if each.pool.key.sku in touched.policies]
        orders |= await store.orders_holding(connection, of_these)
    # Where nothing is allocated yet, only those can lose that the batch itself fills.
    losing = {pool_id: units for pool_id, units in may_lose.items() if locked[pool_id].pool.allocated}
    return heads, orders | await _read_tails(connection, losing, orders)


async def _read_tails(connection: Connection, may_lose: Mapping[int, int], read_anyway: Set[str]) -> set[str]:
    """Every order that may lose stock beside those that are read anyway.

    Held units lose before released ones, and what is held may be released within the batch. That is allowed for where
    orders are read anyway. Others are released only after they lost a unit and got it back, but then with all that they
    hold, here and in other pools: so there have to be as many orders that hold units as units may be lost, not only as
    many lines.
    """
    orders: defaultdict[int, set[str]] = defaultdict(set)
    holding: dict[int, set[str]] = {}
    units = dict(may_lose)
    to_read = set(units)
    while to_read:
        held: defaultdict[int, list[str]] = defaultdict(list)
        at_most: dict[int, int] = {}
        for line in await store.queue_tails(connection, {each: units[each] for each in to_read}, read_anyway):
            orders[line.pool_id].add(line.order_id)
            at_most[line.pool_id] = line.at_most
            if line.held:
                held[line.pool_id].append(line.order_id)
        for pool_id in to_read:
            if len(held[pool_id]) < at_most.get(pool_id, 1):
                holding.pop(pool_id, None)  # all there are
            else:
                holding[pool_id] = set(held[pool_id]) - read_anyway
        to_read = {
            pool_id
            for pool_id, ids in holding.items()
            if len(ids.difference(*(orders[other] for other in may_lose if other != pool_id))) < may_lose[pool_id]
        }
        units.update({pool_id: 2 * units[pool_id] for pool_id in to_read})
    return set().union(*orders.values())


async def read_places(
    connection: Connection,
    state: State,
    touched: Touched,
    locked: Mapping[int, LockedPool],
    may_lose: Collection[int],
    rules: Rules,
) -> None:
    """What waits ahead of the lines that may begin to wait, in the pools where dates depend on it.

    Behind the end of a queue there is nothing to read, which is where nearly all orders begin to wait.
    """
    dated = touched.announced | {supply.pool for supply in state.supplies.values() if supply.pool and supply.to_come}
    state.ahead = {key: {} for key in dated}
    ends = {
        each.pool.key: (pool_id, each.queue_end)
        for pool_id, each in locked.items()
        if each.pool.key in dated and each.pool.waiting and each.queue_end is not None
    }
    if not ends:
        return
    places: dict[tuple[int, Rank], PoolKey] = {}
    losing = {locked[pool_id].pool.key for pool_id in may_lose}
    for key, rank in chain(_new_places(state, touched, rules), _places_of_losers(state, losing)):
        pool_id, end = ends.get(key, (0, EARLIEST))
        if pool_id and rank[0] <= end:
            places[pool_id, rank] = key
    if places:
        for place, units in (await store.units_ahead(connection, places)).items():
            state.ahead[places[place]][place[1]] = units


def _new_places(state: State, touched: Touched, rules: Rules) -> Iterator[tuple[PoolKey, Rank]]:
    """Where the lines of new orders begin to wait, if they do."""
    for order_id, messages in touched.placed.items():
        known = state.orders.get(order_id)
        if known is not None and known.placed_at is not None:
            continue
        for message, now in messages:
            if any((line.sku, line.location) in state.ahead for line in message.lines):
                at = ranked_at(storable(min(message.placed_at, now)), head_start(message, rules.head_starts))
                for line in message.lines:
                    yield PoolKey(line.sku, line.location), (at, order_id, line.line_no)


def _places_of_losers(state: State, losing: Set[PoolKey]) -> Iterator[tuple[PoolKey, Rank]]:
    """Where lines wait again that lose what they have, or what they get in the batch."""
    for order in state.orders.values() if losing else ():
        for line in order.lines.values():
            if line.pool in losing and (line.waiting or line.allocated > line.shipped):
                yield line.pool, line.rank
