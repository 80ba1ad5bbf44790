"""What the teller knows of an order when it decides: from rows to what `telling` takes. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from pydantic import TypeAdapter

from backorder_notifier.contacts import Contact, reachable, suppression_key
from backorder_notifier.decided import TOLD
from backorder_notifier.dossier import Dossier, Event, ToldLine
from backorder_notifier.kinds import Kind
from backorder_notifier.news import OrderView, Pending
from backorder_notifier.policy import Policy
from backorder_notifier.told_rows import Losses, OpenRow, TellingRow, UpdateRow
from backorder_schemas import BackorderCreated, BackorderRejected

_TIMER: Final = "timer:"
_EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Event)


@dataclass(frozen=True, slots=True)
class Known:
    """What was read for a round, by order where it differs."""

    contacts: Mapping[str, Contact]
    suppressed: frozenset[tuple[str, str]]
    updates: Mapping[str, Sequence[UpdateRow]]
    losses: Mapping[str, Losses]
    sent_today: Mapping[str, int]
    withdrawable: Mapping[str, Sequence[OpenRow]]


@dataclass(frozen=True, slots=True)
class Case:
    """One order, parsed."""

    row: TellingRow
    dossier: Dossier
    told: dict[int, ToldLine]
    pending: tuple[Pending, ...]
    given_back_timers: frozenset[str]


def case_of(row: TellingRow, known: Known) -> Case:
    """Raises ValueError for what no release wrote."""
    pending = []
    timers = set()
    for update in known.updates.get(row.order_id, ()):
        if update.event_id.startswith(_TIMER):
            timers.add(update.event_id)
        else:
            event = _EVENT.validate_json(update.event)
            pending.append(
                Pending(
                    update.event_id, update.ordinal, update.line_no, cast("Kind", update.kind), update.caused_by,
                    update.occurred_at, update.recorded_at, event, update.traceparent,
                )
            )  # fmt: skip
    dossier = Dossier.model_validate_json(row.dossier)
    return Case(row, dossier, TOLD.validate_json(row.told), tuple(pending), frozenset(timers))


def view_of(case: Case, known: Known, policy: Policy, sent_now: int) -> OrderView:
    row, contact = case.row, known.contacts[case.row.order_id]
    losses = known.losses.get(row.order_id)
    suppressed = [
        channel for channel in policy.channels if (channel, suppression_key(channel, contact)) in known.suppressed
    ]
    return OrderView(
        order_id=row.order_id,
        customer_id=row.customer_id,
        timezone=contact.timezone,
        delivery="complete" if row.delivery == "complete" else "split",
        order_url=row.order_url,
        dossier=case.dossier,
        told=case.told,
        sent_today=known.sent_today.get(row.order_id, 0) + sent_now,
        optional_kinds=contact.optional_kinds,
        reachable=reachable(contact, policy.channels, suppressed, optional=False),
        reachable_optional=reachable(contact, policy.channels, suppressed, optional=True),
        already_told=frozenset(losses.told if losses else ()),
        booked=frozenset(losses.booked if losses else ()),
        given_back_timers=case.given_back_timers,
    )


def alternatives(case: Case) -> Iterator[tuple[str, str]]:
    """(location, SKU) of all that might be offered instead."""
    for line in case.dossier.lines.values():
        for sku in line.substitutes:
            yield line.location, sku
    for each in case.pending:
        if isinstance(each.event, BackorderCreated | BackorderRejected):
            for sku in each.event.substitutes:
                yield each.event.location, sku


def skus_of(case: Case) -> Iterator[str]:
    for line in case.dossier.lines.values():
        yield line.sku
    for _, sku in alternatives(case):
        yield sku
