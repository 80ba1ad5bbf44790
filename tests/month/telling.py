"""The notifier on a clock of our own: its real transactions on a real PostgreSQL, its mails to a real mail server."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from backorder_notifier import audits
from backorder_notifier.channel import Outgoing
from backorder_notifier.delivering import Limits, Patience, Provider
from backorder_notifier.intake import take_batch
from backorder_notifier.kinds import Channel
from backorder_notifier.mail import MailChannel
from backorder_notifier.policy import Policy
from backorder_notifier.rendering import Rendered, load_templates, render
from backorder_notifier.rows import Record
from backorder_notifier.sending import send_due
from backorder_notifier.settings import Sender, smtp_server
from backorder_notifier.smtp import MailServer
from backorder_notifier.teller import tell_due
from tests.month.checking import Decided, Told

BATCH = 500
PATIENCE = Patience(timedelta(minutes=1), timedelta(seconds=5), timedelta(minutes=30), timedelta(days=5))


class Telling:
    """One notifier. `shop_time` is what its clock says."""

    def __init__(self, pool: asyncpg.Pool, smtp_url: str, policy: Policy) -> None:
        templates = load_templates()

        def words(outgoing: Outgoing) -> Rendered:
            return render(outgoing.content, outgoing.recipient, templates, as_of=outgoing.composed_at)

        self._pool = pool
        self._policy = policy
        server = MailServer(smtp_server(smtp_url), timedelta(seconds=10))
        channel = MailChannel(server, Sender("shop@example.org", "Shop"), words)
        self._providers: dict[Channel, Provider] = {"email": Provider(channel, Limits(1e9, 8), PATIENCE)}
        self._offsets: Counter[str] = Counter()

    def record(self, topic: str, key: bytes, value: bytes, at: datetime) -> Record:
        offset = self._offsets[topic]
        self._offsets[topic] += 1
        return Record(topic, topic, 0, offset, at, key, value, ())

    async def take(self, records: Sequence[Record], now: datetime) -> None:
        for first in range(0, len(records), BATCH):
            async with self._pool.acquire() as connection:
                await take_batch(connection, records[first : first + BATCH], now, self._policy)

    async def tell(self, now: datetime) -> None:
        """Decide all that is due, and send it."""
        while True:
            async with self._pool.acquire() as connection:
                report = await tell_due(connection, self._policy, now)
            sent = await send_due(self._pool, self._providers, now)
            if not report.looked_at and not sent.tried:
                return

    async def told(self) -> list[Told]:
        rows = await self._pool.fetch(
            "SELECT m.*, d.delivery_id, d.state FROM messages m "
            "JOIN deliveries d ON d.message_id = m.message_id AND d.channel = 'email' ORDER BY order_id, position"
        )
        return [
            Told(
                str(row["message_id"]),
                row["order_id"],
                row["customer_id"],
                row["position"],
                row["kind"],
                json.loads(row["content"]),
                tuple(row["about"]),
                row["composed_at"],
                row["state"] == "sent",
                str(row["delivery_id"]),
            )
            for row in rows
        ]

    async def decided(self) -> list[Decided]:
        rows = await self._pool.fetch("SELECT event_id, order_id, state, reason, message_id FROM updates")
        return [
            Decided(
                row["event_id"],
                row["order_id"],
                row["state"],
                row["reason"],
                None if row["message_id"] is None else str(row["message_id"]),
            )
            for row in rows
        ]

    async def story(self, customer_id: str) -> list[tuple[datetime, str, str, str | None]]:
        """(when, order, what, delivery) of each message and of each event that was not told, in order of time."""
        rows = await self._pool.fetch(
            """
            SELECT m.composed_at AS at, m.order_id, m.kind || ': ' || d.state || coalesce(' (' || d.reason || ')', '')
                   || ', tells ' || cardinality(m.about) AS what, d.delivery_id::text
            FROM messages m JOIN deliveries d USING (message_id) WHERE m.customer_id = $1
            UNION ALL
            SELECT u.decided_at, u.order_id, coalesce(u.event ->> 'type', u.event_id)
                   || coalesce(' line ' || u.line_no, '') || ': ' || u.state || ' (' || u.reason || ')', NULL
            FROM updates u JOIN orders USING (order_id)
            WHERE orders.customer_id = $1 AND u.state IN ('superseded', 'not_told')
            ORDER BY 1
            """,
            customer_id,
        )
        return [tuple(row) for row in rows]

    async def problems(self) -> list[str]:
        """What the notifier's own audit finds."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            return [check.rule for check in await audits.audit(connection, self._policy) if check.violations]

    async def close(self) -> None:
        await self._providers["email"].sender.close()
