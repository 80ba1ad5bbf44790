"""What the statements take and return: one frozen dataclass each."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from backorder_notifier.kinds import Kind

Headers = tuple[tuple[str, bytes | None], ...]
Partition = tuple[str, int]
"""(full topic, partition)"""
Key = tuple[str, str]
"""(topic without prefix, key of its messages)"""


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
class CursorPosition:
    """Where a partition goes on. Below `told_below` the release before 0002, which knew fewer kinds, told what it knew.

    `moved_by`: the process that worked the last batch. `upgraded_at`: when 0002 came, or None if there was nothing
    before it.
    """

    next_offset: int
    told_below: int
    moved_by: UUID | None
    upgraded_at: datetime | None


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order, locked. `known_at` is None until its OrderPlaced came. `timezone`: its customer's. JSON: the rest."""

    order_id: str
    known_at: datetime | None
    customer_id: str | None
    delivery: str | None
    timezone: str
    dossier: str
    told: str


@dataclass(frozen=True, slots=True)
class SavedOrder:
    """An order after a batch. `dossier` and `told` are JSON."""

    order_id: str
    dossier: str
    told: str
    tell_at: datetime | None


@dataclass(frozen=True, slots=True)
class KnownUpdate:
    """An update that is there already: of which event, and what became of it."""

    order_id: str
    type: str
    state: str


@dataclass(frozen=True, slots=True)
class NewUpdate:
    """One event that may concern a customer. `event` is JSON; no `kind`: of none that customers are told."""

    event_id: str
    order_id: str
    topic: str
    line_no: int | None
    kind: str | None
    caused_by: str
    occurred_at: datetime
    recorded_at: datetime
    event: str
    traceparent: str | None
    state: Literal["pending", "not_told"]
    reason: str | None


@dataclass(frozen=True, slots=True)
class PendingMark:
    """When the first and the last pending update of one order, kind and line were recorded."""

    order_id: str
    kind: Kind
    line_no: int | None
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A record that waits for an earlier version of its key."""

    topic: str
    key: str
    epoch: int
    version: int
    record: Record


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
class BacklogRow:
    """What waits. `dead_letters` are those not driven again yet."""

    due: int
    pending: int
    oldest_due: datetime | None
    outcomes_unpublished: int
    dead_letters_unpublished: int
    dead_letters: int
    parked: int


@dataclass(frozen=True, slots=True)
class CursorRow:
    """Where an input partition goes on. `topic` has its prefix. `refused`: how often a process was that another had
    overtaken there, and when that was last."""

    topic: str
    partition: int
    next_offset: int
    refused: int
    refused_at: datetime | None
