"""COMMIT is sent and no answer comes: it may have happened or not, and both must come to the same in the end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from backorder_allocator import batches, dead_letters, store, telemetry
from backorder_allocator.connections import SESSION, passes
from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_allocator.parts import Part, keep
from backorder_allocator.planner import Planner
from backorder_allocator.timers import Timers
from backorder_schemas import SupplyExpected
from tests.allocator.records import Partitions
from tests.allocator.strategies import Sent
from tests.allocator.test_batches import assert_audit_is_clean, order, receipt, waiting, work
from tests.conftest import Databases
from tests.e2e.processes import eventually
from tests.faults.campaign.proxy import CutAt, Link

ANSWERED = pytest.mark.parametrize("before", [False, True], ids=["the server has it", "it never got there"])


@pytest.fixture
def database_url(postgres: Databases, migrated: str) -> str:
    return postgres.create_database(migrated)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, server_settings=SESSION)
    yield connection
    await connection.close()


@pytest.fixture
async def link(database_url: str) -> AsyncIterator[Link]:
    """Between the service and its database."""
    port = urlsplit(database_url).port
    assert port is not None
    made = Link("database", "postgres", port)
    await made.listen()
    yield made
    await made.close()


def through(link: Link, url: str) -> str:
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{link.port}"))


def cut(link: Link, *, before: bool) -> None:
    """The next COMMIT gets no answer."""
    link.change(CutAt("commit", before=before, times=1))


async def entries(database: asyncpg.Connection, kind: str) -> int:
    return int(await database.fetchval("SELECT count(*) FROM journal WHERE kind = $1", kind))


def overdue() -> Sent:
    then = datetime.now(UTC) - timedelta(hours=1)
    supply = SupplyExpected(
        id="s", occurred_at=then, supply_id="S", revision=1, sku="X", quantity=5, expected_at=then, supplier="acme"
    )
    return Sent(supply, then)


@ANSWERED
async def test_a_batch_is_done_once(
    database: asyncpg.Connection, database_url: str, link: Link, *, before: bool
) -> None:
    fenced = telemetry.FENCED.labels("partition")._value.get()
    partitions = Partitions()
    async with asyncpg.create_pool(
        through(link, database_url), min_size=1, max_size=2, server_settings=SESSION
    ) as pool:
        intake = Intake(pool, Context(), lambda: None)
        intake.stopping.set()  # no pause between tries
        await store.add_cursors(database, [("orders", 0), ("stock-received", 0)])
        first = partitions.records([receipt("r", 1), order("first", 1)])
        assert await intake.take(lambda: first)
        second = partitions.records([order("second", 1)])
        cut(link, before=before)
        assert not await intake.take(lambda: second)
        assert intake.health.stopped_by is None
        assert await entries(database, "batch") == (1 if before else 2)
        assert await intake.take(lambda: second)
        third = partitions.records([order("third", 1)])
        assert await intake.take(lambda: third)
    assert await entries(database, "batch") == 3
    assert await waiting(database) == {"first": 0, "second": 1, "third": 1}
    assert telemetry.FENCED.labels("partition")._value.get() == fenced, "nobody else had worked it"
    assert await database.fetchval("SELECT sum(refused) FROM cursors") == 0
    await assert_audit_is_clean(database)


@ANSWERED
@pytest.mark.parametrize(
    ("kind", "make"),
    [("timer", lambda: Timers(Context(), lambda: None)), ("planner", lambda: Planner(Context(), 0.0, lambda: None))],
    ids=["a timer", "a run of the planner"],
)
async def test_what_happens_beside_the_input_is_done_once(
    database: asyncpg.Connection, database_url: str, link: Link, kind: str, make: Callable[[], Part], *, before: bool
) -> None:
    await work(database, Partitions().records([order("1", 2), overdue()]), Context())
    assert await entries(database, kind) == 0
    cut(link, before=before)
    part = make()
    kept = asyncio.create_task(
        keep(part, partial(asyncpg.connect, through(link, database_url), server_settings=SESSION))
    )
    left = "SELECT (SELECT count(*) FROM pools WHERE stale_since IS NOT NULL) + (SELECT count(*) FROM timers)"
    once = {"timer": "SELECT count(*) FROM timers", "planner": left.replace(" + (SELECT count(*) FROM timers)", "")}

    async def done() -> bool:
        return await database.fetchval(once[kind]) == 0 and not link.mode.times  # type: ignore[union-attr]

    await eventually(done, f"the {kind} to be done in spite of it")
    part.wake.set()
    await eventually(partial(has_begun, part), "another turn")
    part.ending.set()
    part.wake.set()
    async with asyncio.timeout(10):
        await kept
    assert sum(link.counts[name] for name in ("commit_cut_before", "commit_cut_after")) == 1
    assert await entries(database, kind) == 1
    assert part.failing() == 0


async def has_begun(part: Part) -> bool:
    """A turn since it was woken."""
    return not part.wake.is_set()


@ANSWERED
async def test_a_dead_letter_is_driven_again_once(
    database: asyncpg.Connection, database_url: str, link: Link, *, before: bool
) -> None:
    partitions = Partitions()
    await work(database, [partitions.broken("orders", "not_json"), *partitions.records([receipt("r", 5)])], Context())
    (letter,) = await dead_letters.find(database, dead_letters.Which())
    record = partitions.records([order("mended", 2)])[0]
    cut(link, before=before)
    for attempt in range(2):
        connection = await asyncpg.connect(through(link, database_url), server_settings=SESSION)
        drive = batches.redrive(connection, letter.dead_letter_id, record, Context(), datetime.now(UTC))
        if attempt == 0:
            with pytest.raises(Exception) as lost:  # noqa: PT011 - which one it is, the next line says
                await drive
            assert passes(lost.value)
        else:
            outcome = await drive
            assert (outcome is None) == (not before), "resolved before, if the server had it"
        connection.terminate()
    assert await entries(database, "redrive") == 1
    assert await waiting(database) == {"mended": 0}
