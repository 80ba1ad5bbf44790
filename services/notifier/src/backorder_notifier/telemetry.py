"""Logs as JSON lines on standard error, and the metrics. Neither ever carries an address, a phone number or a name."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LONG_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)

MESSAGES = Counter("backorder_notifier_messages_total", "Records of committed batches", ["outcome"], registry=REGISTRY)
BATCHES = Counter("backorder_notifier_batches_total", "Poll batches", ["outcome"], registry=REGISTRY)
BATCH_SECONDS = Histogram(
    "backorder_notifier_batch_seconds", "From receipt to COMMIT", buckets=SECONDS, registry=REGISTRY
)
SQL_SECONDS = Histogram(
    "backorder_notifier_sql_seconds", "One statement", ["statement"], buckets=SECONDS, registry=REGISTRY
)
LAG = Gauge("backorder_notifier_lag_records", "Records not yet read", ["topic", "partition"], registry=REGISTRY)
FAILURES = Counter(
    "backorder_notifier_failures_total",
    "Turns that failed and are done again: the database, Kafka, or a bug",
    ["part"],
    registry=REGISTRY,
)
UNREADABLE = Gauge(
    "backorder_notifier_unreadable", "1: this partition can't be read, and stands still", ["topic", "partition"],
    registry=REGISTRY,
)  # fmt: skip
FENCED = Counter(
    "backorder_notifier_fenced_total", "Refused, since another process had taken over: this one was frozen or cut off",
    ["what"], registry=REGISTRY,
)  # fmt: skip
LOST_COMMITS = Counter(
    "backorder_notifier_lost_commits_total", "The database was behind what it had confirmed", registry=REGISTRY
)
PURGED_LETTERS = Counter(
    "backorder_notifier_dead_letters_purged_total", "Dead letters forgotten by age", registry=REGISTRY
)
DEAD_LETTERS = Counter(
    "backorder_notifier_dead_letters_total", "Messages that can't be used", ["topic", "reason"], registry=REGISTRY
)
GAPS = Counter(
    "backorder_notifier_version_gaps_total", "Waits for a missing version that were given up", registry=REGISTRY
)
ATTEMPTS = Counter(
    "backorder_notifier_attempts_total", "Tries to send", ["kind", "channel", "outcome"], registry=REGISTRY
)
SEND_SECONDS = Histogram(
    "backorder_notifier_send_seconds", "One try to send", ["channel"], buckets=SECONDS, registry=REGISTRY
)
ACCEPTED_SECONDS = Histogram(
    "backorder_notifier_accepted_seconds", "From event to accepted by the provider", ["kind", "channel"],
    buckets=LONG_SECONDS, registry=REGISTRY,
)  # fmt: skip
POLICY_REFUSALS = Counter(
    "backorder_notifier_policy_refusals_total", "Refused by a rule of the provider (5.7.x): look at it", ["channel"],
    registry=REGISTRY,
)  # fmt: skip
PROVIDER_UP = Gauge(
    "backorder_notifier_provider_up",
    "1 if the provider could be reached last time",
    ["channel"],
    registry=REGISTRY,
)
DECIDED = Counter(
    "backorder_notifier_decided_total", "What was decided about events that may concern a customer",
    ["kind", "state", "reason"], registry=REGISTRY,
)  # fmt: skip
TELLING_FAILED = Counter(
    "backorder_notifier_telling_failed_total", "Orders that could not be decided on: look at the log", registry=REGISTRY
)
TELLING_SECONDS = Histogram(
    "backorder_notifier_telling_seconds", "One round of deciding", buckets=SECONDS, registry=REGISTRY
)
PENDING = Gauge("backorder_notifier_pending_events", "Events not decided on yet", registry=REGISTRY)
DELIVERIES = Gauge("backorder_notifier_deliveries", "Deliveries not settled yet", ["state"], registry=REGISTRY)
OLDEST_DUE_SECONDS = Gauge(
    "backorder_notifier_oldest_due_seconds", "Age of the oldest delivery not settled", registry=REGISTRY
)
UNSUBSCRIBE_REQUESTS = Counter(
    "backorder_notifier_unsubscribe_requests_total", "Requests to unsubscribe links", ["outcome"], registry=REGISTRY
)
PUBLISHED = Counter("backorder_notifier_published_total", "Records published", ["topic"], registry=REGISTRY)
UNPUBLISHED = Gauge("backorder_notifier_unpublished", "Records waiting to be published", ["topic"], registry=REGISTRY)

Logger = structlog.stdlib.BoundLogger


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        histogram.observe(time.perf_counter() - start)


class OncePerHalfMinute(logging.Filter):
    """Lets each kind of line of a library through once in 30 s: while a broker is away aiokafka writes ten a second."""

    def __init__(self) -> None:
        super().__init__()
        self.last_seen: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.msg if isinstance(record.msg, str) else "")
        now = time.monotonic()
        if now - self.last_seen.get(key, float("-inf")) < 30:
            return False
        self.last_seen[key] = now
        return True


def _without_traceback(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """An exception of a library as its class name: texts of exceptions may quote data."""
    if info := event.pop("exc_info", None):
        error = info[1] if isinstance(info, tuple) else sys.exception() if info is True else info
        event["error"] = type(error).__name__
    return event


def configure_logging(level: str) -> None:
    """JSON lines on standard error for our own logs and those of the libraries (warnings and worse)."""
    stamped: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _without_traceback,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *stamped],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    handler.addFilter(_libraries_once(OncePerHalfMinute()))
    # FastStream writes by a handler of its own: texts with tracebacks, which may quote data, as often as it likes.
    faststream = logging.getLogger("faststream")
    faststream.handlers.clear()
    faststream.propagate = True
    logging.getLogger("backorder_notifier").setLevel(level.upper())
    structlog.configure(
        processors=[*stamped, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _libraries_once(once: OncePerHalfMinute) -> Any:
    return lambda record: record.name.startswith("backorder_notifier") or once.filter(record)


def logger(name: str) -> Logger:
    bound: Logger = structlog.stdlib.get_logger(f"backorder_notifier.{name}")
    return bound
