"""JSON read with care: slower than the ordinary way, and it refuses what JSON readers usually let through."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

from backorder_schemas.fields import Model

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# A backslash escapes itself, so only an odd run of them before u0000 is a NUL.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class RefusedError(Exception):
    """The text can't be used: reason code and detail of the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def parse_object(value: bytes) -> dict[str, Any]:
    """The JSON object in these bytes. Raises RefusedError."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise RefusedError("not_utf8", f"byte {error.start}: {error.reason}") from None
    if text.startswith("\ufeff"):
        raise RefusedError("not_json", "begins with a byte order mark")
    try:
        content = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise RefusedError("not_json", f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except ValueError:  # Python's own limit to integers, 4300 digits as in the ordinary reader
        raise RefusedError("invalid", "a number has too many digits") from None
    except RecursionError:
        closed = text.rstrip(" \t\n\r").endswith(("}", "]"))
        raise _too_deep("invalid" if closed else "not_json") from None
    if not isinstance(content, dict):
        raise RefusedError("invalid", "the value is not a JSON object")
    if b"\\" in value and _SURROGATE.search(value) and not _is_unicode(content):
        raise RefusedError("invalid", "a text has half of a surrogate pair")
    return content


def _is_unicode(content: dict[str, Any]) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except RecursionError:
        raise _too_deep("invalid") from None
    return True


def has_nul(value: bytes) -> bool:
    """Whether a text somewhere in this JSON has a NUL character."""
    return b"\\" in value and _NUL.search(value) is not None


def dump(content: dict[str, Any]) -> bytes:
    """The object as JSON again, for the ordinary reader. Raises RefusedError."""
    try:
        return json.dumps(content, separators=(",", ":")).encode()
    except RecursionError:
        raise _too_deep("invalid") from None


def _too_deep(reason: str) -> RefusedError:
    return RefusedError(reason, "nested too deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        # Only a field of ours is named: any other key could be anything, an address too.
        raise RefusedError("invalid", f"{twice if twice in _names(Model) else 'a key'}: occurs twice in one object")
    return content


def _constant(name: str) -> NoReturn:
    raise RefusedError("invalid", f"{name} is not a JSON value")


def _names(model: type[Model]) -> Iterator[str]:
    for sub in model.__subclasses__():
        yield from sub.model_fields
        yield from _names(sub)


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
