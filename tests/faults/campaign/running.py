"""One campaign: a stage, a load, faults, healing, and the judges."""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.faults.campaign import report as reports
from tests.faults.campaign.demand import TIMERS_SECONDS, Shop
from tests.faults.campaign.draining import drained
from tests.faults.campaign.effects import Watch
from tests.faults.campaign.faults import LONG, Kind, Lengths
from tests.faults.campaign.followers import Follower, compare, follow, has_read_all
from tests.faults.campaign.judge import (
    Verdict,
    fingerprint,
    judge_again,
    judge_inputs,
    judge_mails,
    read_inputs,
    send_again,
)
from tests.faults.campaign.report import Report
from tests.faults.campaign.schedule import Schedule
from tests.faults.campaign.snapshots import Snapshots
from tests.faults.campaign.stage import Stage, staged
from tests.faults.campaign.upstream import Upstream, Warehouse, keep_busy

READY_SECONDS = 120.0
PATIENCE_SECONDS = 150.0
"""What does not drain within this never will."""
PAUSE_SECONDS = (1.5, 4.0)
EFFECTIVE_SHARE = 0.8
MAY_BE_UNCHECKED = {"a mail came twice only by a fault"}
"""Luck."""


@dataclass(frozen=True)
class Wish:
    """What to do. `seconds`: how long things are broken."""

    seed: int
    seconds: float
    rate: float
    kinds: Sequence[Kind]
    lengths: Lengths
    replays: bool = True
    drains_within: float = 60.0
    """Seconds, after everything is mended."""


@dataclass
class Campaign:
    """What runs beside the faults, and what it saw."""

    stage: Stage
    wish: Wish
    watch: Watch
    shop: Shop
    upstream: Upstream
    snapshots: Snapshots
    followers: list[Follower]
    report: Report
    unchecked: dict[str, str] = field(default_factory=dict)
    """Rules that this load has nothing of, and why."""
    stops_sending: asyncio.Event = field(default_factory=asyncio.Event)
    stops_reading: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)

    def step(self, name: str) -> None:
        """From now on time is spent on this."""
        passed = sum(self.report.seconds_by_step.values())
        self.report.seconds_by_step[name] = round(time.monotonic() - self.began - passed, 1)


async def run(wish: Wish, folder: Path) -> Report:
    """A whole campaign. Its findings are in the report; it raises only where the campaign itself is at fault."""
    report = Report(wish.seed, wish.seconds, commit=reports.commit(), machine=reports.machine(), folder=str(folder))
    began = time.monotonic()
    async with staged(folder) as stage:
        upstream = Upstream(stage.kafka.address)
        campaign = Campaign(
            stage,
            wish,
            Watch(stage.supervisor, stage.wire, stage.kafka.address, stage.urls),
            Shop(wish.seed),
            upstream,
            Snapshots(stage.urls),
            [Follower("from the start"), Follower("from a third on"), Follower("from two thirds on")],
            report,
            began=began,
        )
        try:
            await play(campaign)
        finally:
            campaign.watch.close()
            await upstream.close()
    report.seconds = round(time.monotonic() - began, 1)
    return report


async def play(campaign: Campaign) -> None:
    """From the first process to the verdict."""
    stage, report = campaign.stage, campaign.report
    for slot in stage.supervisor.slots:
        slot.wanted = slot.number <= 2
    async with beside(stage.supervisor.keep_alive, stage.supervisor.scrape):
        await until_ready(campaign)
        campaign.step("starting")
        async with beside(campaign.watch.look_on):
            verdict = Verdict()
            await break_things(campaign)
            await heal(campaign, verdict)
            await send_all_again(campaign, verdict)
            campaign.step("sending everything again")
            await judge(campaign, verdict)
            campaign.step("judging")
        campaign.stops_reading.set()
        await stage.supervisor.end_all()
        campaign.step("ending")
    conclude(campaign, verdict)
    campaign.say(report.sentence)


@asynccontextmanager
async def beside(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Runs these beside the block; ends them with it. What they raise ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run_forever(work)) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def run_forever(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def until_ready(campaign: Campaign) -> None:
    async def all_ready() -> None:
        while True:
            members = campaign.stage.supervisor.living()
            if len(members) == 4 and all([await member.is_ready() for member in members]):
                return
            await asyncio.sleep(0.2)

    try:
        await asyncio.wait_for(all_ready(), READY_SECONDS)
    except TimeoutError:
        logs = campaign.stage.place.logs
        raise RuntimeError(f"the services were not ready within {READY_SECONDS:.0f} s; see {logs}") from None
    campaign.say("two allocators and two notifiers are ready")


async def break_things(campaign: Campaign) -> None:
    """Load and faults, until time is up and the last fault is mended."""
    wish, stage = campaign.wish, campaign.stage
    kafka = stage.kafka.address
    warehouse = Warehouse(kafka, campaign.shop, campaign.upstream)
    schedule = Schedule(stage.ground, campaign.watch, wish.kinds, wish.lengths, random.Random(wish.seed), PAUSE_SECONDS)
    campaign.report.faults = schedule.faults
    await campaign.upstream.send(campaign.shop.opening(int(wish.rate * wish.seconds / 3)))
    began = time.monotonic()

    async def joins(follower: Follower, after: float) -> None:
        await asyncio.sleep(after)
        await follow(follower, kafka, from_start=not after, seed=wish.seed, until=campaign.stops_reading)

    async def tells() -> None:
        told = 0
        while not campaign.stops_sending.is_set():
            for fault in schedule.faults[told:]:
                campaign.say(fault.what)
            told = len(schedule.faults)
            await asyncio.sleep(0.2)

    for number, follower in enumerate(campaign.followers):
        task = asyncio.create_task(joins(follower, number * wish.seconds / 3))
        _KEPT.add(task)
        task.add_done_callback(_KEPT.discard)
    async with beside(campaign.snapshots.keep_looking, tells, warehouse.work):
        busy = asyncio.create_task(keep_busy(campaign.upstream, campaign.shop, wish.rate, campaign.stops_sending))
        try:
            await asyncio.sleep(1)
            await schedule.inject(began + wish.seconds)
        finally:
            await schedule.mend()
            campaign.stops_sending.set()
        await busy
        warehouse.deaf.set()
        campaign.step("breaking things")
        await stage.wire.heal()
        campaign.say(f"everything is mended; {campaign.upstream.sent} records were sent")
    _KEPT.add(asyncio.create_task(schedule.judged()))


_KEPT: set["asyncio.Task[None]"] = set()


async def heal(campaign: Campaign, verdict: Verdict) -> None:
    """Everything has to drain by itself now; the followers read to the end."""
    began = time.monotonic()
    done = await drained(campaign.stage, PATIENCE_SECONDS, campaign.say)
    campaign.report.drain_seconds, campaign.report.load_average = done.seconds, os.getloadavg()[0]
    what = f"after {done.seconds} s there is still {done.left}" if done.left else f"it took {done.seconds} s"
    limit = campaign.wish.drains_within
    verdict.check(f"all drains within {limit:.0f} s", not done.left and done.seconds <= limit, what)
    campaign.say(f"drained after {done.seconds} s {done.left or ''}")
    await asyncio.sleep(max(0.0, TIMERS_SECONDS - (time.monotonic() - began)))
    await drained(campaign.stage, PATIENCE_SECONDS, campaign.say)
    for service in campaign.stage.urls:
        verdict.check("a snapshot could be audited at rest", await campaign.snapshots.look(service), service)
    await judge_followers(campaign, verdict)
    campaign.step("draining")


async def judge_followers(campaign: Campaign, verdict: Verdict) -> None:
    """Subscribers agree with the tables, by `Versions`."""
    connection = await asyncpg.connect(campaign.stage.urls["allocator"])
    try:
        row = await connection.fetchrow("SELECT journal, seq FROM log_head")
        campaign.report.transactions, campaign.report.events = row["journal"], row["seq"]
        for follower in campaign.followers:
            deadline = time.monotonic() + 20
            while not (done := await has_read_all(follower, campaign.stage.kafka.address)):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.5)
            verdict.check("subscribers read to the end", done, follower.name)
            compared, wrong = await compare(follower, connection)
            verdict.add(f"a subscriber {follower.name} agrees with the tables", compared, wrong)
            verdict.add("what subscribers see follows the contract", follower.applied.total(), follower.wrong)
            campaign.report.subscribers[follower.name] = {
                "applied": follower.applied.total(),
                "seen before": follower.repeats,
                "read again": follower.reread,
                "facts compared": compared,
            }
    finally:
        await connection.close()


async def send_all_again(campaign: Campaign, verdict: Verdict) -> None:
    """The live system is sent everything a second time."""
    stage = campaign.stage
    sent = await read_inputs(stage.kafka.address)
    await judge_inputs(verdict, sent, campaign.upstream, stage.urls)
    before = await fingerprint(stage.urls)
    campaign.say(f"sending {len(sent)} records again")
    await send_again(campaign.upstream, sent)
    done = await drained(stage, PATIENCE_SECONDS, campaign.say)
    verdict.check("what was sent again drains", not done.left, str(done.left))
    judge_again(verdict, before, await fingerprint(stage.urls))
    await campaign.watch.look_once()
    counts = await stage.wire.counts()
    mails = await judge_mails(
        verdict, stage.mails, stage.urls["notifier"], campaign.report.faults, counts.get("mailbox/refused_5xx", 0)
    )
    campaign.report.mails = {"accepted": mails.accepted, "distinct": mails.distinct, "doubled": mails.doubled}
    for follower in campaign.followers:
        follower.applied.clear()


async def judge(campaign: Campaign, verdict: Verdict) -> None:
    """The commands that an operator has, beside the running services: audits, and the replay into an empty database."""
    stage = campaign.stage
    audit = ("audit", "--topics", "--strict", "--json")
    commands: list[tuple[str, ...]] = [("allocator", *audit), ("notifier", *audit)]
    if campaign.wish.replays:
        replayed = await stage.postgres.make_database("replayed")
        commands.append(("allocator", "replay", "--into", replayed, "--json"))
    answers = await asyncio.gather(*(stage.command(*each, seconds=3600) for each in commands))
    for (service, what, *_), (code, out, errors) in zip(commands, answers, strict=True):
        verdict.check(f"{service} {what} ends with 0", code == 0, f"{code} {errors[-600:]}")
        try:
            answer = json.loads(out)
        except ValueError:
            continue
        if what == "audit":
            for check in answer["checks"]:
                examples = "; ".join(map(str, check["examples"]))
                chain = "\n    ".join(["", *map(str, check["chain"])])
                wrong = [f"{check['violations']} violations: {examples}{chain}"] if check["violations"] else []
                verdict.add(f"{service}: {check['rule']}", check["checked"], wrong)
                if check["unchecked"]:
                    campaign.unchecked[f"{service}: {check['rule']}"] = check["unchecked"]
        else:
            campaign.report.replayed = {name: value for name, value in answer.items() if name != "compared"}
            compared = sum(each["compared"] for each in answer["compared"])
            verdict.add("the journal repeated gives the same", compared, [] if answer["same"] else answer["examples"])
    campaign.say("audited and replayed")


def conclude(campaign: Campaign, verdict: Verdict) -> None:
    """What all of it amounts to."""
    report, supervisor, snapshots = campaign.report, campaign.stage.supervisor, campaign.snapshots
    for sentence, number in snapshots.checked.items():
        verdict.checked[sentence] += number
    verdict.violations += snapshots.violations
    verdict.violations += supervisor.violations
    verdict.checked["processes end as they should"] += len(supervisor.exits)
    faults = report.faults
    for fault in faults:
        if fault.failed:
            verdict.violations.append(f"the campaign could not do it: {fault.what}: {fault.failed}")
    if len(report.effective) < EFFECTIVE_SHARE * len(faults):
        verdict.violations.append(f"only {len(report.effective)} of {len(faults)} faults had an effect")
    if campaign.wish.lengths is LONG:
        shown = {fault.kind for fault in report.effective}
        verdict.violations += [
            f"no {kind.name} had an effect" for kind in campaign.wish.kinds if kind.name not in shown
        ]
    verdict.violations += [
        f"never looked at: {sentence}"
        for sentence, number in verdict.checked.items()
        if not number and sentence not in MAY_BE_UNCHECKED and sentence not in campaign.unchecked
    ]
    report.checked = dict(verdict.checked)
    report.violations = verdict.violations
    report.exits = dict(Counter(f"{each.why} with {each.code}" for each in supervisor.exits))
    report.slowest_end_seconds = max(
        (each.seconds or 0 for each in supervisor.exits if each.why == "SIGTERM"), default=0
    )
    report.restarts = supervisor.restarts
    said: Counter[str] = Counter()
    for member in supervisor.members:
        report.log_lines += member.lines
        said.update({f"{member.slot.service}: {event}": number for event, number in member.said.items()})
    report.said = dict(said.most_common())
    report.records_sent, report.records_in_doubt = campaign.upstream.sent, campaign.upstream.in_doubt
    report.snapshots, report.snapshots_missed = dict(snapshots.taken), snapshots.missed
    report.gaps = campaign.watch.gaps
