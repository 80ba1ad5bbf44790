"""How the service connects: a timeout on everything, names that operators know, patience with a world not ready."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import random
from time import monotonic
from typing import TypeVar

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from asyncpg.exceptions._base import DataError as ArgumentError
from asyncpg.exceptions._base import InterfaceError, InternalClientError

from backorder_allocator.errors import ConfigurationError, NotReadyError
from backorder_allocator.settings import Settings

Made = TypeVar("Made")

SESSION = {
    "statement_timeout": "60000",
    "lock_timeout": "10000",
    # A frozen process must not hold the head of the log: its transaction is ended for it.
    "idle_in_transaction_session_timeout": "10000",
    "jit": "off",
    "timezone": "UTC",
}
SERVICE = SESSION | {"enable_seqscan": "off"}
"""What the service runs all the time finds its rows by an index. Plans are kept, and one that was made while a table
was empty would read all of it until autovacuum comes by: a minute in which a new shop's orders pile up."""
PREPARED_FOR_GOOD = {"max_cached_statement_lifetime": 0, "statement_cache_size": 500}
"""Statements are few. By default each would be prepared again every 5 minutes, in the middle of a transaction."""
COMMAND_TIMEOUT_SECONDS = 65.0
CONNECT_TIMEOUT_SECONDS = 10.0
STOP_SECONDS = 2.0
"""For a Kafka client to say goodbye."""
MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""The largest message: a dead letter of 1 MiB with its headers."""

ACQUIRE_SECONDS = 10.0
"""For a connection of the pool: two parts use four of them at most, so who waits longer waits for a dead network."""

PASSING_DATABASE_ERRORS = (
    # The connection is lost or can't be made, or its server has another state than the client thought.
    asyncpg.PostgresConnectionError,
    InterfaceError,
    InternalClientError,
    OSError,
    TimeoutError,
    # Another transaction stood in the way: deadlock, serialization, lock_timeout.
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    # The server ends, begins, recovers from a crash, or somebody or a time limit ended the statement.
    asyncpg.OperatorInterventionError,
    # The session was ended or the transaction aborted; read-only: this server is not the primary any more.
    asyncpg.InvalidTransactionStateError,
    # Others have taken what is needed, and will give it back.
    asyncpg.TooManyConnectionsError,
    asyncpg.OutOfMemoryError,
    # A migration changed a table that a prepared statement reads.
    asyncpg.InvalidCachedStatementError,
)
"""What may succeed when tried again, by itself and without anybody's doing. See `passes`.

Not among them, though it is tried again as well: what somebody has to mend, such as a full disk, a missing right, a
wrong password, or damaged files.
"""


def passes(error: BaseException) -> bool:
    """Whether an error is one of those: all but a value that the client refuses to send, whose class is among them."""
    return isinstance(error, PASSING_DATABASE_ERRORS) and not isinstance(error, ArgumentError)


def pause_seconds(failures: int, longest: float) -> float:
    """How long to wait after so many failures in a row: longer each time, and never all processes at once."""
    return min(longest, 0.1 * 2.0 ** min(failures, 10)) * (0.5 + random() / 2)  # noqa: S311 - jitter


def worth_a_line(failures: int) -> bool:
    """One line when trouble begins, then one each time the pause has grown to its longest: no flood."""
    return failures in {1, 5} or failures % 20 == 0


async def database_pool(settings: Settings) -> asyncpg.Pool:
    """Two connections at least: one works a batch, one answers `/readyz`."""
    made: asyncpg.Pool = await asyncpg.create_pool(
        settings.database_url.get_secret_value(),
        min_size=2,
        max_size=4,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        timeout=CONNECT_TIMEOUT_SECONDS,
        server_settings={"application_name": "backorder-allocator", **SERVICE},
        **PREPARED_FOR_GOOD,
    )
    return made


async def own_connection(settings: Settings, part: str) -> asyncpg.Connection:
    """For a part of the service that works beside the input: the relay, the planner, the timers."""
    made: asyncpg.Connection = await asyncpg.connect(
        settings.database_url.get_secret_value(),
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        timeout=CONNECT_TIMEOUT_SECONDS,
        server_settings={"application_name": f"backorder-allocator {part}", **SERVICE},
        **PREPARED_FOR_GOOD,
    )
    return made


async def command_connection(settings: Settings) -> asyncpg.Connection:
    """For an operator, who may wait as long as an answer takes: an audit reads everything there is."""
    made: asyncpg.Connection = await asyncpg.connect(
        settings.database_url.get_secret_value(),
        timeout=CONNECT_TIMEOUT_SECONDS,
        server_settings={"application_name": "backorder-allocator command", **SESSION, "statement_timeout": "0"},
    )
    return made


async def producer(settings: Settings) -> AIOKafkaProducer:
    """A started producer that loses nothing: acks=all, idempotent."""
    made = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id="backorder-allocator",
        acks="all",
        enable_idempotence=True,
        max_batch_size=256 * 1024,
        max_request_size=MAX_REQUEST_BYTES,
        request_timeout_ms=20_000,
    )
    try:
        await asyncio.wait_for(made.start(), CONNECT_TIMEOUT_SECONDS)
    except BaseException:
        await stop_producer(made)
        raise
    return made


async def stop_producer(made: AIOKafkaProducer) -> None:
    """Close a producer, sent or not what it has. One that hangs is cut off: it must not go on sending in secret."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await made.stop()
    except (KafkaError, OSError):  # a TimeoutError is an OSError
        sender = made._sender  # noqa: SLF001 - the library waits for it without a limit
        if sender is not None and sender.sender_task is not None:
            sender.sender_task.cancel()
        with suppress(KafkaError, OSError):
            async with asyncio.timeout(STOP_SECONDS):
                await made.client.close()


async def admin(settings: Settings) -> AIOKafkaAdminClient:
    made = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap_servers, client_id="backorder-allocator", request_timeout_ms=20_000
    )
    try:
        await asyncio.wait_for(made.start(), CONNECT_TIMEOUT_SECONDS)
    except BaseException:
        with suppress(KafkaError, OSError):
            async with asyncio.timeout(STOP_SECONDS):
                await made.close()
        raise
    return made


async def patiently(what: str, connect: Callable[[], Awaitable[Made]], seconds: float) -> Made:
    """Connect, trying again for `seconds`. Raises NotReadyError that says what could not be reached.

    A server that answers and refuses who we are will not think better of it: that is a ConfigurationError.
    """
    deadline = monotonic() + seconds
    wait = 0.2
    while True:
        try:
            return await connect()
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise ConfigurationError(f"{what} refuses us: {error}") from error
        except (*PASSING_DATABASE_ERRORS, KafkaError) as error:
            if isinstance(error, ArgumentError):
                raise
            if monotonic() + wait > deadline:
                raise NotReadyError(f"{what} is not reachable: {error or type(error).__name__}") from error
        await asyncio.sleep(wait * (0.5 + random()))  # noqa: S311 - jitter
        wait = min(wait * 2, 5.0)
