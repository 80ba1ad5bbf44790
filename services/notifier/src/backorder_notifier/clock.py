"""Where the time comes from: one function, handed down from app. A replay of a month has one of its own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

Clock = Callable[[], datetime]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND: Final = 253_402_300_799_000


def system_clock() -> datetime:
    return datetime.now(UTC)


def moment_of(timestamp: int) -> datetime:
    """When a record was recorded, by its timestamp in milliseconds: between 1970 and 9999.

    Where a topic takes timestamps from senders, they may send any number.
    """
    return _EPOCH + timedelta(milliseconds=min(max(timestamp, 0), _LAST_MILLISECOND))
