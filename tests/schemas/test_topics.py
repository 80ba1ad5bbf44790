"""The topics are those of the contract."""

import pytest

from backorder_schemas import TOPICS, InputMessage, OutputMessage
from backorder_schemas.examples import EXAMPLES
from backorder_schemas.topics import TOPIC_OF
from tests.schemas.samples import EXAMPLE

CONTRACT = {
    "orders": ("order_id", "OrderPlaced OrderCancelled"),
    "stock-received": ("sku", "StockReceived"),
    "stock-adjusted": ("sku", "StockAdjusted StockCounted"),
    "inbound-supply": ("sku", "SupplyExpected SupplyCancelled"),
    "catalog": ("sku", "SkuPolicyChanged"),
    "fulfilment": ("order_id", "LinesShipped LinesDelivered"),
    "customers": ("customer_id", "ContactChanged"),
    "allocations": ("order_id", "AllocationReleased AllocationRevoked"),
    "backorders": (
        "order_id",
        "BackorderCreated BackorderFilled PromiseChanged BackorderCancelled BackorderRejected",
    ),
    "availability": ("location:sku", "SkuAvailability"),
    "stock-alerts": ("sku", "LowStock StockShortfall SupplyOverdue ShipmentMismatch"),
    "notifications": ("order_id", "CustomerNotified NotificationFailed"),
    "allocator.dlq": ("key of the original", ""),
    "notifier.dlq": ("key of the original", ""),
}


def test_names_keys_and_messages_are_those_of_the_contract() -> None:
    ours = {
        name: (topic.key, " ".join(message.__name__ for message in topic.messages)) for name, topic in TOPICS.items()
    }
    assert ours == CONTRACT
    assert all(topic.name == name for name, topic in TOPICS.items())


def test_each_message_belongs_to_one_topic_and_one_direction() -> None:
    assert len(TOPIC_OF) == sum(len(topic.messages) for topic in TOPICS.values()) == 25
    for message in EXAMPLES:
        topic = TOPIC_OF[type(message)]
        ours = set(topic.producers) <= {"allocator", "notifier"}
        assert isinstance(message, OutputMessage if ours else InputMessage)
        assert topic.consumers


def test_only_availability_is_compacted_and_keeps_its_newest_for_ever() -> None:
    assert [topic.name for topic in TOPICS.values() if topic.compacted] == ["availability"]
    assert TOPICS["availability"].kafka_config() == {
        "cleanup.policy": "compact",
        "retention.ms": "-1",
        "max.message.bytes": "1048588",
        "message.timestamp.type": "LogAppendTime",
    }


@pytest.mark.parametrize("name", ["allocator.dlq", "notifier.dlq"])
def test_dead_letters_fit_with_their_headers_and_are_not_kept_for_long(name: str) -> None:
    config = TOPICS[name].kafka_config()
    assert config["max.message.bytes"] == str(2 * 1024 * 1024)
    assert config["retention.ms"] == str(30 * 24 * 3600 * 1000)
    with pytest.raises(ValueError, match="keeps the key of the original"):
        TOPICS[name].key_of(EXAMPLE["OrderPlaced"])


def test_time_is_that_of_the_log_and_partitions_are_six_everywhere() -> None:
    assert {(topic.partitions, topic.timestamp_type) for topic in TOPICS.values()} == {(6, "LogAppendTime")}


def test_inputs_are_kept_for_a_replay() -> None:
    for topic in TOPICS.values():
        if not set(topic.producers) <= {"allocator", "notifier"}:
            assert topic.retention_ms is None


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("OrderPlaced", "1001"),
        ("StockCounted", "PHONE-X"),
        ("ContactChanged", "c-7"),
        ("SkuAvailability", "main:PHONE-X"),
        ("ShipmentMismatch", "PHONE-X"),
        ("CustomerNotified", "1001"),
    ],
)
def test_keys_of_messages(kind: str, key: str) -> None:
    message = EXAMPLE[kind]
    assert TOPIC_OF[type(message)].key_of(message) == key
