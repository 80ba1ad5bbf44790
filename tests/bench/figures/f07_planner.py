"""Figure 7: the planner on a long queue, when all its dates move and when few do."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median
from time import monotonic

import asyncpg

from backorder_allocator import batches, store
from backorder_allocator.batches import Record
from backorder_allocator.connections import PREPARED_FOR_GOOD, SERVICE
from backorder_allocator.decision import Input, Message, Rules
from backorder_allocator.loading import Context
from backorder_allocator.planner import Planner
from backorder_allocator.telemetry import STATEMENT_SECONDS
from backorder_schemas import Customer, OrderLine, OrderPlaced, SupplyExpected
from backorder_schemas.topics import TOPIC_OF
from tests.bench.frame import Bench, Figure, Goal, Table
from tests.bench.hot_statements import explained
from tests.bench.loaded import COMES_FROM, Load, fill, sku
from tests.bench.loaded_bytes import LOCATION

LINES = 100_000
SUPPLIES = 50
UNITS = LINES // SUPPLIES
AHEAD = LINES // 100 // SUPPLIES
"""Units that enter ahead of all others: so many lines behind each supply's last unit move to the next one."""
WANTED_SECONDS = {"all": 1.5, "1 %": 0.4}


@dataclass(frozen=True, slots=True)
class Run:
    """The planner on one pool: in seconds, how many dates moved, and what it waited for."""

    seconds: float
    moved: int
    transactions: int
    statements: Counter[str]
    """µs until all answers, by name."""


async def measure(bench: Bench) -> Figure:
    now = datetime.now(UTC).replace(microsecond=0)
    template = bench.databases.create_database(bench.templates["allocator"])
    connection = await asyncpg.connect(template, server_settings=SERVICE)
    try:
        await fill(connection, Load(LINES, supplies=SUPPLIES, units_to_come=UNITS), now)
        scans = await explained(connection, "lines_to_plan", [1], ['[[0], ["2026-11-02"]]'], [None], [None])
    finally:
        await connection.close()
    runs: dict[str, list[Run]] = {}
    for _ in range(1 if bench.quick else 3):
        for name, messages in (("all", _supplies_a_week_later(now)), ("1 %", [_order_ahead(now)])):
            run = await _round(bench, template, messages)
            runs.setdefault(name, []).append(run)
            bench.say(f"  {name}: {run.moved:,} dates moved in {run.seconds:.2f} s")
    plan = f"`lines_to_plan`: {scans.scans}; {scans.rows:,} rows, {scans.buffers:,} buffers, {scans.ms:.0f} ms"
    return _figure(runs, plan)


async def _round(bench: Bench, template: str, messages: Sequence[Message]) -> Run:
    connection = await asyncpg.connect(
        bench.databases.create_database(template), server_settings=SERVICE, **PREPARED_FOR_GOOD
    )
    try:
        rules = Rules()
        context = Context(rules, rules_id=await store.register_rules(connection, rules))
        await _work(connection, context, messages)
        planner = Planner(context, 0.0, lambda: None)
        at = datetime.now(UTC)
        before = _statements()
        entries = await connection.fetchval("SELECT journal FROM log_head")
        began = monotonic()
        while await planner.run(connection, at):
            pass
        seconds = monotonic() - began
        moved = await connection.fetchval("SELECT count(*) FROM events WHERE type = 'PromiseChanged'")
        transactions = await connection.fetchval("SELECT journal - $1 FROM log_head", entries)
        return Run(seconds, moved, transactions, _statements() - before)
    finally:
        await connection.close()


async def _work(connection: asyncpg.Connection, context: Context, messages: Sequence[Message]) -> None:
    """What makes the pool stale, by the transaction of the service."""
    at = datetime.now(UTC)
    records: list[Record] = []
    for message in messages:
        topic = TOPIC_OF[type(message)].name
        records.append(Record(topic, 0, len(records), at, b"", b"", (), Input(message, at)))
    await store.add_cursors(connection, {(record.topic, record.partition) for record in records})
    worked = await batches.work(connection, records, context, at)
    assert {outcome.kind for outcome in worked.outcomes} == {"applied"}


def _supplies_a_week_later(now: datetime) -> list[Message]:
    return [
        SupplyExpected(
            id=f"later-{number}",
            occurred_at=now,
            supply_id=f"S-{number}",
            revision=2,
            sku=sku(0),
            location=LOCATION,
            quantity=UNITS,
            expected_at=now + COMES_FROM + timedelta(days=number + 7),
            supplier="acme",
        )
        for number in range(1, SUPPLIES + 1)
    ]


def _order_ahead(now: datetime) -> Message:
    """As with a head start: behind each supply, as many lines as it has units are covered by the next one."""
    return OrderPlaced(
        id="ahead/placed",
        occurred_at=now,
        order_id="ahead",
        placed_at=now - timedelta(days=1000),
        currency="EUR",
        customer=Customer(customer_id="customer-of-ahead"),
        lines=(OrderLine(line_no=1, sku=sku(0), quantity=AHEAD, unit_price=Decimal("10.00")),),
    )


def _statements() -> Counter[str]:
    """µs that this process has waited for each statement."""
    found: Counter[str] = Counter()
    for metric in STATEMENT_SECONDS.collect():
        for sample in metric.samples:
            if sample.name.endswith("_sum"):
                found[sample.labels["statement"]] += round(sample.value * 1e6)
    return found


def _figure(runs: dict[str, list[Run]], plan: str) -> Figure:
    rows, where, goals = [], [], []
    for name, of_kind in runs.items():
        run = sorted(of_kind, key=lambda each: each.seconds)[len(of_kind) // 2]
        seconds = median(each.seconds for each in of_kind)
        spread = f"{min(each.seconds for each in of_kind):.2f} to {max(each.seconds for each in of_kind):.2f}"
        rows.append([name, f"{LINES:,}", f"{run.moved:,}", f"{run.transactions}", f"{seconds:.2f}", spread])
        wanted = WANTED_SECONDS[name]
        what = f"planner, {LINES:,} lines, {SUPPLIES} supplies, dates that move: {name}"
        goals.append(Goal(what, f"≤ {wanted} s", f"{seconds:.2f} s", seconds <= wanted))
        slow = run.statements.most_common(5)
        where += [[name, statement, f"{us / 1e6:.2f}"] for statement, us in slow]
        rest = run.seconds - sum(run.statements.values()) / 1e6
        where.append([name, "Python: rows to values, plan, events, and COMMIT", f"{rest:.2f}"])
    return Figure(
        7,
        "Planner",
        f"A pool with {LINES:,} lines of one unit and {SUPPLIES} supplies of {UNITS:,}, a day apart. All move when"
        f" all supplies are announced a week later; 1 % when {AHEAD} units enter ahead of all others. The service's"
        " planner and its transactions on a real database, each round on a copy; alone, without the messages and the"
        " relay beside it. From finding the pool until nothing is left to plan.",
        [
            Table(("dates that move", "lines read", "dates told", "transactions", "s", "from to"), rows),
            Table(("dates that move", "waiting for", "s"), where),
        ],
        goals,
        notes=[f"The queue is read by {plan} when nothing is written."],
    )
