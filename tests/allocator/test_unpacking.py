"""The decoders that bound what a batch of records unpacks to give what the library's own give; both services alike."""

import gzip
import os
from types import ModuleType
from typing import Any

import aiokafka.codec
import cramjam
import pytest

import backorder_allocator.unpacking
import backorder_notifier.unpacking

PACKERS = {
    "gzip": (lambda data: aiokafka.codec.gzip_encode(data, 1), "gzip_decode"),
    "two gzips": (lambda data: gzip.compress(data[:1], 1) + gzip.compress(data[1:], 1), "gzip_decode"),
    "snappy in blocks": (aiokafka.codec.snappy_encode, "snappy_decode"),
    "snappy": (lambda data: aiokafka.codec.snappy_encode(data, xerial_compatible=False), "snappy_decode"),
    "lz4": (aiokafka.codec.lz4_encode, "lz4_decode"),
    "zstd": (aiokafka.codec.zstd_encode, "zstd_decode"),
}
services = pytest.mark.parametrize("unpacking", [backorder_allocator.unpacking, backorder_notifier.unpacking])


@services
@pytest.mark.parametrize("packer", PACKERS)
def test_what_is_packed_is_unpacked_up_to_the_limit_and_no_further(unpacking: ModuleType, packer: str) -> None:
    pack, name = PACKERS[packer]
    unpack = unpacking.DECODERS[name]
    for data in (b"one", os.urandom(300_000), b"ab" * 200_000, bytes(unpacking.LARGEST_BATCH)):
        assert unpack(bytes(pack(data))) == data
    with pytest.raises(unpacking.TooLargeBatchError):
        unpack(bytes(pack(bytes(unpacking.LARGEST_BATCH + 1))))


@services
def test_what_lies_about_its_size_or_is_no_data_is_refused(unpacking: ModuleType) -> None:
    claims_4_gib = bytes([0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00])
    with pytest.raises(unpacking.TooLargeBatchError):
        unpacking.unsnappy(claims_4_gib)
    for unpack in unpacking.DECODERS.values():
        with pytest.raises((unpacking.TooLargeBatchError, OSError, cramjam.DecompressionError, EOFError)):
            unpack(os.urandom(100))


@services
def test_a_poll_is_cut_into_portions_of_whole_records_in_their_order(unpacking: ModuleType) -> None:
    class Sized:
        def __init__(self, size: int | None) -> None:
            self.value = None if size is None else bytes(size)

    limit = unpacking.LARGEST_PORTION
    sizes: list[Any] = [10, None, limit, 1, limit - 1, 1, 3 * limit, None, 5]
    records = [Sized(size) for size in sizes]
    cut = list(unpacking.portions(records))
    assert [record for portion in cut for record in portion] == records
    assert [len(portion) for portion in cut] == [2, 1, 2, 1, 1, 2]
    assert list(unpacking.portions([])) == []
