"""Bytes of a topic ↔ messages. Reading never raises: what can't be used is a `DeadLetter` that says why.

The ordinary path parses once, in pydantic's compiled core, and proves by counting (`keys`) that nothing was let through
that should not be. Envelopes, unknown fields and all that is wrong somehow are read again with care.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from backorder_schemas import careful
from backorder_schemas.cloudevents import (
    as_traceparent,
    cloudevent_headers,
    header_attributes,
    header_traceparent,
    is_structured,
    name_in,
)
from backorder_schemas.fields import NULL, VALUE
from backorder_schemas.keys import all_taken
from backorder_schemas.topics import MAX_VALUE_BYTES, TOPIC_OF, TOPICS, TYPES, Message, Topic

_MAX_DETAIL = 500
_OCCURRED_AT = b'"occurred_at":"'
_NO_HEADERS: Final[dict[str, bytes | None]] = {}


class Decoded(NamedTuple):
    """A message that can be used. `key_matches` says whether the record's key is the one of the contract."""

    message: Message
    traceparent: str | None
    key_matches: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a message can never be used: a short code, and for people what is wrong where, without values of fields."""

    reason: str
    detail: str


class Encoded(NamedTuple):
    """A message as it goes on the wire. `topic` is without prefix."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


# One validator for the messages of all topics: the type is looked up in a hash, so more of them cost nothing.
_adapter: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])
_validate_json = _adapter.validator.validate_json


def decode(
    topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> Decoded | DeadLetter:
    """Read one record of a topic (name without prefix). Of a header that occurs twice, the last counts."""
    spec = TOPICS.get(topic)
    if spec is None:
        return DeadLetter("wrong_topic", "no topic has this name")
    if not value:
        return DeadLetter("empty", "the value is null" if value is None else "the value has no bytes")
    if len(value) > MAX_VALUE_BYTES:
        return DeadLetter("too_large", f"{len(value)} bytes; at most {MAX_VALUE_BYTES} are taken")
    named = dict(headers) if headers else _NO_HEADERS
    try:
        message = _validate_json(value)
    except ValidationError:
        return _decode_carefully(spec, key, value, named, None)
    if type(message) not in spec.messages or (named and is_structured(named)) or not all_taken(value, message):
        return _decode_carefully(spec, key, value, named, message)
    return Decoded(message, header_traceparent(named) if named else None, key == spec.key_of(message).encode())


def _decode_carefully(
    spec: Topic, key: bytes | None, value: bytes, headers: dict[str, bytes | None], message: Message | None
) -> Decoded | DeadLetter:
    """The same for what is not ordinary: envelopes, unknown fields, and everything that is wrong somehow.

    `message` is what the ordinary reader made of the value itself, if it could.
    """
    try:
        content = careful.parse_object(value)
        fields, envelope = _unwrap(content, headers)
        changed = None if fields is content else careful.dump(fields)
    except careful.RefusedError as refused:
        return DeadLetter(refused.reason, refused.detail)
    name = fields.get("type")
    if not isinstance(name, str) or name not in TYPES:
        return DeadLetter("unknown_type", _about_type(name))
    if TYPES[name] not in spec.messages:
        owner = TOPIC_OF[TYPES[name]].name
        return DeadLetter("wrong_topic", f"{name} belongs on {owner}, not on {spec.name}")
    try:
        if changed is not None or message is None:
            message = _validate_json(value if changed is None else changed)
    except ValidationError as error:
        return DeadLetter("invalid", _what_is_wrong(error))
    if careful.has_nul(value):
        return DeadLetter("invalid", "a text under an unknown field has a NUL character")
    traceparent = as_traceparent(fields.get("traceparent")) or as_traceparent(envelope.get("traceparent"))
    return Decoded(message, traceparent or header_traceparent(headers), key == spec.key_of(message).encode())


def _unwrap(content: dict[str, Any], headers: dict[str, bytes | None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message's own fields, completed from its envelope, and the envelope."""
    envelope: dict[str, Any]
    if is_structured(headers) or ("specversion" in content and "data" in content):
        envelope, fields = content, content.get("data")
        if not isinstance(fields, dict):
            raise careful.RefusedError("invalid", "data: the CloudEvent has no JSON object under data")
    else:
        envelope, fields = dict(header_attributes(headers)), content
    missing = {name: envelope[name] for name in ("type", "id") if fields.get(name) is None and name in envelope}
    if isinstance(missing.get("type"), str):
        missing["type"] = name_in(missing["type"], TYPES)
    return (fields | missing if missing else fields), envelope


def _about_type(name: Any) -> str:
    if name is None:
        return "type: is missing"
    # Only what looks like a name is repeated: anything else could be anything, an address too.
    if isinstance(name, str) and name.isascii() and name.isidentifier() and len(name) <= 64:
        return f"type: no message is called {name}"
    return "type: is not the name of a message"


def _what_is_wrong(error: ValidationError) -> str:
    """Field and rule of each error, without any input."""
    problems: list[str] = []
    inside: tuple[int | str, ...] = ()
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        # The first element is the message's type; of a union, only what is said of a value counts.
        where = [str(step) for step in problem["loc"][1:] if step != VALUE]
        if problem["type"] == "json_invalid":
            problems.append("nested too deep")
        elif problem["type"] == "too_short" and inside[: len(problem["loc"])] == problem["loc"]:
            continue  # the array is counted short only because its first wrong item ended the search
        elif NULL not in where:
            problems.append(f"{'.'.join(where) or 'message'}: {problem['msg'].removeprefix('Value error, ')}")
        inside = problem["loc"]
    detail = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
    return detail if len(detail) <= _MAX_DETAIL else detail[: _MAX_DETAIL - 1] + "…"


def encode(message: Message, *, source: str, traceparent: str | None = None) -> Encoded:
    """One record for a message: its topic, key, value and CloudEvents headers.

    `source` is such as `/backorder/allocator`. Raises ValueError where the value would be larger than a message may be.
    """
    topic = TOPIC_OF[type(message)]
    key = topic.key_of(message)
    value = message.__pydantic_serializer__.to_json(message)
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"{message.type} {message.id}: {len(value)} bytes; a message has at most {MAX_VALUE_BYTES}")
    # The time as the value has it: half the cost of writing it again. In a text the quotes would be escaped.
    start = value.index(_OCCURRED_AT) + len(_OCCURRED_AT)
    time = value[start : value.index(b'"', start)].decode()
    headers = cloudevent_headers(
        type=message.type, id=message.id, time=time, subject=key, source=source, traceparent=traceparent
    )
    return Encoded(topic.name, key.encode(), value, headers)
