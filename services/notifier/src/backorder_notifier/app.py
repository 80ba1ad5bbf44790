"""The only place that wires: settings → connections, reader, teller, senders, relay, HTTP; how it starts and stops."""

import asyncio
import contextlib
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, Final

import asyncpg
from faststream.kafka import KafkaBroker

from backorder_notifier.accepting import Accepting
from backorder_notifier.checking import check
from backorder_notifier.clock import Clock, system_clock
from backorder_notifier.errors import NotifierError, describe
from backorder_notifier.fences import WentBackError
from backorder_notifier.health import Health
from backorder_notifier.housekeeping import House, keep_house
from backorder_notifier.intake import Report
from backorder_notifier.providers import build_providers
from backorder_notifier.pulse import Pulse
from backorder_notifier.reading import Reader
from backorder_notifier.relay import Relay
from backorder_notifier.rendering import load_templates
from backorder_notifier.sending import Sending
from backorder_notifier.settings import Settings
from backorder_notifier.starting import guarded, ready_database, ready_topics, started
from backorder_notifier.statements import open_pool
from backorder_notifier.subscribers import build_broker, describe_topics
from backorder_notifier.telemetry import configure_logging, logger
from backorder_notifier.teller import TellReport
from backorder_notifier.teller_loop import Teller
from backorder_notifier.unsubscribing import with_unsubscribing
from backorder_notifier.watching import watch
from backorder_notifier.web import build_app, build_server, listen

log = logger("app")

# All of it together is less than the 30 s that are promised.
_STOP_SECONDS: Final = 18.0  # for the batch, the round and the messages in hand
_LAST_WORDS_SECONDS: Final = 4.0
_AT_LAST_SECONDS: Final = 27.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What works side by side in one process."""

    broker: KafkaBroker
    reader: Reader
    teller: Teller
    sending: Sending
    relay: Relay
    house: House

    @property
    def pulses(self) -> list[Pulse]:
        return [self.teller.pulse, *self.sending.pulses, self.relay.pulse, self.house.pulse]


async def run(settings: Settings, accepting: Accepting, clock: Clock = system_clock) -> None:
    """Read, tell, send and publish until SIGTERM or SIGINT; then finish what is in hand. Raises ConfigurationError.

    `accepting`: what is gone on with though a guard of the start would stop for it.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    configure_logging(settings.log_level)
    # No connection yet: /livez and /readyz answer while the database is away.
    async with _pool(settings) as pool:
        parts = _wire(settings, pool, clock)
        health = Health(pool, parts.reader, parts.pulses)
        socket = listen(settings.http_host, settings.http_port)
        documented = describe_topics(settings.bootstrap_servers, settings.topic_prefix)
        pages = with_unsubscribing(
            build_app(documented, health.alive, health.ready),
            pool,
            clock,
            shop_name=settings.shop_name,
            default_locale=settings.locale_default,
        )
        server = build_server(pages)
        serving = asyncio.create_task(server.serve(sockets=[socket]))
        log.info("http", host=settings.http_host, port=socket.getsockname()[1])
        try:
            await _unless(stop, ready_database(pool))
            await _unless(stop, ready_topics(settings.bootstrap_servers, settings.topic_prefix))
            await _unless(stop, guarded(pool, settings.bootstrap_servers, settings.topic_prefix, accepting, clock))
            if not stop.is_set():
                await _work(parts, health, stop, settings.topic_prefix, serving)
        except BaseException:
            # It ends with a failure, and does end: whatever hangs meanwhile, nobody may take it for one that works.
            _end_at_last(1)
            raise
        finally:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)
            socket.close()
    log.info("stopped")


def _wire(settings: Settings, pool: asyncpg.Pool, clock: Clock) -> Parts:
    """Raises ConfigurationError."""
    policy = settings.policy
    templates = load_templates(settings.templates, default_locale=settings.locale_default)
    check(templates)
    providers = build_providers(settings, templates)
    servers, prefix = settings.bootstrap_servers, settings.topic_prefix
    relay = Relay(pool, servers, prefix)

    def settled() -> None:
        # What was sent is published, and what waited for the order's message to be sent can be decided on.
        relay.poke()
        teller.poke()

    def told(report: TellReport) -> None:
        if report.due:
            sending.poke()
        if report.to_publish:
            relay.poke()

    def committed(report: Report) -> None:
        teller.poke()
        if report.to_publish:
            relay.poke()

    sending = Sending(pool, providers, settled, clock)
    teller = Teller(pool, policy, clock, told)
    reader = Reader(prefix, pool, policy, committed, clock)
    keep = timedelta(days=settings.keep_days)
    keep_letters = timedelta(days=settings.dead_letters_keep_days)
    house = House(pool, policy, keep, keep_letters, committed, teller.poke, reader, clock)
    return Parts(build_broker(servers, prefix, reader), reader, teller, sending, relay, house)


async def _work(parts: Parts, health: Health, stop: asyncio.Event, prefix: str, serving: asyncio.Task[None]) -> None:
    work = {
        name: asyncio.create_task(part, name=name)
        for name, part in {
            "telling": parts.teller.run(),
            "sending": parts.sending.run(),
            "relay": parts.relay.run(),
            "housekeeping": keep_house(parts.house),
        }.items()
    }
    reading = asyncio.create_task(_read(parts, health, prefix), name="reading")
    serving.set_name("http")
    try:
        await _first_of(stop, [*work.values(), reading, serving])
    finally:
        health.stopping = True
        reading.cancel()
        await asyncio.wait({reading}, timeout=_STOP_SECONDS)
        await _stop(parts, work)


async def _read(parts: Parts, health: Health, prefix: str) -> None:
    """Until cancelled. Raises when it ended otherwise."""
    await started(parts.broker)
    health.started = True
    log.info("started", prefix=prefix)
    # What lives now lives for long, and what a batch makes goes with it: the collector need not look at either much.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    await watch(parts.broker, parts.reader)


@contextlib.asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    # Each message in flight; and reading, telling, publishing, the house, probes, unsubscribing, with two to spare.
    in_flight = settings.send_concurrency * len(settings.channels)
    pool = await open_pool(
        settings.database_url.get_secret_value(), size=in_flight + 8
    )  # reading, telling, relay, house, probes, unsubscribing, and two more
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(2):
                await pool.close()
        except TimeoutError:
            pool.terminate()


def _stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT say that it is time to stop. Whatever hangs then, the process ends in the time promised."""
    loop = asyncio.get_running_loop()
    asked = threading.Event()

    # Not by the loop's own handlers: a loop that hangs would never hear of it.
    def stopping(_number: int, _frame: FrameType | None) -> None:
        if not asked.is_set():
            asked.set()
            _end_at_last(0)
            with contextlib.suppress(RuntimeError):  # the loop is closed: all is done
                loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopping)


def _end_at_last(code: int) -> None:
    """The process ends in time, whatever hangs.

    Nothing is lost by it: positions, decisions and leases are in the database, and locks end with the connection.
    """

    def end() -> None:
        log.warning("ended_before_all_was_closed")
        os._exit(code)

    last_resort = threading.Timer(_AT_LAST_SECONDS, end)
    last_resort.daemon = True
    last_resort.start()


async def _stop(parts: Parts, work: dict[str, asyncio.Task[None]]) -> None:
    """Stop polling; finish the batch, the round and the messages in hand; leave the group; publish what came of it."""
    log.info("stopping")
    work["housekeeping"].cancel()
    parts.teller.stop()
    parts.sending.stop()
    parts.reader.hurry()
    await asyncio.gather(
        _within(_STOP_SECONDS, "reading", parts.broker.stop()),
        _within(_STOP_SECONDS, "telling", work["telling"]),
        _within(_STOP_SECONDS, "sending", work["sending"]),
    )
    if isinstance(parts.reader.ended_by, WentBackError):
        work["relay"].cancel()  # what it would publish is not what followed on what is published
    else:
        parts.relay.stop()
        await _within(_LAST_WORDS_SECONDS, "publishing", work["relay"])
    await asyncio.gather(*work.values(), return_exceptions=True)


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
        if isinstance(error, NotifierError):
            raise error
        log.error("part_ended", part=task.get_name(), **(describe(error) if error else {}))
        raise NotifierError(f"{task.get_name()} ended, which it never should; see the log")
