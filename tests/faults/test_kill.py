"""kill -9 in the middle of 4,000 orders, each time at a chosen place: nothing is lost, nothing is done twice.

Among the places are the transactions of the planner and of timers.
"""

import json
from dataclasses import dataclass

import pytest

from backorder_schemas import PromiseChanged, ShipmentMismatch, SkuAvailability, SupplyOverdue
from tests.e2e.processes import eventually
from tests.e2e.world import OUTPUTS, World
from tests.faults.load import check_nothing_lost_or_doubled, escalation_days, load, ships

ORDERS = 4000
BATCH = 150
KILLS = [
    ("relay.acked", 3),
    ("store.first_write", 4),
    ("planner.before_commit", 2),
    ("intake.committed", 5),
    ("timer.before_commit", 3),
    ("relay.acked", 1),
    ("store.before_commit", 6),
    ("planner.before_commit", 4),
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
    """Whether the offsets of the last batch are committed to Kafka, too."""
    batches: int
    timers: int
    planner_runs: int
    begun: int
    """Transactions of all three kinds that got as far as their first write, committed or not."""
    to_plan: int
    due: int
    """Timers whose time has come."""
    relay: int
    published: int
    """Records on the topics: more than the relay's position, if events were published that it does not know of."""

    @property
    def transactions(self) -> int:
        return self.batches + self.timers + self.planner_runs

    def __str__(self) -> str:
        return (
            f"cursor {self.cursor:5}  committed offset {self.committed:5}  batches {self.batches:3}  "
            f"timers {self.timers:3}  planner runs {self.planner_runs:3}  begun {self.begun:3}  "
            f"relay {self.relay:5}  on topics {self.published:5}"
        )


async def place(world: World) -> Place:
    committed = await world.committed()
    last = await world.database.fetchval("SELECT what FROM journal WHERE kind = 'batch' ORDER BY number DESC LIMIT 1")
    kinds = dict(await world.database.fetch("SELECT kind, count(*) FROM journal GROUP BY kind"))
    return Place(
        cursor=sum((await world.cursors()).values()),
        committed=sum(committed.values()),
        kafka_knows_the_last=all(
            committed.get((part["topic"], part["partition"]), 0) >= part["to"] for part in json.loads(last or "[]")
        ),
        batches=kinds.get("batch", 0),
        timers=kinds.get("timer", 0),
        planner_runs=kinds.get("planner", 0),
        begun=await world.number("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM batch_ids"),
        to_plan=await world.number("SELECT count(*) FROM pools WHERE stale_since IS NOT NULL"),
        due=await world.number("SELECT count(*) FROM timers WHERE due_at <= clock_timestamp()"),
        relay=await world.number("SELECT seq FROM relay"),
        published=sum((await world.ends(OUTPUTS)).values()),
    )


@pytest.mark.timeout(200)
async def test_killed_at_every_place_that_matters_4000_orders_have_one_outcome_each(world: World) -> None:
    sent = load(ORDERS, seed=4000)
    *parts, rest = sent.slices(len(KILLS) + 1)
    sent_now = 0
    doubled = 0
    for (fail_point, at), part in zip(KILLS, parts, strict=True):
        messages = part + await ships(world, sent)
        await world.publish(*messages)
        sent_now += len(messages)
        before = await place(world)
        service = await world.allocator(
            ready=False,
            batch=BATCH,
            BACKORDER_FAIL_POINT=f"{fail_point}=kill@{at}",
            ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=escalation_days(),
        )
        assert await service.ended() == SIGKILLED, service.explain()
        await no_connection_is_left(world)
        after = await place(world)
        print(f"kill -9 at {fail_point} ({at}):\n    before  {before}\n    after   {after}")
        assert f"fail point {fail_point}: kill" in service.said()
        check_place(fail_point, at, before, after, doubled)
        doubled = after.published - after.relay
        assert after.cursor < sent_now, "a kill after the work is no kill in the middle"
        await world.forget_dead_members()
    await world.publish(*rest, *await ships(world, sent))
    await world.allocator(ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=escalation_days())
    await world.settled()
    end = await place(world)
    print(f"    at last {end}")
    subscriber = await check_nothing_lost_or_doubled(world, sent)
    assert subscriber.repeats > 0, "what was published before a kill is published again"
    assert subscriber.repeats == end.published - end.relay
    assert {PromiseChanged, SkuAvailability, SupplyOverdue, ShipmentMismatch} <= {
        type(message) for message in subscriber.messages
    }


def check_place(fail_point: str, at: int, before: Place, after: Place, doubled: int) -> None:
    """Whether the kill was where it was meant to be. `doubled`: events that were on the topics twice before."""
    batches = after.batches - before.batches
    timers = after.timers - before.timers
    lost = (after.begun - before.begun) - (after.transactions - before.transactions)
    # Input, planner and timers work beside each other: what the other two had begun is gone as well.
    assert lost <= 3
    match fail_point:
        case "store.first_write":
            # One was begun that is not there; everything is where the one before left it.
            assert lost
            assert at - 2 <= batches + timers <= at - 1
        case "store.before_commit":
            assert lost
            assert batches == at - 1
            assert after.kafka_knows_the_last
        case "timer.before_commit":
            assert lost
            assert timers == at - 1
            assert after.due, "the timer is there again"
        case "planner.before_commit":
            assert lost
            assert after.planner_runs - before.planner_runs == at - 1
            assert after.to_plan, "its pools are still to be planned"
        case "intake.committed":
            # The last batch is there, and Kafka does not know of it.
            assert batches == at
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
