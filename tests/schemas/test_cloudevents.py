"""CloudEvents in both directions, judged by the CloudEvents SDK."""

import json
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent

from backorder_schemas import DeadLetter, Decoded, cloudevent_headers, cloudevents, decode, encode
from backorder_schemas.examples import EXAMPLES
from backorder_schemas.topics import TOPIC_OF, Message
from tests.schemas.samples import EXAMPLE, MISSING, TRACEPARENT, fields, read


def event(data: dict[str, Any], **attributes: Any) -> BaseCloudEvent:
    head = {"id": "envelope-1", "type": "com.shop.OrderPlaced", "source": "/shop", "specversion": "1.0"}
    return CloudEvent({**head, "datacontenttype": "application/json", **attributes}, data)


def received(message: kafka.KafkaMessage) -> Decoded | DeadLetter:
    return read("OrderPlaced", message.value, list(message.headers.items()))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.type)
def test_the_sdk_reads_what_we_write(message: Message) -> None:
    sent = encode(message, source="/backorder/allocator", traceparent=TRACEPARENT)
    parsed = kafka.from_binary_event(kafka.KafkaMessage(dict(sent.headers), sent.key, sent.value))
    assert parsed.get_specversion() == "1.0"
    assert parsed.get_id() == message.id
    assert parsed.get_type() == f"backorder.{message.type}.v1"
    assert parsed.get_source() == "/backorder/allocator"
    assert parsed.get_time() == message.occurred_at
    assert parsed.get_subject() == sent.key.decode()
    assert parsed.get_datacontenttype() == "application/json"
    assert parsed.get_data() == json.loads(sent.value)
    assert dict(sent.headers)["traceparent"] == TRACEPARENT.encode()


def test_headers_are_those_of_the_contract_and_no_trace_is_made_up() -> None:
    sent = encode(EXAMPLE["LowStock"], source="/backorder/allocator")
    assert sent.headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", EXAMPLE["LowStock"].id.encode()),
        ("ce_type", b"backorder.LowStock.v1"),
        ("ce_source", b"/backorder/allocator"),
        ("ce_time", b"2026-11-02T09:00:00Z"),
        ("ce_subject", b"PHONE-X"),
        ("content-type", b"application/json"),
    ]


def test_a_relay_that_holds_stored_bytes_writes_the_same_headers() -> None:
    message = EXAMPLE["BackorderCreated"]
    sent = encode(message, source="/x", traceparent=TRACEPARENT)
    time = json.loads(sent.value)["occurred_at"]
    headers = cloudevent_headers(
        type=message.type, id=message.id, time=time, subject="1001", source="/x", traceparent=TRACEPARENT
    )
    assert headers == sent.headers


def test_the_time_of_the_header_is_that_of_the_value_whatever_else_the_value_says() -> None:
    tricky = fields(
        "BackorderCreated", caused_by='"occurred_at":"1999-01-01T00:00:00Z"', occurred_at="2026-01-01T00:00:00.5Z"
    )
    result = read("BackorderCreated", tricky)
    assert isinstance(result, Decoded)
    sent = encode(result.message, source="/x")
    assert datetime.fromisoformat(dict(sent.headers)["ce_time"].decode()) == result.message.occurred_at


@pytest.mark.parametrize("mode", [kafka.to_binary_event, kafka.to_structured_event])
@pytest.mark.parametrize(
    "kind", ["com.shop.OrderPlaced", "OrderPlaced", "backorder.OrderPlaced.v1", "a.b.OrderPlaced.v2.beta"]
)
def test_what_the_sdk_writes_is_read_with_id_type_and_trace_of_the_envelope(mode: Any, kind: str) -> None:
    data = fields("OrderPlaced", type=MISSING, id=MISSING)
    result = received(mode(event(data, type=kind, traceparent=TRACEPARENT, partitionkey="1001")))
    assert isinstance(result, Decoded), result
    assert result.message == EXAMPLE["OrderPlaced"].model_copy(update={"id": "envelope-1"})
    assert result.traceparent == TRACEPARENT


@pytest.mark.parametrize("mode", [kafka.to_binary_event, kafka.to_structured_event])
def test_what_the_object_says_itself_comes_before_its_envelope(mode: Any) -> None:
    other = TRACEPARENT.replace("4bf9", "5bf9")
    data = fields("OrderPlaced", traceparent=other)
    result = received(mode(event(data, type="com.shop.OrderCancelled", traceparent=TRACEPARENT)))
    assert result == Decoded(EXAMPLE["OrderPlaced"], other, key_matches=False)


def test_a_structured_event_is_known_without_its_content_type() -> None:
    message = kafka.to_structured_event(event(fields("OrderPlaced", id=MISSING)))
    result = read("OrderPlaced", message.value)
    assert isinstance(result, Decoded)
    assert result.message.id == "envelope-1"


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+json", b"Application/CloudEvents+JSON; charset=UTF-8"]
)
def test_the_content_type_of_a_structured_event_needs_data(content_type: bytes) -> None:
    for value in (fields("OrderPlaced"), {"data": None}, {"data": [1]}, {"data_base64": "e30="}):
        result = read("OrderPlaced", value, [("content-type", content_type)])
        assert result == DeadLetter("invalid", "data: the CloudEvent has no JSON object under data")


@pytest.mark.parametrize("mode", [kafka.to_binary_event, kafka.to_structured_event])
@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"type": "com.shop.OrderShipped"}, "unknown_type"),
        ({"type": "com.shop.StockReceived"}, "wrong_topic"),
        ({"id": "x" * 201}, "invalid"),
    ],
)
def test_an_envelope_that_says_something_wrong_makes_a_dead_letter(mode: Any, attributes: Any, reason: str) -> None:
    result = received(mode(event(fields("OrderPlaced", type=MISSING, id=MISSING), **attributes)))
    assert isinstance(result, DeadLetter)
    assert result.reason == reason


def test_what_is_hidden_in_an_envelope_is_found() -> None:
    good = kafka.to_structured_event(event(fields("OrderPlaced"))).value
    assert isinstance(read("OrderPlaced", good), Decoded)
    in_envelope, in_data = b"{", b'{"type": "OrderPlaced"'
    for hidden in (b'"x": NaN, ', b'"x": 1, "x": 2, ', b'"x": "\\u0000", ', b'"x": "\\ud800", '):
        for place in (in_envelope, in_data):
            result = read("OrderPlaced", good.replace(place, b"{" + hidden + place[1:], 1))
            assert isinstance(result, DeadLetter)
            assert result.reason == "invalid"


def _the_key(key: str, _event: BaseCloudEvent) -> str:
    return key


def test_every_message_survives_an_envelope() -> None:
    for message in EXAMPLES:
        topic = TOPIC_OF[type(message)]
        key = topic.key_of(message)
        data = json.loads(encode(message, source="/x").value)
        sent = kafka.to_structured_event(event(data, type=f"x.{message.type}"), key_mapper=partial(_the_key, key))
        assert isinstance(sent.key, str)
        result = decode(topic.name, sent.key.encode(), sent.value, list(sent.headers.items()))
        assert result == Decoded(message, None, key_matches=True)


def test_only_the_headers_that_are_named_have_a_meaning() -> None:
    """Who reads a stored record again passes these on, and no other."""
    asked: set[str] = set()

    class Watched(dict[str, bytes | None]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return default

    for look in (cloudevents.is_structured, cloudevents.header_attributes, cloudevents.header_traceparent):
        look(Watched())
    assert asked == cloudevents.HEADERS_READ
