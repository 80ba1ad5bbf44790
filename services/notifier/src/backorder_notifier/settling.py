"""What became of a try, written down in one transaction.

An acceptance is a fact: whatever was decided about the delivery while it was on its way (a sender's lease may end, and
a newer message replace it), its state becomes `sent`, and subscribers are told so. What the customer was last told
follows the accepted messages of an order by position and never goes back. Every other end of a try counts only while
its sender has the lease.
"""

from datetime import datetime, timedelta
from typing import Final, Literal

from backorder_notifier import delivery_store, store, told_store
from backorder_notifier.channel import Answer
from backorder_notifier.contacts import suppression_key
from backorder_notifier.delivering import Patience
from backorder_notifier.delivery_store import ClaimedRow
from backorder_notifier.outcomes import outcome
from backorder_notifier.statements import Connection
from backorder_notifier.telemetry import ACCEPTED_SECONDS, ATTEMPTS, FENCED, POLICY_REFUSALS, logger

log = logger("sending")

_LONGEST_RETRY_AFTER: Final = timedelta(hours=6)  # whatever a provider says

Settled = Literal["accepted", "ended", "again", "lost"]
"""accepted, ended: for good. again: later. lost: it was another's by then, nothing was changed."""


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
    if row.domain is not None and row.domain_refused:
        await delivery_store.clear_domain(connection, row.domain)
    if not await delivery_store.settle_sent(connection, row.delivery_id, now):
        return False
    version = await delivery_store.record_acceptance(connection, row, now)
    await _publish(connection, row, version, None, row.attempts, now)
    return True


async def _ended(connection: Connection, row: ClaimedRow, answer: Answer, reason: str, now: datetime) -> bool:
    await delivery_store.lock_order_to_settle(connection, row.order_id)
    address = suppression_key(row.channel, row.contact)
    if answer.suppress and address is not None:
        # The address is dead, whatever became of this delivery meanwhile; of who was forgotten meanwhile none is kept.
        known = await told_store.contacts_to_tell(connection, [row.order_id])
        if not known[row.order_id].forgotten:
            await delivery_store.suppress(connection, row.channel, address, reason, now)
    attempts = row.attempts if answer.tried else row.attempts - 1
    state = "failed" if attempts else "withheld"
    if not await delivery_store.settle_not_sent(connection, row, state, reason, now, attempts):
        return False
    version = await delivery_store.count_outcome(connection, row.order_id)
    await _publish(connection, row, version, reason, attempts, now)
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


async def _publish(
    connection: Connection, row: ClaimedRow, version: tuple[int, int], failure: str | None, attempts: int, now: datetime
) -> None:
    told = outcome(
        order_id=row.order_id,
        customer_id=row.contact.customer_id,
        epoch=version[0],
        version=version[1],
        kind=row.kind,
        channel=row.channel,
        attempts=attempts,
        failure=failure,
        about=row.about,
        lines=row.content.lines,
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
            FENCED.labels("delivery").inc()
            log.warning("lease_was_lost", delivery_id=delivery_id, outcome=answer.verdict)
        case "ended" | "again":
            pass
