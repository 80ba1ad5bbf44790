"""The processes that race: the allocator, whose stacks may be counted, and its peers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.load import Load
from tests.bench.peers import phases, sampling
from tests.bench.peers.common import Spec
from tests.e2e.processes import HARMLESS_HERE, Service, clean_environment, eventually
from tests.e2e.world import World

LONGEST_SECONDS = 400.0
PLANNER_INTERVAL = "0.5"
"""As shipped, in seconds; in the worlds of tests it hardly rests."""


async def allocator(world: World, samples: Path | None, *, ready: bool = True) -> Service:
    if samples is None:
        return await world.allocator(ready=ready, ALLOCATOR_PLANNER_INTERVAL_SECONDS=PLANNER_INTERVAL)
    settings = world.allocator_settings | {
        "ALLOCATOR_PLANNER_INTERVAL_SECONDS": PLANNER_INTERVAL,
        sampling.VARIABLE: str(samples),
    }
    log = world.folder / f"sampled-{len(world.services) + 1}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - as tests.e2e.processes starts services
            [sys.executable, "-m", "tests.bench.peers.sampled", "run", *HARMLESS_HERE["backorder-allocator"]],
            env=clean_environment() | settings,
            stdout=output,
            stderr=output,
        )
    service = Service("backorder-allocator", process, log)
    world.services.append(service)
    if ready:
        await service.ready()
    return service


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def says(self, word: str) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(LONGEST_SECONDS):
            heard = (await self.process.stdout.readline()).decode().strip()
        assert heard == word, f"{self.name} says {heard!r}, not {word!r}\n{self.log.read_text()[-4000:]}"

    def tell_to_begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")


@asynccontextmanager
async def started(world: World, name: str, spec: Spec, samples: Path | None) -> AsyncIterator[Peer]:
    log = world.folder / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"tests.bench.peers.{name}",
            json.dumps(asdict(spec)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=dict(os.environ) | ({sampling.VARIABLE: str(samples)} if samples else {}),
        )
    try:
        yield Peer(name, process, log)
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, log.read_text()[-4000:]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def sampled_phases(pid: int, samples: Path | None) -> dict[str, float]:
    if samples is None:
        return {}
    os.kill(pid, signal.SIGUSR2)

    async def written() -> bool:
        return os.path.exists(samples)  # noqa: ASYNC240, PTH110 - at once

    await eventually(written, "the samples to be written")
    return phases.shares(samples)


async def add_pools(world: World, load: Load, warm: Load | None) -> None:
    """The stock of loads as rows, for peers that take in orders only; a SKU without stock has a row, too."""
    units: Counter[str] = Counter()
    for each in (load, warm) if warm else (load,):
        for message in each.orders:
            units.update(dict.fromkeys((line["sku"] for line in json.loads(message.value or b"")["lines"]), 0))
        for message in each.stock:
            received = json.loads(message.value or b"")
            units[received["sku"]] += received["quantity"]
    rows = [(sku, "main", there, True) for sku, there in units.items()]
    await world.database.copy_records_to_table("pools", columns=["sku", "location", "on_hand", "named"], records=rows)
