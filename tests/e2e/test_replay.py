"""Two processes, everything they can be told, time, the planner and an operator: all of it can be repeated."""

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from backorder_allocator import dead_letters
from backorder_allocator.decision import Rules
from backorder_allocator.redriving import drive
from backorder_schemas import TOPICS
from tests.allocator.test_commands import DOCUMENTED, keys
from tests.conftest import Databases
from tests.e2e.messages import (
    OPENING,
    Message,
    OrderLine,
    adjustment,
    cancel,
    count,
    order,
    policy,
    receipt,
    rfc3339,
    shipment,
    supply,
    supply_cancelled,
)
from tests.e2e.processes import SCRIPTS, clean_environment, eventually
from tests.e2e.world import World

ORDERS = 300
SKUS = [f"SKU-{number}" for number in range(6)]
EVENTS = {
    message.__name__
    for topic in ("allocations", "backorders", "availability", "stock-alerts")
    for message in TOPICS[topic].messages
}
OLD = timedelta(days=200)


async def test_a_run_of_two_processes_is_repeated_in_an_empty_database_event_by_event(
    world: World, postgres: Databases
) -> None:
    days = (datetime.now(UTC) - OPENING + OLD / 2) / timedelta(days=1)
    services = [
        await world.allocator(ready=False, batch=30, ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=f"{days:.1f}")
        for _ in range(2)
    ]
    for service in services:
        await service.ready()
    chance = random.Random(7)
    await world.publish(*rules(datetime.now(UTC)))
    await in_transactions(world)
    await world.publish(*opening())
    everything = list(traffic(chance, datetime.now(UTC)))
    await world.publish(*everything[: len(everything) // 2])
    await the_conflict_is_seen(world)
    await world.publish(*bad_messages())
    await a_release_has_come(world)
    await drive_again(world)
    assert all([await service.metric("allocator_messages_total") for service in services]), "both had a part in it"

    # They go on meanwhile.
    await world.publish(*everything[len(everything) // 2 :])
    into = postgres.create_database()
    answer = await world.ask("replay", "--into", into)
    assert (answer["same"], answer["examples"], answer["differences"]) == (True, [], 0)
    assert keys(answer) == keys(json.loads(DOCUMENTED["replay"]))
    compared = {row["what"]: row["compared"] for row in answer["compared"]}
    print(
        f"{answer['entries']} journal entries repeated, {answer['events']} events and {answer['rows']} rows compared:"
    )
    print(", ".join(f"{what} {number}" for what, number in compared.items()))
    assert {what for what in EVENTS if not compared.get(what)} == set(), "every type of event was there to compare"
    assert min(compared.values()) > 0
    assert await world.number("SELECT count(DISTINCT kind) FROM journal") == 4
    await what_was_deleted_is_named(world, postgres)


def rules(now: datetime) -> Iterator[Message]:
    yield policy("SOON", backorders="preorder", release_at=rfc3339(now + timedelta(seconds=3)))
    yield policy("RARE", waiting_limit=2, low_stock_at=3, substitutes=SKUS[:2])
    yield policy("SKU-0", safety_stock=1, low_stock_at=2, default_lead_time_days=14)


def opening() -> Iterator[Message]:
    """What seldom happens by chance."""
    yield receipt("r-soon", "SOON", 3)
    yield order("preordered", ("SOON", 2))
    yield order("limited", ("RARE", 5), ("SKU-1", 1))
    yield order("old", ("SKU-2", 1), ("RARE", 1), delivery="complete", after=-OLD)
    # Shipped before it was ordered, and told once more with other units, which is the truth.
    yield shipment("sh-late", "late", (1, 99))
    yield shipment("sh-late", "late", (1, 1))
    for sku in SKUS:
        yield receipt(f"opening-{sku}", sku, ORDERS // 4)


def traffic(chance: random.Random, now: datetime) -> Iterator[Message]:
    for number in range(ORDERS):
        lines = [OrderLine(sku, chance.randrange(1, 4)) for sku in chance.sample(SKUS, chance.randrange(1, 4))]
        after = timedelta(seconds=chance.randrange(10_000)) - (OLD if chance.random() < 0.1 else timedelta(0))
        messages = [order(f"o-{number}", *lines, after=after, delivery=chance.choice(["split", "complete"]))]
        if chance.random() < 0.1:
            messages.insert(chance.randrange(2), shipment(f"early-{number}", f"o-{number}", (1, 1)))
        yield from messages
        yield from something_else(chance, number, now)
        if chance.random() < 0.1:
            yield chance.choice(messages)


def something_else(chance: random.Random, number: int, now: datetime) -> list[Message]:
    sku, other = chance.choice(SKUS), f"o-{chance.randrange(number + 1)}"
    expected_at = now + timedelta(days=chance.randrange(-3, 20))
    some_supply = f"s-{chance.randrange(number + 1)}"
    units = chance.randrange(1, 30)
    return [
        chance.choice(
            [
                cancel(other, name=f"cancelled-{number}"),
                cancel(other, (1, 1), name=f"cancelled-{number}"),
                shipment(f"sh-{number}", other, (1, 1)),
                receipt(f"r-{number}", sku, units),
                receipt(f"r-{number}", sku, units, supply_id=some_supply),
                adjustment(f"a-{number}", sku, -units),
                count(f"c-{number}", sku, 5 * units, after=timedelta(seconds=number)),
                supply(f"s-{number}", sku, units, expected_at),
                supply(some_supply, sku, units, expected_at, revision=number + 2),
                supply_cancelled(some_supply, sku, revision=number + 2),
                policy(sku, revision=number + 2, low_stock_at=units, safety_stock=chance.randrange(5)),
            ]
        )
    ]


def bad_messages() -> list[Message]:
    broken = replace(order("broken", ("SKU-1", 1)), value=b'{"type": ')
    conflict = receipt("opening-SKU-1", "SKU-1", 12345)
    return [broken, conflict, shipment("sh-x", "o-1", (77, 1)), order("late", ("SKU-3", 2))]


async def in_transactions(world: World) -> None:
    """A sender with transactions leaves markers in its topics, and one that gives up messages that never were."""
    async with AIOKafkaProducer(bootstrap_servers=world.kafka, transactional_id=f"{world.prefix}t") as producer:
        for number, committed in enumerate([True, False, True]):
            await producer.begin_transaction()
            for each in range(5):
                message = receipt(f"t-{number}-{each}", SKUS[each], 2)
                await producer.send(world.prefix + message.topic, message.value, key=message.key)
            await (producer.commit_transaction() if committed else producer.abort_transaction())


async def a_release_has_come(world: World) -> None:
    async def has_come() -> bool:
        return await world.number("SELECT count(*) FROM timers WHERE kind = 'release'") == 0

    await world.settled()
    await eventually(has_come, "the pre-order to be released", explain=world.explain)


async def the_conflict_is_seen(world: World) -> None:
    """Before the order comes, which is on another partition."""

    async def is_seen() -> bool:
        return await world.number("SELECT count(*) FROM dead_letters WHERE topic = 'fulfilment'") == 1

    await eventually(is_seen, "the second shipment to be refused", explain=world.explain)


async def drive_again(world: World) -> None:
    """One dead letter can be used now: the shipment it was in conflict with turned out impossible."""
    letters = [letter for letter in await dead_letters.find(world.database) if letter.topic == "fulfilment"]
    outcomes = {
        letter.reason: row["outcome"]
        for letter in letters
        async for row in drive(world.database, Rules(), [letter], dry_run=False)
    }
    assert outcomes == {"conflicting_duplicate": "applied", "impossible": "dead_letter"}


async def what_was_deleted_is_named(world: World, postgres: Databases) -> None:
    """Retention has taken the first records: nothing can be repeated, and the operator hears why."""
    place = TopicPartition(f"{world.prefix}orders", 3)
    await world.admin.delete_records({place: RecordsToDelete(before_offset=4)})
    code, said = await says(world, "replay", "--into", postgres.create_database())
    assert code == 2
    assert "orders-3 offsets 0 to" in said
    assert "retention" in said


async def says(world: World, *arguments: str) -> tuple[int | None, str]:
    """The exit code of a command, and what it says on stderr."""
    process = await asyncio.create_subprocess_exec(
        SCRIPTS / "backorder-allocator",
        *arguments,
        env={**clean_environment(), **world.allocator_settings},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()
