"""What is broken on purpose: each kind, how it heals, and by which counters one sees that it did something.

A fault breaks one thing, waits, and mends it, also when it is cancelled. It claims what it touches, so that two at a
time don't undo each other; all others may overlap.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.faults.campaign.servers import Kafka, Postgres, freeze
from tests.faults.campaign.supervisor import Member, Service, Slot, Supervisor
from tests.faults.campaign.wire import PASS, Wire

SERVICES: tuple[Service, ...] = ("allocator", "notifier")
SERVERS = ("kafka", "postgres", "smtp")

BITES_SECONDS = 12.0
"""So long a broken link or mail server waits for something to pass that it breaks; then it is mended again."""

# Counters that show that a service noticed something.
NOTICED = (
    r"/says (tries again|not_ready|.*relay tries again|publishing_failed|claiming_failed|cursors_not_read|waiting)",
    r"/says (leases_not_renewed|housekeeping_failed|telling_stopped|.*(lost|does not publish))",
    r"retries_total",
    r"failures?_total",
    r"failed_total",
    r"redelivered",
    r"fenced",
    r"refused",
    r"not_ready",
    r"exits/by itself",
)
MEMBERS = (r"group/\w+ (lost|got)", r"lease changed hands", r"rebalances")
STANDSTILL = (r"standstill/",)


@dataclass
class Ground:
    """What there is to break."""

    kafka: Kafka
    postgres: Postgres
    wire: Wire
    supervisor: Supervisor
    databases: Sequence[str]
    """Names of the services' databases."""
    claimed: set[str] = field(default_factory=set)

    @property
    def is_down(self) -> bool:
        """Whether a server is away or frozen: then nothing moves that could be broken."""
        return bool(self.claimed & {"kafka", "postgres"})

    def slots(self, service: Service | None = None) -> list[Slot]:
        """The two of each service that always run, as far as they do."""
        return [
            slot
            for slot in self.supervisor.slots
            if slot.number <= 2
            and service in {None, slot.service}
            and slot.member is not None
            and slot.member.runs
            and slot.member.url is not None
        ]

    def spare(self, service: Service) -> Slot:
        return next(slot for slot in self.supervisor.slots if slot.service == service and slot.number == 3)


@dataclass(frozen=True)
class Plan:
    """One fault, chosen: what it claims, what it is called in the report, what it does until it is mended."""

    claims: frozenset[str]
    what: str
    run: Callable[[], Awaitable[None]]
    shows: tuple[str, ...]
    """Patterns of counters, one of which moves if it had an effect."""


@dataclass(frozen=True)
class Kind:
    """`plan` chooses a target; None: there is none now. `seconds`: about how long it takes, so that it ends in time."""

    name: str
    plan: Callable[[Ground, random.Random, "Lengths"], Plan | None]
    seconds: float
    weight: float = 1.0


@dataclass(frozen=True)
class Lengths:
    """How long things stay broken: shorter in a short campaign."""

    frozen_process: tuple[float, float]
    away: tuple[float, float]
    frozen_server: tuple[float, float]
    network: tuple[float, float]
    mail: tuple[float, float]
    guest: tuple[float, float]


SHORT = Lengths((12, 20), (1, 3), (5, 10), (3, 6), (2, 5), (6, 10))
LONG = Lengths((5, 45), (1, 12), (5, 15), (3, 15), (2, 15), (5, 25))
TINY = Lengths((11, 12), (0.5, 1), (2, 3), (1, 2), (1, 2), (3, 4))


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def kill(service: Service) -> Callable[[Ground, random.Random, Lengths], Plan | None]:
    def plan(ground: Ground, chance: random.Random, _lengths: Lengths) -> Plan | None:
        member = some_member(ground, chance, service)
        if member is None:
            return None

        async def run() -> None:
            await member.scrape()
            member.signal(signal.SIGKILL)
            await until(lambda: not member.runs, 5)

        return Plan(frozenset({member.slot.name}), f"SIGKILL {member.name}", run, (*of_members(service),))

    return plan


def terminate(service: Service) -> Callable[[Ground, random.Random, Lengths], Plan | None]:
    def plan(ground: Ground, chance: random.Random, _lengths: Lengths) -> Plan | None:
        member = some_member(ground, chance, service)
        if member is None:
            return None

        async def run() -> None:
            await member.scrape()
            member.signal(signal.SIGTERM)
            await until(lambda: not member.runs, 40)

        return Plan(frozenset({member.slot.name}), f"SIGTERM {member.name}", run, (*of_members(service),))

    return plan


def freeze_process(service: Service) -> Callable[[Ground, random.Random, Lengths], Plan | None]:
    """It stands still, another takes its place, it wakes up and believes that nothing happened."""

    def plan(ground: Ground, chance: random.Random, lengths: Lengths) -> Plan | None:
        member = some_member(ground, chance, service)
        spare = ground.spare(service)
        if (
            member is None
            or ground.is_down
            or spare.name in ground.claimed
            or (spare.member is not None and spare.member.runs)
        ):
            return None
        seconds = chance.uniform(*lengths.frozen_process)

        async def run() -> None:
            await member.scrape()
            member.signal(signal.SIGSTOP)
            freeze([member.pid], seconds)
            replacement = await ground.supervisor.start(spare)
            await asyncio.sleep(seconds)
            member.signal(signal.SIGCONT)
            await asyncio.sleep(3)
            await replacement.scrape()
            replacement.signal(signal.SIGTERM)
            await until(lambda: not replacement.runs, 40)

        async def mended() -> None:
            try:
                await run()
            finally:
                member.signal(signal.SIGCONT)

        what = f"SIGSTOP {member.name} for {seconds:.0f} s, a replacement meanwhile"
        shows = (
            rf"{service}-\d/.*(fenced|redelivered|refused|lost)",
            rf"{service}-\d/says .*(lost|late|assigned)",
            rf"{service} (refused|lease changed hands)",
            rf"group/{service} lost",
        )
        return Plan(frozenset({member.slot.name, spare.name}), what, mended, shows)

    return plan


def guest(ground: Ground, chance: random.Random, lengths: Lengths) -> Plan | None:
    """A third member joins, works and leaves."""
    service = chance.choice(SERVICES)
    spare = ground.spare(service)
    if ground.is_down or spare.name in ground.claimed or (spare.member is not None and spare.member.runs):
        return None
    seconds = chance.uniform(*lengths.guest)

    async def run() -> None:
        member = await ground.supervisor.start(spare)
        try:
            await asyncio.sleep(seconds)
        finally:
            await member.scrape()
            member.signal(signal.SIGTERM)
        await until(lambda: not member.runs, 40)

    what = f"a third {service} for {seconds:.0f} s"
    return Plan(frozenset({spare.name}), what, run, (*of_members(service),))


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sessions(*, all_of_them: bool) -> Callable[[Ground, random.Random, Lengths], Plan | None]:
    def plan(ground: Ground, chance: random.Random, _lengths: Lengths) -> Plan | None:
        if ground.is_down:
            return None
        database = chance.choice(list(ground.databases))
        last = chance.random()

        async def run() -> None:
            connection = await asyncpg.connect(ground.postgres.url, timeout=5)
            try:
                rows = await connection.fetch(
                    "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'backorder-%' "
                    "ORDER BY pid",
                    database,
                )
                pids = [row["pid"] for row in rows]
                chosen = pids if all_of_them else pids[int(last * len(pids)) :][:1]
                await connection.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid", chosen)
            finally:
                await connection.close(timeout=5)
            await asyncio.sleep(0.5)

        service = "notifier" if "notifier" in database else "allocator"
        what = f"pg_terminate_backend of {'all' if all_of_them else 'one'} of {service}"
        return Plan(frozenset(), what, run, (rf"postgres/{service}-\d/connections", *noticed(f"{service}-")))

    return plan


def restart_postgres(ground: Ground, chance: random.Random, lengths: Lengths) -> Plan | None:
    if ground.is_down:
        return None
    seconds, immediate = chance.uniform(*lengths.away), chance.random() < 0.8

    async def run() -> None:
        try:
            await ground.postgres.stop(immediate=immediate)
            await asyncio.sleep(seconds)
        finally:
            await asyncio.shield(ground.postgres.start())

    what = f"PostgreSQL stopped ({'immediate' if immediate else 'fast'}) for {seconds:.1f} s"
    return Plan(frozenset({"postgres"}), what, run, (r"postgres/.*/server_was_away", *noticed()))


def freeze_postgres(ground: Ground, chance: random.Random, lengths: Lengths) -> Plan | None:
    if ground.is_down:
        return None
    seconds = chance.uniform(*lengths.frozen_server)

    async def run() -> None:
        ground.postgres.freeze(seconds)
        await asyncio.sleep(seconds + 0.5)

    return Plan(frozenset({"postgres"}), f"PostgreSQL frozen for {seconds:.0f} s", run, (*noticed(), *STANDSTILL))


def restart_kafka(ground: Ground, chance: random.Random, lengths: Lengths) -> Plan | None:
    if ground.is_down:
        return None
    seconds, kill_it = chance.uniform(*lengths.away), chance.random() < 0.5

    async def run() -> None:
        try:
            await ground.kafka.stop(kill=kill_it)
            await asyncio.sleep(seconds)
        finally:
            await asyncio.shield(ground.kafka.start())

    what = f"Kafka {'killed' if kill_it else 'stopped'} and started after {seconds:.1f} s"
    return Plan(frozenset({"kafka"}), what, run, (r"kafka/.*/server_was_away", *noticed(), *STANDSTILL))


def freeze_kafka(ground: Ground, chance: random.Random, lengths: Lengths) -> Plan | None:
    if ground.is_down:
        return None
    seconds = chance.uniform(*lengths.frozen_server)

    async def run() -> None:
        ground.kafka.freeze(seconds)
        await asyncio.sleep(seconds + 0.5)

    shows = (*noticed(), *STANDSTILL, *MEMBERS)
    return Plan(frozenset({"kafka"}), f"Kafka frozen for {seconds:.0f} s", run, shows)


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────────────


def network(server: str, sort: str) -> Callable[[Ground, random.Random, Lengths], Plan | None]:
    """Something happens on the links to one server: of one process, or of all."""

    def plan(ground: Ground, chance: random.Random, lengths: Lengths) -> Plan | None:
        service: Service | None = "notifier" if server == "smtp" else None
        slots = ground.slots(service)
        if not slots or ground.is_down:
            return None
        chosen = slots if chance.random() < 0.35 else [chance.choice(slots)]
        links = [f"{server}/{slot.name}" for slot in chosen]
        if ground.claimed & set(links):
            return None
        seconds = chance.uniform(*lengths.network)
        mode, counted = mode_for(server, sort, chance)
        loses = chance.random() < 0.5

        async def run() -> None:
            try:
                await ground.wire.change(links, mode)
                await bites(ground, [f"{link}/{counted}" for link in links])
                await asyncio.sleep(seconds)
            finally:
                if sort == "hole" and loses:
                    await ground.wire.cut(links)
                await ground.wire.change(links, PASS)

        whom = "all" if len(chosen) > 1 else chosen[0].name
        what = f"{server} of {whom}: {sort} {mode} for {seconds:.0f} s"
        shows = tuple(rf"^{link}/{counted}" for link in links)
        return Plan(frozenset(links), what, run, shows)

    return plan


def mode_for(server: str, sort: str, chance: random.Random) -> tuple[dict[str, Any], str]:
    """The proxy's mode, and the counter that shows that bytes met it."""
    at = {"postgres": "commit", "kafka": "produce", "smtp": "dot"}[server]
    way = chance.choice(["to_server", "to_client"])
    match sort:
        case "delay":
            return {"mode": "delay", "seconds": round(chance.uniform(0.05, 0.4), 3)}, "bytes_delayed"
        case "hole":
            ways = chance.choice([[way], [way], ["to_server", "to_client"]])
            return {"mode": "hold", "ways": ways}, "bytes_held"
        case "trickle":
            return {"mode": "trickle", "bytes_per_second": chance.choice([1000, 4000, 16000])}, "bytes_trickled"
        case "cut between":
            return {"mode": "cut_after", "bytes": chance.randrange(1, 6000), "way": way}, "cut_in_between"
        case "cut before" | "cut after":
            before, times = sort == "cut before", chance.randint(1, 4)
            counted = f"{at}_cut_{'before' if before else 'after'}"
            return {"mode": "cut_at", "milestone": at, "before": before, "times": times}, counted
        case _:
            raise AssertionError(sort)


def mail_server(answer: str, counted: str) -> Callable[[Ground, random.Random, Lengths], Plan | None]:
    def plan(ground: Ground, chance: random.Random, lengths: Lengths) -> Plan | None:
        if "mailbox" in ground.claimed or ground.is_down:
            return None
        seconds = chance.uniform(*lengths.mail)

        async def run() -> None:
            try:
                await ground.wire.answer_mails(answer)
                await bites(ground, [f"mailbox/{counted}"])
                await asyncio.sleep(seconds)
            finally:
                await ground.wire.answer_mails("take")

        return Plan(
            frozenset({"mailbox"}), f"mail server says {answer!r} for {seconds:.0f} s", run, (rf"mailbox/{counted}",)
        )

    return plan


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────

KINDS: tuple[Kind, ...] = (
    Kind("kill allocator", kill("allocator"), 1, 1.5),
    Kind("kill notifier", kill("notifier"), 1, 1.5),
    Kind("terminate allocator", terminate("allocator"), 4),
    Kind("terminate notifier", terminate("notifier"), 4),
    Kind("freeze allocator", freeze_process("allocator"), 25),
    Kind("freeze notifier", freeze_process("notifier"), 25),
    Kind("member joins and leaves", guest, 12),
    Kind("pg_terminate_backend all", sessions(all_of_them=True), 1),
    Kind("pg_terminate_backend one", sessions(all_of_them=False), 1),
    Kind("postgres stopped and started", restart_postgres, 6),
    Kind("postgres frozen", freeze_postgres, 10),
    Kind("kafka stopped and started", restart_kafka, 12),
    Kind("kafka frozen", freeze_kafka, 10),
    *(
        Kind(f"{server} {sort}", network(server, sort), 6, weight)
        for server in SERVERS
        for sort, weight in (
            ("delay", 0.7),
            ("hole", 1.0),
            ("cut between", 1.0),
            ("cut before", 1.5),
            ("cut after", 1.5),
            ("trickle", 0.7),
        )
    ),
    Kind("smtp says 4xx", mail_server("451 4.3.0 Try again later", "refused_4xx"), 4),
    Kind("smtp says 5xx", mail_server("554 5.6.0 Not this one", "refused_5xx"), 3),
    Kind("smtp hangs", mail_server("hang", "hung"), 5),
)


def of_members(service: Service) -> tuple[str, ...]:
    return (rf"group/{service} ", rf"{service} lease changed hands")


def noticed(prefix: str = "") -> tuple[str, ...]:
    return tuple(rf"{prefix}.*{each}" if prefix else each for each in NOTICED)


def some_member(ground: Ground, chance: random.Random, service: Service) -> Member | None:
    """One that runs and that no fault is at; seldom while a server is away, since it then has little in hand."""
    if ground.is_down and chance.random() < 0.75:
        return None
    slots = [slot for slot in ground.slots(service) if slot.name not in ground.claimed]
    slot = chance.choice(slots) if slots else None
    return slot.member if slot is not None else None


async def bites(ground: Ground, counters: Sequence[str]) -> None:
    """Waits until one of the counters has moved; not for ever."""
    before = await ground.wire.counts()
    deadline = time.monotonic() + BITES_SECONDS
    while time.monotonic() < deadline:
        now = await ground.wire.counts()
        if any(now.get(name, 0) > before.get(name, 0) for name in counters):
            return
        await asyncio.sleep(0.2)


async def until(holds: Callable[[], bool], seconds: float) -> None:
    """Waits; not being so in time is for others to judge."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:  # noqa: ASYNC110  nobody tells us
        await asyncio.sleep(0.05)
