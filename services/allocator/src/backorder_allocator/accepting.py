"""Asks the guards at the start of a process, and carries out what a person accepted: once, with a row that says who.

What changes where work goes on is an entry of the journal, too, so that `audit` and `replay` know of it.
"""

import asyncio
import json
from collections.abc import Awaitable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, assert_never

import asyncpg

from backorder_allocator import connections, interventions, store, telemetry
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.guards import (
    Accepted,
    Finding,
    GuardError,
    Known,
    LostMessages,
    PartitionCount,
    RecreatedTopic,
    RestoredDatabase,
    Seen,
    Server,
    UnsafeDurability,
    judge,
    sentence,
)
from backorder_allocator.interventions import Asked
from backorder_allocator.looking import INPUTS, View, look
from backorder_allocator.remembering import Memory, PartitionKey
from backorder_allocator.settings import Settings
from backorder_allocator.statements import Connection, Rows, columns, run

log = telemetry.logger(__name__)

LOCK = 0x6261636B_67756172
"""Key of the advisory lock that holds those who start at the same time one behind the other."""
LOOKS_AGAIN = 2
PAUSE_SECONDS = 1.0
"""A partition whose leader has just changed may say for a moment that it ends earlier."""


async def begin(connection: Connection, settings: Settings, accepted: Accepted) -> None:
    """Ask the guards before anything is read. Raises GuardError for what nobody accepted."""
    server = await server_of(connection)
    before, view = await _ask(connection, settings)
    for _ in range(LOOKS_AGAIN):
        found = await find(connection, before, view, server)
        if not any(isinstance(each, RecreatedTopic) and each.ends for each in found):
            break
        await asyncio.sleep(PAUSE_SECONDS)
        before, view = await _ask(connection, settings)
    async with connection.transaction():
        await run(connection, "lock_start", LOCK)
        findings = await find(connection, before, view, server)
        if refused := [finding for finding in findings if not accepted.covers(finding)]:
            raise GuardError(refused)
        at = datetime.now(UTC)
        for finding in findings:
            await accept(connection, finding, Asked(interventions.operator(), accepted.why), at)
        await remember(connection, view, server, at)
    for finding in findings:
        log.warning("accepted", finding=sentence(finding))


async def _ask(connection: Connection, settings: Settings) -> tuple[dict[PartitionKey, int], View]:
    """First the cursors, then Kafka: an end that was asked for later lies behind none of them by itself."""
    before = await cursors(connection)
    return before, await connections.patiently("Kafka", partial(look, settings), settings.start_timeout_seconds)


async def find(connection: Connection, before: Mapping[PartitionKey, int], view: View, server: Server) -> list[Finding]:
    """What the guards find. `before`: the cursors as they were before Kafka was asked."""
    return judge(await known(connection, before, view, server), view)


async def cursors(connection: Connection) -> dict[PartitionKey, int]:
    return {(row["topic"], row["partition"]): row["next_offset"] for row in await run(connection, "all_cursors")}


async def server_of(connection: Connection) -> Server:
    """The server that the database lives on. Raises ConfigurationError for one that only reads."""
    row = (await run(connection, "server_settings"))[0]
    if row["is_a_copy"]:
        raise ConfigurationError("ALLOCATOR_DATABASE_URL names a read-only copy (standby): it should name the primary")
    unsafe = [f"{name} = off" for name in ("fsync", "full_page_writes", "synchronous_commit") if row[name] == "off"]
    identifier = await _if_allowed(run(connection, "server_identifier"))
    timeline = await _if_allowed(run(connection, "server_timeline"))
    return Server(identifier, timeline, tuple(unsafe))


async def _if_allowed(asked: Awaitable[Rows]) -> Any:
    """What the server says of itself; None where it doesn't tell everybody, or has no such thing."""
    try:
        return (await asked)[0][0]
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedFunctionError):
        return None
    except (asyncpg.FeatureNotSupportedError, asyncpg.ObjectNotInPrerequisiteStateError):
        return None


async def known(connection: Connection, before: Mapping[PartitionKey, int], view: View, server: Server) -> Known:
    head = (await run(connection, "guarded_log"))[0]
    ours = [each for each in view.published if each.epoch == head["epoch"]]
    rows = [(each.topic, each.key, each.version, each.digest) for each in ours]
    unknown = (
        {row["ordinal"] for row in await run(connection, "published_unknown", *columns(rows, 4))} if rows else set()
    )
    seen = await run(connection, "newest_identity")
    return Known(
        before,
        await cursors(connection),
        await topics_seen(connection),
        head["epoch"],
        head["published"] > 0,
        [each for ordinal, each in enumerate(ours, start=1) if ordinal in unknown],
        server,
        Server(seen[0]["system_identifier"], seen[0]["timeline"]) if seen else None,
    )


async def topics_seen(connection: Connection) -> dict[str, Seen]:
    rows = await run(connection, "topics_seen")
    return {row["topic"]: Seen(row["topic_id"], tuple(row["first_offsets"])) for row in rows}


async def accept(connection: Connection, finding: Finding, asked: Asked, at: datetime) -> None:
    """Do what an accepted finding means, and write down who wanted it. In a transaction that holds `lock_start`."""
    match finding:
        case RecreatedTopic(topics=topics, cursors=worked):
            gone = [_span(key, cursor, None) for key, cursor in worked.items()]
            what: dict[str, Any] = {"finding": "recreated_topic", "topics": list(topics), "gone": gone}
            await _record(connection, "accepted_recreated_topic", what, asked, at)
            await _enter(connection, what, at)
        case PartitionCount(changed=changed):
            counts = [{"topic": topic, "was": was, "is": now} for topic, (was, now) in changed.items()]
            await _record(connection, "accepted_partition_count", {"topics": counts}, asked, at)
        case LostMessages(gone=holes):
            gone = [_span(key, start, to) for key, (start, to) in holes.items()]
            what = {"finding": "lost_messages", "gone": gone}
            await _record(connection, "accepted_lost_messages", what, asked, at)
            await _enter(connection, what, at)
        case RestoredDatabase(unknown=unknown, epoch=epoch, server_changed=changed):
            examples = [
                {name: value for name, value in asdict(each).items() if name != "digest"} for each in unknown[:5]
            ]
            what = {"finding": "restored_database", "epoch": epoch}
            detail = {**what, "not_in_log": len(unknown), "examples": examples, "server": changed}
            await _record(connection, "accepted_restored_database", detail, asked, at)
            await _enter(connection, what, at)
        case UnsafeDurability(settings=settings, system_identifier=identifier):
            # It is so at every start; that it was accepted is written down once.
            detail = {"settings": list(settings), "system_identifier": identifier}
            if not (await run(connection, "was_accepted", "accepted_unsafe_durability", json.dumps(detail)))[0]["was"]:
                await _record(connection, "accepted_unsafe_durability", detail, asked, at)
        case _:
            assert_never(finding)


def _span(key: PartitionKey, start: int, to: int | None) -> dict[str, Any]:
    return {"topic": key[0], "partition": key[1], "from": start, "to": to}


async def _record(connection: Connection, what: str, detail: Mapping[str, Any], asked: Asked, at: datetime) -> None:
    await interventions.record(connection, asked, what, detail, at)


async def _enter(connection: Connection, what: Mapping[str, Any], at: datetime) -> None:
    """Carry out what the journal is about to say."""
    await store.lock_cursors(connection, {(span["topic"], span["partition"]) for span in what.get("gone", ())})
    await carry_out(connection, what, at, Memory())


async def carry_out(connection: Connection, what: Mapping[str, Any], at: datetime, memory: Memory) -> None:
    """Do what an entry `accepted` of the journal says, and write the entry: at a start, and again in a replay."""
    epoch = await store.read_epoch(connection)
    match what["finding"]:
        case "lost_messages":
            ends = {(span["topic"], span["partition"]): span["to"] for span in what["gone"]}
            await store.add_cursors(connection, ends)
            await store.move_cursors(connection, ends)
        case "recreated_topic":
            inputs = [topic for topic in what["topics"] if topic in INPUTS]
            await run(connection, "begin_topics_anew", inputs)
            # In two steps, since a row may take the place of another only when that one is gone.
            await run(connection, "age_letters", inputs)
            await run(connection, "aged_letters", inputs)
            if "availability" in what["topics"]:
                await run(connection, "publish_availability_anew", at)
        case "restored_database":
            epoch = what["epoch"]
            await run(connection, "publish_availability_anew", at)
            await run(connection, "raise_epoch", epoch)
        case other:
            raise ConfigurationError(f"this version of backorder-allocator doesn't know the finding {other}")
    batch_id = await store.next_batch_id(connection)
    await store.append_journal(connection, batch_id, "accepted", what, at, 0, {}, None, epoch, memory)


async def remember(connection: Connection, view: View, server: Server, at: datetime) -> None:
    """What the next start compares with. Writes only what is new."""
    before = await topics_seen(connection)
    rows = []
    for name, now in view.topics.items():
        seen = before.get(name, Seen(now.topic_id, ()))
        topic_id = now.topic_id or seen.topic_id
        known_firsts = seen.first if topic_id == (seen.topic_id or topic_id) else ()
        first = [*known_firsts, *(now.first[each] for each in range(len(known_firsts), now.partitions))]
        rows.append((name, topic_id, json.dumps(first[: now.partitions])))
    await run(connection, "remember_topics", *columns(rows, 3), at)
    if server.system_identifier is not None and server.timeline is not None:
        await run(connection, "remember_identity", server.system_identifier, server.timeline, at)
