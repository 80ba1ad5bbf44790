"""CloudEvents 1.0 on Kafka: the headers we write, and what we take from the envelopes of others."""

import re
from functools import lru_cache
from typing import Any

_SPECVERSION = ("ce_specversion", b"1.0")
_CONTENT_TYPE = ("content-type", b"application/json")
HEADERS_READ = frozenset({"content-type", "ce_type", "ce_id", "ce_traceparent", "traceparent"})
"""The only headers that `decode` looks at. Whatever else a record has, it means the same without it."""
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@lru_cache(maxsize=256)
def _fixed(name: str, value: str) -> tuple[str, bytes]:
    """A header that few values occur of."""
    return name, value.encode()


def cloudevent_headers(
    *,
    type: str,  # noqa: A002 (the names of CloudEvents)
    id: str,  # noqa: A002
    time: str,
    subject: str,
    source: str,
    traceparent: str | None,
) -> list[tuple[str, bytes]]:
    """Headers of a message in binary mode. `type` is the message's name, `time` RFC 3339, `subject` the key."""
    headers = [
        _SPECVERSION,
        ("ce_id", id.encode()),
        _fixed("ce_type", f"backorder.{type}.v1"),
        _fixed("ce_source", source),
        ("ce_time", time.encode()),
        ("ce_subject", subject.encode()),
        _CONTENT_TYPE,
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def is_structured(headers: dict[str, bytes | None]) -> bool:
    """Whether the content type says that the value is a whole CloudEvent."""
    content_type = headers.get("content-type")
    if content_type is None or content_type == b"application/json":
        return False
    return content_type.lower().startswith(b"application/cloudevents")


def header_attributes(headers: dict[str, bytes | None]) -> dict[str, str]:
    """Attributes of a CloudEvent in binary mode. What is not UTF-8 is left out: nobody can have meant it for us."""
    attributes = {}
    for name in ("type", "id"):
        value = headers.get(f"ce_{name}")
        if value is not None:
            try:
                attributes[name] = value.decode()
            except UnicodeDecodeError:
                continue
    return attributes


def header_traceparent(headers: dict[str, bytes | None]) -> str | None:
    """The trace that a message belongs to, from its headers."""
    for name in ("ce_traceparent", "traceparent"):
        value = headers.get(name)
        if value is not None and _TRACEPARENT.fullmatch(value):
            return value.decode()
    return None


def as_traceparent(value: Any) -> str | None:
    """A W3C traceparent, or None for anything else: a broken one must not be passed on."""
    return value if isinstance(value, str) and value.isascii() and _TRACEPARENT.fullmatch(value.encode()) else None


def name_in(dotted: str, known: Any) -> str:
    """The message's name in a type such as `com.shop.OrderPlaced` or `backorder.OrderPlaced.v1`; else all of it."""
    return next((part for part in reversed(dotted.split(".")) if part in known), dotted)
