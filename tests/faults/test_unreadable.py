"""Records that the Kafka client library itself can't read: no ordinary producer sends one, a hostile one can."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.e2e.messages import Message, order, receipt
from tests.e2e.processes import Service, eventually, get, get_text
from tests.e2e.world import World
from tests.faults.test_members import waits_for

CRC_AT, COVERED_FROM = 17, 21
"""Where a record batch (format 2) has its CRC-32C, and from where on it counts."""
PARTITIONS = range(6)
"""Of `orders`."""
AFTER = ("behind", "later", "last", "shared")


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@dataclass(frozen=True)
class Orders:
    """Orders of one unit on each partition, told apart by when they were published; and records nobody can read."""

    world: World
    producer: AIOKafkaProducer

    async def publish(self, when: str, partitions: Iterable[int] = PARTITIONS) -> None:
        topic = self.world.prefix + "orders"
        sent = [
            await self.producer.send(topic, self.one(name).value, key=name.encode(), partition=partition)
            for partition in partitions
            for name in self.names(when, [partition])
        ]
        await asyncio.gather(*sent)

    async def publish_unreadable(self, topic: str, partition: int) -> int:
        """A record whose header has a name that is not UTF-8. Gives its offset."""
        batch = self.producer.create_batch()
        batch.append(key=b"k", value=b"{}", timestamp=None, headers=[("HEADERNAME", b"")])
        batch.close()
        spoiled = bytearray(batch._builder.build())
        at = spoiled.index(b"HEADERNAME")
        spoiled[at : at + 2] = b"\xff\xfe"
        spoiled[CRC_AT:COVERED_FROM] = struct.pack(">I", crc32c(bytes(spoiled[COVERED_FROM:])))
        batch._buffer = spoiled
        sent = await (await self.producer.send_batch(batch, self.world.prefix + topic, partition=partition))
        return int(sent.offset)

    def one(self, name: str) -> Message:
        return order(name, ("MUG", 1))

    def names(self, when: str, partitions: Iterable[int]) -> set[str]:
        return {f"{when}-{partition}-{number}" for partition in partitions for number in range(10)}

    async def worked(self) -> set[str]:
        return {row["order_id"] for row in await self.world.database.fetch("SELECT DISTINCT order_id FROM lines")}

    async def all_worked(self, expected: set[str], service: Service) -> None:
        """Waits until these orders and no others are there."""

        missing = expected

        async def are_there() -> bool:
            nonlocal missing
            missing = expected - await self.worked()
            return not missing

        def explain() -> str:
            return f"{len(missing)} of {len(expected)} are missing: {sorted(missing)}\n{service.explain()}"

        await eventually(are_there, "the orders that can be read", 30, explain)
        assert await self.worked() == expected


@pytest.fixture
async def orders(world: World) -> AsyncIterator[Orders]:
    # Not idempotent: the sequence numbers of such a producer would not be in the bytes that are made here.
    async with AIOKafkaProducer(bootstrap_servers=world.kafka, acks="all") as producer:
        yield Orders(world, producer)


async def test_what_came_together_with_unreadable_records_is_worked_once_and_only_what_is_behind_them_waits(
    world: World, orders: Orders
) -> None:
    service = await world.allocator()
    await world.tell(receipt("r-1", "MUG", 1000))
    async with world.database.transaction():
        await world.database.execute("SELECT FROM cursors FOR UPDATE")
        await orders.publish("first")
        await eventually(lambda: waits_for(world, "FROM cursors"), "a batch in hand", explain=service.explain)
        # While a batch is in hand the library reads ahead, which nobody can see: these first, so that it holds them
        # already when it meets what it can't read.
        await orders.publish("before", {*PARTITIONS} - {1, 4})
        await asyncio.sleep(0.3)
        unreadable = {("orders", number): await orders.publish_unreadable("orders", number) for number in (1, 4)}
        unreadable |= {("stock-received", 0): await orders.publish_unreadable("stock-received", 0)}
        await orders.publish("behind")
    expected = orders.names("first", PARTITIONS)
    expected |= orders.names("before", {*PARTITIONS} - {1, 4}) | orders.names("behind", {*PARTITIONS} - {1, 4})
    await orders.all_worked(expected, service)

    # One more.
    await orders.publish("later")
    unreadable |= {("orders", 2): await orders.publish_unreadable("orders", 2)}
    await orders.publish("last")
    expected |= orders.names("later", {*PARTITIONS} - {1, 4}) | orders.names("last", {*PARTITIONS} - {1, 2, 4})
    await orders.all_worked(expected, service)
    assert await service.metric("allocator_messages_total") == len(expected) + 1, "each of them once"
    assert await service.metric("allocator_redelivered_total") == 0
    cursors = await world.cursors()
    assert {position: cursors.get(position, 0) for position in unreadable} == unreadable, "they stop their partitions"

    url = await service.address()

    async def says_where() -> bool:
        said = await asyncio.to_thread(get_text, f"{url}/readyz")
        where = [f"{topic}-{partition} stands still: offset {at} " for (topic, partition), at in unreadable.items()]
        return all(each in said for each in where)

    await eventually(says_where, "/readyz to say where it stands still", explain=service.explain)
    assert await asyncio.to_thread(get, f"{url}/readyz") == 503
    assert await asyncio.to_thread(get, f"{url}/livez") == 200, "a restart would not mend it"
    assert await service.metric("allocator_stopped") == 1
    assert "UnicodeDecodeError" in service.said()

    # Where partitions move to another process, it stops at the same records and no others.
    second = await world.allocator(ready=False)
    await eventually(second.address, "another process", explain=second.explain)

    async def has_joined() -> bool:
        return "not in the consumer group" not in await asyncio.to_thread(get_text, f"{await second.address()}/readyz")

    await eventually(has_joined, "it to join", explain=second.explain)
    await orders.publish("shared")
    expected |= orders.names("shared", {*PARTITIONS} - {1, 2, 4})
    await orders.all_worked(expected, second)
    await second.end()

    # What the README tells an operator to do.
    await world.admin.delete_records(
        {
            TopicPartition(world.prefix + topic, partition): RecordsToDelete(offset + 1)
            for (topic, partition), offset in unreadable.items()
        }
    )
    stock = receipt("r-2", "MUG", 1000)
    await orders.producer.send_and_wait(f"{world.prefix}stock-received", stock.value, key=stock.key, partition=0)
    await orders.all_worked(
        expected | {name for when in AFTER for name in orders.names(when, PARTITIONS)},
        service,
    )
    await service.ready()
    assert await service.metric("allocator_stopped") == 0
    await world.settled()
    await world.audit()
    await service.end()
