"""How what an audit found came about: from a row or an event back to the messages that led to it.

A chain is a list of links, the nearest first; each says what it is (`link`) and reads as a sentence (`words`).
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import asyncpg

from backorder_allocator import words
from backorder_allocator.checks import About, Check
from backorder_allocator.statements import Connection, run

Link = dict[str, Any]
FindMessage = Callable[[Sequence[dict[str, Any]], str], Awaitable[tuple[str, int, int] | None]]
"""From the ranges of a batch and a message id to the place of its record: topic, partition, offset."""

EARLIER = 5
SOME_EVENTS = 5
OF_ORDERS = ["allocations", "backorders"]


async def explain(connection: Connection, checks: Iterable[Check], find: FindMessage | None = None) -> None:
    """Give each rule that is broken the chain of its first violation. `find`: where a message is on its topic."""
    for check in checks:
        if check.violations and check.about is not None:
            check.chain = await chain(connection, check.about, find)


async def chain(connection: Connection, about: About, find: FindMessage | None = None) -> list[Link]:
    """The links from what a violation is about back to what came in."""
    match about:
        case {"seq": int(seq)}:
            return await _of_events(connection, await run(connection, "audit_chain_event", seq), find)
        case {"journal": int(number)}:
            return await _of_entry(connection, number)
        case {"topic": str(topic), "partition": int(partition), "offset": int(offset)}:
            return await _of_input(connection, topic, partition, offset)
        case {"event_topic": str(topic), "key": str(key)}:
            return await _of_events(connection, await _newest(connection, [topic], [key]), find)
        case {"order_id": str(order_id), **rest}:
            return await _of_events(
                connection, await _newest(connection, OF_ORDERS, [order_id], rest.get("line_no")), find
            )
        case {"sku": _} | {"pool_id": _}:
            return await _of_pool(connection, about, find)
        case _:
            return []


async def _newest(
    connection: Connection, topics: list[str], keys: list[str], line_no: int | None = None, until: int = 2**62
) -> list[asyncpg.Record]:
    return await run(connection, "audit_chain_events", topics, keys, line_no, until, EARLIER)


async def _of_events(connection: Connection, rows: Sequence[asyncpg.Record], find: FindMessage | None) -> list[Link]:
    """The newest of these, its transaction, its message, and the events of the same line before it."""
    if not rows:
        return []
    last, what = rows[0], json.loads(rows[0]["what"])
    links = [_event("event", last), *await _of_entry(connection, last["journal"])]
    links.append(await _message(last["caused_by"], what if last["kind"] == "batch" else (), find))
    is_of_order = last["topic"] in OF_ORDERS
    earlier = await _newest(
        connection,
        OF_ORDERS if is_of_order else [last["topic"]],
        [last["key"]],
        _line_of(last) if is_of_order else None,
        last["seq"] - 1,
    )
    return links + [_event("earlier event", row) for row in earlier]


def _line_of(row: asyncpg.Record) -> int | None:
    try:
        number = json.loads(row["value"]).get("line_no")
    except (ValueError, AttributeError):
        return None
    return number if isinstance(number, int) else None


def _event(link: str, row: asyncpg.Record) -> Link:
    named = f"seq {row['seq']}: {row['type']} version {row['version']} of {row['key']} on {row['topic']}"
    return {
        "link": link,
        "seq": row["seq"],
        "journal": row["journal"],
        "topic": row["topic"],
        "key": row["key"],
        "version": row["version"],
        "type": row["type"],
        "id": str(row["id"]),
        "caused_by": row["caused_by"],
        "words": f"{link} {named} ({_says(row)}), caused by {row['caused_by']}",
    }


def _says(row: asyncpg.Record) -> str:
    """What an event says, in words: of the log that is being checked, which may be damaged."""
    try:
        return words.of_event(json.loads(row["value"]), json.loads(row["why"] or "null"))
    except (ValueError, LookupError, TypeError):
        return "which can't be read"


async def _of_entry(connection: Connection, number: int) -> list[Link]:
    """The transaction, and what it changed."""
    rows = await run(connection, "audit_chain_entry", number, SOME_EVENTS)
    return [_entry(row) for row in rows]


def _entry(row: asyncpg.Record) -> Link:
    what = json.loads(row["what"])
    names = ("applied", "duplicates", "ignored", "dead_letters")
    outcomes = ", ".join(f"{row[name]} {name.replace('_', ' ')}" for name in names if row[name])
    events = ", ".join(row["events"]) + (", …" if row["event_count"] > len(row["events"]) else "")
    said = f"journal entry {row['journal']} at {words.moment(row['at'])}: {words.of_cause(row['kind'], what)}"
    return {
        "link": "journal entry",
        "journal": row["journal"],
        "kind": row["kind"],
        "at": row["at"],
        "what": what,
        "outcomes": {name: row[name] for name in names},
        "events": row["event_count"],
        "words": f"{said} ({outcomes or 'no outcomes'}; {f'events: {events}' if events else 'no events'})",
    }


async def _message(id_: str, ranges: Sequence[dict[str, Any]], find: FindMessage | None) -> Link:
    place = await find(ranges, id_) if find is not None and ranges else None
    topic, partition, offset = place or (None, None, None)
    at = f"{topic}-{partition} offset {offset}: " if place else ""
    return {
        "link": "message" if ranges else "cause",
        "id": id_,
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "words": f"{at}{'message' if ranges else 'cause'} {id_}",
    }


async def _of_input(connection: Connection, topic: str, partition: int, offset: int) -> list[Link]:
    record: Link = {
        "link": "message",
        "id": None,
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "words": f"message at {topic}-{partition} offset {offset}",
    }
    rows = await run(connection, "audit_chain_entry_of_input", topic, partition, offset)
    return [record, *(await _of_entry(connection, rows[0]["number"]) if rows else ())]


async def _of_pool(connection: Connection, about: About, find: FindMessage | None) -> list[Link]:
    """What changed the stock of a pool last, and what was last said of it."""
    rows = await run(connection, "audit_chain_pool", about.get("pool_id"), about.get("sku"), about.get("location"))
    if not rows:
        return []
    sku, location = rows[0]["sku"], rows[0]["location"]
    links: list[Link] = [
        {"link": "stock", "sku": sku, "location": location, "words": f"{sku} at {location}: {movement}"}
        for movement in rows[0]["movements"]
    ]
    topics, keys = ["availability", "stock-alerts"], [f"{location}:{sku}", sku]
    return links + await _of_events(connection, await _newest(connection, topics, keys), find)
