"""What the statements take and return: one frozen dataclass each."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of Kafka, as it came. `topic` is without prefix, `full_topic` with it."""

    topic: str
    full_topic: str
    partition: int
    offset: int
    recorded_at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order, locked. `known_at` is None until its OrderPlaced came; `withheld` says why nothing can be sent."""

    order_id: str
    known_at: datetime | None
    customer_id: str | None
    withheld: str | None
    deliveries: int
    outcome_version: int


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A record that waits for an earlier version of its key."""

    key: str
    epoch: int
    version: int
    record: Record


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A delivery whose contact has come just now."""

    delivery_id: UUID
    order_id: str
    kind: str
    channel: str
    attempts: int
    traceparent: str | None
    about: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """A delivery that this sender alone may try until its lease ends, and all it takes to do so. `events` is JSON."""

    delivery_id: UUID
    order_id: str
    kind: str
    channel: str
    attempts: int
    first_attempt_at: datetime
    lease: UUID
    traceparent: str | None
    customer_id: str
    email: str
    name: str | None
    locale: str
    timezone: str
    order_url: str | None
    delivery: str
    about: tuple[str, ...]
    events: tuple[str, ...]
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An outcome that waits to be published."""

    position: int
    key: bytes
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A message that can't be used, and why."""

    dead_letter_id: int
    record: Record
    reason: str
    detail: str
    failed_at: datetime
    published_at: datetime | None
    redriven_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery for people to look at. No contact data. `events` is JSON."""

    delivery_id: UUID
    order_id: str
    position: int
    kind: str
    channel: str
    state: str
    reason: str | None
    attempts: int
    due_at: datetime
    recorded_at: datetime
    settled_at: datetime | None
    about: tuple[str, ...]
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many deliveries of a kind are in a state, for a reason ("" for none)."""

    kind: str
    state: str
    reason: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class BacklogRow:
    """What waits. `dead_letters` are those not driven again yet."""

    due: int
    waiting_for_contact: int
    oldest_due: datetime | None
    outcomes_unpublished: int
    dead_letters_unpublished: int
    dead_letters: int
    parked: int


@dataclass(frozen=True, slots=True)
class CursorRow:
    """Where an input partition goes on. `topic` has its prefix."""

    topic: str
    partition: int
    next_offset: int
