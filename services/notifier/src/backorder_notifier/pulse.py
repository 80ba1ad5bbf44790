"""How a part of this process is doing: whether it still goes round, and whether it fails again and again.

What a part that fails writes into the log is decided here, too: a database that is away for hours must not fill a disk.
"""

import gc
import random
import time
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from backorder_notifier.errors import describe, is_not_ready
from backorder_notifier.telemetry import FAILURES, Logger

_FAILING_AFTER: Final = 2  # failures in a row; one is a connection that was cut
_COLLECT_EVERY_SECONDS: Final = 1.0
_collected_at = 0.0


@dataclass(slots=True)
class Pulse:
    """Of one part. `longest_seconds`: how long one turn of it may last with all its timeouts, and some more."""

    part: str
    longest_seconds: float = 90.0
    turned_at: float = field(default_factory=time.monotonic)
    failures: int = 0

    @property
    def is_alive(self) -> bool:
        """It went round lately, with or without success: whoever waits for a database should not be restarted."""
        return time.monotonic() - self.turned_at < self.longest_seconds

    @property
    def is_well(self) -> bool:
        return self.failures < _FAILING_AFTER

    def turns(self) -> None:
        """It is at work, whatever comes of it."""
        self.turned_at = time.monotonic()

    def succeeds(self) -> None:
        self.turned_at = time.monotonic()
        self.failures = 0

    def fails(self, log: Logger, event: str, error: BaseException, **more: Any) -> None:
        """Count it, and write a line at first and then now and then; more often for what does not pass by itself."""
        collect_what_failed()
        self.turned_at = time.monotonic()
        self.failures += 1
        FAILURES.labels(self.part).inc()
        complain(log, event, self.failures, error, **more)

    def pause(self, longest: float) -> float:
        """Seconds until the next try: doubling, with jitter so that processes don't come all at once."""
        return pause(self.failures, longest)


def collect_what_failed() -> None:
    """What failed hangs on its error in circles, some MiB each time, and the collector comes seldom by itself."""
    global _collected_at  # noqa: PLW0603 - of the process, as its garbage is
    if time.monotonic() - _collected_at >= _COLLECT_EVERY_SECONDS:
        gc.collect()
        _collected_at = time.monotonic()


def pause(failures: int, longest: float) -> float:
    """Seconds to wait after so many failures in a row."""
    doubling: float = min(longest, 0.25 * 2 ** min(failures, 10))
    return doubling * random.uniform(0.8, 1.2)  # noqa: S311


def complain(log: Logger, event: str, failures: int, error: BaseException, **more: Any) -> None:
    """A line about the first failure in a row, the tenth, and then every fiftieth.

    A bug, a missing right or a full disk is an error, and said more often: somebody has to do something.
    """
    if is_not_ready(error) and not isinstance(error, asyncpg.DiskFullError):
        if failures in {1, 10} or failures % 50 == 0:
            log.warning(event, tries=failures, **more, **describe(error))
    elif failures <= 3 or failures % 10 == 0:
        log.error(event, tries=failures, **more, **describe(error))
