"""How each SKU is sold: whether units may wait, how many, how long, from when on they ship."""

from backorder_allocator.decision import APPLIED, Outcome, ReleaseDue
from backorder_allocator.fingerprints import fingerprint
from backorder_allocator.ranking import storable
from backorder_allocator.state import Policy, Pool, StoredPolicy
from backorder_allocator.supplies import is_old
from backorder_allocator.work import Work
from backorder_schemas import SkuPolicyChanged


def change_policy(work: Work, message: SkuPolicyChanged) -> Outcome:
    """The full policy of a SKU: a higher revision replaces a lower one, at each of its locations.

    New demand is affected; raised safety stock takes from nobody, lowered it serves the queue.
    """
    content = fingerprint(message)
    known = work.state.policies.get(message.sku)
    if known is not None:
        old = is_old(known.policy.revision, message.revision, known.fingerprint == content)
        if old is not None:
            return old
    policy = policy_of(message)
    # What was released stays so, also for a record from before that moment: partitions are not in step.
    was_over = known is not None and known.over and known.policy.release_at == policy.release_at
    over = policy.release_at is not None and (was_over or policy.release_at <= work.item.now)
    remember(work, message.sku, StoredPolicy(policy, content, over))
    is_preorder = policy.backorders == "preorder" and not over
    work.decision.timers[ReleaseDue(message.sku)] = policy.release_at if is_preorder else None
    for pool in pools_of(work, message.sku):
        pool.policy, pool.over, pool.safety_stock = policy, over, policy.safety_stock
        work.moves(pool.key, "policy_changed")
        work.serve(pool)
    touch_holders(work, message.sku)
    return APPLIED


def end_preorder(work: Work, timer: ReleaseDue) -> Outcome:
    """The release date has come: what is held for it may ship, and from now on the SKU is sold like others."""
    known = work.state.policies.get(timer.sku)
    if known is None or known.over or known.policy.release_at is None or known.policy.release_at > work.item.now:
        return Outcome("ignored", "nothing_is_due")
    remember(work, timer.sku, StoredPolicy(known.policy, known.fingerprint, over=True))
    for pool in pools_of(work, timer.sku):
        pool.over = True
    touch_holders(work, timer.sku)
    return APPLIED


def policy_of(message: SkuPolicyChanged) -> Policy:
    return Policy(
        message.backorders,
        message.waiting_limit,
        message.max_wait_days,
        message.safety_stock,
        message.low_stock_at,
        None if message.release_at is None else storable(message.release_at),
        message.default_lead_time_days,
        message.substitutes,
        message.revision,
    )


def remember(work: Work, sku: str, stored: StoredPolicy) -> None:
    work.state.policies[sku] = stored
    work.decision.policies[sku] = stored


def pools_of(work: Work, sku: str) -> list[Pool]:
    return [work.pool(key) for key in sorted(work.state.pools) if key.sku == sku]


def touch_holders(work: Work, sku: str) -> None:
    """Orders that hold units of this SKU may be released by it; by id, in whatever order they were loaded."""
    for _, order in sorted(work.state.orders.items()):
        if any(line.held and line.pool.sku == sku for line in order.lines.values()):
            work.touch(order)
