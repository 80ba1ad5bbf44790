"""What stops a start: Kafka or the database is not what it was. Each line, its flag, and what is kept of it."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete

from backorder_notifier import accepting, doctor
from backorder_notifier.accepting import Accepting
from backorder_notifier.guards import GuardError, What
from backorder_notifier.settings import read_settings
from tests.notifier.messages import created, filled, placed
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.world import Process, World, eventually


@asynccontextmanager
async def admin_of(world: World) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=world.kafka)
    await admin.start()
    yield admin
    await admin.close()


@asynccontextmanager
async def frozen(process: Process) -> AsyncIterator[None]:
    """It asks Kafka for nothing meanwhile."""
    process.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.3)  # what it has asked for already comes back empty
    yield
    process.process.send_signal(signal.SIGCONT)


async def ended(process: Process) -> str:
    """What it said last, of its own accord, with exit 2."""
    async with asyncio.timeout(25):
        assert await process.process.wait() == 2, process.log
    return process.log.rpartition("backorder-notifier: ")[2]


async def refused(world: World, *, unsafe: bool = True) -> list[str]:
    """The lines of a start that stops."""
    started = await world.start(ready=False, unsafe=unsafe)
    async with asyncio.timeout(60):
        assert await started.process.wait() == 2, started.log
    return [line for line in started.log.splitlines() if line.startswith("backorder-notifier: ")]


async def start_in_this_process(world: World, *what: What) -> None:
    """The guards alone. Raises GuardError."""
    connection = await asyncpg.connect(world.database)
    try:
        accepted = Accepting(frozenset({"unsafe_durability", *what}), "ada", "I know")
        await accepting.guard(connection, [world.kafka], world.prefix, accepted, datetime.now(UTC))
    finally:
        await connection.close()


async def kept(world: World, what: str) -> list[dict[str, Any]]:
    """Details of what was accepted."""
    connection = await asyncpg.connect(world.database)
    try:
        rows = await connection.fetch("SELECT * FROM interventions WHERE what = $1", what)
    finally:
        await connection.close()
    assert all(row["by"] and row["at"] for row in rows)
    return [json.loads(row["detail"]) for row in rows]


def fills(order_id: str, count: int) -> list[Any]:
    """Unit by unit, after it began to wait."""
    return [filled(order_id, n + 1, quantity=1, quantity_waiting=5 - n) for n in range(1, count + 1)]


async def partition_of(world: World, topic: str) -> int:
    """Where the newest record of the topic is."""
    partition: int = (await world.read(topic))[-1].partition
    return partition


async def test_a_topic_made_again_ends_who_reads_it_and_is_read_from_its_beginning_once_accepted(
    world: World, script: ScriptedServer
) -> None:
    running = await world.start()
    await world.send_raw("orders", b"k", b"no JSON", partition=0)
    await world.send(placed("1"), created("1"), *fills("1", 4))
    await world.decided(5)
    told = len(script.accepted)
    topics = [world.prefix + "orders", world.prefix + "backorders"]
    async with frozen(running), admin_of(world) as admin:
        await admin.delete_topics(topics)

        async def gone() -> bool:
            return not set(topics) & set(await admin.list_topics())

        await eventually(gone)
        await admin.create_topics([NewTopic(topic, 3, 1) for topic in topics])
        await world.send_raw("orders", b"k", b"no JSON either", partition=0)
        await world.send(placed("1"), created("1"))
    assert "deleted and made again" in await ended(running)
    lines = await refused(world)
    assert [topic in line and "--accept-recreated-topic" in line for topic, line in zip(topics, lines, strict=True)]
    with pytest.raises(GuardError):  # a flag for something else helps nothing
        await start_in_this_process(world, "lost_messages", "partition_count", "restored_database")
    await world.send(placed("2"), created("2"))
    await world.start("--accept-recreated-topic", "--why", "retention was wrong")
    await world.settled(told + 1)
    assert len(script.accepted) == told + 1  # what the old topics said is not told again
    assert [each["topic"] for each in await kept(world, "accepted_recreated_topic")] == topics
    assert len(await world.json("dlq", "list")) == 2  # also of the record that has the place of one of the old topic
    await start_in_this_process(world)
    status = await world.json("status")
    assert status["last_intervention"]["why"] == "retention was wrong"


async def test_messages_that_are_gone_end_who_would_pass_over_them_and_are_named_by_the_next_start(
    world: World,
) -> None:
    running = await world.start()
    await world.send(placed("1"), created("1"))
    await world.settled(1)
    number = await partition_of(world, "backorders")
    async with frozen(running), admin_of(world) as admin:
        await world.send(*fills("1", 4))
        await admin.delete_records({TopicPartition(world.prefix + "backorders", number): RecordsToDelete(3)})
    assert "goes on at offset 3 where 1 was to be read" in await ended(running)
    (line,) = await refused(world)
    assert f"{world.prefix}backorders has lost messages that were not read (partition {number}: offsets 1 to 2)" in line
    assert "`run --accept-lost-messages`" in line
    await world.start("--accept-lost-messages", NOTIFIER_GAP_WAIT="PT1S")
    await world.settled(2)
    (detail,) = await kept(world, "accepted_lost_messages")
    assert detail["gone"] == [{"partition": number, "from": 1, "to": 3}]
    await start_in_this_process(world)


async def test_another_number_of_partitions_is_a_persons_decision(world: World) -> None:
    await start_in_this_process(world)
    async with admin_of(world) as admin:
        await admin.create_partitions({world.prefix + "customers": NewPartitions(4)})
    (line,) = await refused(world)
    assert f"topic {world.prefix}customers has 4 partitions, and had 3" in line
    assert "`run --accept-partition-count`" in line
    await start_in_this_process(world, "partition_count")
    assert [each["partitions"] for each in await kept(world, "accepted_partition_count")] == [4]
    await start_in_this_process(world)


async def test_a_restored_database_is_found_out_by_what_is_published_and_goes_on_in_a_new_epoch(
    world: World, script: ScriptedServer, postgres: Any
) -> None:
    first = await world.start()
    await world.send(placed("1"), created("1"))
    await world.settled(1)
    assert await first.stop() == 0
    backup, older = (postgres.create_database(template=world.database) for _ in range(2))
    again = await world.start()
    await world.send(filled("1", 2, quantity=5, quantity_waiting=10))
    await world.settled(2)
    assert await again.stop() == 0
    world.database = backup
    (line,) = await refused(world)
    assert "the database doesn't know what was published" in line
    assert "order 1 version 2" in line
    assert "`run --accept-restored-database` goes on from it in epoch 2" in line
    await world.start("--accept-restored-database")
    await world.settled(2)
    assert len({mail["Message-ID"] for mail in script.accepted}) == 2
    assert len(script.accepted) == 3  # told again, recognisable as the same

    async def published() -> bool:
        return [(each.epoch, each.version) for each in await world.outcomes("1")] == [(1, 1), (1, 2), (2, 2)]

    await eventually(published)
    assert [(each["epoch"], each["unknown"]) for each in await kept(world, "accepted_restored_database")] == [(2, 1)]
    await start_in_this_process(world)
    world.database = older  # knows no epoch 2
    with pytest.raises(GuardError, match="epoch 3"):
        await start_in_this_process(world)


async def test_a_database_that_may_lose_commits_is_refused_unless_somebody_lives_with_that(world: World) -> None:
    connection = await asyncpg.connect(world.database)
    name = world.database.rpartition("/")[2]
    await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    await connection.close()
    (line,) = await refused(world, unsafe=False)
    assert "synchronous_commit off" in line
    assert "`run --accept-unsafe-durability` lives with that" in line
    for _ in range(2):
        await start_in_this_process(world)
    (detail,) = await kept(world, "accepted_unsafe_durability")  # once, though the flag is needed each time
    assert "synchronous_commit" in detail["off"]


async def test_the_doctor_finds_what_a_start_would_stop_for_and_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_in_this_process(world)
    async with admin_of(world) as admin:
        await admin.create_partitions({world.prefix + "catalog": NewPartitions(5)})
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    settings = read_settings(os.environ)
    for _ in range(2):
        (found,) = [each for each in await doctor.examine(settings) if each.about == "start"]
        assert found.state == "wrong"
        assert "--accept-partition-count" in found.says
    await start_in_this_process(world, "partition_count")
    assert [each.state for each in await doctor.examine(settings) if each.about == "start"] == ["fine"]


async def test_who_starts_while_others_work_finds_nothing_wrong(world: World) -> None:
    await asyncio.gather(*(world.start() for _ in range(2)))
    await start_in_this_process(world)
    connection = await asyncpg.connect(world.database)

    async def look() -> int:
        """How often, until all is told."""
        times = 0
        while telling not in done:
            found = await accepting.examine(connection, [world.kafka], world.prefix)
            assert {each.what for each in found} <= {"unsafe_durability"}
            times += 1
        return times

    async def load() -> None:
        for number in range(60):
            await world.send(placed(f"o{number}"), created(f"o{number}"))
        await world.settled(60, 60)
        done.add(telling)

    telling, done = object(), set[object]()
    _, times = await asyncio.gather(load(), look())
    await connection.close()
    assert times >= 3
    assert await world.processes[0].stop() == 0
    await world.start()
    assert (await world.json("status"))["last_intervention"]["what"] == "accepted_unsafe_durability"
