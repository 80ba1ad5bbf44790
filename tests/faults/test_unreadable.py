"""A record that the Kafka client library itself can't read: no ordinary producer sends one, a hostile one can."""

import asyncio
import struct

from tests.e2e.messages import order
from tests.e2e.processes import eventually, get
from tests.e2e.world import World

CRC_AT, COVERED_FROM = 17, 21
"""Where a record batch (format 2) has its CRC-32C, and from where on it counts."""


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


async def test_a_header_name_that_is_not_utf8_is_said_loudly_and_the_other_partitions_go_on(world: World) -> None:
    allocator = await world.allocator()
    batch = world.producer.create_batch()
    batch.append(key=b"k", value=b"{}", timestamp=None, headers=[("HEADERNAME", b"")])
    batch.close()
    spoiled = bytearray(batch._builder.build())
    at = spoiled.index(b"HEADERNAME")
    spoiled[at : at + 2] = b"\xff\xfe"
    spoiled[CRC_AT:COVERED_FROM] = struct.pack(">I", crc32c(bytes(spoiled[COVERED_FROM:])))
    batch._buffer = spoiled
    await (await world.producer.send_batch(batch, f"{world.prefix}orders", partition=0))
    url = await allocator.address()
    assert url is not None

    async def says_no() -> bool:
        return await asyncio.to_thread(get, f"{url}/readyz") == 503

    await eventually(says_no, "/readyz to say no", 20, allocator.explain)
    assert "UnicodeDecodeError" in allocator.said()
    await world.publish(*(order(f"o-{number}", ("SHELF", 1)) for number in range(30)))

    async def others_go_on() -> bool:
        return await world.number("SELECT count(DISTINCT order_id) FROM lines") >= 20

    await eventually(others_go_on, "orders of the other partitions", 40, allocator.explain)
    await allocator.end()
