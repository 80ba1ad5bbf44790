"""One hot SKU that every order wants: how fast, and how long an order takes at half that rate."""

from statistics import median

from tests.bench import latency, load
from tests.bench.contestants import allocator
from tests.bench.frame import Bench, Figure, Goal, Rounds, Table
from tests.bench.latency import Due, milliseconds
from tests.bench.runs import CLIENT, Run, allocate

HOW = (
    "As figure 1, but the first line of each order wants the one hot SKU; {rounds}, each beside orders of all"
    " SKUs alike. Then orders are sent by a schedule at half the rate just measured, by a process of its own; a"
    " subscriber in another one reads what comes of each. Time counts from when an order was due to be sent to when its"
    " last event was read, and is longer where more shares the cores: sender and subscriber use some of them."
)
WARM_SECONDS = 2.0


async def measure(bench: Bench) -> Figure:
    number, rounds, seconds = (6_000, 1, 4.0) if bench.quick else (30_000, 3, 12.0)
    rates = Rounds()
    runs: dict[str, list[Run]] = {"hot": [], "uniform": []}
    for each in range(rounds):
        for name, found in runs.items():
            orders = load.purchases(number, seed=each, hot=name == "hot")
            warm = load.purchases(number // 10, seed=100 + each, prefix="w", hot=name == "hot")
            async with bench.world() as world:
                found.append(await allocate(bench, world, orders, warm))
            rates.add(name, found[-1].per_second)
    bench.say(f"hot {rates.spread('hot')}/s, uniform {rates.spread('uniform')}/s")
    rate = rates.median("hot") / 2
    p50, p99, most, late = await latency_at(bench, rate, seconds)
    share = rates.ratio("hot", "uniform")
    return Figure(
        number=3,
        title="One hot SKU",
        how=HOW.format(rounds=f"{rounds} rounds" if rounds > 1 else "one round"),
        tables=[
            Table(
                ("", "orders/s", "lines that wait", "own CPU µs an order", "PostgreSQL", "Kafka", "WAL bytes an order"),
                [row(name, found, rates) for name, found in runs.items()],
            ),
            Table(
                ("at orders/s, hot", "p50", "p99", "most", "p99 by which the sender was late"),
                [(f"{rate:,.0f}", *(f"{each:.0f} ms" for each in (p50, p99, most, late)))],
            ),
        ],
        goals=[
            Goal("orders/s with one hot SKU, of uniform", "≥ 70 %", f"{share:.0%}", share >= 0.7),
            Goal(f"order → event at half of that, {rate:,.0f}/s, p99", "≤ 100 ms", f"{p99:.0f} ms", p99 <= 100),
        ],
    )


async def latency_at(bench: Bench, rate: float, seconds: float) -> tuple[float, float, float, float]:
    """p50, p99 and the most of the times of orders, and the p99 of the sender's own delays, in milliseconds."""
    number = int(rate * (WARM_SECONDS + seconds))
    orders = load.purchases(number, seed=7, hot=True)
    async with bench.world() as world:
        service = await allocator(world, None)
        await world.tell(*orders.stock)
        plan = [Due(at / rate, message) for at, message in enumerate(orders.orders)]
        run = await latency.measure(world, plan)
        await service.end()
    counted = [due.cause for due in plan if due.at >= WARM_SECONDS]
    p50, p99, most = milliseconds(run.seconds(counted), 0.5, 0.99, 1.0)
    (late,) = milliseconds(run.sent_late, 0.99)
    return p50, p99, most, late


def row(name: str, runs: list[Run], rates: Rounds) -> tuple[str, ...]:
    return (
        name,
        rates.spread(name),
        f"{runs[-1].waiting / runs[-1].lines:.1%}",
        *(f"{median(run.micros(part) for run in runs):,.0f}" for part in (CLIENT, "postgres", "kafka")),
        f"{median(run.wal_bytes / run.orders for run in runs):,.0f}",
    )
