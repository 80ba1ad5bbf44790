"""Dates by themselves: what covers a line, what is told of it, and that no unit is ever promised twice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backorder_allocator.promises import (
    CAUSES,
    Cause,
    Coming,
    Lead,
    Promise,
    PromiseRules,
    Waiting,
    cause_of,
    held,
    later,
    lead,
    moved,
    plan,
    project,
    promise,
    uncovered,
)
from backorder_allocator.ranking import EARLIEST, LATEST
from backorder_schemas import PromiseChanged

DAY = timedelta(days=1)
TODAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
NO_RULES = PromiseRules()


def day(number: float) -> datetime:
    return TODAY + number * DAY


def supplies(*units_and_days: tuple[int, float]) -> list[Coming]:
    """Supplies S1, S2 … of so many units on that day."""
    return [Coming(f"S{n}", units, day(on), overdue=False) for n, (units, on) in enumerate(units_and_days, 1)]


def queue(*units: int, placed_at: datetime = TODAY) -> list[Waiting]:
    return [Waiting(f"order-{n}", 1, wanted, placed_at, None, None, None) for n, wanted in enumerate(units, 1)]


def days_of(
    lines: Sequence[Waiting], coming: Sequence[Coming], *, lead_time_days: int | None = None
) -> list[float | None]:
    """The promised days of a queue on an empty shelf, counted from today."""
    promises = plan(
        lines, project(0, coming, TODAY, NO_RULES), lead_time_days=lead_time_days, release_at=None, now=TODAY
    )
    return [None if got.at is None else (got.at - TODAY) / DAY for got in promises]


# The stories of the eight lines and of the six.

EIGHT_SUPPLIES = supplies((6, 1), (4, 2), (2, 3), (4, 4), (8, 5), (4, 6), (4, 7), (4, 8))
EIGHT_LINES = queue(6, 2, 3, 6, 6, 1, 2, 2)


def told(before: Sequence[float | None], after: Sequence[float | None]) -> list[int]:
    """The places of those whose date moved, counted from 1."""
    dates = [
        tuple(None if number is None else day(number) for number in pair) for pair in zip(before, after, strict=True)
    ]
    return [place for place, (old, new) in enumerate(dates, 1) if moved(old, new)]


def test_each_line_is_promised_the_day_that_covers_all_before_it_and_itself() -> None:
    assert days_of(EIGHT_LINES, EIGHT_SUPPLIES) == [1, 2, 3, 5, 5, 5, 6, 6]


def test_a_late_supply_moves_exactly_those_who_leaned_on_it_and_then_nobody_else_until_one_is_lost() -> None:
    first = days_of(EIGHT_LINES, EIGHT_SUPPLIES)

    late = [replace(supply, expected_at=day(9)) if supply.supply_id == "S5" else supply for supply in EIGHT_SUPPLIES]
    delayed = days_of(EIGHT_LINES, late)
    assert delayed == [1, 2, 3, 6, 7, 7, 8, 8]
    assert told(first, delayed) == [4, 5, 6, 7, 8]

    without_five = [supply for supply in late if supply.supply_id != "S5"]
    cancelled = days_of(EIGHT_LINES, without_five)
    assert told(delayed, cancelled) == [], "nothing leaned on it any more"

    without_eight = [supply for supply in without_five if supply.supply_id != "S8"]
    unknown = days_of(EIGHT_LINES, without_eight)
    assert unknown == [1, 2, 3, 6, 7, 7, None, None]
    assert told(cancelled, unknown) == [7, 8]
    assert days_of(EIGHT_LINES, without_eight, lead_time_days=30) == [1, 2, 3, 6, 7, 7, 30, 30]


def test_a_shortage_is_carried_forward_and_no_unit_sold_twice() -> None:
    coming = supplies((10, 3), (1, 5), (3, 6))
    assert days_of(queue(3, 7, 2, 1, 1, 2), coming) == [3, 3, 6, 6, 6, None]


def test_nobody_behind_a_line_that_nothing_covers_is_promised_its_units() -> None:
    assert days_of(queue(1, 5, 1), supplies((2, 1))) == [1, None, None]


def test_a_promise_names_the_supply_that_completes_it() -> None:
    projection = project(1, supplies((2, 2), (2, 1)), TODAY, NO_RULES)
    promises = plan(queue(1, 2, 2, 1), projection, lead_time_days=None, release_at=None, now=TODAY)
    assert [(got.at, got.supply_id) for got in promises] == [
        (TODAY, None),
        (day(1), "S2"),
        (day(2), "S1"),
        (None, None),
    ]


def test_supplies_of_one_moment_are_used_in_the_order_of_their_ids() -> None:
    coming = [Coming(name, 1, day(1), overdue=False) for name in ("S-b", "S-a", "S-c")]
    projection = project(0, coming, TODAY, NO_RULES)
    assert [projection.covered(units) for units in (1, 2, 3)] == [(day(1), "S-a"), (day(1), "S-b"), (day(1), "S-c")]


def test_what_safety_stock_lacks_is_filled_before_anybody_is_promised_a_unit() -> None:
    projection = project(-3, supplies((3, 1), (2, 4)), TODAY, NO_RULES)
    assert projection.covered(1) == (day(4), "S2")
    assert projection.covered(2) == (day(4), "S2")
    assert projection.covered(3) is None


def test_a_supply_that_is_all_here_promises_nothing() -> None:
    assert project(0, supplies((0, 1), (5, 2)), TODAY, NO_RULES).covered(1) == (day(2), "S2")


# Handling and overdue supplies.


def test_handling_is_added_to_the_dates_of_supplies_and_not_to_stock() -> None:
    projection = project(2, supplies((5, 3)), TODAY, PromiseRules(handling=2 * DAY))
    assert projection.covered(2) == (TODAY, None)
    assert projection.covered(3) == (day(5), "S1")


@pytest.mark.parametrize("overdue", [Coming("S9", 5, day(-1), overdue=False), Coming("S9", 5, TODAY, overdue=True)])
def test_no_promise_leans_on_an_overdue_supply_unless_settings_say_how_late_it_is(overdue: Coming) -> None:
    """Overdue is what is past its date, or what its timer called overdue, be it at that very moment."""
    coming = [overdue, *supplies((5, 4))]
    assert project(0, coming, TODAY, NO_RULES).covered(5) == (day(4), "S1")
    assert project(0, coming, TODAY, NO_RULES).covered(6) is None

    counted = PromiseRules(handling=DAY, overdue_after=7 * DAY)
    assert project(0, coming, TODAY, counted).covered(5) == (day(5), "S1")
    assert project(0, coming, TODAY, counted).covered(6) == (day(8), "S9"), "seven days from now and one of handling"


def test_a_supply_is_not_overdue_at_its_very_moment() -> None:
    assert project(0, supplies((5, 0)), TODAY, NO_RULES).covered(5) == (TODAY, "S1")


# The lead time.


def test_the_lead_time_counts_from_the_order() -> None:
    assert lead(day(-3), 10, TODAY) == Lead(10, day(7))


def test_a_lead_time_that_is_over_when_it_is_first_needed_counts_from_then() -> None:
    assert lead(day(-10), 10, TODAY) == Lead(10, TODAY)
    assert lead(day(-10.5), 10, TODAY) == Lead(10, day(10))


def test_a_lead_time_date_never_moves_by_itself_and_follows_the_policy() -> None:
    first = lead(day(-20), 10, TODAY)
    assert first == Lead(10, day(10))
    assert uncovered(day(-20), 10, day(10), first, None, day(400)) == Promise(day(10), None, first)
    assert uncovered(day(-20), 30, day(10), first, None, day(2)) == Promise(day(10), None, Lead(30, day(10)))
    assert uncovered(day(-20), None, day(10), first, None, day(2)) == Promise(None, None, None)


def test_a_lead_time_date_that_has_passed_is_promised_to_nobody_anew() -> None:
    first = Lead(10, day(10))
    for promised_at in (None, day(20)):
        by_now = uncovered(TODAY, 10, promised_at, first, None, day(15))
        assert by_now == Promise(day(25), None, Lead(10, day(25)))
    assert uncovered(TODAY, 10, day(20), first, day(20), day(15)).at == day(20), "the release that was promised stays"


def test_a_line_that_nothing_covers_keeps_the_lead_time_date_that_it_has() -> None:
    known = Lead(10, day(10))
    got = promise(
        3,
        project(2, [], day(5), NO_RULES),
        placed_at=TODAY,
        lead_time_days=10,
        promised_at=known.at,
        known_lead=known,
        release_at=None,
        now=day(5),
    )
    assert got == Promise(day(10), None, known)


# Pre-orders.


def test_while_a_preorder_is_on_nothing_is_promised_before_its_release() -> None:
    projection = project(1, supplies((1, 2), (1, 6)), TODAY, NO_RULES)
    promises = plan(queue(1, 1, 1, 1), projection, lead_time_days=3, release_at=day(4), now=TODAY)
    assert [(got.at, got.supply_id) for got in promises] == [
        (day(4), None),
        (day(4), "S1"),
        (day(6), "S2"),
        (day(4), None),
    ]
    assert promises[3].lead == Lead(3, day(3)), "the lead time itself knows nothing of the release"


def test_a_preorder_that_nothing_covers_is_unknown_without_a_lead_time() -> None:
    (got,) = plan(queue(1), project(0, [], TODAY, NO_RULES), lead_time_days=None, release_at=day(4), now=TODAY)
    assert got == Promise(None, None, None)


def test_a_line_that_is_held_for_a_release_takes_nothing_and_is_promised_the_release() -> None:
    lines = queue(1, 0, 1)
    promises = plan(
        lines, project(0, supplies((2, 6)), TODAY, NO_RULES), lead_time_days=9, release_at=day(4), now=TODAY
    )
    assert [got.at for got in promises] == [day(6), day(4), day(6)]
    assert promises[1] == held(day(4), TODAY)
    assert held(day(-1), TODAY).at == TODAY
    assert held(None, TODAY).at == TODAY


# Who is told, and why.


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, None, False),
        (None, TODAY, True),
        (TODAY, None, True),
        (TODAY, TODAY, False),
        (datetime(2026, 11, 2, 0, tzinfo=UTC), datetime(2026, 11, 2, 23, 59, tzinfo=UTC), False),
        (datetime(2026, 11, 2, 23, 59, tzinfo=UTC), datetime(2026, 11, 3, 0, tzinfo=UTC), True),
        (datetime(2026, 11, 3, 0, tzinfo=UTC), datetime(2026, 11, 2, 23, 59, tzinfo=UTC), True),
        (
            datetime(2026, 11, 2, 23, tzinfo=UTC),
            datetime(2026, 11, 3, 1, 30, tzinfo=timezone(timedelta(hours=2))),
            False,
        ),
        (datetime(2026, 11, 2, tzinfo=UTC), datetime(2027, 11, 2, tzinfo=UTC), True),
    ],
)
def test_a_customer_is_told_of_another_calendar_day_in_utc(
    old: datetime | None, new: datetime | None, *, expected: bool
) -> None:
    assert moved(old, new) is expected


def test_the_causes_are_those_of_the_contract() -> None:
    assert CAUSES == (
        "supply_cancelled",
        "supply_moved",
        "supply_changed",
        "supply_overdue",
        "supply_announced",
        "stock_received",
        "stock_lost",
        "overtaken",
        "cancelled_ahead",
        "policy_changed",
        "recomputed",
    )
    assert get_args(PromiseChanged.model_fields["cause"].annotation) == CAUSES


@pytest.mark.parametrize(
    ("causes", "forward", "back"),
    [
        ({"supply_cancelled"}, "supply_cancelled", "supply_cancelled"),
        ({"supply_moved"}, "supply_moved", "supply_moved"),
        ({"supply_changed"}, "supply_changed", "supply_changed"),
        ({"supply_overdue"}, "recomputed", "supply_overdue"),
        ({"supply_announced"}, "supply_announced", "supply_announced"),
        ({"stock_received"}, "stock_received", "recomputed"),
        ({"stock_lost"}, "recomputed", "stock_lost"),
        ({"overtaken"}, "recomputed", "overtaken"),
        ({"cancelled_ahead"}, "cancelled_ahead", "recomputed"),
        ({"policy_changed"}, "policy_changed", "policy_changed"),
        ({"recomputed"}, "recomputed", "recomputed"),
        (set(), "recomputed", "recomputed"),
        ({"policy_changed", "overtaken", "stock_received"}, "stock_received", "overtaken"),
        (set(CAUSES), "supply_moved", "supply_cancelled"),
        (set(CAUSES) - {"supply_moved", "supply_cancelled"}, "supply_changed", "supply_changed"),
    ],
)
def test_a_cause_is_told_only_where_it_can_move_a_date_that_way(
    causes: set[Cause], forward: Cause, back: Cause
) -> None:
    assert cause_of(day(5), day(3), causes) == forward
    assert cause_of(None, day(3), causes) == forward
    assert cause_of(day(3), day(5), causes) == back
    assert cause_of(day(3), None, causes) == back


# Extremes.

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
EDGES = [
    EARLIEST,
    LATEST,
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=EAST),
    datetime.min.replace(tzinfo=WEST),
    datetime.max.replace(tzinfo=EAST),
    datetime.max.replace(tzinfo=WEST),
    TODAY,
]


@pytest.mark.parametrize("moment", EDGES)
@pytest.mark.parametrize("now", [EARLIEST, TODAY, LATEST])
def test_dates_at_the_ends_of_the_calendar_are_dates_that_can_be_stored(moment: datetime, now: datetime) -> None:
    rules = PromiseRules(handling=timedelta(days=36_500), overdue_after=timedelta(days=36_500))
    coming = [Coming("S1", 10**9, moment, overdue=False), Coming("S2", 10**9, moment, overdue=True)]
    lines = queue(10**9, 10**9, 1, 0, placed_at=moment)
    for release_at in (None, moment):
        promises = plan(lines, project(0, coming, now, rules), lead_time_days=36_500, release_at=release_at, now=now)
        for got in promises:
            assert got.at is not None
            assert EARLIEST <= got.at <= LATEST
            assert got.at.astimezone(UTC) >= now, "never for the past"
            assert not moved(got.at, got.at)
            assert moved(got.at, TODAY) is (got.at.astimezone(UTC).date() != TODAY.date())
    for other in EDGES:
        assert moved(moment, other) is moved(other, moment)


def test_a_sum_of_time_ends_with_the_calendar_of_utc_and_not_of_the_zone_it_came_in() -> None:
    moment = datetime(9999, 12, 31, 10, tzinfo=EAST)
    assert later(moment, timedelta(hours=20)) == datetime(9999, 12, 31, 16, tzinfo=UTC)
    assert later(moment, timedelta(hours=28)) == LATEST
    assert later(moment, timedelta.max) == LATEST


def test_sums_beyond_any_quantity_of_a_message_are_exact() -> None:
    many = [Coming(f"S{n:07}", 10**9, day(1), overdue=False) for n in range(1_000)]
    many += [Coming("last", 1, day(2), overdue=False)]
    projection = project(10**15, many, TODAY, NO_RULES)
    assert projection.covered(10**15) == (TODAY, None)
    assert projection.covered(10**15 + 1) == (day(1), "S0000000")
    assert projection.covered(10**15 + 10**12) == (day(1), "S0000999")
    assert projection.covered(10**15 + 10**12 + 1) == (day(2), "last")
    assert projection.covered(10**15 + 10**12 + 2) is None


# Properties. The naive planner below hands out single batches and knows no sums.


@dataclass
class Batch:
    """Units that come together; a supply of None is the shelf."""

    date: datetime
    supply_id: str | None
    left: int


def naive_plan(
    lines: Sequence[Waiting],
    start: int,
    coming: Sequence[Coming],
    rules: PromiseRules,
    lead_time_days: int | None,
    release_at: datetime | None,
    now: datetime,
) -> list[tuple[datetime | None, str | None]]:
    """Take from the shelf, then from the supplies as they come, until the line has all; its last batch is its date."""
    batches = [Batch(now, None, max(0, start))]
    arriving = []
    for supply in coming:
        if supply.overdue or supply.expected_at < now:
            if rules.overdue_after is not None:
                arriving.append((max(now, supply.expected_at) + rules.overdue_after, supply.supply_id, supply.units))
        else:
            arriving.append((supply.expected_at, supply.supply_id, supply.units))
    batches += [Batch(date + rules.handling, supply_id, units) for date, supply_id, units in sorted(arriving)]
    owed_to_the_shelf = max(0, -start)

    def take(wanted: int) -> Batch | None:
        for batch in batches:
            taken = min(wanted, batch.left)
            batch.left -= taken
            wanted -= taken
            if not wanted:
                return batch
        return None

    if owed_to_the_shelf:
        take(owed_to_the_shelf)
    dates: list[tuple[datetime | None, str | None]] = []
    for line in lines:
        batch = take(line.units) if line.units else batches[0]
        if batch is not None:
            date, supply_id = batch.date, batch.supply_id
        elif lead_time_days is None:
            dates.append((None, None))
            continue
        elif line.lead is not None and line.lead.days == lead_time_days:
            date, supply_id = line.lead.at, None
        else:
            from_order = line.placed_at + lead_time_days * DAY
            date, supply_id = from_order if from_order >= now else now + lead_time_days * DAY, None
        dates.append((date if release_at is None else max(release_at, date), supply_id))
    return dates


@dataclass(frozen=True)
class Case:
    lines: list[Waiting]
    start: int
    coming: list[Coming]
    rules: PromiseRules
    lead_time_days: int | None
    release_at: datetime | None

    def plan(self) -> list[Promise]:
        return plan(
            self.lines,
            project(self.start, self.coming, TODAY, self.rules),
            lead_time_days=self.lead_time_days,
            release_at=self.release_at,
            now=TODAY,
        )


units = st.integers(1, 9)
days = st.integers(-4, 12)
waiting_lines = st.lists(
    st.builds(
        Waiting,
        order_id=st.just("order"),
        line_no=st.just(1),
        units=st.integers(0, 9),
        placed_at=st.integers(-30, 0).map(day),
        promised_at=st.none(),
        first_promised_at=st.none(),
        lead=st.none() | st.builds(Lead, st.integers(0, 3), st.integers(-3, 20).map(day)),
    ),
    max_size=12,
)
coming_supplies = st.lists(
    st.builds(Coming, st.sampled_from("abcdefghijklmno"), units, days.map(day), st.booleans()),
    max_size=10,
    unique_by=lambda supply: supply.supply_id,
)
cases = st.builds(
    Case,
    lines=waiting_lines,
    start=st.integers(-12, 15),
    coming=coming_supplies,
    rules=st.builds(PromiseRules, st.integers(0, 3).map(timedelta), st.none() | st.integers(0, 8).map(timedelta)),
    lead_time_days=st.none() | st.integers(0, 3),
    release_at=st.none() | st.integers(1, 9).map(day),
)
examples = settings(max_examples=300, deadline=None, derandomize=True)


def without_lead(case: Case) -> Case:
    """The case with known dates from supply alone, and no line that is only held."""
    return replace(case, lead_time_days=None, lines=[line for line in case.lines if line.units])


def effective_date(supply: Coming, rules: PromiseRules) -> datetime | None:
    if not (supply.overdue or supply.expected_at < TODAY):
        return supply.expected_at + rules.handling
    if rules.overdue_after is None:
        return None
    return max(TODAY, supply.expected_at) + rules.overdue_after + rules.handling


@examples
@given(cases)
def test_the_plan_is_the_one_of_a_planner_that_hands_out_batches(case: Case) -> None:
    expected = naive_plan(case.lines, case.start, case.coming, case.rules, case.lead_time_days, case.release_at, TODAY)
    assert [(got.at, got.supply_id) for got in case.plan()] == expected


@examples
@given(cases)
def test_planning_a_whole_queue_says_what_each_line_is_told_by_itself(case: Case) -> None:
    projection = project(case.start, case.coming, TODAY, case.rules)
    ahead = 0
    for line, planned in zip(case.lines, case.plan(), strict=True):
        ahead += line.units
        if line.units:
            alone = promise(
                ahead,
                projection,
                placed_at=line.placed_at,
                lead_time_days=case.lead_time_days,
                promised_at=line.promised_at,
                known_lead=line.lead,
                release_at=case.release_at,
                now=TODAY,
            )
            assert planned == alone
            assert (planned.lead is not None) == (projection.covered(ahead) is None and case.lead_time_days is not None)


@examples
@given(cases.map(without_lead))
def test_a_later_place_never_has_an_earlier_date(case: Case) -> None:
    dates = [got.at or LATEST for got in case.plan()]
    assert dates == sorted(dates)


@examples
@given(cases.map(without_lead))
def test_what_is_promised_by_a_date_never_exceeds_what_is_there_by_that_date(case: Case) -> None:
    promises = case.plan()
    for date in {got.at for got in promises if got.at is not None}:
        promised = sum(
            line.units for line, got in zip(case.lines, promises, strict=True) if got.at is not None and got.at <= date
        )
        dates = [(effective_date(supply, case.rules), supply.units) for supply in case.coming]
        assert promised <= case.start + sum(units for by, units in dates if by is not None and by <= date)


@examples
@given(cases.map(without_lead), units | st.just(0), days, st.data())
def test_a_change_of_a_supply_moves_nobody_whose_date_lies_before_its_old_and_its_new_one(
    case: Case, new_units: int, new_day: int, data: st.DataObject
) -> None:
    """With 0 units it is cancelled; one that is not among the old supplies is announced."""
    before = data.draw(st.sampled_from([*case.coming, Coming("z", 0, day(20), overdue=False)]))
    after = Coming(before.supply_id, new_units, day(new_day), before.overdue)
    changed = replace(case, coming=[*(supply for supply in case.coming if supply.supply_id != before.supply_id), after])
    dates = [effective_date(supply, case.rules) for supply in (before, after) if supply.units]
    first_touched = min((date for date in dates if date is not None), default=None)
    for old, new in zip(case.plan(), changed.plan(), strict=True):
        if first_touched is None or (old.at is not None and old.at < first_touched):
            assert new == old
        elif new.at is not None:
            assert new.at >= first_touched, "and nobody is moved to before both"


@examples
@given(st.integers(-30, 0), st.lists(st.integers(0, 60), max_size=4))
def test_a_date_by_lead_time_stays_while_time_passes(placed: int, later_days: list[int]) -> None:
    """Each plan leans on the dates of the one before; nothing but the lead time covers the line."""
    known: Lead | None = None
    for number in sorted(later_days):
        got = promise(
            1,
            project(0, [], day(number), NO_RULES),
            placed_at=day(placed),
            lead_time_days=3,
            promised_at=None if known is None else known.at,
            known_lead=known,
            release_at=None,
            now=day(number),
        )
        assert got.lead is not None
        assert known is None or got.lead == known
        known = got.lead


@examples
@given(cases)
def test_no_new_promise_is_made_for_the_past(case: Case) -> None:
    fresh = replace(case, lines=[replace(line, lead=None) for line in case.lines])
    assert all(got.at is None or got.at >= TODAY for got in fresh.plan())
