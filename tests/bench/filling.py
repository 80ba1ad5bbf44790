"""One receipt for a whole queue, among orders for other pools that come by a schedule whatever happens."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import time
from typing import Any, Literal

import asyncpg

from tests.bench.counting import statements
from tests.bench.frame import Bench, resident_mib
from tests.bench.loaded import sku
from tests.e2e.messages import Message, order, receipt
from tests.e2e.processes import Service, eventually
from tests.e2e.world import Position, World

OTHER_POOLS = 100
OTHERS_A_SECOND = 100
BESIDE_SECONDS = 1.0
"""So long before and after, orders for other pools come, too."""
LOOK_SECONDS = 0.01
LONGEST_SECONDS = 120.0
RELAY = ("relay", 0)
Until = Literal["committed", "published"]
UNTIL: tuple[Until, ...] = ("committed", "published")


@dataclass(frozen=True, slots=True)
class Kind:
    """How many lines it fills, how many allocators there are, and how many orders a second come for other pools."""

    lines: int
    allocators: int
    others: int


@dataclass(frozen=True, slots=True)
class Look:
    """How far cursors and the relay (RELAY) were at a moment."""

    at: float
    reached: Mapping[Position, int]


@dataclass(frozen=True, slots=True)
class Waited:
    """An order for another pool: when it was due, in seconds since 1970, and for how long it waited until."""

    due: float
    committed: float
    published: float

    def until(self, what: Until) -> float:
        return self.committed if what == "committed" else self.published


@dataclass(frozen=True, slots=True)
class Run:
    """One receipt. `committed` and `published` (its last event): seconds since Kafka had it."""

    taken_at: float
    committed: float
    published: float
    peak_mib: float
    """Beyond what the process had before."""
    others: Sequence[Waited]
    statements: Counter[str]
    """µs until the answers of the allocator's statements, by name."""

    def typical(self, until: Until) -> float:
        """What an order for another pool waits when nothing else happens."""
        return median(each.until(until) for each in self.others if each.due < self.taken_at - 0.1)

    def worst(self, until: Until) -> float:
        """The longest of those that were due before the receipt was committed."""
        over = self.taken_at + self.committed
        return max(each.until(until) for each in self.others if each.due < over)


async def measure(bench: Bench, template: str, kind: Kind) -> Run:
    """On a copy of a loaded database, by processes of its own."""
    async with bench.world(bench.databases.create_database(template)) as world:
        allocators = [await world.allocator(ALLOCATOR_PLANNER_INTERVAL_SECONDS="0.5") for _ in range(kind.allocators)]
        stock = [receipt("opening", f"OTHER-{number}", 1_000_000) for number in range(OTHER_POOLS)]
        await world.tell(*stock)
        await world.tell(*(_order(f"warm-{number}", number) for number in range(1000)))
        run = await _fill(world, allocators, kind)
        assert not await world.number("SELECT count(*) FROM lines WHERE quantity_waiting > 0")
        for each in allocators:
            await each.end()
        return run


async def _fill(world: World, allocators: Sequence[Service], kind: Kind) -> Run:
    """The receipt, among orders for other pools which come by a schedule, whatever happens."""
    before = await _waited_for(allocators)
    pids = [each.process.pid for each in allocators]
    resident = [resident_mib(pid) for pid in pids]
    for pid in pids:
        _forget_peak(pid)
    looks: list[Look] = []
    over = asyncio.Event()
    watching = asyncio.create_task(_watch(world, looks))
    sending = asyncio.create_task(_send_others(world, kind.others, over))
    await asyncio.sleep(BESIDE_SECONDS)
    big = receipt("big", sku(0), kind.lines, supply_id="S-1")
    taken = await (await world.producer.send(world.prefix + big.topic, big.value, key=big.key))

    async def last_event() -> int:
        return await world.number(
            """SELECT max(j.first_seq + e.ordinal) FROM journal j JOIN events e USING (batch_id)
               WHERE j.event_count >= $1 AND e.caused_by = $2""",
            kind.lines,
            f"received/big/{sku(0)}/main",
        )

    seq = await eventually(last_event, "the receipt to be worked", LONGEST_SECONDS, world.explain)

    async def published() -> bool:
        return bool(looks) and looks[-1].reached[RELAY] >= seq

    await eventually(published, "all fills to be published", LONGEST_SECONDS, world.explain)
    await asyncio.sleep(BESIDE_SECONDS)
    over.set()
    sent = await sending
    await world.settled()
    await asyncio.sleep(5 * LOOK_SECONDS)
    watching.cancel()
    seqs = {row["key"]: row["seq"] for row in await world.database.fetch(SEQS_OF_OTHERS)}
    taken_at = taken.timestamp / 1000
    now = await _waited_for(allocators)
    return Run(
        taken_at,
        _reached(looks, (big.topic, taken.partition), taken.offset + 1) - taken_at,
        _reached(looks, RELAY, seq) - taken_at,
        max(_peak_mib(pid) - had for pid, had in zip(pids, resident, strict=True)),
        [
            Waited(
                due,
                _reached(looks, ("orders", each.partition), each.offset + 1) - due,
                _reached(looks, RELAY, seqs[name]) - due,
            )
            for name, (due, each) in sent.items()
        ],
        now - before,
    )


async def _waited_for(allocators: Sequence[Service]) -> Counter[str]:
    """µs until the answers of their statements, by name."""
    waited: Counter[str] = Counter()
    for each in allocators:
        waited += (await statements(each))[1]
    return waited


SEQS_OF_OTHERS = """
    SELECT e.key, j.first_seq + e.ordinal AS seq FROM events e JOIN journal j USING (batch_id)
    WHERE e.key LIKE 'other-%' AND e.topic = 'allocations'"""


def _order(name: str, number: int) -> Message:
    return order(name, (f"OTHER-{number % OTHER_POOLS}", 1))


async def _send_others(world: World, a_second: int, over: asyncio.Event) -> dict[str, tuple[float, Any]]:
    """Orders at their times, until it is over: when each was due, and where Kafka has it, by name."""
    if not a_second:
        await over.wait()
    begin = time()
    sent: dict[str, tuple[float, asyncio.Future[Any]]] = {}
    while not over.is_set():
        number = len(sent)
        due = begin + number / a_second
        await asyncio.sleep(max(0.0, due - time()))
        each = _order(f"other-{number}", number)
        sent[f"other-{number}"] = due, await world.producer.send(world.prefix + each.topic, each.value, key=each.key)
    return {name: (due, await taken) for name, (due, taken) in sent.items()}


async def _watch(world: World, looks: list[Look]) -> None:
    """Look again and again how far everything is. On a connection of its own: the world's has other questions."""
    connection = await asyncpg.connect(world.database_url)
    try:
        while True:
            rows = await connection.fetch(
                "SELECT topic, partition, next_offset FROM cursors UNION ALL SELECT 'relay', 0, seq FROM relay"
            )
            looks.append(Look(time(), {(row["topic"], row["partition"]): row["next_offset"] for row in rows}))
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await connection.close(timeout=5)


def _reached(looks: Sequence[Look], position: Position, target: int) -> float:
    """When it was seen to be reached."""
    return next(look.at for look in looks if look.reached.get(position, 0) >= target)


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
