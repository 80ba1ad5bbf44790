"""The published copies against the log: what is published is in the log as it is, and what is logged is published.

One bit of memory for each event, and one entry for each key of `availability` that an older version came behind.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import asyncpg
from aiokafka import ConsumerRecord
from aiokafka.partitioner import murmur2
from pydantic_core import from_json

from backorder_allocator.checks import Bits, Check
from backorder_allocator.events import SOURCE, SealedEvent, headers
from backorder_allocator.statements import Connection, run, stream
from backorder_allocator.walking import Extent, Place, Walker
from backorder_schemas import TOPICS

OUTPUTS = tuple(sorted(topic.name for topic in TOPICS.values() if topic.messages and "allocator" in topic.producers))
PUBLISHED_AT_ONCE = 2000
"""Events that the relay may repeat after it was stopped: so far the oldest copy on a topic may be from the newest."""
IN_DOUBT_SECONDS = 45.0
"""So long after a relay took over, what the one before had on its way may still come; then it is repeated."""
_SOURCE = ("ce_source", SOURCE.encode())


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log is (`seq`), which epoch its events have, and up to which seq all is on the topics."""

    seq: int
    journal: int
    epoch: int
    published: int


async def head(connection: Connection) -> Head:
    return Head(**(await run(connection, "audit_head"))[0])


@dataclass(slots=True)
class _Copy:
    """A record of ours, and what it says that it is."""

    record: ConsumerRecord
    id: str
    key: str
    version: int
    epoch: int


@dataclass(slots=True)
class Published:
    """Walks the output topics. `snapshot` is the connection of the audit's snapshot; `live` sees what came since."""

    snapshot: Connection
    live: Connection
    head: Head
    patience: float = IN_DOUBT_SECONDS
    seen: Bits = field(default_factory=Bits)
    strangers: int = 0
    """Records that are not ours, by `ce_source`."""
    of_old_epochs: int = 0
    """Copies of a history that was given up when an older database was accepted."""
    in_log: Check = field(default_factory=lambda: Check("everything published is in the log"))
    equal: Check = field(default_factory=lambda: Check("every copy has the log's bytes, key and headers"))
    in_order: Check = field(default_factory=lambda: Check("events appear in the order of the log"))
    complete: Check = field(default_factory=lambda: Check("everything logged is published"))
    newest: Check = field(default_factory=lambda: Check("the newest availability is the last on its topic"))
    partitions: Counter[str] = field(default_factory=Counter)
    """How many each topic has."""
    bounds: dict[Place, int | None] = field(default_factory=dict)
    """Of partitions of which the oldest records are gone: the seq below which nothing is missed; None: all is gone."""
    last_shown: dict[str, int] = field(default_factory=dict)
    """The version of the last record of keys of `availability` that came again, or out of order."""

    @property
    def checks(self) -> list[Check]:
        return [self.in_log, self.equal, self.in_order, self.complete, self.newest]

    async def walk(self, walker: Walker, extents: dict[Place, Extent]) -> None:
        """Look at every record up to the ends, then at what was not among them."""
        self.partitions = Counter(place.topic for place in extents)
        for place, extent in extents.items():
            if place.topic not in OUTPUTS:
                continue
            if extent.first:
                self.bounds[place] = None
            highest = 0
            async for records in walker.walk(place, extent.first, extent.end):
                highest = await self.look_at(place, records, highest)
        self.strangers += walker.unreadable
        await self.look_for_the_rest()
        await self.look_for_the_newest(walker, extents)

    async def look_at(self, place: Place, records: Sequence[ConsumerRecord], highest: int) -> int:
        """One portion of a partition. `highest`: the highest seq that appeared there; gives the one afterwards."""
        copies = [copy for record in records if (copy := self.read(place, record)) is not None]
        logged = await self.logged(place.topic, copies)
        for at, copy in enumerate(copies):
            row = logged.get(at)
            where = f"{place.topic}-{place.partition} offset {copy.record.offset}"
            is_ours = row is not None and row["seq"] is not None and str(row["id"]) == copy.id
            if not is_ours and copy.epoch < self.head.epoch:
                self.of_old_epochs += 1
                continue
            self.in_log.found(
                not is_ours, f"{where}: {copy.id} (key {copy.key}, version {copy.version}) is not in the log"
            )
            if row is None or not is_ours:
                continue
            seq: int = row["seq"]
            about = {"seq": seq}
            self.equal.found(*_difference(place.topic, copy.record, row, where), about)
            if place in self.bounds and self.bounds[place] is None:
                self.bounds[place] = seq + PUBLISHED_AT_ONCE
            is_first = self.seen.add(seq)
            if TOPICS[place.topic].compacted:
                # What was there before may have been compacted away: only what is there at last can be judged.
                if not is_first or seq < highest or copy.key in self.last_shown:
                    self.last_shown[copy.key] = copy.version
            elif is_first:
                self.in_order.found(
                    seq < highest, f"{where}: seq {seq} appears for the first time behind seq {highest}", about
                )
            highest = max(highest, seq)
        return highest

    def read(self, place: Place, record: ConsumerRecord) -> _Copy | None:
        """What a record of ours says that it is; None for a stranger's."""
        named = record.headers
        if _source(named) != _SOURCE[1]:
            self.strangers += 1
            return None
        try:
            value = from_json(record.value or b"")
            return _Copy(record, value["id"], _key_of(place.topic, value), value["version"], value["epoch"])
        except (ValueError, KeyError, TypeError):
            self.in_log.found(
                True, f"{place.topic}-{place.partition} offset {record.offset}: says that it is ours, and can't be read"
            )
            return None

    async def logged(self, topic: str, copies: Sequence[_Copy]) -> dict[int, asyncpg.Record]:
        """What the log has of copies, by their place in the list."""
        rows = await self._look_up(self.snapshot, topic, copies, range(len(copies)))
        missing = [at for at in range(len(copies)) if at not in rows]
        if missing:
            # Committed after the snapshot, and published before the ends were asked for.
            rows |= await self._look_up(self.live, topic, copies, missing)
        return rows

    async def _look_up(
        self, connection: Connection, topic: str, copies: Sequence[_Copy], which: Sequence[int]
    ) -> dict[int, asyncpg.Record]:
        if not which:
            return {}
        keys, versions = [copies[at].key for at in which], [copies[at].version for at in which]
        rows = await run(connection, "audit_logged_events", topic, keys, versions)
        return {which[row["at"] - 1]: row for row in rows}

    async def look_for_the_rest(self) -> None:
        """What is below the relay's position and was not seen."""
        published = self.head.published
        first = self.seen.first_missing(1, published)
        if first is None:
            self.complete.fine(published)
        else:
            self.complete.fine(first - 1)
            unseen = stream(self.snapshot, "audit_log_between", first, published)
            async for event in unseen:
                if first <= event["seq"] <= published:
                    self.judge(event)

    def judge(self, event: asyncpg.Record) -> None:
        seq, topic = event["seq"], event["topic"]
        if seq in self.seen:
            self.complete.fine()
        elif topic in TOPICS and TOPICS[topic].compacted:
            # The newest of each key is looked for by itself.
            self.complete.excused += 1
        elif self.may_be_gone(topic, event["key"], seq):
            self.complete.excused += 1
        else:
            what = f"seq {seq} ({topic}, key {event['key']}, version {event['version']}) is not on its topic"
            self.complete.found(True, what, {"seq": seq})

    def may_be_gone(self, topic: str, key: str, seq: int) -> bool:
        """Whether the place of an event is one of which the oldest records are gone, and it was among these."""
        place = Place(topic, partition_of(key, self.partitions[topic]))
        if place not in self.bounds:
            return False
        bound = self.bounds[place]
        return bound is None or seq < bound

    async def look_for_the_newest(self, walker: Walker, extents: dict[Place, Extent]) -> None:
        """The last record of each key of `availability` is the newest version, or a later one than the snapshot has.

        What a relay that was frozen or cut off had on its way may land behind newer versions. Whoever publishes since
        then repeats the newest once that is over: so long it is waited for.
        """
        behind: list[asyncpg.Record] = []
        async for event in stream(self.snapshot, "audit_newest_availability", self.head.published):
            if event["seq"] not in self.seen and not await self.is_followed(event):
                what = f"version {event['version']} of {event['key']}, the newest (seq {event['seq']}), is not there"
                self.newest.found(True, what, {"seq": event["seq"]})
            elif self.is_last(event):
                self.newest.fine()
            else:
                behind.append(event)
        places = {place: extent.end for place, extent in extents.items() if TOPICS[place.topic].compacted}
        deadline = monotonic() + self.patience
        while monotonic() < deadline and not all(map(self.is_last, behind)):
            await asyncio.sleep(1)
            for place, extent in (await walker.extents()).items():
                if place in places:
                    async for records in walker.walk(place, places[place], extent.end):
                        await self.look_at(place, records, self.head.seq)
                    places[place] = extent.end
        for event in behind:
            last = self.last_shown[event["key"]]
            what = f"version {last} of {event['key']} is the last there, {event['version']} is newer"
            self.newest.found(not self.is_last(event), what, {"seq": event["seq"]})

    def is_last(self, event: asyncpg.Record) -> bool:
        return bool(self.last_shown.get(event["key"], event["version"]) >= event["version"])

    async def is_followed(self, event: asyncpg.Record) -> bool:
        """Whether a later version was seen: then this one may have been compacted away."""
        later = await run(self.live, "audit_later_versions", event["topic"], event["key"], event["version"])
        return any(row["seq"] in self.seen for row in later)


def _source(named: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    if _SOURCE in named:
        return _SOURCE[1]
    return dict(named).get("ce_source")


def _key_of(topic: str, value: dict[str, Any]) -> str:
    match TOPICS[topic].key:
        case "location:sku":
            return f"{value['location']}:{value['sku']}"
        case name:
            return str(value[name])


def _difference(topic: str, record: ConsumerRecord, row: asyncpg.Record, where: str) -> tuple[bool, str]:
    """Whether a copy differs from what the relay would publish of the log's row, and in what."""
    said = []
    if record.value != row["value"].encode():
        said.append("value")
    if record.key != row["key"].encode():
        said.append("key")
    event = SealedEvent(
        topic,
        row["key"],
        0,
        row["id"],
        row["type"],
        row["occurred_at"],
        "",
        row["traceparent"],
        "",
    )
    expected = headers(event)
    if tuple(record.headers) != tuple(expected) and not set(expected) <= set(record.headers):
        said.append("headers")
    return bool(said), f"{where}: {', '.join(said)} differ from seq {row['seq']} of the log" if said else ""


def partition_of(key: str, partitions: int) -> int:
    """Where a producer puts a key by itself."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)
