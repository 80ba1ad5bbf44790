"""The relay's loop: turns on a connection of its own, tried again whatever happens, until the process ends."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from time import monotonic

import asyncpg
from aiokafka.errors import KafkaError

from backorder_allocator import telemetry
from backorder_allocator.connections import passes, pause_seconds, worth_a_line
from backorder_allocator.errors import ConfigurationError, LeaseLostError, NotReadyError
from backorder_allocator.parts import CALM_SECONDS, LONGEST_PAUSE_SECONDS, close, sleep
from backorder_allocator.relay import IDLE_SECONDS, Relay

log = telemetry.logger(__name__)

LONG_ENOUGH_FOR_OTHERS = 3 * IDLE_SECONDS
"""Each of them looks for the lease once in `IDLE_SECONDS`: who gives it back must not be the first to take it."""

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Publisher:
    """Lets a relay take turns. It also listens for commits of other processes."""

    def __init__(self, relay: Relay, connect: Connect) -> None:
        self.relay = relay
        self.connect = connect
        self.last_turn = asyncio.Event()
        """Set: what is committed by now is all there will be."""
        self.failures = 0
        """In a row."""
        self.failed_at = 0.0
        self.is_cut_off = False
        """Whether the last failure was Kafka's."""
        self.rest_seconds = 0.0
        """How long to keep out of the others' way before the next turn."""
        self.failing_with: str | None = None

    async def run(self) -> None:
        """Ends after `last_turn` is set and what there is has been published; where that fails, it ends as well."""
        while True:
            connection: asyncpg.Connection | None = None
            try:
                connection = await self.connect()
                await connection.add_listener("backorder_events", lambda *_: self.relay.wake.set())
                await self.turns(connection)
            except LeaseLostError as error:
                telemetry.RELAY_FAILURES.labels(type(error).__name__).inc()
                log.warning("does not publish any more", **telemetry.described(error))
                self.relay.lost()
            except Exception as error:
                if isinstance(error, ConfigurationError):
                    raise
                self.failed(error)
            else:
                return
            finally:
                if connection is not None:
                    await close(connection)
            if self.last_turn.is_set():
                await self.relay.drop_producer()
                return
            rest, self.rest_seconds = self.rest_seconds, 0.0
            await sleep(self.last_turn, max(rest, pause_seconds(self.failures, LONGEST_PAUSE_SECONDS)))

    async def turns(self, connection: asyncpg.Connection) -> None:
        while True:
            self.relay.wake.clear()
            ending = self.last_turn.is_set()
            if ending:
                self.relay.letters_at = 0.0
            try:
                more = await self.relay.turn(connection)
            except NotReadyError:
                if lets_others_try(self.failures + 1):
                    await self.relay.let_others_try(connection)
                    self.rest_seconds = LONG_ENOUGH_FOR_OTHERS
                raise
            # A turn in which another process holds the lease proves nothing of our way to Kafka.
            if not self.is_cut_off or self.relay.producer is not None or monotonic() - self.failed_at > CALM_SECONDS:
                self.failures, self.failing_with = 0, None
            if more:
                continue
            if ending:
                await self.relay.close(connection)
                return
            await sleep(self.relay.wake, IDLE_SECONDS)

    def failed(self, error: Exception) -> None:
        # What failed hangs on its error in circles, up to some MiB each time, and the collector comes seldom by itself.
        gc.collect()
        self.failures += 1
        self.failed_at = monotonic()
        self.is_cut_off = isinstance(error, NotReadyError | KafkaError)
        self.failing_with = f"{type(error).__name__}: {telemetry.text_of(error)}"
        self.relay.in_trouble()
        telemetry.RELAY_FAILURES.labels(type(error).__name__).inc()
        if worth_a_line(self.failures):
            said = telemetry.described(error)
            if passes(error) or isinstance(error, KafkaError | NotReadyError):
                log.warning("the relay tries again", failures=self.failures, **said)
            else:
                stack = telemetry.stack_of(error)
                log.error("nothing is published: this error does not pass by itself", **said, stack=stack)


def lets_others_try(failures: int) -> bool:
    """Whether to give the lease back: another process may reach Kafka where this one doesn't. Seldom, if none does."""
    return failures == 3 or failures % 20 == 0
