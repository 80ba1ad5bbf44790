"""What a customer may ask for: everything that is held of them, and that it goes. And what goes by itself, by age."""

import base64
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from backorder_notifier import contact_store, privacy_store
from backorder_notifier.contacts import Customer
from backorder_notifier.letters import about_customer, addresses_of, concerns, domains_of
from backorder_notifier.privacy_store import Addressed, Json, Letter, Purged
from backorder_notifier.statements import Connection

FORGOTTEN: Final = "forgotten"
_LINKS: Final = ("order_url", "tracking_number", "tracking_url")
"""Keys in stored JSON whose values show a page that says who ordered."""
_PORTION: Final = 500  # orders a transaction: nobody waits long for their locks
_PORTION_BYTES: Final = 8 * 2**20  # of dead letters in memory


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was erased.

    `in_hand`: messages that were being handed over at that moment and may still arrive. `published`: of the dead
    letters, those that are on notifier.dlq too, where only Kafka's retention erases them.
    """

    customer_id: str
    known: bool
    orders: int = 0
    deliveries: int = 0
    in_hand: int = 0
    updates: int = 0
    suppressions: int = 0
    dead_letters: int = 0
    published: int = 0


async def forget(connection: Connection, customer_id: str, now: datetime) -> Forgotten:
    """Erase how a customer is reached, wherever it is, and send them nothing more of what was decided so far.

    Runs beside working processes. The customer is marked: what was recorded before `now` and is read later brings
    nothing back. What they want (channels, no optional messages) stays, so that a "no" outlives the request. Broken
    off in between, it can be run again: dead letters go first, while the addresses to look for in them are known.
    """
    known, named = await _look(connection, customer_id)
    erased, last_letter = await _forget_letters(connection, customer_id, named, 0, Forgotten(customer_id, known), now)

    async with connection.transaction():
        customer = await _lock(connection, customer_id)
        erased = await _unsuppress(connection, [Addressed("", customer.email, customer.phone)], erased)
        marked = Customer(
            customer_id,
            revision=customer.revision,
            channels=customer.channels,
            optional_kinds=customer.optional_kinds,
            unsubscribed_at=customer.unsubscribed_at,
            forgotten_at=now,
        )
        await contact_store.save_customers(connection, [marked])
    after = ""
    while True:
        async with connection.transaction():
            portion = await privacy_store.lock_orders_of_customer(connection, customer_id, after, _PORTION)
            if not portion:
                break
            erased = await _forget_orders(connection, portion, erased, now)
        named += portion
        after = portion[-1].order_id
    # Once more, for what came meanwhile: a message in hand whose address was refused, letters that were buried.
    erased = await _unsuppress(connection, named, erased)
    await privacy_store.forget_domains(connection, domains_of(named))
    erased, _ = await _forget_letters(connection, customer_id, named, last_letter, erased, now)
    return erased


async def _look(connection: Connection, customer_id: str) -> tuple[bool, list[Addressed]]:
    """Whether the customer is known, and the addresses held of them now."""
    customer = await privacy_store.export_customer(connection, customer_id)
    found = [Addressed("", customer["email"], customer["phone"])] if customer else []
    after = ""
    while portion := await privacy_store.orders_of_customer(connection, customer_id, after, _PORTION):
        found += portion
        after = portion[-1].order_id
    return customer is not None or bool(found), found


async def _lock(connection: Connection, customer_id: str) -> Customer:
    customers = await contact_store.lock_customers(connection, [customer_id])
    if not customers:
        # A row even for one who is not known: messages about them may be on the way.
        await contact_store.stub_customers(connection, [customer_id])
        customers = await contact_store.lock_customers(connection, [customer_id])
    return customers[customer_id]


async def _forget_orders(
    connection: Connection, orders: Collection[Addressed], erased: Forgotten, now: datetime
) -> Forgotten:
    order_ids = [order.order_id for order in orders]
    withdrawn = await contact_store.withdraw_messages(connection, order_ids, None, FORGOTTEN, now)
    dropped = await privacy_store.drop_pending(connection, order_ids, FORGOTTEN, now)
    erased = await _unsuppress(connection, orders, erased)
    changed = await privacy_store.erase_orders(connection, order_ids, _LINKS)
    return replace(
        erased,
        orders=erased.orders + changed,
        deliveries=erased.deliveries + withdrawn.deliveries,
        in_hand=erased.in_hand + withdrawn.in_hand,
        updates=erased.updates + withdrawn.updates + dropped,
    )


async def _unsuppress(connection: Connection, named: Iterable[Addressed], erased: Forgotten) -> Forgotten:
    count = await privacy_store.unsuppress(connection, addresses_of(named))
    return replace(erased, suppressions=erased.suppressions + count)


async def _forget_letters(
    connection: Connection, customer_id: str, named: Iterable[Addressed], after: int, erased: Forgotten, now: datetime
) -> tuple[Forgotten, int]:
    """Also the id of the last dead letter looked at."""
    about = about_customer(customer_id, named)
    while letters := await privacy_store.page_dead_letters(connection, after, _PORTION, _PORTION_BYTES):
        theirs = [letter for letter in letters if concerns(letter, about)]
        if theirs:
            ids = [letter.dead_letter_id for letter in theirs]
            count = await privacy_store.erase_dead_letters(connection, ids, "erased: its customer was forgotten", now)
            published = sum(letter.published_at is not None for letter in theirs)
            erased = replace(erased, dead_letters=erased.dead_letters + count, published=erased.published + published)
        after = letters[-1].dead_letter_id
    return erased, after


async def export(connection: Connection, customer_id: str) -> Json:
    """Everything that is held of a customer, as JSON. Keys are part of the contract.

    Of bytes that are no text, base64. `customer` is null where only orders name them.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        customer = await privacy_store.export_customer(connection, customer_id)
        named = [Addressed("", customer["email"], customer["phone"])] if customer else []
        orders: list[Json] = []
        after = ""
        while portion := await privacy_store.export_orders(connection, customer_id, after, _PORTION):
            named += [addressed for addressed, _ in portion]
            orders += [held for _, held in portion]
            after = portion[-1][0].order_id
        suppressions = await privacy_store.export_suppressions(connection, addresses_of(named))
        parked = await privacy_store.export_parked(connection, [each.order_id for each in named])
        about = about_customer(customer_id, named)
        letters: list[Letter] = []
        last = 0
        while page := await privacy_store.page_dead_letters(connection, last, _PORTION, _PORTION_BYTES):
            letters += [letter for letter in page if concerns(letter, about)]
            last = page[-1].dead_letter_id
    return {
        "customer_id": customer_id,
        "customer": customer,
        "orders": orders,
        "suppressions": [each | {"suppressed_at": each["suppressed_at"].isoformat()} for each in suppressions],
        "parked": [_shown_parked(each) for each in parked],
        "dead_letters": [_shown_letter(each) for each in letters],
    }


async def purge(connection: Connection, older_than: datetime, now: datetime, limit: int = 500) -> Purged:
    """Remove messages and contact data of at most `limit` orders that have been over since before `older_than`.

    What stays (the order's row with its dossier, `versions`) is what it takes to know an event that is read again.
    """
    async with connection.transaction():
        order_ids = await privacy_store.lock_orders_to_purge(connection, older_than, limit)
        if not order_ids:
            return Purged()
        purged = await privacy_store.purge_orders(connection, order_ids, now)
        await privacy_store.erase_orders(connection, order_ids, _LINKS)
    return purged


# How it is shown


def _shown_parked(row: Json) -> Json:
    return {
        "topic": row["topic"],
        "key": row["key"],
        "epoch": row["epoch"],
        "version": row["version"],
        "recorded_at": row["recorded_at"].isoformat(),
        "parked_at": row["parked_at"].isoformat(),
        "value": _text(row["record_value"]),
    }


def _shown_letter(letter: Letter) -> Json:
    names = (name.decode(errors="replace") for name in letter.header_names)
    return {
        "dead_letter_id": letter.dead_letter_id,
        "topic": letter.full_topic,
        "partition": letter.partition,
        "offset": letter.record_offset,
        "recorded_at": letter.recorded_at.isoformat(),
        "failed_at": letter.failed_at.isoformat(),
        "reason": letter.reason,
        "key": _text(letter.key),
        "value": _text(letter.value),
        "headers": [[name, _text(value)] for name, value in zip(names, letter.header_values, strict=True)],
    }


def _text(value: bytes | None) -> Any:
    """As `dlq show --reveal` has it."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
