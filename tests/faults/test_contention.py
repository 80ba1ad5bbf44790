"""Four processes on the same few SKUs, in opposite orders: no deadlock, and nothing comes out wrong."""

import random
from datetime import timedelta

from tests.e2e.messages import Message, adjustment, cancel, count, order, receipt
from tests.e2e.subscriber import follow
from tests.e2e.world import World

ORDERS = 500
SKUS = [f"HOT-{number}" for number in range(6)]


async def test_cancels_and_counts_in_opposite_sku_order_from_four_processes_never_deadlock(world: World) -> None:
    services = [await world.allocator(ready=False, batch=20) for _ in range(4)]
    for service in services:
        await service.ready()
    await world.tell(*(receipt("opening", sku, ORDERS // 4) for sku in SKUS))
    await world.tell(*traffic(random.Random(4)))

    workers = [await service.metric("allocator_messages_total") for service in services]
    assert min(workers) > 0, f"all four had a part in it: {workers}"
    stopped = [await service.metric("allocator_stopped") for service in services]
    assert not any(stopped)
    subscriber = await follow(world)
    for number in range(ORDERS):
        lines = [line for (order_id, _), line in subscriber.lines.items() if order_id == f"o-{number}"]
        assert all(line.released >= 0 and line.waiting >= 0 for line in lines)
    await world.audit()
    for service in services:
        await service.end()
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await world.number(query) == 0
    assert not [service.name for service in services if "tries again" in service.said()], (
        "no lock was waited for too long"
    )


def traffic(chance: random.Random) -> list[Message]:
    """Orders whose lines name the SKUs forwards and backwards, cancels, counts, losses and receipts between them."""
    made: list[Message] = []
    for number in range(ORDERS):
        skus = chance.sample(SKUS, 4)
        skus.sort(reverse=number % 2 == 0)
        made.append(
            order(
                f"o-{number}",
                *((sku, chance.randrange(1, 4)) for sku in skus),
                after=timedelta(seconds=chance.randrange(10_000)),
                delivery=chance.choice(["split", "complete"]),
            )
        )
        earlier = f"o-{chance.randrange(number + 1)}"
        match chance.choice(["cancel", "cancel units", "receipt", "loss", "count", "nothing"]):
            case "cancel":
                made.append(cancel(earlier, name=f"by-{number}"))
            case "cancel units":
                made.append(cancel(earlier, (chance.randrange(1, 5), 1), name=f"by-{number}"))
            case "receipt":
                made.append(receipt(f"r-{number}", chance.choice(SKUS), chance.randrange(1, 30)))
            case "loss":
                made.append(adjustment(f"a-{number}", chance.choice(SKUS), -chance.randrange(1, 20)))
            case "count":
                shelf = chance.randrange(100, 300)
                counted = [count(f"c-{number}", sku, shelf, after=timedelta(seconds=number)) for sku in SKUS[:3]]
                made.extend(counted if number % 2 else reversed(counted))
            case _:
                pass
    return made
