"""The topics: who writes them, who reads them, what is in them, how Kafka should keep them. Names without prefix."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from backorder_schemas import inputs, outputs
from backorder_schemas.fields import Model
from backorder_schemas.inputs import InputMessage
from backorder_schemas.outputs import OutputMessage

Message = InputMessage | OutputMessage

MAX_VALUE_BYTES: Final = 1_048_576
_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `key` describes the key; `retention_ms` None keeps for ever."""

    name: str
    key: str
    messages: tuple[type[Model], ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    retention_ms: int | None = None
    compacted: bool = False
    partitions: int = 6
    max_message_bytes: int = 1_048_588  # Kafka's own default: a batch of 1 MiB and its head
    timestamp_type: str = "LogAppendTime"

    def key_of(self, message: Any) -> str:
        """The key of one of this topic's messages. The topic of dead letters keeps the key of the original instead."""
        if not self.messages:
            raise ValueError(f"{self.name}: a dead letter keeps the key of the original")
        return _KEYS[self.key](message)

    def kafka_config(self) -> dict[str, str]:
        """Settings of the topic in Kafka's words, for whoever creates it."""
        return {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": self.timestamp_type,
        }


_KEYS: Final[dict[str, Callable[[Any], str]]] = {
    "order_id": attrgetter("order_id"),
    "sku": attrgetter("sku"),
    "customer_id": attrgetter("customer_id"),
    "location:sku": lambda message: f"{message.location}:{message.sku}",
}

# Inputs are kept for ever: with the journal they are what a replay needs. `orders` and `customers` hold contact data,
# so a shop may have to set a shorter time on them; a replay then reaches back only that far.
_TOPICS = (
    Topic(
        name="orders",
        key="order_id",
        messages=(inputs.OrderPlaced, inputs.OrderCancelled),
        producers=("shop",),
        consumers=("allocator", "notifier"),
    ),
    Topic(
        name="stock-received",
        key="sku",
        messages=(inputs.StockReceived,),
        producers=("WMS", "ERP"),
        consumers=("allocator",),
    ),
    Topic(
        name="stock-adjusted",
        key="sku",
        messages=(inputs.StockAdjusted, inputs.StockCounted),
        producers=("WMS", "ERP"),
        consumers=("allocator",),
    ),
    Topic(
        name="inbound-supply",
        key="sku",
        messages=(inputs.SupplyExpected, inputs.SupplyCancelled),
        producers=("suppliers", "ERP"),
        consumers=("allocator",),
    ),
    Topic(
        name="catalog",
        key="sku",
        messages=(inputs.SkuPolicyChanged,),
        producers=("ERP",),
        consumers=("allocator", "notifier"),
    ),
    Topic(
        name="fulfilment",
        key="order_id",
        messages=(inputs.LinesShipped, inputs.LinesDelivered),
        producers=("WMS", "carrier"),
        consumers=("allocator", "notifier"),
    ),
    Topic(
        name="customers",
        key="customer_id",
        messages=(inputs.ContactChanged,),
        producers=("shop", "CRM"),
        consumers=("notifier",),
    ),
    Topic(
        name="allocations",
        key="order_id",
        messages=(outputs.AllocationReleased, outputs.AllocationRevoked),
        producers=("allocator",),
        consumers=("fulfilment", "WMS", "notifier"),
        retention_ms=90 * _DAY_MS,
    ),
    Topic(
        name="backorders",
        key="order_id",
        messages=(
            outputs.BackorderCreated,
            outputs.BackorderFilled,
            outputs.PromiseChanged,
            outputs.BackorderCancelled,
            outputs.BackorderRejected,
        ),
        producers=("allocator",),
        consumers=("notifier", "shop", "CRM"),
        retention_ms=90 * _DAY_MS,
    ),
    Topic(
        name="availability",
        key="location:sku",
        messages=(outputs.SkuAvailability,),
        producers=("allocator",),
        consumers=("storefront", "search", "ads", "notifier"),
        compacted=True,
    ),
    Topic(
        name="stock-alerts",
        key="sku",
        messages=(outputs.LowStock, outputs.StockShortfall, outputs.SupplyOverdue, outputs.ShipmentMismatch),
        producers=("allocator",),
        consumers=("buyers", "operators"),
        retention_ms=90 * _DAY_MS,
    ),
    Topic(
        name="notifications",
        key="order_id",
        messages=(outputs.CustomerNotified, outputs.NotificationFailed),
        producers=("notifier",),
        consumers=("CRM", "audit"),
        retention_ms=90 * _DAY_MS,
    ),
    # Dead letters: the original bytes under the original key. They may hold contact data, hence the short time.
    *(
        Topic(
            name=f"{service}.dlq",
            key="key of the original",
            messages=(),
            producers=(service,),
            consumers=("operators",),
            retention_ms=30 * _DAY_MS,
            max_message_bytes=2_097_152,  # the largest original and the headers that say why
        )
        for service in ("allocator", "notifier")
    ),
)

TOPICS: Final[dict[str, Topic]] = {topic.name: topic for topic in _TOPICS}
TOPIC_OF: Final[dict[type[Model], Topic]] = {message: topic for topic in _TOPICS for message in topic.messages}
TYPES: Final[dict[str, type[Model]]] = {message.__name__: message for message in TOPIC_OF}
