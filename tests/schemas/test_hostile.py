"""Whatever a sender makes of a record: it is read or refused with a reason, and nothing of it is half understood."""

import json

import pytest
from hypothesis import given

from backorder_schemas import DeadLetter, Decoded, decode, encode
from backorder_schemas.topics import MAX_VALUE_BYTES
from tests.schemas.hostile import (
    EXAMPLES,
    HEADERS,
    LONG_ID,
    MAKERS,
    TRIED,
    HostileRecord,
    hostile_records,
    hostile_settings,
)
from tests.schemas.samples import fields, line
from tests.schemas.test_codec_properties import REASONS, wrong_in

LONGEST_DETAIL = 2_000
MiB = 1024 * 1024

pytestmark = [
    pytest.mark.timeout(0 if EXAMPLES else 120),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]


def judge(record: HostileRecord) -> Decoded | DeadLetter:
    """What the codec says of a record, once it is sure that others can live with that."""
    result = decode(record.topic, record.key, record.value, record.headers)
    TRIED[f"read by the codec: {result.reason if isinstance(result, DeadLetter) else 'used'}"] += 1
    if isinstance(result, DeadLetter):
        assert result.reason in REASONS
        assert 0 < len(result.detail) <= LONGEST_DETAIL
        assert "\x00" not in result.detail
        result.detail.encode()
    return result


@hostile_settings(300)
@given(hostile_records(tuple(MAKERS)))
def test_a_hostile_record_is_read_or_refused_with_a_reason(record: HostileRecord) -> None:
    result = judge(record)
    if isinstance(result, DeadLetter):
        return
    assert record.value is not None
    assert wrong_in(record.value.decode()) is None
    sent = encode(result.message, source="/x", traceparent=result.traceparent)
    again = decode(sent.topic, sent.key, sent.value, sent.headers)
    assert again == Decoded(result.message, result.traceparent, key_matches=True)


@hostile_settings(100, share=10)
@given(hostile_records(tuple(MAKERS), bent=0))
def test_what_is_extreme_and_allowed_is_read(record: HostileRecord) -> None:
    assert isinstance(judge(record), Decoded)


ORDER = json.dumps(fields("OrderPlaced")).encode()


def beside(text: bytes) -> bytes:
    """An order with an unknown field of this text."""
    return ORDER.replace(b'"type"', b'"unknown":' + text + b',"type"', 1)


def order_of(*lines: str) -> bytes:
    return (
        json.dumps(fields("OrderPlaced"))
        .encode()
        .replace(json.dumps(fields("OrderPlaced")["lines"]).encode(), b"[" + ",".join(lines).encode() + b"]")
    )


FULL_LINE = json.dumps(line(sku=LONG_ID, location="main"), ensure_ascii=False)
LARGE = {
    "arrays in arrays": b"[" * MiB,
    "closed arrays in arrays": b"[" * (MiB // 2) + b"]" * (MiB // 2),
    "objects in objects": b'{"a":' * (MiB // 5),
    "deep beside an order": beside(b"[" * 400_000 + b"]" * 400_000),
    "digits": b"9" * MiB,
    "digits beside an order": beside(b"9" * 1_000_000),
    "an exponent beside an order": beside(b"1e" + b"9" * 1_000_000),
    "digits as a quantity": ORDER.replace(b'"quantity": 15', b'"quantity": ' + b"9" * 1_000_000),
    "digits as money": ORDER.replace(b"499.00", b"4" * 1_000_000),
    "one key many times": beside(b"{" + b'"a":1,' * 170_000 + b'"a":1}'),
    "many keys": beside(b"{" + b",".join(b'"%d":0' % number for number in range(80_000)) + b"}"),
    "many unknown fields": b"{" + b",".join(b'"%d":0' % number for number in range(80_000)) + b"," + ORDER[1:],
    "empty lines of an order": order_of(*["{}"] * 300_000),
    "wrong lines of an order": order_of(*[FULL_LINE] * 1_000, "{}"),
    "a text": beside(b'"' + b"\xf0\x9f\xa7\xb5" * 250_000 + b'"'),
    "an escaped text": beside(b'"' + b"\\ud83e\\uddf5" * 80_000 + b'"'),
    "half surrogates": beside(b'"' + b"\\ud83e" * 160_000 + b'"'),
    "backslashes": beside(b'"' + b"\\" * 1_000_000 + b'"'),
    "backslashes and a NUL": beside(b'"' + b"\\" * 1_000_000 + b'\\u0000"'),
    "quotes and colons": beside(b'"' + b'\\":' * 300_000 + b'"'),
    "an id": ORDER.replace(b'"1001"', b'"' + b"x" * 1_000_000 + b'"'),
    "a date": ORDER.replace(b"T09:00:00Z", b"T09:00:00." + b"9" * 1_000_000 + b"Z", 1),
    "a type": ORDER.replace(b"OrderPlaced", b"a." * 500_000),
    "a type in an envelope": b'{"specversion":"1.0","type":"' + b"." * 1_000_000 + b'","data":{"id":"x"}}',
    "not UTF-8": b"\xff" * MiB,
    "NULs": b"\x00" * MiB,
    "white space": b" " * MiB,
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE.keys())
def test_a_mebibyte_of_one_thing_is_judged(value: bytes) -> None:
    assert MAX_VALUE_BYTES // 2 < len(value) <= MAX_VALUE_BYTES
    for headers in ((), ((("content-type", b"application/cloudevents+json"),))):
        judge(HostileRecord("orders", b"1001", value, headers, 0))


def test_an_order_of_a_thousand_lines_with_the_longest_ids_is_read() -> None:
    lines = [json.dumps(line(line_no=number, sku=LONG_ID), ensure_ascii=False) for number in range(1, 1001)]
    value = order_of(*lines)
    assert len(value) > 800_000
    assert isinstance(judge(HostileRecord("orders", None, value, (), 0)), Decoded)


@pytest.mark.parametrize("headers", HEADERS, ids=range(len(HEADERS)))
def test_headers_never_make_an_order_unreadable(headers: tuple[tuple[str, bytes | None], ...]) -> None:
    structured = dict(headers).get("content-type") or b""
    result = judge(HostileRecord("orders", b"1001", ORDER, headers, 0))
    assert isinstance(result, Decoded) or structured.startswith(b"application/cloudevents")
