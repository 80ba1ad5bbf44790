"""What stops a start and in which words, what an accepted finding changes, and what a running process notices."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from random import Random
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from backorder_allocator import accepting, audits, guards, planning, store
from backorder_allocator.batches import work
from backorder_allocator.connections import SESSION
from backorder_allocator.errors import ConfigurationError, LostCommitsError
from backorder_allocator.gaps import Gaps
from backorder_allocator.guards import (
    Accepted,
    Known,
    LostMessages,
    PartitionCount,
    RecreatedTopic,
    RestoredDatabase,
    Seen,
    Server,
    UnsafeDurability,
    judge,
    sentence,
)
from backorder_allocator.interventions import Asked
from backorder_allocator.loading import Context
from backorder_allocator.looking import INPUTS, OUTPUTS, Published, TopicNow, View
from backorder_allocator.remembering import Memory
from backorder_allocator.replaying import prepare, replay
from backorder_allocator.state import PoolKey
from backorder_allocator.watching import Watch
from tests.allocator.stored_shop import StoredShop, day
from tests.allocator.test_replay import Topics
from tests.conftest import Databases

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
WHO = Asked("ada@ops-1", "a drill")
SAFE = Server("7300000000000000001", 1)


def view(published: Sequence[Published] = (), **changed: TopicNow) -> View:
    """All topics with two empty partitions, but for those named (with _ for -)."""
    topics = {name: topic() for name in (*INPUTS, *OUTPUTS)}
    return View(topics | {name.replace("_", "-"): now for name, now in changed.items()}, published)


def topic(topic_id: str | None = "a", first: Sequence[int] = (0, 0), end: Sequence[int] = (0, 0)) -> TopicNow:
    return TopicNow(topic_id, dict(enumerate(first)), dict(enumerate(end)))


def known(
    cursors: Mapping[tuple[str, int], int] = MappingProxyType({}),
    *,
    before: Mapping[tuple[str, int], int] | None = None,
    not_in_log: Sequence[Published] = (),
    epoch: int = 1,
    server: Server = SAFE,
    has_published: bool = True,
    orders: Seen | None = None,
) -> Known:
    """A database that has seen all topics as `view` shows them, or `orders` otherwise."""
    topics = {name: Seen("a", (0, 0)) for name in (*INPUTS, *OUTPUTS)} | ({"orders": orders} if orders else {})
    at_first = cursors if before is None else before
    return Known(at_first, cursors, topics, epoch, has_published, not_in_log, server, SAFE)


def record(version: int = 3, epoch: int = 1) -> Published:
    return Published("backorders", "o-1", version, epoch, b"")


# ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_found_where_database_and_topics_fit_together_nor_at_the_first_start() -> None:
    assert judge(known({("orders", 0): 5}), view([record()], orders=topic(end=(5, 0)))) == []
    assert judge(replace(known(), topics={}), view(orders=topic(first=(7, 0), end=(9, 0)))) == []


def test_a_topic_with_another_id_was_made_again_if_anything_of_it_was_worked_or_published() -> None:
    again = topic("b", end=(90, 0))
    assert judge(known({("orders", 1): 5}), view(orders=again)) == [RecreatedTopic(["orders"], {("orders", 1): 5})]
    assert judge(known(), view(orders=again)) == [], "nothing was worked: nothing is lost"
    assert judge(known(), view(backorders=again)) == [RecreatedTopic(["backorders"], {})]
    assert judge(known(has_published=False), view(backorders=again)) == []


def test_without_ids_a_topic_that_ends_before_its_cursor_was_made_again() -> None:
    shorter = view(orders=topic(None, end=(4, 0)))
    (found,) = judge(known({("orders", 0): 5}), shorter)
    assert found == RecreatedTopic(["orders"], {("orders", 0): 5}, {("orders", 0): 4})
    assert sentence(found) == (
        "topic orders-0 ends at offset 4 and was worked up to 5: the positions in this database mean other messages "
        "now; `run --accept-recreated-topic` begins at the beginning of these topics"
    )
    # The cursor moved after Kafka was asked: somebody works meanwhile.
    assert judge(known({("orders", 0): 9}, before={("orders", 0): 4}), shorter) == []


def test_another_number_of_partitions_is_named() -> None:
    more = topic(first=(0, 0, 0), end=(0, 0, 0))
    (found,) = judge(known(), view(catalog=more))
    assert found == PartitionCount({"catalog": (2, 3)})
    assert sentence(found).startswith("topic catalog has 3 partitions and had 2: keys are on other partitions now")


def test_messages_between_the_cursor_and_the_first_offset_are_gone() -> None:
    later = view(orders=topic(first=(9, 4), end=(12, 4)))
    (found,) = judge(known({("orders", 0): 5}), later)
    assert found == LostMessages({("orders", 0): (5, 9), ("orders", 1): (0, 4)})
    assert "orders-0 offsets 5 to 8, orders-1 offsets 0 to 3: retention or a person" in sentence(found)
    assert judge(known({("orders", 0): 9, ("orders", 1): 4}), later) == []
    # When the partition was seen first, these were gone already.
    assert judge(known({("orders", 0): 9}, orders=Seen("a", (9, 4))), later) == []
    # Somebody worked them meanwhile, and retention took them then.
    assert judge(known({("orders", 0): 9, ("orders", 1): 4}, before={("orders", 0): 5}), later) == []


def test_a_published_record_that_the_log_has_not_or_of_a_higher_epoch_shows_that_the_database_was_restored() -> None:
    (found,) = judge(known(not_in_log=[record()]), view([record()]))
    assert found == RestoredDatabase([record()], 2, None)
    assert "a record on the topics is not in its log (such as backorders o-1 version 3, epoch 1): " in sentence(found)
    of_a_higher = record(epoch=4)
    (found,) = judge(known(server=Server(SAFE.system_identifier, 2)), view([of_a_higher, record()]))
    assert isinstance(found, RestoredDatabase)
    assert found.epoch == 5, "higher than any that was published"
    assert "; the server went over to timeline 2 from 1: it was restored" in sentence(found)
    assert judge(known(server=Server("another", 7)), view([record()])) == [], "another server alone stops nothing"


def test_settings_by_which_commits_may_be_lost_are_named() -> None:
    server = replace(SAFE, unsafe=("fsync = off", "synchronous_commit = off"))
    (found,) = judge(known(server=server), view())
    assert found == UnsafeDurability(("fsync = off", "synchronous_commit = off"), SAFE.system_identifier)
    assert sentence(found).startswith("PostgreSQL runs with fsync = off, synchronous_commit = off: ")


def test_each_flag_covers_its_own_finding_alone() -> None:
    found: list[guards.Finding] = [
        RecreatedTopic(["orders"], {}),
        PartitionCount({}),
        LostMessages({}),
        RestoredDatabase([record()], 2, None),
        UnsafeDurability([], None),
    ]
    accepted = {
        "recreated-topic": Accepted(recreated_topic=True),
        "partition-count": Accepted(partition_count=True),
        "lost-messages": Accepted(lost_messages=True),
        "restored-database": Accepted(restored_database=True),
        "unsafe-durability": Accepted(unsafe_durability=True),
    }
    for at, (name, flag) in enumerate(accepted.items()):
        assert [flag.covers(finding) for finding in found] == [at == each for each in range(5)]
        assert f"`run --accept-{name}`" in sentence(found[at])


# ── in the database ──────────────────────────────────────────────────────────────────────────────────────────────────


async def shop_of(connection: asyncpg.Connection) -> StoredShop:
    shop = StoredShop(connection)
    await shop.open()
    await shop.send(shop.receipt("r1", 3), shop.order("standard", 5), shop.order("waits", 2))
    await shop.plan()
    return shop


async def published_copies(connection: asyncpg.Connection) -> list[Published]:
    return [
        Published(row["topic"], row["key"], row["version"], 1, sha256(row["value"].encode()).digest())
        for row in await connection.fetch("SELECT topic, key, version, value FROM events ORDER BY batch_id, ordinal")
    ]


async def test_what_is_published_is_compared_byte_for_byte_with_the_log(connection: asyncpg.Connection) -> None:
    await shop_of(connection)
    copies = await published_copies(connection)
    assert len(copies) > 3
    strange = [
        replace(copies[0], digest=sha256(b"other bytes").digest()),
        replace(copies[1], version=99),
        replace(copies[2], epoch=0, digest=b"of an epoch that was given up"),
    ]
    # What was published twice is known twice.
    found = await accepting.known(connection, {}, view([*copies, *copies, *strange]), SAFE)
    assert list(found.not_in_log) == strange[:2]


async def test_a_server_that_tells_less_is_no_problem(connection: asyncpg.Connection) -> None:
    server = await accepting.server_of(connection)
    assert server.system_identifier is not None
    assert server.timeline is not None
    name = f"test_{uuid4().hex}"
    await connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_walfile_name(pg_lsn) FROM PUBLIC")
    await connection.execute(f"CREATE ROLE {name}")
    try:
        await connection.execute(f"SET ROLE {name}")
        less = await accepting.server_of(connection)
    finally:
        await connection.execute("RESET ROLE")
        await connection.execute(f"DROP ROLE {name}")
    assert less == replace(server, system_identifier=None, timeline=None)


async def accept(connection: asyncpg.Connection, finding: guards.Finding) -> None:
    async with connection.transaction():
        await accepting.accept(connection, finding, WHO, AT)


async def broken(connection: asyncpg.Connection) -> dict[str, Sequence[str]]:
    return {check.rule: check.examples for check in await audits.audit(connection) if check.violations}


async def test_an_accepted_hole_is_in_the_journal_and_audit_counts_it_as_said(connection: asyncpg.Connection) -> None:
    shop = await shop_of(connection)
    at = {key: value for key, value in (await accepting.cursors(connection)).items() if key[0] == "orders"}
    (place, cursor), *_ = at.items()
    await accept(connection, LostMessages({place: (cursor, cursor + 7)}))
    assert await broken(connection) == {}
    shop.partitions.ends["orders"] = cursor + 7
    await shop.send(shop.order("behind it", 1))
    assert await broken(connection) == {}
    # A hole that nobody accepted is none.
    await connection.execute("UPDATE journal SET kind = 'batch', what = '[]' WHERE kind = 'accepted'")
    assert "every input is worked once" in await broken(connection)
    row = await connection.fetchrow("SELECT by, what, why, detail FROM interventions")
    assert tuple(row)[:3] == ("ada@ops-1", "accepted_lost_messages", "a drill")


async def test_a_topic_that_begins_anew_may_have_a_dead_letter_where_the_old_one_had_one(
    connection: asyncpg.Connection,
) -> None:
    shop = await shop_of(connection)
    letter = shop.partitions.broken("orders", "not_json")
    place = ("orders", letter.partition)
    await store.add_cursors(connection, [place])
    for _ in range(2):
        await work(connection, [letter], shop.context, shop.now)
        cursors = {key: at for key, at in (await accepting.cursors(connection)).items() if key[0] == "orders" and at}
        await accept(connection, RecreatedTopic(["orders"], cursors))
        shop.context.memory = Memory()
    await work(connection, [letter], shop.context, shop.now)
    rows = await connection.fetch("SELECT topics_ago FROM dead_letters ORDER BY 1")
    assert [row[0] for row in rows] == [0, 1, 2]
    assert await broken(connection) == {}


async def test_a_restored_database_goes_on_in_another_epoch_and_shows_all_pools_again(
    connection: asyncpg.Connection,
) -> None:
    shop = await shop_of(connection)
    await accept(connection, RestoredDatabase([record()], 4, None))
    assert await store.read_epoch(connection) == 4
    assert await broken(connection) == {}, "before the planner has run, too"
    with pytest.raises(LostCommitsError, match="epoch 1 is over"):
        await shop.plan()
    shop.context = Context(shop.context.rules, 4, shop.context.rules_id)
    await shop.plan()
    newest = await connection.fetchrow("SELECT value FROM events ORDER BY batch_id DESC, ordinal DESC LIMIT 1")
    said = json.loads(newest["value"])
    assert (said["type"], said["version"], said["epoch"]) == ("SkuAvailability", 2, 4)
    assert await broken(connection) == {}


async def test_what_was_accepted_is_repeated_by_a_replay(
    connection: asyncpg.Connection, database_url: str, postgres: Databases
) -> None:
    topics = Topics(Random(1))
    context = Context(rules_id=await store.register_rules(connection, Context().rules))
    partitions = StoredShop(connection)

    async def send(*messages: Any) -> None:
        for message in messages:
            value = message.model_dump_json().encode()
            name = "orders" if message.type == "OrderPlaced" else "stock-received"
            record = topics.send(name, "k", value, partitions.now)
            await store.add_cursors(connection, [(record.topic, record.partition)])
            await work(connection, [record], context, partitions.now)

    async def plan() -> None:
        await planning.plan_once(connection, [PoolKey("X", "main")], day(1), 100, context)

    await send(partitions.receipt("r1", 3), partitions.order("o-1", 2))
    await plan()
    ((_, partition),) = [key for key in topics.ends if key[0] == "orders"]
    topics.ends["orders", partition] += 5
    end = topics.ends["orders", partition]
    await accept(connection, LostMessages({("orders", partition): (end - 5, end)}))
    await send(partitions.order("o-2", 2))
    await accept(connection, RestoredDatabase([record()], 2, None))
    context = Context(rules_id=context.rules_id, epoch=2)
    await plan()
    await send(partitions.receipt("r2", 5))
    await plan()
    target = await asyncpg.connect(postgres.create_database(), server_settings=SESSION)
    try:
        await prepare(connection, target)
        found = await replay(connection, target, topics, Context().rules, None, lambda _: None)
        assert (found.differences, found.examples) == (0, [])
        assert await store.read_epoch(target) == 2
    finally:
        await target.close()
    # What came before the topic was made again can't be read any more.
    cursors = {key: at for key, at in (await accepting.cursors(connection)).items() if key[0] == "orders" and at}
    await accept(connection, RecreatedTopic(["orders"], cursors))
    another = await asyncpg.connect(postgres.create_database(), server_settings=SESSION)
    try:
        await prepare(connection, another)
        with pytest.raises(ConfigurationError, match="says that orders was deleted and made again: what the entries"):
            await replay(connection, another, topics, Context().rules, None, lambda _: None)
    finally:
        await another.close()


async def test_topics_and_server_are_remembered_and_nothing_is_written_when_they_are_the_same(
    connection: asyncpg.Connection,
) -> None:
    seen = view(orders=topic("a", first=(3, 0), end=(9, 0)))
    await accepting.remember(connection, seen, SAFE, AT)
    versions = await connection.fetch("SELECT xmin::text FROM topics_seen UNION ALL SELECT xmin::text FROM identity")
    await accepting.remember(connection, view(orders=topic("a", first=(5, 0), end=(9, 0))), SAFE, AT)
    again = await connection.fetch("SELECT xmin::text FROM topics_seen UNION ALL SELECT xmin::text FROM identity")
    assert versions == again
    # Partitions that were added begin where they are seen first, the others where they were; a new topic begins anew.
    more = view(orders=topic("a", first=(5, 0, 2), end=(9, 0, 2)), catalog=topic("b", first=(1, 1), end=(1, 1)))
    await accepting.remember(connection, more, Server("another", 1), AT)
    found = await accepting.topics_seen(connection)
    assert (found["orders"], found["catalog"]) == (Seen("a", (3, 0, 2)), Seen("b", (1, 1)))
    assert await connection.fetchval("SELECT count(*) FROM identity") == 2


# ── while it runs ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_batch_that_another_process_has_worked_is_refused_and_one_that_comes_again_is_not(
    connection: asyncpg.Connection,
) -> None:
    shop = await shop_of(connection)
    ours = [shop.partitions.broken("orders", "not_json") for _ in range(4)]
    place = (ours[0].topic, ours[0].partition)
    another = Context(shop.context.rules, rules_id=shop.context.rules_id)
    await store.add_cursors(connection, [place])
    await work(connection, ours[:1], shop.context, shop.now)
    assert (await work(connection, ours[:1], shop.context, shop.now)).refused == frozenset(), "our own, again"
    await work(connection, ours[1:3], another, shop.now)
    assert (await work(connection, ours[1:2], shop.context, shop.now)).refused == {place}
    shop.context.memory.assigned(await store.read_cursors(connection, [place]))
    assert (await work(connection, ours[1:2], shop.context, shop.now)).refused == frozenset(), "given to us anew"
    (row,) = await connection.fetch("SELECT topic, partition, refused, refused_at FROM cursors WHERE refused > 0")
    assert tuple(row) == (*place, 1, shop.now)


async def test_a_commit_whose_answer_was_lost_is_not_taken_for_another_process(connection: asyncpg.Connection) -> None:
    shop = await shop_of(connection)
    ours = [shop.partitions.broken("orders", "not_json") for _ in range(2)]
    place = (ours[0].topic, ours[0].partition)
    await store.add_cursors(connection, [place])
    await work(connection, ours[:1], shop.context, shop.now)
    before = dict(shop.context.memory.worked)
    await work(connection, ours[1:], shop.context, shop.now)
    # As if the connection had broken after COMMIT was sent.
    shop.context.memory.worked = before
    shop.context.memory.in_doubt = {place: ours[1].offset + 1}
    assert (await work(connection, ours[1:], shop.context, shop.now)).refused == frozenset()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE cursors SET next_offset = 0 WHERE topic = 'orders'", "is worked up to 0, and was up to"),
        ("UPDATE log_head SET journal = journal - 1", "the newest journal entry is"),
        ("UPDATE log_head SET epoch = 2", "epoch 1 is over"),
    ],
)
async def test_the_watch_notices_what_went_back_where_nothing_happens(
    connection: asyncpg.Connection, statement: str, words: str
) -> None:
    shop = await shop_of(connection)
    watch = Watch(shop.context)
    await watch.look(connection)
    await connection.execute(statement)
    with pytest.raises(LostCommitsError, match=words):
        await watch.turn(connection)


async def test_nobody_commits_behind_lost_commits(connection: asyncpg.Connection) -> None:
    shop = await shop_of(connection)
    await connection.execute("DELETE FROM journal WHERE number = (SELECT max(number) FROM journal)")
    await connection.execute("UPDATE log_head SET journal = journal - 1")
    with pytest.raises(LostCommitsError, match="the next journal entry is"):
        await shop.send(shop.receipt("r2", 1))


@dataclass
class Log:
    """The part of a consumer that is asked where partitions begin."""

    begins: int
    asked: list[Any] = field(default_factory=list)

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked += partitions
        return dict.fromkeys(partitions, self.begins)


def taken(*offsets: int) -> list[ConsumerRecord]:
    return [ConsumerRecord("t.orders", 0, each, 0, 0, None, None, None, 0, 0, ()) for each in offsets]


async def test_reading_that_does_not_go_on_where_it_stopped_is_noticed() -> None:
    gaps, log = Gaps(), Log(begins=0)
    consumer: AIOKafkaConsumer = log
    gaps.reads_from(TopicPartition("t.orders", 0), 5)
    await gaps.check(consumer, taken(5, 6))
    assert log.asked == []
    # The end of a transaction, or what was aborted, is no message.
    await gaps.check(consumer, taken(9))
    assert len(log.asked) == 1
    log.begins = 12
    with pytest.raises(ConfigurationError, match=r"t\.orders-0 offsets 10 to 11 are gone, and were never worked"):
        await gaps.check(consumer, taken(12))
    with pytest.raises(ConfigurationError, match="goes on at offset 0, and was read up to 13"):
        await gaps.check(consumer, taken(0))
    # What can't be read has to be deleted, and is no surprise.
    gaps.reads_from(TopicPartition("t.orders", 0), 11)
    gaps.may_be_deleted.add((TopicPartition("t.orders", 0), 11))
    await gaps.check(consumer, taken(12))
    # Where nothing was worked yet, the log may begin anywhere.
    await Gaps().check(consumer, taken(40))
