"""FastStream made safe the obvious way: a message is a transaction, then events are sent one by one, then the ack."""

from datetime import UTC, datetime, timedelta

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from backorder_schemas import Decoded, OrderPlaced, decode
from tests.bench.peers import common
from tests.bench.peers.placing import place

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def run(spec: common.Spec) -> None:
    pool = await common.pool(spec)
    producer = await common.producer(spec)
    progress = common.Progress(spec)
    broker = KafkaBroker([spec.kafka], apply_types=False, logger=None)

    @broker.subscriber(
        spec.topic,
        group_id=f"{spec.prefix}naive",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        fetch_max_wait_ms=50,
        max_workers=spec.workers,
        decoder=undecoded,
    )
    async def take(message: KafkaMessage) -> None:
        record = message.raw_message
        assert not isinstance(record, tuple)
        decoded = decode("orders", record.key, record.value, tuple(record.headers))
        assert isinstance(decoded, Decoded)
        assert isinstance(decoded.message, OrderPlaced)
        now = EPOCH + timedelta(milliseconds=record.timestamp)
        async with pool.acquire() as connection, connection.transaction():
            batch_id = await connection.fetchval("SELECT nextval('batch_ids')")
            events = await place(connection, batch_id, 0, decoded.message, now)
        for event in events:
            await producer.send_and_wait(spec.prefix + event.topic, event.value, event.key, headers=event.headers)
        progress.add(1)

    await broker.start()
    common.say_ready()
    await progress.ended.wait()
    await broker.stop()
    await producer.stop()
    await pool.close()


async def undecoded(message: KafkaMessage) -> KafkaMessage:
    return message


if __name__ == "__main__":
    common.main(run)
