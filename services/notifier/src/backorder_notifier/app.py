"""The only place that wires: settings → connections, reader, senders, relay, HTTP; and the order of start and stop."""

import asyncio
import contextlib
import gc
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from faststream.kafka import KafkaBroker

from backorder_notifier import migrate, store
from backorder_notifier.errors import WRONG_ADDRESS, ConfigurationError, NotifierError, describe, is_not_ready
from backorder_notifier.intake import READS, Report, give_up_waiting
from backorder_notifier.relay import Relay
from backorder_notifier.rendering import check_templates
from backorder_notifier.sending import Patience, Sending
from backorder_notifier.settings import Settings
from backorder_notifier.smtp import MailServer
from backorder_notifier.subscribers import Reader, build_broker, count_and_log, describe_topics
from backorder_notifier.telemetry import DELIVERIES, OLDEST_DUE_SECONDS, UNPUBLISHED, configure_logging, logger
from backorder_notifier.web import build_app, build_server, listen

log = logger("app")

_STOP_SECONDS: Final = 22.0  # for the batch and the mails in hand; 30 is promised for all
_LAST_WORDS_SECONDS: Final = 5.0
_HOUSEKEEPING_SECONDS: Final = 5.0


async def run(settings: Settings) -> None:
    """Read, send and publish until SIGTERM or SIGINT; then finish what is in hand. Raises ConfigurationError."""
    configure_logging(settings.log_level)
    smtp, sender, servers = settings.smtp, settings.sender, settings.bootstrap_servers
    check_templates()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    # No connection yet: /livez and /readyz answer while the database is away.
    async with _pool(settings) as pool:
        relay = Relay(pool, servers, settings.topic_prefix)
        sending = Sending(
            pool,
            MailServer(smtp, settings.smtp_timeout),
            sender,
            Patience(settings.lease, settings.retry_first, settings.retry_longest, settings.give_up_after),
            settings.send_concurrency,
            relay.poke,
        )

        def committed(report: Report) -> None:
            if report.due:
                sending.poke()
            if report.to_publish:
                relay.poke()

        reader = Reader(settings.topic_prefix, pool, settings.start_at, committed)
        broker = build_broker(servers, settings.topic_prefix, reader)
        health = Health(pool, reader)
        socket = listen(settings.http_host, settings.http_port)
        documented = describe_topics(servers, settings.topic_prefix)
        server = build_server(build_app(documented, health.alive, health.ready))
        serving = asyncio.create_task(server.serve(sockets=[socket]))
        log.info("http", host=settings.http_host, port=socket.getsockname()[1])
        try:
            await _unless(stop, _ready_database(pool))
            await _unless(stop, _ready_topics(servers, settings.topic_prefix))
            if not stop.is_set():
                work = [
                    asyncio.create_task(sending.run(), name="sending"),
                    asyncio.create_task(relay.run(), name="relay"),
                    asyncio.create_task(_keep_house(pool, settings, committed, reader), name="housekeeping"),
                ]
                try:
                    await _unless(stop, _started(broker))
                    health.started = True
                    log.info("started", prefix=settings.topic_prefix)
                    # What lives now lives for long: the collector need not look at it again.
                    gc.collect()
                    gc.freeze()
                    await _first_of(stop, work)
                finally:
                    health.stopping = True
                    await _stop(broker, reader, sending, relay, work)
        finally:
            server.should_exit = True
            await serving
            socket.close()
    log.info("stopped")


@contextlib.asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    pool = await store.open_pool(settings.database_url.get_secret_value(), size=settings.send_concurrency + 6)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(2):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _stop(
    broker: KafkaBroker, reader: Reader, sending: Sending, relay: Relay, work: list[asyncio.Task[None]]
) -> None:
    """Stop polling, finish the batch and the mails in hand, commit, leave the group; then publish what came of them."""
    log.info("stopping")
    sender, publisher, housekeeping = work
    housekeeping.cancel()
    sending.stop()
    reader.hurry()
    await asyncio.gather(_within(_STOP_SECONDS, "reading", broker.stop()), _within(_STOP_SECONDS, "sending", sender))
    relay.stop()
    await _within(_LAST_WORDS_SECONDS, "publishing", publisher)
    await asyncio.gather(*work, return_exceptions=True)


async def _within(seconds: float, what: str, work: Awaitable[Any]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        # Nothing is lost: positions and leases are in the database.
        log.warning("not_finished_in_time", what=what)
    except Exception as error:
        log.error("stopping_failed", what=what, **describe(error))


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """`work`, abandoned when it is time to stop."""
    task = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _first_of(stop: asyncio.Event, work: list[asyncio.Task[None]]) -> None:
    """Until it is time to stop. A part that ends before is a bug: the process ends, so that somebody looks."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopping, *work}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in done - {stopping}:
        error = None if task.cancelled() else task.exception()
        log.error("part_ended", part=task.get_name(), **(describe(error) if error else {}))
        raise NotifierError(f"{task.get_name()} ended, which it never should; see the log")


async def _again(what: str, work: Callable[[], Awaitable[str | None]]) -> None:
    """Until `work` returns None; a text says what is missing. One line in the log at first, then now and then."""
    tries = 0
    while True:
        try:
            missing = await work()
            problem = {"missing": missing} if missing else None
        except WRONG_ADDRESS as error:
            raise ConfigurationError(f"NOTIFIER_DATABASE_URL: the server refuses it ({type(error).__name__})") from None
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


async def _ready_database(pool: asyncpg.Pool) -> None:
    async def check() -> None:
        async with pool.acquire() as connection:
            await migrate.check(connection)

    await _again("database", check)


async def _ready_topics(servers: list[str], prefix: str) -> None:
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


async def _started(broker: KafkaBroker) -> None:
    async def start() -> None:
        try:
            await broker.start()
        except BaseException:
            await broker.stop()
            raise

    await _again("kafka", start)


async def _keep_house(
    pool: asyncpg.Pool, settings: Settings, committed: Callable[[Report], None], reader: Reader
) -> None:
    """Gauges, and events that have waited too long for an earlier version."""
    while True:
        await asyncio.sleep(_HOUSEKEEPING_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            now = datetime.now(UTC)
            async with pool.acquire() as connection:
                report = await give_up_waiting(connection, now, settings.gap_wait, settings.start_at)
                waits = await store.backlog(connection)
        except Exception as error:
            if not is_not_ready(error):
                log.error("housekeeping_failed", **describe(error))
            continue
        count_and_log(report)
        committed(report)
        DELIVERIES.labels("due").set(waits.due)
        DELIVERIES.labels("waiting_for_contact").set(waits.waiting_for_contact)
        OLDEST_DUE_SECONDS.set((now - waits.oldest_due).total_seconds() if waits.oldest_due else 0)
        UNPUBLISHED.labels("notifications").set(waits.outcomes_unpublished)
        UNPUBLISHED.labels("notifier.dlq").set(waits.dead_letters_unpublished)
        await reader.lag()


class Health:
    """What /livez and /readyz say, computed when asked."""

    def __init__(self, pool: asyncpg.Pool, reader: Reader) -> None:
        self._pool = pool
        self._reader = reader
        self.started = False
        self.stopping = False
        self._database = (float("-inf"), False)

    async def alive(self) -> dict[str, bool]:
        """Before the start there is nothing to be stuck in: whoever waits for a database should not be restarted."""
        if not self.started or self.stopping:
            return {"running": True}
        return {"reading": await self._reader.is_alive()}

    async def ready(self) -> dict[str, bool]:
        checks = {
            "started": self.started,
            "not_stopping": not self.stopping,
            "database": await self._database_answers(),
        }
        if self.started:
            checks["reading"] = self._reader.is_ready()
        return checks

    async def _database_answers(self) -> bool:
        """Asked at most once a second, however often the probe comes."""
        asked_at, answer = self._database
        if time.monotonic() - asked_at > 1:
            try:
                async with asyncio.timeout(2), self._pool.acquire() as connection:
                    await store.list_cursors(connection)  # a small table, whatever waits
                answer = True
            except Exception as error:
                log.debug("database_does_not_answer", **describe(error))
                answer = False
            self._database = (time.monotonic(), answer)
        return answer
