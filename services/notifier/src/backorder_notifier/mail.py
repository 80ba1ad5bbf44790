"""From words to the bytes of a mail: headers that hold a thread together and keep answering machines quiet."""

from datetime import datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from uuid import UUID, uuid5

from backorder_notifier.rendering import Rendered
from backorder_notifier.settings import Sender

# Structured headers longer than 78 characters would become encoded words, which no client reads as an address or URL.
_POLICY: Final = SMTP.clone(max_line_length=998)
_THREADS: Final = UUID("7a3e0c55-1f86-4c2e-8b41-63a7d1c9f0de")


def message_id(delivery_id: UUID, sender: Sender) -> str:
    """The same on every attempt, so that a mail sent twice can be shown once."""
    return f"<{delivery_id}@{sender.domain}>"


def subject_header(subject: str) -> str:
    """A subject as it stands in the header; `subject` is one line.

    Not left to the message: it would *decode* what looks like an encoded word, so that an order called
    "=?utf-8?q?=0D=0ABcc:...?=" wrote headers of its own, and write words longer than the 75 characters of RFC 2047.
    """
    if subject.isascii() and "=?" not in subject:
        return subject
    return Header(subject, "utf-8", header_name="Subject", maxlinelen=75).encode()


def mail_bytes(
    delivery_id: UUID, order_id: str, recipient: str, rendered: Rendered, sender: Sender, now: datetime
) -> bytes:
    """One mail as it is handed over. `recipient` is an address that `contacts.is_mail_address` takes."""
    mail = EmailMessage(policy=_POLICY)
    local, _, domain = sender.address.rpartition("@")
    mail["From"] = Address(display_name=sender.name or "", username=local, domain=domain)
    # The bare address: a name from outside has no business in a header.
    local, _, domain = recipient.rpartition("@")
    mail["To"] = Address(username=local, domain=domain)
    mail.set_raw("Subject", subject_header(rendered.subject))
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = message_id(delivery_id, sender)
    mail["References"] = f"<order-{uuid5(_THREADS, order_id)}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail.set_content(rendered.text, cte="quoted-printable")
    mail.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    # After the parts: making an alternative moves Content-… headers into the first of them.
    mail["Content-Language"] = rendered.language
    return mail.as_bytes(policy=_POLICY)
