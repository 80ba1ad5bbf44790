"""From words to the bytes of a mail: headers that hold a thread together and keep answering machines quiet."""

from collections.abc import Callable
from datetime import datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final, Protocol
from uuid import UUID, uuid5

from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.contacts import wire_address
from backorder_notifier.kinds import OPTIONAL
from backorder_notifier.setting_values import Sender
from backorder_notifier.smtp import MailServer

# Structured headers longer than 78 characters would become encoded words, which no client reads as an address or URL.
_POLICY: Final = SMTP.clone(max_line_length=998)
_POLICY_UTF8: Final = _POLICY.clone(utf8=True)
_THREADS: Final = UUID("7a3e0c55-1f86-4c2e-8b41-63a7d1c9f0de")


class MailWords(Protocol):
    """What a mail says. `subject` is one line."""

    @property
    def subject(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def html(self) -> str: ...
    @property
    def language(self) -> str: ...


class MailChannel:
    """Mails to customers. `public_url`: where this service's unsubscribe page is reached, if it is."""

    def __init__(
        self,
        server: MailServer,
        sender: Sender,
        words: Callable[[Outgoing], MailWords],
        public_url: str | None = None,
    ) -> None:
        self._server = server
        self._sender = sender
        self._words = words
        self._public_url = public_url

    async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
        if outgoing.recipient.email is None:
            return Answer("never", "no_email", tried=False)
        try:
            recipient = wire_address(outgoing.recipient.email)
        except ValueError:
            return Answer("never", "invalid_email", tried=False)
        mail = mail_bytes(
            outgoing.delivery_id,
            outgoing.order_id,
            recipient,
            self._words(outgoing),
            self._sender,
            now,
            unsubscribe_url=unsubscribe_url(outgoing, self._public_url),
        )
        return await self._server.send(self._sender.address, recipient, mail)

    async def close(self) -> None:
        await self._server.close()


def unsubscribe_url(outgoing: Outgoing, public_url: str | None) -> str | None:
    """Where the customer ends messages of this kind with one click; None for kinds that can't be switched off."""
    token = outgoing.recipient.unsubscribe_token
    if outgoing.content.kind not in OPTIONAL or token is None or public_url is None:
        return None
    return f"{public_url.rstrip('/')}/unsubscribe/{token}"


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
    delivery_id: UUID,
    order_id: str,
    recipient: str,
    words: MailWords,
    sender: Sender,
    now: datetime,
    *,
    unsubscribe_url: str | None = None,
) -> bytes:
    """One mail as it is handed over. `recipient` is what `contacts.wire_address` made."""
    policy = _POLICY if recipient.isascii() else _POLICY_UTF8
    mail = EmailMessage(policy=policy)
    local, _, domain = sender.address.rpartition("@")
    mail["From"] = Address(display_name=sender.name or "", username=local, domain=domain)
    # The bare address: a name from outside has no business in a header.
    local, _, domain = recipient.rpartition("@")
    mail["To"] = Address(username=local, domain=domain)
    mail.set_raw("Subject", subject_header(words.subject))
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = message_id(delivery_id, sender)
    # One root an order, which no mail has: so that all mails of the order are one thread, whichever arrive.
    root = f"<order-{uuid5(_THREADS, order_id)}@{sender.domain}>"
    mail["In-Reply-To"] = root
    mail["References"] = root
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if unsubscribe_url is not None:
        mail["List-Unsubscribe"] = f"<{unsubscribe_url}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"  # RFC 8058
    mail.set_content(words.text, cte="quoted-printable")
    mail.add_alternative(words.html, subtype="html", cte="quoted-printable")
    # After the parts: making an alternative moves Content-… headers into the first of them.
    mail["Content-Language"] = words.language
    return mail.as_bytes(policy=policy)
