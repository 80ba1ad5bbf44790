"""Metrics and logs. Labels are few and bounded: never an id of an order, a SKU or a customer."""

import logging
import sys
from time import monotonic
from traceback import format_tb
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

SELDOM_SECONDS = 30.0
STACK_FRAMES = 12
FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

STATEMENT_SECONDS = Histogram(
    "allocator_statement_seconds", "Round trip of a SQL statement", ["statement"], buckets=FAST
)
BATCH_SECONDS = Histogram("allocator_batch_seconds", "One batch, from its first lock to COMMIT", buckets=FAST)
BATCH_RECORDS = Histogram(
    "allocator_batch_records", "Records in a batch", buckets=(1, 10, 50, 100, 250, 500, 1000, 2000, 4000, 10000)
)
MESSAGES = Counter("allocator_messages_total", "Input messages by outcome", ["topic", "outcome"])
DEAD_LETTERS = Counter("allocator_dead_letters_total", "Messages that can never be used", ["topic", "reason"])
PURGED_LETTERS = Counter("allocator_dead_letters_purged_total", "Dead letters forgotten by age")
REDELIVERED = Counter("allocator_redelivered_total", "Records below their cursor: done before, dropped", ["topic"])
FENCED = Counter("allocator_fenced_total", "Times that this process was refused: another has its place", ["what"])
LOST_COMMITS = Counter("allocator_lost_commits_total", "Times that the database had forgotten what was committed")
WRONG_KEYS = Counter("allocator_wrong_keys_total", "Messages whose key is not what the contract says", ["topic"])
RETRIES = Counter("allocator_retries_total", "Batches tried again", ["cause"])
RESTARTS = Counter("allocator_restarts_total", "Transactions started over, because they had to lock more", ["cause"])
STOPPED = Gauge("allocator_stopped", "1 while a partition or all input stands still: an error that does not pass")
PUBLISHED = Counter("allocator_published_total", "Events and dead letters published", ["topic"])
RELAY_SEQ = Gauge("allocator_relay_seq", "The relay's position in the event log, when this process holds the lease")
RELAY_HOLDER = Gauge("allocator_relay_holder", "1 while this process publishes the log")
UNPUBLISHED = Gauge("allocator_unpublished", "Events that are committed and not published yet, by any process")
POLL_FAILURES = Counter("allocator_poll_failures_total", "Polls of Kafka tried again", ["cause"])
RELAY_FAILURES = Counter("allocator_relay_failures_total", "Publishing tried again", ["cause"])
PLANNER_RUNS = Counter("allocator_planner_runs_total", "Turns of the planner that found stale pools")
PLANNER_SECONDS = Histogram("allocator_planner_seconds", "One turn of the planner, its rests included", buckets=FAST)
PROMISES_MOVED = Counter("allocator_promises_moved_total", "Lines whose date moved by a calendar day", ["cause"])
STALE_POOLS = Gauge("allocator_stale_pools", "Pools that the planner found stale in its last turn, 1,000 at most")
TIMERS_FIRED = Counter("allocator_timers_fired_total", "Timers that did their work", ["kind"])
TIMER_LATE_SECONDS = Histogram(
    "allocator_timer_late_seconds", "From when a timer was due until it was fired", buckets=(*FAST, 30, 60, 300, 3600)
)
SILENT_SESSIONS = Counter(
    "allocator_silent_sessions_ended_total", "Sessions of frozen processes that held locks and were ended"
)
PART_FAILURES = Counter("allocator_part_failures_total", "Planning or timers tried again", ["part", "cause"])
LAST_BATCH = Gauge("allocator_last_batch_timestamp_seconds", "When the last batch was committed")


class Seldom(logging.Filter):
    """Lets a library say the same thing once in 30 seconds: without a broker they say it many times a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        self.said_at: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("backorder_allocator"):
            return True
        # The text before its values are filled in, so that there are few of them; one without any is cut.
        said = (record.name, str(record.msg)[:60])
        if monotonic() - self.said_at.get(said, -SELDOM_SECONDS) < SELDOM_SECONDS:
            return False
        self.said_at[said] = monotonic()
        return True


def set_up_logs(level: str) -> None:
    """JSON lines on stderr; libraries' logs come through the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # These log every poll or reconnect at INFO; what matters of it is in the metrics.
    for name in ("aiokafka", "faststream", "uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It warns with a stack when the database is away, which every part of the service says in a line.
    logging.getLogger("asyncpg.pool").setLevel(max(logging.ERROR, root.level))
    handler.addFilter(Seldom())


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The log of one module."""
    log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return log


def described(error: BaseException) -> dict[str, Any]:
    """An error for a log line: its kind and text, without a stack."""
    said = {"error": type(error).__name__, "message": text_of(error)}
    # What was raised while something was cleaned up says little without what it was cleaned up after.
    return said | ({"after": type(error.__context__).__name__} if error.__context__ is not None else {})


def text_of(error: BaseException) -> str:
    """What an error says, without the details that PostgreSQL adds in further lines: they quote rows."""
    return (str(error).splitlines() or [""])[0][:500]


def stack_of(error: BaseException) -> str:
    """Where an error was raised, without its text."""
    return "".join(format_tb(error.__traceback__)[-STACK_FRAMES:])
