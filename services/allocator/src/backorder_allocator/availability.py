"""What a shop may show of a pool now: in stock, on backorder until when, or out of stock. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from backorder_allocator.promises import Projection, later, promise
from backorder_allocator.state import Pool

Status = Literal["in_stock", "backorder", "preorder", "out_of_stock"]


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
    date = promise(
        pool.waiting + 1,
        projection,
        placed_at=now,
        lead_time_days=policy.default_lead_time_days,
        promised_at=None,
        known_lead=None,
        release_at=policy.release_at if is_preorder else None,
        now=now,
    ).at
    # A unit that would be allocated at once is never refused in a pre-order: it only waits for the release.
    if not allocatable and (policy.backorders == "deny" or _is_full(pool) or _is_too_long(pool, date, now)):
        return Shown("out_of_stock", pool.available, pool.waiting, None)
    return Shown("preorder" if is_preorder else "backorder", pool.available, pool.waiting, date)


def _is_full(pool: Pool) -> bool:
    limit = pool.policy.waiting_limit
    return limit is not None and pool.waiting >= limit


def _is_too_long(pool: Pool, date: datetime | None, now: datetime) -> bool:
    days = pool.policy.max_wait_days
    return days is not None and (date is None or date > later(now, timedelta(days)))
