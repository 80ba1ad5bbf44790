"""Who ordered and how to reach them: what is kept of an OrderPlaced, and whether a mail can go there."""

import re
from dataclasses import dataclass
from datetime import datetime

from backorder_schemas import OrderPlaced

# RFC 5321 forms that real servers take: an ASCII dot-atom before the @, a dotted name after it (of any script: it goes
# out in its ASCII form). Quoted local parts and address literals are refused: legal, unused, and a hole for tricks.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Contact:
    """One order's customer, as the first OrderPlaced of it said. `withheld` says why no mail can be sent, if so."""

    order_id: str
    customer_id: str
    email: str | None
    phone: str | None
    name: str | None
    locale: str
    timezone: str
    order_url: str | None
    delivery: str
    placed_at: datetime

    @property
    def withheld(self) -> str | None:
        if self.email is None:
            return "no_email"
        return None if is_mail_address(self.email) else "invalid_email"


def contact_of(order: OrderPlaced) -> Contact:
    customer = order.customer
    return Contact(
        order_id=order.order_id,
        customer_id=customer.customer_id,
        email=customer.email,
        phone=customer.phone,
        name=customer.name,
        locale=customer.locale,
        timezone=customer.timezone,
        order_url=order.order_url,
        delivery=order.delivery,
        placed_at=order.placed_at,
    )


def is_mail_address(text: str) -> bool:
    """Whether a mail can be addressed to `text`: one plain address, nothing that could end a header or a command."""
    try:
        wire_address(text)
    except ValueError:
        return False
    return True


def wire_address(text: str) -> str:
    """An address as it goes over the wire, its domain in ASCII. Raises ValueError for one that no mail can go to."""
    local, _, domain = text.rpartition("@")
    try:
        ascii_domain = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("the domain is none") from None
    labels = ascii_domain.split(".")
    # "=?" begins an encoded word: Python's library decodes one in a To header, and lets it write headers of its own.
    plain = "=?" not in local and _LOCAL.fullmatch(local) and all(_LABEL.fullmatch(label) for label in labels)
    # Lengths of RFC 5321 4.5.3.1. A name without a dot is nobody's but this machine's.
    if not plain or len(local) > 64 or len(ascii_domain) > 253 or (len(labels) < 2 and ascii_domain != "localhost"):
        raise ValueError("not an address that mail can go to")
    return f"{local}@{ascii_domain}"
