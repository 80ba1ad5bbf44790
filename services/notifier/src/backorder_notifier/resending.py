"""`resend`: a person has something told that did not reach its customer, or told once more.

What staff expect is not the old mail but that the customer knows how things stand. So a message that is still the last
word is sent as it is; one that newer news or time has overtaken is taken back, and its news is decided anew at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from backorder_notifier import reports, resend_store, sentences, why
from backorder_notifier.contacts import reachable
from backorder_notifier.dossier import Dossier
from backorder_notifier.kinds import OPTIONAL
from backorder_notifier.policy import Policy
from backorder_notifier.resend_store import DeliveryToResend, Intervention, OrderToResend
from backorder_notifier.statements import Connection
from backorder_notifier.timers import undecided

Action = Literal["resent", "brought_forward", "recomposed", "sent_again", "already_due", "refused"]

CAN_BE_RESENT = ("failed", "withheld")


@dataclass(frozen=True, slots=True)
class Resent:
    """What `resend` did about one delivery, in words too."""

    order_id: str
    delivery_id: UUID
    position: int
    kind: str
    channel: str
    action: Action
    says: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants: one delivery, or all of an order; `again` also where it was accepted before."""

    order_id: str
    delivery_id: UUID | None
    again: bool
    by: str
    note: str | None


async def resend(connection: Connection, asked: Asked, policy: Policy, now: datetime) -> list[Resent] | None:
    """In one transaction. None: there is no such order. An empty list: nothing of it could be resent."""
    async with connection.transaction():
        order = await resend_store.lock_order_to_resend(connection, asked.order_id)
        deliveries = await resend_store.lock_deliveries_to_resend(connection, asked.order_id, now)
        known = await reports.why_order(connection, asked.order_id)
        if order is None or known is None:
            return None
        if not deliveries:
            return []
        closed = await _closed(connection, known, policy)
        answers = _judge(asked, deliveries, closed, policy, now)
        await _act(connection, asked, order, answers, deliveries, now)
        return answers


async def _closed(connection: Connection, order: reports.WhyOrder, policy: Policy) -> Mapping[tuple[str, bool], str]:
    """(channel, optional kind) → why nothing can be sent there."""
    contact = await why.read_contact(connection, order)
    if contact is None:
        return {}
    suppressed = await why.suppressed_channels(connection, contact, policy)
    closed: dict[tuple[str, bool], str] = {}
    for optional in (False, True):
        for channel, reason in reachable(contact, policy.channels, suppressed, optional=optional).items():
            if reason is None and optional and not contact.optional_kinds:
                reason = "optional_kinds_off"  # noqa: PLW2901 - the second reason there may be
            if reason is not None:
                closed[channel, optional] = reason
    return closed


def _judge(
    asked: Asked,
    deliveries: Sequence[DeliveryToResend],
    closed: Mapping[tuple[str, bool], str],
    policy: Policy,
    now: datetime,
) -> list[Resent]:
    """What is to be done about each delivery asked for; `deliveries` are all of the order, the newest message first."""
    last = deliveries[0].position
    reached = {row.message_id for row in deliveries if row.state == "sent" and row.channel != "webhook"}
    on_its_way = next((row for row in deliveries if row.state == "due"), None)

    def verdict(row: DeliveryToResend) -> tuple[Action, str]:
        why_not = closed.get((row.channel, row.kind in OPTIONAL))
        if row.state == "due":
            return _of_due(row, now)
        if why_not is not None:
            return "refused", f"Nothing can be sent there: {sentences.of_reason(why_not)}"
        if row.channel not in policy.channels:
            return "refused", f"{row.channel} is not in NOTIFIER_CHANNELS any more."
        if row.state == "superseded":
            return "refused", "It was withdrawn; a later message of the order says how things stand."
        if row.state == "sent" and not asked.again:
            return "refused", "It was accepted. With --again the customer gets it a second time."
        if row.state == "sent" and row.position < last:
            return "refused", f"Message {last} of the order is later. This one may say what is not so any more."
        if row.state == "sent" and on_its_way is not None:
            return "refused", f"Message {on_its_way.position} of the order is on its way."
        if row.state == "sent":
            return "sent_again", "The customer gets the same words a second time."
        if row.position == last and now - row.composed_at <= policy.stale_after:
            return "resent", "It is sent now."
        if row.message_id in reached:
            return "refused", "The customer got this message over another channel, and a later one or time overtook it."
        return "recomposed", "It is not the last word any more: what is still true of it is decided anew now."

    answers = []
    for row in deliveries:
        if asked.delivery_id not in {None, row.delivery_id}:
            continue
        if asked.delivery_id is None and not _is_meant(row, asked, last):
            continue
        action, says = verdict(row)
        answers.append(Resent(asked.order_id, row.delivery_id, row.position, row.kind, row.channel, action, says))
    if {"recomposed", "resent"} <= {each.action for each in answers}:
        # One message an order: what the last one says becomes part of the new one.
        both = "It is told together with the older news, decided anew now."
        answers = [_changed(each, "recomposed", both) if each.action == "resent" else each for each in answers]
    return answers


def _is_meant(row: DeliveryToResend, asked: Asked, last: int) -> bool:
    """Of an order: what did not reach the customer, and what is still to; with `again` the last message, too. The
    shop's own system is told again only by the delivery's id."""
    if row.state in CAN_BE_RESENT:
        return row.reason != "channel_not_chosen"
    is_last_word = row.state == "sent" and row.position == last and row.channel != "webhook"
    return row.state == "due" or (asked.again and is_last_word)


def _of_due(row: DeliveryToResend, now: datetime) -> tuple[Action, str]:
    if row.held:
        return "already_due", "It is being sent at this moment."
    if row.due_at <= now:
        return "already_due", "It is to be sent now."
    if not row.tried:
        return "already_due", f"It waits until {sentences.moment(row.due_at)}, when the quiet hours are over."
    return "brought_forward", f"It was to be tried again at {sentences.moment(row.due_at)}; now it is tried at once."


def _changed(answer: Resent, action: Action, says: str) -> Resent:
    return Resent(answer.order_id, answer.delivery_id, answer.position, answer.kind, answer.channel, action, says)


async def _act(
    connection: Connection,
    asked: Asked,
    order: OrderToResend,
    answers: Sequence[Resent],
    deliveries: Sequence[DeliveryToResend],
    now: datetime,
) -> None:
    message_of = {row.delivery_id: row.message_id for row in deliveries}
    done: list[Intervention] = []

    def ids(*actions: Action) -> list[UUID]:
        return [each.delivery_id for each in answers if each.action in actions]

    if due := ids("resent", "brought_forward"):
        await resend_store.make_due_again(connection, due, now)
        await resend_store.tell_withheld(connection, sorted({message_of[each] for each in ids("resent")}), now)
    if stale := ids("recomposed"):
        messages = sorted({message_of[each] for each in stale})
        about = {event_id for row in deliveries if row.message_id in messages for event_id in row.about}
        dossier = undecided(Dossier.model_validate_json(order.dossier), order.order_id, about)
        as_json = dossier.model_dump_json(exclude_defaults=True)
        await resend_store.give_back(connection, order.order_id, messages, as_json, now)
    copy = None
    if again := ids("sent_again"):
        original = message_of[again[0]]
        copy = uuid5(original, f"again at {now.isoformat()}")
        await resend_store.copy_message(connection, original, copy, now)
        channels = {row.channel: uuid5(copy, row.channel) for row in deliveries if row.delivery_id in again}
        await resend_store.copy_deliveries(connection, copy, channels, now)
    for each in answers:
        if each.action not in {"refused", "already_due"}:
            of_copy = copy if each.action == "sent_again" else None
            done.append(Intervention(each.action, asked.order_id, each.delivery_id, of_copy))
    if done:
        await resend_store.record_interventions(connection, now, asked.by, asked.note, done)
