"""The notifier beside a world: its own database, the same topics, a mail server."""

from dataclasses import dataclass

import asyncpg

from tests.conftest import MailSink
from tests.e2e.processes import Service, eventually
from tests.e2e.world import World

INPUTS = ("orders", "backorders", "allocations", "fulfilment", "catalog", "customers", "availability")
LEFT_TO_DO = """
    SELECT (SELECT count(*) FROM updates WHERE state = 'pending')
         + (SELECT count(*) FROM deliveries WHERE state = 'due')
         + (SELECT count(*) FROM outbox)
         + (SELECT count(*) FROM dead_letters WHERE published_at IS NULL)"""
"""In one snapshot: news to decide on, mails to send, outcomes and dead letters to publish."""


@dataclass(frozen=True)
class Notifying:
    """How a notifier runs on a world, and when it has nothing left to do."""

    world: World
    database_url: str
    database: asyncpg.Connection
    mails: MailSink

    @property
    def settings(self) -> dict[str, str]:
        return {
            "NOTIFIER_DATABASE_URL": self.database_url,
            "NOTIFIER_KAFKA_BOOTSTRAP_SERVERS": self.world.kafka,
            "NOTIFIER_TOPIC_PREFIX": self.world.prefix,
            "NOTIFIER_HTTP_PORT": "0",
            "NOTIFIER_SMTP_URL": self.mails.smtp_url,
            "NOTIFIER_MAIL_FROM": "Shop <shop@example.org>",
            "NOTIFIER_DEBOUNCE": '{"default": {"quiet": "PT0.2S", "at_most": "PT1S"}}',
        }

    async def start(self, *, ready: bool = True) -> Service:
        return await self.world.service("backorder-notifier", self.settings, ready=ready)

    async def settled(self) -> None:
        """Waits until both services have read everything, every mail is settled and every outcome published."""
        await self.world.settled()
        ends = await self.world.ends(INPUTS)

        async def nothing_is_left() -> bool:
            rows = await self.database.fetch("SELECT topic, partition, next_offset FROM cursors")
            cursors = {
                (row["topic"].removeprefix(self.world.prefix), row["partition"]): row["next_offset"] for row in rows
            }
            if any(cursors.get(position, 0) < end for position, end in ends.items()):
                return False
            return not await self.database.fetchval(LEFT_TO_DO)

        await eventually(nothing_is_left, "the notifier to have told everything", 60, self.world.explain)
