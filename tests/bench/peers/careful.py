"""Batches of 100: one transaction each, row-wise SQL in it, its events all sent and then awaited together, one ack."""

import asyncio
from datetime import UTC, datetime, timedelta

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from backorder_schemas import Decoded, Encoded, OrderPlaced, decode
from tests.bench.peers import common
from tests.bench.peers.placing import place

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 100


async def run(spec: common.Spec) -> None:
    pool = await common.pool(spec)
    producer = await common.producer(spec)
    progress = common.Progress(spec)
    broker = KafkaBroker([spec.kafka], apply_types=False, logger=None)

    @broker.subscriber(
        spec.topic,
        group_id=f"{spec.prefix}careful",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        fetch_max_wait_ms=50,
        batch=True,
        max_records=BATCH,
        batch_timeout_ms=20,
        decoder=undecoded,
    )
    async def take(message: KafkaMessage) -> None:
        records = message.raw_message
        assert isinstance(records, tuple)
        events: list[Encoded] = []
        async with pool.acquire() as connection, connection.transaction():
            batch_id = await connection.fetchval("SELECT nextval('batch_ids')")
            for record in records:
                decoded = decode("orders", record.key, record.value, tuple(record.headers))
                assert isinstance(decoded, Decoded)
                assert isinstance(decoded.message, OrderPlaced)
                now = EPOCH + timedelta(milliseconds=record.timestamp)
                events += await place(connection, batch_id, len(events), decoded.message, now)
        sent = [
            await producer.send(spec.prefix + event.topic, event.value, event.key, headers=event.headers)
            for event in events
        ]
        await asyncio.gather(*sent)
        progress.add(len(records))

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
