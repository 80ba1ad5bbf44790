"""How records come in: FastStream with poll batches, positions from the database, no loss by headers or rebalances.

The defaults of the library lose data in several ways: what is not a default here has its reason beside it.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER

from backorder_allocator import telemetry
from backorder_allocator.backlog import Backlog
from backorder_allocator.batches import Record
from backorder_allocator.decision import Input, Message
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.fail_points import reached
from backorder_allocator.intake import Intake
from backorder_allocator.polling import LIGHT_BATCH, Polls
from backorder_allocator.settings import Settings
from backorder_allocator.unpacking import limit_unpacking, portions
from backorder_schemas import (
    DeadLetter,
    decode,
)

log = telemetry.logger(__name__)

INPUT_TOPICS = ("orders", "stock-received", "stock-adjusted", "inbound-supply", "catalog", "fulfilment")
GROUP = "allocator"
POLL_MILLISECONDS = 100
"""How long a poll waits where nothing comes."""
TAKEN_AT_ONCE = 500
"""Records: whether that is enough for memory is looked at between."""
COMMIT_TIMEOUT_SECONDS = 5.0
SEEK_TIMEOUT_SECONDS = 10.0
REVOKE_TIMEOUT_SECONDS = 25.0
"""Below the rebalance timeout: a member that answers later is thrown out of the group anyway."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MILLISECOND = 253_402_300_799_999
"""The end of the year 9999: where a topic takes its timestamps from senders, they may send any number."""


async def parse_without_headers(records: tuple[ConsumerRecord, ...]) -> KafkaMessage:
    """The library's parser decodes every header first, and drops the whole batch for one that is not UTF-8."""
    return KafkaMessage(body=b"", raw_message=records, headers={}, consumer=FAKE_CONSUMER)


class RawRecords:
    """Hands the records over as they are: decoding is ours, since it must never raise."""

    async def decode(self, msg: Any) -> Any:
        return msg.raw_message

    async def decode_batch(self, msg: Any) -> Any:
        return msg.raw_message

    async def encode(self, msg: Any, serializer: Any = None) -> tuple[bytes, str | None]:
        raise NotImplementedError("this broker only reads; the relay has a producer of its own")

    async def encode_batch(self, msgs: Sequence[Any], serializer: Any = None) -> list[tuple[bytes, str | None]]:
        raise NotImplementedError("this broker only reads; the relay has a producer of its own")


class Positions(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """On assignment, reading goes on at the cursor; before partitions are given up, the batch in hand is finished."""

    def __init__(self, intake: Intake, prefix: str) -> None:
        self.intake = intake
        self.prefix = prefix
        self.subscriber: Any = None
        """The subscriber whose consumer this listens for; set once it is made."""
        self.on_assigned: Callable[[], None] = lambda: None
        """Partitions come or go: reading has to go to the cursors before anything more is worked."""

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        try:
            async with asyncio.timeout(REVOKE_TIMEOUT_SECONDS), self.intake.in_hand:
                pass
        except TimeoutError:
            log.warning("partitions are taken away with a batch in hand; its cursors decide", partitions=len(revoked))
        # What was taken ahead of them is another's now.
        self.on_assigned()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Only notes it: who waits for the database in here sends no heartbeats, and is thrown out of the group."""
        self.intake.health.joined = True
        if assigned:
            # Not one record before the cursors are known: until then the library would read from the committed offset,
            # which lies beyond the cursor where the database is new or restored, and all between would be skipped.
            self.subscriber.consumer.pause(*assigned)
            self.on_assigned()

    async def go_to_cursors(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> None:
        names = {(each.topic.removeprefix(self.prefix), each.partition): each for each in assigned}
        cursors = await self.intake.positions(list(names))
        for name, partition in names.items():
            if cursors[name]:
                consumer.seek(partition, cursors[name])
        # No cursor: from the start of the log. The committed offset is only a hint for those who watch lag.
        if new := [partition for name, partition in names.items() if not cursors[name]]:
            async with asyncio.timeout(SEEK_TIMEOUT_SECONDS):
                await consumer.seek_to_beginning(*new)
        for name, partition in names.items():
            self.intake.gaps.reads_from(partition, cursors[name])
        reached("assignment.placed")
        consumer.resume(*assigned)


def make_broker(settings: Settings, intake: Intake) -> KafkaBroker:
    """A broker with one subscriber for all input topics: one poll batch is one transaction."""
    limit_unpacking()
    prefix = settings.topic_prefix
    positions = Positions(intake, prefix)
    broker = KafkaBroker(
        # A list: a comma-separated string would become one host.
        settings.kafka_bootstrap_servers,
        client_id="backorder-allocator",
        apply_types=False,
        codec=RawRecords(),
        allow_auto_create_topics=False,
        graceful_timeout=25.0,
        request_timeout_ms=40_000,
        logger=None,
        description="Decides who gets which unit, who waits and until when, and what may ship.",
    )
    subscriber = broker.subscriber(
        *(prefix + topic for topic in INPUT_TOPICS),
        batch=True,
        max_records=settings.max_batch_records,
        group_id=prefix + GROUP,
        auto_offset_reset="earliest",
        # What a sender aborted never happened; by default it is read like the rest.
        isolation_level="read_committed",
        # A broker goes over all partitions for each answer: one for each record costs more than the wait does.
        fetch_min_bytes=64 * 1024,
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        session_timeout_ms=10_000,
        # The library's 5 minutes are less than a database may be away. Who leaves the group for that, when others do so
        # too, may end by an error of the library, and be started again.
        max_poll_interval_ms=900_000,
        rebalance_timeout_ms=30_000,
        ack_policy=AckPolicy.MANUAL,
        # A reply_to header would make the library publish wherever a sender says.
        no_reply=True,
        parser=parse_without_headers,
        listener=positions,
        title="allocator",
        description="Orders, stock, supplies, policies, shipments: all that a decision can rest on",
    )

    async def poll(consumer: AIOKafkaConsumer) -> list[ConsumerRecord]:
        # The library's own `get_msg` sleeps after an empty poll: what came then would lie for as long.
        taken: list[ConsumerRecord] = []
        size = 0
        while len(taken) < settings.max_batch_records and size < LIGHT_BATCH:
            found = await consumer.getmany(
                timeout_ms=0 if taken else POLL_MILLISECONDS,
                max_records=min(TAKEN_AT_ONCE, settings.max_batch_records - len(taken)),
            )
            if not found:
                break
            more = [record for records in found.values() for record in records]
            taken += more
            size += sum(len(record.value or b"") for record in more)
        return taken

    positions.subscriber = subscriber
    why_full = Backlog(intake.pool, settings.max_unpublished).why_full
    decode_one = partial(read, prefix=prefix)
    polls = Polls(intake, poll, positions.go_to_cursors, settings.max_batch_records, why_full, decode_one)
    positions.on_assigned = polls.assigned_anew
    subscriber.get_msg = polls.next  # type: ignore[method-assign]

    @subscriber
    async def take(messages: list[Message]) -> None:
        """Works one poll batch. No exception leaves: what was not done is read again."""
        records: tuple[ConsumerRecord, ...] = messages  # type: ignore[assignment] # apply_types=False: see RawRecords
        consumer = subscriber.consumer
        if consumer is None or intake.stopping.is_set():
            return
        try:
            try:
                await intake.gaps.check(consumer, records)
            except ConfigurationError as error:
                intake.on_lost(error)
                return
            for number, portion in enumerate(portions(records)):
                if intake.stopping.is_set():
                    return
                ahead = polls.decoded if not number else ()
                if not await intake.take(partial(read_all, portion, ahead, prefix)):
                    # It is not settled: before anything more is polled, reading goes back to the cursors.
                    return
            polls.worked()
            reached("intake.committed")
            await commit_offsets(consumer, records)
        except Exception as error:
            # The library would swallow it without a word.
            await polls.failed(error)

    return broker


def read_all(records: Sequence[ConsumerRecord], ahead: Sequence[Record], prefix: str) -> Sequence[Record]:
    """The records decoded, where that was not done `ahead`."""
    return ahead if len(ahead) == len(records) else [read(record, prefix) for record in records]


def read(record: ConsumerRecord, prefix: str) -> Record:
    """Decode one record; what can't be decoded carries its reason instead."""
    topic = record.topic.removeprefix(prefix)
    headers = tuple(record.headers)
    at = moment(record.timestamp)
    decoded = decode(topic, record.key, record.value, headers)
    result: Input | DeadLetter
    if isinstance(decoded, DeadLetter):
        result = decoded
    elif isinstance(decoded.message, Message):
        result = Input(decoded.message, at, decoded.traceparent)
        if not decoded.key_matches:
            telemetry.WRONG_KEYS.labels(topic).inc()
    else:
        raise TypeError(f"{topic} carries {type(decoded.message).__name__}, which the allocator does not read")
    return Record(topic, record.partition, record.offset, at, record.key, record.value, headers, result)


@lru_cache(maxsize=1024)
def moment(timestamp: int) -> datetime:
    """When Kafka took a record, from its milliseconds since 1970. Many come within one."""
    return EPOCH + timedelta(milliseconds=min(max(timestamp, 0), LAST_MILLISECOND))


async def commit_offsets(consumer: AIOKafkaConsumer, records: Sequence[ConsumerRecord]) -> None:
    """Tell Kafka how far we are, for whoever measures lag. A failure is harmless: positions live in the database."""
    offsets = {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
    try:
        # The library retries a commit for ever while the coordinator is away.
        async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
            await consumer.commit(offsets)
    except (KafkaError, TimeoutError) as error:
        telemetry.RETRIES.labels("offset_commit").inc()
        log.info("offsets were not committed", **telemetry.described(error))
