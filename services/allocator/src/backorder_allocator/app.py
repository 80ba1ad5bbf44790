"""The one place that wires: settings, database, relay, planner, timers, broker, HTTP, and an orderly end."""

import asyncio
import gc
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from uuid import uuid4

import asyncpg
from faststream.kafka import KafkaBroker

from backorder_allocator import accepting, connections, ending, store, telemetry, topics
from backorder_allocator.errors import BrokenError, ConfigurationError, NotReadyError
from backorder_allocator.guards import NOTHING, Accepted
from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_allocator.migrate import require_current
from backorder_allocator.parts import Part, keep
from backorder_allocator.planner import Planner
from backorder_allocator.probing import Probes, watch_reading
from backorder_allocator.publishing import Publisher
from backorder_allocator.purging import Purging
from backorder_allocator.relay import Relay
from backorder_allocator.settings import Settings
from backorder_allocator.subscribers import make_broker
from backorder_allocator.timers import Timers
from backorder_allocator.watching import Watch, topic_ids_of
from backorder_allocator.web import Server, make_server

log = telemetry.logger(__name__)

# All of these together are less than the 30 s that are promised; `ending.at_last` watches over it.
BATCH_SECONDS = 14.0
"""For the batch in hand, and what the planner and timers have in hand."""
LEAVE_SECONDS = 4.0
LAST_WORDS_SECONDS = 4.0
"""For publishing what came of the last batch."""
CLOSE_SECONDS = 2.0
JOIN_SECONDS = 60.0
"""For the client library to find the brokers, once they have answered before."""


async def run(settings: Settings, accepted: Accepted = NOTHING) -> None:
    """Run until SIGTERM or SIGINT.

    Raises ConfigurationError or NotReadyError where it can't begin, BrokenError where it can't go on.
    """
    stop = asyncio.Event()
    ending.stop_on_signals(stop)
    begun = await ending.unless(stop, _begin(settings, accepted))
    if begun is None:
        log.info("ended before it could begin")
        return
    pool, context = begun
    try:
        await _run_parts(settings, pool, context, stop)
    except BrokenError as error:
        why = telemetry.described(error.__cause__ or error) | {"stack": telemetry.stack_of(error.__cause__ or error)}
        log.critical("ends with exit 1, to be started again", broken=str(error), **why)
        raise
    finally:
        if not await ending.within(CLOSE_SECONDS, "closing connections", pool.close()):
            pool.terminate()
    log.info("ended in order")


async def _begin(settings: Settings, accepted: Accepted) -> tuple[asyncpg.Pool, Context]:
    """Everything that comes before the first record is read. May be abandoned at any moment."""
    patience = settings.start_timeout_seconds
    await connections.patiently("Kafka", partial(_require_topics, settings), patience)
    pool = await connections.patiently("PostgreSQL", partial(connections.database_pool, settings), patience)
    try:
        async with pool.acquire(timeout=connections.ACQUIRE_SECONDS) as connection:
            await require_current(connection)
            await accepting.begin(connection, settings, accepted)
            rules = settings.rules()
            rules_id = await store.register_rules(connection, rules)
            return pool, Context(rules, await store.read_epoch(connection), rules_id)
    except BaseException:
        pool.terminate()
        raise


async def _run_parts(settings: Settings, pool: asyncpg.Pool, context: Context, stop: asyncio.Event) -> None:
    relay = Relay(
        f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}",
        settings.topic_prefix,
        partial(connections.producer, settings),
    )

    def committed() -> None:
        for woken in (relay, planner, timers):
            woken.wake.set()

    # What a context remembers from one transaction to the next is for one task.
    planner = Planner(context, settings.planner_interval_seconds, relay.wake.set)
    timers = Timers(replace(context, pool_ids={}, policies={}), committed)
    parts: tuple[Part, ...] = (
        planner,
        timers,
        watch := Watch(context),
        Purging(timedelta(settings.dead_letters_keep_days)),
    )
    intake = Intake(pool, context, committed, watch.lost)
    broker = make_broker(settings, intake)
    subscriber = broker.subscribers[0]
    watch.topic_ids = partial(topic_ids_of, subscriber, settings.topic_prefix)
    publisher = Publisher(relay, partial(connections.own_connection, settings, "relay"))
    probes = Probes(pool, intake, subscriber, publisher, parts)
    listener = _listen(settings.http_host, settings.http_port)
    server = make_server(broker, version("backorder-allocator"), probes.live, probes.ready)
    work = {
        "the relay": asyncio.create_task(publisher.run()),
        "the HTTP server": asyncio.create_task(server.serve(sockets=[listener])),
    }
    work |= {
        f"the part {part.name}": asyncio.create_task(
            keep(part, partial(connections.own_connection, settings, part.name))
        )
        for part in parts
    }
    running = _Running(intake, parts, broker, publisher, server, work)
    try:
        if await ending.unless(stop, _start(broker)):
            # What was made until now lives as long as the process: the collector need not look at it again.
            # And what a batch makes goes with it: to look for cycles there all the time costs a fifth of the work.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)
            host, port = listener.getsockname()[:2]
            log.info("allocator runs", http=f"http://{host}:{port}", topic_prefix=settings.topic_prefix)
            work["reading"] = asyncio.create_task(watch_reading(subscriber))
            await ending.until(stop, work)
    except BaseException:
        ending.at_last(1)
        raise
    finally:
        await _end(running)
        listener.close()


async def _start(broker: KafkaBroker) -> bool:
    try:
        async with asyncio.timeout(JOIN_SECONDS):
            await broker.start()
    except TimeoutError as error:
        raise NotReadyError(f"Kafka does not answer: the consumer could not start in {JOIN_SECONDS:.0f} s") from error
    return True


@dataclass(frozen=True, slots=True)
class _Running:
    """What works side by side in this process."""

    intake: Intake
    parts: Sequence[Part]
    broker: KafkaBroker
    publisher: Publisher
    server: Server
    work: "dict[str, asyncio.Task[None]]"


async def _end(running: _Running) -> None:
    """Take nothing more, finish what is in hand, leave the group, publish what came of it. Each has its own time."""
    log.info("ending: the batch in hand is finished first")
    intake, work = running.intake, running.work
    intake.stopping.set()
    for part in running.parts:
        part.ending.set()
        part.wake.set()
    keeping = [task for name, task in work.items() if name.startswith("the part ")]
    await ending.within(BATCH_SECONDS, "the batch in hand", asyncio.gather(_nothing_in(intake), asyncio.wait(keeping)))
    await ending.within(LEAVE_SECONDS, "leaving the consumer group", running.broker.stop())
    running.publisher.last_turn.set()
    running.publisher.relay.wake.set()
    await ending.within(LAST_WORDS_SECONDS, "publishing", asyncio.wait([work["the relay"]]))
    running.server.should_exit = True
    await ending.within(CLOSE_SECONDS, "closing the HTTP server", asyncio.wait([work["the HTTP server"]]))
    for task in work.values():
        task.cancel()
    await asyncio.wait(work.values(), timeout=CLOSE_SECONDS)
    for task in work.values():
        with suppress(BaseException):
            task.result()  # looked at: `until` has said what was worth saying


async def _nothing_in(intake: Intake) -> None:
    async with intake.in_hand:
        pass


async def _require_topics(settings: Settings) -> None:
    admin = await connections.admin(settings)
    try:
        states = await topics.compare(admin, settings.topic_prefix)
    finally:
        await admin.close()
    missing = [state.name for state in states if state.partitions is None and topics.is_ours(state.topic)]
    if missing:
        raise ConfigurationError(f"topics are missing: {', '.join(missing)}: run `backorder-allocator topics --apply`")


def _listen(host: str, port: int) -> socket.socket:
    """The HTTP port, taken before anything else starts, so that a second process on it fails at once and clearly."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise ConfigurationError(
            f"ALLOCATOR_HTTP_HOST {host}, ALLOCATOR_HTTP_PORT {port}: {error.strerror}; 0 takes a free port"
        ) from error
    return listener
