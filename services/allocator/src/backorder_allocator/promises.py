"""When the units that wait will be there: the projected supply of a pool, the date of a line, the plan of a queue.

Units to come are poured over the queue in rank order: the date of a line is the first one by which everything that
waits ahead of it and the line itself is covered. Nothing is promised twice, and what stock lacks is filled first.
Pure: what is known comes in as values, *now* among them; dates come out.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final, Literal, get_args

from backorder_allocator.ranking import EARLIEST, LATEST, storable

Cause = Literal[
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
]
"""Why a promise moved, in the order of the contract: the first that fits is told."""
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
# Where a lead time is shorter than a supply takes, announcing it puts dates back and cancelling it brings them forward:
# told last, since nearly always it is the other way round.
BRINGS_FORWARD: Final[tuple[Cause, ...]] = (
    *(cause for cause in CAUSES if cause not in {"supply_cancelled", "supply_overdue", "stock_lost", "overtaken"}),
    "supply_cancelled",
)
"""What can make a date appear or come earlier; the first that happened is told."""
PUTS_BACK: Final[tuple[Cause, ...]] = (
    *(cause for cause in CAUSES if cause not in {"supply_announced", "stock_received", "cancelled_ahead"}),
    "supply_announced",
)
"""What can make a date later or take it away; the first that happened is told."""


@dataclass(frozen=True, slots=True)
class PromiseRules:
    """How the dates of supplies become dates of customers."""

    handling: timedelta = timedelta(0)
    """From a supply's date to the promised one."""
    overdue_after: timedelta | None = None
    """An overdue supply counts as coming at now + this. None: no promise leans on it."""


@dataclass(frozen=True, slots=True)
class Coming:
    """A supply with the units that are still to come."""

    supply_id: str
    units: int
    expected_at: datetime
    overdue: bool


@dataclass(frozen=True, slots=True)
class Projection:
    """What a pool can give by when, seen from `now`; built by `project`."""

    now: datetime
    start: int
    """Units for the queue that are there now; negative where stock or safety stock lacks some."""
    reached: tuple[int, ...]
    """The start and all units of the supplies up to this one; never falling."""
    dates: tuple[datetime, ...]
    """By supply, handling included; never falling."""
    supply_ids: tuple[str, ...]
    moves: bool = False
    """Some supplies are overdue and count from `now`, so that their dates move with it."""

    def covered(self, units: int) -> tuple[datetime, str | None] | None:
        """The first date by which so many units in total are covered, and by which supply (None: by stock), or None."""
        if units <= self.start:
            return self.now, None
        index = bisect_left(self.reached, units)
        return (self.dates[index], self.supply_ids[index]) if index < len(self.reached) else None


@dataclass(frozen=True, slots=True)
class Lead:
    """The date that a line gets from the lead time of its SKU where no supply covers it; fixed once computed."""

    days: int
    """The lead time that it was computed from."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Promise:
    """The date of a line; `at` is None where it is unknown."""

    at: datetime | None
    supply_id: str | None
    """The supply that completes it; None where stock covers it, or nothing does."""
    lead: Lead | None
    """Set where nothing covers it and the lead time decides. None says nothing about a lead date computed before."""


UNKNOWN: Final = Promise(None, None, None)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line of a queue; without units to wait, it has all of them and is held for a pre-order's release."""

    order_id: str
    line_no: int
    units: int
    placed_at: datetime
    promised_at: datetime | None
    first_promised_at: datetime | None
    lead: Lead | None


def project(start: int, supplies: Iterable[Coming], now: datetime, rules: PromiseRules) -> Projection:
    """What a pool can give by when: `start` units (signed) now, then its supplies by date and id."""
    coming: list[tuple[datetime, str, int]] = []
    moves = False
    for supply in supplies:
        if not (supply.overdue or supply.expected_at < now):
            coming.append((supply.expected_at, supply.supply_id, supply.units))
        elif rules.overdue_after is not None:
            # Its timer may have said so before a record from before its date is worked.
            coming.append((later(max(now, supply.expected_at), rules.overdue_after), supply.supply_id, supply.units))
            moves = True
    coming.sort()
    return Projection(
        now=now,
        start=start,
        reached=tuple(accumulate((units for _, _, units in coming), initial=start))[1:],
        dates=tuple(later(date, rules.handling) for date, _, _ in coming),
        supply_ids=tuple(supply_id for _, supply_id, _ in coming),
        moves=moves,
    )


def promise(
    units_ahead_and_own: int,
    projection: Projection,
    *,
    placed_at: datetime,
    lead_time_days: int | None,
    promised_at: datetime | None,
    known_lead: Lead | None,
    release_at: datetime | None,
    now: datetime,
) -> Promise:
    """The promise of a line that waits behind others. `release_at` only while the pool's pre-order is on."""
    match projection.covered(units_ahead_and_own):
        case None:
            return uncovered(placed_at, lead_time_days, promised_at, known_lead, release_at, now)
        case date, supply_id:
            return Promise(not_before(release_at, date), supply_id, None)


def plan(
    queue: Sequence[Waiting],
    projection: Projection,
    *,
    lead_time_days: int | None,
    release_at: datetime | None,
    now: datetime,
) -> list[Promise]:
    """The promises of a whole queue in rank order, in one pass: what `promise` says of each line.

    A line without units to wait takes none; it is promised like stock.
    """
    wanted = accumulate(line.units for line in queue)
    return plan_part(zip(queue, wanted, strict=True), projection, lead_time_days, release_at, now)


def plan_part(
    lines: Iterable[tuple[Waiting, int]],
    projection: Projection,
    lead_time_days: int | None,
    release_at: datetime | None,
    now: datetime,
) -> list[Promise]:
    """The promises of some lines of a queue in rank order, each with the units that wait ahead of it and its own."""
    by_stock = held(release_at, now)
    rest = iter(steps(projection, release_at, now))
    reached, current = next(rest)
    covered = True
    promises: list[Promise] = []
    for line, wanted in lines:
        if not line.units:
            promises.append(by_stock)
            continue
        while covered and wanted > reached:
            following = next(rest, None)
            if following is None:
                covered = False
            else:
                reached, current = following
        if covered:
            promises.append(current)
        else:
            promises.append(uncovered(line.placed_at, lead_time_days, line.promised_at, line.lead, release_at, now))
    return promises


def steps(projection: Projection, release_at: datetime | None, now: datetime) -> list[tuple[int, Promise]]:
    """What lines are promised up to so many units of a queue: by stock, then by each supply. Never falling."""
    supplies = zip(projection.reached, projection.dates, projection.supply_ids, strict=True)
    return [
        (projection.start, held(release_at, now)),
        *((reached, Promise(not_before(release_at, date), supply_id, None)) for reached, date, supply_id in supplies),
    ]


def held(release_at: datetime | None, now: datetime) -> Promise:
    """The promise of units that are there: now, or when the pre-order is released."""
    return Promise(not_before(release_at, now), None, None)


def uncovered(
    placed_at: datetime,
    lead_time_days: int | None,
    promised_at: datetime | None,
    known: Lead | None,
    release_at: datetime | None,
    now: datetime,
) -> Promise:
    """The promise of a line that no supply covers: by lead time, or unknown.

    A date by lead time doesn't move by itself. One that has passed is told no more, but to whom it is promised already.
    """
    if lead_time_days is None:
        return UNKNOWN
    if known is not None and known.days == lead_time_days:
        date = not_before(release_at, known.at)
        if known.at >= now or not moved(promised_at, date):
            return Promise(date, None, known)
    computed = lead(placed_at, lead_time_days, now)
    return Promise(not_before(release_at, computed.at), None, computed)


def lead(placed_at: datetime, days: int, now: datetime) -> Lead:
    """The lead time date of a line: counted from its order, or from now where that is over."""
    duration = timedelta(days)
    at = later(placed_at, duration)
    return Lead(days, at if at >= now else later(now, duration))


def moved(old: datetime | None, new: datetime | None) -> bool:
    """Whether a customer is told: the date appeared, was lost, or is on another calendar day (UTC)."""
    if old is None or new is None:
        return old is not new
    return old != new and in_utc(old).date() != in_utc(new).date()


def cause_of(old: datetime | None, new: datetime | None, causes: Collection[Cause]) -> Cause:
    """Of all that happened since the last plan, the first of the contract's causes that can move a date this way."""
    forward = new is not None and (old is None or new < old)
    return next((cause for cause in (BRINGS_FORWARD if forward else PUTS_BACK) if cause in causes), "recomputed")


def leans_on(promise: Promise) -> str | None:
    """What a date leans on, in words, for `explain`."""
    if promise.at is None:
        return None
    if promise.lead is not None:
        return "lead time"
    return "stock" if promise.supply_id is None else f"supply {promise.supply_id}"


def not_before(release_at: datetime | None, date: datetime) -> datetime:
    """The date, or the release of the pre-order where that is later."""
    return date if release_at is None or release_at <= date else storable(release_at)


def later(moment: datetime, duration: timedelta) -> datetime:
    """The moment so much later in UTC, never beyond the last one that can be stored."""
    moment = in_utc(moment)
    return LATEST if LATEST - moment <= duration else moment + duration


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC. The first and last days of the calendar in other zones are outside of it, hence `storable`."""
    if moment.tzinfo is UTC and EARLIEST <= moment <= LATEST:  # nearly always, and three times as fast
        return moment
    return storable(moment).astimezone(UTC)
