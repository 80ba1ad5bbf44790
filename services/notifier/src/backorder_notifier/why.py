"""`why ORDER_ID`: what a customer was told of an order and what not, each with its reason; what waits, and for what."""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from backorder_notifier import reports, sentences, told_store
from backorder_notifier.contacts import Contact, reachable, suppression_key
from backorder_notifier.decided import TOLD
from backorder_notifier.display import moment
from backorder_notifier.dossier import Dossier, standing
from backorder_notifier.kinds import OPTIONAL, Channel, Kind
from backorder_notifier.policy import Policy
from backorder_notifier.reports import WhyAttempt, WhyDelivery, WhyMessage, WhyOrder, WhyUpdate
from backorder_notifier.statements import Connection
from backorder_notifier.timers import timers
from backorder_notifier.timing import zone_of


async def why(connection: Connection, order_id: str, policy: Policy, now: datetime) -> dict[str, Any] | None:
    """All that is known of an order, in the caller's snapshot; None if nobody named it. Keys: see the README.

    Whether there is an address is said, never which.
    """
    order = await reports.why_order(connection, order_id)
    if order is None:
        return None
    updates = await reports.why_updates(connection, order_id)
    messages = await reports.why_messages(connection, order_id)
    deliveries = await reports.why_deliveries(connection, order_id)
    attempts = await reports.why_attempts(connection, order_id)
    contact = await read_contact(connection, order) if order.known_at is not None else None
    suppressed: frozenset[Channel] = frozenset()
    if contact is not None:
        suppressed = await suppressed_channels(connection, contact, policy)
    found = {
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "placed_at": moment(order.placed_at),
        "delivery": order.delivery,
        "contact": _contact(order, contact, suppressed, policy),
        "lines": _lines(order),
        "updates": [_update(row) for row in updates],
        "messages": _messages(messages, deliveries, attempts, now),
        "interventions": [
            {
                "at": moment(row.at),
                "by": row.by,
                "what": row.what,
                "delivery_id": _text(row.delivery_id),
                "message_id": _text(row.message_id),
                "note": row.note,
            }
            for row in await reports.why_interventions(connection, order_id)
        ],
        "parked": [
            {"topic": row.topic, "version": row.version, "parked_at": moment(row.parked_at)}
            for row in await reports.why_parked(connection, order_id)
        ],
    }
    waits = list(_waits(order, updates, deliveries, found, now))
    return found | {
        "next_look_at": moment(order.tell_at),
        "waits": waits,
        "next": [] if contact is None else _next(order, contact, updates, policy),
    }


def _next(order: WhyOrder, contact: Contact, updates: Sequence[WhyUpdate], policy: Policy) -> list[dict[str, Any]]:
    """Reminders and the like that come by themselves, if nothing changes until then."""
    moving = {row.line_no for row in updates if row.state == "pending" and row.kind == "promise_changed"}
    dossier, told = Dossier.model_validate_json(order.dossier), TOLD.validate_json(order.told)
    found = timers(dossier, told, policy, zone_of(contact.timezone), moving=moving)
    wanted = [each for each in found if _is_wanted(each.kind, contact, policy)]
    return [
        {"at": moment(each.due_at), "kind": each.kind, "line_no": each.line_no, "day": each.day.isoformat()}
        for each in sorted(wanted, key=lambda each: (each.due_at, each.kind, each.line_no or 0))
    ]


def _is_wanted(kind: Kind, contact: Contact, policy: Policy) -> bool:
    return kind not in policy.kinds_off and (contact.optional_kinds or kind not in OPTIONAL)


async def read_contact(connection: Connection, order: WhyOrder) -> Contact | None:
    return (await told_store.contacts_to_tell(connection, [order.order_id])).get(order.order_id)


async def suppressed_channels(connection: Connection, contact: Contact, policy: Policy) -> frozenset[Channel]:
    """Channels of which the customer's address is on the list of those that nothing is sent to."""
    keys = {channel: suppression_key(channel, contact) for channel in policy.channels}
    asked = {(channel, key) for channel, key in keys.items() if key is not None}
    listed = await told_store.suppressed_addresses(connection, asked)
    return frozenset(channel for channel, key in keys.items() if (channel, key) in listed)


def _contact(
    order: WhyOrder, contact: Contact | None, suppressed: frozenset[Channel], policy: Policy
) -> dict[str, Any]:
    channels = []
    if contact is not None:
        needed = reachable(contact, policy.channels, suppressed, optional=False)
        optional = reachable(contact, policy.channels, suppressed, optional=True)
        channels = [
            {
                "channel": channel,
                "open": needed[channel] is None,
                "open_for_optional_kinds": optional[channel] is None and contact.optional_kinds,
                "reason": needed[channel] or optional[channel],
                "because": sentences.of_reason(needed[channel] or optional[channel]),
            }
            for channel in policy.channels
        ]
    return {
        "known": order.known_at is not None,
        "timezone": None if contact is None else contact.timezone,
        "locale": None if contact is None else contact.locale,
        "optional_kinds": None if contact is None else contact.optional_kinds,
        "unsubscribed_at": moment(order.unsubscribed_at),
        "forgotten_at": moment(order.forgotten_at),
        "channels": channels,
    }


def _lines(order: WhyOrder) -> list[dict[str, Any]]:
    dossier = Dossier.model_validate_json(order.dossier)
    told = TOLD.validate_json(order.told)
    rows = []
    for line_no, line in sorted(dossier.lines.items()):
        stands = standing(dossier, line_no)
        heard = told.get(line_no)
        rows.append(
            {
                "line_no": line_no,
                "sku": line.sku,
                "ordered": stands.ordered,
                "ready": stands.ready,
                "waiting": stands.waiting,
                "shipped": stands.shipped,
                "promised_at": moment(line.promised_at),
                "told_waiting": None if heard is None else heard.waiting,
                "told_promised_at": None if heard is None else moment(heard.promised_at),
            }
        )
    return rows


def _update(row: WhyUpdate) -> dict[str, Any]:
    event = json.loads(row.event)
    return {
        "event_id": row.event_id,
        "type": event.get("type"),
        "line_no": row.line_no,
        "kind": row.kind,
        "says": sentences.of_event(event, row.kind),
        "caused_by": row.caused_by,
        "occurred_at": moment(row.occurred_at),
        "recorded_at": moment(row.recorded_at),
        "state": row.state,
        "reason": row.reason,
        "because": sentences.of_reason(row.reason),
        "decided_at": moment(row.decided_at),
        "position": row.position,
    }


def _messages(
    messages: Sequence[WhyMessage],
    deliveries: Sequence[WhyDelivery],
    attempts: Sequence[WhyAttempt],
    now: datetime,
) -> list[dict[str, Any]]:
    of_message: defaultdict[UUID, list[dict[str, Any]]] = defaultdict(list)
    tries: defaultdict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for each in attempts:
        tries[each.delivery_id].append(
            {
                "attempt": each.attempt,
                "at": moment(each.at),
                "outcome": each.outcome,
                "reason": each.reason,
                "because": sentences.OUTCOME.get(each.outcome, each.outcome),
            }
        )
    for row in deliveries:
        tried = row.first_attempt_at is not None
        of_message[row.message_id].append(
            {
                "delivery_id": str(row.delivery_id),
                "channel": row.channel,
                "state": row.state,
                "reason": row.reason,
                "says": sentences.of_delivery(
                    row.channel, row.state, row.due_at, tried=tried, in_hand=row.in_hand, now=now
                ),
                "because": sentences.of_reason(row.reason),
                "due_at": moment(row.due_at) if row.state == "due" else None,
                "attempts": row.attempts,
                "in_doubt": row.in_doubt,
                "settled_at": moment(row.settled_at),
                "tries": tries[row.delivery_id],
            }
        )
    return [
        {
            "message_id": str(row.message_id),
            "position": row.position,
            "kind": row.kind,
            "says": sentences.of_kind(row.kind),
            "late": bool(json.loads(row.content).get("late")),
            "about": list(row.about),
            "composed_at": moment(row.composed_at),
            "deliveries": of_message[row.message_id],
        }
        for row in messages
    ]


def _waits(
    order: WhyOrder,
    updates: Sequence[WhyUpdate],
    deliveries: Sequence[WhyDelivery],
    found: Mapping[str, Any],
    now: datetime,
) -> Iterator[str]:
    """What is pending, why, and until when."""
    pending = [row for row in updates if row.state == "pending"]
    news = ", ".join(f"{count} {kind}" for kind, count in Counter(row.kind or "event" for row in pending).items())
    if pending and order.known_at is None:
        yield f"Waits for the OrderPlaced of this order, which says whom to tell and has not come yet: {news}."
    elif pending and order.tell_at is None:
        yield f"Waits for nothing, which is a problem, see `audit`: {news}."
    elif pending and order.tell_at is not None:
        reasons = [sentence for row in pending if (sentence := sentences.of_reason(row.reason))]
        why_so = reasons[0] if reasons else "What comes until then is told with it."
        until = f"Waits until {sentences.moment(order.tell_at)}" if order.tell_at > now else "Is decided on now"
        yield f"{until}: {news}. {why_so}"
    for message in found["messages"]:
        for delivery in message["deliveries"]:
            if delivery["state"] == "due":
                because = f" {delivery['because']}" if delivery["because"] else ""
                yield f"Message {message['position']} by {delivery['channel']}: {delivery['says']}{because}"
    if found["messages"] and _reached_nobody(found["messages"][-1]):
        position, order_id = found["messages"][-1]["position"], shlex.quote(order.order_id)
        yield (
            f"Message {position} did not reach the customer. Once that is mended,"
            f" `backorder-notifier resend --order {order_id}` tells it."
        )
    for parked in found["parked"]:
        yield (
            f"Version {parked['version']} on {parked['topic']} waits for an earlier one since {parked['parked_at']},"
            " NOTIFIER_GAP_WAIT at most."
        )


def _reached_nobody(message: Mapping[str, Any]) -> bool:
    """The shop's own system aside."""
    states = {row["state"] for row in message["deliveries"] if row["channel"] != "webhook"}
    return bool(states) and states <= {"failed", "withheld"}


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
