"""From events to what customers are told: pure, so that it can be tested without a server.

Which events are told, under which kind, and how those of one order make deliveries: events of the same kind that one
input caused are one message, in the order in which they happened; two events of one line never share a message, since
two states of a line at once would contradict each other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple, assert_never
from uuid import UUID, uuid5

from backorder_notifier.rows import OrderRow
from backorder_schemas import (
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    PromiseChanged,
)

BackorderEvent = BackorderCreated | BackorderFilled | BackorderCancelled | BackorderRejected | PromiseChanged
Kind = Literal["backorder_created", "backorder_filled", "backorder_cancelled"]
State = Literal["waiting_for_contact", "due", "withheld"]

NAMESPACE = UUID("0d5b0a52-9f5e-4c52-8b63-5f1d3b6a7c11")
CHANNEL = "email"
BEFORE_START = "before_start_at"


@dataclass(frozen=True, slots=True)
class Applied:
    """An event whose turn has come."""

    event: BackorderEvent
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that should be sent, or why it will not be. `position` counts the order's deliveries from 1."""

    delivery_id: UUID
    order_id: str
    position: int
    kind: Kind
    channel: str
    state: State
    reason: str | None
    traceparent: str | None
    events: tuple[BackorderEvent, ...]

    @property
    def about(self) -> tuple[str, ...]:
        return tuple(event.id for event in self.events)


def kind_of(event: BackorderEvent) -> Kind | None:
    """The kind of message that tells this event; None: it is not told."""
    match event:
        case BackorderCreated():
            return "backorder_created"
        case BackorderFilled():
            return "backorder_filled"
        case BackorderCancelled():
            return "backorder_cancelled"
        case BackorderRejected() | PromiseChanged():
            return None
        case _:
            assert_never(event)


class _Group(NamedTuple):
    """What one message tells: events that share all this."""

    order_id: str
    kind: Kind
    caused_by: str
    early: bool
    nth_of_line: int


def plan_deliveries(
    applied: Iterable[Applied], orders: Mapping[str, OrderRow], told: set[str], start_at: datetime | None
) -> list[Delivery]:
    """The deliveries for events in the order in which they happened. `told`: event ids that have an update already."""
    groups: dict[_Group, list[Applied]] = {}
    times_of_line: Counter[tuple[str, Kind, str, int]] = Counter()
    seen = set(told)
    for each in applied:
        event = each.event
        kind = kind_of(event)
        if kind is None or event.id in seen:
            continue
        seen.add(event.id)
        line = (event.order_id, kind, event.caused_by, event.line_no)
        times_of_line[line] += 1
        early = start_at is not None and event.occurred_at < start_at
        group = _Group(event.order_id, kind, event.caused_by, early, times_of_line[line])
        groups.setdefault(group, []).append(each)

    position = {order_id: order.deliveries for order_id, order in orders.items()}
    deliveries = []
    for group, members in groups.items():
        position[group.order_id] += 1
        state, reason = _state(orders[group.order_id], early=group.early)
        first = members[0]
        deliveries.append(
            Delivery(
                # The same after a replay: made of what is told, not of when.
                delivery_id=uuid5(NAMESPACE, f"{group.order_id}\n{group.kind}\n{CHANNEL}\n{first.event.id}"),
                order_id=group.order_id,
                position=position[group.order_id],
                kind=group.kind,
                channel=CHANNEL,
                state=state,
                reason=reason,
                traceparent=first.traceparent,
                events=tuple(member.event for member in members),
            )
        )
    return deliveries


def _state(order: OrderRow, *, early: bool) -> tuple[State, str | None]:
    if early:
        return "withheld", BEFORE_START
    if order.known_at is None:
        return "waiting_for_contact", None
    if order.withheld is not None:
        return "withheld", order.withheld
    return "due", None


def counted(orders: Mapping[str, OrderRow], deliveries: Iterable[Delivery]) -> dict[str, OrderRow]:
    """The orders after these deliveries."""
    after = dict(orders)
    for each in deliveries:
        after[each.order_id] = replace(after[each.order_id], deliveries=each.position)
    return after
