"""PostgreSQL away for minutes while orders come: `make faults-outage`, `python -m tests.faults.outage --seconds 300`.

Two allocators and two notifiers under steady load on servers of their own. PostgreSQL is stopped as by a crash, and
started again much later; nobody touches the services. Then every order must have its outcome and every customer have
been told of each thing once, what came meanwhile must be worked off without help, and the logs must still be small.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from backorder_local.place import place as make_place
from backorder_local.processes import port_or_free
from tests.conftest import say
from tests.e2e.messages import Message
from tests.e2e.notifying import INPUTS, LEFT_TO_DO
from tests.e2e.processes import Service, command, eventually, get, get_text
from tests.e2e.world import World, made_world
from tests.faults.campaign.servers import Kafka, Postgres
from tests.faults.load import Load, check_nothing_lost_or_doubled, escalation_days, load

AROUND_SECONDS = 10.0
"""Of load before and after."""
LINES_AT_FIRST, LINES_A_MINUTE = 20, 6
"""What each process may write at most while the database is away."""
DRAIN_SECONDS = 3600.0
BEGIN_SECONDS = 180.0
SETTLES = {"quiet": "PT0.5S", "at_most": "PT2S"}
IN_FLIGHT = 4
"""NOTIFIER_SEND_CONCURRENCY, of all processes together."""
LINE_EVENTS = frozenset({"BackorderCreated", "BackorderFilled", "BackorderCancelled", "BackorderRejected"})


class KeepIds:
    """A mail server that takes everything and keeps the Message-IDs alone: whole mails would fill the memory."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802 - the library's
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        found = re.search(rb"^Message-ID:\s*(\S+)", content, re.MULTILINE | re.IGNORECASE)
        self.taken[found[1].decode() if found else "none"] += 1
        return "250 2.0.0 taken"


@asynccontextmanager
async def mail_server() -> AsyncIterator[tuple[KeepIds, str]]:
    """What it took, and its URL."""
    kept, port = KeepIds(), port_or_free(0, "Mail", "")
    controller = Controller(kept, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield kept, f"smtp://127.0.0.1:{port}"
    finally:
        controller.stop()


@dataclass
class Report:
    """`lines`: what each process wrote in the outage. Seconds count from when PostgreSQL took connections again."""

    orders: int = 0
    seconds: float = 0.0
    lines: dict[str, int] = field(default_factory=dict)
    alive: dict[str, tuple[int, int]] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    allocated_after: float = 0.0
    told_after: float = 0.0
    mails: int = 0
    copies: int = 0

    def __str__(self) -> str:
        minutes = self.seconds / 60
        lines = ", ".join(f"{name} {count} ({count / minutes:.1f} a minute)" for name, count in self.lines.items())
        after = f"after {self.allocated_after:.0f} s, everybody told after {self.told_after:.0f} s"
        return (
            f"{self.orders} orders, PostgreSQL away for {self.seconds:.0f} s\n"
            f"lines in the logs meanwhile: {lines}\n"
            f"/livez and /readyz at its end: {self.alive}\n"
            f"records that waited when it was back: {self.waiting}\n"
            f"all allocated and published {after}, the last {AROUND_SECONDS:.0f} s of load included\n"
            f"{self.mails} mails, {self.copies} of them a second time"
        )


@dataclass
class Scene:
    """Both services on one world, each with a database of its own."""

    world: World
    postgres: Postgres
    notifier_url: str
    mails: KeepIds
    smtp_url: str
    allocators: list[Service] = field(default_factory=list)
    notifiers: list[Service] = field(default_factory=list)

    @property
    def services(self) -> list[Service]:
        return [*self.allocators, *self.notifiers]

    @property
    def notifier_settings(self) -> dict[str, str]:
        return {
            "NOTIFIER_DATABASE_URL": self.notifier_url,
            "NOTIFIER_KAFKA_BOOTSTRAP_SERVERS": self.world.kafka,
            "NOTIFIER_TOPIC_PREFIX": self.world.prefix,
            "NOTIFIER_HTTP_PORT": "0",
            "NOTIFIER_SMTP_URL": self.smtp_url,
            "NOTIFIER_MAIL_FROM": "Shop <shop@example.org>",
            "NOTIFIER_DEBOUNCE": json.dumps({"default": SETTLES, "promise_changed": SETTLES}),
            "NOTIFIER_EMAIL_PER_SECOND": "500",
            "NOTIFIER_DAILY_CAP": "1000",
        }

    async def start(self, each: int) -> None:
        for _ in range(each):
            self.allocators.append(
                await self.world.allocator(
                    ready=False,
                    ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=escalation_days(),
                    ALLOCATOR_PLANNER_INTERVAL_SECONDS="0.5",
                )
            )
            self.notifiers.append(await self.world.service("backorder-notifier", self.notifier_settings, ready=False))

        async def all_ready() -> bool:
            addresses = [await service.address() for service in self.services]
            if None in addresses:
                return False
            return {ready for _, ready in (await self.probes()).values()} == {200}

        await eventually(all_ready, "all to be ready", BEGIN_SECONDS, self.world.explain)

    async def probes(self) -> dict[str, tuple[int, int]]:
        """/livez and /readyz of each."""
        found = {}
        for service in self.services:
            url = await service.address()
            found[service.name] = (
                await asyncio.to_thread(get, f"{url}/livez"),
                await asyncio.to_thread(get, f"{url}/readyz"),
            )
        return found

    async def notifier_lags(self) -> int:
        """Records that no notifier has read yet."""
        ends = await self.world.ends(INPUTS)
        async with connected(self.notifier_url) as connection:
            rows = await connection.fetch("SELECT topic, partition, next_offset FROM cursors")
        cursors = {(row["topic"].removeprefix(self.world.prefix), row["partition"]): row["next_offset"] for row in rows}
        return sum(max(0, end - cursors.get(position, 0)) for position, end in ends.items())

    async def allocator_lags(self) -> int:
        ends = await self.world.ends(("orders", "stock-received", "inbound-supply", "catalog", "fulfilment"))
        cursors = await self.world.cursors()
        return sum(max(0, end - cursors.get(position, 0)) for position, end in ends.items())

    async def told(self) -> None:
        async def nothing_is_left() -> bool:
            if await self.notifier_lags():
                return False
            async with connected(self.notifier_url) as connection:
                return not await connection.fetchval(LEFT_TO_DO)

        await eventually(nothing_is_left, "everybody to be told", DRAIN_SECONDS, self.world.explain)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@asynccontextmanager
async def a_scene(kafka: str, postgres: Postgres, prefix: str, folder: Path) -> AsyncIterator[Scene]:
    """On a PostgreSQL that runs and may be stopped."""
    urls = {name: await postgres.make_database(f"{name}_{prefix.strip('.')}") for name in ("allocator", "notifier")}
    for name, url in urls.items():
        settings = {
            f"{name.upper()}_DATABASE_URL": url,
            f"{name.upper()}_KAFKA_BOOTSTRAP_SERVERS": kafka,
        }
        await command(f"backorder-{name}", settings, "migrate")
    async with (
        made_world(kafka, prefix, urls["allocator"], folder) as world,
        mail_server() as (mails, smtp_url),
    ):
        yield Scene(world, postgres, urls["notifier"], mails, smtp_url)


def reachable(sent: Load) -> Load:
    """The same, and every customer has an address."""
    return replace(sent, messages=[with_address(message) for message in sent.messages])


def with_address(message: Message) -> Message:
    if message.topic != "orders" or message.value is None or b'"OrderPlaced"' not in message.value:
        return message
    content: dict[str, Any] = json.loads(message.value)
    content["customer"]["email"] = f"{content['order_id']}@example.org"
    return replace(message, value=json.dumps(content).encode())


async def steadily(world: World, messages: Sequence[Message], seconds: float) -> None:
    """Spread over so long, whatever becomes of them."""
    began = monotonic()
    sent = 0
    while sent < len(messages):
        until = min(len(messages), int((monotonic() - began) / seconds * len(messages)) + 1)
        await world.publish(*messages[sent:until])
        sent = until
        await asyncio.sleep(0.1)


async def play(scene: Scene, *, seconds: float, rate: float, each: int, around: float, seed: int) -> Report:
    """Load all the time; PostgreSQL away for so long in its middle. Returns once all is worked off, and proven."""
    whole = seconds + 2 * around
    report = Report(orders=int(rate * whole), seconds=seconds)
    sent = reachable(load(report.orders, seed=seed))
    await scene.start(each)
    loading = asyncio.create_task(steadily(scene.world, sent.messages, whole))
    await asyncio.sleep(around)
    before = {service.name: service.said().count("\n") for service in scene.services}
    await scene.postgres.stop(immediate=True)
    say("PostgreSQL is gone")
    await asyncio.sleep(seconds)  # it is time itself that passes here
    report.alive = await scene.probes()
    for service in scene.services:
        if report.alive[service.name][0] != 200:
            say(f"{service.name} is not alive: {await asyncio.to_thread(get_text, f'{await service.address()}/livez')}")
    report.lines = {service.name: service.said().count("\n") - before[service.name] for service in scene.services}
    await scene.postgres.start()
    back = monotonic()
    say(f"PostgreSQL is back; lines meanwhile: {report.lines}")
    scene.world.database = await asyncpg.connect(scene.world.database_url)
    report.waiting = {"allocator": await scene.allocator_lags(), "notifier": await scene.notifier_lags()}
    await loading
    await scene.world.settled(DRAIN_SECONDS)
    report.allocated_after = monotonic() - back
    say(f"all is allocated and published, {report.allocated_after:.0f} s after; waited: {report.waiting}")
    await scene.told()
    report.told_after = monotonic() - back
    say(f"everybody is told, {report.told_after:.0f} s after")
    report.mails, report.copies = scene.mails.taken.total(), scene.mails.taken.total() - len(scene.mails.taken)
    await prove(scene, sent, report)
    return report


async def prove(scene: Scene, sent: Load, report: Report) -> None:
    await check_nothing_lost_or_doubled(scene.world, sent)
    await everybody_was_told_once(scene)
    allowed = LINES_AT_FIRST + LINES_A_MINUTE * report.seconds / 60
    assert all(lines <= allowed for lines in report.lines.values()), report
    # Whoever waits for a database should not be restarted, and not be asked for anything.
    assert set(report.alive.values()) == {(200, 503)}, report
    ended = [service.explain() for service in scene.services if service.process.poll() is not None]
    assert not ended, f"nobody should end, and these did: {ended}"
    await asyncio.gather(*(service.end() for service in scene.services))


async def everybody_was_told_once(scene: Scene) -> None:
    """Each event about a customer's units is decided; what is told is told by one message, and one mail went for it."""
    happened = {
        record.message.id
        for record in await scene.world.read("backorders")
        if type(record.message).__name__ in LINE_EVENTS
    }
    async with connected(scene.notifier_url) as connection:
        states: Mapping[str, str] = dict(await connection.fetch("SELECT event_id, state FROM updates"))
        about = await connection.fetch(
            "SELECT about, messages.order_id FROM messages JOIN deliveries USING (message_id) WHERE state = 'sent'"
        )
        mails = await connection.fetch("SELECT delivery_id, state FROM deliveries")
    assert not happened - states.keys(), f"{len(happened - states.keys())} events are nowhere"
    assert "pending" not in states.values()
    told = Counter(event for row in about for event in row["about"])
    # A mail that was on its way when the database went away is told again, once its sender's time is over; that it
    # did arrive is noted all the same.
    again = {row["order_id"] for row in about if any(told[event] > 1 for event in row["about"])}
    assert max(told.values(), default=0) <= 2, told.most_common(3)
    assert len(again) <= IN_FLIGHT, again
    assert {event for event, state in states.items() if state == "told"} == told.keys()
    known = {f"<{row['delivery_id']}@example.org>": row["state"] for row in mails}
    went = scene.mails.taken
    assert {mail for mail, state in known.items() if state == "sent"} <= went.keys() <= known.keys()
    assert max(went.values(), default=0) <= 2, went.most_common(3)
    checks = await command("backorder-notifier", scene.notifier_settings, "audit")
    assert checks["clean"], checks


@contextmanager
def servers_folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL, as another user, can enter. A place of its own would go with its server."""
    with tempfile.TemporaryDirectory(prefix="outage-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


async def main(arguments: argparse.Namespace) -> int:
    with servers_folder() as folder, make_place(folder / "servers") as place:
        kafka = Kafka(place, port_or_free(0, "Kafka", ""), {}, {})
        postgres = Postgres(place, port_or_free(0, "PostgreSQL", ""))
        try:
            await asyncio.gather(kafka.start(), postgres.start())
            say(f"PostgreSQL goes away for {arguments.seconds:.0f} s, {arguments.rate:.0f} orders a second")
            async with a_scene(kafka.address, postgres, f"o{random.randrange(10**6)}.", folder) as scene:
                try:
                    report = await play(
                        scene,
                        seconds=arguments.seconds,
                        rate=arguments.rate,
                        each=2,
                        around=AROUND_SECONDS,
                        seed=arguments.seed,
                    )
                except AssertionError as error:
                    print(f"FAILED: {error}")
                    return 1
            print(report)
        finally:
            await postgres.stop(immediate=False)
            await kafka.stop(kill=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long PostgreSQL is away")
    parser.add_argument("--rate", type=float, default=50.0, help="orders a second, before, meanwhile and after")
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(asyncio.run(main(parser.parse_args())))
