"""Whatever bytes come: decoding never raises, and takes nothing that an independent, slow reader would refuse."""

import json
import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from backorder_schemas import TOPICS, DeadLetter, Decoded, decode, encode
from backorder_schemas.codec import _validate_json
from backorder_schemas.examples import EXAMPLES
from backorder_schemas.keys import all_taken
from tests.schemas.samples import fields

REASONS = {"empty", "not_utf8", "not_json", "invalid", "too_large", "unknown_type", "wrong_topic"}
KINDS = sorted({message.type for message in EXAMPLES})

header_names = st.one_of(
    st.text(max_size=20), st.sampled_from(["content-type", "ce_id", "ce_type", "traceparent", "ce_traceparent"])
)
headers = st.lists(
    st.tuples(header_names, st.none() | st.binary(max_size=40) | st.just(b"application/cloudevents+json")), max_size=8
)
topics = st.sampled_from([*TOPICS, "nothing", ""])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["\ud800", "\x00", "a\x01", '":', '\\":"', "2026-11-02T09:00:00+02:00", "0001-01-01T00:00:00+14:00", "x" * 201]
    ),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def rendered(draw: st.DrawFn, content: Any) -> str:
    """JSON text of a value, with white space, escapes, repeated keys and unknown fields where they may be."""
    white = st.sampled_from(["", "", "", " ", "\n\t", "  \r\n"])

    def text(value: str) -> str:
        if draw(st.integers(0, 9)) == 0:
            return '"' + "".join(f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else letter for letter in value) + '"'
        return json.dumps(value, ensure_ascii=draw(st.booleans()))

    def render(value: Any) -> str:
        if isinstance(value, dict):
            pairs = list(value.items())
            if pairs and draw(st.integers(0, 15)) == 0:
                pairs.append(draw(st.sampled_from(pairs)))
            if draw(st.integers(0, 7)) == 0:
                pairs.append((draw(st.text(max_size=6)), draw(json_values)))
            members = (f"{draw(white)}{text(k)}{draw(white)}:{draw(white)}{render(v)}{draw(white)}" for k, v in pairs)
            return "{" + ",".join(members) + "}"
        if isinstance(value, list):
            return "[" + ",".join(draw(white) + render(item) for item in value) + "]"
        return text(value) if isinstance(value, str) else json.dumps(value)

    return render(content)


def wrong_in(text: str) -> str | None:
    """The slow, independent judge of what JSON readers let through."""
    found: list[str] = []

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in members}) != len(members):
            found.append("twice")
        return dict(members)

    content = json.loads(text, object_pairs_hook=pairs, parse_constant=found.append)

    def walk(value: Any) -> None:
        if isinstance(value, str):
            found.extend(re.findall("[\x00\ud800-\udfff]", value))
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            for name, item in value.items():
                walk(name)
                walk(item)

    walk(content)
    return found[0] if found else None


@st.composite
def orders(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(KINDS))
    content = fields(kind)
    for name in draw(st.lists(st.sampled_from(sorted(content)), max_size=2)):
        content[name] = draw(json_values)
    return draw(rendered(content))


@given(topics, st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=200), headers)
@example("orders", None, b'{"type": "OrderPlaced"', [("content-type", None)])
@settings(max_examples=300)
def test_arbitrary_bytes_never_raise(
    topic: str, key: bytes | None, value: bytes | None, given_headers: list[tuple[str, bytes | None]]
) -> None:
    result = decode(topic, key, value, given_headers)
    assert isinstance(result, Decoded) or result.reason in REASONS


@given(topics, json_values, headers)
@settings(max_examples=300)
def test_arbitrary_json_never_raises(topic: str, content: Any, given_headers: list[tuple[str, bytes | None]]) -> None:
    result = decode(topic, None, json.dumps(content).encode(), given_headers)
    assert isinstance(result, Decoded) or result.reason in REASONS


@given(orders(), headers, st.integers(0, 10_000), st.binary(max_size=3))
@settings(max_examples=300)
def test_a_damaged_message_never_raises(
    text: str, given_headers: list[tuple[str, bytes | None]], at: int, damage: bytes
) -> None:
    value = text.encode("utf-8", "surrogatepass")
    at %= len(value)
    damaged = value[:at] + damage + value[at + len(damage) :]
    for topic in ("orders", "backorders", "availability"):
        result = decode(topic, None, damaged, given_headers)
        assert isinstance(result, Decoded) or result.reason in REASONS


@given(orders())
@settings(max_examples=500)
def test_nothing_is_taken_that_a_slow_reader_refuses(text: str) -> None:
    value = text.encode("utf-8", "surrogatepass")
    results = [decode(topic, None, value, ()) for topic in TOPICS]
    taken = [result for result in results if isinstance(result, Decoded)]
    if taken:
        assert wrong_in(text) is None
        assert len(taken) == 1
        sent = encode(taken[0].message, source="/x")
        again = decode(sent.topic, sent.key, sent.value, sent.headers)
        assert isinstance(again, Decoded)
        assert again.message == taken[0].message
        assert again.key_matches


@given(orders())
@settings(max_examples=500)
def test_the_count_of_keys_proves_only_what_is_true(text: str) -> None:
    value = text.encode("utf-8", "surrogatepass")
    try:
        message = _validate_json(value)
    except ValueError:
        return
    if all_taken(value, message):
        assert wrong_in(text) is None
        known = json.loads(text)
        assert known.keys() <= type(message).model_fields.keys()


def test_the_count_of_keys_spares_ordinary_messages_the_slow_way() -> None:
    for message in EXAMPLES:
        for text in (message.model_dump_json(), message.model_dump_json(indent=2), json.dumps(fields(message.type))):
            assert all_taken(text.encode(), _validate_json(text.encode()))


@given(st.sampled_from(KINDS), st.text(min_size=1, max_size=6), json_values)
@settings(max_examples=300)
def test_an_unknown_field_changes_nothing_about_a_message(kind: str, name: str, content: Any) -> None:
    plain = fields(kind)
    text = json.dumps({**plain, f"x_{name}": content})
    for topic in TOPICS:
        before = decode(topic, None, json.dumps(plain).encode(), ())
        after = decode(topic, None, text.encode(), ())
        if isinstance(before, DeadLetter):
            assert isinstance(after, DeadLetter)
        elif wrong_in(text) is None:
            assert after == before
        else:
            assert isinstance(after, DeadLetter)
            assert after.reason == "invalid"
