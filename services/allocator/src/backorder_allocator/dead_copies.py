"""The topic of dead letters against the table: the same letters, byte for byte, with the reasons that the table has."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg
from aiokafka import ConsumerRecord

from backorder_allocator.checks import Bits, Check
from backorder_allocator.dead_letters import Headers, header_names
from backorder_allocator.statements import Connection, run, stream
from backorder_allocator.walking import Extent, Place, Walker

TOPIC = "allocator.dlq"
_PLACE = ("dlq.topic", "dlq.partition", "dlq.offset")
_LEFT_OUT = "dlq.left_out"
_OURS = frozenset({*_PLACE, "dlq.reason", "dlq.detail", "dlq.failed_at", _LEFT_OUT})
"""Headers that say why a record is here; where the original had one of these names, ours stands in its place."""


class _Origin(NamedTuple):
    """Where a dead letter was read, without prefix."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class DeadCopies:
    """Walks the topic of dead letters. `purged_before`: letters that failed before this were purged."""

    snapshot: Connection
    live: Connection
    prefix: str
    purged_before: datetime | None
    seen: Bits = field(default_factory=Bits)
    strangers: int = 0
    oldest: datetime | None = None
    """Of partitions of which the oldest records are gone, when the oldest one left was written."""
    kept: Check = field(default_factory=lambda: Check("every published dead letter is in the table, byte for byte"))
    complete: Check = field(default_factory=lambda: Check("every dead letter is published"))

    @property
    def checks(self) -> list[Check]:
        return [self.kept, self.complete]

    async def walk(self, walker: Walker, extents: dict[Place, Extent]) -> None:
        """Look at every record up to the ends, then at what was not among them."""
        for place, extent in extents.items():
            if place.topic != TOPIC:
                continue
            is_cut = extent.first > 0
            if is_cut and extent.first == extent.end:
                self.oldest = datetime.max.replace(tzinfo=UTC)
            async for records in walker.walk(place, extent.first, extent.end):
                if is_cut:
                    written = datetime.fromtimestamp(min(max(records[0].timestamp, 0), 253_402_300_799_000) / 1000, UTC)
                    self.oldest, is_cut = max(written, self.oldest or written), False
                await self.look_at(place, records)
        async for row in stream(self.snapshot, "audit_letters_published"):
            self.look_for(row)

    def look_for(self, row: asyncpg.Record) -> None:
        if row["dead_letter_id"] in self.seen:
            self.complete.fine()
        elif self.oldest is not None and row["failed_at"] < self.oldest:
            self.complete.excused += 1
        else:
            origin = f"{row['topic']}-{row['partition']} offset {row['record_offset']}"
            self.complete.found(True, f"dead letter {row['dead_letter_id']} of {origin} is not on {TOPIC}", _about(row))

    async def look_at(self, place: Place, records: Sequence[ConsumerRecord]) -> None:
        origins: dict[int, _Origin] = {}
        for at, record in enumerate(records):
            origin = self.origin(record)
            if origin is None:
                self.strangers += 1
            else:
                origins[at] = origin
        rows = await self._rows(self.snapshot, origins)
        missing = {at: origin for at, origin in origins.items() if at not in rows}
        rows |= await self._rows(self.live, missing)
        for at, origin in origins.items():
            where = f"{place.topic}-{place.partition} offset {records[at].offset}"
            self.judge(records[at], origin, rows.get(at, ()), where)

    def origin(self, record: ConsumerRecord) -> _Origin | None:
        """Where the original was read, as the headers say; None where they don't."""
        named = dict(record.headers)
        try:
            texts = [(named[name] or b"").decode() for name in _PLACE]
            return _Origin(texts[0].removeprefix(self.prefix), int(texts[1]), int(texts[2]))
        except (KeyError, ValueError):
            return None

    async def _rows(self, connection: Connection, origins: dict[int, _Origin]) -> dict[int, list[asyncpg.Record]]:
        if not origins:
            return {}
        places = list(origins)
        columns = [list(column) for column in zip(*origins.values(), strict=True)]
        found: defaultdict[int, list[asyncpg.Record]] = defaultdict(list)
        for row in await run(connection, "audit_letters_at", *columns):
            found[places[row["at"] - 1]].append(row)
        return dict(found)

    def judge(self, record: ConsumerRecord, origin: _Origin, rows: Sequence[asyncpg.Record], where: str) -> None:
        original, reasons = _split(record.headers)
        failed_at = _instant(reasons.get("dlq.failed_at"))
        about = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
        if not rows:
            if self.purged_before is not None and failed_at is not None and failed_at < self.purged_before:
                self.kept.excused += 1
            else:
                place = f"{origin.topic}-{origin.partition} offset {origin.offset}"
                what = f"{where}: the record at {place} is no dead letter"
                self.kept.found(True, what, about)
            return
        left_out = (reasons.get(_LEFT_OUT) or b"").decode().split(", ")
        for row in rows:
            if _is_of(row, record, original, left_out):
                self.seen.add(row["dead_letter_id"])
                # One that came to be refused for another reason later is published again.
                is_latest = failed_at == row["failed_at"]
                reason = (reasons.get("dlq.reason") or b"").decode()
                differs = is_latest and reason != row["reason"]
                self.kept.found(differs, f"{where}: refused as {reason}, in the table as {row['reason']}", about)
                return
        self.kept.found(True, f"{where}: other bytes than dead letter {rows[0]['dead_letter_id']} has", about)


def _split(headers: Headers) -> tuple[Headers, dict[str, bytes | None]]:
    """The headers of the original, and ours."""
    original = tuple(each for each in headers if each[0] not in _OURS)
    return original, {name: value for name, value in headers if name in _OURS}


def _is_of(row: asyncpg.Record, record: ConsumerRecord, original: Headers, left_out: Sequence[str]) -> bool:
    """Whether a record is the copy of a letter, but for what did not fit."""
    pairs = zip(row["header_names"], row["header_values"], strict=True)
    named = [(name, value) for name, value in pairs if name.decode("utf-8", "surrogatepass") not in _OURS]
    same_headers = list(zip(header_names(original), (value for _, value in original), strict=True)) == named
    return bool(
        ("key" in left_out or record.key == row["key"])
        and ("value" in left_out or record.value == row["value"])
        and ("headers" in left_out or same_headers)
    )


def are_headers_of(headers: Headers, row: asyncpg.Record) -> bool:
    """Whether a kept letter has these headers."""
    return bool(
        header_names(headers) == row["header_names"] and [value for _, value in headers] == row["header_values"]
    )


def _instant(text: bytes | None) -> datetime | None:
    try:
        return datetime.fromisoformat((text or b"").decode())
    except ValueError:
        return None


def _about(row: asyncpg.Record) -> dict[str, object]:
    return {"topic": row["topic"], "partition": row["partition"], "offset": row["record_offset"]}
