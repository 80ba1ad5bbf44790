"""`explain`: everything that was decided about an order, with its causes, and what it waits for now."""

import json as json_module
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from backorder_allocator import words
from backorder_allocator.output import as_json, show_table
from backorder_allocator.ranking import sentence
from backorder_allocator.statements import Connection, run

SHOWN_AHEAD = 10
"""How many of the lines ahead are named; all are counted."""


async def explain(connection: Connection, order_id: str) -> dict[str, Any] | None:
    """An order with its lines, what others said of it, and every decision; None if nobody named the order yet.

    Keys are documented in the README.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        orders = await run(connection, "order_by_id", order_id)
        if not orders:
            return None
        lines = await run(connection, "lines_by_order", order_id)
        ahead = await run(connection, "lines_ahead", order_id, SHOWN_AHEAD)
        cancels = await run(connection, "cancels_by_order", order_id)
        fulfilments = await run(connection, "fulfilments_of_order", order_id)
        events = await run(connection, "events_by_order", order_id)
        events += await run(connection, "mismatches_of_order", order_id)
    order = dict(orders[0])
    order["why"] = sentence(order["head_start"], order["head_start_reason"])
    decisions = [_decision(row) for row in sorted(events, key=lambda row: row["seq"])]
    return {
        "order": order,
        "lines": _lines(order, lines, ahead, decisions),
        "cancels": _cancels(cancels, {row["line_no"]: row["quantity_ordered"] for row in lines}),
        "shipments": [_shipment(row) for row in fulfilments if row["kind"] == "shipped"],
        "deliveries": [_delivery(row) for row in fulfilments if row["kind"] == "delivered"],
        "events": decisions,
    }


def _decision(row: asyncpg.Record) -> dict[str, Any]:
    value = json_module.loads(row["value"])
    why = None if row["why"] is None else json_module.loads(row["why"])
    what = json_module.loads(row["what"])
    if row["kind"] == "batch":
        what = _ranges(what)
    return {
        "seq": row["seq"],
        "topic": row["topic"],
        "version": row["version"],
        "type": row["type"],
        "id": row["id"],
        "occurred_at": row["occurred_at"],
        "caused_by": row["caused_by"],
        "journal": row["journal"],
        "cause": {
            "kind": row["kind"],
            "decided_at": row["decided_at"],
            "what": what,
            "words": words.of_cause(row["kind"], what),
        },
        "words": words.of_event(value, why),
        "why": why,
        "value": value,
    }


def _ranges(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One range of offsets for each partition: the journal has one wherever the batch went on to another partition."""
    ranges: dict[tuple[str, int], dict[str, Any]] = {}
    for part in parts:
        partition = (part["topic"], part["partition"])
        known = ranges.setdefault(partition, {name: part[name] for name in ("topic", "partition", "from", "to")})
        known["from"], known["to"] = min(known["from"], part["from"]), max(known["to"], part["to"])
    return list(ranges.values())


def _lines(
    order: Mapping[str, Any],
    lines: Iterable[asyncpg.Record],
    ahead: Iterable[asyncpg.Record],
    decisions: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    in_front: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in ahead:
        in_front[row["behind"]].append(
            {name: row[name] for name in ("order_id", "line_no", "quantity_waiting", "ranked_at")}
        )
    promises: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for each in decisions:
        if each["type"] in {"BackorderCreated", "PromiseChanged"}:
            value = each["value"]
            promises[value["line_no"]].append(
                {
                    "seq": each["seq"],
                    "told_at": each["occurred_at"],
                    "promised_at": value["promised_at"],
                    "cause": value.get("cause", value.get("reason")),
                }
            )
    rows = [dict(row) | {"releases": json_module.loads(row["releases"])} for row in lines]
    units_waiting = sum(row["quantity_waiting"] for row in rows)
    in_preorder = any(row["quantity_held"] and row["held_until"] for row in rows)
    for line in rows:
        because = _held_because(order, line, units_waiting, in_preorder) if line["quantity_held"] else None
        line |= {"held_because": because, "ahead": in_front[line["line_no"]], "promises": promises[line["line_no"]]}
    return rows


def _held_because(order: Mapping[str, Any], line: Mapping[str, Any], units_waiting: int, in_preorder: bool) -> str:
    """Why units that are there don't ship yet."""
    if line["held_until"] is not None:
        return f"for a pre-order, which is released at {words.moment(line['held_until'])}"
    until = f", or until {words.moment(order['escalates_at'])}" if order["escalates_at"] else ""
    if units_waiting:
        return f"the order ships complete and {units_waiting} of its units wait{until}"
    if in_preorder:
        return f"the order ships complete and others of its units are in a pre-order{until}"
    return "nothing: this is a problem, see `audit`"


def _cancels(rows: Iterable[asyncpg.Record], ordered: Mapping[int, int]) -> list[dict[str, Any]]:
    """Cancels with what they named beyond the order: one that came early could not know what the order has."""
    cancels = []
    left = dict(ordered)
    for row in rows:
        body = json_module.loads(row["body"])
        beyond = []
        if row["early"] and ordered:
            for each in body["lines"] or ():
                wanted, there = each["quantity"], left.get(each["line_no"])
                if there is None:
                    beyond.append({"line_no": each["line_no"], "quantity": wanted})
                    continue
                taken = there if wanted is None else min(wanted, there)
                left[each["line_no"]] = there - taken
                if wanted is not None and wanted > taken:
                    beyond.append({"line_no": each["line_no"], "quantity": wanted - taken})
        cancels.append(
            {
                "id": row["id"],
                "cancelled_at": row["cancelled_at"],
                "by": body["by"],
                "reason": body["reason"],
                "early": row["early"],
                "lines": body["lines"],
                "beyond": beyond,
            }
        )
    return cancels


def _shipment(row: asyncpg.Record) -> dict[str, Any]:
    body = json_module.loads(row["body"])
    return {
        "shipment_id": row["shipment_id"],
        "shipped_at": row["happened_at"],
        "early": row["early"],
        "waits": row["waits"],
        "lines": body["lines"],
        "carrier": body["carrier"],
        "tracking_number": body["tracking_number"],
        "tracking_url": body["tracking_url"],
    }


def _delivery(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "shipment_id": row["shipment_id"],
        "delivered_at": json_module.loads(row["body"])["delivered_at"],
        "told_at": row["happened_at"],
    }


def show(found: dict[str, Any], *, json: bool) -> None:
    if json:
        as_json(found)
        return
    for text in _sentences(found["order"], found["lines"]):
        print(text)
    units = ("ordered", "allocated", "waiting", "cancelled", "rejected", "shipped", "released", "held")
    show_table(
        [
            {"line": line["line_no"], "sku": line["sku"], "location": line["location"]}
            | {name: line[f"quantity_{name}"] for name in units}
            | {"promised at": line["promised_at"], "first promised at": line["first_promised_at"]}
            for line in found["lines"]
        ],
        json=False,
        title="lines",
    )
    for text in _told(found):
        print(text)
    show_table(
        [
            {
                "seq": each["seq"],
                "at": each["occurred_at"],
                "what": each["type"],
                "line": each["value"].get("line_no", ""),
                "detail": each["words"],
                "because of": each["caused_by"],
                "decided in": f"{each['journal']}: {each['cause']['words']}",
            }
            for each in found["events"]
        ],
        json=False,
        title="decisions",
    )


def _sentences(order: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The order and its open lines, in words."""
    if order["placed_at"] is None:
        yield f"order {order['order_id']} has not arrived yet; what came before it waits for it"
        return
    delivery = f"{order['delivery']}, but split since it waited too long" if order["escalated"] else order["delivery"]
    yield f"order {order['order_id']}, placed at {words.moment(order['placed_at'])}, delivery {delivery}"
    yield order["why"]
    for line in lines:
        if line["quantity_waiting"]:
            ahead = ", ".join(
                f"{each['order_id']}/{each['line_no']} ({each['quantity_waiting']})" for each in line["ahead"]
            )
            more = line["lines_ahead"] - len(line["ahead"])
            who = f": {ahead}{f' and {more} more' if more else ''}" if ahead else ""
            units, of = words.counted(line["units_ahead"], "unit"), words.counted(line["lines_ahead"], "line")
            yield f"line {line['line_no']}: {line['quantity_waiting']} wait, behind {units} of {of}{who}"
        if line["quantity_held"]:
            yield f"line {line['line_no']}: {line['quantity_held']} held: {line['held_because']}"


def _told(found: Mapping[str, Any]) -> Iterable[str]:
    """What others said about the order, in words."""
    is_placed = found["order"]["placed_at"] is not None
    for cancel in found["cancels"]:
        early = "after its order" if not cancel["early"] else "before its order, which was born with it"
        if not is_placed:
            early = "before its order, and waits for it"
        yield f"cancel {cancel['id']} by {cancel['by']} at {words.moment(cancel['cancelled_at'])} came {early}"
        for each in cancel["beyond"]:
            units = "all units" if each["quantity"] is None else words.counted(each["quantity"], "unit")
            yield f"  of line {each['line_no']} it named {units} that the order doesn't have"
    for shipment in found["shipments"]:
        waits = ", and waits for its order" if shipment["waits"] else ", before its order" if shipment["early"] else ""
        units = ", ".join(f"line {line['line_no']}: {line['quantity']}" for line in shipment["lines"])
        by = f" by {shipment['carrier']}" if shipment["carrier"] else ""
        yield f"shipment {shipment['shipment_id']}{by} at {words.moment(shipment['shipped_at'])}{waits}: {units}"
    for delivery in found["deliveries"]:
        yield f"shipment {delivery['shipment_id']} was delivered at {words.moment(delivery['delivered_at'])}"
