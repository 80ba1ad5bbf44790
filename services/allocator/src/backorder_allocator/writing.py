"""What a decision changed, written set-wise: a constant number of statements, however large the batch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backorder_allocator import dead_letters
from backorder_allocator.dead_letters import RawRecord, Refused, header_names
from backorder_allocator.decision import Cancel, Decision, Fulfilment, Input, Movement
from backorder_allocator.state import FulfilmentKey, Line, Order, Pool, PoolKey, State, StoredPolicy, Supply
from backorder_allocator.statements import Connection, columns, copy, run
from backorder_allocator.store import causes_mask, timer_row
from backorder_schemas import SkuPolicyChanged


@dataclass(slots=True)
class Sources:
    """Where rows that keep more of a message than the rules need come from."""

    policies: dict[tuple[str, int], Input] = field(default_factory=dict)
    """By SKU and revision."""
    shipments: dict[FulfilmentKey, RawRecord] = field(default_factory=dict)


async def write(
    connection: Connection, batch_id: int, before: State, decision: Decision, sources: Sources, now: datetime
) -> None:
    """Write the rows of a decision, which was made from the state `before`, under that state's locks."""
    ids = {key: pool.pool_id for key, pool in decision.state.pools.items() if pool.pool_id is not None}
    await _write_orders(connection, decision, ids)
    await _write_pools(connection, before, decision, ids, now)
    await _write_supplies(connection, before, decision, ids)
    await _write_policies(connection, decision, sources)
    await _write_documents(connection, decision, ids)
    await _write_fulfilments(connection, batch_id, decision, sources, now)
    await _write_timers(connection, decision)


async def _write_orders(connection: Connection, decision: Decision, ids: Mapping[PoolKey, int]) -> None:
    if decision.new_orders:
        # Sorted: a shipment may make the row of its order at the same moment as the order itself, in another process.
        new = [_order_row(order) for _, order in sorted(decision.new_orders.items())]
        await copy(connection, "orders", ORDER_COLUMNS, new)
    if decision.changed_orders:
        rows = [_order_row(order) for order in decision.changed_orders.values()]
        await run(connection, "update_orders", *columns(rows, len(ORDER_COLUMNS)))
    if decision.new_lines:
        rows = [
            (line.order_id, line.line_no, ids[line.pool], line.rank[0], line.ordered, *_line_values(line))
            for line in decision.new_lines.values()
        ]
        await copy(connection, "lines", LINE_COLUMNS, rows)
    if decision.changed_lines:
        rows = [(line.order_id, line.line_no, *_line_values(line)) for line in decision.changed_lines.values()]
        await run(connection, "update_lines", *columns(rows, 13))


async def _write_pools(
    connection: Connection, before: State, decision: Decision, ids: Mapping[PoolKey, int], now: datetime
) -> None:
    """The pools, and by day of rank what waits in them more or less than before."""
    ends: dict[PoolKey, datetime] = {}
    moved: list[tuple[int, datetime, int]] = []
    for lines in (decision.new_lines, decision.changed_lines):
        for line in lines.values():
            if line.waiting:
                ends[line.pool] = max(line.rank[0], ends.get(line.pool, line.rank[0]))
            order = before.orders.get(line.order_id)
            was = order.lines.get(line.line_no) if order else None
            units = line.waiting - (was.waiting if was else 0)
            if units:
                moved.append((ids[line.pool], line.rank[0], units))
    if moved:
        await run(connection, "move_queue_days", *columns(moved, 3))
    if decision.pools:
        rows = [_pool_row(pool, ends.get(key)) for key, pool in decision.pools.items()]
        await run(connection, "update_pools", *columns(rows, 12), now)


async def _write_supplies(
    connection: Connection, before: State, decision: Decision, ids: Mapping[PoolKey, int]
) -> None:
    supplies = sorted(decision.supplies.items())
    changed = [_supply_row(supply, ids) for key, supply in supplies if key in before.supplies]
    # A row that another transaction made meanwhile must not be overwritten: its key stops this one, which starts over.
    new = [_supply_row(supply, ids) for key, supply in supplies if key not in before.supplies]
    if changed:
        await run(connection, "update_supplies", *columns(changed, len(SUPPLY_COLUMNS)))
    if new:
        await copy(connection, "supplies", SUPPLY_COLUMNS, new)


async def _write_policies(connection: Connection, decision: Decision, sources: Sources) -> None:
    rows = []
    over = []
    for sku, stored in decision.policies.items():
        source = sources.policies.get((sku, stored.policy.revision))
        if source is None:
            over.append(sku)
        else:
            rows.append(_policy_row(stored, source))
    if rows:
        await run(connection, "write_policies", *columns(rows, 15))
    if over:
        await run(connection, "end_preorders", over)


async def _write_documents(connection: Connection, decision: Decision, ids: Mapping[PoolKey, int]) -> None:
    if decision.movements:
        await copy(connection, "stock_movements", MOVEMENT_COLUMNS, [_movement_row(m, ids) for m in decision.movements])
    if decision.cancels:
        await copy(connection, "cancels", CANCEL_COLUMNS, [_cancel_row(cancel) for cancel in decision.cancels])


async def _write_fulfilments(
    connection: Connection, batch_id: int, decision: Decision, sources: Sources, now: datetime
) -> None:
    """Shipments and deliveries; one that waits for its order keeps its record, in case that it can't be."""
    booked = set(decision.booked_shipments)
    late = {letter.key for letter in decision.late_letters}
    early_here = {each.key for each in decision.fulfilments if each.early}
    refused = [
        Refused(sources.shipments[letter.key], letter.reason, letter.detail)
        for letter in decision.late_letters
        if letter.key in early_here
    ]
    await dead_letters.keep(connection, refused, now)
    # Before new rows: who is refused may be sent again in the same batch, with what can be.
    await dead_letters.keep_late(
        connection, [each for each in decision.late_letters if each.key not in early_here], now
    )
    rows = [
        _fulfilment_row(each, batch_id, at, sources.shipments[each.key] if waits else None)
        for at, each in enumerate(decision.fulfilments)
        if not (each.early and each.key in late)
        for waits in (each.early and each.key not in booked,)
    ]
    if rows:
        await copy(connection, "fulfilments", FULFILMENT_COLUMNS, rows)
    waited = [(key.shipment_id, key.order_id) for key in booked - early_here]
    if waited:
        await run(connection, "book_fulfilments", *columns(waited, 2))


async def _write_timers(connection: Connection, decision: Decision) -> None:
    if not decision.timers:
        return
    setting = [(*timer_row(timer), due) for timer, due in decision.timers.items() if due is not None]
    dropped = [timer_row(timer) for timer, due in decision.timers.items() if due is None]
    if setting:
        await run(connection, "set_timers", *columns(setting, 4))
    if dropped:
        await run(connection, "drop_timers", *columns(dropped, 3))


ORDER_COLUMNS = (
    "order_id",
    "placed_at",
    "ranked_at",
    "head_start",
    "head_start_reason",
    "delivery",
    "customer_id",
    "fingerprint",
    "release_no",
    "allocations_version",
    "backorders_version",
    "escalates_at",
    "escalated",
)
LINE_COLUMNS = (
    "order_id",
    "line_no",
    "pool_id",
    "ranked_at",
    "quantity_ordered",
    "quantity_allocated",
    "quantity_waiting",
    "quantity_cancelled",
    "quantity_rejected",
    "quantity_shipped",
    "quantity_released",
    "releases",
    "promised_at",
    "first_promised_at",
    "lead_at",
    "lead_days",
)
SUPPLY_COLUMNS = (
    "supply_id",
    "sku",
    "revision",
    "pool_id",
    "quantity",
    "received",
    "expected_at",
    "first_expected_at",
    "supplier",
    "cancelled",
    "overdue",
    "fingerprint",
)
MOVEMENT_COLUMNS = (
    "pool_id",
    "kind",
    "document_id",
    "quantity",
    "supply_id",
    "supplier",
    "fingerprint",
    "moved_at",
    "caused_by",
)
CANCEL_COLUMNS = ("id", "order_id", "body", "early", "fingerprint", "cancelled_at")
FULFILMENT_COLUMNS = (
    "kind",
    "shipment_id",
    "order_id",
    "body",
    "fingerprint",
    "early",
    "waits",
    "happened_at",
    "batch_id",
    "ordinal",
    "topic",
    "partition",
    "record_offset",
    "record_at",
    "key",
    "value",
    "header_names",
    "header_values",
)


def _order_row(order: Order) -> tuple[Any, ...]:
    return (
        order.order_id,
        order.placed_at,
        order.ranked_at,
        order.head_start,
        order.head_start_reason,
        order.delivery,
        order.customer_id,
        order.fingerprint,
        order.release_no,
        order.allocations_version,
        order.backorders_version,
        order.escalates_at,
        order.escalated,
    )


def _line_values(line: Line) -> tuple[Any, ...]:
    """What can change."""
    return (
        line.allocated,
        line.waiting,
        line.cancelled,
        line.rejected,
        line.shipped,
        line.released,
        f"[{','.join([f'[{number},{units}]' for number, units in line.releases])}]",
        line.promised_at,
        line.first_promised_at,
        line.lead.at if line.lead else None,
        line.lead.days if line.lead else None,
    )


def _pool_row(pool: Pool, queue_end: datetime | None) -> tuple[Any, ...]:
    return (
        pool.pool_id,
        pool.on_hand,
        pool.allocated,
        pool.waiting,
        pool.counted_at,
        pool.policy.revision,
        pool.safety_stock,
        pool.over,
        pool.named,
        pool.low,
        causes_mask(pool.causes),
        queue_end,
    )


def _supply_row(supply: Supply, ids: Mapping[PoolKey, int]) -> tuple[Any, ...]:
    return (
        supply.key.supply_id,
        supply.key.sku,
        supply.revision,
        None if supply.pool is None else ids[supply.pool],
        supply.quantity,
        supply.received,
        supply.expected_at,
        supply.first_expected_at,
        supply.supplier,
        supply.cancelled,
        supply.overdue,
        supply.fingerprint,
    )


def _policy_row(stored: StoredPolicy, source: Input) -> tuple[Any, ...]:
    message, policy = source.message, stored.policy
    if not isinstance(message, SkuPolicyChanged):
        raise TypeError(f"{type(message).__name__} changes no policy")
    return (
        message.sku,
        policy.revision,
        message.title,
        policy.backorders,
        policy.waiting_limit,
        policy.max_wait_days,
        policy.safety_stock,
        policy.low_stock_at,
        policy.release_at,
        policy.default_lead_time_days,
        json.dumps(policy.substitutes),
        stored.over,
        stored.fingerprint,
        source.now,
        message.id,
    )


def _movement_row(movement: Movement, ids: Mapping[PoolKey, int]) -> tuple[Any, ...]:
    return (
        ids[movement.key.pool],
        movement.key.kind,
        movement.key.document_id,
        movement.quantity,
        movement.supply_id,
        movement.supplier,
        movement.fingerprint,
        movement.now,
        movement.caused_by,
    )


def _cancel_row(cancel: Cancel) -> tuple[Any, ...]:
    message = cancel.message
    return (message.id, message.order_id, message.model_dump_json(), cancel.early, cancel.fingerprint, cancel.now)


def _fulfilment_row(fulfilment: Fulfilment, batch_id: int, ordinal: int, record: RawRecord | None) -> tuple[Any, ...]:
    """`record` is that of a shipment that waits for its order."""
    key = fulfilment.key
    raw: tuple[Any, ...] = (None,) * 8
    if record is not None:
        raw = (
            record.topic,
            record.partition,
            record.offset,
            record.at,
            record.key,
            record.value,
            header_names(record.headers),
            [value for _, value in record.headers],
        )
    return (
        key.kind,
        key.shipment_id,
        key.order_id,
        fulfilment.message.model_dump_json(),
        fulfilment.fingerprint,
        fulfilment.early,
        record is not None,
        fulfilment.now,
        batch_id,
        ordinal,
        *raw,
    )
