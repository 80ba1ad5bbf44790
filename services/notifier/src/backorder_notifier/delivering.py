"""One delivery: claimed within the limits of its provider, and handed over."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from backorder_notifier import delivery_store, told_store
from backorder_notifier.channel import Answer, ChannelSender, Outgoing, Recipient
from backorder_notifier.contacts import reachable, suppression_key
from backorder_notifier.delivery_store import ClaimedRow
from backorder_notifier.errors import describe
from backorder_notifier.kinds import OPTIONAL, Channel, Kind
from backorder_notifier.policy import QuietHours
from backorder_notifier.statements import Connection
from backorder_notifier.telemetry import ATTEMPTS, logger
from backorder_notifier.timing import after_quiet_hours, zone_of

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
    quiet_hours: QuietHours | None = None
    not_quiet: frozenset[Kind] = frozenset()

    def begin(self, row: ClaimedRow, now: datetime) -> datetime:
        """When it may be tried: now, or after its customer's quiet hours, which a retry or a queue may run into."""
        quiet = None if row.kind in self.not_quiet else self.quiet_hours
        return after_quiet_hours(now, quiet, zone_of(row.contact.timezone))


@dataclass(frozen=True, slots=True)
class Claim:
    """What was taken; `withheld`: where nothing can be sent any more, with the reason.

    `set_aside`: how many were put off without a try. `wait`: until the provider may be given the next.
    """

    rows: tuple[ClaimedRow, ...] = ()
    withheld: tuple[tuple[ClaimedRow, str], ...] = ()
    set_aside: int = 0
    wait: timedelta | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.withheld or self.set_aside)


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
        quiet = [(row, begin) for row in rows if (begin := provider.begin(row, now)) > now]
        if quiet:
            await delivery_store.put_off(connection, channel, quiet, "quiet_hours")
            rows = [row for row in rows if provider.begin(row, now) <= now]
            set_aside += len(quiet)
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
