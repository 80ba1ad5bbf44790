"""What the teller's statements take and return: one frozen dataclass each."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from backorder_notifier.kinds import Kind


class Losses(NamedTuple):
    """Losses of stock of one order, by line and cause: those that were told, those whose booking was decided on."""

    told: set[tuple[int | None, str]]
    booked: set[tuple[int | None, str]]


@dataclass(frozen=True, slots=True)
class TellingRow:
    """An order to decide on, locked. `has_customer`: there is a row to lock too. `dossier` and `told` are JSON."""

    order_id: str
    customer_id: str
    has_customer: bool
    order_url: str | None
    delivery: str | None
    dossier: str
    told: str
    messages: int
    outcome_version: int
    tell_at: datetime


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A delivery that is not settled. `held`: a sender has it. `reached`: the customer got its message another way."""

    delivery_id: UUID
    message_id: UUID
    order_id: str
    channel: str
    held: bool
    reached: bool


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """One update to decide on; `message_id`: the message that gives it back. `event` is JSON."""

    event_id: str
    order_id: str
    ordinal: int
    line_no: int | None
    kind: str
    caused_by: str
    occurred_at: datetime
    recorded_at: datetime
    event: str
    traceparent: str | None
    message_id: UUID | None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message. `content`, `told` and `about` are JSON."""

    message_id: UUID
    order_id: str
    customer_id: str
    position: int
    kind: Kind
    content: str
    told: str
    about: str
    occurred_at: datetime
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class NewDeliveryRow:
    """One message over one channel."""

    delivery_id: UUID
    message_id: UUID
    order_id: str
    channel: str
    state: str
    reason: str | None
    due_at: datetime


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """What was decided about one update."""

    event_id: str
    state: str
    reason: str | None
    message_id: UUID | None


@dataclass(frozen=True, slots=True)
class TimerRow:
    """A due date that has come. `event` is JSON."""

    event_id: str
    order_id: str
    line_no: int | None
    kind: str
    occurred_at: datetime
    event: str
    state: str
    reason: str | None
    message_id: UUID | None


@dataclass(frozen=True, slots=True)
class ToldOrderRow:
    """An order after a decision. `dossier` is JSON."""

    order_id: str
    dossier: str
    tell_at: datetime | None
    messages: int
    outcome_version: int
