"""The topic of dead letters against the table: the same letters, byte for byte, with the reasons that the table has."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

import asyncpg
from aiokafka import ConsumerRecord

from backorder_notifier.checks import Bits, Check
from backorder_notifier.clock import moment_of
from backorder_notifier.rows import Headers
from backorder_notifier.statements import Connection, run
from backorder_notifier.walking import Extent, Place, Walker

TOPIC: Final = "notifier.dlq"
_PLACE: Final = ("dlq.topic", "dlq.partition", "dlq.offset")
_OURS: Final = frozenset({*_PLACE, "dlq.reason", "dlq.detail", "dlq.failed_at", "dlq.left_out"})
"""Headers that say why a record is here; where the original had one of these names, ours stands in its place."""


class _Origin(NamedTuple):
    """Where a dead letter was read."""

    full_topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class DeadCopies:
    """Walks the topic of dead letters. `purged_before`: letters that failed before this may have been purged."""

    snapshot: Connection
    live: Connection
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
                    written = moment_of(records[0].timestamp)
                    self.oldest, is_cut = max(written, self.oldest or written), False
                await self.look_at(place, records)
        for row in await run(self.snapshot, "audit_letters_published"):
            self.look_for(row)

    def look_for(self, row: asyncpg.Record) -> None:
        letter = row["dead_letter_id"]
        if letter in self.seen:
            self.complete.found(None)
        elif row["is_erased"] or self.may_be_gone(row["failed_at"]):
            self.complete.excused += 1
        else:
            origin = f"{row['full_topic']}-{row['partition']} offset {row['record_offset']}"
            about = {"topic": row["full_topic"], "partition": row["partition"], "offset": row["record_offset"]}
            self.complete.found(f"dead letter {letter} of {origin} is not on {TOPIC}", about)

    def may_be_gone(self, failed_at: datetime) -> bool:
        return self.oldest is not None and failed_at < self.oldest

    async def look_at(self, place: Place, records: Sequence[ConsumerRecord]) -> None:
        origins: dict[int, _Origin] = {}
        for at, record in enumerate(records):
            origin = _origin(record)
            if origin is None:
                self.strangers += 1
            else:
                origins[at] = origin
        rows = await _rows(self.snapshot, origins)
        rows |= await _rows(self.live, {at: origin for at, origin in origins.items() if at not in rows})
        for at, origin in origins.items():
            where = f"{place.topic}-{place.partition} offset {records[at].offset}"
            self.judge(records[at], origin, rows.get(at, ()), where)

    def judge(self, record: ConsumerRecord, origin: _Origin, rows: Sequence[asyncpg.Record], where: str) -> None:
        original = tuple(each for each in record.headers if each[0] not in _OURS)
        reasons = {name: value for name, value in record.headers if name in _OURS}
        failed_at = _instant(reasons.get("dlq.failed_at"))
        about = {"topic": origin.full_topic, "partition": origin.partition, "offset": origin.offset}
        if not rows:
            if self.purged_before is not None and failed_at is not None and failed_at < self.purged_before:
                self.kept.excused += 1
            else:
                origin_said = f"{origin.full_topic}-{origin.partition} offset {origin.offset}"
                self.kept.found(f"{where}: the record at {origin_said} is no dead letter", about)
            return
        left_out = (reasons.get("dlq.left_out") or b"").decode().split(", ")
        for row in rows:
            if _is_of(row, record, original, left_out):
                self.seen.add(row["dead_letter_id"])
                reason = (reasons.get("dlq.reason") or b"").decode()
                differs = failed_at == row["failed_at"] and reason != row["reason"]
                says = f"{where}: refused as {reason}, in the table as {row['reason']}"
                self.kept.found(says if differs else None, about)
                return
        if any(is_erased(row) for row in rows):
            self.kept.excused += 1
        else:
            self.kept.found(f"{where}: other bytes than dead letter {rows[0]['dead_letter_id']} has", about)


def is_erased(row: asyncpg.Record) -> bool:
    """Whether the bytes of a letter were removed, since its customer was forgotten."""
    return row["record_key"] is None and row["record_value"] is None and not row["header_names"]


def are_headers_of(headers: Headers, row: asyncpg.Record) -> bool:
    """Whether a kept letter has these headers."""
    return _as_kept(headers) == list(zip(row["header_names"], row["header_values"], strict=True))


def _as_kept(headers: Headers) -> list[tuple[bytes, bytes | None]]:
    return [(name.encode("utf-8", "surrogatepass"), value) for name, value in headers]


def _origin(record: ConsumerRecord) -> _Origin | None:
    """Where the original was read, as the headers say; None where they don't."""
    named = dict(record.headers)
    try:
        topic, partition, offset = ((named[name] or b"").decode() for name in _PLACE)
        return _Origin(topic, int(partition), int(offset))
    except (KeyError, ValueError):
        return None


async def _rows(connection: Connection, origins: dict[int, _Origin]) -> dict[int, list[asyncpg.Record]]:
    if not origins:
        return {}
    places = list(origins)
    columns = [list(column) for column in zip(*origins.values(), strict=True)]
    found: defaultdict[int, list[asyncpg.Record]] = defaultdict(list)
    for row in await run(connection, "audit_letters_at", *columns):
        found[places[row["at"] - 1]].append(row)
    return dict(found)


def _is_of(row: asyncpg.Record, record: ConsumerRecord, original: Headers, left_out: Sequence[str]) -> bool:
    """Whether a record is the copy of a letter, but for what did not fit."""
    pairs = zip(row["header_names"], row["header_values"], strict=True)
    kept = [(name, value) for name, value in pairs if name.decode("utf-8", "surrogatepass") not in _OURS]
    return bool(
        ("key" in left_out or record.key == row["record_key"])
        and ("value" in left_out or record.value == row["record_value"])
        and ("headers" in left_out or _as_kept(original) == kept)
    )


def _instant(text: bytes | None) -> datetime | None:
    try:
        return datetime.fromisoformat((text or b"").decode())
    except ValueError:
        return None
