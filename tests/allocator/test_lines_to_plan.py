"""What the planner reads of a queue is enough: nobody whose date moves is left out, and nearly nobody else is read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from backorder_allocator.moves import moves
from backorder_allocator.plans import StalePool, read_lines
from backorder_allocator.promises import Coming, Lead, Projection, PromiseRules, Waiting, project
from backorder_allocator.state import Policy, Pool, PoolKey
from tests.allocator.shared_database import SharedDatabase

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)


def at(hours: float) -> datetime:
    return NOW + timedelta(hours=hours)


moments = st.integers(-4, 14).map(lambda number: at(8 * number))  # so few days that many are the same
waiting_lines = st.builds(
    Waiting,
    order_id=st.just(""),
    line_no=st.just(1),
    units=st.integers(0, 4),
    placed_at=st.integers(-100, 0).map(at),
    promised_at=st.none() | moments,
    first_promised_at=st.just(NOW),
    lead=st.none() | st.builds(Lead, st.integers(0, 3), moments),
)
queues = st.lists(waiting_lines, max_size=10)
projections = st.builds(
    project,
    start=st.integers(-8, 12),
    supplies=st.lists(
        st.builds(Coming, st.sampled_from("abcdefgh"), st.integers(1, 6), moments, st.booleans()),
        max_size=5,
        unique_by=lambda supply: supply.supply_id,
    ),
    now=st.just(NOW),
    rules=st.builds(
        PromiseRules,
        st.integers(0, 30).map(timedelta),
        st.none() | st.integers(0, 40).map(lambda n: n * timedelta(0.1)),
    ),
)
policies = st.builds(
    Policy,
    backorders=st.sampled_from(["allow", "preorder"]),
    release_at=moments,
    default_lead_time_days=st.none() | st.integers(0, 3),
)
pools = st.lists(st.tuples(queues, projections, policies), min_size=1, max_size=3)


def stale(number: int, policy: Policy) -> StalePool:
    pool = Pool(PoolKey(f"S{number}", "main"), number, policy=policy, named=True)
    return StalePool(pool, number, 1, is_stale=True, shown=None, availability_version=0)


async def read(
    connection: asyncpg.Connection, made: Sequence[tuple[Sequence[Waiting], Projection, Policy]]
) -> dict[int, list[tuple[Waiting, int]]]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        for number, (queue, _, _) in enumerate(made):
            for place, line in enumerate(queue):
                order_id = f"{number}-{place:02}"
                await connection.execute(
                    "INSERT INTO orders (order_id, placed_at, ranked_at) VALUES ($1, $2, $2)", order_id, line.placed_at
                )
                held = 0 if line.units else 1
                await connection.execute(
                    "INSERT INTO lines VALUES ($1, 1, $2, $3, $4, $5, $6, 0, 0, 0, 0, '[]', $7, $8, $9, $10)",
                    order_id, number, at(place), line.units + held, held, line.units, line.promised_at,
                    line.first_promised_at, line.lead and line.lead.at, line.lead and line.lead.days,
                )  # fmt: skip
        projections = {number: projection for number, (_, projection, _) in enumerate(made)}
        return await read_lines(
            connection, [stale(number, policy) for number, (_, _, policy) in enumerate(made)], projections, NOW
        )
    finally:
        await transaction.rollback()


def whole(number: int, queue: Sequence[Waiting], *, in_preorder: bool) -> list[tuple[Waiting, int]]:
    """The queue as it is read without leaving anybody out: who holds units only while there is a pre-order."""
    wanted = accumulate(line.units for line in queue)
    return [
        (
            Waiting(
                f"{number}-{place:02}",
                1,
                line.units,
                line.placed_at,
                line.promised_at,
                line.first_promised_at,
                line.lead,
            ),
            units,
        )
        for place, (line, units) in enumerate(zip(queue, wanted, strict=True))
        if line.units or in_preorder
    ]


@settings(max_examples=500, deadline=None, derandomize=True)
@given(pools)
def test_whose_date_moves_is_read_and_the_others_are_not(
    database: SharedDatabase, made: list[tuple[list[Waiting], Projection, Policy]]
) -> None:
    found = database.runner.run(read(database.connection, made))
    for number, (queue, projection, policy) in enumerate(made):
        pool = stale(number, policy).pool
        expected = moves(pool, whole(number, queue, in_preorder=pool.takes_preorders(NOW)), projection, NOW)
        assert moves(pool, found[number], projection, NOW) == expected
        if policy.default_lead_time_days is None:
            assert [line.order_id for line, _ in found[number]] == [move.line.order_id for move in expected]
