"""How far each input partition is behind its log, in records and in seconds, as Kafka and the cursors have it."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from backorder_notifier.clock import moment_of
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.intake import READS

_SECONDS: Final = 20.0  # for all that is asked of Kafka, each


async def lag(
    servers: Sequence[str], prefix: str, cursors: Mapping[tuple[str, int], int], now: datetime
) -> list[dict[str, Any]]:
    """By input partition: where its log ends, where reading goes on (`cursors`), what lies between.

    Keys are documented in the README. Raises KafkaError or TimeoutError if Kafka can't be reached, and
    ConfigurationError if a topic is missing.
    """
    partitions = await _partitions(servers, prefix)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(servers),
        client_id="backorder-notifier lag",
        enable_auto_commit=False,
        auto_offset_reset="none",
        request_timeout_ms=int(_SECONDS * 1000),
    )
    try:
        async with asyncio.timeout(_SECONDS):
            await consumer.start()
            first = await consumer.beginning_offsets(partitions)
            end = await consumer.end_offsets(partitions)
        next_offsets = {each: max(first[each], cursors.get((each.topic, each.partition), 0)) for each in partitions}
        behind = [each for each in partitions if next_offsets[each] < end[each]]
        since = await _since(consumer, {each: next_offsets[each] for each in behind})
    finally:
        await consumer.stop()
    return [
        {
            "topic": each.topic.removeprefix(prefix),
            "partition": each.partition,
            "end_offset": end[each],
            "next_offset": cursors.get((each.topic, each.partition)),
            "lag": max(0, end[each] - next_offsets[each]),
            "lag_seconds": _age(since.get(each), now) if each in behind else 0.0,
        }
        for each in partitions
    ]


async def _partitions(servers: Sequence[str], prefix: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=list(servers), client_id="backorder-notifier lag", request_timeout_ms=int(_SECONDS * 1000)
    )
    try:
        async with asyncio.timeout(_SECONDS):
            await admin.start()
            described = await admin.describe_topics([prefix + topic for topic in READS])
    finally:
        await admin.close()
    if missing := sorted(each["topic"] for each in described if each["error_code"]):
        raise ConfigurationError(
            f"topics are missing: {', '.join(missing)}; `backorder-allocator topics --apply` makes them"
        )
    return sorted(
        TopicPartition(each["topic"], partition["partition"]) for each in described for partition in each["partitions"]
    )


async def _since(consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, datetime]:
    """When the first record that is not read yet was recorded. Transaction markers may be all there is: then none."""
    if not positions:
        return {}
    consumer.assign(list(positions))
    for partition, offset in positions.items():
        consumer.seek(partition, offset)
    found: dict[TopicPartition, datetime] = {}
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + _SECONDS / 4
    while len(found) < len(positions) and (left := ends_at - loop.time()) > 0:
        records = await consumer.getmany(timeout_ms=int(min(left, 1.0) * 1000), max_records=len(positions))
        for partition, batch in records.items():
            found.setdefault(partition, moment_of(batch[0].timestamp))
            consumer.pause(partition)
    return found


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else round(max(0.0, (now - since).total_seconds()), 3)
