"""What sending asks and writes: one function a statement, named as its file in sql/."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from backorder_notifier.contacts import Contact
from backorder_notifier.content import Content
from backorder_notifier.kinds import Channel, Kind
from backorder_notifier.statements import Connection, columns, run


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """A delivery that this sender alone may try until its lease ends, and all it takes to do so. Never logged.

    `sender_lost`: whoever had it before never said what became of the try. `domain`: of the mail address;
    `domain_refused`: its server asked us to wait the last time.
    """

    delivery_id: UUID
    message_id: UUID
    order_id: str
    channel: Channel
    attempts: int
    first_attempt_at: datetime
    lease: UUID
    sender_lost: bool
    domain: str | None
    domain_refused: bool
    kind: Kind
    content: Content
    about: tuple[str, ...]
    occurred_at: datetime
    composed_at: datetime
    traceparent: str | None
    contact: Contact


@dataclass(frozen=True, slots=True)
class LoadRow:
    """How much of a provider is in use. `domains_wait`: some are to be left alone for now."""

    in_flight: int
    domains_wait: bool


# Claiming


async def is_anything_due(connection: Connection, channel: Channel, now: datetime) -> bool:
    return bool((await run(connection, "is_anything_due", channel, now))[0]["due"])


async def refill_provider(
    connection: Connection, channel: Channel, now: datetime, per_second: float, most: float
) -> float:
    """The tokens that there are now; the provider is locked."""
    return float((await run(connection, "refill_provider", channel, now, per_second, most))[0]["tokens"])


async def read_load(connection: Connection, channel: Channel, now: datetime) -> LoadRow:
    return LoadRow(*(await run(connection, "read_load", channel, now))[0])


async def claim_deliveries(
    connection: Connection,
    channel: Channel,
    now: datetime,
    *,
    look_at: int,
    take: int,
    lease: UUID,
    lease_ends_at: datetime,
    give_up_before: datetime,
) -> tuple[list[ClaimedRow], int]:
    """What was taken, and how many were set aside because their domain waits."""
    bounds = (look_at, take, lease, lease_ends_at, give_up_before)
    rows = await run(connection, "claim_deliveries", channel, now, *bounds)
    claimed = [
        ClaimedRow(
            delivery_id=row["delivery_id"],
            message_id=row["message_id"],
            order_id=row["order_id"],
            channel=row["channel"],
            attempts=row["attempts"],
            first_attempt_at=row["first_attempt_at"],
            lease=row["lease"],
            sender_lost=row["sender_lost"],
            domain=row["domain"] if channel == "email" else None,
            domain_refused=row["domain_refused"],
            kind=row["kind"],
            content=Content.model_validate_json(row["content"]),
            about=tuple(row["about"]),
            occurred_at=row["occurred_at"],
            composed_at=row["composed_at"],
            traceparent=row["traceparent"],
            contact=Contact(
                order_id=row["order_id"],
                customer_id=row["customer_id"],
                email=row["email"],
                phone=row["phone"],
                name=row["name"],
                locale=row["locale"],
                timezone=row["timezone"],
                channels=None if row["channels"] is None else tuple(row["channels"]),
                optional_kinds=row["optional_kinds"],
                unsubscribe_token=row["unsubscribe_token"],
                forgotten=row["forgotten"],
            ),
        )
        for row in rows
        if row["delivery_id"] is not None
    ]
    return sorted(claimed, key=lambda row: (row.composed_at, row.order_id)), rows[0]["set_aside"]


async def unclaim(connection: Connection, rows: Iterable[ClaimedRow], now: datetime) -> None:
    await run(connection, "unclaim", *columns([(row.delivery_id, row.lease) for row in rows], 2), now)


async def put_off(
    connection: Connection, channel: Channel, rows: Iterable[tuple[ClaimedRow, datetime]], reason: str
) -> None:
    """Each to its time; nothing was tried. In the transaction of the claim."""
    times = [(row.delivery_id, row.lease, due_at) for row, due_at in rows]
    await run(connection, "put_off", channel, reason, *columns(times, 3))


async def renew_leases(connection: Connection, rows: Iterable[ClaimedRow], ends_at: datetime) -> None:
    await run(connection, "renew_leases", *columns([(row.delivery_id, row.lease) for row in rows], 2), ends_at)


# Settling


async def record_attempt(
    connection: Connection, row: ClaimedRow, now: datetime, outcome: str, reason: str | None
) -> None:
    await run(connection, "record_attempt", row.delivery_id, row.attempts, now, outcome, reason)


async def retry_later(
    connection: Connection, row: ClaimedRow, reason: str | None, due_at: datetime, *, in_doubt: bool
) -> bool:
    """False: the lease is another's now, or it was settled before."""
    then = (reason, due_at, row.domain, int(in_doubt))
    return bool(await run(connection, "retry_later", row.delivery_id, row.lease, *then))


async def back_off_domain(
    connection: Connection, domain: str, now: datetime, tried_at: datetime, first_seconds: float, most_seconds: float
) -> None:
    await run(connection, "back_off_domain", domain, now, tried_at, first_seconds, most_seconds)


async def clear_domain(connection: Connection, domain: str) -> None:
    await run(connection, "clear_domain", domain)


async def lock_order_to_settle(connection: Connection, order_id: str) -> None:
    await run(connection, "lock_order_to_settle", order_id)


async def settle_sent(connection: Connection, delivery_id: UUID, now: datetime) -> bool:
    """False: it was known before."""
    return bool(await run(connection, "settle_sent", delivery_id, now))


async def settle_not_sent(
    connection: Connection, row: ClaimedRow, state: str, reason: str, now: datetime, attempts: int
) -> bool:
    """False: the lease is another's now, or it was settled before."""
    end = (state, reason, now, attempts)
    return bool(await run(connection, "settle_not_sent", row.delivery_id, row.lease, *end))


async def count_outcome(connection: Connection, order_id: str) -> tuple[int, int]:
    """The epoch, and the order's next version on notifications."""
    row = (await run(connection, "count_outcome", order_id))[0]
    return row["epoch"], row["outcome_version"]


async def record_acceptance(connection: Connection, row: ClaimedRow, now: datetime) -> tuple[int, int]:
    """The epoch, and the order's next version on notifications."""
    rows = await run(connection, "record_acceptance", row.order_id, row.message_id, row.channel, now)
    return rows[0]["epoch"], rows[0]["outcome_version"]


async def suppress(connection: Connection, channel: Channel, address: str, reason: str, now: datetime) -> None:
    await run(connection, "suppress", channel, address, reason, now)
