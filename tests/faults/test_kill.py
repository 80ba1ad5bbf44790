"""kill -9 in the middle of 4,000 orders, each time at a chosen place: nothing is lost, nothing is done twice."""

import json
from dataclasses import dataclass

import pytest

from tests.e2e.processes import eventually
from tests.e2e.world import OUTPUTS, World
from tests.faults.load import check_nothing_lost_or_doubled, load

ORDERS = 4000
BATCH = 60
KILLS = [
    ("relay.acked", 3),
    ("store.first_write", 4),
    ("intake.committed", 5),
    ("store.before_commit", 3),
    ("relay.acked", 1),
    ("store.before_commit", 6),
    ("intake.committed", 2),
]
SIGKILLED = -9


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything stands, in units that can be compared."""

    cursor: int
    """Records that are done, over all partitions."""
    committed: int
    """The same as Kafka knows it."""
    kafka_knows_the_last: bool
    """Whether the offsets of the last transaction are committed to Kafka, too."""
    transactions: int
    begun: int
    """Transactions that got as far as their first write, committed or not."""
    relay: int
    published: int
    """Records on the topics: more than the relay's position, if events were published that it does not know of."""

    def __str__(self) -> str:
        return (
            f"cursor {self.cursor:5}  committed offset {self.committed:5}  transactions {self.transactions:3}  "
            f"begun {self.begun:3}  relay {self.relay:5}  on topics {self.published:5}"
        )


async def place(world: World) -> Place:
    committed = await world.committed()
    last = await world.database.fetchval("SELECT what FROM journal ORDER BY number DESC LIMIT 1")
    return Place(
        cursor=sum((await world.cursors()).values()),
        committed=sum(committed.values()),
        kafka_knows_the_last=all(
            committed.get((part["topic"], part["partition"]), 0) >= part["to"] for part in json.loads(last or "[]")
        ),
        transactions=await world.number("SELECT journal FROM log_head"),
        begun=await world.number("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM batch_ids"),
        relay=await world.number("SELECT seq FROM relay"),
        published=sum((await world.ends(OUTPUTS)).values()),
    )


@pytest.mark.timeout(200)
async def test_killed_at_every_place_that_matters_4000_orders_have_one_outcome_each(world: World) -> None:
    sent = load(ORDERS, seed=4000)
    *parts, rest = sent.slices(len(KILLS) + 1)
    doubled = 0
    for (fail_point, at), part in zip(KILLS, parts, strict=True):
        await world.publish(*part)
        before = await place(world)
        service = await world.allocator(
            ready=False,
            batch=BATCH,
            BACKORDER_FAIL_POINT=f"{fail_point}=kill@{at}",
        )
        assert await service.ended() == SIGKILLED, service.explain()
        await no_connection_is_left(world)
        after = await place(world)
        print(f"kill -9 at {fail_point} ({at}):\n    before  {before}\n    after   {after}")
        assert f"fail point {fail_point}: killed" in service.said()
        check_place(fail_point, at, before, after, doubled)
        doubled = after.published - after.relay
        assert after.cursor < len(sent.messages), "a kill after the work is no kill in the middle"
        await world.forget_dead_members()
    await world.publish(*rest)
    await world.allocator(batch=BATCH)
    await world.settled()
    subscriber = await check_nothing_lost_or_doubled(world, sent)
    assert subscriber.repeats > 0, "what was published before a kill is published again"
    assert subscriber.repeats == (await place(world)).published - (await place(world)).relay


def check_place(fail_point: str, at: int, before: Place, after: Place, doubled: int) -> None:
    """Whether the kill was where it was meant to be. `doubled`: events that were on the topics twice before."""
    transactions = after.transactions - before.transactions
    match fail_point:
        case "store.first_write" | "store.before_commit":
            # One transaction was begun that is not there; everything is where the one before left it.
            assert transactions == at - 1
            assert after.begun - before.begun == at
            assert after.kafka_knows_the_last
        case "intake.committed":
            # The last transaction is there, and Kafka does not know of it.
            assert transactions == at
            assert not after.kafka_knows_the_last
            assert after.cursor > after.committed
        case "relay.acked":
            assert after.published - after.relay > doubled, "events on the topics that the relay's position lacks"
        case _:
            raise AssertionError(fail_point)


async def no_connection_is_left(world: World) -> None:
    """PostgreSQL has noticed that its client is gone, and rolled back what was begun."""

    async def gone() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return await world.number(query) == 0

    await eventually(gone, "the killed process's connections to end")
