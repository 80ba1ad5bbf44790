"""Runs the services as an orchestrator does: what ends is started again, and how it ended is written down."""

import asyncio
import contextlib
import json
import re
import signal
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from backorder_local import processes
from backorder_local.place import Place
from backorder_local.processes import Process
from tests.e2e.processes import clean_environment
from tests.faults.campaign.servers import child_of, signal_to

Service = Literal["allocator", "notifier"]

TERM_SECONDS = 30.0
"""What the contract gives a service after SIGTERM."""
LOOK_SECONDS = 0.1
SCRAPE_SECONDS = 1.0
BACKOFF_SECONDS = (0.3, 1.0, 3.0)
KILLED = 128 + signal.SIGKILL
WATCHED = re.compile(
    r"^(?:allocator|backorder_notifier)_(?:\w*(?:fenced|refused|redelivered|retries|restarts|failures|failed|lost|gaps|"
    r"stopped|unreadable|ambiguous|reconnect|dead_letters)\w*|batches_total|attempts_total)(?:\{.*\})?$"
)
"""Counters that move when something is wrong. A counter of all that goes well is left out by what it is labelled."""
WELL = re.compile(r'outcome="(?:sent|committed|applied|ok|done)"')
SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) ([-+0-9.eE]+)$", re.MULTILINE)


@dataclass
class Member:
    """One process of a service, in the log folder by its name."""

    name: str
    slot: "Slot"
    process: Process
    pid: int
    started_at: float
    url: str | None = None
    termed_at: float | None = None
    killed: bool = False
    frozen: bool = False
    """By SIGSTOP."""
    counters: dict[str, float] = field(default_factory=dict)
    said: Counter[str] = field(default_factory=Counter)
    """Lines of its log that matter, by event."""
    lines: int = 0
    errors: list[str] = field(default_factory=list)
    """Its tracebacks and fatal lines, the first few."""
    _read: int = 0

    @property
    def runs(self) -> bool:
        return self.process.exit_code() is None

    def signal(self, number: signal.Signals) -> None:
        if number == signal.SIGTERM:
            self.termed_at = time.time()
        elif number == signal.SIGKILL:
            self.killed = True
        self.frozen = number == signal.SIGSTOP or (self.frozen and number != signal.SIGCONT)
        signal_to(self.pid, number)

    def read_log(self) -> None:
        """What is new in the log."""
        with self.process.log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self.lines += 1
            try:
                content = json.loads(line)
            except ValueError:
                self.said["(a line that is not JSON)"] += 1
                if len(self.errors) < 20:
                    self.errors.append(line[:300])
                continue
            event, level = str(content.get("event"))[:80], content.get("level")
            if level in {"warning", "error", "critical"} or event in {"assigned", "transaction starts over"}:
                self.said[event] += 1
            if level in {"error", "critical"} and len(self.errors) < 20:
                self.errors.append(line[:600])
            if self.url is None:
                if "http" in content:
                    self.url = str(content["http"])
                elif event == "http":
                    self.url = f"http://{content['host']}:{content['port']}"

    async def scrape(self) -> None:
        """Its counters now; the last ones known, if it does not answer."""
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            self.read_log()
        if self.url is None or self.frozen or not self.runs:
            return
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            for sample, value in SAMPLE.findall(await get(self.url, "/metrics")):
                if WATCHED.match(sample) and not WELL.search(sample) and "_created" not in sample:
                    self.counters[sample] = float(value)

    async def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            self.read_log()
        if self.url is None:
            return False
        try:
            await get(self.url, "/readyz")
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        return True


@dataclass(frozen=True)
class Exit:
    """How a process ended, and why as far as we know."""

    name: str
    code: int
    at: float
    why: str
    seconds: float | None = None
    """After SIGTERM."""


@dataclass
class Slot:
    """A place where a process of a service runs, behind its own proxies. The third is filled only for a while."""

    service: Service
    number: int
    environment: Mapping[str, str]
    wanted: bool = False
    member: Member | None = None
    failures: int = 0
    starts: int = 0
    next_start_at: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.service}-{self.number}"


class Supervisor:
    """All processes of both services. `exits` in order; `violations`: what no fault may lead to."""

    def __init__(self, place: Place, environments: Mapping[Service, list[dict[str, str]]]) -> None:
        self.place = place
        self.slots = [
            Slot(service, number, environment)
            for service, each in environments.items()
            for number, environment in enumerate(each, start=1)
        ]
        self.members: list[Member] = []
        self.exits: list[Exit] = []
        self.violations: list[str] = []
        self.restarts = 0
        self._seen: set[str] = set()

    def living(self, service: Service | None = None) -> list[Member]:
        return [each for each in self.members if each.runs and service in {None, each.slot.service}]

    async def start(self, slot: Slot) -> Member:
        """Starts a process there. What ran there before is not ours to end."""
        slot.starts += 1
        name = f"{slot.name}-{slot.starts}"
        program = Path(sysconfig.get_path("scripts")) / f"backorder-{slot.service}"
        process = await asyncio.to_thread(
            processes.start,
            self.place,
            name,
            [program, "run"],
            env=clean_environment() | dict(slot.environment),
            grace_seconds=TERM_SECONDS + 5,
        )
        child = await asyncio.to_thread(child_of, process)
        member = Member(name, slot, process, child.pid, time.time())
        self.members.append(member)
        slot.member = member
        return member

    async def keep_alive(self) -> None:
        """Starts what is wanted and does not run. Never returns."""
        while True:
            await self.look()
            for slot in self.slots:
                member = slot.member
                if not slot.wanted or (member is not None and member.runs) or time.time() < slot.next_start_at:
                    continue
                if member is not None:
                    self.restarts += 1
                await self.start(slot)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Writes down who has ended since, and ends who does not end by itself in time."""
        for member in self.members:
            if member.name in self._seen:
                continue
            now = time.time()
            code = member.process.exit_code()
            if code is None:
                if member.termed_at is not None and not member.killed and now - member.termed_at > TERM_SECONDS + 3:
                    self.violations.append(f"{member.name} did not end within {TERM_SECONDS:.0f} s of SIGTERM")
                    member.signal(signal.SIGKILL)
                continue
            self._seen.add(member.name)
            with contextlib.suppress(OSError):
                member.read_log()
            self._judge(member, code, now)
            slot = member.slot
            slot.failures = 0 if now - member.started_at > 10 else slot.failures + 1
            slot.next_start_at = now + BACKOFF_SECONDS[min(slot.failures, len(BACKOFF_SECONDS) - 1)]

    def _judge(self, member: Member, code: int, now: float) -> None:
        why = "killed" if member.killed else "SIGTERM" if member.termed_at is not None else "by itself"
        seconds = None if member.termed_at is None else round(now - member.termed_at, 2)
        self.exits.append(Exit(member.name, code, now, why, seconds))
        tail = processes.tail(member.process.log, 6)
        if why == "SIGTERM" and code != 0:
            self.violations.append(f"{member.name} ended with {code} after SIGTERM:\n{tail}")
        elif why == "by itself" and code in {0, 2, KILLED}:
            self.violations.append(f"{member.name} ended by itself with {code}:\n{tail}")

    async def scrape(self) -> None:
        """Counters of all, each second. Never returns."""
        while True:
            await asyncio.gather(*(member.scrape() for member in self.living()))
            await asyncio.sleep(SCRAPE_SECONDS)

    def counters(self) -> Iterator[tuple[str, float]]:
        """All that was counted, by slot: those of processes that are gone are kept."""
        sums: Counter[str] = Counter()
        for member in self.members:
            for sample, value in member.counters.items():
                sums[f"{member.slot.name}/{sample}"] += int(value)
            for event, number in member.said.items():
                sums[f"{member.slot.name}/says {event}"] += number
        sums["exits/by itself"] = sum(each.why == "by itself" for each in self.exits)
        yield from sums.items()

    async def end_all(self, seconds: float = TERM_SECONDS + 8) -> None:
        """SIGTERM to all that run; each has to end in order and in time."""
        for slot in self.slots:
            slot.wanted = False
        for member in self.living():
            member.signal(signal.SIGCONT)
            member.signal(signal.SIGTERM)
        deadline = time.time() + seconds
        while self.living() and time.time() < deadline:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)
        await self.look()

    async def kill_all(self) -> None:
        """At the very end, whatever happened before."""
        for slot in self.slots:
            slot.wanted = False
        for member in self.living():
            member.signal(signal.SIGKILL)
            member.signal(signal.SIGCONT)
        await asyncio.gather(*(asyncio.to_thread(member.process.stop) for member in self.members))


async def get(url: str, path: str) -> str:
    """The body of an HTTP answer of 200. Raises OSError or TimeoutError."""
    host, _, port = url.removeprefix("http://").partition(":")
    async with asyncio.timeout(1.5):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    if " 200 " not in head.partition("\r\n")[0]:
        raise OSError(head.partition("\r\n")[0])
    return body
