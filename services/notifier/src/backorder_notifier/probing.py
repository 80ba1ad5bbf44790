"""Which partitions hold what the client library can't read. Its decoder raises for a header name that is not UTF-8, and
doesn't say where."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

_WAIT_MS: Final = 2000  # for records that are there


@dataclass(frozen=True, slots=True)
class Found:
    """`unreadable`: the offset that can't be read, and what the library says; `readable`: what comes before these."""

    readable: list[ConsumerRecord] = field(default_factory=list)
    unreadable: dict[TopicPartition, tuple[int, Exception]] = field(default_factory=dict)


async def probe(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> Found:
    """Try each partition by itself. Those that can be read stay where they are."""
    found = Found()
    for partition in partitions:
        position = await consumer.position(partition)
        if position == consumer.highwater(partition):
            continue
        consumer.seek(partition, position)  # drops what the library has read half
        error = await _error_of(consumer, partition)
        consumer.seek(partition, position)
        if error is not None:
            found.readable.extend(await _one_by_one(consumer, partition))
            found.unreadable[partition] = await consumer.position(partition), error
    return found


async def _error_of(consumer: AIOKafkaConsumer, partition: TopicPartition) -> Exception | None:
    try:
        await consumer.getmany(partition, timeout_ms=_WAIT_MS)
    except KafkaError:
        return None  # which the ordinary poll will meet
    except Exception as error:
        return error
    return None


async def _one_by_one(consumer: AIOKafkaConsumer, partition: TopicPartition) -> list[ConsumerRecord]:
    """What can be read before what can't; the position is behind it then."""
    records: list[ConsumerRecord] = []
    while True:
        try:
            found = await consumer.getmany(partition, timeout_ms=_WAIT_MS, max_records=1)
        except Exception:
            return records
        if not found:
            return records
        records += found[partition]
