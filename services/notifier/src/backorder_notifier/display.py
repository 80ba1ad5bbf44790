"""How commands show things: JSON with stable keys, a table on a terminal, tab-separated lines elsewhere."""

import json
import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from backorder_notifier import sentences
from backorder_notifier.reports import OutboxRow
from backorder_notifier.rows import DeadLetterRow

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


def dead_letter_json(row: DeadLetterRow) -> dict[str, Any]:
    """Where it was and why it is refused; nothing of what is in it."""
    return {
        "id": row.dead_letter_id,
        "topic": row.record.full_topic,
        "partition": row.record.partition,
        "offset": row.record.offset,
        "recorded_at": moment(row.record.recorded_at),
        "reason": row.reason,
        "detail": row.detail,
        "failed_at": moment(row.failed_at),
        "published_at": moment(row.published_at),
        "redriven_at": moment(row.redriven_at),
    }


def dead_letter_content(row: DeadLetterRow, *, reveal: bool) -> dict[str, Any]:
    """Key, value and headers: masked, or all of it where somebody asked (text where it is text, else base64)."""
    record = row.record
    if reveal:
        return {
            "masked": False,
            "key": _bytes(record.key),
            "value": _bytes(record.value),
            "headers": [[name, _bytes(value)] for name, value in record.headers],
        }
    return {
        "masked": True,
        "key": _size(record.key),
        "value": _mask_bytes(record.value),
        "headers": [[name, _size(value)] for name, value in record.headers],
    }


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
