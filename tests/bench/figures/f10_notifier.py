"""The notifier: how fast it reads what it is told into what it will tell, and how fast it hands mails over."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench import mailing, telling
from tests.bench.frame import Bench, Figure, Goal, Rounds, Table, Usage
from tests.bench.mailing import Sink
from tests.bench.spent import spent
from tests.bench.telling import Notifier
from tests.e2e.messages import Message

ORDERS, ORDERS_QUICK = 15_000, 2_000
ROUNDS, ROUNDS_QUICK = 3, 1
MAILS, MAILS_QUICK = 1_500, 300
CONNECTIONS, CONNECTIONS_QUICK = (4, 16), (4,)
THINKING_SECONDS = 0.02
WANTED_INTENTS_PER_SECOND = 8_000
SINK_BOUND = 0.9
"""Of what the sink takes from a loop that does nothing but hand mails over."""
MAILS_SECONDS = 60.0
LATER = '{"default": {"quiet": "PT1H", "at_most": "PT2H"}}'
AT_ONCE = '{"default": {"quiet": "PT0.2S", "at_most": "PT0.5S"}}'


async def measure(bench: Bench) -> Figure:
    reading = await measure_reading(bench)
    mails = await measure_mails(bench)
    rates = reading.rates
    return Figure(
        number=10,
        title="The notifier",
        how=(
            f"Reading: {ORDERS_QUICK if bench.quick else ORDERS:,} orders of 1.75 lines a round, of each of which one"
            " line waits. Their `OrderPlaced`, then the `AllocationReleased` of the other lines, then one"
            " `BackorderCreated` each are published while the process is held, and timed until all is recorded; each of"
            " the last is one intent to tell somebody. Nothing is told meanwhile. The limit: the same events consumed,"
            " the same rows written in transactions of one poll, nothing decoded, locked, looked up or decided."
            f" Mails: one for each of {MAILS_QUICK if bench.quick else MAILS:,} orders, decided, put into words and"
            " handed to a sink that takes and forgets it, at once or after"
            f" {THINKING_SECONDS * 1000:.0f} ms. Beside it a process that does nothing but hand over copies of such a"
            " mail, by bare aiosmtplib over as many connections. Mails per second as the sink sees them, without the"
            f" first {1 / mailing.SETTLING:.0%}."
        ),
        tables=[*reading.tables(), mails_table(mails)],
        goals=[
            Goal(
                "events → recorded intents, per second",
                f"≥ {WANTED_INTENTS_PER_SECOND:,}",
                f"{rates.spread('backorders')}, {rates.ratio('backorders', 'limit'):.0%} of limit",
                rates.median("backorders") >= WANTED_INTENTS_PER_SECOND,
            ),
            *(mails_goal(each) for each in mails),
        ],
    )


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────

STAGES = {
    "orders": "`OrderPlaced`: the contact and the lines",
    "allocations": "`AllocationReleased` of known orders: nothing to tell",
    "backorders": "`BackorderCreated` of known orders: an intent each",
    "limit": "limit: the same rows, nothing decided",
}


@dataclass(slots=True)
class Reading:
    rates: Rounds = field(default_factory=Rounds)
    used: dict[str, str] = field(default_factory=dict)
    spent: Table | None = None

    def tables(self) -> list[Table]:
        return [self.table(), *([self.spent] if self.spent else [])]

    def table(self) -> Table:
        rows = [(what, self.rates.spread(name), self.used[name]) for name, what in STAGES.items()]
        return Table(("", "messages/s", "µs CPU a message (last round)"), rows)


async def measure_reading(bench: Bench) -> Reading:
    found = Reading()
    url = bench.databases.create_database(bench.templates["notifier"])
    async with bench.world() as world:
        # Nobody listens there: nothing is sent before the round is over.
        notifier = await telling.started(world, url, "smtp://127.0.0.1:9", NOTIFIER_DEBOUNCE=LATER)
        used = usage_of(bench, notifier)
        try:
            await read_round(bench, notifier, 500, "warm", Reading(), used)
            for number in range(ROUNDS_QUICK if bench.quick else ROUNDS):
                orders = ORDERS_QUICK if bench.quick else ORDERS
                await read_round(bench, notifier, orders, f"round{number}", found, used)
        finally:
            await notifier.database.close()
    return found


async def read_round(
    bench: Bench, notifier: Notifier, orders: int, prefix: str, found: Reading, used: Callable[[], Usage]
) -> None:
    news = telling.news(orders, prefix)

    async def stage(name: str, messages: Sequence[Message]) -> None:
        before, spent_before = used(), await spent(notifier.service)
        seconds = await notifier.seconds_to_read(messages)
        found.used[name] = (used() - before).per(len(messages))
        found.rates.add(name, len(messages) / seconds)
        if name == "backorders":
            found.spent = (await spent(notifier.service) - spent_before).table(len(messages), seconds)

    await stage("orders", news.orders)
    await stage("allocations", news.allocations)
    rows = await telling.orders_as_they_are(notifier, prefix)
    ends = await notifier.world.ends(["backorders"])
    begin = {partition: ends.get(("backorders", partition), 0) for partition in range(partitions_of(notifier))}
    await stage("backorders", news.backorders)
    events = await telling.written(notifier, prefix)
    assert len(events.rows) == len(news.backorders), "each event is one intent"
    limit_url = bench.databases.create_database(bench.templates["notifier"])
    before = used()
    seconds = await telling.seconds_to_write(notifier.world, limit_url, rows, events, begin)
    found.rates.add("limit", len(events.rows) / seconds)
    found.used["limit"] = (used() - before).per(len(events.rows))


def partitions_of(notifier: Notifier) -> int:
    return len(notifier.world.partitions(["backorders"]))


def usage_of(bench: Bench, notifier: Notifier) -> Callable[[], Usage]:
    return lambda: bench.usage(notifier=notifier.service.process.pid, bench=os.getpid())


# ── mails ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Mails:
    """Of one sink and number of connections."""

    connections: int
    think: float
    rates: Rounds = field(default_factory=Rounds)
    used: str = ""

    @property
    def sink(self) -> str:
        return f"{f'{self.think * 1000:.0f} ms a mail' if self.think else 'at once'}, {self.connections} connections"


async def measure_mails(bench: Bench) -> list[Mails]:
    found = []
    async with mailing.sink() as sink:
        for connections in CONNECTIONS_QUICK if bench.quick else CONNECTIONS:
            found += await measure_connections(bench, sink, connections)
    return found


async def measure_connections(bench: Bench, sink: Sink, connections: int) -> list[Mails]:
    found = [Mails(connections, 0.0), Mails(connections, THINKING_SECONDS)]
    url = bench.databases.create_database(bench.templates["notifier"])
    mails = MAILS_QUICK if bench.quick else MAILS
    async with bench.world() as world:
        notifier = await telling.started(
            world,
            url,
            sink.url,
            NOTIFIER_DEBOUNCE=AT_ONCE,
            NOTIFIER_EMAIL_PER_SECOND="10000",
            NOTIFIER_SEND_CONCURRENCY=str(connections),
        )
        used = usage_of(bench, notifier)
        try:
            await tell(notifier, sink, 50, "warm")
            sink.per_second()
            for number in range(ROUNDS_QUICK if bench.quick else ROUNDS):
                for each in found:
                    sink.think = each.think
                    before = used()
                    await tell(notifier, sink, mails, f"{number}-{each.think}")
                    each.used = (used() - before).per(mails)
                    each.rates.add("notifier", sink.per_second())
                    each.rates.add("bare", await mailing.hand_over_bare(sink, connections, mails))
        finally:
            await notifier.database.close()
    return found


async def tell(notifier: Notifier, sink: Sink, number: int, prefix: str) -> None:
    """Until the sink has a mail for each of so many orders."""
    news = telling.news(number, prefix)
    await notifier.seconds_to_read(news.orders)
    await notifier.seconds_to_read(news.backorders)
    await sink.has(number, MAILS_SECONDS)


def mails_table(mails: Sequence[Mails]) -> Table:
    return Table(
        ("sink", "notifier, mails/s", "bare, mails/s", "ratio", "µs CPU a mail (last round; the sink is in bench)"),
        [
            (
                each.sink,
                each.rates.spread("notifier"),
                each.rates.spread("bare"),
                f"{each.rates.ratio('notifier', 'bare'):.2f}",
                each.used,
            )
            for each in mails
        ],
    )


def mails_goal(mails: Mails) -> Goal:
    ratio = mails.rates.ratio("notifier", "bare")
    measured = f"{mails.rates.spread('notifier')}, {ratio:.2f} × bare"
    return Goal(f"mails/s, sink {mails.sink}", f"≥ {SINK_BOUND} × bare", measured, ratio >= SINK_BOUND)
