"""Plants each bug in running processes and sees whether its rule finds it: `python -m tests.faults.bugs [words]`.

Words choose bugs by name. Without the bug the same scene must be clean. Exits with 1 where one of both is not so.
"""

import asyncio
import logging
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from backorder_local import finder
from backorder_local.place import place as make_place
from tests.conftest import Databases, say, wish
from tests.faults.bugs.catalogue import BUGS
from tests.faults.bugs.judging import judged
from tests.faults.bugs.planted import Bug
from tests.faults.bugs.scenes import SCENES
from tests.faults.bugs.stage import Servers, made_stage, migrated

AT_ONCE = 2


@dataclass(frozen=True)
class Run:
    """A scene that was played, with a bug or (None) without."""

    scene: str
    bug: Bug | None
    broken: dict[str, str]
    seconds: float
    error: str = ""

    @property
    def is_fine(self) -> bool:
        if self.error:
            return False
        return self.bug.rule in self.broken if self.bug else not self.broken

    def row(self) -> str:
        if self.bug is None:
            name, expected = f"(no bug) {self.scene}", "nothing"
        else:
            name, expected = self.bug.name, self.bug.rule
        by = self.error or "; ".join(sorted(self.broken, key=lambda rule: rule != expected)) or "nothing"
        wrong = "" if self.is_fine else "   <- wrong"
        return f"{name:56} {expected:62} {self.seconds:5.0f} s  {by}{wrong}"


async def play(servers: Servers, scene: str, bug: Bug | None) -> Run:
    started = monotonic()
    try:
        async with made_stage(servers, bug) as stage:
            await SCENES[scene](stage)
            broken = await judged(stage)
    except Exception as error:
        traceback.print_exc()
        return Run(scene, bug, {}, monotonic() - started, f"{type(error).__name__}: {str(error)[:200]}")
    return Run(scene, bug, broken, monotonic() - started)


async def play_all(servers: Servers, bugs: Sequence[Bug]) -> bool:
    """A line for each run, as it ends; whether all were fine."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(scene: str, bug: Bug | None) -> bool:
        async with turn:
            run = await play(servers, scene, bug)
        print(run.row(), flush=True)
        for rule, example in run.broken.items() if not run.is_fine else ():
            print(f"    {rule}: {example}", flush=True)
        return run.is_fine

    scenes = dict.fromkeys(bug.scene for bug in bugs)
    runs = [*((scene, None) for scene in scenes), *((bug.scene, bug) for bug in bugs)]
    fine = await asyncio.gather(*(one(scene, bug) for scene, bug in runs))
    print(f"{len(bugs)} bugs in {len(scenes)} scenes, each of which was played without bug, too")
    return all(fine)


def main(words: Sequence[str]) -> int:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of our own clients, on topics made a moment ago
    bugs = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    if not bugs:
        print("no bug has such a name", file=sys.stderr)
        return 2
    with (
        make_place(None) as place,
        finder.kafka(place, wish(), say) as kafka,
        finder.postgres(place, wish(), say) as postgres,
    ):
        kafka.wait()
        postgres.wait()
        databases = Databases(postgres.address)
        try:
            servers = Servers(kafka.address, databases, migrated(databases))
            print(f"{'bug':56} {'rule that must find it':62} {'':>7}  found by", flush=True)
            return 0 if asyncio.run(play_all(servers, bugs)) else 1
        finally:
            databases.drop_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
