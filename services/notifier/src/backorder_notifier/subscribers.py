"""How records come from Kafka: FastStream hands over poll batches of raw bytes; and what the AsyncAPI document says.

FastStream's defaults lose data (commit before the work, headers decoded before anything else, exceptions swallowed), so
each setting here has a reason; the tests kill processes to see that they hold.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage

from backorder_notifier.intake import READS
from backorder_notifier.reading import Reader
from backorder_notifier.unpacking import limit_unpacking
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    ContactChanged,
    CustomerNotified,
    LinesDelivered,
    LinesShipped,
    NotificationFailed,
    OrderCancelled,
    OrderPlaced,
    PromiseChanged,
    SkuAvailability,
    SkuPolicyChanged,
)

GROUP: Final = "notifier"


class RawCodec:
    """Bodies stay the records themselves, which `backorder_schemas.decode` reads without ever raising."""

    async def decode(self, message: Any) -> Any:
        return message.raw_message

    async def decode_batch(self, message: Any) -> Any:
        return message.raw_message

    async def encode(self, message: Any, serializer: Any = None) -> tuple[bytes, str | None]:
        raise NotImplementedError("the relay publishes, not FastStream")

    async def encode_batch(self, messages: Any, serializer: Any = None) -> list[tuple[bytes, str | None]]:
        raise NotImplementedError("the relay publishes, not FastStream")


async def parse_raw(records: tuple[ConsumerRecord, ...]) -> KafkaMessage:
    """Touches no header: FastStream's own parser drops the whole batch for one that is null or not UTF-8."""
    return KafkaMessage(
        body=b"",
        headers={},
        message_id=f"{records[0].topic}-{records[0].partition}-{records[0].offset}",
        raw_message=records,
        consumer=FAKE_CONSUMER,
    )


def build_broker(bootstrap_servers: Sequence[str], prefix: str, reader: Reader) -> KafkaBroker:
    """One consumer of all topics: one membership of the group, one transaction a poll batch."""
    libraries = logging.getLogger("faststream.kafka")
    libraries.setLevel(logging.ERROR)
    limit_unpacking()
    broker = KafkaBroker(
        list(bootstrap_servers),  # one text would be taken for one host
        client_id="backorder-notifier",
        consumer_only=True,  # the relay has a producer of its own
        allow_auto_create_topics=False,
        apply_types=False,  # the handler gets raw records
        graceful_timeout=25,  # None or 0 would wait for no batch at all
        request_timeout_ms=40_000,
        logger=libraries,
        log_level=logging.DEBUG,
    )
    subscriber = broker.subscriber(
        *(f"{prefix}{topic}" for topic in READS),
        group_id=f"{prefix}{GROUP}",
        listener=reader,
        batch=True,
        max_records=500,
        batch_timeout_ms=50,  # also slept after an empty poll
        parser=parse_raw,
        codec=RawCodec(),
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,  # else a reply_to header makes FastStream publish wherever the sender says
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=1_000,  # how soon a member hears that another came or went
        rebalance_timeout_ms=30_000,
        isolation_level="read_committed",  # what a sender aborted was never said
    )

    library = subscriber.get_msg

    async def poll(consumer: AIOKafkaConsumer) -> tuple[ConsumerRecord, ...]:
        return tuple(await reader.poll(library, consumer))

    subscriber.get_msg = poll  # type: ignore[method-assign]

    @subscriber
    async def take(records: Any) -> None:
        await reader.take(records)

    reader.consumer = lambda: subscriber.consumer
    return broker


_READ: Final[dict[str, tuple[str, Any]]] = {
    "orders": (
        "Read for whom to tell and what was ordered: customer, address, language, order_url, lines. Key: order_id.",
        list[OrderPlaced | OrderCancelled],
    ),
    "backorders": (
        "Read for what to tell: what waits, until when, what came, what will not. Applied by version. Key: order_id.",
        list[BackorderCreated | BackorderFilled | PromiseChanged | BackorderCancelled | BackorderRejected],
    ),
    "allocations": (
        "Read for what may ship, and for stock that was lost. Applied by version. Key: order_id.",
        list[AllocationReleased | AllocationRevoked],
    ),
    "fulfilment": (
        "Read for what was shipped and delivered, once per shipment_id and order. Key: order_id.",
        list[LinesShipped | LinesDelivered],
    ),
    "catalog": ("Read for what SKUs are called. A higher revision replaces. Key: sku.", list[SkuPolicyChanged]),
    "customers": (
        "Read for how customers are reached and what they want. A higher revision replaces. Key: customer_id.",
        list[ContactChanged],
    ),
    "availability": (
        "Read for which alternatives are in stock. A later version replaces. Key: location:sku.",
        list[SkuAvailability],
    ),
}


def describe_topics(bootstrap_servers: Sequence[str], prefix: str) -> KafkaBroker:
    """What the AsyncAPI document says, on a broker that is never started.

    Of one subscriber to seven topics FastStream would say that each carries the messages of all.
    """
    broker = KafkaBroker(list(bootstrap_servers), apply_types=False, logger=None)
    for topic in READS:
        description, messages = _READ[topic]
        subscriber = broker.subscriber(
            f"{prefix}{topic}",
            title=f"{prefix}{topic}",
            description=description,
            group_id=f"{prefix}{GROUP}",
            batch=True,
            ack_policy=AckPolicy.MANUAL,
        )
        subscriber(_handler_of(topic, messages))
    broker.publisher(
        f"{prefix}notifications",
        title=f"{prefix}notifications",
        description=(
            "What became of each message to a customer, over each channel: its kind, the events it told, how each line"
            " stood, or why it could not be told. By version, without gap. Key: order_id. Never an address."
        ),
        schema=CustomerNotified | NotificationFailed,
    )
    broker.publisher(
        f"{prefix}notifier.dlq",
        title=f"{prefix}notifier.dlq",
        description="Messages that can't be used: the original key, value and headers, and dlq.* headers that say why.",
        schema=bytes,
    )
    return broker


def _handler_of(name: str, messages: Any) -> Any:
    """A function whose annotation says what a topic carries."""

    async def handler(messages: Any) -> None: ...

    handler.__name__ = name
    handler.__annotations__ = {"messages": messages, "return": None}
    return handler
