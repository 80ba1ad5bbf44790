"""How the lines of a message are laid out, so that one of 500 lines stays readable and can be sent. Pure.

Lines with something to say have a block of their own, in the order of the order. Of what is simply there, on its way
or arrived a row in a list says all. Beyond the limits blocks become rows, and of rows only their number is told: those
that wait or have news keep their place the longest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, assert_never

from backorder_notifier.content import Content, ContentLine
from backorder_notifier.lines import (
    LineView,
    arrived,
    has_arrived,
    has_moved,
    is_due,
    is_gathering,
    is_overdue,
    line_view,
    ready_units,
)
from backorder_notifier.words import Words

Standing = Literal[
    "waiting",
    "rejected",
    "cancelled",
    "held",
    "arrived",
    "shipped",
    "delivered",
    "set_aside",
    "ready",
    "before",
    "none",
]
# Lists in this order, which is also that in which they get what rows there are.
_ORDER: Final[tuple[Standing, ...]] = (
    "waiting", "rejected", "cancelled", "held", "arrived", "shipped", "delivered", "set_aside", "ready", "before",
    "none",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """At most so many blocks, and rows in all lists together."""

    blocks: int = 100
    rows: int = 50

    def less(self, share: float) -> "Limits":
        return Limits(int(self.blocks * share), int(self.rows * share))


AT_MOST: Final = Limits()


@dataclass(frozen=True, slots=True)
class RowView:
    """`count`: "19", or "5 of 15" where not as many were ordered. `expected` is there for units that wait, in words."""

    count: str
    name: str
    sku: str | None
    expected: str | None


@dataclass(frozen=True, slots=True)
class GroupView:
    """A list under its heading. `more` items, `more_units` in them, have no row."""

    heading: str
    rows: tuple[RowView, ...]
    more: int
    more_units: int


def arrange(
    content: Content, words: Words, as_of: datetime | None, limits: Limits
) -> tuple[list[LineView], list[GroupView]]:
    """Blocks and lists. Every line is in one of them, if only as one of those that a list has more."""
    lines = sorted(content.lines, key=lambda line: line.line_no)
    simple = {index: standing for index, line in enumerate(lines) if (standing := _simple(line, content, words, as_of))}
    wordy = [index for index in range(len(lines)) if index not in simple]
    wordy.sort(key=lambda index: _weight(lines[index], content, words))  # stable: then by line
    blocks = sorted(wordy[: limits.blocks])
    groups: dict[Standing, list[ContentLine]] = {}
    for index in sorted({*range(len(lines))} - {*blocks}):
        line = lines[index]
        groups.setdefault(simple.get(index) or _standings(line, content)[0], []).append(line)
    return [line_view(lines[index], content, words, as_of) for index in blocks], list(
        _groups(groups, content, words, as_of, limits.rows)
    )


def _groups(
    groups: dict[Standing, list[ContentLine]], content: Content, words: Words, as_of: datetime | None, rows: int
) -> Iterable[GroupView]:
    for standing in _ORDER:
        lines = [line for line in groups.get(standing, ()) if _units(line, standing, content)]
        if lines:
            shown, left = lines[:rows], lines[rows:]
            rows -= len(shown)
            yield GroupView(
                heading=_heading(standing, words),
                rows=tuple(_row(line, standing, content, words, as_of) for line in shown),
                more=len(left),
                more_units=sum(_units(line, standing, content) for line in left),
            )


def _simple(line: ContentLine, content: Content, words: Words, as_of: datetime | None) -> Standing | None:
    """The list where a row says all there is to say of the line, if there is one."""
    if content.kind == "feedback_request":
        return "delivered"
    dated = line.expected is not None and not is_overdue(line, content, words, as_of)
    standings = _standings(line, content)
    if line.waiting or line.rejected or line.cancelled or dated or standings == ["none"]:
        return None
    # What left before is no news beside what comes now: the row says how many were ordered.
    standings = [each for each in standings if each != "before"] or standings
    return standings[0] if len(standings) == 1 else None


def _standings(line: ContentLine, content: Content) -> list[Standing]:
    return [each for each in _ORDER[:-1] if _units(line, each, content)] or ["none"]


def _units(line: ContentLine, standing: Standing, content: Content) -> int:
    """How many units of a line stand so."""
    asked = content.kind == "feedback_request"
    match standing:
        case "waiting":
            return line.waiting
        case "rejected":
            return line.rejected
        case "cancelled":
            return line.cancelled
        case "held":
            return arrived(line) if line.held is not None else 0
        case "arrived":
            return arrived(line) if line.held is None else 0
        case "shipped":
            return line.shipped_now if not has_arrived(content) else 0
        case "delivered":
            return line.shipped if asked else line.shipped_now if has_arrived(content) else 0
        case "set_aside":
            return ready_units(line, content) if _is_set_aside(line, content) else 0
        case "ready":
            return ready_units(line, content) if not _is_set_aside(line, content) else 0
        case "before":
            return max(0, line.shipped - line.shipped_now)
        case "none":
            return line.ordered or 0
        case _:
            assert_never(standing)


def _is_set_aside(line: ContentLine, content: Content) -> bool:
    return line.held is not None or is_gathering(content)


def _heading(standing: Standing, words: Words) -> str:
    say = words.say
    match standing:
        case "waiting":
            return say("Still to come")
        case "rejected":
            return say("Not available")
        case "cancelled":
            return say("Cancelled")
        case "held":
            return say("Arrived, set aside for you")
        case "arrived":
            return say("Arrived, ready to ship")
        case "shipped":
            return say("On the way to you")
        case "delivered":
            return say("Delivered")
        case "set_aside":
            return say("Set aside for you")
        case "ready":
            return say("Ready now")
        case "before":
            return say("Already shipped")
        case "none":
            return say("Ordered")
        case _:
            assert_never(standing)


def _row(line: ContentLine, standing: Standing, content: Content, words: Words, as_of: datetime | None) -> RowView:
    units = _units(line, standing, content)
    count = words.number(units)
    if line.ordered is not None and line.ordered != units and content.kind != "feedback_request":
        count = words.say("%(count)s of %(ordered)s", count=count, ordered=words.number(line.ordered))
    day = None if is_overdue(line, content, words, as_of) else words.day(line.expected)
    return RowView(
        count=count,
        name=words.mark(line.title or line.sku),
        sku=words.mark(line.sku) if line.title else None,
        expected=(day or words.say("not known yet")) if standing == "waiting" else None,
    )


def _weight(line: ContentLine, content: Content, words: Words) -> int:
    """What is told of it in more than a row, the heaviest first."""
    if line.rejected or line.cancelled or line.lost:
        return 0
    has_news = has_moved(line) or line.created or line.filled or line.shipped_now
    return 1 if has_news or is_due(line, content, words) else 2
