"""A small world of real processes for one run of a scene, with a planted bug in them or without."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from signal import SIGKILL

import asyncpg

from tests.conftest import Databases, MailSink, SinkController
from tests.e2e.conftest import migrated_database
from tests.e2e.messages import Message
from tests.e2e.notifying import Notifying
from tests.e2e.processes import Service, eventually
from tests.e2e.world import World, made_world
from tests.faults.bugs.planted import Bug

SECONDS = 25.0
"""For what should be done: a bug may keep it from being done, which is no failure of the run."""


@dataclass(frozen=True)
class Servers:
    """Shared by all runs. `templates`: a migrated database of each service."""

    kafka: str
    postgres: Databases
    templates: dict[str, str]


@dataclass
class Stage:
    """What a scene plays on, and what it found out by itself."""

    world: World
    notifying: Notifying
    source: str
    """For PYTHONPATH: where the bug is; empty without one."""
    found: dict[str, str] = field(default_factory=dict)
    """Checks that a scene makes itself: their name, and what is wrong."""
    uses_notifier: bool = False

    async def allocator(self, armed: str = "", *, batch: int = 1000, ready: bool = True) -> Service:
        return await self.world.allocator(
            ready=ready, batch=batch, ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS="0.00001", **self._variables(armed)
        )

    async def notifier(self, armed: str = "", *, ready: bool = True) -> Service:
        self.uses_notifier = True
        settings = (
            self.notifying.settings
            | {"NOTIFIER_LEASE": "PT4S", "NOTIFIER_SMTP_TIMEOUT": "PT2S"}
            | self._variables(armed)
        )
        return await self.world.service("backorder-notifier", settings, ready=ready)

    def _variables(self, armed: str) -> dict[str, str]:
        wishes = {"PYTHONPATH": self.source, "BACKORDER_FAIL_POINT": armed}
        return {name: wish for name, wish in wishes.items() if wish}

    async def tell(self, *messages: Message) -> None:
        """Publish, and wait until all of it is worked and told, or does not come to be so."""
        await self.world.publish(*messages)
        await self.settled()

    async def settled(self) -> None:
        self.found.pop("all is worked and told", None)
        try:
            await self.world.settled(SECONDS)
            if self.uses_notifier:
                await self.notifying.settled()
        except AssertionError as error:
            self.found["all is worked and told"] = str(error).partition("\n")[0]

    async def killed(self, service: Service) -> None:
        """Waits until a process has killed itself at its fail point, and is forgotten."""
        assert await service.ended(60) == -SIGKILL, service.explain()
        await self.world.forget_dead_members()
        await self.notifying.database.execute("UPDATE leases SET ends_at = clock_timestamp()")

    async def stopped(self, service: Service) -> None:
        """Waits until a process has frozen itself at its fail point."""

        process = Path(f"/proc/{service.process.pid}/stat")

        async def is_frozen() -> bool:
            return (await asyncio.to_thread(process.read_text)).rpartition(")")[2].split()[0] == "T"

        await eventually(is_frozen, f"{service.name} to freeze", 60, service.explain)

    async def ended(self) -> None:
        """Every process that still runs ends in order, or is killed."""
        for service in self.world.services:
            if service.process.poll() is None:
                service.process.terminate()
        for service in self.world.services:
            try:
                await service.ended(20)
            except AssertionError:
                service.kill()


@asynccontextmanager
async def made_stage(servers: Servers, bug: Bug | None) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="backorder-bugs-") as name:
        folder = Path(name)
        source = ""
        if bug is not None:
            source = str(folder / "source")
            bug.plant(Path(source))
        urls = {name: servers.postgres.create_database(url) for name, url in servers.templates.items()}
        (folder / "mails").mkdir()
        sink = MailSink(folder / "mails" / "mails.sqlite")
        controller = SinkController(sink.handler, hostname="127.0.0.1", port=sink.port)
        controller.start()
        try:
            async with made_world(servers.kafka, f"b{token_hex(6)}.", urls["allocator"], folder) as world:
                database = await asyncpg.connect(urls["notifier"])
                try:
                    yield Stage(world, Notifying(world, urls["notifier"], database, sink), source)
                finally:
                    await database.close(timeout=5)
        finally:
            controller.stop()


def migrated(postgres: Databases) -> dict[str, str]:
    return {service: migrated_database(postgres, service) for service in ("allocator", "notifier")}
