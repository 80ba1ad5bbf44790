"""JSON read with care: slower than the ordinary way, and it refuses what JSON readers usually let through."""

import json
import re
from typing import Any, NoReturn

_MAX_DIGITS = 4300  # the ordinary reader's limit, and Python's own
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
    except RecursionError:
        closed = text.rstrip(" \t\n\r").endswith(("}", "]"))
        raise RefusedError("invalid" if closed else "not_json", "nested too deep") from None
    if not isinstance(content, dict):
        raise RefusedError("invalid", "the value is not a JSON object")
    if _NUL.search(value):
        raise RefusedError("invalid", "has a NUL character")
    return content


def dump(content: dict[str, Any]) -> bytes:
    """The object as JSON again, for the ordinary reader."""
    return json.dumps(content, separators=(",", ":")).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise RefusedError("invalid", "a key occurs twice in one object")
    return content


def _constant(name: str) -> NoReturn:
    raise RefusedError("invalid", f"{name} is not a JSON value")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise RefusedError("invalid", f"a number has more than {_MAX_DIGITS} digits")
    return int(digits)


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
