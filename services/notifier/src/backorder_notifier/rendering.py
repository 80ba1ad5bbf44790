"""From what is told to words: subject, text and HTML of a message. Values are data: never compiled, never markup.

Templates live in templates/<kind>/: subject.txt, text.txt, html.html. They run in Jinja2's sandbox; an undefined name
is an error rather than a gap in a customer's mail.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel.dates import format_date
from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from backorder_notifier.updates import BackorderEvent, Kind
from backorder_schemas import BackorderCancelled, BackorderCreated, BackorderFilled

LANGUAGE: Final = "en"
# Joiners that emoji and some scripts need; all other format characters (bidi overrides, zero widths) are dropped.
_KEPT_FORMAT: Final = frozenset("\u200c\u200d")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message, ready for a channel."""

    subject: str
    text: str
    html: str
    language: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Whom a message is for, as far as its words need it."""

    order_id: str
    name: str | None
    timezone: str
    order_url: str | None
    delivery: str


@dataclass(frozen=True, slots=True)
class CreatedLine:
    """Of `quantity_ordered`, what is here, what waits, what will not come. `expected` is a date in words, or None."""

    sku: str
    quantity: int
    quantity_ordered: int
    quantity_allocated: int
    quantity_waiting: int
    quantity_other: int
    expected: str | None


@dataclass(frozen=True, slots=True)
class ChangedLine:
    """`quantity` units arrived or were cancelled; `quantity_waiting` still wait."""

    sku: str
    quantity: int
    quantity_waiting: int
    arrived_label: str


def render(kind: Kind, reader: Reader, events: Sequence[BackorderEvent]) -> Rendered:
    """The words for events of one kind of one order. Raises ValueError where there is nothing to say."""
    values = {
        "order_id": visible(reader.order_id, 200),
        "name": visible(reader.name, 80) if reader.name else None,
        "order_url": reader.order_url,
        "delivery": reader.delivery,
        "units": units,
        "number": number,
        **_values(kind, reader, events),
    }
    short = values | {"order_id": visible(reader.order_id, 60)}
    subject = " ".join(_environment(html=False).get_template(f"{kind}/subject.txt").render(short).split())
    values["subject"] = subject
    text = _environment(html=False).get_template(f"{kind}/text.txt").render(values)
    html = _environment(html=True).get_template(f"{kind}/html.html").render(values)
    return Rendered(subject, _tidy(text), html, LANGUAGE)


def check_templates() -> None:
    """Compiles every template, so that a broken one stops the start rather than a mail. Raises jinja2.TemplateError."""
    for html in (False, True):
        environment = _environment(html=html)
        for name in environment.list_templates():
            environment.get_template(name)


def _values(kind: Kind, reader: Reader, events: Sequence[BackorderEvent]) -> dict[str, Any]:
    match kind:
        case "backorder_created":
            return _created([event for event in events if isinstance(event, BackorderCreated)], reader)
        case "backorder_filled":
            return _filled([event for event in events if isinstance(event, BackorderFilled)])
        case "backorder_cancelled":
            return _cancelled([event for event in events if isinstance(event, BackorderCancelled)])


def _created(events: Sequence[BackorderCreated], reader: Reader) -> dict[str, Any]:
    _require(events)
    stock_lost = any(event.reason == "stock_lost" for event in events)
    return {
        "stock_lost": stock_lost,
        "preorder": all(event.kind == "preorder" for event in events),
        "begin_to_wait": sum(event.quantity for event in events),
        "waiting": sum(event.quantity_waiting for event in events),
        "allocated": sum(event.quantity_allocated for event in events),
        "ready_label": "Set aside for you" if reader.delivery == "complete" else "Ready now",
        "lines": [
            CreatedLine(
                sku=visible(event.sku, 200),
                quantity=event.quantity,
                quantity_ordered=event.quantity_ordered,
                quantity_allocated=event.quantity_allocated,
                quantity_waiting=event.quantity_waiting,
                quantity_other=max(0, event.quantity_ordered - event.quantity_allocated - event.quantity_waiting),
                expected=day(event.promised_at, reader.timezone),
            )
            for event in events
        ],
    }


def _filled(events: Sequence[BackorderFilled]) -> dict[str, Any]:
    _require(events)
    return {
        "filled": sum(event.quantity for event in events),
        "waiting": sum(event.quantity_waiting for event in events),
        "ready": sum(event.quantity for event in events if event.held is None),
        "held_complete": any(event.held == "complete" for event in events),
        "held_preorder": any(event.held == "preorder" for event in events),
        "lines": [
            ChangedLine(
                visible(event.sku, 200),
                event.quantity,
                event.quantity_waiting,
                "Ready to ship" if event.held is None else "Set aside for you",
            )
            for event in events
        ],
    }


def _cancelled(events: Sequence[BackorderCancelled]) -> dict[str, Any]:
    _require(events)
    return {
        "cancelled": sum(event.quantity for event in events),
        "waiting": sum(event.quantity_waiting for event in events),
        "by_shop": any(event.by == "shop" for event in events),
        "lines": [
            ChangedLine(visible(event.sku, 200), event.quantity, event.quantity_waiting, "Cancelled")
            for event in events
        ],
    }


def _require(events: Sequence[BackorderEvent]) -> None:
    if not events:
        raise ValueError("a message without an event of its kind")


def visible(text: str, longest: int) -> str:
    """Text of others on one line: no controls, no line breaks, nothing that turns the direction of what follows."""
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if category == "Cf" and character not in _KEPT_FORMAT:
            continue
        kept.append(" " if category[0] in "ZC" and category != "Cf" else character)
    line = " ".join("".join(kept).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def units(count: int) -> str:
    return "1 unit" if count == 1 else f"{number(count)} units"


def number(count: int) -> str:
    return f"{count:,}"


def day(moment: datetime | None, timezone: str) -> str | None:
    """The calendar day in the customer's zone (UTC where the zone is none we know), in words."""
    if moment is None:
        return None
    try:
        there = moment.astimezone(_zone(timezone))
    except OverflowError:  # at an end of the calendar, which some suppliers send for "not known"
        there = moment
    return str(format_date(there, format="long", locale=LANGUAGE))


@lru_cache(maxsize=1000)  # names come from outside
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def _tidy(text: str) -> str:
    """No more than one empty line in a row, none at the ends."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        if line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


@cache
def _environment(*, html: bool) -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=PackageLoader("backorder_notifier", "templates"),
        undefined=StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
