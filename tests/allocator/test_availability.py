"""What a shop may show of a pool, case by case: the status, and when one more unit would be there."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backorder_allocator.availability import Shown, ages_at, availability
from backorder_allocator.promises import Coming, PromiseRules, project
from backorder_allocator.ranking import LATEST
from backorder_allocator.state import Policy, Pool, PoolKey

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
RELEASE = NOW + timedelta(days=20)
ALLOW = Policy()
DENY = Policy("deny")
PREORDER = Policy("preorder", release_at=RELEASE)


def day(number: float) -> datetime:
    return NOW + timedelta(days=number)


def shown(
    policy: Policy,
    *,
    on_hand: int = 0,
    allocated: int = 0,
    waiting: int = 0,
    supplies: tuple[tuple[int, float], ...] = (),
    over: bool = False,
    now: datetime = NOW,
) -> Shown:
    """The availability of a pool with supplies of (units, day)."""
    pool = a_pool(policy, on_hand, allocated, waiting, over)
    return availability(pool, project(pool.unassigned, announced(supplies), now, PromiseRules()), now)


def a_pool(policy: Policy, on_hand: int = 0, allocated: int = 0, waiting: int = 0, over: bool = False) -> Pool:
    return Pool(
        PoolKey("A", "main"), 1, on_hand, allocated, waiting, policy=policy, safety_stock=policy.safety_stock, over=over
    )


def announced(supplies: tuple[tuple[int, float], ...]) -> list[Coming]:
    return [Coming(f"S{n}", units, day(on), overdue=False) for n, (units, on) in enumerate(supplies)]


def looked_at_again(
    policy: Policy,
    *,
    on_hand: int = 0,
    waiting: int = 0,
    supplies: tuple[tuple[int, float], ...] = (),
    overdue_after: timedelta | None = None,
) -> datetime | None:
    pool = a_pool(policy, on_hand, waiting=waiting)
    projection = project(pool.unassigned, announced(supplies), NOW, PromiseRules(overdue_after=overdue_after))
    return ages_at(pool, projection, NOW)


def test_stock_that_nobody_waits_for_is_in_stock_whatever_the_policy() -> None:
    for policy in (ALLOW, DENY, replace(ALLOW, waiting_limit=0), replace(ALLOW, max_wait_days=0)):
        assert shown(policy, on_hand=5, allocated=2) == Shown("in_stock", 3, 0, None)


def test_safety_stock_is_not_shown() -> None:
    policy = replace(ALLOW, safety_stock=4)
    assert shown(policy, on_hand=5) == Shown("in_stock", 1, 0, None)
    assert shown(policy, on_hand=3, supplies=((1, 2), (1, 3))) == Shown("backorder", 0, 0, day(3))


def test_on_backorder_the_next_unit_stands_behind_all_who_wait() -> None:
    supplies = ((4, 2), (4, 6))
    assert shown(ALLOW, waiting=3, supplies=supplies) == Shown("backorder", 0, 3, day(2))
    assert shown(ALLOW, waiting=4, supplies=supplies) == Shown("backorder", 0, 4, day(6))
    assert shown(ALLOW, waiting=8, supplies=supplies) == Shown("backorder", 0, 8, None)


def test_what_stock_lacks_comes_before_the_next_unit() -> None:
    assert shown(ALLOW, on_hand=-3, supplies=((3, 2), (1, 6))) == Shown("backorder", 0, 0, day(6))
    assert shown(replace(ALLOW, safety_stock=3), supplies=((3, 2), (1, 6))) == Shown("backorder", 0, 0, day(6))


def test_without_supply_the_lead_time_counts_from_now() -> None:
    policy = replace(ALLOW, default_lead_time_days=14)
    assert shown(policy, waiting=3) == Shown("backorder", 0, 3, day(14))
    far = replace(policy, default_lead_time_days=36_500)
    late = LATEST - timedelta(days=1)
    assert shown(far, now=late) == Shown("backorder", 0, 0, LATEST)


def test_a_sku_that_may_not_wait_is_out_of_stock() -> None:
    assert shown(DENY, supplies=((4, 2),)) == Shown("out_of_stock", 0, 0, None)
    # Some wait still, from before the policy changed: what is there is theirs.
    assert shown(DENY, waiting=2) == Shown("out_of_stock", 0, 2, None)


def test_a_full_queue_is_out_of_stock() -> None:
    policy = replace(ALLOW, waiting_limit=5)
    assert shown(policy, waiting=4, supplies=((9, 2),)) == Shown("backorder", 0, 4, day(2))
    assert shown(policy, waiting=5, supplies=((9, 2),)) == Shown("out_of_stock", 0, 5, None)
    assert shown(replace(policy, waiting_limit=0)) == Shown("out_of_stock", 0, 0, None)


def test_where_one_more_unit_would_wait_too_long_it_is_out_of_stock() -> None:
    policy = replace(ALLOW, max_wait_days=6)
    assert shown(policy, supplies=((4, 6),)) == Shown("backorder", 0, 0, day(6))
    assert shown(policy, supplies=((4, 6.001),)) == Shown("out_of_stock", 0, 0, None)
    assert shown(policy) == Shown("out_of_stock", 0, 0, None)


def test_before_the_release_it_is_a_preorder_even_with_stock() -> None:
    assert shown(PREORDER, on_hand=7) == Shown("preorder", 7, 0, RELEASE)
    assert shown(PREORDER, waiting=2, supplies=((4, 5),)) == Shown("preorder", 0, 2, RELEASE)
    assert shown(PREORDER, waiting=2, supplies=((4, 25),)) == Shown("preorder", 0, 2, day(25))
    assert shown(PREORDER, waiting=2) == Shown("preorder", 0, 2, None)
    assert shown(replace(PREORDER, default_lead_time_days=3)) == Shown("preorder", 0, 0, RELEASE)


def test_a_full_or_too_long_preorder_is_out_of_stock_unless_there_is_stock_for_one_more() -> None:
    full = replace(PREORDER, waiting_limit=0)
    assert shown(full, supplies=((4, 5),)) == Shown("out_of_stock", 0, 0, None)
    assert shown(full, on_hand=1) == Shown("preorder", 1, 0, RELEASE)
    long = replace(PREORDER, max_wait_days=19)
    assert shown(long, supplies=((4, 5),)) == Shown("out_of_stock", 0, 0, None)
    assert shown(long, on_hand=1) == Shown("preorder", 1, 0, RELEASE)


@pytest.mark.parametrize(("over", "now"), [(True, NOW), (False, RELEASE), (False, RELEASE + timedelta(days=1))])
def test_after_the_release_a_preorder_is_sold_like_others(over: bool, now: datetime) -> None:
    assert shown(PREORDER, on_hand=7, over=over, now=now) == Shown("in_stock", 7, 0, None)
    assert shown(PREORDER, supplies=((4, 40),), over=over, now=now) == Shown("backorder", 0, 0, day(40))


def test_what_counts_from_now_is_looked_at_again_the_next_day() -> None:
    lead = replace(ALLOW, default_lead_time_days=14)
    assert looked_at_again(lead) == day(1)
    assert looked_at_again(replace(lead, max_wait_days=14)) == day(1)
    overdue = ((5, -1.0), (5, 3.0))
    assert looked_at_again(ALLOW, supplies=overdue, overdue_after=timedelta(5)) == day(1)
    # It may be overtaken by what is fixed, or come within reach behind it.
    assert looked_at_again(
        replace(ALLOW, max_wait_days=4), waiting=6, supplies=overdue, overdue_after=timedelta(5)
    ) == day(1)


def test_what_would_come_too_late_is_looked_at_again_when_it_comes_within_reach() -> None:
    policy = replace(ALLOW, max_wait_days=6)
    assert looked_at_again(policy, supplies=((4, 9),)) == day(3)
    assert shown(policy, supplies=((4, 9),), now=day(2.9)).status == "out_of_stock"
    assert shown(policy, supplies=((4, 9),), now=day(3)) == Shown("backorder", 0, 0, day(9))
    assert looked_at_again(replace(PREORDER, max_wait_days=6, default_lead_time_days=2)) == RELEASE - timedelta(6)
    assert looked_at_again(replace(policy, default_lead_time_days=7)) is None, "it goes as fast as the time"


def test_what_only_a_message_or_a_timer_changes_is_not_looked_at_again() -> None:
    lead = replace(ALLOW, default_lead_time_days=14)
    assert looked_at_again(lead, on_hand=1) is None
    assert looked_at_again(ALLOW) is None
    assert looked_at_again(lead, supplies=((1, 3),)) is None
    assert looked_at_again(replace(lead, waiting_limit=3), waiting=3) is None
    assert looked_at_again(replace(lead, backorders="deny")) is None
    assert looked_at_again(ALLOW, supplies=((5, -1.0),)) is None, "no promise leans on it"
    assert looked_at_again(replace(PREORDER, default_lead_time_days=3)) is None, "the release is later"
