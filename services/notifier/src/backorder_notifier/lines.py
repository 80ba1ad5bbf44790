"""What a message says of one line: facts in rows, and notes in sentences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never, overload

from markupsafe import Markup

from backorder_notifier.content import Content, ContentLine, Move
from backorder_notifier.words import Words
from backorder_schemas.outputs import PromiseCause


@dataclass(frozen=True, slots=True)
class Fact:
    """A row: "Still to come", "5". `strong` are those that the message is about."""

    label: str
    value: str
    strong: bool


@dataclass(frozen=True, slots=True)
class LineView:
    """One line for a template. Numbers are units. `sku` is None where it is the name already."""

    name: str
    sku: str | None
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]
    ordered: int | None
    waiting: int
    shipped: int
    shipped_now: int
    filled: int
    created: int
    lost: int
    cancelled: int
    rejected: int
    expected: str | None
    previous: str | None
    move: Move | None


@dataclass(frozen=True, slots=True)
class Lines(Sequence[LineView]):
    """Lines that are put into words when a template asks for them: those of long orders mostly aren't."""

    _lines: Sequence[ContentLine]
    _view: Callable[[ContentLine], LineView]

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> LineView: ...
    @overload
    def __getitem__(self, index: slice) -> "Lines": ...
    def __getitem__(self, index: int | slice) -> "LineView | Lines":
        if isinstance(index, slice):
            return Lines(self._lines[index], self._view)
        return self._view(self._lines[index])


def line_view(line: ContentLine, content: Content, words: Words, as_of: datetime | None) -> LineView:
    overdue = is_overdue(line, content, words, as_of)
    expected = None if overdue else words.day(line.expected)
    return LineView(
        name=words.mark(line.title or line.sku),
        sku=words.mark(line.sku) if line.title else None,
        facts=_facts(line, content, words, expected, overdue=overdue),
        notes=_notes(line, words),
        ordered=line.ordered,
        waiting=line.waiting,
        shipped=line.shipped,
        shipped_now=line.shipped_now,
        filled=arrived(line),
        created=line.created,
        lost=line.lost,
        cancelled=line.cancelled,
        rejected=line.rejected,
        expected=expected,
        previous=words.day(line.previous) if has_moved(line) else None,
        move=line.move if has_moved(line) else None,
    )


def arrived(line: ContentLine) -> int:
    """Units that got stock and are still with us: of those that left meanwhile, the shipment is the news."""
    if line.ready is None:
        return line.filled
    return min(line.filled, max(0, line.ready - line.shipped))


def has_moved(line: ContentLine) -> bool:
    """Whether a new date is news of this line: not of units that only now begin to wait."""
    return line.move is not None and line.waiting > 0 and line.created == 0


def is_overdue(line: ContentLine, content: Content, words: Words, as_of: datetime | None) -> bool:
    """Whether its date has passed, so that nothing is expected then any more."""
    if line.expected is None:
        return False
    day = words.day_of(line.expected)
    if content.kind == "promise_missed" and content.due_on is not None and day <= words.day_of(content.due_on):
        return True
    return as_of is not None and day < words.day_of(as_of)


def is_due(line: ContentLine, content: Content, words: Words) -> bool:
    """Whether it was promised for the day that the message is about."""
    if content.due_on is None:
        return False
    due = words.day_of(content.due_on)
    return any(moment is not None and words.day_of(moment) == due for moment in (line.expected, line.previous))


def has_arrived(content: Content) -> bool:
    """Whether the shipments of the message are with the customer, so that nothing of it is on its way any more."""
    return content.kind == "delivered" or (
        bool(content.shipments) and all(shipment.delivered_at is not None for shipment in content.shipments)
    )


def is_gathering(content: Content) -> bool:
    """Whether units that are there are held for the rest of the order: of one delivery, while some of it is missing."""
    return content.delivery == "complete" and any(line.waiting or line.held for line in content.lines)


def ready_units(line: ContentLine, content: Content) -> int:
    """Units that have been there before, where the message tells of them.

    That is what waits for the rest of the order, and what a new order gets at once; later on it may have left long ago.
    """
    is_new = content.late or line.created > line.lost or content.kind in {"backorder_created", "backorder_rejected"}
    if content.delivery == "complete" or line.held or is_new:
        return max(0, (line.ready or 0) - line.shipped - arrived(line))
    return 0


def _facts(
    line: ContentLine, content: Content, words: Words, expected: str | None, *, overdue: bool
) -> tuple[Fact, ...]:
    facts: list[Fact] = []

    def units(label: str, count: int, *, strong: bool = False) -> None:
        facts.append(Fact(label, words.number(count), strong))

    say = words.say
    if content.kind == "feedback_request":
        units(say("Delivered"), line.shipped)
        return tuple(facts)
    if line.ordered is not None:
        units(say("Ordered"), line.ordered)
    if earlier := max(0, line.shipped - line.shipped_now):
        units(say("Already shipped"), earlier)
    if line.shipped_now:
        units(say("Delivered") if has_arrived(content) else say("Shipped"), line.shipped_now, strong=True)
    filled = arrived(line)
    if filled:
        held = line.held is not None
        units(say("Arrived, set aside for you") if held else say("Arrived, ready to ship"), filled, strong=True)
    if ready := ready_units(line, content):
        units(say("Set aside for you") if is_gathering(content) or line.held else say("Ready now"), ready)
    if again := min(line.lost, line.waiting):
        units(say("Waiting again"), again, strong=True)
    if line.cancelled:
        units(say("Cancelled"), line.cancelled, strong=True)
    if line.rejected:
        units(say("Not available"), line.rejected, strong=True)
    if line.waiting:
        units(say("Still to come"), line.waiting, strong=True)
    if line.waiting or expected:
        facts.append(Fact(say("Expected"), expected or say("not known yet"), strong=True))
        if overdue:
            facts.append(Fact(say("Previous date"), words.day(line.expected) or "", strong=False))
        elif has_moved(line) and line.previous is not None:
            facts.append(Fact(say("Previous date"), words.day(line.previous) or "", strong=False))
    return tuple(facts)


def _notes(line: ContentLine, words: Words) -> tuple[str, ...]:
    notes: list[str] = []
    if has_moved(line) and line.cause is not None:
        notes.append(cause_in_words(fitting(line.cause, line.move), words))
    if line.rejected:
        notes.append(_reason_in_words(line, words))
    if line.alternatives and (line.waiting or line.rejected):
        names = [words.mark(alternative.title or alternative.sku) for alternative in line.alternatives]
        comma = words.say(", ")
        listed = Markup(comma).join(names) if words.part == "html" else comma.join(names)  # noqa: S704 - ours
        notes.append(words.say("In stock now, if you would rather take something else: %(names)s", names=listed))
    return tuple(notes)


def fitting(cause: PromiseCause, move: Move | None) -> PromiseCause:
    """The cause if it can have moved a date this way, else `recomputed`.

    The cause is that of the last move, the move the sum of all since the customer was last told: a date that the
    supplier put off by a month and a cancelled order brought forward by a day came later, but not for that cancel.
    """
    match cause:
        case "cancelled_ahead" | "stock_received" | "supply_announced":
            return cause if move in {"earlier", "appeared"} else "recomputed"
        case "supply_cancelled" | "supply_overdue" | "stock_lost" | "overtaken":
            return cause if move in {"later", "lost"} else "recomputed"
        case "supply_moved" | "supply_changed" | "policy_changed" | "recomputed":
            return cause
        case _:
            assert_never(cause)


def cause_in_words(cause: PromiseCause, words: Words) -> str:
    """Why a date moved, for somebody who knows nothing of pools and promises."""
    say = words.say
    match cause:
        case "supply_cancelled":
            return say("Why: the supplier cancelled a delivery to us that was meant for you.")
        case "supply_moved":
            return say("Why: the supplier changed the date of a delivery to us.")
        case "supply_changed":
            return say("Why: the supplier changed how much is in a delivery to us.")
        case "supply_overdue":
            return say("Why: a delivery to us has not come in time.")
        case "supply_announced":
            return say("Why: the supplier announced a delivery to us.")
        case "stock_received":
            return say("Why: new stock came in with us.")
        case "stock_lost":
            return say("Why: there was less in stock than our records said.")
        case "overtaken":
            return say("Why: orders that are before yours in the queue need more of the next delivery.")
        case "cancelled_ahead":
            return say("Why: orders that were before yours in the queue have been cancelled.")
        case "policy_changed":
            return say("Why: we changed our planning for this item, for example when it is released.")
        case "recomputed":
            return say("Why: we worked the date out anew from what suppliers have announced to us.")
        case _:
            assert_never(cause)


def _reason_in_words(line: ContentLine, words: Words) -> str:
    say = words.say
    match line.rejected_because:
        case "not_accepted":
            return say("Why: it is not in stock, and your order was not to wait for it.")
        case "denied":
            return say("Why: it is not in stock, and the shop takes no orders in advance for it.")
        case "waiting_limit":
            return say("Why: it is not in stock, and as many orders as the shop can take wait for it already.")
        case "max_wait":
            return say("Why: it is not in stock, and we can't get it within a time we would ask you to wait.")
        case None:
            return say("Why: it is not in stock.")
        case _:
            assert_never(line.rejected_because)
