"""What a channel is: puts one message into its own form and hands it to a provider. Adding one: see README, "Channels".

A channel never touches the database and never raises for what a provider does: it answers.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from backorder_notifier.content import Content

Verdict = Literal["sent", "later", "never", "ambiguous", "unreachable"]


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom one message goes to, as far as channels and words need it. Never logged."""

    customer_id: str
    email: str | None
    phone: str | None
    name: str | None
    locale: str
    timezone: str
    unsubscribe_token: str | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One try of one delivery. `message_id` and `delivery_id` are the same on every try."""

    delivery_id: UUID
    message_id: UUID
    order_id: str
    content: Content
    recipient: Recipient
    about: tuple[str, ...]  # ids of the events told
    composed_at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one try. `reason` is codes only: texts of providers repeat addresses.

    sent: accepted. later: not now; `retry_after` as the provider asked. never: refused for good; `suppress` where the
    address itself is dead (hard bounce). ambiguous: the connection was lost after handing over, it may have been taken.
    unreachable: nothing can be handed to this provider now, whoever it is for.
    `policy`: a rule of the provider against us, which somebody here should look at; says nothing against the address.
    `whole_domain`: later, and the same would be said to others of the recipient's domain, so they wait too.
    `tried`: False where nothing was handed over since there is nowhere to send it to (never).
    """

    verdict: Verdict
    reason: str | None = None
    retry_after: timedelta | None = None
    suppress: bool = False
    policy: bool = False
    whole_domain: bool = False
    tried: bool = True


class ChannelSender(Protocol):
    """One provider. Safe to use from several tasks at once."""

    async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
        """One try, over within the channel's timeout. Raises only for a bug (words that can't be made)."""
        ...

    async def close(self) -> None: ...
