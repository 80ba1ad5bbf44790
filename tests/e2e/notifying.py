"""The notifier beside a world: its own database, the same topics, a mail server."""

from dataclasses import dataclass

from tests.conftest import MailSink
from tests.e2e.processes import Service, command, eventually
from tests.e2e.world import World

INPUTS = ("orders", "backorders")


@dataclass(frozen=True)
class Notifying:
    """How a notifier runs on a world, and when it has nothing left to do."""

    world: World
    database_url: str
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
        }

    async def start(self) -> Service:
        return await self.world.service("backorder-notifier", self.settings)

    async def settled(self) -> None:
        """Waits until both services have read everything, every mail is settled and every outcome published."""
        await self.world.settled()
        ends = await self.world.ends(INPUTS)

        async def nothing_is_left() -> bool:
            status = await command("backorder-notifier", self.settings, "status")
            cursors = {
                (each["topic"].removeprefix(self.world.prefix), each["partition"]): each["next_offset"]
                for each in status["cursors"]
            }
            left = [status["waits"][what] for what in ("due", "outcomes_unpublished", "dead_letters_unpublished")]
            return not any(left) and all(cursors.get(position, 0) >= end for position, end in ends.items())

        await eventually(nothing_is_left, "the notifier to have told everything", 60, self.world.explain)
