"""What people ask of the database, read only: one function a statement, named as its file in sql/. No contact data,
except the addresses that somebody asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from backorder_notifier.statements import Connection, hashable, run


@dataclass(frozen=True, slots=True)
class UpdateCount:
    """How many events of a kind (None: of none) were decided so."""

    kind: str | None
    state: str
    reason: str | None
    updates: int


@dataclass(frozen=True, slots=True)
class DeliveryCount:
    """How many messages of a kind over a channel are in a state."""

    kind: str
    channel: str
    state: str
    reason: str | None
    deliveries: int


@dataclass(frozen=True, slots=True)
class WaitsRow:
    """What waits, counted. `deliveries_due` = to_send + in_hand + held_by_quiet_hours + backing_off."""

    updates_pending: int
    oldest_update: datetime | None
    orders_to_decide: int
    next_decision: datetime | None
    orders_without_contact: int
    deliveries_due: int
    to_send: int
    in_hand: int
    held_by_quiet_hours: int
    backing_off: int
    in_doubt: int
    oldest_due: datetime | None
    domains_backing_off: int
    addresses_suppressed: int
    outcomes_unpublished: int
    dead_letters_unpublished: int
    dead_letters: int
    parked: int


@dataclass(frozen=True, slots=True)
class BackoffRow:
    domain: str
    refusals: int
    until: datetime


@dataclass(frozen=True, slots=True)
class RelayRow:
    """Which process publishes, and until when it may. `refused`: how often one was that had been overtaken."""

    holder: str
    epoch: int
    ends_at: datetime
    refused: int
    refused_at: datetime | None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message over one channel."""

    delivery_id: UUID
    message_id: UUID
    order_id: str
    position: int
    kind: str
    channel: str
    state: str
    reason: str | None
    attempts: int
    in_doubt: int
    due_at: datetime
    composed_at: datetime
    first_attempt_at: datetime | None
    settled_at: datetime | None
    about: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WhyOrder:
    """An order as it stands. `dossier` and `told` are JSON."""

    order_id: str
    known_at: datetime | None
    customer_id: str | None
    placed_at: datetime | None
    delivery: str | None
    dossier: str
    told: str
    tell_at: datetime | None
    messages: int
    outcome_version: int
    forgotten_at: datetime | None
    unsubscribed_at: datetime | None


@dataclass(frozen=True, slots=True)
class WhyUpdate:
    """An event or a due date, and what was decided. `event` is JSON; `position`: of the message that tells it."""

    event_id: str
    ordinal: int
    line_no: int | None
    kind: str | None
    caused_by: str
    occurred_at: datetime
    recorded_at: datetime
    event: str
    state: str
    reason: str | None
    decided_at: datetime | None
    message_id: UUID | None
    position: int | None


@dataclass(frozen=True, slots=True)
class WhyMessage:
    """`content` and `told` are JSON."""

    message_id: UUID
    position: int
    kind: str
    content: str
    told: str
    about: tuple[str, ...]
    composed_at: datetime


@dataclass(frozen=True, slots=True)
class WhyDelivery:
    delivery_id: UUID
    message_id: UUID
    channel: str
    state: str
    reason: str | None
    due_at: datetime
    attempts: int
    in_doubt: int
    first_attempt_at: datetime | None
    recorded_at: datetime
    settled_at: datetime | None
    in_hand: bool


@dataclass(frozen=True, slots=True)
class WhyAttempt:
    delivery_id: UUID
    attempt: int
    at: datetime
    outcome: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class WhyIntervention:
    """What a person did by a command."""

    at: datetime
    by: str
    what: str
    delivery_id: UUID | None
    message_id: UUID | None
    note: str | None


@dataclass(frozen=True, slots=True)
class WhyParked:
    """An event that waits for an earlier version."""

    topic: str
    version: int
    parked_at: datetime


@dataclass(frozen=True, slots=True)
class SuppressionRow:
    channel: str
    address: str
    reason: str
    suppressed_at: datetime


@dataclass(frozen=True, slots=True)
class ServerRow:
    """What the database server promises. `is_a_copy`: it can only be read."""

    version: int
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    is_a_copy: bool
    is_this_machine: bool
    encrypted: bool
    timezone: str


# How everything stands


async def report_server(connection: Connection) -> ServerRow:
    return ServerRow(*(await run(connection, "report_server"))[0])


async def report_updates(connection: Connection) -> list[UpdateCount]:
    return [UpdateCount(*row) for row in await run(connection, "report_updates")]


async def report_deliveries(connection: Connection) -> list[DeliveryCount]:
    return [DeliveryCount(*row) for row in await run(connection, "report_deliveries")]


async def report_waits(connection: Connection, now: datetime) -> WaitsRow:
    return WaitsRow(*(await run(connection, "report_waits", now))[0])


async def report_backoffs(connection: Connection, now: datetime) -> list[BackoffRow]:
    return [BackoffRow(*row) for row in await run(connection, "report_backoffs", now)]


async def report_relay(connection: Connection) -> RelayRow | None:
    rows = await run(connection, "report_relay")
    return RelayRow(*rows[0]) if rows else None


async def report_outbox(
    connection: Connection,
    states: Sequence[str] | None,
    order_id: str | None,
    channels: Sequence[str] | None,
    kinds: Sequence[str] | None,
    *,
    failed: bool,
    limit: int,
) -> list[OutboxRow]:
    """`failed`: only what should have reached its customer and did not."""
    rows = await run(connection, "report_outbox", states, order_id, channels, kinds, failed, limit)
    return [OutboxRow(*hashable(row)) for row in rows]


async def list_suppressions(connection: Connection, channel: str | None, limit: int) -> list[SuppressionRow]:
    return [SuppressionRow(*row) for row in await run(connection, "list_suppressions", channel, limit)]


# One order


async def why_order(connection: Connection, order_id: str) -> WhyOrder | None:
    rows = await run(connection, "why_order", order_id)
    return WhyOrder(*rows[0]) if rows else None


async def why_updates(connection: Connection, order_id: str) -> list[WhyUpdate]:
    return [WhyUpdate(*row) for row in await run(connection, "why_updates", order_id)]


async def why_messages(connection: Connection, order_id: str) -> list[WhyMessage]:
    return [WhyMessage(*hashable(row)) for row in await run(connection, "why_messages", order_id)]


async def why_deliveries(connection: Connection, order_id: str) -> list[WhyDelivery]:
    return [WhyDelivery(*row) for row in await run(connection, "why_deliveries", order_id)]


async def why_attempts(connection: Connection, order_id: str) -> list[WhyAttempt]:
    return [WhyAttempt(*row) for row in await run(connection, "why_attempts", order_id)]


async def why_interventions(connection: Connection, order_id: str) -> list[WhyIntervention]:
    return [WhyIntervention(*row) for row in await run(connection, "why_interventions", order_id)]


async def why_parked(connection: Connection, order_id: str) -> list[WhyParked]:
    return [WhyParked(*row) for row in await run(connection, "why_parked", order_id)]
