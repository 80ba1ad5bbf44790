"""The notifier in the matrix: customers who wait, get their units, and hear of each thing once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGCONT, SIGKILL
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from backorder_notifier import migrate
from backorder_notifier.fail_points import PLACES
from backorder_notifier.intake import READS
from backorder_schemas import encode
from tests.conftest import Databases
from tests.e2e.processes import SCRIPTS, Service, clean_environment, eventually, start
from tests.faults.matrix import FROZEN_SECONDS, Servers, Subject
from tests.notifier.messages import created, filled, moved, placed
from tests.notifier.smtp_script import ScriptedServer, scripted_server
from tests.notifier.world import World

WAITING, AT_ONCE = 8, 4
IN_FLIGHT = 4
"""NOTIFIER_SEND_CONCURRENCY: mails that a process may have handed over without noting it."""
SETTLE_SECONDS = 120.0
LEFT_TO_DO = """
    SELECT (SELECT count(*) FROM updates WHERE state = 'pending')
         + (SELECT count(*) FROM deliveries WHERE state = 'due')
         + (SELECT count(*) FROM parked)
         + (SELECT count(*) FROM outbox)
         + (SELECT count(*) FROM dead_letters WHERE published_at IS NULL)"""


@dataclass
class NotifierScene:
    """Three parts: in each, some wait and some have it all at once, a version is missing, and a record can't be read.

    Who waits since one part gets their units in the next.
    """

    world: World
    script: ScriptedServer
    database: asyncpg.Connection
    part: int = 0
    events: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    services: list[Service] = field(default_factory=list)
    deeds: set[str] = field(default_factory=set)

    async def start(self, armed: str | None) -> Service:
        settings = {name: value for name, value in self.environment(armed).items() if name not in clean_environment()}
        service = start("backorder-notifier", f"notifier-{len(self.services) + 1}", settings, self.world.folder)
        self.services.append(service)
        return service

    def environment(self, armed: str | None) -> dict[str, str]:
        if armed:
            self.deeds.add(armed.partition("=")[2].partition("@")[0])
        return self.world.environment(
            # So that what was in the hands of one that is gone comes back soon.
            NOTIFIER_LEASE="PT4S",
            NOTIFIER_SMTP_TIMEOUT="PT2S",
            NOTIFIER_GAP_WAIT="PT1S",
            **({"BACKORDER_FAIL_POINT": armed} if armed else {}),
        )

    async def feed(self) -> None:
        self.part += 1
        await self.world.send_raw("backorders", b"poison", b"no JSON, number %d" % self.part)
        for order_id in self.waiting(self.part - 1):
            await self.tell(filled(order_id))
        for order_id in self.waiting(self.part):
            await self.tell(placed(order_id), created(order_id))
        for number in range(AT_ONCE):
            order_id = f"p{self.part}-at-once-{number}"
            await self.tell(placed(order_id), created(order_id), filled(order_id))
        gap = f"p{self.part}-gap"
        await self.tell(placed(gap), created(gap), filled(gap, 3))
        self.late.add(gap)

    def waiting(self, part: int) -> Iterator[str]:
        return (f"p{part}-waits-{number}" for number in range(WAITING if part else 0))

    async def tell(self, *messages: Any) -> None:
        self.events |= {message.id for message in messages if hasattr(message, "version")}
        await self.world.send(*messages)

    async def forget_the_dead(self) -> None:
        """The relay's lease; Kafka gives up the member by itself after 10 s."""
        await self.database.execute("UPDATE leases SET ends_at = clock_timestamp()")

    async def settle(self) -> None:
        """All is read, decided, sent and published; what waited for a missing version waits no more."""
        ends = await self.ends()

        async def done() -> bool:
            rows = await self.database.fetch("SELECT topic, partition, next_offset FROM cursors")
            cursors = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
            if any(cursors.get(position, 0) < end for position, end in ends.items()):
                return False
            return not await self.database.fetchval(LEFT_TO_DO)

        await eventually(done, "everything to be told", SETTLE_SECONDS, self.explain)

    async def ends(self) -> dict[tuple[str, int], int]:
        partitions = [TopicPartition(self.world.prefix + topic, number) for topic in READS for number in range(3)]
        async with AIOKafkaConsumer(bootstrap_servers=self.world.kafka.split(",")) as consumer:
            consumer.assign(partitions)
            consumer.pause(*partitions)
            found = await consumer.end_offsets(partitions)
        return {(each.topic, each.partition): end for each, end in found.items() if end}

    def explain(self) -> str:
        return "\n".join(service.explain() for service in self.services)

    async def prove(self) -> None:
        """Every event is decided once and told in one message, nobody hears an older thing after a newer one, and a
        mail comes at most once more, under the same Message-ID."""
        for order_id in self.late:  # the missing versions come after all, when nobody waits for them any more
            await self.world.send(moved(order_id, 2))
        await self.settle()
        too_late = {f"{order_id}/v2" for order_id in self.late}
        verdicts = {
            row["event_id"]: row["state"] for row in await self.database.fetch("SELECT event_id, state FROM updates")
        }
        assert verdicts == dict.fromkeys(self.events, "told") | dict.fromkeys(too_late, "not_told"), verdicts
        sent = [row for row in await self.world.deliveries() if row.state == "sent"]
        told = Counter(event for row in sent for event in row.about)
        assert told.keys() == self.events
        # What a frozen process had handed over is told again by what replaced it, since nobody knows that it arrived;
        # when the process wakes up and says so, both were sent.
        twice = {event for event, times in told.items() if times > 1}
        assert len(twice) <= (2 * IN_FLIGHT if "stop" in self.deeds else 0), twice
        assert max(told.values()) <= 2, told
        await self.mails_are_as_they_should_be()
        await self.outcomes_are_published(told)
        assert await self.database.fetchval("SELECT count(*) FROM dead_letters") == self.part
        code, out, err = await self.world.command("audit")
        assert code == 0, out + err

    async def mails_are_as_they_should_be(self) -> None:
        rows = await self.database.fetch(
            "SELECT delivery_id, messages.order_id, position, state FROM deliveries JOIN messages USING (message_id)"
        )
        by_id = {f"<{row['delivery_id']}@example.org>": row for row in rows}
        ids = Counter(str(mail["Message-ID"]) for mail in self.script.accepted)
        assert {mail_id for mail_id, row in by_id.items() if row["state"] == "sent"} <= ids.keys() <= by_id.keys()
        # A process that met a bug still knows what the mail server said.
        assert ids.total() - len(ids) <= (0 if self.deeds <= {"raise"} else IN_FLIGHT), ids
        assert max(ids.values()) <= 2, ids
        last: dict[str, int] = {}
        for mail in self.script.accepted:
            row = by_id[str(mail["Message-ID"])]
            assert row["position"] >= last.get(row["order_id"], 0), (
                f"{row['order_id']}: an older mail after a newer one"
            )
            last[row["order_id"]] = row["position"]

    async def outcomes_are_published(self, told: Counter[str]) -> None:
        published = await self.world.outcomes()
        versions: dict[str, list[int]] = {}
        for each in published:
            versions.setdefault(each.order_id, []).append(each.version)
        wrong = {order_id: found for order_id, found in versions.items() if found != [*range(1, len(found) + 1)]}
        assert not wrong, wrong
        assert Counter(event for each in published for event in each.about) == told

    async def redrive(self, armed: str | None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            SCRIPTS / "backorder-notifier",
            *("dlq", "redrive", "--all", "--json"),
            env=self.environment(armed),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@asynccontextmanager
async def scene(servers: Servers, prefix: str, folder: Path, seed: int) -> AsyncIterator[NotifierScene]:
    del seed  # the order of things is always the same here
    url = servers.postgres.create_database(servers.templates["notifier"])
    async with scripted_server() as script:
        world = World(servers.kafka, url, folder, script.url, prefix)
        await world.create_topics()
        database = await asyncpg.connect(url)
        made = NotifierScene(world, script, database)
        try:
            yield made
        finally:
            for service in made.services:
                service.kill()
            await database.close(timeout=5)
            await world.close()


async def break_a_redrive(scene: NotifierScene, armed: str, sign: str) -> None:
    """An operator drives dead letters again, and that command is broken; it is given once more."""
    service = await scene.start(None)
    await scene.feed()
    await scene.settle()
    # As if it had been refused by a release that could not read it.
    await scene.world.send(placed("mended"))
    event = created("mended")
    scene.events.add(event.id)
    value = encode(event.model_copy(update={"occurred_at": datetime.now(UTC)}), source="/test").value
    await scene.database.execute("UPDATE dead_letters SET record_key = 'mended', record_value = $1", value)
    broken = await scene.redrive(armed)
    said = b""
    if "=stop@" in armed:
        assert broken.stderr is not None
        said = await asyncio.wait_for(broken.stderr.readline(), 30)
    else:
        said = (await asyncio.wait_for(broken.communicate(), 30))[1]
        assert broken.returncode == -SIGKILL if "=kill@" in armed else broken.returncode not in {0, None}
    assert sign in said.decode(), said.decode()

    async def driven() -> bool:
        """While the frozen one holds its locks, another waits for them, at most so long."""
        again = await scene.redrive(None)
        await asyncio.wait_for(again.communicate(), 60)
        return again.returncode == 0

    await eventually(driven, "it to be driven again", 90)
    if "=stop@" in armed:
        await asyncio.sleep(FROZEN_SECONDS)
        broken.send_signal(SIGCONT)
        await asyncio.wait_for(broken.communicate(), 60)
        assert broken.returncode != 0
    await scene.feed()
    await scene.settle()
    await scene.prove()
    await service.end()


def migrated(databases: Databases) -> str:
    url = databases.create_database()

    async def make() -> None:
        connection = await asyncpg.connect(url)
        await migrate.migrate(connection, datetime.now(UTC))
        await connection.close()

    asyncio.run(make())
    return url


NOTIFIER = Subject(
    name="notifier",
    migrated=migrated,
    places=PLACES,
    # What comes at once is read, decided and published at once.
    once=PLACES - {"sending.claimed", "sending.before_mark", "sending.marked"},
    open=scene,
    beside={"redrive.before_commit": break_a_redrive},
)
