"""What a start does before anything is read: looks, stops for what was not accepted, notes what was."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

import asyncpg

from backorder_notifier import guard_store, store
from backorder_notifier.guards import (
    Finding,
    GuardError,
    Known,
    LostMessages,
    PartitionCount,
    RecreatedTopic,
    RestoredDatabase,
    UnsafeDurability,
    What,
    detail,
    judge,
    sentence,
)
from backorder_notifier.rows import Partition
from backorder_notifier.statements import Connection
from backorder_notifier.telemetry import logger
from backorder_notifier.topics import KafkaView, look

log = logger("guards")


@dataclass(frozen=True, slots=True)
class Accepting:
    """What the operator goes on with, who that is, and their words for it."""

    what: frozenset[What] = frozenset()
    by: str = ""
    why: str | None = None


async def examine(connection: Connection, servers: Sequence[str], prefix: str) -> list[Finding]:
    """What stands against a start. Changes nothing."""
    before = await _positions(connection)
    kafka = await look(servers, prefix)
    return judge(kafka, await _known(connection, kafka, before))


async def guard(
    connection: Connection, servers: Sequence[str], prefix: str, accepting: Accepting, now: datetime
) -> None:
    """Raises GuardError for what is not accepted; then nothing is changed.

    Kafka is asked before the database, so that what another process publishes and reads on meanwhile is no finding.
    """
    before = await _positions(connection)
    kafka = await look(servers, prefix)
    async with connection.transaction():
        await guard_store.lock_identity(connection)
        known = await _known(connection, kafka, before)
        found = judge(kafka, known)
        if not_accepted := [each for each in found if each.what not in accepting.what]:
            raise GuardError(not_accepted)
        for finding in found:
            await _accept(connection, finding, now)
            await guard_store.note_accepted(
                connection, now, accepting.by, f"accepted_{finding.what}", accepting.why, detail(finding)
            )
        for topic, view in kafka.topics.items():
            if topic not in known.topics or known.topics[topic].topic_id != view.topic_id:
                await guard_store.note_topic(connection, topic, view.topic_id, len(view.end), now)
                await guard_store.begin_cursors(connection, topic, view.first)
        server = known.server
        await guard_store.note_identity(connection, server.system_identifier, server.timeline, now)
    for finding in found:
        log.warning("accepted", what=finding.what, says=sentence(finding))


async def _positions(connection: Connection) -> dict[Partition, int]:
    return {(row.topic, row.partition): row.next_offset for row in await store.list_cursors(connection)}


async def _known(connection: Connection, kafka: KafkaView, before: dict[Partition, int]) -> Known:
    identity = await guard_store.read_identity(connection)
    # Those of an older epoch were accepted with it.
    judged = [(n, each) for n, each in enumerate(kafka.published) if each.epoch == identity.epoch]
    unknown = await guard_store.unknown_outcomes(
        connection, [(each.order_id, each.version, each.digest) for _, each in judged]
    )
    return Known(
        before,
        await _positions(connection),
        await guard_store.read_topics_seen(connection),
        identity,
        await _server(connection),
        [judged[ordinal][0] for ordinal in unknown],
    )


async def _server(connection: Connection) -> guard_store.Server:
    identifier, timeline = None, None
    with suppress(asyncpg.InsufficientPrivilegeError):
        async with connection.transaction():  # a refusal must not end the transaction around it
            identifier, timeline = await guard_store.read_system(connection)
    return guard_store.Server(identifier, timeline, await guard_store.read_durability(connection))


async def _accept(connection: Connection, finding: Finding, now: datetime) -> None:
    match finding:
        case RecreatedTopic(topic, view):
            await guard_store.reset_cursors(connection, topic, view.first)
            await guard_store.age_dead_letters(connection, topic)
            await guard_store.age_dead_letters(connection, topic)
            await guard_store.note_topic(connection, topic, view.topic_id, len(view.end), now)
        case PartitionCount(topic, view):
            await guard_store.begin_cursors(connection, topic, view.first)
            await guard_store.note_topic(connection, topic, view.topic_id, len(view.end), now)
        case LostMessages(topic, gone):
            await guard_store.skip_gone(connection, topic, {partition: first for partition, _, first in gone})
        case RestoredDatabase(epoch=epoch):
            await guard_store.raise_epoch(connection, epoch)
        case UnsafeDurability():
            pass  # there is nothing to change
        case _:
            assert_never(finding)
