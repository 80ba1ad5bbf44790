"""The rows of a transaction in PostgreSQL: cursors, locks, what is read under them, and its place in the log.

Locks are taken in one order everywhere, each set sorted, in one statement: policies (only where they change) →
cursors → pools → supplies → orders → alert versions → the log's head.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import asyncpg

from backorder_allocator import rules_json
from backorder_allocator.decision import EscalationDue, ReleaseDue, Rules, SupplyDue, Timer
from backorder_allocator.errors import LostCommitsError
from backorder_allocator.events import SealedEvent
from backorder_allocator.promises import CAUSES, Cause, Lead, Waiting
from backorder_allocator.remembering import Memory, PartitionKey
from backorder_allocator.state import (
    FulfilmentKey,
    Line,
    MovementKey,
    Order,
    Policy,
    Pool,
    PoolKey,
    Rank,
    StoredPolicy,
    Supply,
    SupplyKey,
)
from backorder_allocator.statements import Connection, Rows, columns, copy, run
from backorder_schemas import LinesShipped, OrderCancelled


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The place of a transaction in the log: its number, and the seq of its first event."""

    number: int
    first_seq: int


@dataclass(frozen=True, slots=True)
class LockedPool:
    """The row of a pool. Its policy is known by revision only; `pool` has the default until that is looked up."""

    pool: Pool
    policy_revision: int
    queue_end: datetime | None
    """No line that waits is ranked behind this moment."""


@dataclass(frozen=True, slots=True)
class OrderedUnits:
    """The units of an order in one pool: those that were ordered, and those among them that shipments name."""

    order_id: str
    pool_id: int
    ordered: int
    shipped: int


@dataclass(frozen=True, slots=True)
class Tail:
    """A line at the end of a queue of those who may lose: one that holds units, or one that has released ones."""

    pool_id: int
    order_id: str
    held: bool
    at_most: int
    """How many lines of its kind were asked for."""


# ── cursors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def add_cursors(connection: Connection, partitions: Iterable[PartitionKey]) -> None:
    await run(connection, "add_cursors", *columns(sorted(partitions), 2))


async def read_cursors(connection: Connection, partitions: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
    rows = await run(connection, "read_cursors", *columns(sorted(partitions), 2))
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def lock_cursors(connection: Connection, partitions: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
    rows = await run(connection, "lock_cursors", *columns(sorted(partitions), 2))
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def move_cursors(connection: Connection, positions: Mapping[PartitionKey, int]) -> None:
    rows = [(topic, partition, offset) for (topic, partition), offset in sorted(positions.items())]
    await run(connection, "move_cursors", *columns(rows, 3))


async def refuse_cursors(connection: Connection, partitions: Iterable[PartitionKey], now: datetime) -> None:
    """Note that somebody wanted to work partitions that others have worked; their cursors are locked."""
    await run(connection, "refuse_cursors", *columns(sorted(partitions), 2), now)


# ── pools and policies ───────────────────────────────────────────────────────────────────────────────────────────────


async def pool_ids(connection: Connection, keys: Sequence[PoolKey]) -> dict[PoolKey, int]:
    """The ids of pools; those that don't exist are made first. Not inside a batch's transaction."""
    names = columns(sorted(keys), 2)
    rows = await run(connection, "pool_ids", *names)
    if len(rows) < len(keys):
        # A policy that changes at the same moment changes all pools of its SKU. Either it finds the new ones, or these
        # begin with what it committed: hence the lock, and the policies are read in the statement after it.
        async with connection.transaction():
            await run(connection, "share_policies", names[0])
            await run(connection, "add_pools", *names)
        rows = await run(connection, "pool_ids", *names)
    return {PoolKey(row["sku"], row["location"]): row["pool_id"] for row in rows}


async def lock_policies(connection: Connection, skus: Iterable[str]) -> None:
    """Nobody else makes pools of these SKUs, nor changes their policies, until the transaction ends."""
    await run(connection, "lock_policies", sorted(skus))


async def pools_of_skus(connection: Connection, skus: Iterable[str]) -> set[int]:
    return {row["pool_id"] for row in await run(connection, "pools_of_skus", list(skus))}


async def lock_pools(connection: Connection, ids: Iterable[int]) -> dict[int, LockedPool]:
    rows = await run(connection, "lock_pools", sorted(ids))
    return {
        row["pool_id"]: LockedPool(
            Pool(
                PoolKey(row["sku"], row["location"]),
                row["pool_id"],
                row["on_hand"],
                row["allocated"],
                row["waiting"],
                row["counted_at"],
                safety_stock=row["safety_stock"],
                over=row["preorder_over"],
                named=row["named"],
                low=row["low"],
                causes=causes_of(row["causes"]) if row["causes"] else NO_CAUSES,
            ),
            row["policy_revision"],
            row["queue_end"],
        )
        for row in rows
    }


NO_CAUSES: frozenset[Cause] = frozenset()


def causes_of(mask: int) -> frozenset[Cause]:
    """The causes whose bits are set: bit i is CAUSES[i]."""
    return frozenset(cause for bit, cause in enumerate(CAUSES) if mask & 1 << bit)


def causes_mask(causes: Collection[Cause]) -> int:
    return sum(1 << bit for bit, cause in enumerate(CAUSES) if cause in causes) if causes else 0


async def policies_of(connection: Connection, skus: Iterable[str]) -> dict[str, StoredPolicy]:
    """The newest policies of those SKUs that have one."""
    return {
        row["sku"]: StoredPolicy(
            Policy(
                row["backorders"],
                row["waiting_limit"],
                row["max_wait_days"],
                row["safety_stock"],
                row["low_stock_at"],
                row["release_at"],
                row["default_lead_time_days"],
                tuple(row["substitutes"]),
                row["revision"],
            ),
            row["fingerprint"],
            row["preorder_over"],
        )
        for row in await run(connection, "policies_of_skus", list(skus))
    }


# ── supplies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def pools_of_supplies(connection: Connection, keys: Iterable[SupplyKey]) -> set[int]:
    return {row["pool_id"] for row in await run(connection, "pools_of_supplies", *columns(keys, 2))}


async def lock_supplies(connection: Connection, keys: Iterable[SupplyKey]) -> dict[SupplyKey, Supply]:
    """Those that exist, locked."""
    return _supplies(await run(connection, "lock_supplies", *columns(keys, 2)))


async def supplies_to_come(connection: Connection, pool_ids: Iterable[int]) -> dict[SupplyKey, Supply]:
    """All that locked pools have to expect."""
    return _supplies(await run(connection, "supplies_to_come", list(pool_ids)))


def _supplies(rows: Iterable[asyncpg.Record]) -> dict[SupplyKey, Supply]:
    supplies = (
        Supply(
            SupplyKey(row["supply_id"], row["sku"]),
            row["revision"],
            None if row["location"] is None else PoolKey(row["sku"], row["location"]),
            row["quantity"],
            row["received"],
            row["expected_at"],
            row["first_expected_at"],
            row["supplier"],
            row["cancelled"],
            row["overdue"],
            row["fingerprint"],
        )
        for row in rows
    )
    return {supply.key: supply for supply in supplies}


# ── queues ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def units_of_orders(
    connection: Connection, order_ids: Iterable[str], shipped: Mapping[tuple[str, int], int]
) -> list[OrderedUnits]:
    """For every order and pool of its lines; `shipped`: units that shipments name, by order id and line number."""
    named = [(order_id, line_no, units) for (order_id, line_no), units in shipped.items()]
    rows = await run(connection, "units_of_orders", list(order_ids), *columns(named, 3))
    return [OrderedUnits(row["order_id"], row["pool_id"], row["ordered"], row["shipped"]) for row in rows]


async def queue_heads(connection: Connection, units: Mapping[int, int]) -> dict[int, list[Rank]]:
    """The ranks of the first lines of queues, by pool id; `units`: how many may be given at most."""
    rows = await run(connection, "queue_heads", list(units), list(units.values()))
    heads: dict[int, list[Rank]] = {}
    for row in rows:
        heads.setdefault(row["pool_id"], []).append((row["ranked_at"], row["order_id"], row["line_no"]))
    return heads


async def queue_tails(connection: Connection, units: Mapping[int, int], beside: Iterable[str]) -> list[Tail]:
    """The lines that may lose stock, `beside` those of orders given; `units`: how many may be lost at most, by pool."""
    rows = await run(connection, "queue_tails", list(units), list(units.values()), list(beside))
    return [Tail(row["pool_id"], row["order_id"], row["held"], row["at_most"]) for row in rows]


async def orders_holding(connection: Connection, pool_ids: Iterable[int]) -> set[str]:
    return {row["order_id"] for row in await run(connection, "orders_holding", list(pool_ids))}


async def orders_waiting(connection: Connection, pool_id: int) -> int:
    return int((await run(connection, "orders_waiting", pool_id))[0]["orders"])


async def units_ahead(connection: Connection, places: Iterable[tuple[int, Rank]]) -> dict[tuple[int, Rank], int]:
    """The units that wait ahead of places in queues, by (pool id, rank)."""
    rows = await run(connection, "units_ahead", *columns([(pool_id, *rank) for pool_id, rank in places], 4))
    return {(row["pool_id"], (row["ranked_at"], row["order_id"], row["line_no"])): row["ahead"] for row in rows}


# ── orders, and what was seen before ─────────────────────────────────────────────────────────────────────────────────


def line_of(row: asyncpg.Record) -> Line:
    """A line from its row, with the names of its pool."""
    return Line(
        (row["ranked_at"], row["order_id"], row["line_no"]),
        PoolKey(row["sku"], row["location"]),
        row["quantity_ordered"],
        row["quantity_allocated"],
        row["quantity_waiting"],
        row["quantity_cancelled"],
        row["quantity_rejected"],
        row["quantity_shipped"],
        () if row["releases"] == "[]" else tuple((number, units) for number, units in json.loads(row["releases"])),
        row["promised_at"],
        row["first_promised_at"],
        None if row["lead_at"] is None else Lead(row["lead_days"], row["lead_at"]),
    )


def waiting_of(row: asyncpg.Record) -> Waiting:
    """A line as it is planned, from its row with the moment of its order."""
    return Waiting(
        row["order_id"],
        row["line_no"],
        row["quantity_waiting"],
        row["placed_at"],
        row["promised_at"],
        row["first_promised_at"],
        None if row["lead_at"] is None else Lead(row["lead_days"], row["lead_at"]),
    )


async def lock_orders(connection: Connection, order_ids: Iterable[str]) -> dict[str, Order]:
    """The orders that exist, locked, with all their lines, and the cancels and shipments that came before them."""
    orders = await _with_lines(connection, await run(connection, "lock_orders", sorted(order_ids)))
    stubs = [order.order_id for order in orders.values() if order.placed_at is None]
    if stubs:
        for row in await run(connection, "early_cancels", stubs):
            order = orders[row["order_id"]]
            order.early_cancels += (OrderCancelled.model_validate_json(row["body"]),)
        for row in await run(connection, "early_shipments", stubs):
            order = orders[row["order_id"]]
            order.early_shipments += (LinesShipped.model_validate_json(row["body"]),)
    return orders


async def read_orders(connection: Connection, order_ids: Iterable[str]) -> dict[str, Order]:
    """The orders that exist with all their lines, without locks: in one snapshot. For those that were placed."""
    return await _with_lines(connection, await run(connection, "read_orders", list(order_ids)))


async def _with_lines(connection: Connection, rows: Rows) -> dict[str, Order]:
    await allow_idling(connection, len(rows))
    orders = {
        row["order_id"]: Order(
            row["order_id"],
            row["placed_at"],
            row["ranked_at"],
            row["head_start"],
            row["head_start_reason"],
            row["delivery"],
            row["customer_id"],
            row["fingerprint"],
            row["release_no"],
            row["allocations_version"],
            row["backorders_version"],
            row["escalates_at"],
            row["escalated"],
        )
        for row in rows
    }
    if orders:
        lines = await run(connection, "lines_of_orders", list(orders))
        await allow_idling(connection, len(lines))
        for row in lines:
            orders[row["order_id"]].lines[row["line_no"]] = line_of(row)
    return orders


async def known_cancels(connection: Connection, ids: Iterable[str]) -> dict[str, bytes]:
    return {row["id"]: row["fingerprint"] for row in await run(connection, "known_cancels", list(ids))}


async def known_movements(
    connection: Connection, keys: Iterable[MovementKey], ids: Mapping[PoolKey, int]
) -> dict[MovementKey, bytes]:
    names = {(ids[key.pool], key.kind, key.document_id): key for key in keys}
    rows = await run(connection, "known_movements", *columns(names, 3))
    return {names[row["pool_id"], row["kind"], row["document_id"]]: row["fingerprint"] for row in rows}


async def known_fulfilments(connection: Connection, keys: Iterable[FulfilmentKey]) -> dict[FulfilmentKey, bytes]:
    rows = await run(connection, "known_fulfilments", *columns(keys, 3))
    return {FulfilmentKey(row["kind"], row["shipment_id"], row["order_id"]): row["fingerprint"] for row in rows}


# ── how long a transaction may idle ──────────────────────────────────────────────────────────────────────────────────


MANY_ROWS = 20_000
"""As many take a second or two from one statement to the next."""
IDLE_SECONDS = 10
IDLE_ROWS_A_SECOND = 1000
"""On a machine that has other things to do. An idle one takes ten times as many."""


async def allow_idling(connection: Connection, rows: int) -> None:
    """Allow for the time it takes to work so many rows, if they are many.

    No transaction may idle for long, so that a frozen process holds nobody up. But a receipt fills as many lines as it
    has units: if the time to decide that were limited, it would fail in the same way for ever.
    """
    if rows > MANY_ROWS:
        await run(connection, "allow_idling", f"{IDLE_SECONDS + rows // IDLE_ROWS_A_SECOND}s")


async def limit_idling(connection: Connection, rows: int) -> None:
    """As before `allow_idling` for so many rows: who takes the log's head next must not freeze with it."""
    if rows > MANY_ROWS:
        await run(connection, "limit_idling")


# ── timers and rules ─────────────────────────────────────────────────────────────────────────────────────────────────


def timer_row(timer: Timer) -> tuple[str, str, str]:
    """The key of a timer's row: kind, subject, supply id."""
    match timer:
        case EscalationDue():
            return ("escalate", timer.order_id, "")
        case ReleaseDue():
            return ("release", timer.sku, "")
        case SupplyDue():
            return ("overdue", timer.sku, timer.supply_id)


async def take_timer(connection: Connection, timer: Timer, due: datetime) -> bool:
    """Take a timer that is still due then; the locks of what it is about are held."""
    return bool(await run(connection, "take_timer", *timer_row(timer), due))


async def register_rules(connection: Connection, rules: Rules) -> int:
    """The number under which the journal knows these rules."""
    body = rules_json.dump(rules)
    fingerprint = blake2b(body.encode(), digest_size=16).digest()
    return int((await run(connection, "register_rules", body, fingerprint))[0]["rules_id"])


async def rules_by_id(connection: Connection, rules_id: int) -> Rules:
    """The rules that were in force at journal entries with this number."""
    return rules_json.load((await run(connection, "rules_by_id", rules_id))[0]["body"])


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def read_epoch(connection: Connection) -> int:
    return int((await run(connection, "read_epoch"))[0]["epoch"])


async def next_batch_id(connection: Connection) -> int:
    return int((await run(connection, "next_batch_id"))[0]["nextval"])


async def count_alerts(connection: Connection, per_sku: Mapping[str, int]) -> dict[str, int]:
    """Take versions of stock-alerts; gives each SKU's last version before these."""
    rows = await run(connection, "count_alerts", list(per_sku), list(per_sku.values()))
    return {row["sku"]: row["version"] - per_sku[row["sku"]] for row in rows}


EVENT_COLUMNS = (
    "batch_id",
    "ordinal",
    "topic",
    "key",
    "version",
    "id",
    "type",
    "occurred_at",
    "caused_by",
    "traceparent",
    "value",
    "why",
)


async def append_events(connection: Connection, batch_id: int, events: Sequence[SealedEvent]) -> None:
    rows = [
        (
            batch_id,
            at,
            e.topic,
            e.key,
            e.version,
            e.id,
            e.type,
            e.occurred_at,
            e.caused_by,
            e.traceparent,
            e.value,
            e.why,
        )
        for at, e in enumerate(events)
    ]
    await copy(connection, "events", EVENT_COLUMNS, rows)


async def append_journal(
    connection: Connection,
    batch_id: int,
    kind: str,
    what: object,
    at: datetime,
    events: int,
    outcomes: Mapping[str, int],
    rules_id: int | None,
    epoch: int,
    memory: Memory,
) -> JournalEntry:
    """The last statement before COMMIT: it holds the head of the log.

    Raises LostCommitsError if the log is not the one that the caller knows: in another epoch, or shorter than before.
    """
    rows = await run(
        connection,
        "append_journal",
        batch_id,
        kind,
        json.dumps(what),
        at,
        events,
        *(outcomes.get(outcome, 0) for outcome in ("applied", "duplicate", "ignored", "dead_letter")),
        rules_id,
        epoch,
    )
    if not rows:
        raise LostCommitsError(f"epoch {epoch} is over: a restored database was accepted")
    memory.check_number(rows[0]["number"])
    return JournalEntry(rows[0]["number"], rows[0]["first_seq"])


async def notify_events(connection: Connection) -> None:
    await run(connection, "notify_events")
