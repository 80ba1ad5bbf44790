"""What is to be decided about one order, and what was decided: the values that telling works on. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from backorder_notifier.content import Content
from backorder_notifier.dossier import Dossier, Event, Told
from backorder_notifier.kinds import Channel, Kind
from backorder_notifier.policy import Policy
from backorder_notifier.timing import later
from backorder_schemas import PromiseChanged


@dataclass(frozen=True, slots=True)
class Mark:
    """That there is undecided news: all that it takes to know when it is due."""

    kind: Kind
    line_no: int | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """News that nothing was decided about yet, or that was given back by a message withdrawn before it was sent.

    `ordinal` is the order of applying, within the customer's order.
    """

    event_id: str
    ordinal: int
    line_no: int | None
    kind: Kind
    caused_by: str
    occurred_at: datetime
    recorded_at: datetime
    event: Event
    traceparent: str | None

    @property
    def is_date(self) -> bool:
        return isinstance(self.event, PromiseChanged)


@dataclass(frozen=True, slots=True)
class OrderView:
    """One order as far as telling needs it.

    `sent_today`: messages of this customer since local midnight. `reachable`: for each configured channel None, or why
    a message can't go over it; `reachable_optional` the same for optional kinds. `already_told`: (line, cause) of
    losses of stock that were told; `booked`: of those whose BackorderCreated was decided on, told or not.
    `given_back_timers`: ids of timers that a message told which is withdrawn just now.
    """

    order_id: str
    customer_id: str
    timezone: str
    delivery: Literal["split", "complete"]
    order_url: str | None
    dossier: Dossier
    told: Told
    sent_today: int
    optional_kinds: bool
    reachable: Mapping[Channel, str | None]
    reachable_optional: Mapping[Channel, str | None]
    already_told: frozenset[tuple[int | None, str]] = frozenset()
    booked: frozenset[tuple[int | None, str]] = frozenset()
    given_back_timers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one event. `reason` is a code of `reasons.REASONS`; told has none, pending may have one.

    superseded: what the message of this decision says overtakes it (the reason is its kind), or a later event does.
    """

    state: Literal["pending", "told", "superseded", "not_told"]
    reason: str | None = None


TOLD = Verdict("told")


@dataclass(frozen=True, slots=True)
class Composed:
    """One message. `told` is what the customer was told once it is accepted; `about` the ids of the events it tells.

    `due_at`: the channels it goes over, each from when on; `withheld`: those it doesn't, each with the reason.
    """

    message_id: UUID
    kind: Kind
    content: Content
    told: Told
    about: tuple[str, ...]
    occurred_at: datetime
    traceparent: str | None
    due_at: Mapping[Channel, datetime]
    withheld: Mapping[Channel, str]


@dataclass(frozen=True, slots=True)
class Timed:
    """A due date that has come, kept like an event; decided at once."""

    event_id: str
    kind: Kind
    line_no: int | None
    due_at: datetime
    event: Mapping[str, object]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Decision:
    """`verdicts` by event id; events it doesn't name stay undecided. `dossier` is to be kept, message or not."""

    message: Composed | None
    verdicts: Mapping[str, Verdict]
    timers: tuple[Timed, ...]
    dossier: Dossier
    tell_at: datetime | None


def due_at(marks: Iterable[Mark | Pending], policy: Policy) -> datetime | None:
    """When to decide: for each kind once it was quiet for long enough, or its first news waited long enough."""
    spans: dict[Kind, tuple[datetime, datetime]] = {}
    for mark in marks:
        first, last = spans.get(mark.kind, (mark.recorded_at, mark.recorded_at))
        spans[mark.kind] = min(first, mark.recorded_at), max(last, mark.recorded_at)
    due = None
    for kind, (first, last) in spans.items():
        debounce = policy.debounce_of(kind)
        of_kind = min(later(last, debounce.quiet), later(first, debounce.at_most))
        due = of_kind if due is None or of_kind < due else due
    return due


def is_due(marks: Iterable[Mark | Pending], policy: Policy, now: datetime) -> bool:
    due = due_at(marks, policy)
    return due is not None and due <= now


def is_stale(pending: Pending, policy: Policy, now: datetime) -> bool:
    """Whether it should have been told so long ago that a customer would wonder."""
    began = min(pending.recorded_at, pending.occurred_at)
    return now - later(began, policy.debounce_of(pending.kind).quiet) > policy.stale_after
