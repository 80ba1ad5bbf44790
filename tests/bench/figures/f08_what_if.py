"""Figure 8: what operators ask of a long queue."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from statistics import median
from time import monotonic
from typing import Any

import asyncpg

from backorder_allocator.arguments import Delay, Receipt
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import Rules
from backorder_allocator.explaining import explain
from backorder_allocator.what_if import Idea, what_if
from backorder_schemas import Customer, OrderLine, OrderPlaced
from tests.bench.frame import Bench, Figure, Goal, Table
from tests.bench.hot_statements import explained
from tests.bench.loaded import COMES_FROM, Load, fill, order_id, sku
from tests.bench.loaded_bytes import LOCATION
from tests.e2e.processes import command

LINES = 100_000
SUPPLIES = 50
WHAT_IF_SECONDS, EXPLAIN_SECONDS = 0.5, 0.02


async def measure(bench: Bench) -> Figure:
    now = datetime.now(UTC).replace(microsecond=0)
    url = bench.databases.create_database(bench.templates["allocator"])
    connection = await asyncpg.connect(url, server_settings=SESSION)
    rounds = 1 if bench.quick else 5
    try:
        await fill(connection, Load(LINES, supplies=SUPPLIES, units_to_come=LINES // SUPPLIES), now)
        rows, worst = [], 0.0
        for name, idea in _ideas(now).items():
            ask = partial(what_if, connection, [idea], Rules(), now)
            seconds, answer = await _timed(ask, rounds)
            worst = max(worst, seconds)
            told = f"{len(answer['lines']):,} lines, {len(answer['events']):,} events"
            rows.append([f"what if {name}", told, f"{seconds * 1000:,.0f}"])
            bench.say(f"  what if {name}: {seconds:.2f} s")
        last, answer = await _timed(partial(explain, connection, order_id(LINES - 1)), rounds)
        rows.append(["explain the last in line", f"{answer['lines'][0]['lines_ahead']:,} ahead", f"{last * 1000:,.1f}"])
        first, _ = await _timed(partial(explain, connection, order_id(0)), rounds)
        rows.append(["explain the first in line", "0 ahead", f"{first * 1000:,.1f}"])
        plans = [
            await explained(connection, "dates_that_move", *_twenty_ahead(now)),
            await explained(connection, "lines_by_order", order_id(LINES - 1)),
        ]
    finally:
        await connection.close()
    for name, arguments in (("what-if", ["--receive", f"{sku(0)}=1000"]), ("explain", [order_id(LINES - 1)])):
        began = monotonic()
        await command("backorder-allocator", _settings(url), name, *arguments)
        rows.append([f"the command {name} (with Python's start, JSON out)", "", f"{(monotonic() - began) * 1000:,.0f}"])
    longest = max(first, last)
    return Figure(
        8,
        "What-if and explain",
        f"On a pool with {LINES:,} lines of one unit and {SUPPLIES} supplies: from the question to the answer as"
        f" values, in a process that is warm, the median of {rounds}; then the whole commands once.",
        [
            Table(("question", "answer", "ms"), rows),
            Table(
                ("statement", "scans", "rows", "buffers", "ms"),
                [
                    [each.statement, each.scans, f"{each.rows:,}", f"{each.buffers:,}", f"{each.ms:.1f}"]
                    for each in plans
                ],
            ),
        ],
        [
            Goal("what-if, the slowest of three", f"≤ {WHAT_IF_SECONDS} s", f"{worst:.2f} s", worst <= WHAT_IF_SECONDS),
            Goal(
                "explain",
                f"≤ {EXPLAIN_SECONDS * 1000:.0f} ms",
                f"{longest * 1000:.0f} ms",
                longest <= EXPLAIN_SECONDS,
            ),
        ],
    )


def _ideas(now: datetime) -> dict[str, Idea]:
    ahead = OrderPlaced(
        id="ahead/placed",
        occurred_at=now,
        order_id="ahead",
        placed_at=now - timedelta(days=1000),
        currency="EUR",
        customer=Customer(customer_id="customer-of-ahead"),
        lines=(OrderLine(line_no=1, sku=sku(0), quantity=20, unit_price=Decimal("10.00")),),
    )
    return {
        "1,000 units arrive": Receipt(sku(0), LOCATION, 1000),
        "the next supply is a week late": Delay("S-1", timedelta(days=7)),
        "20 units enter ahead of all": ahead,
    }


def _twenty_ahead(now: datetime) -> list[list[Any]]:
    """The arguments of `dates_that_move` for the last of these ideas."""
    dates = [now, *(now + COMES_FROM + timedelta(days=supply) for supply in range(1, SUPPLIES + 1))]
    reached = [supply * (LINES // SUPPLIES) for supply in range(SUPPLIES + 1)]
    steps = json.dumps([reached, [date.date().isoformat() for date in dates]])
    return [[1], [steps], [steps], [False], [1], [now - timedelta(days=1000)], ["ahead"], [1], [20]]


async def _timed(ask: Callable[[], Awaitable[Any]], rounds: int) -> tuple[float, Any]:
    """The median in seconds, after one that does not count, and the answer."""
    answer = await ask()
    seconds = []
    for _ in range(rounds):
        began = monotonic()
        answer = await ask()
        seconds.append(monotonic() - began)
    return median(seconds), answer


def _settings(url: str) -> dict[str, str]:
    return {"ALLOCATOR_DATABASE_URL": url, "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": "nobody.example:9092"}
