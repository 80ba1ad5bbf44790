"""How what an audit found came about: the message that is meant, and what became of the order's newest events.

A chain is a list of links, the nearest first; each says what it is (`link`) and reads as a sentence (`words`). No
address is in any of them.
"""

from collections.abc import Iterable
from typing import Any, Final

import asyncpg

from backorder_notifier.checks import About, Check
from backorder_notifier.statements import Connection, run

Link = dict[str, Any]
_EVENTS: Final = 6


async def explain(connection: Connection, checks: Iterable[Check]) -> None:
    """Give each rule that is broken the chain of its first violation."""
    for check in checks:
        if check.violations and check.about is not None:
            check.chain = await chain(connection, check.about)


async def chain(connection: Connection, about: About) -> list[Link]:
    """The links from what a violation is about back to what came in."""
    links: list[Link] = []
    if "topic" in about:
        at = f"{about['topic']}-{about['partition']} offset {about['offset']}"
        id_ = about.get("event_id")
        place = {name: about[name] for name in ("topic", "partition", "offset")}
        links.append({"link": "message", "id": id_, **place, "words": f"{at}: message {id_ or 'at that place'}"})
    if "order_id" in about:
        rows = await run(connection, "audit_chain_of_order", about["order_id"], _EVENTS)
        # The event that is meant first, if it is among them.
        rows = sorted(rows, key=lambda row: row["event_id"] != about.get("event_id"))
        links += [_event(about["order_id"], row) for row in rows]
    return links


def _event(order_id: str, row: asyncpg.Record) -> Link:
    told = row["state"]
    if row["reason"]:
        told = f"{told} ({row['reason']})"
    if row["position"] is not None:
        sent = "; ".join(row["deliveries"])
        told = f"{told} by message {row['position']}, {row['message_kind']}{f': {sent}' if sent else ''}"
    of_line = "" if row["line_no"] is None else f" line {row['line_no']}"
    version = "" if row["version"] is None else f" version {row['version']}"
    named = f"{row['type'] or row['kind']}{version} of order {order_id}{of_line}"
    return {
        "link": "event",
        "event_id": row["event_id"],
        "topic": row["topic"],
        "type": row["type"],
        "version": row["version"],
        "order_id": order_id,
        "line_no": row["line_no"],
        "caused_by": row["caused_by"],
        "state": row["state"],
        "reason": row["reason"],
        "message": row["position"],
        "words": f"{named} ({row['event_id']}), caused by {row['caused_by']}: {told}",
    }
