"""Four processes on the same five SKUs, in opposite orders: no deadlock, nothing sold twice, one outcome each."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from tests.e2e.messages import (
    Message,
    adjustment,
    cancel,
    count,
    order,
    policy,
    receipt,
    shipment,
    supply,
    supply_cancelled,
)
from tests.e2e.subscriber import LineKey, Subscriber, follow
from tests.e2e.world import World
from tests.faults.load import escalation_days

ORDERS = 1250
LINES = 2
STOCK = 360
"""Of each SKU in the beginning and about what every count finds."""
BATCHES = (6, 12, 25, 50)
"""Records in one transaction of each process: small ones touch some of the SKUs, and so work beside each other."""
SKUS = [f"HOT-{number}" for number in range(5)]


async def test_four_processes_on_five_skus_in_opposite_order_never_deadlock_and_never_oversell(world: World) -> None:
    sent = traffic(random.Random(4), datetime.now(UTC))
    days = escalation_days()
    services = [
        await world.allocator(ready=False, batch=batch, ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=days)
        for batch in BATCHES
    ]
    for service in services:
        await service.ready()
    await world.tell(*(receipt("opening", sku, STOCK) for sku in SKUS))
    await world.tell(*sent)

    workers = [await service.metric("allocator_messages_total") for service in services]
    assert min(workers) > len(sent) / 20, f"all four had a part in it: {workers}"
    assert sum([await service.metric("allocator_timers_fired_total") for service in services]) > 0
    assert not any([await service.metric("allocator_stopped") for service in services])
    await check_one_outcome_each(world, await follow(world))
    await world.audit()
    for service in services:
        await service.end()
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await world.number(query) == 0
    waited = [service.name for service in services if "tries again" in service.said()]
    assert not waited, "no lock was waited for too long"


async def check_one_outcome_each(world: World, subscriber: Subscriber) -> None:
    """What was told of each line is what the books have, and no pool has sold more than is there."""
    rows = await world.database.fetch("SELECT * FROM lines JOIN pools USING (pool_id)")
    assert len(rows) == ORDERS * LINES
    assert await world.number("SELECT count(*) FROM dead_letters") == 0
    sold: Counter[str] = Counter()
    for row in rows:
        line = subscriber.line(row["order_id"], row["line_no"], row["sku"])
        allocated, shipped = row["quantity_allocated"], row["quantity_shipped"]
        held = allocated - shipped - row["quantity_released"]
        told = (line.released + line.mismatched + held, line.waiting, line.rejected)
        assert told == (allocated, row["quantity_waiting"], row["quantity_rejected"]), row
        sold[row["sku"]] += line.released + line.mismatched + held - shipped
    for row in await world.database.fetch("SELECT sku, on_hand FROM pools"):
        assert sold[row["sku"]] <= max(0, row["on_hand"]), row


def traffic(chance: random.Random, now: datetime) -> list[Message]:
    """Orders whose lines name the SKUs forwards and backwards, and between them all else that changes these SKUs."""
    made: list[Message] = []
    to_ship: dict[LineKey, int] = {}
    for number in range(ORDERS):
        order_id = f"o-{number}"
        lines = [(sku, chance.randrange(1, 4)) for sku in sorted(chance.sample(SKUS, LINES), reverse=number % 2 == 0)]
        to_ship.update({(order_id, line_no): units for line_no, (_, units) in enumerate(lines, start=1)})
        after = timedelta(seconds=chance.randrange(10_000)) - timedelta(days=200 if number % 9 == 0 else 0)
        made.append(order(order_id, *lines, after=after, delivery=chance.choice(["split", "complete"])))
        for _ in range(2):
            made.extend(something_else(chance, number, now, to_ship))
    return made


def something_else(chance: random.Random, number: int, now: datetime, to_ship: dict[LineKey, int]) -> list[Message]:
    sku = chance.choice(SKUS)
    other_order = f"o-{chance.randrange(number + 1)}"
    name = f"{number}-{chance.getrandbits(32)}"
    match chance.choice(KINDS):
        case "cancel":
            return [cancel(other_order, name=name)]
        case "cancel units":
            return [cancel(other_order, (chance.randrange(1, LINES + 1), 1), name=name)]
        case "shipment":
            line_no = chance.randrange(1, LINES + 1)
            units = to_ship.pop((other_order, line_no), 0)
            return [shipment(name, other_order, (line_no, units))] if units else []
        case "receipt":
            return [receipt(name, sku, chance.randrange(1, 30), supply_id=f"s-{chance.randrange(number + 1)}")]
        case "loss":
            return [adjustment(name, sku, -chance.randrange(1, 10))]
        case "count":
            counted = [
                count(name, sku, STOCK + chance.randrange(-10, 10), after=timedelta(seconds=number)) for sku in SKUS[:3]
            ]
            return counted if number % 2 else counted[::-1]
        case "supply":
            expected_at = now + timedelta(days=chance.randrange(-3, 20))
            return [supply(f"s-{number}", sku, chance.randrange(1, 50), expected_at)]
        case "supply moves":
            supply_id = f"s-{chance.randrange(number + 1)}"
            expected_at = now + timedelta(days=chance.randrange(-3, 20))
            return [supply(supply_id, sku, chance.randrange(1, 50), expected_at, revision=number + 2)]
        case "supply is cancelled":
            return [supply_cancelled(f"s-{chance.randrange(number + 1)}", sku, revision=number + 2)]
        case _:
            safety, limit = chance.randrange(20), chance.randrange(150, 1500)
            return [policy(sku, revision=number + 1, low_stock_at=10, safety_stock=safety, waiting_limit=limit)]


KINDS = [
    *["cancel", "cancel units", "shipment", "receipt"] * 3,
    *["loss", "supply", "supply moves"] * 2,
    *["supply is cancelled", "count", "policy"],
]
