"""What operators ask: where does everything stand, who waits and why, what happened to this order."""

import json as json_module
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from backorder_allocator import connections
from backorder_allocator.migrate import require_current
from backorder_allocator.output import as_json, show_table
from backorder_allocator.ranking import sentence
from backorder_allocator.settings import Settings
from backorder_allocator.statements import Connection, run

Result = TypeVar("Result")


async def with_connection(
    settings: Settings, ask: Callable[[Connection], Awaitable[Result]], *, migrating: bool = False
) -> Result:
    """Ask on a connection of its own, of a database at this version's schema unless `migrating`.

    Raises NotReadyError if the database can't be reached in time, ConfigurationError if its schema is another.
    """
    connect = partial(connections.command_connection, settings)
    connection = await connections.patiently("PostgreSQL", connect, settings.start_timeout_seconds)
    try:
        if not migrating:
            await require_current(connection)
        return await ask(connection)
    finally:
        await connection.close()


async def status(connection: Connection) -> dict[str, Any]:
    """Input positions, publishing, queues and dead letters. Keys are documented in the README."""
    row = dict((await run(connection, "status"))[0])
    return row | {"cursors": [dict(cursor) for cursor in await run(connection, "all_cursors")]}


def show_status(found: dict[str, Any], *, json: bool) -> None:
    if json:
        as_json(found)
        return
    show_table([{"what": name, "value": value} for name, value in found.items() if name != "cursors"], json=False)
    show_table(found["cursors"], json=False, title="done up to")


async def queue(connection: Connection, sku: str, location: str | None, limit: int) -> list[dict[str, Any]]:
    """The pools of a SKU, each with its first `limit` waiting lines in the order in which they are served."""
    pools = [dict(row) for row in await run(connection, "pools_of_sku", sku, location)]
    for pool in pools:
        rows = await run(connection, "queue_of_pool", pool.pop("pool_id"), limit)
        pool["queue"] = [dict(row) | {"why": sentence(row["head_start"], row["head_start_reason"])} for row in rows]
    return pools


def show_queue(found: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        as_json(found)
        return
    for pool in found:
        print(
            f"{pool['sku']} at {pool['location']}: {pool['on_hand']} on hand, {pool['allocated']} allocated, "
            f"{pool['available']} available, {pool['waiting']} waiting"
        )
        columns = ("place", "order_id", "line_no", "quantity_waiting", "quantity_ordered", "placed_at", "why")
        show_table([{name: row[name] for name in columns} for row in pool["queue"]], json=False)


async def explain(connection: Connection, order_id: str) -> dict[str, Any] | None:
    """An order, its lines, its cancels and every event about it with its cause; None if nobody named the order yet."""
    orders = await run(connection, "order_by_id", order_id)
    if not orders:
        return None
    order = dict(orders[0])
    order["why"] = sentence(order["head_start"], order["head_start_reason"])
    lines = [
        dict(row) | {"releases": json_module.loads(row["releases"])}
        for row in await run(connection, "lines_by_order", order_id)
    ]
    events = [
        dict(row) | {"value": json_module.loads(row["value"])}
        for row in await run(connection, "events_by_order", order_id)
    ]
    cancels = [
        dict(row) | {"body": json_module.loads(row["body"])}
        for row in await run(connection, "cancels_by_order", order_id)
    ]
    return {"order": order, "lines": lines, "cancels": cancels, "events": events}


def show_explanation(found: dict[str, Any], *, json: bool) -> None:
    if json:
        as_json(found)
        return
    order = found["order"]
    if order["placed_at"] is None:
        print(f"order {order['order_id']} has not arrived yet; a cancel that came before it waits for it")
    else:
        print(f"order {order['order_id']}, placed at {order['placed_at'].isoformat()}, delivery {order['delivery']}")
        print(order["why"])
    hidden = {"quantity_shipped", "releases"}
    show_table(
        [{k: v for k, v in line.items() if k not in hidden} for line in found["lines"]], json=False, title="lines"
    )
    for cancel in found["cancels"]:
        early = "before its order, which was born with it" if cancel["early"] else "after its order"
        print(f"cancel {cancel['id']} at {cancel['cancelled_at'].isoformat()} came {early}")
    rows = [
        {
            "seq": event["seq"],
            "at": event["occurred_at"],
            "what": event["type"],
            "line": event["value"].get("line_no", ""),
            "detail": _detail(event["value"]),
            "because of": event["caused_by"],
        }
        for event in found["events"]
    ]
    show_table(rows, json=False, title="decisions")


def _detail(value: dict[str, Any]) -> str:
    """One event in words."""
    match value["type"]:
        case "AllocationReleased":
            units = ", ".join(f"line {line['line_no']}: {line['quantity']}" for line in value["lines"])
            return f"release {value['release_no']}: {units}" + (
                "; nothing more is to come" if value["complete"] else ""
            )
        case "AllocationRevoked":
            of = "held units" if value["release_no"] is None else f"release {value['release_no']}"
            return f"{value['quantity']} of {of}: {value['reason']}"
        case "BackorderCreated":
            waiting = f"{value['quantity']} begin to wait ({value['reason']})"
            return f"{waiting}; {value['quantity_waiting']} of {value['quantity_ordered']} wait"
        case "BackorderFilled":
            held = f", held ({value['held']})" if value["held"] else ""
            return f"{value['quantity']} filled{held}; {value['quantity_waiting']} still wait"
        case "BackorderCancelled":
            return f"{value['quantity']} cancelled by {value['by']}; {value['quantity_waiting']} still wait"
        case "BackorderRejected":
            return f"{value['quantity']} rejected: {value['reason']}"
        case other:
            return str(other)
