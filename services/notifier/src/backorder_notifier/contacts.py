"""How customers are reached: what orders and customers said, which address that makes, and whether mail can go there.

An order says how its customer is reached, and so does the customer (ContactChanged): what was said last holds, field by
field. Both are kept as they were said and put together when read (view `contacts`), so that it doesn't matter which
of two topics is read first, and a change touches one row however many orders a customer has.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import assert_never

from email_validator import EmailNotValidError, validate_email

from backorder_notifier.kinds import Channel
from backorder_notifier.timing import storable
from backorder_schemas import ContactChanged, OrderPlaced


@dataclass(frozen=True, slots=True)
class OrderContact:
    """What an OrderPlaced says; None: nothing, so that the customer's own row or the default serves."""

    order_id: str
    customer_id: str
    email: str | None
    phone: str | None
    name: str | None
    locale: str | None
    timezone: str | None
    order_url: str | None
    delivery: str
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer's row: what ContactChanged and the unsubscribe link said. `…_at`: when the customer said it."""

    customer_id: str
    revision: int = 0
    email: str | None = None
    email_at: datetime | None = None
    phone: str | None = None
    phone_at: datetime | None = None
    name: str | None = None
    name_at: datetime | None = None
    locale: str | None = None
    locale_at: datetime | None = None
    timezone: str | None = None
    timezone_at: datetime | None = None
    channels: tuple[str, ...] | None = None  # None: never said
    optional_kinds: bool = True
    unsubscribe_token: str | None = None
    unsubscribed_at: datetime | None = None
    forgotten_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Contact:
    """How the customer of one order is reached: a row of the view `contacts`. Never logged."""

    order_id: str
    customer_id: str
    email: str | None
    phone: str | None
    name: str | None
    locale: str
    timezone: str
    channels: tuple[str, ...] | None
    optional_kinds: bool
    unsubscribe_token: str | None
    forgotten: bool  # and nothing was said since


def contact_of(order: OrderPlaced, recorded_at: datetime, forgotten_at: datetime | None) -> OrderContact:
    """What to keep of an OrderPlaced; of one recorded before its customer was forgotten, no contact data."""
    customer = order.customer
    kept = forgotten_at is None or recorded_at > forgotten_at
    return OrderContact(
        order_id=order.order_id,
        customer_id=customer.customer_id,
        email=customer.email if kept else None,
        phone=customer.phone if kept else None,
        name=customer.name if kept else None,
        # The message has defaults for these; only what was written counts as said.
        locale=customer.locale if kept and "locale" in customer.model_fields_set else None,
        timezone=customer.timezone if kept and "timezone" in customer.model_fields_set else None,
        order_url=order.order_url,
        delivery=order.delivery,
        placed_at=storable(order.placed_at),
    )


def changed(customer: Customer, change: ContactChanged, recorded_at: datetime) -> Customer:
    """The customer after a change: the same where its revision is not higher. Fields left out stay as they are.

    Preferences hold by arrival: whoever clicked "unsubscribe" and ticked the box in the shop afterwards wants messages.
    """
    if change.revision <= customer.revision:
        return customer
    after = replace(
        customer,
        revision=change.revision,
        channels=customer.channels if change.channels is None else change.channels,
        optional_kinds=customer.optional_kinds if change.optional_kinds is None else change.optional_kinds,
        unsubscribed_at=None if change.optional_kinds else customer.unsubscribed_at,
    )
    if customer.forgotten_at is not None and recorded_at <= customer.forgotten_at:
        return after
    at = storable(change.occurred_at)
    if change.email is not None:
        after = replace(after, email=change.email, email_at=at)
    if change.phone is not None:
        after = replace(after, phone=change.phone, phone_at=at)
    if change.name is not None:
        after = replace(after, name=change.name, name_at=at)
    if change.locale is not None:
        after = replace(after, locale=change.locale, locale_at=at)
    if change.timezone is not None:
        after = replace(after, timezone=change.timezone, timezone_at=at)
    return after


def reachable(
    contact: Contact, configured: Sequence[Channel], suppressed: Collection[Channel], *, optional: bool
) -> Mapping[Channel, str | None]:
    """For each configured channel: None, or why a message is withheld there.

    A customer's choice of channels holds; SMS only for those who named it; the webhook is the shop's own system and
    always gets everything. A message of a kind that can't be switched off goes to the customer all the same: over the
    first channel with an address.
    """
    without_address = {channel: _no_address(contact, channel, suppressed) for channel in configured}
    why_not: dict[Channel, str | None] = {
        channel: without_address[channel] if _is_chosen(contact, channel) else "channel_not_chosen"
        for channel in configured
    }
    to_the_customer = [channel for channel in configured if channel != "webhook"]
    if not optional and all(why_not[channel] for channel in to_the_customer):
        first = next((channel for channel in to_the_customer if without_address[channel] is None), None)
        if first is not None:
            why_not[first] = None
        elif to_the_customer and all(why_not[channel] == "channel_not_chosen" for channel in to_the_customer):
            # Not the choice is in the way but the address: say so, it is what somebody can do something about.
            why_not[to_the_customer[0]] = without_address[to_the_customer[0]]
    return why_not


def _is_chosen(contact: Contact, channel: Channel) -> bool:
    match channel:
        case "email":
            return contact.channels is None or channel in contact.channels
        case "sms":
            return contact.channels is not None and channel in contact.channels
        case "webhook":
            return True
        case _:
            assert_never(channel)


def _no_address(contact: Contact, channel: Channel, suppressed: Collection[Channel]) -> str | None:
    match channel:
        case "email":
            if contact.email is None:
                return "forgotten" if contact.forgotten else "no_email"
            if not is_mail_address(contact.email):
                return "invalid_email"
            return "suppressed" if channel in suppressed else None
        case "sms":
            if contact.phone is None:
                return "forgotten" if contact.forgotten else "no_phone"
            return "suppressed" if channel in suppressed else None
        case "webhook":
            return None
        case _:
            assert_never(channel)


def suppression_key(channel: Channel, contact: Contact) -> str | None:
    """The address as `suppressions` has it, one spelling for all that reach the same mailbox. None: there is none."""
    return dict(suppression_keys(contact.email, contact.phone)).get(channel)


def suppression_keys(email: str | None, phone: str | None) -> list[tuple[Channel, str]]:
    """(channel, address) of the addresses that something can be sent to."""
    keys: list[tuple[Channel, str]] = []
    if email is not None and is_mail_address(email):
        # No server that people use tells A from a, though RFC 5321 lets it.
        keys.append(("email", wire_address(email).lower()))
    if phone is not None:
        keys.append(("sms", phone))
    return keys


def is_mail_address(text: str) -> bool:
    """Whether a mail can be addressed to `text`: one plain address, nothing that could end a header or a command."""
    try:
        wire_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)  # a mail asks a dozen times on its way
def wire_address(text: str) -> str:
    """An address as it goes over the wire, its domain in ASCII. Raises ValueError for one that no mail can go to.

    Where the local part is not ASCII, only a server with SMTPUTF8 takes it.
    """
    try:
        # Quoted local parts and address literals are refused by default: legal, unused, and a hole for tricks.
        # test_environment: a domain under .test is fine (nobody has one, but trials do).
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        # Without its text and its cause, which repeat the address.
        raise ValueError("not an address that mail can go to") from None
    # "=?" begins an encoded word: Python's library decodes one in a To header, and lets it write headers of its own.
    # Servers count bytes (RFC 5321 4.5.3.1.1, RFC 6531 3.3).
    too_long = len(found.local_part.encode()) > 64
    if "=?" in found.local_part or "." not in found.ascii_domain or too_long:
        raise ValueError("not an address that mail can go to")
    return f"{found.local_part}@{found.ascii_domain}"
