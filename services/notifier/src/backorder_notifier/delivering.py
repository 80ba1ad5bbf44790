"""One delivery: claimed, handed over, settled. What became of a try is written down in one transaction.

An acceptance is a fact: whatever was decided about the delivery while it was on its way (a sender's lease may end, and
a newer message replace it), its state becomes `sent`, and subscribers are told so. What the customer was last told
follows the accepted messages of an order by position and never goes back. Every other end of a try counts only while
its sender has the lease.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import uuid4

from backorder_notifier import delivery_store, store, told_store
from backorder_notifier.channel import Answer, ChannelSender, Outgoing, Recipient
from backorder_notifier.contacts import reachable, suppression_key
from backorder_notifier.delivery_store import ClaimedRow
from backorder_notifier.errors import describe
from backorder_notifier.kinds import OPTIONAL, Channel
from backorder_notifier.outcomes import outcome
from backorder_notifier.statements import Connection
from backorder_notifier.telemetry import ACCEPTED_SECONDS, ATTEMPTS, POLICY_REFUSALS, logger

log = logger("sending")

_LOOK_AT: Final = 500  # deliveries a claim looks at while some domain is to be left alone
_LONGEST_RETRY_AFTER: Final = timedelta(hours=6)  # whatever a provider says


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a sender has a delivery for itself, when it tries again, when it gives up."""

    lease: timedelta
    retry_first: timedelta
    retry_longest: timedelta
    give_up_after: timedelta

    def retry_in(self, attempts: int) -> timedelta:
        """After this many attempts: doubling, with a fifth of jitter either way so that retries spread."""
        seconds = self.retry_first.total_seconds() * 2 ** min(attempts - 1, 30)
        return timedelta(seconds=min(seconds, self.retry_longest.total_seconds()) * random.uniform(0.8, 1.2))  # noqa: S311


@dataclass(frozen=True, slots=True)
class Limits:
    """What all processes together hand to one provider: `per_second` (as much at once), `in_flight` at a time."""

    per_second: float = 50.0
    in_flight: int = 4

    @property
    def burst(self) -> float:
        return max(1.0, self.per_second)


@dataclass(frozen=True, slots=True)
class Provider:
    """One channel's way out."""

    sender: ChannelSender
    limits: Limits
    patience: Patience


@dataclass(frozen=True, slots=True)
class Claim:
    """`withheld` are those that nothing can be sent to (any more), with the reason. `wait`: until there is a token."""

    rows: tuple[ClaimedRow, ...] = ()
    withheld: tuple[tuple[ClaimedRow, str], ...] = ()
    set_aside: int = 0
    wait: timedelta | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.withheld or self.set_aside)


Settled = Literal["accepted", "ended", "again", "lost"]
"""accepted, ended: for good. again: later. lost: it was another's by then, nothing was changed."""


async def claim(connection: Connection, channel: Channel, provider: Provider, now: datetime, most: int) -> Claim:
    """At most so many deliveries of a channel, as far as its provider's limits go."""
    if most < 1 or not await delivery_store.is_anything_due(connection, channel, now):
        return Claim()
    limits, patience = provider.limits, provider.patience
    async with connection.transaction():
        tokens = await delivery_store.refill_provider(connection, channel, now, limits.per_second, limits.burst)
        if tokens < 1:
            return Claim(wait=timedelta(seconds=(1 - tokens) / limits.per_second))
        load = await delivery_store.read_load(connection, channel, now)
        take = min(most, limits.in_flight - load.in_flight, int(tokens))
        if take < 1:
            return Claim()
        rows, set_aside = await delivery_store.claim_deliveries(
            connection,
            channel,
            now,
            look_at=max(take, _LOOK_AT) if load.domains_wait else take,
            take=take,
            lease=uuid4(),
            lease_ends_at=now + patience.lease,
            give_up_before=now - patience.give_up_after,
        )
    for row in rows:
        if row.sender_lost:
            ATTEMPTS.labels(row.kind, channel, "ambiguous").inc()
            log.warning("sender_was_lost", delivery_id=str(row.delivery_id), attempt=row.attempts - 1)
    reasons = await _why_not(connection, channel, rows)
    return Claim(
        tuple(row for row, reason in zip(rows, reasons, strict=True) if reason is None),
        tuple((row, reason) for row, reason in zip(rows, reasons, strict=True) if reason is not None),
        set_aside,
    )


async def _why_not(connection: Connection, channel: Channel, rows: list[ClaimedRow]) -> list[str | None]:
    """Since a message was composed its customer may have been forgotten or unsubscribed, its address be found dead."""
    keys = [suppression_key(channel, row.contact) for row in rows]
    asked = {(channel, key) for key in keys if key is not None}
    suppressed = await told_store.suppressed_addresses(connection, asked) if asked else set()
    reasons: list[str | None] = []
    for row, key in zip(rows, keys, strict=True):
        optional = row.kind in OPTIONAL
        dead = [channel] if (channel, key) in suppressed else []
        unwanted = "optional_kinds_off" if optional and not row.contact.optional_kinds else None
        reasons.append(unwanted or reachable(row.contact, [channel], dead, optional=optional)[channel])
    return reasons


async def hand_over(sender: ChannelSender, row: ClaimedRow, now: datetime) -> Answer:
    """One try. Never raises but for cancellation."""
    contact = row.contact
    outgoing = Outgoing(
        delivery_id=row.delivery_id,
        message_id=row.message_id,
        order_id=row.order_id,
        content=row.content,
        recipient=Recipient(
            customer_id=contact.customer_id,
            email=contact.email,
            phone=contact.phone,
            name=contact.name,
            locale=contact.locale,
            timezone=contact.timezone,
            unsubscribe_token=contact.unsubscribe_token,
        ),
        about=row.about,
        composed_at=row.composed_at,
    )
    try:
        return await sender.send(outgoing, now)
    except Exception as error:
        # A bug here: keep the delivery, look at the log, try again later.
        log.error("sending_failed", delivery_id=str(row.delivery_id), kind=row.kind, **describe(error))
        return Answer("later", "could not be made")


async def settle(
    connection: Connection, row: ClaimedRow, answer: Answer, patience: Patience, *, tried_at: datetime, now: datetime
) -> Settled:
    """Write down what became of one try, in one transaction that locks order, domain and delivery, in this order."""
    given_up = answer.verdict not in {"sent", "never"} and now - row.first_attempt_at > patience.give_up_after
    async with connection.transaction():
        match answer.verdict:
            case "sent":
                settled: Settled = "accepted" if await _accepted(connection, row, now) else "lost"
            case "never":
                settled = "ended" if await _ended(connection, row, answer, str(answer.reason), now) else "lost"
            case _ if given_up:
                reason = f"gave up: {answer.reason}"
                settled = "ended" if await _ended(connection, row, answer, reason, now) else "lost"
            case _:
                settled = "again" if await _again(connection, row, answer, patience, tried_at, now) else "lost"
        if answer.tried:
            await delivery_store.record_attempt(connection, row, tried_at, answer.verdict, answer.reason)
    _count(row, answer, settled, given_up=given_up, now=now)
    return settled


async def _accepted(connection: Connection, row: ClaimedRow, now: datetime) -> bool:
    await delivery_store.lock_order_to_settle(connection, row.order_id)
    if row.domain is not None:
        await delivery_store.clear_domain(connection, row.domain)
    if not await delivery_store.settle_sent(connection, row.delivery_id, now):
        return False
    await delivery_store.record_told(connection, row, now)
    await _publish(connection, row, None, row.attempts, now)
    return True


async def _ended(connection: Connection, row: ClaimedRow, answer: Answer, reason: str, now: datetime) -> bool:
    await delivery_store.lock_order_to_settle(connection, row.order_id)
    address = suppression_key(row.channel, row.contact)
    if answer.suppress and address is not None:
        # The address is dead, whatever became of this delivery meanwhile.
        await delivery_store.suppress(connection, row.channel, address, reason, now)
    attempts = row.attempts if answer.tried else row.attempts - 1
    state = "failed" if attempts else "withheld"
    if not await delivery_store.settle_not_sent(connection, row, state, reason, now, attempts):
        return False
    await _publish(connection, row, reason, attempts, now)
    return True


async def _again(
    connection: Connection, row: ClaimedRow, answer: Answer, patience: Patience, tried_at: datetime, now: datetime
) -> bool:
    if answer.whole_domain and row.domain is not None:
        first, longest = patience.retry_first.total_seconds(), patience.retry_longest.total_seconds()
        await delivery_store.back_off_domain(connection, row.domain, now, tried_at, first, longest)
    # That a provider can't be reached says nothing about this delivery.
    wait = patience.retry_in(row.attempts if answer.verdict != "unreachable" else 1)
    if answer.retry_after is not None:
        wait = max(wait, min(answer.retry_after, _LONGEST_RETRY_AFTER))
    in_doubt = answer.verdict == "ambiguous"
    return await delivery_store.retry_later(connection, row, answer.reason, now + wait, in_doubt=in_doubt)


async def _publish(connection: Connection, row: ClaimedRow, failure: str | None, attempts: int, now: datetime) -> None:
    told = outcome(
        order_id=row.order_id,
        customer_id=row.contact.customer_id,
        version=await delivery_store.count_outcome(connection, row.order_id),
        kind=row.kind,
        channel=row.channel,
        attempts=attempts,
        failure=failure,
        about=row.about,
        occurred_at=now,
        traceparent=row.traceparent,
    )
    await store.append_outbox(connection, [told])


def _count(row: ClaimedRow, answer: Answer, settled: Settled, *, given_up: bool, now: datetime) -> None:
    verdict = "gave_up" if given_up else answer.verdict if answer.tried else "withheld"
    delivery_id = str(row.delivery_id)
    ATTEMPTS.labels(row.kind, row.channel, verdict).inc()
    if answer.policy:
        POLICY_REFUSALS.labels(row.channel).inc()
        log.error("refused_by_policy", delivery_id=delivery_id, channel=row.channel, reason=answer.reason)
    elif verdict in {"never", "ambiguous", "gave_up"}:
        log.warning("not_delivered", delivery_id=delivery_id, outcome=verdict, reason=answer.reason)
    match settled:
        case "accepted":
            seconds = max(0.0, (now - row.occurred_at).total_seconds())
            ACCEPTED_SECONDS.labels(row.kind, row.channel).observe(seconds)
        case "lost":
            log.warning("lease_was_lost", delivery_id=delivery_id, outcome=answer.verdict)
        case "ended" | "again":
            pass
