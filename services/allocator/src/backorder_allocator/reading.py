"""Pools as they are, read without locks for whoever asks: stock, policies, what is to come."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from backorder_allocator import store
from backorder_allocator.ranking import LATEST
from backorder_allocator.state import Policy, Pool, PoolKey, Supply
from backorder_allocator.statements import Connection, run


@dataclass(frozen=True, slots=True)
class PoolNow:
    """A pool and its row's id. `is_planned`: its promises and its availability are as published."""

    pool: Pool
    pool_id: int
    is_planned: bool
    queue_end: datetime | None
    """No line that waits is ranked behind this moment."""


async def pools_of(
    connection: Connection, skus: Iterable[str], default: Policy, location: str | None = None
) -> list[PoolNow]:
    """The pools of SKUs that an order, stock or a supply named; `default`: the policy of SKUs that have none."""
    named = sorted(set(skus))
    policies = await store.policies_of(connection, named)
    return [
        PoolNow(
            Pool(
                PoolKey(row["sku"], row["location"]),
                row["pool_id"],
                row["on_hand"],
                row["allocated"],
                row["waiting"],
                row["counted_at"],
                policies[row["sku"]].policy if row["sku"] in policies else default,
                row["safety_stock"],
                row["preorder_over"],
                named=True,
                low=row["low"],
            ),
            row["pool_id"],
            row["stale_since"] is None,
            row["queue_end"],
        )
        for row in await run(connection, "named_pools", named, location)
    ]


async def supplies_of(connection: Connection, pool_ids: Iterable[int]) -> dict[PoolKey, list[Supply]]:
    """What is to come, by pool, by date."""
    found: dict[PoolKey, list[Supply]] = {}
    for supply in (await store.supplies_to_come(connection, pool_ids)).values():
        if supply.pool is not None:
            found.setdefault(supply.pool, []).append(supply)
    for supplies in found.values():
        supplies.sort(key=lambda supply: (supply.expected_at or LATEST, supply.key.supply_id))
    return found
