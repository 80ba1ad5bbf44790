"""Breaks things, one every few seconds, and writes down what each did."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.campaign.effects import Watch, moved, that_match
from tests.faults.campaign.faults import Ground, Kind, Lengths, Plan

AFTERMATH_SECONDS = 18.0
"""Its effect may come as late as this: a session of Kafka ends after ten, and who is left has to join again."""
MANY = 3
"""Faults at one time, at most."""
WAITS_WHILE_DOWN = 0.6
"""While a server is away or frozen little else can have an effect."""


@dataclass
class Fault:
    """One that was injected. `effects`: counters that show it; `moved`: all that moved meanwhile, also by others."""

    kind: str
    what: str
    began_at: float
    ended_at: float = 0.0
    effects: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    failed: str = ""
    """It could not be injected or mended: the campaign's own mistake."""

    @property
    def effective(self) -> bool:
        return bool(self.effects)


@dataclass
class Schedule:
    """Injects until it is told to stop; every kind once before any twice, as far as time and targets allow."""

    ground: Ground
    watch: Watch
    kinds: Sequence[Kind]
    lengths: Lengths
    chance: random.Random
    pause: tuple[float, float]
    faults: list[Fault] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    _running: set["asyncio.Task[None]"] = field(default_factory=set)
    _judging: set["asyncio.Task[None]"] = field(default_factory=set)

    async def inject(self, deadline: float) -> None:
        """Until `deadline` (of time.monotonic), then waits for what is still broken to be mended."""
        while time.monotonic() < deadline:
            waits = self.ground.is_down and self.chance.random() < WAITS_WHILE_DOWN
            if not waits and len(self._running) < MANY and (chosen := self._choose(deadline - time.monotonic())):
                kind, plan = chosen
                self.done[kind.name] += 1
                task = asyncio.create_task(self._run(kind, plan))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            await asyncio.sleep(self.chance.uniform(*self.pause))
        if self._running:
            await asyncio.wait(self._running)

    async def mend(self) -> None:
        """Ends what is still broken, now."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def judged(self) -> None:
        """Waits until each fault's effects are known."""
        if self._judging:
            await asyncio.wait(self._judging)

    def _choose(self, seconds_left: float) -> tuple[Kind, Plan] | None:
        kinds = [kind for kind in self.kinds if kind.seconds <= max(seconds_left, 1)]
        # Seldom ones first, long ones among them early; and among equals by chance.
        order = sorted(
            kinds, key=lambda kind: (self.done[kind.name] / kind.weight, self.chance.random() - kind.seconds / 40)
        )
        for kind in order:
            plan = kind.plan(self.ground, self.chance, self.lengths)
            if plan is not None and not plan.claims & self.ground.claimed:
                return kind, plan
        return None

    async def _run(self, kind: Kind, plan: Plan) -> None:
        fault = Fault(kind.name, plan.what, time.time())
        self.faults.append(fault)
        before = self.watch.now()
        self.ground.claimed |= plan.claims
        try:
            await plan.run()
        except Exception as error:  # reported as what it is: a fault that was none
            fault.failed = f"{type(error).__name__}: {error}"[:300]
        finally:
            self.ground.claimed -= plan.claims
            fault.ended_at = time.time()
            judging = asyncio.create_task(self._judge(fault, plan, before))
            self._judging.add(judging)
            judging.add_done_callback(self._judging.discard)

    async def _judge(self, fault: Fault, plan: Plan, before: Counter[str]) -> None:
        await asyncio.sleep(AFTERMATH_SECONDS)
        fault.moved = moved(before, self.watch.now())
        fault.effects = that_match(fault.moved, plan.shows)
