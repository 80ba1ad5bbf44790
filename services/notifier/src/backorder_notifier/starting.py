"""Waits for the world to be ready before anything is read or sent: the database, its tables, Kafka, its topics."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from faststream.kafka import KafkaBroker

from backorder_notifier import migrate
from backorder_notifier.accepting import Accepting, guard
from backorder_notifier.clock import Clock
from backorder_notifier.errors import WRONG_ADDRESS, ConfigurationError, describe, is_not_ready
from backorder_notifier.intake import READS
from backorder_notifier.statements import borrowed
from backorder_notifier.telemetry import logger

log = logger("starting")


async def _again(what: str, work: Callable[[], Awaitable[str | None]]) -> None:
    """Until `work` returns None; a text says what is missing. One line in the log at first, then now and then."""
    tries = 0
    while True:
        try:
            missing = await work()
            problem = {"missing": missing} if missing else None
        except WRONG_ADDRESS as error:
            raise ConfigurationError(f"NOTIFIER_DATABASE_URL: the server refuses it ({type(error).__name__})") from None
        except asyncpg.InsufficientPrivilegeError:
            raise ConfigurationError("NOTIFIER_DATABASE_URL: its user lacks a right that this needs") from None
        except Exception as error:
            if not is_not_ready(error):
                raise
            problem = describe(error)
        if problem is None:
            return
        tries += 1
        if tries in {1, 10} or tries % 60 == 0:
            log.warning("waiting", what=what, tries=tries, **problem)
        await asyncio.sleep(min(5.0, 0.25 * 2 ** min(tries, 6)) * random.uniform(0.8, 1.2))  # noqa: S311


async def ready_database(pool: asyncpg.Pool) -> None:
    async def check() -> None:
        async with borrowed(pool) as connection:
            await migrate.check(connection)

    await _again("database", check)


async def ready_topics(servers: list[str], prefix: str) -> None:
    """FastStream would start without the topics and never say a word."""
    wanted = {f"{prefix}{topic}" for topic in (*READS, "notifications", "notifier.dlq")}

    async def check() -> str | None:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=servers, client_id="backorder-notifier", request_timeout_ms=10_000
        )
        try:
            await admin.start()
            missing = sorted(wanted.difference(await admin.list_topics()))
        finally:
            await admin.close()
        return f"topics {', '.join(missing)}: run backorder-allocator topics --apply" if missing else None

    await _again("kafka", check)


async def guarded(pool: asyncpg.Pool, servers: list[str], prefix: str, accepting: Accepting, clock: Clock) -> None:
    """Kafka and the database are what they were, or somebody accepts that they are not. Raises GuardError."""

    async def check() -> None:
        async with borrowed(pool) as connection:
            await guard(connection, servers, prefix, accepting, clock())

    await _again("kafka", check)


async def started(broker: KafkaBroker) -> None:
    async def start() -> None:
        try:
            await broker.start()
        except BaseException:
            await broker.stop()
            raise

    await _again("kafka", start)
