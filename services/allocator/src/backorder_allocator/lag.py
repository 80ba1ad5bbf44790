"""How far each input partition is behind its log, as Kafka and the database have it."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from backorder_allocator import connections
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.settings import Settings
from backorder_schemas import TOPICS

GROUP = "allocator"


async def lag(settings: Settings, cursors: Mapping[tuple[str, int], int]) -> list[dict[str, Any]]:
    """By input partition: where its log ends, how far it is worked (`cursors`), what the group has committed.

    Keys are documented in the README. Raises NotReadyError if Kafka can't be reached in time, ConfigurationError if a
    topic is missing.
    """
    seconds = settings.start_timeout_seconds
    admin = await connections.patiently("Kafka", partial(connections.admin, settings), seconds)
    try:
        partitions = await input_partitions(admin, settings.topic_prefix)
        committed = await admin.list_consumer_group_offsets(settings.topic_prefix + GROUP)
    finally:
        await admin.close()
    consumer = await connections.patiently("Kafka", partial(_consumer, settings), seconds)
    try:
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    rows = []
    for each in partitions:
        topic = each.topic.removeprefix(settings.topic_prefix)
        cursor = cursors.get((topic, each.partition))
        done = max(first[each], cursor or 0)
        known = committed.get(each)
        rows.append(
            {
                "topic": topic,
                "partition": each.partition,
                "end_offset": end[each],
                "cursor": cursor,
                "committed": known.offset if known is not None and known.offset >= 0 else None,
                "lag": max(0, end[each] - done),
            }
        )
    return rows


async def input_partitions(admin: AIOKafkaAdminClient, prefix: str) -> list[TopicPartition]:
    """Every partition that the allocator reads. Raises ConfigurationError if a topic is missing."""
    names = [prefix + topic.name for topic in TOPICS.values() if GROUP in topic.consumers]
    described = await admin.describe_topics(names)
    missing = sorted(each["topic"] for each in described if each["error_code"])
    if missing:
        raise ConfigurationError(
            f"topics are missing: {', '.join(missing)}; `backorder-allocator topics --apply` makes them"
        )
    return sorted(
        TopicPartition(each["topic"], partition["partition"]) for each in described for partition in each["partitions"]
    )


async def _consumer(settings: Settings) -> AIOKafkaConsumer:
    """A consumer of no group: it asks, and takes part in nothing."""
    made = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id="backorder-allocator lag",
        enable_auto_commit=False,
        request_timeout_ms=20_000,
    )
    try:
        await asyncio.wait_for(made.start(), connections.CONNECT_TIMEOUT_SECONDS)
    except BaseException:
        await made.stop()
        raise
    return made
