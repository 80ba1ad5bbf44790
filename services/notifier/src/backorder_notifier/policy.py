"""When customers are told: the shop's choices, as plain values (read from settings, passed on as this)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

from backorder_notifier.kinds import Channel, Kind


@dataclass(frozen=True, slots=True)
class Debounce:
    """News of a kind waits until none of it came for `quiet`, `at_most` since the first."""

    quiet: timedelta
    at_most: timedelta


SETTLE = Debounce(timedelta(seconds=2), timedelta(seconds=10))
"""For what is told at once: as long as the events of one input on several topics take to come."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` on the customer's clock nothing is sent; `begin` may be later in the day than `end`."""

    begin: time
    end: time


@dataclass(frozen=True, slots=True)
class Policy:
    """All days are calendar days, all hours hours, of the customer's zone."""

    channels: tuple[Channel, ...] = ("email",)
    kinds_off: frozenset[Kind] = frozenset()  # kinds that the shop doesn't send
    debounce: Mapping[Kind, Debounce] = field(
        default_factory=lambda: {"promise_changed": Debounce(timedelta(minutes=30), timedelta(hours=4))}
    )
    later_days: int = 2  # a date that moved by at least so many days is told
    earlier_days: int = 3
    approaching_days: int = 2  # before the promised day
    missed_days: int = 1  # after it
    feedback_days: int = 5  # after everything was delivered
    timed_at: time = time(9)  # when reminders, missed promises and requests for feedback go out
    quiet_hours: Mapping[Channel, QuietHours] = field(default_factory=lambda: {"sms": QuietHours(time(21), time(8))})
    not_quiet: frozenset[Kind] = frozenset({"backorder_created", "backorder_rejected", "backorder_cancelled"})
    daily_cap: int = 10
    not_capped: frozenset[Kind] = frozenset(
        {"allocation_revoked", "backorder_rejected", "backorder_cancelled", "shipped", "backorder_created"}
    )
    stale_after: timedelta = timedelta(days=2)
    gap_wait: timedelta = timedelta(minutes=15)  # for an event that has to come before another can be told
    start_at: datetime | None = None

    def debounce_of(self, kind: Kind) -> Debounce:
        return self.debounce.get(kind, SETTLE)
