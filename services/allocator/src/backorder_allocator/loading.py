"""Locks and reads everything that messages can touch, into the state from which they are decided.

How much of a queue is read grows with what a batch can give and take, never with the length of the queue. What else is
touched shows partly under the locks only: then the transaction is rolled back and started over with the larger set, so
that locks are always taken in one order.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Set
from dataclasses import dataclass, field

from backorder_allocator import queues, store
from backorder_allocator.decision import Rules
from backorder_allocator.remembering import Memory
from backorder_allocator.state import Policy, PoolKey, Rank, State, SupplyKey
from backorder_allocator.statements import Connection
from backorder_allocator.store import LockedPool, OrderedUnits
from backorder_allocator.touching import Touched


@dataclass(slots=True)
class Context:
    """What a transaction needs beside its messages: the shop's rules with their number, the epoch of event ids.

    The rest is remembered from one transaction to the next: ids of pools, and the newest policies that were read.
    """

    rules: Rules = field(default_factory=Rules)
    epoch: int = 1
    rules_id: int | None = None
    pool_ids: MutableMapping[PoolKey, int] = field(default_factory=dict)
    policies: MutableMapping[str, Policy] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    """Shared by all parts of a process."""


class MoreToLockError(Exception):
    """The transaction touches more than it has locked or read for."""

    def __init__(self, pools: Collection[PoolKey], shipped_early: Collection[str] = ()) -> None:
        super().__init__(f"{len(pools)} more pools, {len(shipped_early)} orders that were shipped early")
        self.pools = pools
        self.shipped_early = shipped_early

    def grow(self, touched: Touched) -> None:
        touched.also.update(self.pools)
        touched.shipped_early.update(self.shipped_early)


async def prepare(connection: Connection, touched: Touched, context: Context) -> None:
    """Make sure that every pool that is known to be touched has a row to lock. Before the transaction."""
    # A hint that saves a second start; what counts are the policies of the locked pools.
    for key in touched.sent_back:
        policy = context.policies.get(key.sku, context.rules.default_policy)
        touched.also.update(_substitutes(key, policy, touched))
    unknown = [key for key in touched.pools | touched.also if key not in context.pool_ids]
    if unknown:
        context.pool_ids.update(await store.pool_ids(connection, unknown))


async def lock_policies(connection: Connection, touched: Touched) -> None:
    """The first locks of a transaction."""
    if touched.policies:
        await store.lock_policies(connection, touched.policies)


async def load(connection: Connection, touched: Touched, context: Context) -> State:
    """Lock and read everything that the messages can touch.

    Raises MoreToLockError where that is more than was known.
    """
    state = State()
    units = await _units_of_orders(connection, touched)
    locked = await _lock_pools(connection, state, touched, units, context)
    await _lock_supplies(connection, state, touched, locked)
    freed: Counter[int] = Counter()
    shipped: Counter[int] = Counter()
    for each in units:
        shipped[each.pool_id] += each.shipped
        if each.order_id in touched.cancelled:
            freed[each.pool_id] += each.ordered
    may_give, may_lose = queues.bounds(locked, touched, freed, shipped)
    heads, order_ids = await queues.read_queues(connection, locked, touched, may_give, may_lose)
    if order_ids:
        state.orders = await store.lock_orders(connection, order_ids)
    _check(state, touched, {each.order_id for each in units})
    set_horizons(state, heads, locked)
    await queues.read_places(connection, state, touched, locked, may_lose, context.rules)
    if touched.cancels:
        state.cancels = await store.known_cancels(connection, touched.cancels)
    if touched.movements:
        state.movements = await store.known_movements(connection, touched.movements, context.pool_ids)
    if touched.fulfilments:
        state.fulfilments = await store.known_fulfilments(connection, touched.fulfilments)
    for key in touched.due:
        supply = state.supplies.get(key)
        if supply is not None and supply.pool is not None:
            waiting = await store.orders_waiting(connection, context.pool_ids[supply.pool])
            state.orders_waiting[supply.pool] = waiting
    return state


async def _units_of_orders(connection: Connection, touched: Touched) -> list[OrderedUnits]:
    amended = touched.amended
    return await store.units_of_orders(connection, amended, touched.shipped) if amended else []


async def _lock_pools(
    connection: Connection, state: State, touched: Touched, units: Iterable[OrderedUnits], context: Context
) -> dict[int, LockedPool]:
    """Lock the pools and look up their policies."""
    to_lock = {context.pool_ids[key] for key in touched.pools | touched.also}
    to_lock.update(each.pool_id for each in units)
    if touched.policies:
        to_lock |= await store.pools_of_skus(connection, touched.policies)
    if touched.unlocated:
        to_lock |= await store.pools_of_supplies(connection, touched.unlocated)
    locked = await store.lock_pools(connection, to_lock) if to_lock else {}
    for each in locked.values():
        state.pools[each.pool.key] = each.pool
    if not (touched.pools | touched.also) <= state.pools.keys():
        # Ids never change, but a database that was restored under a running service has others.
        context.pool_ids.clear()
        context.policies.clear()
        raise MoreToLockError(touched.pools)
    for pool_id, each in locked.items():
        context.pool_ids[each.pool.key] = pool_id
    await _look_up_policies(connection, state, touched, locked, context)
    shipped_from = {each.pool_id for each in units if each.shipped}
    missing = {
        substitute
        for pool_id, each in locked.items()
        if each.pool.key in touched.sent_back or pool_id in shipped_from
        for substitute in _substitutes(each.pool.key, each.pool.policy, touched)
    } - state.pools.keys()
    if missing:
        raise MoreToLockError(missing)
    return locked


async def _look_up_policies(
    connection: Connection, state: State, touched: Touched, locked: Mapping[int, LockedPool], context: Context
) -> None:
    """Give each pool its policy. Under the pool's lock, the newest policy of its SKU is the one that it says."""
    unknown = {
        each.pool.key.sku
        for each in locked.values()
        if each.policy_revision
        and ((known := context.policies.get(each.pool.key.sku)) is None or known.revision != each.policy_revision)
    }
    if unknown or touched.policies:
        for sku, stored in (await store.policies_of(connection, unknown | touched.policies)).items():
            context.policies[sku] = stored.policy
            if sku in touched.policies:
                state.policies[sku] = stored
    for each in locked.values():
        pool = each.pool
        pool.policy = context.policies[pool.key.sku] if each.policy_revision else context.rules.default_policy
        if pool.policy.revision != each.policy_revision:
            raise RuntimeError(f"{pool.key}: policy {each.policy_revision} is gone, there is {pool.policy.revision}")


def _substitutes(key: PoolKey, policy: Policy, touched: Touched) -> set[PoolKey]:
    """The pools of what may be bought instead, by the policy in force and those that come in the batch."""
    if not policy.substitutes and key.sku not in touched.substitutes:
        return set()
    skus = touched.substitutes.get(key.sku, set()).union(policy.substitutes)
    return {PoolKey(sku, key.location) for sku in skus if sku != key.sku}


async def _lock_supplies(
    connection: Connection, state: State, touched: Touched, locked: Mapping[int, LockedPool]
) -> None:
    """The supplies that are named, and all that the pools have to expect."""
    if locked:
        state.supplies = await store.supplies_to_come(connection, locked)
    named: Set[SupplyKey] = touched.supplies | touched.unlocated
    if named:
        state.supplies |= await store.lock_supplies(connection, named)
    missing = {supply.pool for supply in state.supplies.values() if supply.pool is not None} - state.pools.keys()
    if missing:
        raise MoreToLockError(missing)


def _check(state: State, touched: Touched, counted: Set[str]) -> None:
    """Every line that may change has its pool locked, and the bounds had counted all orders that are named.

    A release changes lines in all pools in which an order holds units. An order that a cancel or a shipment names may
    have been placed by another process after its units were `counted`: then too little of the queues was read, even if
    its pools are locked.
    """
    uncounted = touched.amended - counted
    missing: set[PoolKey] = set()
    shipped_early: set[str] = set()
    late = False
    for order in state.orders.values():
        if order.placed_at is None:
            if order.early_shipments and order.order_id in touched.placed.keys() - touched.shipped_early:
                shipped_early.add(order.order_id)
            continue
        late = late or order.order_id in uncounted
        missing.update(line.pool for line in order.lines.values() if line.held and line.pool not in state.pools)
    if missing or shipped_early or late:
        raise MoreToLockError(missing, shipped_early)


def set_horizons(state: State, heads: Mapping[int, list[Rank]], locked: Mapping[int, LockedPool]) -> None:
    """Say how far queues are read that are longer than what was read of them."""
    # Counted in one walk: an order may have a thousand lines in as many pools.
    loaded: Counter[PoolKey] = Counter()
    for order in state.orders.values():
        for line in order.lines.values():
            loaded[line.pool] += line.waiting
    for pool_id, each in locked.items():
        if loaded[each.pool.key] < each.pool.waiting:
            state.horizons[each.pool.key] = max(heads[pool_id]) if pool_id in heads else None
