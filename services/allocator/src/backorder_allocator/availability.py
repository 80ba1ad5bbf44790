"""What a shop may show of a pool now: in stock, on backorder until when, or out of stock. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from backorder_allocator.promises import Projection, Promise, later, promise
from backorder_allocator.state import Pool

Status = Literal["in_stock", "backorder", "preorder", "out_of_stock"]
A_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Shown:
    """The availability of a pool, in units. `next_promise_at`: when one more unit, ordered now, would be there."""

    status: Status
    available: int
    waiting: int
    next_promise_at: datetime | None


def availability(pool: Pool, projection: Projection, now: datetime) -> Shown:
    """What one more unit ordered now would meet. `projection` is that of the pool, seen from `now`."""
    policy = pool.policy
    is_preorder = pool.takes_preorders(now)
    allocatable = pool.available > 0 and not pool.waiting
    if allocatable and not is_preorder:
        return Shown("in_stock", pool.available, pool.waiting, None)
    date = _one_more(pool, projection, now).at
    # A unit that would be allocated at once is never refused in a pre-order: it only waits for the release.
    if not allocatable and (policy.backorders == "deny" or _is_full(pool) or _is_too_long(pool, date, now)):
        return Shown("out_of_stock", pool.available, pool.waiting, None)
    return Shown("preorder" if is_preorder else "backorder", pool.available, pool.waiting, date)


def ages_at(pool: Pool, projection: Projection, now: datetime) -> datetime | None:
    """When availability has to be looked at again though nothing happens to the pool; None: never.

    A date that counts from now moves with it: it is shown anew each day. What would come too late comes within reach.
    """
    if pool.available > 0 and not pool.waiting:
        return None
    one_more = _one_more(pool, projection, now)
    if one_more.at is None or pool.policy.backorders == "deny" or _is_full(pool):
        return None
    is_by_lead_time = one_more.lead is not None and one_more.at == one_more.lead.at
    if _is_too_long(pool, one_more.at, now) and not projection.moves:
        days = pool.policy.max_wait_days
        return None if is_by_lead_time or days is None else one_more.at - timedelta(days)
    return later(now, A_DAY) if is_by_lead_time or projection.moves else None


def _one_more(pool: Pool, projection: Projection, now: datetime) -> Promise:
    """The promise of one more unit, ordered now."""
    return promise(
        pool.waiting + 1,
        projection,
        placed_at=now,
        lead_time_days=pool.policy.default_lead_time_days,
        promised_at=None,
        known_lead=None,
        release_at=pool.release_at(now),
        now=now,
    )


def _is_full(pool: Pool) -> bool:
    limit = pool.policy.waiting_limit
    return limit is not None and pool.waiting >= limit


def _is_too_long(pool: Pool, date: datetime | None, now: datetime) -> bool:
    days = pool.policy.max_wait_days
    return days is not None and (date is None or date > later(now, timedelta(days)))
