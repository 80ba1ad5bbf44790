"""Calendar days and hours on customers' clocks, over changes of the clock and at the ends of the calendar."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backorder_notifier.policy import QuietHours
from backorder_notifier.timing import (
    after_quiet_hours,
    at,
    at_days_after,
    later,
    local_day,
    local_midnight,
    next_morning,
    zone_of,
)

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(time(21), time(8))
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Kiritimati",
    "Pacific/Niue", "America/Sao_Paulo", "Asia/Beirut", "Africa/Casablanca", "Etc/GMT+12", "Antarctica/Troll",
]  # fmt: skip
moments = st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize("name", ["", "no/such_zone", "../../etc/passwd", "Europe", "/etc/passwd", "A" * 64, "a\x00b"])
def test_a_zone_that_is_none_is_utc(name: str) -> None:
    assert zone_of(name).key == "UTC"


def test_a_day_is_the_one_where_the_customer_lives() -> None:
    assert local_day(utc(2026, 11, 20, 23), BERLIN) == date(2026, 11, 21)
    assert local_day(utc(2026, 11, 20, 2), ZoneInfo("America/New_York")) == date(2026, 11, 19)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue"])
@pytest.mark.parametrize("moment", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_the_ends_of_the_calendar_are_days_too(moment: datetime, zone: str) -> None:
    there = ZoneInfo(zone)
    assert abs(local_day(moment, there) - moment.date()) <= timedelta(days=1)
    assert abs(local_midnight(moment, zone) - moment) <= timedelta(days=2)
    assert next_morning(moment, time(9), there) is not None
    assert after_quiet_hours(moment, NIGHT, there) is not None
    assert later(moment, timedelta(days=9)) is not None
    assert later(moment, timedelta(days=-9)) is not None


def test_a_day_beyond_the_calendar_has_no_hour() -> None:
    assert at_days_after(date.max, 1, time(9), BERLIN) is None
    assert at_days_after(date.min, -1, time(9), BERLIN) is None
    assert at(date.min, time(0), ZoneInfo("Asia/Tokyo")) is None


def test_an_hour_that_the_clock_skips_is_as_much_later() -> None:
    assert at(date(2026, 3, 29), time(2, 30), BERLIN) == utc(2026, 3, 29, 1, 30)  # half past three


def test_an_hour_that_comes_twice_is_the_first_of_them() -> None:
    assert at(date(2026, 10, 25), time(2, 30), BERLIN) == utc(2026, 10, 25, 0, 30)
    assert at(date(2026, 10, 25), time(2, 30), BERLIN, second=True) == utc(2026, 10, 25, 1, 30)
    assert at(date(2026, 10, 25), time(2, 30), BERLIN) == utc(2026, 10, 25, 0, 30)


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (utc(2026, 11, 2, 12), utc(2026, 11, 2, 12)),  # daytime
        (utc(2026, 11, 2, 20), utc(2026, 11, 3, 7)),  # nine in the evening
        (utc(2026, 11, 2, 6, 59), utc(2026, 11, 2, 7)),  # before eight
        (utc(2026, 11, 2, 7), utc(2026, 11, 2, 7)),  # eight
        (utc(2026, 10, 24, 20), utc(2026, 10, 25, 7)),  # a night of an hour more
        (utc(2026, 3, 28, 21), utc(2026, 3, 29, 6)),  # a night of an hour less
    ],
)
def test_quiet_hours_end_in_the_morning_of_the_customer(now: datetime, then: datetime) -> None:
    assert after_quiet_hours(now, NIGHT, BERLIN) == then


def test_quiet_hours_that_end_in_the_hour_that_comes_twice_end_for_good() -> None:
    quiet = QuietHours(time(23), time(2, 30))
    first, second = utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)
    assert after_quiet_hours(utc(2026, 10, 24, 22), quiet, BERLIN) == first
    assert after_quiet_hours(utc(2026, 10, 25, 1, 10), quiet, BERLIN) == second  # set back, and quiet again


def test_quiet_hours_in_the_day_and_none_at_all() -> None:
    noon = QuietHours(time(12), time(14))
    assert after_quiet_hours(utc(2026, 7, 1, 13), noon, ZoneInfo("UTC")) == utc(2026, 7, 1, 14)
    assert after_quiet_hours(utc(2026, 7, 1, 14), noon, ZoneInfo("UTC")) == utc(2026, 7, 1, 14)
    for quiet in (None, QuietHours(time(8), time(8))):
        assert after_quiet_hours(utc(2026, 7, 1, 8), quiet, BERLIN) == utc(2026, 7, 1, 8)


@settings(deadline=None, derandomize=True)
@given(moments, st.sampled_from(ZONES), st.times(), st.times())
def test_after_quiet_hours_it_is_not_quiet_and_no_day_is_lost(now: datetime, zone: str, begin: time, end: time) -> None:
    there = ZoneInfo(zone)
    then = after_quiet_hours(now, QuietHours(begin, end), there)
    assert timedelta(0) <= then - now <= timedelta(hours=49)
    assert after_quiet_hours(then, QuietHours(begin, end), there) == then


@settings(deadline=None, derandomize=True)
@given(moments, st.sampled_from(ZONES))
def test_the_day_began_before_now_and_the_next_morning_is_after_it(now: datetime, zone: str) -> None:
    there = ZoneInfo(zone)
    midnight = local_midnight(now, zone)
    assert local_day(midnight, there) == local_day(now, there)
    assert timedelta(0) <= now - midnight <= timedelta(hours=25)
    morning = next_morning(now, time(9), there)
    assert now < morning
    assert local_day(morning, there) > local_day(now, there)
