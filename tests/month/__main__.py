"""`make month`: a month of real purchases on a fast clock, everything told checked, and some customers' mails shown."""

import argparse
import asyncio
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import asyncpg

from backorder_allocator import migrate as allocator_migrate
from backorder_allocator import store as allocator_store
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import Rules
from backorder_allocator.loading import Context
from backorder_local import finder
from backorder_local.place import place
from backorder_notifier import migrate
from backorder_notifier.policy import Policy
from tests.conftest import Databases, say, wish
from tests.month import purchases
from tests.month.allocating import Allocating
from tests.month.checking import Checked, Mail, Told, check
from tests.month.purchases import Month
from tests.month.replaying import Replay, replay
from tests.month.telling import Telling
from tests.notifier.smtp_script import ScriptedServer, scripted_server

DEAD, SLOW = 0.02, 0.03
"""Shares of the addresses that are refused for good, and of those put off the first time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    replay: Replay
    told: list[Told]
    checked: Checked
    states: Counter[tuple[str, str | None]]
    problems: list[str]
    telling: Telling
    server: ScriptedServer


def moody(server: ScriptedServer, seed: int) -> None:
    """Some addresses don't exist, some servers put a mail off the first time (greylisting)."""
    met: set[str] = set()

    def choose(recipient: str) -> str | None:
        draw = random.Random(f"mood/{seed}/{recipient}").random()
        if draw < DEAD:
            return "550 5.1.1 no such user at rcpt"
        if draw < DEAD + SLOW and recipient not in met:
            met.add(recipient)
            return "451 4.7.1 try again later at rcpt"
        return None

    server.choose = choose


async def run(databases: Databases, month: Month, seed: int, a_turn: timedelta, stack: AsyncExitStack) -> Outcome:
    server = await stack.enter_async_context(scripted_server())
    moody(server, seed)
    allocator = await asyncpg.connect(databases.create_database(), server_settings=SESSION)
    stack.push_async_callback(allocator.close)
    await allocator_migrate.apply(allocator)
    rules = Rules()
    context = Context(rules, rules_id=await allocator_store.register_rules(allocator, rules))
    pool = await stack.enter_async_context(asyncpg.create_pool(databases.create_database(), min_size=1, max_size=12))
    async with pool.acquire() as connection:
        await migrate.migrate(connection, month.start)
    telling = Telling(pool, server.url, Policy())
    stack.push_async_callback(telling.close)
    allocating = Allocating(allocator, context)
    done = await replay(month, allocating, telling, seed, a_turn)
    told, decided = await telling.told(), await telling.decided()
    mails: dict[str, list[Mail]] = {}
    for mail in server.accepted:
        delivery_id = str(mail["Message-ID"]).strip("<>").partition("@")[0]
        body = mail.get_body(("plain",))
        text = "" if body is None else body.get_content()
        mails.setdefault(delivery_id, []).append(Mail(str(mail["Content-Language"]), text))
    checked = check(done.heard, told, decided, mails)
    states = Counter((each.state, each.reason) for each in decided)
    return Outcome(
        done, told, checked, states, [*await allocating.problems(), *await telling.problems()], telling, server
    )


async def main() -> int:
    parser = argparse.ArgumentParser(prog="make month", description=__doc__)
    parser.add_argument("--data", type=Path, help="parquet of Online Retail or Complete Journey (default: the package)")
    parser.add_argument("--lines", type=int, default=42_000)
    parser.add_argument("--share", type=float, default=1.0, help="of the customers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turn", type=float, default=15, help="minutes that the clock goes on at once")
    parser.add_argument("--customers", type=int, default=3, help="so many are shown, chosen by the seed")
    arguments = parser.parse_args()
    month = purchases.read(arguments.data, lines=arguments.lines, seed=arguments.seed, share=arguments.share)
    say(f"{month.source}: {month.orders} orders, {month.lines} lines, {month.start:%Y-%m-%d} to {month.end:%Y-%m-%d}")
    began = perf_counter()
    with place(None) as here, finder.postgres(here, wish(), say) as running:
        running.wait()
        async with AsyncExitStack() as stack:
            outcome = await run(
                Databases(running.address), month, arguments.seed, timedelta(minutes=arguments.turn), stack
            )
            report(outcome, perf_counter() - began)
            for customer_id in chosen(outcome.told, arguments.customers, arguments.seed):
                await show(customer_id, outcome)
    return 1 if outcome.checked.broken or outcome.problems else 0


def report(outcome: Outcome, seconds: float) -> None:
    out = sys.stdout.write
    out(f"{outcome.replay.turns} turns in {seconds:.0f} s; {len(outcome.replay.heard)} messages heard\n")
    kinds = Counter((message.kind, "sent" if message.sent else "not sent") for message in outcome.told)
    out("messages: " + ", ".join(f"{kind} {how} {count}" for (kind, how), count in sorted(kinds.items())) + "\n")
    out("decisions: " + ", ".join(f"{s} {r or ''} {n}" for (s, r), n in sorted(outcome.states.items(), key=str)) + "\n")
    for rule, count in sorted(outcome.checked.looked.items()):
        broken = outcome.checked.broken.get(rule, [])
        out(f"{count:8}  {rule}" + (f"  BROKEN {len(broken)}: {broken[:5]}" if broken else "") + "\n")
    if outcome.problems:
        out(f"the services' own audits: {outcome.problems}\n")


def chosen(told: list[Told], most: int, seed: int) -> list[str]:
    customers = sorted({message.customer_id for message in told if message.sent})
    return random.Random(seed).sample(customers, min(most, len(customers)))


async def show(customer_id: str, outcome: Outcome) -> None:
    """Everything a customer got and everything decided not to be sent, in order."""
    out = sys.stdout.write
    out(f"\n── {customer_id}\n")
    mails = {str(mail["Message-ID"]).strip("<>").partition("@")[0]: mail for mail in outcome.server.accepted}
    for at, order_id, what, delivery_id in await outcome.telling.story(customer_id):
        mail = mails.get(delivery_id or "")
        out(f"{at:%m-%d %H:%M}  {order_id}  {what}" + (f"  “{mail['Subject']}”" if mail is not None else "") + "\n")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
