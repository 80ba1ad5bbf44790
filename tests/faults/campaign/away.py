"""What clients raise while a server is away, frozen or just coming back: our own have to live through it too."""

from typing import Final

from aiokafka.errors import KafkaError
from asyncpg.exceptions import InterfaceError, InternalClientError, PostgresError

DATABASE_AWAY: Final = (OSError, TimeoutError, PostgresError, InterfaceError, InternalClientError)
KAFKA_AWAY: Final = (OSError, TimeoutError, KafkaError)
