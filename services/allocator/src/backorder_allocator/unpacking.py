"""How much of what senders compressed is in memory at once: a mebibyte on the wire may be gibibytes of zeros.

Kafka measures what is compressed, and the client library unpacks whatever comes: one batch of records would end every
process that reads it, again and again. One that is larger than the limit can't be read, like a record that is broken:
its partition stands still, loudly, and the others go on. What a poll brought is decoded and worked in portions.
"""

import gzip
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import cramjam
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, legacy_records

MiB: Final = 1024 * 1024
LARGEST_BATCH: Final = 32 * MiB
"""Unpacked. Producers send a mebibyte or two; a record of the contract is no larger."""
LARGEST_PORTION: Final = 2 * MiB
"""Of values. Decoded and decided, a long order takes a hundred times its bytes."""
_FIRST_GUESS: Final = 64 * 1024
_XERIAL_HEADER: Final = 16
"""Bytes; they begin with a name."""


class TooLargeBatchError(CorruptRecordException):  # type: ignore[misc] # aiokafka has no types
    """A batch of records is larger unpacked than any sender has a reason for."""

    def __init__(self) -> None:
        super().__init__(f"a batch of records can't be unpacked, or has more than {LARGEST_BATCH // MiB} MiB then")


def portions(records: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Records of Kafka, in their order, cut into what is decoded and worked at once: at least one each."""
    start = weight = 0
    for at, record in enumerate(records):
        size = len(record.value or b"")
        if weight and weight + size > LARGEST_PORTION:
            yield records[start:at]
            start, weight = at, 0
        weight += size
    if records:
        yield records[start:]


def limit_unpacking() -> None:
    """From now on the client library of this process unpacks no batch beyond the limit."""
    for module in _modules():
        for name, decoder in DECODERS.items():
            setattr(module, name, decoder)


def _modules() -> Sequence[Any]:
    """Where the library looks its decoders up, in its compiled form and in the other."""
    modules: list[Any] = [default_records, legacy_records]
    try:
        from aiokafka.record._crecords import default_records as compiled  # noqa: PLC0415
        from aiokafka.record._crecords import legacy_records as compiled_legacy  # noqa: PLC0415
    except ImportError:
        return modules
    return [*modules, compiled, compiled_legacy]


def gunzip(payload: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(payload), mode="r") as stream:
        return _checked(stream.read(LARGEST_BATCH + 1))


def unsnappy(payload: bytes) -> bytes:
    """Each block says how long it is, and a lie about it is an error."""
    if len(payload) <= _XERIAL_HEADER or not payload.startswith(b"\x82SNAPPY\x00"):
        return _unsnappy([payload])
    blocks = []
    rest = memoryview(payload)[_XERIAL_HEADER:]
    while rest:
        (length,) = struct.unpack_from("!i", rest)
        if length < 0:
            raise CorruptRecordException("a block of less than nothing")
        blocks.append(bytes(rest[4 : 4 + length]))
        rest = rest[4 + length :]
    return _unsnappy(blocks)


def _unsnappy(blocks: Sequence[bytes]) -> bytes:
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > LARGEST_BATCH:
        raise TooLargeBatchError
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def unlz4(payload: bytes) -> bytes:
    return _unpacked_into(cramjam.lz4.decompress_into, payload)


def unzstd(payload: bytes) -> bytes:
    return _unpacked_into(cramjam.zstd.decompress_into, payload)


def _unpacked_into(decompress_into: Callable[[bytes, bytearray], int], payload: bytes) -> bytes:
    """Into a buffer that grows: what is ordinary fits into the first."""
    size = max(_FIRST_GUESS, 8 * len(payload))
    while True:
        size = min(size, LARGEST_BATCH)
        buffer = bytearray(size)
        try:
            written = decompress_into(payload, buffer)
        except cramjam.DecompressionError:
            if size == LARGEST_BATCH:
                raise TooLargeBatchError from None
            size *= 8
        else:
            return bytes(memoryview(buffer)[:written])


def _checked(unpacked: bytes) -> bytes:
    if len(unpacked) > LARGEST_BATCH:
        raise TooLargeBatchError
    return unpacked


DECODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip_decode": gunzip,
    "snappy_decode": unsnappy,
    "lz4_decode": unlz4,
    "zstd_decode": unzstd,
}
