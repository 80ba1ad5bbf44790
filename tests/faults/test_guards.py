"""What needs a person's word stops a start with one line; the flag goes past it once, in writing."""

import json
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import TopicAlreadyExistsError

from backorder_allocator import accepting
from backorder_allocator.guards import UnsafeDurability
from backorder_allocator.looking import look
from backorder_allocator.settings import Settings
from backorder_schemas import TOPICS, Versions
from tests.conftest import Databases
from tests.e2e.messages import Message, adjustment, order, receipt
from tests.e2e.processes import HARMLESS_HERE, eventually
from tests.e2e.world import OUTPUTS, World
from tests.faults.load import load
from tests.faults.test_members import BATCH, publishing

HARMLESS = HARMLESS_HERE["backorder-allocator"]
LOOKS = 12


async def test_topics_that_were_made_again_are_begun_anew_once_a_person_says_so(world: World) -> None:
    await world_that_worked(world, receipt("r-1", "MUG", 10), receipt("r-2", "HAT", 3), one_order("o-1"), bad("orders"))
    await make_again(world, "orders", "availability")
    await world.publish(one_order("o-2"), bad("orders"))
    (said,) = await refuses(world, "--accept-lost-messages")
    assert said == (
        "topics availability, orders were deleted and made again: the positions in this database mean other messages "
        "now and what was published there is gone; `run --accept-recreated-topic` begins at the beginning of these "
        "topics"
    )
    await goes_on_once_accepted(world, recreated_topic={"topics": ["availability", "orders"]})
    assert await placed(world) == {"o-1", "o-2"}
    letters = await world.database.fetch("SELECT record_offset, topics_ago FROM dead_letters ORDER BY topics_ago DESC")
    assert [tuple(row) for row in letters] == [(1, 1), (1, 0)], "the old letter stands in nobody's way"
    shown = {each.message.sku: each.message.available for each in await world.read("availability")}
    assert shown == {"MUG": 8, "HAT": 3}
    assert (await world.ask("status"))["last_intervention"]["what"] == "accepted_recreated_topic"


async def test_messages_that_were_deleted_unread_and_other_partitions_are_said_each_and_accepted_each(
    world: World,
) -> None:
    await world_that_worked(world, receipt("r-1", "MUG", 100), *(one_order(f"o-{each}") for each in range(3)))
    await world.publish(*(one_order(f"lost-{each}") for each in range(4)), one_order("kept"))
    await delete_records(world, "orders", 7)
    # Of this topic nothing was worked yet.
    await world.publish(*(adjustment(f"a-{each}", "MUG", 1) for each in range(4)))
    await delete_records(world, "stock-adjusted", 3)
    await world.admin.create_partitions({f"{world.prefix}catalog": NewPartitions(total_count=8)})
    orders, adjusted = await used_partition(world, "orders"), await used_partition(world, "stock-adjusted")
    of_partitions = (
        "topic catalog has 8 partitions and had 6: keys are on other partitions now, so what belongs to one key may be "
        "worked or read out of order around the change; `run --accept-partition-count` goes on"
    )
    of_messages = (
        f"messages are gone that were never worked: orders-{orders} offsets 3 to 6, stock-adjusted-{adjusted} offsets "
        "0 to 2: retention or a person has deleted them; `run --accept-lost-messages` goes on behind them, and the "
        "journal keeps which they were"
    )
    assert await refuses(world) == [of_partitions, of_messages]
    found = await world.ask("doctor", exit_code=1)
    said = [each["says"] for each in found if (each["about"], each["state"]) == ("guards", "wrong")]
    assert said[:2] == [f"{of_partitions}.", f"{of_messages}."]
    assert "unsafe-durability" in said[2]
    assert not await world.number("SELECT count(*) FROM interventions WHERE what <> 'accepted_unsafe_durability'")
    assert await refuses(world, "--accept-partition-count") == [of_messages]
    gone = [
        {"topic": "orders", "partition": orders, "from": 3, "to": 7},
        {"topic": "stock-adjusted", "partition": adjusted, "from": 0, "to": 3},
    ]
    await goes_on_once_accepted(
        world,
        partition_count={"topics": [{"topic": "catalog", "was": 6, "is": 8}]},
        lost_messages={"finding": "lost_messages", "gone": gone},
    )
    assert await placed(world) == {"o-0", "o-1", "o-2", "kept"}
    assert await world.number("SELECT on_hand FROM pools") == 101


async def test_a_database_restored_to_before_what_was_published_goes_on_as_a_new_epoch(
    world: World, postgres: Databases
) -> None:
    await world_that_worked(world, receipt("r-1", "MUG", 10), *(one_order(f"o-{each}", 3) for each in range(3)))
    backup = await copy_of(world, postgres)
    await world_that_worked(world, one_order("o-3", 3), one_order("o-4", 2), receipt("r-2", "HAT", 5))
    before = await world.number("SELECT seq FROM log_head")
    await go_back_to(world, backup)
    assert await world.number("SELECT seq FROM log_head") < before
    (said,) = await refuses(world)
    assert said.startswith("the database is older than what was published from it: ")
    assert "`run --accept-restored-database` goes on from it as epoch 2" in said
    await goes_on_once_accepted(world, restored_database={"finding": "restored_database", "epoch": 2})
    # What it had forgotten was read again; with new stock, it goes on as if nothing had been.
    await world_that_worked(world, receipt("r-3", "MUG", 3))
    await agrees_with_the_tables(world)


async def test_a_server_that_may_lose_what_it_acknowledged_is_refused_at_every_start(world: World) -> None:
    name = await world.database.fetchval("SELECT current_database()")
    await world.database.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    for _ in range(2):
        service = await world.allocator(accept=["--accept-unsafe-durability", "--why", "a test"])
        await service.end()
    refused = await world.allocator(accept=[], ready=False)
    assert await refused.ended() == 2
    assert "synchronous_commit = off: a crash can lose what was acknowledged" in refused.said()
    assert await world.number("SELECT count(*) FROM interventions") == 1


async def test_guards_raise_no_false_alarm_while_others_work_and_publish(world: World) -> None:
    sent = load(1200, seed=6)
    services = [await world.allocator(batch=BATCH), await world.allocator(batch=BATCH)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.allocator_settings.items():
            patch.setenv(name, value)
        settings = Settings()
    server = await accepting.server_of(world.database)
    seen = 0
    async with publishing(world, sent.messages):
        while seen < LOOKS:
            before = await accepting.cursors(world.database)
            view = await look(settings)
            found = await accepting.find(world.database, before, view, server)
            assert all(isinstance(each, UnsafeDurability) for each in found), found
            seen += bool(view.published)
    await world.settled()
    for service in services:
        await service.end()
    await world.audit()


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("UPDATE cursors SET next_offset = 0 WHERE topic = 'orders'", "is worked up to 0, and was up to 1"),
        ("UPDATE relay SET seq = seq - 1", "the log was published up to"),
    ],
    ids=["a cursor", "the relay"],
)
async def test_a_process_ends_when_the_database_forgets_what_was_committed(
    world: World, statement: str, line: str
) -> None:
    service = await world.allocator()
    await world.tell(receipt("r-1", "MUG", 10), one_order("o-1"))
    await world.database.execute(statement)
    assert await service.ended() == 2, service.explain()
    assert "backorder-allocator: commits were lost: " in service.said()
    assert line in service.said()


async def test_a_topic_that_is_made_again_under_a_running_process_ends_it(world: World) -> None:
    service = await world.allocator()
    await world.tell(receipt("r-1", "MUG", 10), one_order("o-1"), one_order("o-2"))
    await make_again(world, "orders")
    assert await service.ended() == 2, service.explain()
    assert "topic orders was deleted and made again while it was read" in service.said()
    (said,) = await refuses(world)
    assert "--accept-recreated-topic" in said


# ── what happens to a world ──────────────────────────────────────────────────────────────────────────────────────────


def one_order(order_id: str, units: int = 1) -> Message:
    return replace(order(order_id, ("MUG", units)), key=b"same partition")


def bad(topic: str) -> Message:
    return Message(topic, b"same partition", b"{")


async def world_that_worked(world: World, *messages: Message) -> None:
    service = await world.allocator()
    await world.tell(*messages)
    await service.end()


async def refuses(world: World, *accepted: str) -> list[str]:
    """A start ends with exit 2; gives its lines."""
    service = await world.allocator(accept=[*HARMLESS, *accepted], ready=False)
    assert await service.ended() == 2, service.explain()
    name = "backorder-allocator: "
    return [each.removeprefix(name) for each in service.said().splitlines() if each.startswith(name)]


async def goes_on_once_accepted(world: World, **findings: dict[str, Any]) -> None:
    """With the flags it works, and says who, what and why, once; the next start needs none, and nothing is wrong."""
    flags = [f"--accept-{name.replace('_', '-')}" for name in findings]
    for accepted in ([*HARMLESS, *flags, "--why", "Ada said so"], HARMLESS):
        service = await world.allocator(accept=accepted)
        await world.settled()
        await service.end()
    rows = await world.database.fetch(
        "SELECT by, what, why, detail FROM interventions WHERE what <> 'accepted_unsafe_durability' "
        "ORDER BY intervention_id"
    )
    assert [row["what"] for row in rows] == [f"accepted_{name}" for name in findings]
    for row, detail in zip(rows, findings.values(), strict=True):
        assert row["by"]
        assert row["why"] == "Ada said so"
        assert detail.items() <= json.loads(row["detail"]).items()
    await world.audit()


async def make_again(world: World, *topics: str) -> None:
    names = {world.prefix + topic: TOPICS[topic] for topic in topics}
    await world.admin.delete_topics(list(names))
    made = [NewTopic(name, topic.partitions, 1, topic_configs=topic.kafka_config()) for name, topic in names.items()]

    async def makes() -> bool:
        answer = await world.admin.create_topics(made)
        return {code for _, code, *_ in answer.topic_errors} <= {0, TopicAlreadyExistsError.errno} and bool(
            await there()
        )

    async def there() -> bool:
        described = await world.admin.describe_topics(list(names))
        return not any(each["error_code"] for each in described)

    await eventually(makes, "the topics to be made again")
    # The producer of the tests still knows the old ones.
    await world.producer.stop()
    world.producer = type(world.producer)(bootstrap_servers=world.kafka, acks="all", enable_idempotence=True)
    await world.producer.start()


async def delete_records(world: World, topic: str, before: int) -> None:
    """What retention does, at once, to the one partition that is in use."""
    at = await used_partition(world, topic)
    places = [place for place in world.partitions([topic]) if place.partition == at]
    await world.admin.delete_records({place: RecordsToDelete(before) for place in places})


async def used_partition(world: World, topic: str) -> int:
    (place,) = await world.ends([topic])
    return place[1]


async def placed(world: World) -> set[str]:
    return {
        row["order_id"] for row in await world.database.fetch("SELECT order_id FROM orders WHERE placed_at IS NOT NULL")
    }


async def copy_of(world: World, postgres: Databases) -> str:
    """A backup of the database, as it is now."""
    await world.database.close()
    try:
        return postgres.create_database(world.database_url)
    finally:
        world.database = await asyncpg.connect(world.database_url)


async def go_back_to(world: World, backup: str) -> None:
    await world.database.close()
    world.database_url = backup
    world.database = await asyncpg.connect(backup)


async def agrees_with_the_tables(world: World) -> None:
    """Who follows the topics by `Versions` knows what the rows say.

    A higher epoch starts a key anew from its version on: what was told before that version stays true.
    """
    history: dict[tuple[str, str], dict[int, Any]] = {}
    versions: Versions[Any] = Versions()
    for record in await world.read(*OUTPUTS):
        assert record.key is not None
        message, key = record.message, (record.topic, record.key.decode())
        for ready in versions.feed(*key, message.epoch, message.version, message).ready:
            known = history.setdefault(key, {})
            history[key] = {version: each for version, each in known.items() if version < ready.version} | {
                ready.version: ready
            }
    told = [each for per_key in history.values() for each in per_key.values()]
    waits: dict[tuple[str, int], int] = {}
    released: dict[tuple[str, int], int] = {}
    for each in told:
        match each.type:
            case "BackorderCreated" | "BackorderFilled":
                waits[each.order_id, each.line_no] = each.quantity_waiting
            case "AllocationReleased":
                for line in each.lines:
                    place = (each.order_id, line.line_no)
                    released[place] = released.get(place, 0) + line.quantity
            case _:
                pass
    rows = await world.database.fetch("SELECT order_id, line_no, quantity_waiting, quantity_released FROM lines")
    assert {(row[0], row[1]): (row[2], row[3]) for row in rows} == {
        place: (waits.get(place, 0), released.get(place, 0)) for place in waits.keys() | released.keys()
    }
    shown = {key: per_key[max(per_key)] for (topic, key), per_key in history.items() if topic == "availability"}
    pools = await world.database.fetch("SELECT location || ':' || sku AS key, shown FROM pools WHERE named")
    for pool in pools:
        kept = json.loads(pool["shown"])
        assert (shown[pool["key"]].available, shown[pool["key"]].waiting) == (kept["available"], kept["waiting"])
        assert shown[pool["key"]].epoch == await world.number("SELECT epoch FROM log_head")
    assert await world.number("SELECT count(*) FROM pools WHERE allocated > greatest(0, on_hand)") == 0
    await world.audit()
