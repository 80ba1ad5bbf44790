"""The one place that wires: settings, database, relay, planner, timers, broker, HTTP, and an orderly end."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from asyncpg.exceptions._base import PostgresError
from faststream.kafka import KafkaBroker

from backorder_allocator import connections, store, telemetry, topics
from backorder_allocator.errors import ConfigurationError, LeaseLostError, NotReadyError
from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_allocator.migrate import require_current
from backorder_allocator.parts import CALM_SECONDS, LONGEST_PAUSE_SECONDS, Part, keep, sleep
from backorder_allocator.planner import Planner
from backorder_allocator.relay import IDLE_SECONDS, Relay
from backorder_allocator.settings import Settings
from backorder_allocator.subscribers import make_broker
from backorder_allocator.timers import Timers
from backorder_allocator.web import Probe, make_server

log = telemetry.logger(__name__)

Result = TypeVar("Result")

LIVE_SECONDS = 60.0
"""A process that has had messages and worked none for this long is not alive."""
FINISH_SECONDS = 25.0
"""For the batch in hand and the last publishing after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What /livez and /readyz answer. A process can look healthy and do nothing, so both are computed."""

    pool: asyncpg.Pool
    intake: Intake
    broker: KafkaBroker
    parts: Sequence[Part]

    async def live(self) -> Probe:
        """Alive: tried a batch lately, or has read everything there is."""
        if monotonic() - self.intake.health.last_attempt < LIVE_SECONDS:
            return Probe(ok=True)
        consumer: AIOKafkaConsumer | None = self.broker.subscribers[0].consumer  # type: ignore[attr-defined]
        if consumer is None:
            return Probe(ok=False, reasons=("the consumer is closed",))
        waiting = []
        for partition in sorted(consumer.assignment()):
            name = f"{partition.topic}-{partition.partition}"
            if name in self.intake.health.unreadable:
                continue  # which a restart would not mend: `ready` says it
            try:
                async with asyncio.timeout(1):
                    position = await consumer.position(partition)
            except (TimeoutError, KafkaError):
                continue
            if (consumer.highwater(partition) or 0) > position:
                waiting.append(name)
        if waiting:
            why = f"no batch for {LIVE_SECONDS:.0f} s, and messages wait in {', '.join(waiting)}"
            return Probe(ok=False, reasons=(why,))
        return Probe(ok=True)

    async def ready(self) -> Probe:
        """Ready: the database answers, the group has given this process its part, and no error stops the input."""
        reasons = []
        if self.intake.health.stopped_by:
            reasons.append(f"input stands still: {self.intake.health.stopped_by}")
        reasons += self.intake.health.unreadable.values()
        if not self.intake.health.joined:
            reasons.append("not in the consumer group yet")
        reasons += [f"{part.name}: {part.failing()} fail again and again" for part in self.parts if part.failing()]
        try:
            async with asyncio.timeout(2), self.pool.acquire() as connection:
                await store.read_epoch(connection)
        except (*connections.PASSING_DATABASE_ERRORS, PostgresError) as error:
            reasons.append(f"the database does not answer: {error!r}")
        return Probe(ok=not reasons, reasons=tuple(reasons))


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises ConfigurationError or NotReadyError where it can't begin."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pool = await _unless_stopped(stop, _connect(settings))
    if pool is None:
        log.info("ended before it could begin")
        return
    async with pool:
        async with pool.acquire() as connection:
            await require_current(connection)
            rules = settings.rules()
            rules_id = await store.register_rules(connection, rules)
            context = Context(rules, await store.read_epoch(connection), rules_id)
        await _run_parts(settings, pool, context, stop)
    log.info("ended in order")


async def _connect(settings: Settings) -> asyncpg.Pool:
    patience = settings.start_timeout_seconds
    await connections.patiently("Kafka", partial(_require_topics, settings), patience)
    return await connections.patiently("PostgreSQL", partial(connections.database_pool, settings), patience)


async def _unless_stopped(stop: asyncio.Event, beginning: Coroutine[Any, Any, Result]) -> Result | None:
    """What is awaited, or None as soon as the process has to end: it may wait long for a world that is not ready."""
    begins, stops = asyncio.create_task(beginning), asyncio.create_task(stop.wait())
    await asyncio.wait([begins, stops], return_when=asyncio.FIRST_COMPLETED)
    stops.cancel()
    if begins.done():
        return begins.result()
    begins.cancel()
    with suppress(asyncio.CancelledError):
        await begins
    return None


async def _run_parts(settings: Settings, pool: asyncpg.Pool, context: Context, stop: asyncio.Event) -> None:
    relay = Relay(
        f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}",
        settings.topic_prefix,
        partial(connections.producer, settings),
    )

    def committed() -> None:
        relay.wake.set()
        for part in parts:
            part.wake.set()

    # What a context remembers from one transaction to the next is for one task.
    parts: tuple[Part, ...] = (
        Planner(context, settings.planner_interval_seconds, relay.wake.set),
        Timers(replace(context, pool_ids={}, policies={}), committed),
    )
    intake = Intake(pool, context, committed)
    broker = make_broker(settings, intake)
    probes = Probes(pool, intake, broker, parts)
    listener = _listen(settings.http_host, settings.http_port)
    server = make_server(broker, version("backorder-allocator"), probes.live, probes.ready)
    all_is_committed = asyncio.Event()
    publishing = asyncio.create_task(_publish(settings, relay, all_is_committed))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    keeping = [
        asyncio.create_task(keep(part, partial(connections.own_connection, settings, part.name))) for part in parts
    ]
    try:
        await broker.start()
        # What was made until now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        host, port = listener.getsockname()[:2]
        log.info("allocator runs", http=f"http://{host}:{port}", topic_prefix=settings.topic_prefix)
        ended, _ = await asyncio.wait(
            [publishing, serving, *keeping, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        for task in ended:
            task.result()
    finally:
        log.info("ending: the batch in hand is finished first")
        intake.stopping.set()
        for part in parts:
            part.ending.set()
            part.wake.set()
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                async with intake.in_hand:
                    pass
                await broker.stop()
                await asyncio.wait(keeping)
                all_is_committed.set()
                relay.wake.set()
                await publishing
                server.should_exit = True
                await serving
        except TimeoutError:
            log.warning("did not finish in time: what is not done is read and published again, nothing is lost")
            pool.terminate()


async def _publish(settings: Settings, relay: Relay, last_turn: asyncio.Event) -> None:
    """The relay's loop on a connection of its own, which also listens for commits of other processes.

    After `last_turn` is set, it publishes what there is and ends; where that fails, it ends as well.
    """
    failures = 0
    while True:
        connection: asyncpg.Connection | None = None
        started = monotonic()
        try:
            connection = await connections.own_connection(settings, "relay")
            await connection.add_listener("backorder_events", lambda *_: relay.wake.set())
            await _publish_on(connection, relay, last_turn)
        except (*connections.PASSING_DATABASE_ERRORS, KafkaError, NotReadyError, LeaseLostError) as error:
            failures = failures + 1 if monotonic() - started < CALM_SECONDS else 1
            relay.lost()
            telemetry.RELAY_FAILURES.labels(type(error).__name__).inc()
            if failures in {1, 5} or failures % 20 == 0:
                log.warning("the relay tries again", failures=failures, **telemetry.described(error))
        else:
            return
        finally:
            if connection is not None:
                with suppress(*connections.PASSING_DATABASE_ERRORS):
                    await connection.close(timeout=5)
        if last_turn.is_set():
            await relay.drop_producer()
            return
        await sleep(last_turn, min(LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(failures, 10)))


async def _publish_on(connection: asyncpg.Connection, relay: Relay, last_turn: asyncio.Event) -> None:
    while True:
        relay.wake.clear()
        ending = last_turn.is_set()
        if await relay.turn(connection):
            continue
        if ending:
            await relay.close(connection)
            return
        await sleep(relay.wake, IDLE_SECONDS)


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
