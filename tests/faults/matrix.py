"""Every fail point × every deed: `make faults-matrix CASES="--only relay.acked --deeds stop,kill --seed 7"`.

Each case is a small world of its own on shared servers: a real process is broken at one place while it works some
hundred messages, others take over or it starts again, and at the end everything must have drained, nothing be lost and
nothing be done twice. A place that was not reached is a failure, since it proves nothing.
"""

import argparse
import asyncio
import logging
import os
import random
import secrets
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL
from time import monotonic
from typing import Any, Protocol

from backorder_local import finder
from backorder_local.place import place as make_place
from tests.conftest import Databases, say, wish
from tests.e2e.processes import Service, eventually, get

DEEDS = ("kill", "stop", "raise", "cancel")
FROZEN_SECONDS = 45.0
REACH_SECONDS = 240.0
"""For the process to come to the place."""
WELL_SECONDS = 240.0
JOBS = 3
WAITING_JOBS = 8
"""Cases that mostly wait for a frozen process go on beside each other."""


@dataclass(frozen=True)
class Servers:
    """Shared by all cases."""

    kafka: str
    postgres: Databases
    folder: Path
    templates: Mapping[str, str]
    """By service: the URL of a migrated database, to be copied."""


class Scene(Protocol):
    """One world with work in it. Whoever adds a service to the matrix writes one of these."""

    async def start(self, armed: str | None) -> Service:
        """A process that works on the scene, with this in BACKORDER_FAIL_POINT. Need not be ready."""

    async def feed(self) -> None:
        """Publishes the next part of the work; called three times. It leads to every place again and again."""

    async def forget_the_dead(self) -> None:
        """What happens by itself some seconds after a process was killed."""

    async def settle(self) -> None:
        """Waits until everything is worked and told."""

    async def prove(self) -> None:
        """Raises AssertionError where something was lost, done twice, or done wrong."""


@dataclass(frozen=True)
class Subject:
    """A service in the matrix."""

    name: str
    migrated: Callable[[Databases], str]
    places: frozenset[str]
    once: frozenset[str]
    """Places that one process reaches only once or twice."""
    open: Callable[[Servers, str, Path, int], AbstractAsyncContextManager[Scene]]
    """(servers, prefix, folder, seed)."""
    beside: Mapping[str, Callable[[Any, str, str], Awaitable[None]]] = field(default_factory=dict)
    """Places that another command than `run` reaches; (scene, what to arm it with, what it says then)."""


@dataclass(frozen=True)
class Case:
    subject: Subject
    place: str
    deed: str
    at: int

    def __str__(self) -> str:
        return f"{self.subject.name:9} {self.place:22} {self.deed:6} @{self.at}"

    @property
    def armed(self) -> str:
        return f"{self.place}={self.deed}@{self.at}"

    @property
    def sign(self) -> str:
        """What the process says on stderr when it gets there."""
        return f"fail point {self.place}: {self.deed}"


@dataclass(frozen=True)
class Result:
    case: Case
    seconds: float
    what: str
    """What became of the process that was broken."""
    error: str | None


async def play(case: Case, scene: Scene) -> str:
    """Break a process and let the world heal. Gives what became of it."""
    await scene.feed()
    broken = await scene.start(case.armed)
    await eventually(lambda: got_there(broken, case.sign), f"{case} to be reached", REACH_SECONDS, broken.explain)
    match case.deed:
        case "kill":
            assert await broken.ended() == -SIGKILL, broken.explain()
            await scene.forget_the_dead()
            others, what = [await scene.start(None)], "killed; another took over"
            await scene.feed()
        case "stop":
            others, what = await freeze(broken, scene)
        case _:
            others, what = await supervise(broken, scene)
    await scene.feed()
    await scene.settle()
    await scene.prove()
    for service in others:
        await service.end()
    return what


async def freeze(broken: Service, scene: Scene) -> tuple[list[Service], str]:
    """Frozen, and meanwhile another takes its part; then it wakes up, and either goes on or ends loudly."""
    since = monotonic()
    other = await scene.start(None)
    await scene.feed()
    await scene.settle()
    await asyncio.sleep(max(0.0, since + FROZEN_SECONDS - monotonic()))
    broken.signal(SIGCONT)
    return (
        ([other], f"woke up and ended with {code}")
        if (code := await well_or_ended(broken)) is not None
        else ([other, broken], "woke up and went on")
    )


async def supervise(broken: Service, scene: Scene) -> tuple[list[Service], str]:
    """What a supervisor does: start again whoever ended."""
    await scene.feed()
    code = await well_or_ended(broken)
    if code is None:
        return [broken], "went on by itself"
    return [await scene.start(None)], f"ended with {code}; was started again"


async def well_or_ended(service: Service) -> int | None:
    """Waits until a process is ready, and stays so; or the code with which it ended, which is never 0."""

    async def decided() -> bool:
        if service.process.poll() is not None:
            return True
        return await stays_ready(service)

    await eventually(decided, f"{service.name} to be well or to end", WELL_SECONDS, service.explain)
    code = service.process.poll()
    assert code != 0, f"it ended as if it had been asked to\n{service.explain()}"
    return code


async def stays_ready(service: Service) -> bool:
    """Ready for longer than it takes to notice that a task has died."""
    until = monotonic() + 3.0
    while monotonic() < until:
        if service.process.poll() is not None or not await is_ready(service):
            return False
        await asyncio.sleep(0.3)
    return True


async def is_ready(service: Service) -> bool:
    url = await service.address()
    return url is not None and await asyncio.to_thread(get, f"{url}/readyz") == 200


async def got_there(service: Service, sign: str) -> bool:
    ended = service.process.poll() is not None
    said = sign in service.said()
    assert said or not ended, f"it ended before it got there\n{service.explain()}"
    return said


async def run_case(case: Case, servers: Servers, seed: int) -> Result:
    started = monotonic()
    prefix = f"m{secrets.token_hex(6)}."
    folder = servers.folder / prefix
    folder.mkdir()
    try:
        async with case.subject.open(servers, prefix, folder, seed) as scene:
            if beside := case.subject.beside.get(case.place):
                await beside(scene, case.armed, case.sign)
                what = "the command was broken, and given again"
            else:
                what = await play(case, scene)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Result(case, monotonic() - started, "", f"{type(error).__name__} at {last.name}: {error}")
    return Result(case, monotonic() - started, what, None)


async def run_all(cases: Sequence[Case], servers: Servers, seed: int) -> list[Result]:
    """Cases that wait go on beside those that work."""
    waits, works = asyncio.Semaphore(WAITING_JOBS), asyncio.Semaphore(JOBS)

    async def one(case: Case) -> Result:
        async with waits if case.deed == "stop" else works:
            result = await run_case(case, servers, seed)
        print(f"{'FAIL' if result.error else 'ok  '} {case} {result.seconds:5.0f} s  {result.what}", flush=True)
        if result.error:
            print(result.error, flush=True)
        return result

    return await asyncio.gather(*(one(case) for case in cases))


def cases_of(subjects: Sequence[Subject], only: str | None, deeds: Sequence[str], seed: int) -> list[Case]:
    chance = random.Random(seed)
    found = []
    for subject in subjects:
        for place in sorted(subject.places):
            for deed in DEEDS:
                at = 1 if place in subject.once else chance.choice([1, 2, 3])
                if deed in deeds and (only is None or only in f"{subject.name}/{place}"):
                    found.append(Case(subject, place, deed, at))
    return found


def table(results: Sequence[Result]) -> str:
    """A row a place, a column a deed."""
    by_place: dict[tuple[str, str], dict[str, str]] = {}
    for result in results:
        row = by_place.setdefault((result.case.subject.name, result.case.place), {})
        row[result.case.deed] = f"FAILED @{result.case.at}" if result.error else f"held @{result.case.at}"
    lines = [f"{'':34}" + "".join(f"{deed:12}" for deed in DEEDS)]
    for (subject, place), row in by_place.items():
        lines.append(f"{subject:10}{place:24}" + "".join(f"{row.get(deed, '-'):12}" for deed in DEEDS))
    return "\n".join(lines)


@asynccontextmanager
async def shared_servers(subjects: Sequence[Subject]) -> AsyncIterator[Servers]:
    with (
        make_place(None) as place,
        finder.kafka(place, wish(), say) as kafka,
        finder.postgres(place, wish(), say) as postgres,
        tempfile.TemporaryDirectory(prefix="matrix-") as folder,
    ):
        kafka.wait()
        postgres.wait()
        databases = Databases(postgres.address)
        try:
            templates = {subject.name: await asyncio.to_thread(subject.migrated, databases) for subject in subjects}
            yield Servers(kafka.address, databases, Path(folder), templates)
        finally:
            if os.environ.get("BACKORDER_POSTGRES"):
                await asyncio.to_thread(databases.drop_all)


async def main(arguments: argparse.Namespace) -> int:
    from tests.faults.matrix_subjects import SUBJECTS

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of the tests' own clients, on topics made a moment ago
    cases = cases_of(SUBJECTS, arguments.only, arguments.deeds.split(","), arguments.seed)
    if not cases:
        print("no such place or deed", file=sys.stderr)
        return 2
    started = monotonic()
    async with shared_servers(SUBJECTS) as servers:
        results = await run_all(cases, servers, arguments.seed)
    failed = [result for result in results if result.error]
    print(f"\n{table(results)}\n")
    print(f"seed {arguments.seed}: {len(results)} cases, {len(failed)} failed, {monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="a part of service/place, such as allocator/relay or store.")
    parser.add_argument("--deeds", default=",".join(DEEDS), help="some of these, by comma")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    sys.exit(asyncio.run(main(parser.parse_args())))
