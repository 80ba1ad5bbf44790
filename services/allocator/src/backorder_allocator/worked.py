"""The input topics against journal and tables: every record below its cursor was worked once, and had its outcome.

Memory: one bit for each event, and some bytes for each journal entry.
"""

from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
from aiokafka import ConsumerRecord

from backorder_allocator.checks import Bits, Check
from backorder_allocator.dead_copies import are_headers_of
from backorder_allocator.decision import Message
from backorder_allocator.effects import shown
from backorder_allocator.statements import Connection, run, stream
from backorder_allocator.walking import Extent, Place, Walker
from backorder_schemas import TOPICS, DeadLetter, LinesShipped, decode

INPUTS = tuple(sorted(topic.name for topic in TOPICS.values() if "allocator" in topic.consumers))
Judged = tuple[ConsumerRecord, "Span", Message | DeadLetter]


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets that a journal entry speaks of, from `start` up to, but not with, `stop`.

    `is_worked`: not so where an operator accepted that they are lost. `is_current`: of the topic as it is now.
    """

    place: Place
    start: int
    stop: int
    number: int
    batch_id: int | None
    at: datetime | None
    is_worked: bool
    is_current: bool


class Spans:
    """The spans of all partitions in their order, handed out partition by partition."""

    def __init__(self, rows: AsyncIterator[asyncpg.Record]) -> None:
        self.rows = rows
        self.next: Span | None = None
        self.begun = False

    async def take(self) -> None:
        row = await anext(self.rows, None)
        self.next = (
            None
            if row is None
            else Span(
                Place(row["topic"], row["partition"]),
                row["start"],
                row["stop"],
                row["number"],
                row["batch_id"],
                row["at"],
                row["is_worked"],
                row["is_current"],
            )
        )

    async def of(self, place: Place) -> AsyncIterator[Span]:
        """Those of one partition; what is before it is passed by."""
        if not self.begun:
            self.begun = True
            await self.take()
        while self.next is not None and self.next.place <= place:
            if self.next.place == place:
                yield self.next
            await self.take()


class PerEntry:
    """A number for each journal entry, 0 at first."""

    def __init__(self, entries: int) -> None:
        self.numbers = array("i", bytes(4 * (entries + 1)))

    def add(self, entry: int, number: int = 1) -> None:
        self.numbers[entry] += number

    def __getitem__(self, entry: int) -> int:
        return self.numbers[entry]


@dataclass(slots=True)
class Worked:
    """Walks the input topics up to the cursors of the snapshot. `entries`: how many the journal has there."""

    snapshot: Connection
    entries: int
    purged_before: datetime | None
    records: PerEntry = field(init=False)
    dead: PerEntry = field(init=False)
    """Records that are dead letters, but for shipments."""
    dead_shipments: PerEntry = field(init=False)
    """Some of these were dead only when their order came."""
    unknown: Bits = field(default_factory=Bits)
    """Journal entries of which records are gone."""
    caused: Bits = field(default_factory=Bits)
    """Events whose message was found."""
    covered: Check = field(default_factory=lambda: Check("every input below its cursor is in a journal entry"))
    outcomes: Check = field(default_factory=lambda: Check("every input below its cursor had its outcome"))
    counted: Check = field(default_factory=lambda: Check("every batch has one outcome for each of its records"))
    refused: Check = field(default_factory=lambda: Check("every refusal that was counted is a dead letter"))
    kept: Check = field(default_factory=lambda: Check("dead letters are kept byte for byte"))
    causes: Check = field(default_factory=lambda: Check("every event of a batch is caused by one of its messages"))

    def __post_init__(self) -> None:
        self.records = PerEntry(self.entries)
        self.dead = PerEntry(self.entries)
        self.dead_shipments = PerEntry(self.entries)

    @property
    def checks(self) -> list[Check]:
        return [self.covered, self.outcomes, self.counted, self.refused, self.kept, self.causes]

    async def walk(self, walker: Walker, extents: Mapping[Place, Extent]) -> None:
        """Look at every record below its cursor, then at every journal entry."""
        cursors = {
            Place(row["topic"], row["partition"]): row["next_offset"] for row in await run(self.snapshot, "all_cursors")
        }
        spans = Spans(stream(self.snapshot, "audit_ranges"))
        for place in sorted(extents.keys() | cursors.keys()):
            await self.walk_place(walker, place, extents.get(place, Extent(0, 0)), cursors.get(place, 0), spans)
        await self.look_at_entries()

    async def walk_place(self, walker: Walker, place: Place, extent: Extent, cursor: int, spans: Spans) -> None:
        what = f"{place.topic}-{place.partition}"
        if cursor > extent.end:
            self.covered.found(
                True,
                f"{what}: the cursor {cursor} lies beyond the end {extent.end}",
                {"topic": place.topic, "partition": place.partition, "offset": cursor - 1},
            )
        of_place = spans.of(place)
        span = await self.next_span(of_place, extent)
        async for records in walker.walk(place, extent.first, min(cursor, extent.end)):
            judged: list[Judged] = []
            for record in records:
                while span is not None and record.offset >= span.stop:
                    span = await self.next_span(of_place, extent)
                about = {"topic": place.topic, "partition": place.partition, "offset": record.offset}
                is_hole = span is None or record.offset < span.start
                self.covered.found(is_hole, f"{what} offset {record.offset} was passed by, and never worked", about)
                if span is None or is_hole:
                    continue
                if not span.is_worked:
                    self.outcomes.excused += 1
                    continue
                decoded = decode(place.topic, record.key, record.value, record.headers)
                read: Any = decoded if isinstance(decoded, DeadLetter) else decoded.message
                judged.append((record, span, read))
            if judged:
                await self.look_at(place, judged)
        while span is not None:
            span = await self.next_span(of_place, extent)

    async def next_span(self, spans: AsyncIterator[Span], extent: Extent) -> Span | None:
        """The next one of the topic as it is now."""
        async for span in spans:
            if span.is_worked and (not span.is_current or span.start < extent.first or span.stop > extent.end):
                self.unknown.add(span.number)
                if span.is_current:
                    self.outcomes.excused += max(0, min(span.stop, extent.first) - span.start)
            if span.is_current:
                return span
        return None

    async def look_at(self, place: Place, judged: Sequence[Judged]) -> None:
        """One portion of a partition."""
        first, last = judged[0][0].offset, judged[-1][0].offset
        letters = {
            row["record_offset"]: row
            for row in await run(self.snapshot, "audit_letters_between", place.topic, place.partition, first, last)
        }
        messages = [read for _, _, read in judged if not isinstance(read, DeadLetter)]
        is_shown = iter(await shown(self.snapshot, messages))
        batch_ids = {span.batch_id for _, span, _ in judged}
        ids = {message.id for message in messages}
        for row in await run(self.snapshot, "audit_events_of_batches", list(batch_ids), list(ids)):
            self.caused.add(row["seq"])
        for record, span, read in judged:
            self.judge(place, record, span, read, letters.get(record.offset), is_shown)

    def judge(
        self,
        place: Place,
        record: ConsumerRecord,
        span: Span,
        read: Message | DeadLetter,
        letter: asyncpg.Record | None,
        is_shown: Any,
    ) -> None:
        self.records.add(span.number)
        had_effect = not isinstance(read, DeadLetter) and next(is_shown)
        where = f"{place.topic}-{place.partition} offset {record.offset}"
        about = {"topic": place.topic, "partition": place.partition, "offset": record.offset}
        if letter is not None:
            same = (
                record.key == letter["key"]
                and record.value == letter["value"]
                and are_headers_of(record.headers, letter)
            )
            self.kept.found(not same, f"{where}: the dead letter has other bytes than the record", about)
        if letter is not None or not had_effect:
            (self.dead_shipments if isinstance(read, LinesShipped) else self.dead).add(span.number)
        may_be_purged = self.purged_before is not None and span.at is not None and span.at < self.purged_before
        if letter is None and not had_effect and may_be_purged:
            self.outcomes.excused += 1
            return
        kind = f"{read.reason}: {read.detail}" if isinstance(read, DeadLetter) else f"{read.type} {read.id}"
        by = f"was worked by journal entry {span.number}"
        what = f"{where} ({kind}) {by}, and left neither its effect nor a dead letter"
        self.outcomes.found(letter is None and not had_effect, what, about)

    async def look_at_entries(self) -> None:
        """Whether the outcomes that each batch counted are those of its records."""
        async for row in stream(self.snapshot, "audit_batch_outcomes"):
            number = row["number"]
            if number in self.unknown:
                for check in (self.counted, self.refused, self.causes):
                    check.excused += 1
                continue
            about = {"journal": number}
            counted, records = row["outcomes"], self.records[number]
            self.counted.found(
                counted != records, f"journal entry {number} has {counted} outcomes of {records} records", about
            )
            fewest = self.dead[number]
            most = fewest + self.dead_shipments[number]
            if row["dead_letters"] or most:
                says = f"journal entry {number} counts {row['dead_letters']} dead letters; {most} of its records are"
                self.refused.found(not fewest <= row["dead_letters"] <= most, says, about)
            if row["event_count"]:
                first, last = row["first_seq"], row["first_seq"] + row["event_count"] - 1
                missing = self.caused.first_missing(first, last)
                says = f"seq {missing}, of journal entry {number}: no message of it is what caused it"
                self.causes.found(missing is not None, says, {"seq": missing})
