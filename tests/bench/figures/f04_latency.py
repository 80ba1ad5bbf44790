"""Figure 4: latency at 1,000 orders a second: from an order to its event, from a receipt to the backorder it fills."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench import latency, load
from tests.bench.draining import PLANNER_INTERVAL
from tests.bench.frame import Bench, Curve, Figure, Goal, Table, percentile
from tests.bench.latency import Due, Run
from tests.e2e.messages import Message, order, receipt
from tests.e2e.world import World

ORDERS_PER_SECOND = 1000
RECEIPTS_PER_SECOND = 50
QUICK, WHOLE = (4, 2, 1), (15, 3, 3)
"""Seconds that count, seconds of warm-up before, rounds."""
SHARES = (0.5, 0.9, 0.99, 0.999, 1.0)
CURVE = [each / 200 for each in range(200)] + [0.999]
ORDER, RECEIPT, ECHO = "order → its last event", "receipt → BackorderFilled", "order → event of the echo"
GOALS = {ORDER: 50.0, RECEIPT: 60.0}
"""p99 in milliseconds."""

Seconds = Sequence[float]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent, the ids of orders and receipts that count (not those of the warm-up), and what is there before."""

    due: Sequence[Due]
    orders: Sequence[str]
    receipts: Sequence[str]
    stock: Sequence[Message]
    waiting: Sequence[Message]


async def measure(bench: Bench) -> Figure:
    seconds, warm_up, rounds = QUICK if bench.quick else WHOLE
    found: dict[str, list[Seconds]] = {ORDER: [], RECEIPT: [], ECHO: []}
    steps: list[Mapping[str, Seconds]] = []
    late: list[float] = []
    for number in range(rounds):
        plan = made_plan(seconds, warm_up, seed=number)
        async with bench.world() as world:
            await world.allocator(ALLOCATOR_PLANNER_INTERVAL_SECONDS=PLANNER_INTERVAL)
            await world.tell(*plan.stock)
            await world.tell(*plan.waiting)
            run = await latency.measure(world, plan.due)
            found[ORDER].append(run.seconds(plan.orders))
            found[RECEIPT].append(run.seconds(plan.receipts, ["BackorderFilled"]))
            steps.append(await steps_of(world, run, plan.orders))
            late += run.sent_late
        async with bench.world() as world:
            run = await latency.measure(world, [each for each in plan.due if each.message.topic == "orders"], echo=True)
            found[ECHO].append(run.seconds(plan.orders))
        p50, p99 = latency.milliseconds(found[ORDER][-1], 0.5, 0.99)
        bench.say(f"  order: p50 {p50:.0f}, p99 {p99:.0f} ms")
    at_99 = {name: at(measured, 0.99) for name, measured in found.items()}
    sent_late = latency.milliseconds(late, 0.5, 0.99)
    return Figure(
        4,
        f"Latency at {ORDERS_PER_SECOND:,} orders a second",
        f"An open loop: {ORDERS_PER_SECOND:,} orders and {RECEIPTS_PER_SECOND} receipts a second are sent by schedule,"
        f" {seconds} s after {warm_up} s of warm-up, {rounds} round(s); time counts from when each was due until a"
        " subscriber in a process of its own has read the last event that it caused. The echo is what the machine takes"
        " for the way alone, with the same orders: a process reads what is there, commits one row, and publishes an"
        " event for each.",
        [percentile_table(found), step_table(steps)],
        [
            Goal(f"{name}, p99", f"≤ {GOALS[name]:.0f} ms", f"{at_99[name]:.0f} ms", at_99[name] <= GOALS[name])
            for name in GOALS
        ],
        [
            Curve(
                "f04-latency",
                f"Latency at {ORDERS_PER_SECOND:,} orders a second",
                "% of the messages",
                "milliseconds",
                {name: [(share * 100, at(measured, share)) for share in CURVE] for name, measured in found.items()},
            )
        ],
        [
            f"p99 of the order's way is {at_99[ORDER] / at_99[ECHO]:.1f} × that of the echo.",
            f"The sender itself was late by {sent_late[0]:.1f} ms (p50), {sent_late[1]:.1f} ms (p99), which counts.",
        ],
    )


def at(rounds: Sequence[Seconds], share: float) -> float:
    """The median of the percentiles of the rounds, in milliseconds."""
    return median(percentile(each, share) for each in rounds) * 1000


def made_plan(seconds: int, warm_up: int, seed: int) -> Plan:
    """Receipts bring a unit of a SKU of their own, for which one line waits."""
    all_seconds = seconds + warm_up
    purchases = load.purchases(ORDERS_PER_SECOND * all_seconds, seed)
    orders = [Due(each / ORDERS_PER_SECOND, message) for each, message in enumerate(purchases.orders)]
    skus = [f"awaited-{each}" for each in range(RECEIPTS_PER_SECOND * all_seconds)]
    receipts = [Due((each + 0.5) / RECEIPTS_PER_SECOND, receipt("awaited", sku, 1)) for each, sku in enumerate(skus)]
    return Plan(
        sorted([*orders, *receipts], key=lambda each: each.at),
        [each.cause for each in orders if each.at >= warm_up],
        [each.cause for each in receipts if each.at >= warm_up],
        purchases.stock,
        [order(f"waits-{sku}", (sku, 1)) for sku in skus],
    )


async def steps_of(world: World, run: Run, orders: Sequence[str]) -> dict[str, Seconds]:
    """Where the time of the orders went. Kafka's timestamps are whole milliseconds."""
    rows = await world.database.fetch("SELECT e.caused_by, j.at FROM events e JOIN journal j USING (batch_id)")
    begun = {row["caused_by"]: row["at"].timestamp() for row in rows}
    last = run.last()
    return {
        "due → Kafka has the order": [last[each].taken - run.due[each] for each in orders],
        "→ its transaction begins (the one before done, polled, decoded)": [
            begun[each] - last[each].taken for each in orders
        ],
        "→ Kafka has the event (decided, committed, published)": [last[each].told - begun[each] for each in orders],
        "→ the subscriber has read it": [last[each].read - last[each].told for each in orders],
    }


def percentile_table(found: Mapping[str, Sequence[Seconds]]) -> Table:
    head = ("milliseconds", *("max" if share == 1 else f"p{share * 100:g}" for share in SHARES), "a round")
    rows = [
        (
            name,
            *(f"{at(measured, share):.1f}" for share in SHARES),
            f"{len(measured[0]):,}",
        )
        for name, measured in found.items()
    ]
    return Table(head, rows)


def step_table(steps: Sequence[Mapping[str, Seconds]]) -> Table:
    rows = [(name, *(f"{at([each[name] for each in steps], share):.1f}" for share in SHARES[:3])) for name in steps[0]]
    return Table(("of the order's way, milliseconds", "p50", "p90", "p99"), rows)
