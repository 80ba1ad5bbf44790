"""Calendar days and hours on a customer's clock. Pure, and never raises: zones and dates come from outside."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from backorder_notifier.policy import QuietHours

_DAY = timedelta(days=1)
# Beyond these, PostgreSQL's driver writes infinity and reads it back without a zone, which compares with nothing.
_BEGINNING = datetime.min.replace(tzinfo=UTC) + timedelta(microseconds=1)
_END = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)


def storable(moment: datetime) -> datetime:
    """The moment, or the nearest that can be stored: some senders write the first or last one for "not known"."""
    return min(max(moment, _BEGINNING), _END)


@lru_cache(maxsize=1000)  # names come from outside
def zone_of(name: str) -> ZoneInfo:
    """The zone of that name; UTC where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


@lru_cache(maxsize=10_000)  # a promise is shared by many orders
def local_day(moment: datetime, zone: ZoneInfo) -> date:
    """The calendar day there. At an end of the calendar, where there is no such day there, the day in UTC."""
    try:
        return moment.astimezone(zone).date()
    except OverflowError:
        return moment.date()


@lru_cache(maxsize=10_000)
def at(day: date, hour: time, zone: ZoneInfo, *, second: bool = False) -> datetime | None:
    """That hour of that day there, in UTC. None: beyond the calendar.

    Where clocks are set back over it, the first or `second` of two; where they are set forward, as much later.
    """
    try:
        return datetime.combine(day, hour, zone).replace(fold=int(second)).astimezone(UTC)
    except OverflowError:
        return None


def days_after(day: date, days: int) -> date | None:
    """None beyond the calendar."""
    try:
        return day + days * _DAY
    except OverflowError:
        return None


def at_days_after(day: date, days: int, hour: time, zone: ZoneInfo) -> datetime | None:
    """That hour of the day so many days after (before, where negative), or None beyond the calendar."""
    there = days_after(day, days)
    return None if there is None else at(there, hour, zone)


def later(moment: datetime, by: timedelta) -> datetime:
    """`moment` + `by`, or the end of the calendar on that side."""
    try:
        return storable(moment + by)
    except OverflowError:
        return _END if by > timedelta(0) else _BEGINNING


def local_midnight(now: datetime, timezone: str) -> datetime:
    """When the day of `now` began there."""
    zone = zone_of(timezone)
    return at(local_day(now, zone), time(0), zone) or now


def next_morning(now: datetime, hour: time, zone: ZoneInfo) -> datetime:
    """That hour of the next day there."""
    return at_days_after(local_day(now, zone), 1, hour, zone) or later(now, _DAY)


def after_quiet_hours(now: datetime, quiet: QuietHours | None, zone: ZoneInfo) -> datetime:
    """`now`, or the end of the quiet hours that it lies in."""
    if quiet is None or not _is_quiet(now, quiet, zone):
        return now
    today = local_day(now, zone)
    # The day's end may lie behind: quiet hours over midnight, or a clock that was set back and is quiet again.
    for days in (0, 1):
        day = days_after(today, days)
        if day is None:
            break
        for second in (False, True):
            end = at(day, quiet.end, zone, second=second)
            if end is not None and end > now and not _is_quiet(end, quiet, zone):
                return end
    return now


def _is_quiet(moment: datetime, quiet: QuietHours, zone: ZoneInfo) -> bool:
    try:
        clock = moment.astimezone(zone).time()
    except OverflowError:
        return False
    if quiet.begin <= quiet.end:
        return quiet.begin <= clock < quiet.end
    return clock >= quiet.begin or clock < quiet.end
