"""From decisions to rows: what a round of the teller writes, gathered order by order. Pure."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from backorder_notifier.dossier import ToldLine
from backorder_notifier.kinds import Channel
from backorder_notifier.news import Composed, Decision, Verdict
from backorder_notifier.outcomes import Outcome, outcome
from backorder_notifier.telling import delivery_id
from backorder_notifier.told_rows import (
    MessageRow,
    NewDeliveryRow,
    OpenRow,
    TellingRow,
    TimerRow,
    ToldOrderRow,
    UpdateRow,
    VerdictRow,
)

TOLD: Final = TypeAdapter(dict[int, ToldLine])


@dataclass(slots=True)
class Decided:
    """What a round decided, as rows. `outcome_versions` counts on from what the orders had."""

    messages: list[MessageRow] = field(default_factory=list)
    deliveries: list[NewDeliveryRow] = field(default_factory=list)
    verdicts: list[VerdictRow] = field(default_factory=list)
    timers: list[TimerRow] = field(default_factory=list)
    withdrawn: dict[UUID, str] = field(default_factory=dict)  # delivery → reason
    unsaid: set[UUID] = field(default_factory=set)  # messages that nobody gets
    orders: list[tuple[TellingRow, Decision]] = field(default_factory=list)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # kind, state, reason

    def add(
        self, row: TellingRow, decision: Decision, updates: Sequence[UpdateRow], withdrawable: Sequence[OpenRow]
    ) -> None:
        """The decision about one order, the updates that it was about, and the deliveries that it may take back."""
        message = decision.message
        for update in updates:
            verdict = decision.verdicts.get(update.event_id)
            if verdict is not None:
                message_id = _message_of(verdict, message)
                self.verdicts.append(VerdictRow(update.event_id, verdict.state, verdict.reason, message_id))
                self.counts[update.kind, verdict.state, verdict.reason or ""] += 1
            elif update.message_id is not None and not update.event_id.startswith("timer:"):
                # Given back, and not to be told yet.
                self.verdicts.append(VerdictRow(update.event_id, "pending", None, None))
        for timer in decision.timers:
            self.timers.append(
                TimerRow(
                    timer.event_id,
                    row.order_id,
                    timer.line_no,
                    timer.kind,
                    timer.due_at,
                    json.dumps(timer.event),
                    timer.verdict.state,
                    timer.verdict.reason,
                    _message_of(timer.verdict, message),
                )
            )
            self.counts[timer.kind, timer.verdict.state, timer.verdict.reason or ""] += 1
        for delivery in withdrawable:
            if message is None and delivery.reached:
                continue  # the customer has read it elsewhere, and nothing newer is to be said here
            # The same message again goes on as it is, with the tries it had.
            same = message is not None and delivery.message_id == message.message_id
            if same and message is not None and delivery.channel in message.due_at:
                continue
            self.withdrawn[delivery.delivery_id] = "newer_message" if message is not None else "withdrawn"
            if not same and not delivery.reached:
                self.unsaid.add(delivery.message_id)
        if message is not None:
            self._add_message(row, message)
        self.orders.append((row, decision))

    def _add_message(self, row: TellingRow, message: Composed) -> None:
        self.messages.append(
            MessageRow(
                message.message_id,
                row.order_id,
                row.customer_id,
                row.messages + 1,
                message.kind,
                message.content.model_dump_json(exclude_defaults=True),
                TOLD.dump_json(message.told, exclude_defaults=True).decode(),
                json.dumps(message.about),
                message.occurred_at,
                message.traceparent,
            )
        )
        for channel, due_at in message.due_at.items():
            self._add_delivery(row, message, channel, "due", None, due_at)
        for channel, reason in message.withheld.items():
            self._add_delivery(row, message, channel, "withheld", reason, message.occurred_at)

    def _add_delivery(
        self, row: TellingRow, message: Composed, channel: Channel, state: str, reason: str | None, due_at: datetime
    ) -> None:
        self.deliveries.append(
            NewDeliveryRow(
                delivery_id(message.message_id, channel),
                message.message_id,
                row.order_id,
                channel,
                state,
                reason,
                due_at,
            )
        )

    def outcomes(self, new: set[UUID], now: datetime, epoch: int) -> tuple[list[ToldOrderRow], list[Outcome]]:
        """The orders afterwards, and what is published of deliveries that are withheld for good, of those in `new`.

        Nothing is published of a channel that the customer didn't choose: nothing failed.
        """
        withheld: dict[str, list[NewDeliveryRow]] = {}
        for delivery in self.deliveries:
            published = delivery.state == "withheld" and delivery.reason != "channel_not_chosen"
            if published and delivery.delivery_id in new:
                withheld.setdefault(delivery.order_id, []).append(delivery)
        orders, outcomes = [], []
        for row, decision in self.orders:
            version = row.outcome_version
            for delivery in withheld.get(row.order_id, ()):
                version += 1
                outcomes.append(_failed(row, decision.message, delivery, (epoch, version), now))
            dossier = decision.dossier.model_dump_json(exclude_defaults=True)
            messages = row.messages + (decision.message is not None)
            orders.append(ToldOrderRow(row.order_id, dossier, decision.tell_at, messages, version))
        return orders, outcomes


def _message_of(verdict: Verdict, message: Composed | None) -> UUID | None:
    """The message that tells an update, or that says how things stand instead of it."""
    return message.message_id if message is not None and verdict.state in {"told", "superseded"} else None


def _failed(
    row: TellingRow, message: Composed | None, delivery: NewDeliveryRow, version: tuple[int, int], now: datetime
) -> Outcome:
    if message is None:
        raise AssertionError("a delivery without message")
    return outcome(
        order_id=row.order_id,
        customer_id=row.customer_id,
        epoch=version[0],
        version=version[1],
        kind=message.kind,
        channel=delivery.channel,
        attempts=0,
        failure=delivery.reason,
        about=message.about,
        lines=message.content.lines,
        occurred_at=now,
        traceparent=message.traceparent,
    )
