"""Dead letters as people see them: structure and envelope as they are, what may be contact data masked."""

import json
import re
from dataclasses import asdict
from typing import Any

from backorder_allocator.dead_letter_reports import Redrive
from backorder_allocator.dead_letters import OUR_HEADERS, DeadLetterRow, Facts

STRUCTURE = frozenset(
    {
        "type",
        "id",
        "occurred_at",
        "order_id",
        "placed_at",
        "currency",
        "line_no",
        "sku",
        "location",
        "quantity",
        "unit_price",
    }
    | {"receipt_id", "supply_id", "adjustment_id", "count_id", "delta", "counted", "delivery", "by", "segment"}
    | {"accepts_backorder", "locale", "timezone", "customer_id", "specversion", "source", "subject", "time"}
    | {"revision", "expected_at", "backorders", "waiting_limit", "max_wait_days", "safety_stock", "low_stock_at"}
    | {"release_at", "default_lead_time_days", "shipment_id", "delivered_at"}
)
"""Fields whose values are shown unmasked; everything else may hold an address."""
MASK = "***"
HEADERS_SHOWN = (
    frozenset({"content-type", "traceparent"})
    | {f"ce_{name}" for name in ("specversion", "id", "type", "source", "time", "subject", "traceparent")}
    | {f"ce_{name}" for name in ("datacontenttype", "dataschema")}
    | (OUR_HEADERS - {"dlq.detail"})
)
"""Headers whose values are shown unmasked: envelopes, and what an earlier dead letter said of where it was."""
HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
"""A name of a header that is nothing but a name. Any other may be anything."""
ADDRESS = re.compile(r"@|\+[0-9]{6}")
"""A mail address or a phone number is masked wherever somebody put it."""


def summary(letter: Facts) -> dict[str, Any]:
    """One row of `dlq list`."""
    return {
        "id": letter.dead_letter_id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "failed_at": letter.failed_at,
        "published": letter.published,
        "redrives": letter.redrives,
        "redriven_at": letter.redriven_at,
        "newest_reason": letter.newest_reason,
        "newest_detail": letter.newest_detail,
        "resolved_at": letter.resolved_at,
        "outcome": letter.outcome,
    }


def shown(letter: DeadLetterRow, redrives: list[Redrive], *, unmasked: bool) -> dict[str, Any]:
    """A whole dead letter. Values that may be contact data are masked unless asked for."""
    return summary(letter) | {
        "record_at": letter.record_at,
        "key": _text(letter.key) if unmasked else _unless_address(_text(letter.key)),
        "headers": [
            [name, _text(value)] if unmasked else _masked_header(name, value) for name, value in letter.headers
        ],
        "value": _text(letter.value) if unmasked else masked(letter.value),
        "history": [asdict(each) for each in redrives],
    }


def _masked_header(name: str, value: bytes | None) -> list[str | None]:
    if name in HEADERS_SHOWN:
        return [name, _unless_address(_text(value))]
    return [name if HEADER_NAME.fullmatch(name) else MASK, MASK]


def masked(value: bytes | None) -> Any:
    """A message with only its structure readable; what is not JSON shows its length alone."""
    if value is None:
        return None
    try:
        # NaN and Infinity, which JSON has not, are shown as texts.
        return _mask(json.loads(value, parse_constant=str))
    except (ValueError, RecursionError):
        return f"{MASK} ({len(value)} bytes that are not JSON)"


def _mask(content: Any) -> Any:
    match content:
        case dict():
            return {
                _unless_address(name): _unless_address(each)
                if name in STRUCTURE and not isinstance(each, dict | list)
                else _mask(each)
                for name, each in content.items()
            }
        case list():
            return [_mask(each) for each in content]
        case None | bool():
            return content
        case _:
            return MASK


def _unless_address(content: Any) -> Any:
    return MASK if isinstance(content, str) and ADDRESS.search(content) else content


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")
