"""What suppliers announce: units with a date, revised, received in part, late, cancelled."""

from backorder_allocator.decision import APPLIED, DUPLICATE, Outcome, SupplyDue
from backorder_allocator.fingerprints import fingerprint
from backorder_allocator.ranking import storable
from backorder_allocator.state import Pool, PoolKey, Supply, SupplyKey
from backorder_allocator.work import Work
from backorder_schemas import SupplyCancelled, SupplyExpected, SupplyOverdue


def announce(work: Work, message: SupplyExpected) -> Outcome:
    """The full state of a supply: a higher revision replaces a lower one."""
    supply = known_supply(work, SupplyKey(message.supply_id, message.sku))
    content = fingerprint(message)
    old = is_old(supply.revision, message.revision, supply.fingerprint == content)
    if old is not None:
        return old
    before, was_to_come, was_expected_at = supply.pool, supply.to_come, supply.expected_at
    key = PoolKey(message.sku, message.location)
    work.named_pool(key)
    supply.revision = message.revision
    supply.fingerprint = content
    supply.quantity = message.quantity
    supply.expected_at = storable(message.expected_at)
    supply.first_expected_at = supply.first_expected_at or supply.expected_at
    supply.supplier = message.supplier
    supply.cancelled = False
    supply.overdue = False
    place(work, supply, key)
    if was_to_come and before is not None and before != key:
        work.pool(before)
        work.moves(before, "supply_moved")
        work.moves(key, "supply_moved")
    if not was_to_come and supply.to_come:
        work.moves(key, "supply_announced")
    if was_to_come and supply.expected_at != was_expected_at:
        work.moves(key, "supply_moved")
    if was_to_come and supply.to_come != was_to_come:
        work.moves(key, "supply_changed")
    set_timer(work, supply)
    return APPLIED


def cancel_supply(work: Work, message: SupplyCancelled) -> Outcome:
    """Nothing more of a supply will come; a later revision may announce it again."""
    supply = known_supply(work, SupplyKey(message.supply_id, message.sku))
    content = fingerprint(message)
    old = is_old(supply.revision, message.revision, supply.fingerprint == content)
    if old is not None:
        return old
    if supply.to_come and supply.pool is not None:
        work.pool(supply.pool)
        work.moves(supply.pool, "supply_cancelled")
    supply.revision = message.revision
    supply.fingerprint = content
    supply.cancelled = True
    work.decision.supplies[supply.key] = supply
    set_timer(work, supply)
    return APPLIED


def receive(work: Work, pool: Pool, supply_id: str, units: int) -> bool:
    """Units of a supply arrived at `pool`: it shrinks by them. True if no date moves by that.

    No date moves where the supply is the next one of this pool and has as many to come: those who are filled now were
    those it was promised to. In a pre-order they are promised its release from then on.
    """
    supply = known_supply(work, SupplyKey(supply_id, pool.key.sku))
    to_come = supply.to_come
    is_next = False
    if supply.pool == pool.key and to_come >= units and not pool.takes_preorders(work.item.now):
        is_next = next(iter(work.projection(pool).supply_ids), None) == supply_id
    supply.received += units
    work.decision.supplies[supply.key] = supply
    if to_come and supply.pool is not None and supply.pool != pool.key:
        work.pool(supply.pool)
        work.moves(supply.pool, "supply_changed")
    if to_come and not supply.to_come:
        set_timer(work, supply)
    return is_next


def overdue(work: Work, timer: SupplyDue) -> Outcome:
    """The date of a supply has passed: say so once, and let promises lean on it no more than the setting allows."""
    supply = work.state.supplies.get(SupplyKey(timer.supply_id, timer.sku))
    if supply is None or supply.pool is None or supply.expected_at is None or not supply.to_come:
        return Outcome("ignored", "nothing_is_due")
    if supply.overdue or supply.expected_at > work.item.now:
        return Outcome("ignored", "nothing_is_due")
    supply.overdue = True
    work.decision.supplies[supply.key] = supply
    work.pool(supply.pool)
    work.moves(supply.pool, "supply_overdue")
    work.alert(
        SupplyOverdue,
        supply.pool,
        supply_id=supply.key.supply_id,
        supplier=supply.supplier,
        expected_at=supply.expected_at,
        quantity=supply.to_come,
        orders_waiting=orders_waiting(work, supply.pool),
    )
    return APPLIED


def orders_waiting(work: Work, key: PoolKey) -> int:
    if key in work.state.orders_waiting:
        return work.state.orders_waiting[key]
    return sum(
        any(line.waiting and line.pool == key for line in order.lines.values()) for order in work.state.orders.values()
    )


def known_supply(work: Work, key: SupplyKey) -> Supply:
    """The supply by its key; one that nobody announced yet has revision 0."""
    supply = work.state.supplies.get(key)
    if supply is None:
        supply = work.state.supplies[key] = Supply(key)
    return supply


def place(work: Work, supply: Supply, key: PoolKey) -> None:
    """Let a supply be of this pool."""
    if supply.pool is not None:
        work.supplies.get(supply.pool, {}).pop(supply.key, None)
    supply.pool = key
    work.supplies.setdefault(key, {})[supply.key] = supply
    work.decision.supplies[supply.key] = supply


def set_timer(work: Work, supply: Supply) -> None:
    timer = SupplyDue(supply.key.supply_id, supply.key.sku)
    work.decision.timers[timer] = supply.expected_at if supply.to_come else None


def is_old(known: int, revision: int, same: bool) -> Outcome | None:
    """The outcome of a revision that is not newer than what is known; None if it is."""
    if revision > known:
        return None
    if revision < known:
        return Outcome("ignored", "older_revision")
    return DUPLICATE if same else Outcome("ignored", "equal_revision")
