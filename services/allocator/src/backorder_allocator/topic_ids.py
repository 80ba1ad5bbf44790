"""Asks Kafka for the ids of topics, which its client library can't: Metadata from version 10 on.

A topic that is deleted and made again has the same name and another id.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields


class _Uuid:
    """16 bytes on the wire."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: Any) -> UUID:
        return UUID(bytes=data.read(16))


_Name = CompactString("utf-8")
_Uuids: Any = _Uuid


class _Answer(Response):  # type: ignore[misc] # aiokafka has no types
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _Name), ("port", Int32), ("rack", _Name), ("tags", TaggedFields)),
        ),
        ("cluster_id", _Name),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _Name),
                ("topic_id", _Uuids),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition_index", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replica_nodes", CompactArray(Int32)),
                        ("isr_nodes", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuids), ("name", _Name), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Ask(Request[_Question]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def build(self, request_struct_class: type[_Question]) -> _Question:
        nobody = UUID(int=0)
        return request_struct_class([(nobody, name, {}) for name in self.names], False, False, {})


async def topic_ids(consumer: AIOKafkaConsumer, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Id (as Kafka prints it) and number of partitions of those topics that exist.

    Empty for a broker that doesn't tell (before Kafka 3.1), and for a client that knows none yet.
    """
    client = consumer._client  # noqa: SLF001 - the library sends no such request by itself
    node = client.get_random_node()
    if node is None:
        return {}
    try:
        answer = await client.send(node, _Ask(names))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {}
    return {
        name: (urlsafe_b64encode(topic_id.bytes).decode().rstrip("="), len(partitions))
        for error_code, name, topic_id, _, partitions, *_ in answer.topics
        if not error_code and topic_id.int
    }
