"""The allocator on a clock of our own: its real transactions on a real PostgreSQL, without Kafka in between."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from backorder_allocator import audits, batches, decision, statements, store
from backorder_allocator.batches import Record
from backorder_allocator.decision import Input
from backorder_allocator.loading import Context
from backorder_allocator.planner import Planner
from backorder_allocator.timers import timer_of
from backorder_schemas import ContactChanged, InputMessage
from backorder_schemas.topics import TOPIC_OF
from tests.month.purchases import Sent, parts

BATCH = 500


class Allocating:
    """One allocator. `take` gives the bytes of the events that came of it, in log order."""

    def __init__(self, connection: asyncpg.Connection, context: Context) -> None:
        self._connection = connection
        self._context = context
        self._planner = Planner(context, 0.0, lambda: None)
        self._offsets: Counter[str] = Counter()
        self._journal = 0
        self._seq = 0

    async def take(self, sent: Sequence[Sent], now: datetime) -> list[tuple[str, bytes, bytes]]:
        """Work what was sent until now, fire what is due, plan. Gives (topic, key, value) of each new event."""
        mine = [each for each in sent if "allocator" in TOPIC_OF[type(each.message)].consumers]
        for part in parts(mine, BATCH):
            records = [self._record(each) for each in part]
            await store.add_cursors(self._connection, {(record.topic, record.partition) for record in records})
            worked = await batches.work(self._connection, records, self._context, now)
            assert len(worked.records) == len(records)
        await self._fire(now)
        while await self._planner.run(self._connection, now):
            pass
        return await self._events()

    def _record(self, sent: Sent) -> Record:
        topic = TOPIC_OF[type(sent.message)].name
        offset = self._offsets[topic]
        self._offsets[topic] += 1
        return Record(topic, 0, offset, sent.at, b"", b"", (), Input(_allocators(sent.message), sent.at))

    async def _fire(self, now: datetime) -> None:
        from backorder_allocator.ranking import EARLIEST

        while rows := await statements.run(self._connection, "due_timers", now, 100, EARLIEST, "", "", ""):
            for row in rows:
                await batches.fire(self._connection, timer_of(row), row["due_at"], self._context, now)

    async def _events(self) -> list[tuple[str, bytes, bytes]]:
        events = []
        while rows := await statements.run(self._connection, "events_to_publish", self._journal, self._seq, 5000):
            events += [(row["topic"], row["key"].encode(), _bytes(row["value"])) for row in rows]
            self._journal, self._seq = rows[-1]["number"], rows[-1]["seq"]
        return events

    async def problems(self) -> list[str]:
        """What the allocator's own audit finds."""
        return [check.rule for check in await audits.audit(self._connection) if check.violations]


def _allocators(message: InputMessage) -> decision.Message:
    assert not isinstance(message, ContactChanged)
    return message


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
