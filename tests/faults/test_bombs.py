"""What is small on the wire and huge unpacked is not unpacked: its partition stands still, and the others go on."""

import asyncio
import struct
from pathlib import Path

import cramjam
import pytest
from aiokafka.record.util import encode_varint

from tests.e2e.messages import receipt
from tests.e2e.processes import Service, eventually, get_text
from tests.e2e.world import World
from tests.faults.test_unreadable import Orders, crc32c, orders

__all__ = ["orders"]

MiB = 1024 * 1024
ZSTD = 4
A_PROCESS_HAS = 400 * MiB
"""At most, resident: a third of what the bomb alone would take."""


def bomb(size: int) -> bytes:
    """A record batch (format 2) of one record, whose value is so many zeros; some 30,000 times smaller on the wire."""
    after_length = bytearray(b"\x00")  # attributes
    for number in (0, 0, -1, size):  # timestamp delta, offset delta, no key, length of the value
        encode_varint(number, after_length.append)
    record = bytearray()
    encode_varint(len(after_length) + size + 1, record.append)
    packed = cramjam.zstd.Compressor()
    packed.compress(bytes(record + after_length))
    for _ in range(size // MiB):
        packed.compress(bytes(MiB))
    packed.compress(b"\x00")  # no headers
    covered = struct.pack(">hiqqqhii", ZSTD, 0, 1, 1, -1, -1, -1, 1) + bytes(packed.finish())
    return struct.pack(">qiibI", 0, len(covered) + 9, -1, 2, crc32c(covered)) + covered


def peak_of(service: Service) -> int:
    """The most bytes that the process had resident."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return next(int(row.split()[1]) * 1024 for row in status.splitlines() if row.startswith("VmHWM"))


async def publish_bomb(orders: Orders, partition: int, size: int) -> int:
    batch = orders.producer.create_batch()
    batch.append(key=b"k", value=b"{}", timestamp=None)
    batch.close()
    batch._buffer = bytearray(bomb(size))
    sent = await (await orders.producer.send_batch(batch, orders.world.prefix + "orders", partition=partition))
    return int(sent.offset)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what a process has resident")
async def test_a_gibibyte_of_zeros_stops_its_partition_and_is_never_in_memory(world: World, orders: Orders) -> None:
    service = await world.allocator()
    await world.tell(receipt("r-1", "MUG", 1000))
    await orders.publish("before")
    at = await publish_bomb(orders, 1, 1024 * MiB)
    await orders.publish("behind")
    others = {0, 2, 3, 4, 5}
    expected = orders.names("before", range(6)) | orders.names("behind", others)
    await orders.all_worked(expected, service)

    async def says_why() -> bool:
        said = await _readiness(service)
        return f"orders-1 stands still: offset {at} can't be read: TooLargeBatchError" in said

    await eventually(says_why, "/readyz to say what it is", explain=service.explain)
    assert peak_of(service) < A_PROCESS_HAS

    await service.end()


async def _readiness(service: Service) -> str:
    return await asyncio.to_thread(get_text, f"{await service.address()}/readyz")
