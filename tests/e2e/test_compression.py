"""Upstreams choose how they compress; whatever Kafka's clients know is read."""

import pytest
from aiokafka import AIOKafkaProducer

from tests.e2e.messages import order
from tests.e2e.world import World


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_orders_of_a_producer_that_compresses_are_taken(running: World, codec: str) -> None:
    message = order(f"packed-by-{codec}", ("CRATE", 1))
    async with AIOKafkaProducer(bootstrap_servers=running.kafka, compression_type=codec) as producer:
        topic = running.prefix + message.topic
        await producer.send_and_wait(topic, message.value, message.key, headers=list(message.headers))
    await running.settled()
    assert (await running.ask("explain", f"packed-by-{codec}"))["lines"][0]["quantity_waiting"] == 1
