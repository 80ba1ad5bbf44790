"""What becomes of bytes: a message, or a dead letter with the reason of the contract."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from backorder_schemas import TOPICS, DeadLetter, Decoded, decode, encode
from backorder_schemas.examples import EXAMPLES
from backorder_schemas.topics import MAX_VALUE_BYTES, TOPIC_OF, TYPES, Message
from tests.schemas.samples import EXAMPLE, MISSING, TRACEPARENT, fields, line, read, refused

ORDER = json.dumps(fields("OrderPlaced")).encode()


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.type)
def test_what_is_encoded_is_decoded_to_the_same_message(message: Message) -> None:
    sent = encode(message, source="/backorder/allocator", traceparent=TRACEPARENT)
    assert decode(sent.topic, sent.key, sent.value, sent.headers) == Decoded(message, TRACEPARENT, key_matches=True)
    assert sent.key.decode() == TOPICS[sent.topic].key_of(message)
    assert json.loads(sent.value)["type"] == message.type


def test_there_is_an_example_of_every_message() -> None:
    assert {message.type for message in EXAMPLES} == set(TYPES)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xff\xfe", "not_utf8"),
        (ORDER.replace(b"EUR", b"E\xffR"), "not_utf8"),
        (ORDER.replace(b"1001", b"\xed\xa0\x80"), "not_utf8"),  # a surrogate in three bytes
        (ORDER.decode().encode("utf-16"), "not_utf8"),
        (b" ", "not_json"),
        (b"{", "not_json"),
        (b"hello", "not_json"),
        (ORDER[:-1], "not_json"),
        (ORDER + b"}", "not_json"),
        (ORDER + b"\x00", "not_json"),
        (b"\xef\xbb\xbf" + ORDER, "not_json"),
        (ORDER.replace(b"1001", b"10\n01"), "not_json"),  # a raw line break in a text
        (ORDER.replace(b": 15", b": 015"), "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"null", "invalid"),
        (b"[]", "invalid"),
        (b"17", "invalid"),
        (b'"text"', "invalid"),
        (b"NaN", "invalid"),
        (b"[" + ORDER + b"]", "invalid"),
        (b"{}", "unknown_type"),
        (b'{"type": null}', "unknown_type"),
        (b'{"type": 7}', "unknown_type"),
        (b'{"type": ["OrderPlaced"]}', "unknown_type"),
        (b'{"type": "OrderShipped"}', "unknown_type"),
        (ORDER.replace(b'"OrderPlaced"', b'"orderplaced"'), "unknown_type"),
        (ORDER.replace(b'"OrderPlaced"', b'"backorder.OrderPlaced.v1"'), "unknown_type"),
        (b'{"type": "StockReceived"}', "wrong_topic"),
        (json.dumps(fields("StockReceived")).encode(), "wrong_topic"),
        (b'{"type": "OrderPlaced"}', "invalid"),
        (ORDER.replace(b'"quantity": 15', b'"quantity": -15'), "invalid"),
    ],
    ids=lambda part: repr(part[:24]) if isinstance(part, bytes) else str(part),
)
def test_what_can_never_be_used_has_a_reason(value: bytes | None, reason: str) -> None:
    result = decode("orders", b"1001", value, [])
    assert isinstance(result, DeadLetter)
    assert result.reason == reason
    assert result.detail


def test_a_value_of_1_mib_is_read_and_a_byte_more_is_too_large() -> None:
    padding = MAX_VALUE_BYTES - len(ORDER)
    assert isinstance(decode("orders", None, ORDER + b" " * padding, ()), Decoded)
    result = decode("orders", None, ORDER + b" " * (padding + 1), ())
    assert result == DeadLetter("too_large", "1048577 bytes; at most 1048576 are taken")


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (ORDER.replace(b'"currency"', b'"currency": "USD", "currency"'), "currency"),
        (ORDER.replace(b'"currency"', b'"currency" : "USD", "currency"'), "currency"),
        (ORDER.replace(b'"currency"', b'"currency"\n\t:"USD", "currency"'), "currency"),
        (ORDER.replace(b'"currency"', b'"\\u0063urrency": "EUR", "currency"'), "currency"),
        (ORDER.replace(b'"quantity"', b'"quantity": 15, "quantity"'), "quantity"),
        # Two colons less in a moment, and two more in keys: the sum is what it should be.
        (
            ORDER.replace(b"09:00:00Z", b"09\\u003a00\\u003a00Z", 1).replace(
                b'"type"', b'"type": "OrderPlaced", "": null, "type"'
            ),
            "type",
        ),
        (ORDER.replace(b'"segment"', b'"segment": "gold", "segment"'), "segment"),
        (ORDER.replace(b'"type"', b'"type": "OrderPlaced", "type"'), "type"),
        (ORDER.replace(b'"type"', b'"ada@example.org": 1, "ada@example.org": 1, "type"'), "a key"),
        (ORDER.replace(b'"type"', b'"x": [{"y": 1, "y": 2}], "type"'), "a key"),
        (ORDER.replace(b'"type"', b'"x": {"": 1, "": 2}, "type"'), "a key"),
    ],
)
def test_a_key_that_occurs_twice_is_refused_wherever_it_is(value: bytes, where: str) -> None:
    assert decode("orders", None, value, ()) == DeadLetter("invalid", f"{where}: occurs twice in one object")


def test_quotes_and_colons_in_texts_are_not_taken_for_keys() -> None:
    tricky = 'say ":" or "currency": or \\": twice":'
    content = fields("OrderPlaced", order_id=tricky, id="a:b:c")
    for value in (json.dumps(content), json.dumps(content, indent=2), json.dumps(content, separators=(" , ", " : "))):
        result = decode("orders", tricky.encode(), value.encode(), ())
        assert isinstance(result, Decoded)
        assert result.message.order_id == tricky  # type: ignore[union-attr]
        assert result.key_matches


@pytest.mark.parametrize(
    "hidden",
    [
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b'"a\\u0000b"',
        b'{"\\u0000": 1}',
        b'"\\ud800"',
        b"[" * 300 + b"]" * 300,
        b"1" * 5000,
    ],
    ids=lambda part: repr(part[:12]),
)
def test_what_json_readers_let_through_is_refused_under_unknown_fields_too(hidden: bytes) -> None:
    result = decode("orders", None, ORDER.replace(b'"type"', b'"unknown": ' + hidden + b', "type"'), ())
    assert isinstance(result, DeadLetter)
    assert result.reason == "invalid"


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    for harmless in (b'"a\\\\u0000"', b'"\\\\\\\\u0000"'):
        value = ORDER.replace(b'"type"', b'"unknown": ' + harmless + b', "type"')
        assert isinstance(decode("orders", None, value, ()), Decoded)


def test_detail_names_fields_and_never_tells_whose_they_are() -> None:
    secrets = {"email": "ada@example.org\n", "phone": "+49 151 SECRET", "name": "Ada\x00Lovelace", "locale": "S3CRET!"}
    content = fields("OrderPlaced", customer={"customer_id": "c-7", **secrets, "timezone": ["SECRET"]})
    dead = read("OrderPlaced", content)
    assert isinstance(dead, DeadLetter)
    for name in (*secrets, "timezone"):
        assert f"customer.{name}: " in dead.detail
    for secret in ("ada", "151", "Lovelace", "SECRET", "S3CRET"):
        assert secret not in dead.detail
    for kind in ("ada@example.org", "Ada Lovelace", "x" * 65, "Аda"):
        assert refused("OrderPlaced", type=kind).detail == "type: is not the name of a message"


def test_detail_of_many_errors_stays_short() -> None:
    dead = refused("OrderPlaced", currency=1, placed_at=1, order_id=1, delivery=1, order_url=1, customer=1, lines=[{}])
    assert "and 5 more" in dead.detail
    assert len(dead.detail) <= 500


def test_a_wrong_first_line_is_not_reported_as_a_lack_of_lines() -> None:
    assert refused("OrderPlaced", lines=[1, 2]).detail == "lines.0: Input should be an object"


def test_a_message_on_a_topic_of_another_is_told_where_it_belongs() -> None:
    value = json.dumps(fields("OrderPlaced")).encode()
    for topic in TOPICS.keys() - {"orders"}:
        assert decode(topic, None, value, ()) == DeadLetter(
            "wrong_topic", f"OrderPlaced belongs on orders, not on {topic}"
        )
    assert decode("shop.orders", None, value, ()) == DeadLetter("wrong_topic", "no topic has this name")


@pytest.mark.parametrize("key", [None, b"", b"1002", b"\xff", b"1001 "])
def test_a_key_that_is_not_the_order_is_noted_and_otherwise_ignored(key: bytes | None) -> None:
    result = decode("orders", key, ORDER, ())
    assert result == Decoded(EXAMPLE["OrderPlaced"], None, key_matches=False)


def test_the_key_of_availability_is_location_and_sku() -> None:
    value = json.dumps(fields("SkuAvailability", sku="A:B")).encode()
    result = decode("availability", b"main:A:B", value, ())
    assert isinstance(result, Decoded)
    assert result.key_matches


def test_headers_that_are_null_not_utf8_or_repeated_do_no_harm() -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("traceparent", b"\xff\xfe"),
        ("content-type", None),
        ("content-type", b"\xff"),
        ("ce_id", b"\xff"),
        ("ce_type", None),
        ("", b""),
        ("traceparent", TRACEPARENT.encode()),
    ]
    assert decode("orders", b"1001", ORDER, headers) == Decoded(EXAMPLE["OrderPlaced"], TRACEPARENT, key_matches=True)
    nameless = json.dumps(fields("OrderPlaced", type=MISSING)).encode()
    assert isinstance(decode("orders", b"1001", nameless, headers), DeadLetter)


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "x",
        TRACEPARENT.upper(),
        "ff" + TRACEPARENT[2:],
        TRACEPARENT[:-1],
        TRACEPARENT + "\n",
        f"00-{'0' * 32}-{'1' * 16}-01",
    ],
)
def test_a_broken_traceparent_is_not_passed_on(trace: str) -> None:
    assert decode("orders", b"1001", ORDER, [("traceparent", trace.encode())]) == Decoded(
        EXAMPLE["OrderPlaced"], None, key_matches=True
    )


def test_a_traceparent_in_the_object_comes_before_that_of_the_headers() -> None:
    other = TRACEPARENT.replace("4bf9", "5bf9")
    value = json.dumps(fields("OrderPlaced", traceparent=other)).encode()
    result = decode("orders", b"1001", value, [("traceparent", TRACEPARENT.encode())])
    assert result == Decoded(EXAMPLE["OrderPlaced"], other, key_matches=True)


def test_a_message_too_large_to_be_read_is_not_written() -> None:
    lines = [line(line_no=number, sku=f"{number}" + "語" * 190, location="語" * 200) for number in range(1, 1001)]
    order = EXAMPLE["OrderPlaced"]
    kept = {name: getattr(order, name) for name in type(order).model_fields}
    parts = read("OrderPlaced", fields("OrderPlaced", lines=lines[:1]))
    assert isinstance(parts, Decoded)
    template = parts.message.lines[0]  # type: ignore[union-attr,index]
    large = type(order)(**{**kept, "lines": [template.model_copy(update={"line_no": n}) for n in range(1, 1001)]})
    with pytest.raises(
        ValueError, match=r"OrderPlaced shop-1/orders/1001/placed: \d+ bytes; a message has at most 1048576"
    ):
        encode(large, source="/shop")


HEAD = json.dumps(fields("OrderPlaced", lines=MISSING))[:-1]


@pytest.mark.parametrize(
    "value",
    [
        HEAD + ', "lines": [' + ",".join(["{}"] * 300_000) + "]}",
        HEAD + ', "lines": [' + ",".join(["1"] * 400_000) + "]}",
        HEAD + ', "lines": [' + ",".join(json.dumps(line(line_no=n)) for n in range(1, 12_000)) + "]}",
        HEAD + ', "x": [' + ",".join(["[]"] * 300_000) + "]}",
        HEAD + ', "x": [' + ",".join(["9" * 4299] * 240) + "]}",
        HEAD + ', "x": ' + "9" * 1_000_000 + "}",
        HEAD + ', "x": 1e' + "9" * 1_000_000 + "}",
        HEAD + ', "x": "' + "\\\\" * 500_000 + 'u0000"}',
        HEAD + "".join(f', "k{n}": 1' for n in range(70_000)) + "}",
        HEAD + "".join(', "k": 1' for _ in range(100_000)) + "}",
        "[" * 1_000_000,
        "[" * 500_000 + "]" * 500_000,
        '{"a":' * 180_000,
    ],
    ids=lambda value: value[-24:],
)
def test_the_worst_mebibyte_is_judged_in_bounded_time(value: str) -> None:
    started = time.process_time()
    decode("orders", None, value.encode(), ())
    assert time.process_time() - started < 10  # seconds, or minutes where the time is not bounded


def test_decoding_deep_in_a_stack_does_not_raise() -> None:
    value = (HEAD + ', "x": ' + "[" * 150 + "]" * 150 + "}").encode()

    def descend(depth: int) -> Any:
        return descend(depth - 1) if depth else decode("orders", None, value, ())

    # Just before Python's own limit the careful reader finds no room left; that is an answer too.
    for depth in (0, 500, 700, sys.getrecursionlimit() - 250):
        assert isinstance(descend(depth), Decoded | DeadLetter)


def test_the_package_needs_nothing_but_pydantic() -> None:
    code = """
import sys
before = set(sys.modules)
import backorder_schemas
found = {name.partition(".")[0] for name in set(sys.modules) - before if not name.startswith("_sysconfigdata")}
print(*sorted(found - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    of_pydantic = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    assert set(done.stdout.split()) <= {"backorder_schemas", *of_pydantic}


def test_every_topic_of_the_codec_has_its_messages() -> None:
    assert all(TOPIC_OF[message].name == topic.name for topic in TOPICS.values() for message in topic.messages)
