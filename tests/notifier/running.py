"""The notifier in one process, on a clock of the test's own: its transactions, its words, its channels, real servers.

Nothing in it is a stand-in (as the senders of `shop.Shop` are). Time goes from one due thing to the next.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

import asyncpg

from backorder_notifier import store, told_store
from backorder_notifier.audits import audit
from backorder_notifier.channel import ChannelSender, Verdict
from backorder_notifier.delivering import Limits, Patience, Provider
from backorder_notifier.intake import take_batch
from backorder_notifier.kinds import Channel
from backorder_notifier.mail import MailChannel
from backorder_notifier.policy import Policy
from backorder_notifier.providers import words_of
from backorder_notifier.rows import Record
from backorder_notifier.sending import send_due
from backorder_notifier.settings import Sender, smtp_server
from backorder_notifier.smtp import MailServer
from backorder_notifier.statements import open_pool
from backorder_notifier.teller import tell_due
from backorder_notifier.why import why
from tests.notifier.messages import NOON, Log
from tests.notifier.pages import TEMPLATES
from tests.notifier.smtp_script import ScriptedServer

BATCH = 500
SECOND = timedelta(seconds=1)
PAUSE = timedelta(minutes=30)
PUBLIC_URL = "https://told.example.org"
PATIENCE = Patience(timedelta(minutes=1), timedelta(seconds=5), timedelta(minutes=30), timedelta(days=5))
WORDS = words_of(TEMPLATES, "Shop", PUBLIC_URL)


def by_mail(port: int, per_second: float = 1e9, in_flight: int = 8) -> Provider:
    server = MailServer(smtp_server(f"smtp://127.0.0.1:{port}"), timedelta(seconds=10), connections=in_flight)
    sender = MailChannel(server, Sender("shop@example.org", "Shop"), WORDS, PUBLIC_URL)
    return provider(sender, per_second, in_flight)


def provider(sender: ChannelSender, per_second: float = 1e9, in_flight: int = 8) -> Provider:
    return Provider(sender, Limits(per_second, in_flight), PATIENCE)


@dataclass
class Running:
    """`sent_at`: accepted messages by the second of this clock."""

    pool: asyncpg.Pool
    providers: Mapping[Channel, Provider]
    policy: Policy
    now: datetime = NOON
    log: Log = field(default_factory=Log)
    sent_at: Counter[datetime] = field(default_factory=Counter)
    _away_until: dict[Channel, datetime] = field(default_factory=dict)

    async def reads(self, *messages: Any) -> None:
        """They happen and are recorded now."""
        self.log.now = self.now
        now = {"occurred_at": self.now}
        await self.reads_records(self.log.records(*(message.model_copy(update=now) for message in messages)))

    async def reads_records(self, records: Iterable[Record]) -> None:
        rest = list(records)
        while rest:
            async with self.pool.acquire() as connection:
                await take_batch(connection, rest[:BATCH], self.now, self.policy)
            rest = rest[BATCH:]

    async def passes(self, **time: float) -> None:
        """So much time, in which all that comes due is decided and sent."""
        end = self.now + timedelta(**time)
        while True:
            await self._work()
            next_at = await self._next_at()
            if next_at is None or (next_at := max(next_at, self.now + SECOND)) > end:
                break
            self.now = next_at
        self.now = end

    async def tells(self, *messages: Any) -> None:
        """What comes is decided at once, as far as it does not have to wait for more."""
        await self.reads(*messages)
        await self.passes(seconds=10)

    async def _work(self) -> None:
        async with self.pool.acquire() as connection:
            await told_store.wake_stale_orders(connection, self.now, self.now - self.policy.stale_after, 100_000)
            # As the loop of the teller does.
            if not await store.catching_up(connection, self.now - 5 * SECOND, self.now - timedelta(minutes=10)):
                while (await tell_due(connection, self.policy, self.now)).looked_at:
                    pass
        for channel in self.providers:
            await self._send(channel)

    async def _send(self, channel: Channel) -> None:
        """As the loop of the senders does: after it was away, one try finds out whether a provider is back."""
        away_until = self._away_until.get(channel)
        if away_until is not None and self.now < away_until:
            return
        if away_until is None or "unreachable" not in await self._send_due(channel, 1):
            self._away_until.pop(channel, None)
            if "unreachable" not in await self._send_due(channel, None):
                return
        self._away_until[channel] = self.now + PAUSE

    async def _send_due(self, channel: Channel, limit: int | None) -> Mapping[Verdict, int]:
        sent = await send_due(self.pool, {channel: self.providers[channel]}, self.now, limit)
        if "sent" in sent.answers:
            self.sent_at[self.now] += sent.answers["sent"]
        return sent.answers

    async def _next_at(self) -> datetime | None:
        async with self.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT channel, min(due_at) AS due_at, min(composed_at) AS composed_at FROM ("
                " SELECT DISTINCT ON (channel, order_id) channel, due_at, composed_at"
                " FROM deliveries JOIN messages USING (message_id, order_id) WHERE state = 'due'"
                " ORDER BY channel, order_id, position) AS next_of_each GROUP BY channel"
            )
            tell_at = await told_store.next_tell_at(connection)
        moments = [max(row["due_at"], self._away_until.get(row["channel"], row["due_at"])) for row in rows]
        moments += [row["composed_at"] + self.policy.stale_after + SECOND for row in rows]
        return min(moments if tell_at is None else [*moments, tell_at], default=None)

    # What is seen afterwards

    async def verdicts(self, order_id: str = "1001") -> dict[str, tuple[str, str | None]]:
        """(state, reason) by event."""
        rows = await self.pool.fetch(
            "SELECT event_id, state, reason FROM updates WHERE order_id = $1 ORDER BY ordinal", order_id
        )
        return {row["event_id"].removeprefix(f"{order_id}/"): (row["state"], row["reason"]) for row in rows}

    async def deliveries(self, order_id: str = "1001") -> list[tuple[str, str, str, str | None]]:
        """(kind, channel, state, reason), in the order of telling."""
        rows = await self.pool.fetch(
            "SELECT kind, channel, state, reason FROM deliveries JOIN messages USING (message_id)"
            " WHERE messages.order_id = $1 ORDER BY position, channel",
            order_id,
        )
        return [tuple(row) for row in rows]

    async def why(self, order_id: str = "1001") -> dict[str, Any]:
        async with self.pool.acquire() as connection:
            found = await why(connection, order_id, self.policy, self.now)
        assert found is not None
        return found

    async def is_sound(self) -> None:
        """All rules hold."""
        async with self.pool.acquire() as connection:
            checks = await audit(connection, self.policy)
        assert [check for check in checks if check.violations] == []

    async def is_quiet(self) -> bool:
        """Nothing is undecided, unsent, or still being read."""
        async with self.pool.acquire() as connection:
            waits = await store.backlog(connection)
        return not (waits.due or waits.pending)


@asynccontextmanager
async def running(
    database: str, providers: Mapping[Channel, Provider], policy: Policy | None = None
) -> AsyncIterator[Running]:
    async with await open_pool(database, size=10) as pool:
        yield Running(pool, providers, policy or Policy(channels=tuple(providers)))
    for each in providers.values():
        await each.sender.close()


def text_of(mail: EmailMessage) -> str:
    """The text part."""
    return _body(mail, "plain")


def html_of(mail: EmailMessage) -> str:
    return _body(mail, "html")


def _body(mail: EmailMessage, subtype: str) -> str:
    part = mail.get_body((subtype,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def rows_of(mail: EmailMessage) -> list[str]:
    """The facts about lines, such as "Ordered: 15", as the text part has them."""
    return re.findall(r"^  (\S.*: .*)$", text_of(mail), re.MULTILINE)


def about(script: ScriptedServer, order_id: str = "1001") -> list[EmailMessage]:
    """Mails about an order, in the order they came."""
    return [mail for mail in script.accepted if f"Order {order_id}:" in str(mail["Subject"])]
