"""Real purchases through the whole system: read, make up supply, start the stack, replay, measure, sum up."""

import asyncio
import json
import logging
import os
import secrets
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from backorder_local import datasets, finder, measure, progress, receipts, replay, report, stack, summary
from backorder_local.errors import LocalError
from backorder_local.finder import Way, Wish
from backorder_local.mail_store import MailStore
from backorder_local.measure import Ledger, Tail
from backorder_local.progress import Show, Standing
from backorder_local.purchases import Purchases
from backorder_local.replay import Pace, Published, Replay, Window
from backorder_local.stack import Plan, Stack
from backorder_local.state import running_stacks
from backorder_local.summary import Audit, Decided, Summary

TOLD_SECONDS = 60
"""So long without a new decision or mail, and the rest is given up."""
PAUSE_SECONDS = 0.1
ASK_SECONDS = 1.0
CONCERN_CUSTOMERS = {
    "allocation_revoked", "backorder_cancelled", "backorder_created", "backorder_filled", "backorder_rejected",
    "promise_changed",
}  # fmt: skip
"""Kinds of the events that the ledger counts."""
CLOSE_SECONDS = 5


@dataclass(frozen=True)
class Wanted:
    """What the user asked for. `speed`: seconds of the data in one; None: as fast as possible."""

    lines: int
    file: Path | None
    speed: float | None
    seed: int
    way: Way | None
    keep: bool
    as_json: bool
    unsafe_durability: bool = False


def run(wanted: Wanted, say: Callable[[str], None]) -> None:
    """Runs the demo. Raises LocalError, also if the audit or the mails show a problem."""
    # What goes wrong with Kafka is raised as well; while servers end, the library would tell of each lost connection.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    bought = datasets.read(wanted.file, lines=wanted.lines, seed=wanted.seed)
    supply = receipts.supply_for(bought, wanted.seed)
    say(
        f"{bought.source}: {bought.line_count:,} lines in {len(bought.orders):,} orders, "
        f"{bought.start:%Y-%m-%d} to {bought.end:%Y-%m-%d}"
    )
    say(f"  Receipts are synthetic: the data has no supply. {supply.share_waiting:.1%} of the lines should wait")
    cut = replay.windows(bought, supply)
    plan = Plan(
        wish=Wish(wanted.way),
        prefix=own_prefix(wanted.way),
        own_sink=True,
        unsafe_durability=wanted.unsafe_durability,
    )
    with stack.stack(plan, say) as running:
        say("Replaying" + (f" at {wanted.speed:g} × real time" if wanted.speed else ", as fast as possible"))
        with progress.shown() as show:
            replayed = asyncio.run(Demo(running, bought, cut, Pace(bought.start, wanted.speed), show).run())
        mails = MailStore(running.place.mails).mails()
        result = summary.sum_up(
            bought, supply, replayed.published, replayed.ledger, mails, replayed.decided, replayed.audit
        )
        alone = not wanted.keep or len(running_stacks()) == 1
        further = report.look_further(result, kept=wanted.keep, folder=running.state.folder, alone=alone)
        if wanted.as_json:
            print(report.as_json(result), flush=True)
        else:
            remarks = (*report.remarks_on(supply), *bought.remarks)
            example = summary.example_mail(mails, replayed.ledger)
            print(report.as_text(result, remarks, example, speed=wanted.speed), flush=True)
            print(further, flush=True)
        if plan.prefix:
            say(f"On the servers that you named stay topics and databases that begin with {plan.prefix!r}.")
        if not wanted.keep and not result.fine:
            raise LocalError(problem(result, running), exit_code=1)  # an error keeps the logs
        if wanted.keep:
            if not result.fine:
                say(f"\n{problem(result, running)}")
            say(f"\nEverything stays up (folder {running.state.folder}). Ctrl-C ends it.")
            stack.watch(running)


def problem(result: Summary, running: Stack) -> str:
    parts = [] if result.audit.clean else ["The audit found a rule broken."]
    if result.events_untold:
        parts.append(
            f"{result.events_untold:,} events were told to nobody: for {TOLD_SECONDS} s nothing was decided or sent."
        )
    return " ".join([*parts, f"The logs are in {running.place.logs}"])


def own_prefix(way: Way | None) -> str:
    """On servers that others use too, and that may have had a demo before, names of our own."""
    named = any(os.environ.get(name) for name in (finder.KAFKA_VARIABLE, finder.POSTGRES_VARIABLE))
    return f"demo-{secrets.token_hex(3)}." if named and way in {None, Way.ENV} else ""


@dataclass(frozen=True)
class Replayed:
    published: Published
    ledger: Ledger
    decided: Decided
    audit: Audit


class Demo:
    """The replay on a stack that runs."""

    def __init__(self, running: Stack, bought: Purchases, windows: Sequence[Window], pace: Pace, show: Show) -> None:
        self.running = running
        self.bought = bought
        self.windows = windows
        self.pace = pace
        self.show = show
        self.ledger = Ledger({f"placed/{order.order_id}": order.order_id for order in bought.orders})
        self.prefix = running.state.prefix
        self.published = Published()
        self.decided = Decided(0, 0, {})

    async def run(self) -> Replayed:
        """Returns when everything is decided and told, or no longer will be. Raises LocalError."""
        servers = self.running.kafka.address.split(",")
        async with AsyncExitStack() as opened:
            producer = AIOKafkaProducer(
                bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=replay.LINGER_MS
            )
            consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=100)
            admin = AIOKafkaAdminClient(bootstrap_servers=servers)
            for client in (producer, consumer, admin):
                opened.push_async_callback(close, client)
                await client.start()
            tail = Tail(consumer, self.prefix, self.ledger)
            tail.assign(await producer.client.fetch_all_metadata())
            playing = asyncio.create_task(self.play(producer, admin, tail))
            tasks: tuple[asyncio.Task[Any], ...] = (
                playing,
                asyncio.create_task(tail.run()),
                asyncio.create_task(self.watch()),
            )
            for task in tasks:
                opened.push_async_callback(end, task)
            # The others never end but by an error, and then the replay may wait for ever: for a Kafka that is gone.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {playing}:
                task.result()
            return await playing

    async def play(self, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient, tail: Tail) -> Replayed:
        group = f"{self.prefix}allocator"
        coordinator = await admin.find_coordinator(group)
        player = Replay(
            producer,
            lambda: replay.committed_offsets(admin, group, coordinator),
            self.prefix,
            self.pace,
            self.published,
        )
        await player.run(self.windows)
        await self.until_decided(tail)
        auditing = asyncio.create_task(self.audit())
        try:
            await self.until_told(tail)
            audit = await auditing
        finally:
            await end(auditing)
        self.show(self.standing())
        return Replayed(self.published, self.ledger, self.decided, audit)

    async def watch(self) -> None:
        """Shows where the replay stands. Ends only by a LocalError, when a process of the stack has ended."""
        while True:
            stack.check(self.running)
            self.show(self.standing())
            await asyncio.sleep(PAUSE_SECONDS)

    def standing(self) -> Standing:
        due = len(self.ledger.to_tell)
        return Standing(
            orders=self.published.orders,
            orders_total=len(self.bought.orders),
            at=self.published.until,
            lines_waiting=self.ledger.lines_waiting,
            units_filled=self.ledger.units["filled"],
            told=min(due, max(due - len(self.ledger.untold), self.decided.events)),
            to_tell=due,
            mails=len(self.ledger.told),
        )

    async def until_decided(self, tail: Tail) -> None:
        """Until the allocator has published everything it decided, and the tail has read it."""
        while (await self.ask("allocator", "status"))["relay_behind"]:  # noqa: ASYNC110  another process: nobody could set an event
            await asyncio.sleep(PAUSE_SECONDS)
        while not await tail.is_at_end():
            await measure.wait_for(tail.moved, PAUSE_SECONDS)

    async def until_told(self, tail: Tail) -> None:
        """Until the notifier says that it has read, decided and sent everything, or nothing moves for TOLD_SECONDS."""
        last: tuple[object, ...] = ()
        deadline = 0.0
        lag = 1
        while True:
            if lag:  # nothing more comes: what it has read once, it has read for good
                lag = sum(row["lag"] for row in await self.ask("notifier", "lag"))
            status = await self.ask("notifier", "status")
            self.decided = decided(status["updates"])
            if not lag and nothing_is_left(status["waits"]):
                break
            moved = (lag, self.decided, status["waits"]["deliveries_due"], len(self.ledger.told))
            if moved != last:
                last, deadline = moved, time.monotonic() + TOLD_SECONDS
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(ASK_SECONDS)
        while not await tail.is_at_end():
            await measure.wait_for(tail.moved, PAUSE_SECONDS)

    async def audit(self) -> Audit:
        found = await self.ask("allocator", "audit", codes=(0, 1))
        checks = found["checks"]
        return Audit(
            clean=found["clean"],
            rules=len(checks),
            checked=sum(check["checked"] for check in checks),
            violations={check["rule"]: check["violations"] for check in checks if check["violations"]},
        )

    async def ask(self, service: str, command: str, codes: tuple[int, ...] = (0,)) -> Any:
        """The JSON that a service's command answers. Raises LocalError."""
        program = Path(sysconfig.get_path("scripts")) / f"backorder-{service}"
        process = await asyncio.create_subprocess_exec(
            program, command, "--json",
            env=os.environ | self.running.state.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            answer, complaint = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        if process.returncode not in codes:
            said = complaint.decode(errors="replace").strip()
            raise LocalError(f"backorder-{service} {command} ended with {process.returncode}:\n{said}", exit_code=1)
        return json.loads(answer)


def decided(updates: Sequence[dict[str, Any]]) -> Decided:
    """From the `updates` of `backorder-notifier status`."""
    ours = [row for row in updates if row["kind"] in CONCERN_CUSTOMERS]
    not_told: Counter[str] = Counter()
    for row in ours:
        if row["state"] == "not_told":
            not_told[row["reason"]] += row["updates"]
    later = sum(row["updates"] for row in ours if row["state"] == "pending")
    return Decided(sum(row["updates"] for row in ours) - later, later, dict(not_told))


def nothing_is_left(waits: dict[str, Any]) -> bool:
    """Whether the notifier has nothing to do now or soon. News may still wait for more of the same, or for tomorrow."""
    soon = waits["next_decision"]
    if waits["updates_pending"] and soon is not None:
        soon = datetime.fromisoformat(soon) < datetime.now(UTC) + timedelta(seconds=TOLD_SECONDS)
    else:
        soon = False
    return not soon and not any(waits[name] for name in ("orders_to_decide", "deliveries_due", "outcomes_unpublished"))


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels it. What it raises was raised already, or follows from what was."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


async def close(client: Any) -> None:
    """Closes a client of Kafka. Where Kafka is gone, that may take for ever, or raise what was cancelled inside."""
    closing = asyncio.create_task(client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
    await asyncio.wait([closing], timeout=CLOSE_SECONDS)
    await end(closing)
