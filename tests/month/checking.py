"""What customers were told, compared with what happened: for every order, from the events alone.

Nothing of the notifier's code is used here: events come as they were sent to it, messages, deliveries and decisions as
its database holds them, mails as the mail server got them.
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from backorder_schemas import (
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    ContactChanged,
    LinesDelivered,
    LinesShipped,
    Message,
    OrderPlaced,
    PromiseChanged,
)

LineKey = tuple[str, int]
Event = (
    BackorderCreated
    | BackorderFilled
    | BackorderCancelled
    | BackorderRejected
    | PromiseChanged
    | AllocationRevoked
    | LinesShipped
    | LinesDelivered
)
OPTIONAL = {"delivered", "promise_approaching", "feedback_request"}
ROW = re.compile(r"^  Still to come: ([1-9][0-9,]*)\n  Expected: (.+)$", re.MULTILINE)
LATER_DAYS, EARLIER_DAYS = 2, 3


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as the notifier was given it."""

    at: datetime
    message: Message


@dataclass(frozen=True, slots=True)
class Happened:
    """An event that may have to be told."""

    at: datetime
    message: Event


@dataclass(frozen=True, slots=True)
class Told:
    """One row of `messages` with what became of it. `sent`: a provider accepted it."""

    message_id: str
    order_id: str
    customer_id: str
    position: int
    kind: str
    content: Mapping[str, Any]
    about: tuple[str, ...]
    composed_at: datetime
    sent: bool
    delivery_id: str | None


@dataclass(frozen=True, slots=True)
class Decided:
    """One row of `updates`."""

    event_id: str
    order_id: str
    state: str
    reason: str | None
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Mail:
    """The text part of a mail that the mail server accepted."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a line stands after an event."""

    waiting: int
    promised_at: datetime | None


@dataclass(slots=True)
class Ledger:
    """What happened, by line in order of time."""

    times: dict[LineKey, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    standings: dict[LineKey, list[Standing]] = field(default_factory=lambda: defaultdict(list))
    events: dict[str, Happened] = field(default_factory=dict)
    orders: dict[str, OrderPlaced] = field(default_factory=dict)
    waited: set[str] = field(default_factory=set)
    zones: dict[str, list[tuple[datetime, str]]] = field(default_factory=dict)
    wants: dict[str, list[tuple[datetime, bool]]] = field(default_factory=lambda: defaultdict(list))

    def standing(self, key: LineKey, at: datetime) -> Standing:
        place = bisect_right(self.times[key], at)
        return self.standings[key][place - 1] if place else Standing(0, None)

    def zone(self, order_id: str, at: datetime) -> ZoneInfo:
        try:
            return ZoneInfo([zone for when, zone in self.zones[order_id] if when <= at][-1])
        except (LookupError, ValueError, OSError):
            return ZoneInfo("UTC")

    def of_order(self, order_id: str) -> Iterator[tuple[LineKey, list[Standing]]]:
        for line in self.orders[order_id].lines:
            key = (order_id, line.line_no)
            if standings := self.standings.get(key):
                yield key, standings

    def wants_optional(self, customer_id: str, at: datetime) -> bool:
        said = [wants for when, wants in self.wants[customer_id] if when <= at]
        return said[-1] if said else True


def ledger_of(heard: Iterable[Heard]) -> Ledger:
    ledger = Ledger()
    customers: dict[str, list[str]] = defaultdict(list)
    for each in heard:
        message = each.message
        match message:
            case OrderPlaced():
                ledger.orders[message.order_id] = message
                ledger.zones[message.order_id] = [(each.at, message.customer.timezone)]
                customers[message.customer.customer_id].append(message.order_id)
            case ContactChanged():
                if message.optional_kinds is not None:
                    ledger.wants[message.customer_id].append((each.at, message.optional_kinds))
                if message.timezone is not None:
                    for order_id in customers[message.customer_id]:
                        ledger.zones[order_id].append((each.at, message.timezone))
            case BackorderCreated() | BackorderFilled() | BackorderCancelled() | BackorderRejected() | PromiseChanged():
                ledger.events[message.id] = Happened(each.at, message)
                _stand(ledger, each, message)
            case AllocationRevoked() | LinesShipped() | LinesDelivered():
                ledger.events[message.id] = Happened(each.at, message)
            case _:
                pass
    return ledger


def _stand(ledger: Ledger, heard: Heard, message: Any) -> None:
    key = (message.order_id, message.line_no)
    last = ledger.standings[key][-1] if ledger.standings[key] else Standing(0, None)
    match message:
        case BackorderCreated():
            ledger.waited.add(message.order_id)
            now = Standing(message.quantity_waiting, message.promised_at)
        case BackorderFilled() | BackorderCancelled():
            now = Standing(message.quantity_waiting, last.promised_at)
        case PromiseChanged():
            now = Standing(last.waiting, message.promised_at)
        case _:
            return
    ledger.times[key].append(heard.at)
    ledger.standings[key].append(now)


@dataclass(slots=True)
class Checked:
    """How often each rule was looked at, and what contradicts it."""

    looked: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def that(self, rule: str, holds: bool, case: object) -> None:
        self.looked[rule] += 1
        if not holds:
            self.broken[rule].append(str(case))


def check(
    heard: Sequence[Heard], told: Sequence[Told], decided: Sequence[Decided], mails: Mapping[str, Sequence[Mail]]
) -> Checked:
    """`mails` by delivery id."""
    ledger = ledger_of(heard)
    checked = Checked()
    by_order: dict[str, list[Told]] = defaultdict(list)
    for message in told:
        by_order[message.order_id].append(message)
    for messages in by_order.values():
        messages.sort(key=lambda message: message.position)
        _check_order(ledger, messages, checked)
    _check_events(ledger, told, decided, checked)
    _check_mails(ledger, told, mails, checked)
    return checked


def _check_order(ledger: Ledger, messages: Sequence[Told], checked: Checked) -> None:
    shown: dict[int, tuple[int, datetime | None]] = {}
    before: Told | None = None
    for message in messages:
        case = f"{message.order_id}#{message.position} {message.kind}"
        if before is not None:
            checked.that("a later message of an order was made later", message.composed_at >= before.composed_at, case)
        before = message
        _check_units(ledger, message, checked, case)
        if message.kind in OPTIONAL:
            wanted = ledger.wants_optional(message.customer_id, message.composed_at)
            checked.that("who wants no optional messages gets none", wanted, case)
        if message.kind == "promise_changed":
            _check_moved(ledger, message, shown, checked, case)
        if message.sent:
            for line in message.content.get("lines", ()):
                shown[line["line_no"]] = (line.get("waiting", 0), moment(line.get("expected")))
    if all(message.sent for message in messages):
        _check_end(ledger, messages[-1], shown, checked)


def _check_end(ledger: Ledger, last: Told, shown: Mapping[int, tuple[int, datetime | None]], checked: Checked) -> None:
    zone = ledger.zone(last.order_id, last.composed_at)
    for (order_id, line_no), standings in ledger.of_order(last.order_id):
        waiting, expected = shown.get(line_no, (0, None))
        case = f"{order_id} {line_no}: told {waiting} {expected}, is {standings[-1]}"
        checked.that("in the end a customer knows what waits", waiting == standings[-1].waiting, case)
        if waiting:
            moved = matters(day(expected, zone), day(standings[-1].promised_at, zone))
            checked.that("in the end a customer knows until when", not moved, case)


def _check_units(ledger: Ledger, message: Told, checked: Checked, case: str) -> None:
    news: dict[str, Counter[int]] = defaultdict(Counter)
    for event_id in message.about:
        event = ledger.events.get(event_id)
        if event is None:
            checked.that("what is told happened, or came due", event_id.startswith("timer:"), f"{case} {event_id}")
            continue
        checked.that("nothing is told before it happened", event.at <= message.composed_at, case)
        match event.message:
            case BackorderCreated(reason="ordered"):
                news["created"][event.message.line_no] += event.message.quantity
            case BackorderCreated(reason="stock_lost"):
                news["lost"][event.message.line_no] += event.message.quantity
            case BackorderFilled():
                news["filled"][event.message.line_no] += event.message.quantity
            case BackorderCancelled() | AllocationRevoked(reason="cancelled"):
                news["cancelled"][event.message.line_no] += event.message.quantity
            case BackorderRejected():
                news["rejected"][event.message.line_no] += event.message.quantity
            case LinesShipped():
                for line in event.message.lines:
                    news["shipped_now"][line.line_no] += line.quantity
            case _:
                pass
    lines = {line["line_no"]: line for line in message.content.get("lines", ())}
    for name, units in news.items():
        for line_no, quantity in units.items():
            said = lines.get(line_no, {}).get(name, 0)
            if name == "created":
                said -= lines.get(line_no, {}).get("lost", 0)  # which are among them
            checked.that(
                f"units told as {name} are those of the events told", said == quantity, f"{case} {line_no}: {said}"
            )
    for line_no, line in lines.items():
        standing = ledger.standing((message.order_id, line_no), message.composed_at)
        checked.that(
            "the units said to wait are those that wait",
            line.get("waiting", 0) == standing.waiting,
            f"{case} {line_no}",
        )
        if standing.waiting:
            expected = moment(line.get("expected"))
            checked.that("the date told is the promised one", expected == standing.promised_at, f"{case} {line_no}")
        ordered = next((each.quantity for each in _lines(ledger, message.order_id) if each.line_no == line_no), None)
        if ordered is not None and line.get("ready") is not None:
            whole = line["ready"] + line.get("waiting", 0)
            checked.that("no more is ready and waiting than was ordered", whole <= ordered, f"{case} {line_no}")
        checked.that("no more is shipped than is ready", line.get("shipped", 0) <= (line.get("ready") or 10**9), case)


def _lines(ledger: Ledger, order_id: str) -> Sequence[Any]:
    return ledger.orders[order_id].lines if order_id in ledger.orders else ()


def _check_moved(
    ledger: Ledger,
    message: Told,
    shown: Mapping[int, tuple[int, datetime | None]],
    checked: Checked,
    case: str,
) -> None:
    zone = ledger.zone(message.order_id, message.composed_at)
    moves = []
    for line in message.content.get("lines", ()):
        if not line.get("waiting"):
            continue
        new = day(moment(line.get("expected")), zone)
        known = line["line_no"] in shown
        old = day(shown[line["line_no"]][1], zone) if known else None
        if line.get("move"):
            said = day(moment(line.get("previous")), zone)
            checked.that("the old date told is the one told last", said == old, f"{case} {line['line_no']}")
        moves.append(matters(old, new) or (not known and new is not None))
    checked.that("a date change is told only if it matters", any(moves), case)


def matters(old: date | None, new: date | None) -> bool:
    if old is None or new is None:
        return old is not new
    return (new - old).days >= LATER_DAYS or (old - new).days >= EARLIER_DAYS


def _check_events(ledger: Ledger, told: Sequence[Told], decided: Sequence[Decided], checked: Checked) -> None:
    decisions = {each.event_id: each for each in decided}
    messages = {each.message_id: each for each in told}
    tellings: Counter[str] = Counter()
    for message in told:
        if message.sent:
            tellings.update(message.about)
    for event_id, heard in ledger.events.items():
        event = heard.message
        order_id = event.order_id
        decision = decisions.get(event_id)
        case = f"{order_id} {event.type} {event_id}"
        revoked = isinstance(event, AllocationRevoked) and event.reason == "cancelled"
        if (revoked or isinstance(event, LinesShipped | LinesDelivered)) and order_id not in ledger.waited:
            checked.that(
                "orders that never waited are not written about", decision is None or decision.state == "not_told", case
            )
            continue
        checked.that("every event that should be told has a decision", decision is not None, case)
        if decision is None:
            continue
        checked.that("nothing waits for ever", decision.state != "pending", case)
        checked.that("what was not told says why", decision.state == "told" or bool(decision.reason), case)
        if decision.state == "told":
            of = messages.get(decision.message_id or "")
            checked.that("what was told is in a message", of is not None and event_id in of.about, case)
        checked.that("no event is told in two messages", tellings[event_id] <= 1, case)


def _check_mails(ledger: Ledger, told: Sequence[Told], mails: Mapping[str, Sequence[Mail]], checked: Checked) -> None:
    ids = Counter(message.message_id for message in told)
    checked.that("no message was made twice", max(ids.values(), default=1) == 1, ids.most_common(1))
    sent = {message.delivery_id: message for message in told if message.sent}
    for delivery_id, message in sent.items():
        case = f"{message.order_id}#{message.position} {message.kind}"
        texts = mails.get(delivery_id or "", ())
        checked.that("a mail that was sent arrived exactly once", len(texts) == 1, f"{case}: {len(texts)}")
        if texts and texts[0].language == "en":
            said, meant = rows_of(texts[0].text), _rows_meant(ledger, message)
            checked.that("a mail's text says what waits, and until when", said == meant, f"{case}: {said} {meant}")
    checked.that("no mail came that nobody sent", mails.keys() <= sent.keys(), mails.keys() - sent.keys())


def rows_of(text: str) -> list[tuple[str, str]]:
    """(units, date) of each line of an English mail that waits."""
    return sorted(ROW.findall(text.replace("\r\n", "\n")))


def _rows_meant(ledger: Ledger, message: Told) -> list[tuple[str, str]]:
    zone = ledger.zone(message.order_id, message.composed_at)
    today = message.composed_at.astimezone(zone).date()
    rows = []
    for line_no in {line["line_no"] for line in message.content.get("lines", ())}:
        standing = ledger.standing((message.order_id, line_no), message.composed_at)
        if standing.waiting:
            expected = day(standing.promised_at, zone)
            known = expected is not None and expected >= today
            words = f"{expected:%B} {expected.day}, {expected.year}" if expected and known else "not known yet"
            rows.append((f"{standing.waiting:,}", words))
    return sorted(rows)


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def day(at: datetime | None, zone: ZoneInfo) -> date | None:
    return None if at is None else at.astimezone(zone).date()
