"""Whether all is done: inputs worked, promises planned, log published, news decided, mails and outcomes out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from backorder_notifier.intake import READS
from backorder_schemas import TOPICS
from tests.e2e.world import INPUTS
from tests.faults.campaign.away import DATABASE_AWAY, KAFKA_AWAY
from tests.faults.campaign.stage import Stage

TELL_SECONDS = 5.0
LEFT = {
    "allocator": {
        "timers due": "SELECT count(*) FROM timers WHERE due_at <= clock_timestamp()",
        "pools to plan": "SELECT count(*) FROM pools WHERE stale_since IS NOT NULL",
        "dead letters to publish": "SELECT count(*) FROM dead_letters WHERE NOT published",
        "events to publish": "SELECT h.seq - r.seq FROM log_head h, relay r",
    },
    "notifier": {
        "news to decide": "SELECT count(*) FROM updates WHERE state = 'pending'",
        "orders to look at": "SELECT count(*) FROM orders WHERE tell_at <= clock_timestamp() AND known_at IS NOT NULL",
        "mails to send": "SELECT count(*) FROM deliveries WHERE state = 'due'",
        "outcomes to publish": "SELECT count(*) FROM outbox",
        "dead letters to publish": "SELECT count(*) FROM dead_letters WHERE published_at IS NULL",
        "records parked": "SELECT count(*) FROM parked",
    },
}


@dataclass
class Drained:
    """`left`: what was still to do when patience ended."""

    seconds: float
    left: dict[str, int] = field(default_factory=dict)


async def drained(stage: Stage, patience: float, say: Callable[[str], None]) -> Drained:
    """Waits until nothing is left to do, twice in a row: what one service publishes is work for the other."""
    began = told = time.monotonic()
    quiet = 0
    while True:
        at = time.monotonic() - began
        try:
            left = await asyncio.wait_for(left_to_do(stage), 20)
        except (*DATABASE_AWAY, *KAFKA_AWAY) as error:
            left = {f"could not be asked: {type(error).__name__}": 1}
        quiet = 0 if left else quiet + 1
        if quiet == 2 or time.monotonic() - began > patience:
            return Drained(round(at, 1), left)
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            say(f"left to do: {', '.join(f'{what} {number}' for what, number in left.items())}")
        await asyncio.sleep(0.5)


async def left_to_do(stage: Stage) -> dict[str, int]:
    left: dict[str, int] = {}
    # Before the tables are read: what is published meanwhile is seen in the next round.
    ends = await end_offsets(stage.kafka.address, {*INPUTS, *READS})
    for service, queries in LEFT.items():
        connection = await asyncpg.connect(stage.urls["allocator" if service == "allocator" else "notifier"], timeout=5)
        try:
            rows = await connection.fetch("SELECT topic, partition, next_offset FROM cursors")
            cursors = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
            topics: Sequence[str] = INPUTS if service == "allocator" else READS
            behind = sum(max(0, end - cursors.get(at, 0)) for at, end in ends.items() if at[0] in topics)
            found = {what: int(await connection.fetchval(query) or 0) for what, query in queries.items()}
        finally:
            connection.terminate()
        left |= {
            f"{service}: {what}": number for what, number in (found | {"records to read": behind}).items() if number
        }
    return left


async def end_offsets(kafka: str, topics: set[str]) -> dict[tuple[str, int], int]:
    """The next offset of each partition."""
    partitions = [TopicPartition(name, number) for name in topics for number in range(TOPICS[name].partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=[kafka], request_timeout_ms=8000)
    try:
        await consumer.start()
        consumer.assign(partitions)
        consumer.pause(*partitions)
        found = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return {(each.topic, each.partition): end for each, end in found.items()}
