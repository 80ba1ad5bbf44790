"""Whatever happened, repeating it from the bytes of the topics in an empty database gives the same events and rows.

Here the topics are in memory, and PostgreSQL is real; the command on a real Kafka is in tests/e2e/test_replay.py.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import asyncpg
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from backorder_allocator import batches, dead_letters, planner, planning, plans, purging, redriving, store
from backorder_allocator.batches import Record
from backorder_allocator.comparing import Comparison
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import Input, Rules
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.intake import DATA_ERRORS, refused
from backorder_allocator.loading import Context
from backorder_allocator.planner import Planner
from backorder_allocator.redriving import drive
from backorder_allocator.replaying import prepare, replay, replay_into
from backorder_allocator.settings import Settings
from backorder_allocator.state import PoolKey
from backorder_allocator.subscribers import read
from backorder_allocator.timers import timer_of
from backorder_schemas import DeadLetter, OrderPlaced
from backorder_schemas.topics import TOPIC_OF
from tests.allocator.stored_shop import StoredShop, day
from tests.allocator.strategies import POOLS, START, AnyMessage, Plan, Sent, Step, settings_of_a_shop, whole_histories
from tests.allocator.test_batches import EMPTY
from tests.allocator.test_whole_histories import EXAMPLES, on_random_histories, rules_of
from tests.conftest import Databases

HISTORIES = max(6, EXAMPLES // 300)


@dataclass
class Topics:
    """Input topics in memory, two partitions each, with holes as transaction markers leave them."""

    random: Random
    logs: dict[tuple[str, int], list[ConsumerRecord]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    spoiled: set[tuple[str, int, int]] = field(default_factory=set)
    """Places of records that this version's codec can't read, and the one that drives them again can."""

    def send(self, topic: str, key: str, value: bytes, now: datetime, *, spoiled: bool = False) -> Record:
        place = (topic, sum(key.encode()) % 2)
        offset = self.ends[place] + self.random.choice([0, 0, 0, 2])
        self.ends[place] = offset + 1
        if spoiled:
            self.spoiled.add((*place, offset))
        milliseconds = round(now.timestamp() * 1000)
        record = ConsumerRecord(*place, offset, milliseconds, 1, key.encode(), value, None, 0, 0, (("n", b"\xff"),))
        self.logs[place].append(record)
        return self.as_read(record)

    def as_read(self, record: Any) -> Record:
        taken = read(record, "")
        is_spoiled = (record.topic, record.partition, record.offset) in self.spoiled
        return replace(taken, read=DeadLetter("invalid", "spoiled")) if is_spoiled else taken

    async def read(self, topic: str, partition: int, start: int, end: int) -> list[Record]:
        return [self.as_read(record) for record in self.logs[topic, partition] if start <= record.offset < end]

    async def extent(self, topic: str, partition: int) -> tuple[int, int]:
        log = self.logs[topic, partition]
        return (log[0].offset if log else 0), self.ends[topic, partition]


@dataclass
class Process:
    """One allocator process: its connection and what it remembers."""

    connection: asyncpg.Connection
    rules: Rules
    topics: Topics
    random: Random
    context: Context = field(default_factory=Context)
    worked: list[Record] = field(default_factory=list)
    """The last batch, which may be delivered again."""

    async def start(self) -> None:
        self.context = Context(self.rules, rules_id=await store.register_rules(self.connection, self.rules))

    async def work(self, records: Sequence[Record], now: datetime) -> None:
        """Work a batch, sometimes as a poll gives it, sometimes behind one that was worked before."""
        again = self.worked if self.random.random() < 0.2 else []
        batch = [*again, *records]
        if self.random.random() < 0.5:
            batch.sort(key=lambda record: (record.topic, record.partition))
        await store.add_cursors(self.connection, {(record.topic, record.partition) for record in batch})
        await batches.work(self.connection, batch, self.context, now)
        self.worked = list(records)

    async def fire(self, now: datetime) -> None:
        rows = await self.connection.fetch("SELECT * FROM timers ORDER BY due_at, kind, subject, supply_id LIMIT 1")
        for row in rows:
            await batches.fire(self.connection, timer_of(row), row["due_at"], self.context, now)

    async def plan(self, at: datetime, most: int) -> None:
        """Plan some pools in part, or all that are stale in portions."""
        pools = [PoolKey(*names) for names in self.random.sample(POOLS, 2)]
        if self.random.random() < 0.5:
            await planning.plan_once(self.connection, pools, at, most, self.context)
        else:
            await Planner(self.context, 0, lambda: None).run(self.connection, at)

    async def drive_again(self) -> None:
        """An operator drives a dead letter again, perhaps in vain."""
        letters = await dead_letters.find(self.connection)
        if letters:
            async for _ in drive(self.connection, self.rules, [self.random.choice(letters)], dry_run=False):
                pass


@dataclass
class Bench:
    """Databases that many examples share, one after the other."""

    runner: asyncio.Runner
    sources: Sequence[asyncpg.Connection]
    """Three connections to one database."""
    target: asyncpg.Connection

    async def empty(self) -> None:
        for each in (self.sources[0], self.target):
            await each.execute(EMPTY)


@pytest.fixture(scope="module")
def bench(postgres: Databases, migrated: str) -> Iterator[Bench]:
    source, target = (postgres.create_database(template=migrated) for _ in range(2))
    with asyncio.Runner() as runner:
        connections = [
            runner.run(asyncpg.connect(url, server_settings=SESSION)) for url in (source, source, source, target)
        ]
        yield Bench(runner, connections[:3], connections[3])
        for each in connections:
            runner.run(each.close())


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "LINES_AT_ONCE", 1)


@settings(on_random_histories, max_examples=HISTORIES)
@given(data=st.data())
def test_any_history_is_repeated_event_by_event_and_row_by_row(bench: Bench, data: st.DataObject) -> None:
    history = data.draw(whole_histories(150))
    shops = [rules_of(data.draw(settings_of_a_shop())) for _ in range(2)]
    random = Random(data.draw(st.integers(0, 10**9)))
    bench.runner.run(live_and_repeat(bench, history, shops, random))


async def live_and_repeat(bench: Bench, history: Sequence[Step], shops: Sequence[Rules], random: Random) -> None:
    await bench.empty()
    topics = Topics(random)
    # Two processes while settings are changed: each transaction by the rules of who did it.
    processes = [Process(bench.sources[0], rules, topics, random) for rules in shops]
    for each in processes:
        await each.start()
    # Ids of pools are not what decides.
    await store.pool_ids(bench.sources[0], [PoolKey(*names) for names in random.sample(POOLS, random.randint(1, 3))])
    await live(processes, topics, history, random)
    assert_same(await replay(bench.sources[0], bench.target, topics, Rules(), None, print))


async def live(processes: Sequence[Process], topics: Topics, history: Sequence[Step], random: Random) -> None:
    now = START
    batch: list[Record] = []
    for step in history:
        process = random.choice(processes)
        if isinstance(step, Sent):
            now = step.now
            batch.append(sent(topics, step, random))
            if random.random() < 0.1:
                batch.append(topics.send("orders", "?", b'{"type": ', now))
            if random.random() < 0.5:
                await process.work(batch, now)
                batch = []
            continue
        if batch:
            await process.work(batch, now)
            batch = []
        if isinstance(step, Plan):
            await process.plan(step.now, random.choice([1, 2, 1000]))
        else:
            await process.fire(now)
        if random.random() < 0.3:
            await process.drive_again()
    if batch:
        await processes[0].work(batch, now)
    await processes[0].plan(now, 1000)


@settings(on_random_histories, max_examples=HISTORIES)
@given(data=st.data())
def test_what_processes_do_at_the_same_time_is_repeated_one_after_the_other(bench: Bench, data: st.DataObject) -> None:
    history = data.draw(whole_histories(150))
    rules = rules_of(data.draw(settings_of_a_shop()))
    random = Random(data.draw(st.integers(0, 10**9)))
    bench.runner.run(live_at_once_and_repeat(bench, history, rules, random))


async def live_at_once_and_repeat(bench: Bench, history: Sequence[Step], rules: Rules, random: Random) -> None:
    await bench.empty()
    topics = Topics(random)
    processes = [Process(connection, rules, topics, random) for connection in bench.sources]
    for each in processes:
        await each.start()
    inputs: list[list[Record]] = [[], []]
    for step in history:
        if isinstance(step, Sent):
            record = sent(topics, step, random)
            inputs[(record.partition + len(record.topic)) % 2].append(record)
    done = asyncio.Event()

    async def take(process: Process, records: list[Record]) -> None:
        while records:
            count = random.randint(1, 6)
            await process.work(records[:count], records[0].at)
            del records[:count]

    async def everything_else(process: Process) -> None:
        while not done.is_set():
            at = START + timedelta(hours=random.randint(0, 200))
            match random.choice(["timer", "planner", "planner", "operator"]):
                case "timer":
                    await process.fire(at)
                case "planner":
                    await process.plan(at, random.choice([1, 1000]))
                case _:
                    await process.drive_again()

    rest = asyncio.create_task(everything_else(processes[2]))
    await asyncio.gather(*[take(*each) for each in zip(processes, inputs, strict=False)])
    done.set()
    await rest
    assert_same(await replay(bench.sources[0], bench.target, topics, Rules(), None, print))


def sent(topics: Topics, step: Sent, random: Random) -> Record:
    """The message as the record of its topic."""
    message = step.message
    topic = TOPIC_OF[type(message)]
    value = message.model_dump_json().encode()
    return topics.send(topic.name, topic.key_of(message), value, step.now, spoiled=random.random() < 0.1)


def assert_same(compared: Comparison) -> None:
    assert compared.examples == []
    assert compared.differences == 0
    assert compared.purged == 0


# ── what an operator hears ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
async def databases(postgres: Databases, migrated: str) -> AsyncIterator[list[asyncpg.Connection]]:
    """A source and a target. To make new ones for each test would take longer than the tests."""
    urls = [postgres.create_database(template=migrated) for _ in range(2)]
    connections = [await asyncpg.connect(url, server_settings=SESSION) for url in urls]
    yield connections
    for each in connections:
        await each.close()


@pytest.fixture
async def connection(databases: list[asyncpg.Connection]) -> asyncpg.Connection:
    for each in databases:
        await each.execute(EMPTY)
    return databases[0]


@pytest.fixture
def target(databases: list[asyncpg.Connection]) -> asyncpg.Connection:
    return databases[1]


@pytest.fixture
async def topics(connection: asyncpg.Connection) -> Topics:
    """The topics of a day: two orders, of which one waits for a supply that is late, and a broken message."""
    topics = Topics(Random(1))
    shop = StoredShop(connection)
    process = Process(connection, Rules(), topics, Random(1))
    await process.start()
    messages = (
        shop.receipt("r1", 2),
        shop.order("1", 2),
        shop.order("2", 3),
        shop.supply("S", 3, day(5)),
    )
    records = [sent(topics, Sent(message, START), Random(1)) for message in messages]
    records.append(topics.send("orders", "?", b"{", START))
    await store.add_cursors(connection, {(record.topic, record.partition) for record in records})
    await batches.work(connection, records, process.context, START)
    await planning.plan_once(connection, [PoolKey("X", "main")], day(1), 1000, process.context)
    await process.fire(day(5))
    await process.drive_again()
    return topics


async def repeated(
    source: asyncpg.Connection, target: asyncpg.Connection, topics: Topics, until: int | None = None
) -> Comparison:
    return await replay(source, target, topics, Rules(), until, print)


async def test_the_kinds_of_transactions_are_repeated_and_counted(
    connection: asyncpg.Connection, target: asyncpg.Connection, topics: Topics
) -> None:
    compared = await repeated(connection, target, topics)
    assert_same(compared)
    assert compared.repeated == compared.entries.compared == 4
    assert [row["kind"] for row in await target.fetch("SELECT kind FROM journal ORDER BY number")] == [
        "batch",
        "planner",
        "timer",
        "redrive",
    ]
    assert {kind: count.compared for kind, count in compared.events.items()} == {
        "AllocationReleased": 1,
        "BackorderCreated": 1,
        "PromiseChanged": 1,
        "SkuAvailability": 1,
        "SupplyOverdue": 1,
    }
    assert {what for what, count in compared.rows.items() if not count.compared} == {
        "policies",
        "cancels",
        "shipments and deliveries",
        "timers",
    }


async def test_a_replay_may_stop_at_a_journal_entry(
    connection: asyncpg.Connection, target: asyncpg.Connection, topics: Topics
) -> None:
    compared = await repeated(connection, target, topics, 2)
    assert (compared.repeated, compared.rows, compared.differences) == (2, {}, 0)
    assert await target.fetchval("SELECT journal FROM log_head") == 2
    with pytest.raises(ConfigurationError, match="the journal ends at 4"):
        await repeated(connection, target, topics, 5)


DIFFERENCES = {
    """UPDATE events SET value = replace(value, '"quantity":3', '"quantity":4') WHERE type = 'BackorderCreated'""": (
        "event 1 of journal entry 1 (BackorderCreated): value.quantity is 4, after the replay 3"
    ),
    "UPDATE events SET value = value || ' ' WHERE type = 'SupplyOverdue'": (
        "event 0 of journal entry 3 (SupplyOverdue): value is "
    ),
    "UPDATE events SET version = 9 WHERE type = 'SkuAvailability'": (
        "event 1 of journal entry 2 (SkuAvailability): version is 9, after the replay 1"
    ),
    "DELETE FROM events WHERE type = 'SkuAvailability'": (
        "event 1 of journal entry 2 (SkuAvailability) is there only after the replay"
    ),
    "UPDATE journal SET applied = 3, duplicates = 1 WHERE number = 1": (
        "journal entry 1: applied is 3, after the replay 4; duplicates is 1, after the replay 0"
    ),
    "UPDATE lines SET promised_at = '2026-01-01Z' WHERE order_id = '2'": (
        """lines: ["2", 1]: promised_at is "2026-01-01T00:00:00+00:00", after the replay """
    ),
    "DELETE FROM queue_days": """queues by day: ["X", "main", "2026-11-02"] is there only after the replay""",
    "INSERT INTO timers VALUES ('escalate', '1', '', '2026-12-01Z')": (
        """timers: ["escalate", "1", ""] is not there after the replay"""
    ),
    "UPDATE dead_letters SET value = 'ada@example.org'": ": value is another",
}


@pytest.mark.parametrize("change", DIFFERENCES)
async def test_a_difference_is_named(
    connection: asyncpg.Connection, target: asyncpg.Connection, topics: Topics, change: str
) -> None:
    await connection.execute(change)
    compared = await repeated(connection, target, topics)
    (example,) = compared.examples
    assert DIFFERENCES[change] in example
    assert compared.differences == 1


async def test_what_each_database_numbers_by_itself_is_no_difference_and_a_purged_letter_neither(
    connection: asyncpg.Connection, target: asyncpg.Connection, topics: Topics
) -> None:
    await connection.execute("UPDATE pools SET revision = 77; UPDATE dead_letters SET published = true")
    await connection.execute("DELETE FROM dead_letters")
    # Of a version that did not say which rules were in force: those that are given.
    await connection.execute("UPDATE journal SET rules_id = NULL; DELETE FROM rules")
    compared = await repeated(connection, target, topics)
    assert (compared.examples, compared.purged) == ([], 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE journal SET what = jsonb_set(what, '{due}', '\"2026-11-08T09:00:00+00:00\"') WHERE number = 3",
            "journal entry 3 (timer overdue of S of X, due 2026-11-08 09:00Z) finds nothing to do when it is repeated",
        ),
        (
            'UPDATE journal SET what = \'{"topic": "orders", "partition": 0, "offset": 0}\' WHERE number = 4',
            "journal entry 4 (dead letter of orders-0 offset 0, driven again): its record is no dead letter",
        ),
        ("DELETE FROM journal WHERE number = 3", "journal entry 4 (dead letter "),
    ],
)
async def test_a_replay_ends_at_an_entry_that_can_t_be_repeated(
    connection: asyncpg.Connection, target: asyncpg.Connection, topics: Topics, change: str, said: str
) -> None:
    await connection.execute(change)
    compared = await repeated(connection, target, topics)
    assert [said in example for example in compared.examples] == [True]
    assert (compared.rows, compared.repeated) == ({}, int(said.split()[2]) - 1 if "DELETE" not in change else 2)


async def test_a_bug_is_named_by_the_entry_that_it_stops(
    connection: asyncpg.Connection, target: asyncpg.Connection, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(plans, "make_plans", broken)
    compared = await repeated(connection, target, topics)
    assert compared.examples == ["journal entry 2 (planner for X at main) can't be repeated: ZeroDivisionError"]
    assert compared.repeated == 1


async def test_records_that_are_gone_are_named_by_topic_partition_and_offsets(
    connection: asyncpg.Connection, target: asyncpg.Connection, topics: Topics
) -> None:
    log = topics.logs["orders", 1]
    gone = log.pop(0).offset
    with pytest.raises(ConfigurationError) as error:
        await repeated(connection, target, topics)
    there = f"offsets {log[0].offset} to {log[-1].offset} are there"
    assert str(error.value).startswith(
        f"journal entry 1 worked 5 records, and 4 can be read: orders-1 offsets {gone} to {log[-1].offset} ({there}). "
    )


async def test_a_message_that_could_not_be_stored_is_refused_again(
    connection: asyncpg.Connection, target: asyncpg.Connection
) -> None:
    topics = Topics(Random(1))
    process = Process(connection, Rules(), topics, Random(1))
    await process.start()
    message = StoredShop(connection).order("1", 2)
    record = topics.send("orders", "1", message.model_dump_json().encode(), START)
    # The codec refuses such a text; what if it did not?
    assert isinstance(record.read, Input)
    unstorable = replace(record, read=Input(message.model_copy(update={"order_id": "a\0b"}), START))
    await store.add_cursors(connection, [(record.topic, record.partition)])
    with pytest.raises(DATA_ERRORS) as error:
        await batches.work(connection, [unstorable], process.context, START)
    await batches.work(connection, [refused(unstorable, error.value)], process.context, START)

    class Unstorable(Topics):
        async def read(self, *_: Any) -> list[Record]:
            return [unstorable]

    compared = await repeated(connection, target, Unstorable(Random(1)))
    assert_same(compared)
    assert compared.rows["dead letters"].compared == 1


async def test_a_shipment_that_was_driven_again_and_can_t_be_when_its_order_comes_is_a_dead_letter_once_more(
    connection: asyncpg.Connection, target: asyncpg.Connection
) -> None:
    topics = Topics(Random(1))
    process = Process(connection, Rules(), topics, Random(1))
    await process.start()
    shop = StoredShop(connection)

    async def work(message: AnyMessage, *, spoiled: bool = False) -> None:
        record = topics.send(
            TOPIC_OF[type(message)].name, "1", message.model_dump_json().encode(), START, spoiled=spoiled
        )
        await store.add_cursors(connection, [(record.topic, record.partition)])
        await batches.work(connection, [record], process.context, START)

    await work(shop.shipment("sh", "1", (1, 9)), spoiled=True)
    await process.drive_again()
    assert await dead_letters.find(connection) == []
    await work(shop.order("1", 2))
    (letter,) = await dead_letters.find(connection)
    assert (letter.reason, letter.redrives, letter.resolved_at, letter.outcome) == ("impossible", 0, None, None)
    assert len(await dead_letters.unpublished(connection, 9)) == 1
    await process.drive_again()
    assert_same(await repeated(connection, target, topics))


async def test_what_was_driven_again_and_purged_since_is_repeated_also_where_it_could_not_be_stored(
    connection: asyncpg.Connection, target: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = Topics(Random(1))
    process = Process(connection, Rules(), topics, Random(1))
    await process.start()
    shop = StoredShop(connection)
    for order in (shop.order("poison", 2), shop.order("good", 3)):
        record = topics.send("orders", order.order_id, order.model_dump_json().encode(), START, spoiled=True)
        await store.add_cursors(connection, [(record.topic, record.partition)])
        await batches.work(connection, [record], process.context, START)
    real = redriving.record_of

    def unstorable(letter: dead_letters.DeadLetterRow) -> Record:
        record = real(letter)
        read = record.read
        if isinstance(read, Input) and isinstance(read.message, OrderPlaced) and read.message.order_id == "poison":
            return replace(record, read=Input(read.message.model_copy(update={"order_id": "a\0b"}), START))
        return record

    # The codec refuses such a text; what if it did not?
    monkeypatch.setattr(redriving, "record_of", unstorable)
    letters = await dead_letters.find(connection)
    driven = [row["outcome"] async for row in drive(connection, Rules(), letters, dry_run=False)]
    assert driven == ["dead_letter", "applied"]
    await connection.execute("UPDATE dead_letters SET published = true")
    assert (await purging.purge(connection, datetime.now(UTC), None, START)).letters == 2
    compared = await repeated(connection, target, topics)
    assert (compared.examples, compared.purged) == ([], 2)
    left = "SELECT newest_reason, redrives FROM dead_letters ORDER BY dead_letter_id"
    assert [tuple(row) for row in await target.fetch(left)] == [("impossible", 1), (None, 1)]


async def test_the_target_must_be_another_database_and_empty(
    database_url: str, target: asyncpg.Connection, postgres: Databases
) -> None:
    connection = await asyncpg.connect(database_url)
    with pytest.raises(ConfigurationError, match="does not begin with postgresql://"):
        await replay_into(connection, settings=Settings.model_construct(), into="replayed", until=None, say=print)
    again = await asyncpg.connect(database_url)
    with pytest.raises(ConfigurationError, match="the database of the service itself"):
        await prepare(connection, again)
    with pytest.raises(ConfigurationError, match="not empty, it has tables"):
        await prepare(connection, target)
    await again.execute("CREATE SCHEMA other; SET search_path = other")
    await prepare(connection, again)
    assert await again.fetchval("SELECT journal FROM other.log_head") == 0
    await again.execute("SET search_path = nowhere")
    with pytest.raises(ConfigurationError, match="search_path"):
        await prepare(connection, again)
    await again.close()
    empty = await asyncpg.connect(postgres.create_database())
    await prepare(connection, empty)
    assert await empty.fetchval("SELECT journal FROM log_head") == 0
    await empty.close()
    await connection.close()
