"""Upstreams choose how they compress; whatever Kafka's clients know is read."""

from aiokafka import AIOKafkaProducer

from tests.e2e.messages import order
from tests.e2e.subscriber import follow
from tests.e2e.world import World

CODECS = ("gzip", "snappy", "lz4", "zstd")


async def test_orders_of_producers_that_compress_are_taken(running: World) -> None:
    for codec in CODECS:
        message = order(f"packed-by-{codec}", ("CRATE", 1))
        async with AIOKafkaProducer(bootstrap_servers=running.kafka, compression_type=codec) as producer:
            await producer.send_and_wait(running.prefix + message.topic, message.value, message.key)
    await running.settled()
    subscriber = await follow(running)
    assert [subscriber.waiting_of(f"packed-by-{codec}") for codec in CODECS] == [1, 1, 1, 1]
