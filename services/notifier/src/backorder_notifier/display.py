"""How commands show things: JSON with stable keys, a table on a terminal, tab-separated lines elsewhere."""

import json
import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from backorder_notifier import sentences
from backorder_notifier.dead_letter_records import OUR_HEADERS
from backorder_notifier.dead_letter_store import Cause, Facts, Redrive
from backorder_notifier.redriving import Redriven
from backorder_notifier.reports import OutboxRow
from backorder_notifier.rows import Record

_MILLISECONDS = re.compile(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.\d{3}Z")
"""Of a moment, which people can do without."""


def print_json(content: Any) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> None:
    """Rows by column; `empty` is said on a terminal where there are none."""
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(_plain(row[column]) for column in columns) + "\n")
        return
    console = Console()
    if not rows:
        console.print(empty)
        return
    # Folded rather than cut: an id or a name that is cut can't be copied.
    table = Table(*(Column(column.replace("_", " "), overflow="fold") for column in columns), box=box.SIMPLE)
    for row in rows:
        table.add_row(*(escape(_MILLISECONDS.sub(r"\1 \2Z", _plain(row[column]))) for column in columns))
    console.print(table)


class StreamedRows:
    """Rows printed as they come: there may be more than memory holds, and people like to watch.

    As JSON they are a list between `head` and `tail`.
    """

    def __init__(self, *, as_json: bool, head: str = "", tail: str = "") -> None:
        self.as_json = as_json
        self.head = head
        self.tail = tail
        self.rows = 0

    def __enter__(self) -> Self:
        if self.as_json:
            sys.stdout.write(self.head + "[")
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        if self.as_json:
            sys.stdout.write((",\n" if self.rows else "\n") + json.dumps(row, ensure_ascii=False))
        elif sys.stdout.isatty():
            said = (value for value in row.values() if not isinstance(value, bool) and value not in {None, ""})
            sys.stdout.write("  ".join(_plain(value) for value in said) + "\n")
        else:
            sys.stdout.write("\t".join(_plain(value) for value in row.values()) + "\n")
        sys.stdout.flush()
        self.rows += 1

    def __exit__(self, *_: object) -> None:
        # Also where the rest could not be done: what was printed is whole.
        if self.as_json:
            sys.stdout.write("]" + self.tail + "\n")


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        text = _plain(line)
        sys.stdout.write((_MILLISECONDS.sub(r"\1 \2Z", text) if sys.stdout.isatty() else text) + "\n")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return "" if value is None else " ".join(str(value).split())


def moment(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def outbox_json(row: OutboxRow) -> dict[str, Any]:
    """One message over one channel. No contact data."""
    return {
        "delivery_id": str(row.delivery_id),
        "message_id": str(row.message_id),
        "order_id": row.order_id,
        "position": row.position,
        "kind": row.kind,
        "channel": row.channel,
        "state": row.state,
        "reason": row.reason,
        "because": sentences.of_reason(row.reason),
        "attempts": row.attempts,
        "in_doubt": row.in_doubt,
        "due_at": moment(row.due_at) if row.state == "due" else None,
        "composed_at": moment(row.composed_at),
        "first_attempt_at": moment(row.first_attempt_at),
        "settled_at": moment(row.settled_at),
        "about": list(row.about),
    }


def mask_address(address: str) -> str:
    """Enough to recognise one that is known already: "a***@example.org", "+49***78"."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}" if at else f"{address[:3]}***{address[-2:]}"


def cause_json(cause: Cause) -> dict[str, Any]:
    """Why letters are dead. `resolved`: of them, those that were used after all."""
    return {
        "topic": cause.topic,
        "reason": cause.reason,
        "detail": cause.detail,
        "count": cause.count,
        "open": cause.open,
        "resolved": cause.resolved,
        "first_seen": moment(cause.first_seen),
        "last_seen": moment(cause.last_seen),
        "example_id": cause.example_id,
    }


def dead_letter_json(facts: Facts) -> dict[str, Any]:
    """Where it was and why it is refused; nothing of what is in it."""
    return {
        "id": facts.dead_letter_id,
        "topic": facts.full_topic,
        "partition": facts.partition,
        "offset": facts.offset,
        "recorded_at": moment(facts.recorded_at),
        "reason": facts.reason,
        "detail": facts.detail,
        "failed_at": moment(facts.failed_at),
        "published_at": moment(facts.published_at),
        "redrives": facts.redrives,
        "tried_at": moment(facts.tried_at),
        "newest_reason": facts.newest_reason,
        "newest_detail": facts.newest_detail,
        "redriven_at": moment(facts.redriven_at),
        "outcome": facts.outcome,
    }


def redriven_json(came: Redriven) -> dict[str, Any]:
    """What became of a dead letter that was driven again. `used`: it is not open any more."""
    return {
        "id": came.dead_letter_id,
        "topic": came.topic,
        "used": came.outcome != "dead_letter",
        "outcome": came.outcome,
        "reason": came.reason,
        "detail": came.detail,
    }


_HEADERS_SHOWN = frozenset(
    {"content-type", "traceparent"}
    | {f"ce_{name}" for name in ("specversion", "id", "type", "source", "time", "subject", "traceparent")}
    | {f"ce_{name}" for name in ("datacontenttype", "dataschema")}
    | (OUR_HEADERS - {"dlq.detail"})
)
"""Headers whose values are shown masked, too: envelopes, and what an earlier dead letter said of where it was."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+;=-]{0,199}")
"""What an envelope holds: no spaces, no @; nobody's name or address."""
_PHONE = re.compile(r"\+[0-9]{6}")


def dead_letter_content(record: Record, history: Sequence[Redrive], *, reveal: bool) -> dict[str, Any]:
    """Key, value and headers: masked, or all of it where somebody asked (text where it is text, else base64).

    And who drove it again, when, why, and what came of it.
    """
    if reveal:
        content = {
            "masked": False,
            "key": _bytes(record.key),
            "value": _bytes(record.value),
            "headers": [[name, _bytes(value)] for name, value in record.headers],
        }
    else:
        content = {
            "masked": True,
            "key": _size(record.key),
            "value": _mask_bytes(record.value),
            "headers": [_mask_header(name, value) for name, value in record.headers],
        }
    return content | {
        "history": [
            {
                "at": moment(each.at),
                "by": each.by,
                "why": each.why,
                "outcome": each.outcome,
                "reason": each.reason,
                "detail": each.detail,
            }
            for each in history
        ]
    }


def _mask_header(name: str, value: bytes | None) -> list[str | None]:
    if name in _HEADERS_SHOWN and value is not None:
        text = value.decode("utf-8", "replace")
        if _PLAIN.fullmatch(text) and not _PHONE.search(text):
            return [name, text]
    return [_mask_name(name), _size(value)]


def _mask_name(name: str) -> str:
    plain = name.replace("-", "_").replace(".", "_")
    return name if plain.isascii() and plain.isidentifier() and len(name) <= 40 else "<name>"


def _bytes(content: bytes | None) -> Any:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(content).decode("ascii")}


def _size(content: bytes | None) -> str | None:
    return None if content is None else f"<{len(content)} bytes>"


def _mask_bytes(content: bytes | None) -> Any:
    """The shape of JSON without its values. Names of fields may be anything too: those that look like names stay."""
    if content is None:
        return None
    try:
        return _mask(json.loads(content))
    except (ValueError, RecursionError):
        return _size(content)


def _mask(value: Any) -> Any:
    match value:
        case dict():
            return {
                name if name.isascii() and name.isidentifier() and len(name) <= 40 else "<name>": _mask(each)
                for name, each in value.items()
            }
        case list():
            return [_mask(each) for each in value]
        case None:
            return None
        case bool():
            return "<true or false>"
        case int() | float():
            return "<number>"
        case _:
            return f"<text of {len(value)}>"
