"""From what is told to the values that templates may use: sums, days in words, lines, shipments."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypedDict

from backorder_notifier.catalogs import Direction
from backorder_notifier.channel import Recipient
from backorder_notifier.cleaning import is_greetable, safe_url, visible
from backorder_notifier.content import Content, ContentLine, Shipment
from backorder_notifier.grouping import AT_MOST, GroupView, Limits, arrange
from backorder_notifier.kinds import OPTIONAL, Kind
from backorder_notifier.lines import (
    Lines,
    LineView,
    arrived,
    has_arrived,
    has_moved,
    is_due,
    is_gathering,
    is_overdue,
    line_view,
)
from backorder_notifier.shop import Shop
from backorder_notifier.words import Words

SHORT_URL = 70  # a longer one would crowd out the words of a text message


@dataclass(frozen=True, slots=True)
class ShipmentView:
    carrier: str | None
    tracking_number: str | None
    tracking_url: str | None
    delivered_on: str | None


class Values(TypedDict):
    """What every template may name. Text of others is marked already (`Words.mark`); numbers are units.

    Days are in words. `subject` is there in all parts but the subject itself.
    """

    kind: Kind
    order: str
    order_url: str | None
    short_order_url: str | None  # if it leaves room for words in a text message
    name: str | None
    shop_name: str | None
    unsubscribe_url: str | None
    contact: str | None  # of the shop, as it says in shop.toml; so are the next three
    feedback_url: str | None
    short_feedback_url: str | None
    imprint: list[str]
    late: bool
    complete: bool  # one delivery is wanted
    gathering: bool  # so ready units are held for the rest, as some is still missing
    whole_cancelled: bool  # all that has not left, be it here or not
    begins: bool  # the first that the customer hears of the order
    preorder: bool  # all that now begins to wait is pre-ordered
    lines: Lines  # all of them; the next two are how they are shown
    blocks: list[LineView]
    groups: list[GroupView]
    left_out: int  # lines that are only counted
    shipments: list[ShipmentView]

    lost: int
    rejected: int
    cancelled: int
    cancelled_by_customer: int
    cancelled_by_shop: int
    shipped_now: int
    all_arrived: bool  # the shipments of the message, even those that left with it
    filled: int
    filled_ready: int
    filled_complete: int  # held for the rest of the order
    filled_preorder: int  # held for the release
    created: int  # began to wait, not for lost stock
    later: int  # waiting units with a later date than told, and so on
    earlier: int
    appeared: int
    date_lost: int
    due: int  # waiting units promised for `due_on`

    waiting: int
    ready: int
    due_on: str | None
    delivered_on: str | None
    new_day: str | None  # if all new dates are the same
    old_day: str | None  # if all dates that moved were the same
    expected: str | None  # if all that waits is expected on the same day
    first_expected: str | None

    number: Callable[[int], str]
    language: str
    direction: Direction
    start: str  # the side where lines begin: "left" or "right"
    end: str


NAMES: Final = frozenset(Values.__annotations__) | {"subject"}


def values(
    content: Content,
    recipient: Recipient,
    words: Words,
    shop: Shop,
    *,
    shop_name: str | None,
    unsubscribe_url: str | None,
    as_of: datetime | None,
    limits: Limits = AT_MOST,
) -> Values:
    lines = content.lines
    blocks, groups = arrange(content, words, as_of, limits)
    waiting = [line for line in lines if line.waiting]
    due = [line for line in waiting if is_due(line, content, words)]
    # What came and went before it was told is no news of what waits.
    lost = {line.line_no: min(line.lost, line.waiting) for line in lines}
    fresh = {line.line_no: min(max(0, line.created - line.lost), line.waiting) for line in lines}
    moved = [line for line in waiting if has_moved(line)]
    name = visible(recipient.name, 80) if recipient.name else ""
    order_url = safe_url(content.order_url)
    to_come = _days([line for line in lines if line.waiting or line.expected], content, words, as_of)
    delivered = [shipment.delivered_at for shipment in content.shipments if shipment.delivered_at is not None]
    return {
        "kind": content.kind,
        "order": words.mark(content.order_id, {"subject": 60, "sms": 40}.get(words.part, 200)),
        "order_url": order_url,
        "short_order_url": _short(order_url),
        "name": words.mark(name) if name and is_greetable(name) else None,
        "shop_name": words.mark(shop_name, 80) if shop_name else None,
        "unsubscribe_url": safe_url(unsubscribe_url) if content.kind in OPTIONAL else None,
        "contact": words.mark(shop.contact) if shop.contact else None,
        "feedback_url": shop.feedback_url,
        "short_feedback_url": _short(shop.feedback_url),
        "imprint": [words.mark(line, 500) for line in shop.imprint],
        "late": content.late,
        "complete": content.delivery == "complete",
        "gathering": is_gathering(content),
        "whole_cancelled": content.whole_cancelled,
        "preorder": any(fresh.values()) and all(line.preorder for line in lines if fresh[line.line_no]),
        "begins": any(line.created > line.lost or line.rejected for line in lines),
        "lines": Lines(lines, lambda line: line_view(line, content, words, as_of)),
        "blocks": blocks,
        "groups": groups,
        "left_out": sum(group.more for group in groups),
        "shipments": [_shipment(shipment, words) for shipment in content.shipments],
        # News, in units.
        "lost": sum(lost.values()),
        "rejected": sum(line.rejected for line in lines),
        "cancelled_by_shop": sum(line.cancelled for line in lines if line.cancelled_by == "shop"),
        "cancelled_by_customer": sum(line.cancelled for line in lines if line.cancelled_by != "shop"),
        "cancelled": sum(line.cancelled for line in lines),
        "shipped_now": sum(line.shipped_now for line in lines),
        "all_arrived": has_arrived(content),
        "filled": sum(arrived(line) for line in lines),
        "filled_ready": sum(arrived(line) for line in lines if line.held is None),
        "filled_complete": sum(arrived(line) for line in lines if line.held == "complete"),
        "filled_preorder": sum(arrived(line) for line in lines if line.held == "preorder"),
        "created": sum(fresh.values()),
        "later": sum(line.waiting for line in moved if line.move == "later"),
        "earlier": sum(line.waiting for line in moved if line.move == "earlier"),
        "appeared": sum(line.waiting for line in moved if line.move == "appeared"),
        "date_lost": sum(line.waiting for line in moved if line.move == "lost"),
        "due": sum(line.waiting for line in due or waiting),
        # How things stand.
        "waiting": sum(line.waiting for line in waiting),
        "ready": sum(
            max(0, (line.ready or 0) - line.shipped - arrived(line)) for line in lines if not line.shipped_now
        ),
        "due_on": words.day(content.due_on),
        "delivered_on": words.day(max(delivered)) if delivered else None,
        "new_day": _only(_days(moved, content, words, as_of), words),
        "old_day": _only([line.previous for line in moved], words),
        "expected": _only(to_come, words),
        "first_expected": words.day(min((day for day in to_come if day is not None), default=None)),
        "number": words.number,
        "language": words.language.name,
        "direction": words.language.direction,
        "start": "right" if words.language.direction == "rtl" else "left",
        "end": "left" if words.language.direction == "rtl" else "right",
    }


def _days(lines: list[ContentLine], content: Content, words: Words, as_of: datetime | None) -> list[datetime | None]:
    return [None if is_overdue(line, content, words, as_of) else line.expected for line in lines]


def _short(url: str | None) -> str | None:
    return url if url and len(url) <= SHORT_URL else None


def _only(moments: list[datetime | None], words: Words) -> str | None:
    """The day in words, where it is the same for all."""
    known = [moment for moment in moments if moment is not None]
    if len(known) < len(moments) or len({words.day_of(moment) for moment in known}) != 1:
        return None
    return words.day(known[0])


def _shipment(shipment: Shipment, words: Words) -> ShipmentView:
    return ShipmentView(
        carrier=words.mark(shipment.carrier, 80) if shipment.carrier else None,
        tracking_number=words.mark(shipment.tracking_number, 100) if shipment.tracking_number else None,
        tracking_url=safe_url(shipment.tracking_url),
        delivered_on=words.day(shipment.delivered_at),
    )
