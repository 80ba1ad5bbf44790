"""The kinds of things that go wrong, and how to speak of them without repeating anybody's address."""

import traceback
from pathlib import Path

import asyncpg
from aiokafka.errors import KafkaError
from asyncpg.exceptions._base import ClientConfigurationError, InterfaceError, InternalClientError

PACKAGE = str(Path(__file__).parent)


class NotifierError(Exception):
    """An end that a person should read about, in words for them. `exit_code` is what the command ends with."""

    exit_code = 1


class ConfigurationError(NotifierError):
    """Wrong settings, usage or set-up."""

    exit_code = 2


class UnreachableError(NotifierError):
    """The database or Kafka can't be reached."""

    exit_code = 3


# The database or Kafka is away, busy or restarting: the same work may succeed later.
NOT_READY = (
    OSError,
    TimeoutError,
    EOFError,  # a stream that ended in the middle of an answer
    InterfaceError,
    InternalClientError,  # what the driver says of a connection that was cut while it was idle
    asyncpg.PostgresConnectionError,  # 08
    asyncpg.TransactionRollbackError,  # 40: deadlock, serialization
    asyncpg.InsufficientResourcesError,  # 53: too many connections, out of memory, disk full (until there is space)
    asyncpg.OperatorInterventionError,  # 57: shutdown, crash, starting up, statement timeout, cancelled
    asyncpg.ObjectNotInPrerequisiteStateError,  # 55: lock timeout
    asyncpg.InvalidTransactionStateError,  # 25: read-only after a failover, idle for too long, failed transaction
    asyncpg.PostgresSystemError,  # 58: I/O
    asyncpg.InvalidCachedStatementError,  # a migration came meanwhile: the next try prepares it anew
    KafkaError,
)

# The server is there and says no to who we are or where we want to go: waiting doesn't help.
WRONG_ADDRESS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    ClientConfigurationError,
)


def is_data_error(error: BaseException) -> bool:
    """The value can never be stored (SQLSTATE class 22, or asyncpg refuses to send it). A broken constraint: a bug."""
    refused_by_client = isinstance(error, InterfaceError) and isinstance(error, ValueError)
    return refused_by_client or isinstance(error, asyncpg.DataError)


def is_not_ready(error: BaseException) -> bool:
    return isinstance(error, NOT_READY) and not is_data_error(error) and not isinstance(error, WRONG_ADDRESS)


def describe(error: BaseException) -> dict[str, str]:
    """What may be logged of an error: class, SQLSTATE, constraint, place. Never its text: it may quote a customer."""
    described = {"error": type(error).__name__}
    for attribute in ("sqlstate", "constraint_name"):
        if value := getattr(error, attribute, None):
            described[attribute] = str(value)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
    if frames:
        described["at"] = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}"
    return described
