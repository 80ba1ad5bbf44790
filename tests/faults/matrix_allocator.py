"""The allocator in the matrix: a small busy day, and the proof of `load` at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGCONT, SIGKILL

from backorder_allocator.fail_points import PLACES
from tests.conftest import Databases
from tests.e2e.conftest import migrated_database
from tests.e2e.messages import Message, receipt, supply
from tests.e2e.processes import SCRIPTS, Service, clean_environment, eventually
from tests.e2e.world import World, made_world
from tests.faults.load import Load, check_nothing_lost_or_doubled, escalation_days, load, ships
from tests.faults.matrix import FROZEN_SECONDS, Servers, Subject

ORDERS = 180
PARTS = 3
BATCH = 20
MENDED = receipt("mended", "SKU-MENDED", 7)
"""What a dead letter turns out to have been."""


@dataclass
class AllocatorScene:
    """A third of the day at a time; with each, a message that nobody can read."""

    world: World
    sent: Load
    parts: list[list[Message]]
    poison: int = 0

    async def start(self, armed: str | None) -> Service:
        variables = {"BACKORDER_FAIL_POINT": armed} if armed else {}
        days = escalation_days()
        return await self.world.allocator(
            ready=False, batch=BATCH, ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=days, **variables
        )

    async def feed(self) -> None:
        self.poison += 1
        poison = Message("stock-received", b"poison", f"no JSON, number {self.poison}".encode())
        part = self.parts.pop(0)
        late = datetime.now(UTC) - timedelta(days=1)
        # Each a timer that is due at once.
        supplies = [supply(f"late-{self.poison}-{number}", f"SKU-{number}", 5, late) for number in range(5)]
        await self.world.publish(*part[: len(part) // 2], poison, *supplies, *part[len(part) // 2 :])
        await self.world.publish(*await ships(self.world, self.sent))

    async def forget_the_dead(self) -> None:
        await self.world.forget_dead_members()

    async def settle(self) -> None:
        await self.world.settled(240)

    async def prove(self) -> None:
        await check_nothing_lost_or_doubled(self.world, self.sent, dead_letters=self.poison)

    async def redrive(self, dead_letter_id: int, armed: str | None) -> asyncio.subprocess.Process:
        variables = {"BACKORDER_FAIL_POINT": armed} if armed else {}
        return await asyncio.create_subprocess_exec(
            SCRIPTS / "backorder-allocator",
            *("dlq", "redrive", str(dead_letter_id), "--json"),
            env=clean_environment() | self.world.allocator_settings | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@asynccontextmanager
async def scene(servers: Servers, prefix: str, folder: Path, seed: int) -> AsyncIterator[AllocatorScene]:
    database = servers.postgres.create_database(servers.templates["allocator"])
    sent = load(ORDERS, seed=seed)
    async with made_world(servers.kafka, prefix, database, folder) as world:
        yield AllocatorScene(world, sent, sent.slices(PARTS))


async def break_a_redrive(scene: AllocatorScene, armed: str, sign: str) -> None:
    """An operator drives a dead letter again, and that command is broken; it is given once more."""
    world = scene.world
    service = await scene.start(None)
    for _ in range(PARTS):
        await scene.feed()
    await scene.settle()
    # As if it had been refused by a version that could not read it.
    letter = await world.number("SELECT min(dead_letter_id) FROM dead_letters")
    mend = "UPDATE dead_letters SET key = $2, value = $3 WHERE dead_letter_id = $1"
    await world.database.execute(mend, letter, MENDED.key, MENDED.value)
    scene.sent.received["SKU-MENDED"] += 7
    broken = await scene.redrive(letter, armed)
    said = b""
    if "=stop@" in armed:
        assert broken.stderr is not None
        said = await asyncio.wait_for(broken.stderr.readline(), 90)
    else:
        said = (await asyncio.wait_for(broken.communicate(), 90))[1]
        assert broken.returncode == -SIGKILL if "=kill@" in armed else broken.returncode not in {0, None}
    assert sign in said.decode(), said.decode()

    async def driven() -> bool:
        """While the frozen one holds its locks, another waits for them, at most so long."""
        again = await scene.redrive(letter, None)
        answer, _ = await asyncio.wait_for(again.communicate(), 120)
        return again.returncode == 0 and (b"applied" in answer or b"resolved" in answer)

    await eventually(driven, "it to be driven again", 150)
    if "=stop@" in armed:
        await asyncio.sleep(FROZEN_SECONDS)
        broken.send_signal(SIGCONT)
        await asyncio.wait_for(broken.communicate(), 90)
        assert broken.returncode != 0
    await scene.settle()
    await scene.prove()
    await service.end()


def migrated(databases: Databases) -> str:
    return migrated_database(databases, "allocator")


ALLOCATOR = Subject(
    name="allocator",
    migrated=migrated,
    places=PLACES,
    once=frozenset({"assignment.placed", "dlq.acked", "redrive.before_commit"}),
    open=scene,
    beside={"redrive.before_commit": break_a_redrive},
)
