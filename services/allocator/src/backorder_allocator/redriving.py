"""`dlq`: what could not be used, shown with care, and driven again through the service's own transaction."""

import json as json_module
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from backorder_allocator import store
from backorder_allocator.batches import Record, redrive
from backorder_allocator.dead_letters import DeadLetterRow
from backorder_allocator.decision import Input, Message, Rules
from backorder_allocator.loading import Context
from backorder_allocator.statements import Connection
from backorder_schemas import DeadLetter, decode

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
SHOWN = ("ce_", "content-type")
ADDRESS = re.compile(r"@|^\+[0-9]{6}")
"""A mail address or a phone number is masked wherever somebody put it."""


def summary(letter: DeadLetterRow) -> dict[str, Any]:
    """One row of `dlq list`."""
    return {
        "id": letter.dead_letter_id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "failed_at": letter.failed_at,
        "redrives": letter.redrives,
        "resolved_at": letter.resolved_at,
        "outcome": letter.outcome,
    }


def shown(letter: DeadLetterRow, *, unmasked: bool) -> dict[str, Any]:
    """A whole dead letter. Values that may be contact data are masked unless asked for."""
    return summary(letter) | {
        "record_at": letter.record_at,
        "key": _text(letter.key) if unmasked else _unless_address(_text(letter.key)),
        "headers": [
            [name, _text(value) if unmasked else _unless_address(_text(value)) if name.startswith(SHOWN) else MASK]
            for name, value in letter.headers
        ],
        "value": _text(letter.value) if unmasked else masked(letter.value),
    }


def masked(value: bytes | None) -> Any:
    """A message with only its structure readable; what is not JSON shows its length alone."""
    if value is None:
        return None
    try:
        # NaN and Infinity, which JSON has not, are shown as texts.
        return _mask(json_module.loads(value, parse_constant=str))
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


async def drive(
    connection: Connection, rules: Rules, letters: list[DeadLetterRow], *, dry_run: bool
) -> AsyncIterator[dict[str, Any]]:
    """Drive dead letters again, oldest first; gives what became of each. Twice has the effect of once."""
    # What is only tried gets no entry in the journal, which would name the rules.
    rules_id = None if dry_run else await store.register_rules(connection, rules)
    context = Context(rules, await store.read_epoch(connection), rules_id)
    for letter in letters:
        outcome = await redrive(
            connection, letter.dead_letter_id, record_of(letter), context, datetime.now(UTC), dry_run=dry_run
        )
        yield {
            "id": letter.dead_letter_id,
            "outcome": "resolved before" if outcome is None else outcome.kind,
            "reason": "" if outcome is None else outcome.reason,
            "detail": "" if outcome is None else outcome.detail,
        }


def record_of(letter: DeadLetterRow) -> Record:
    """The record as it was read, decoded with today's codec."""
    decoded = decode(letter.topic, letter.key, letter.value, letter.headers)
    read: Input | DeadLetter
    if isinstance(decoded, DeadLetter):
        read = decoded
    elif isinstance(decoded.message, Message):
        read = Input(decoded.message, letter.record_at, decoded.traceparent)
    else:
        read = DeadLetter("wrong_topic", f"{letter.topic} is not read by the allocator")
    return Record(
        letter.topic, letter.partition, letter.offset, letter.record_at, letter.key, letter.value, letter.headers, read
    )
