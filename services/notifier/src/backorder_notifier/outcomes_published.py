"""The topic `notifications` against the tables: every end of a message is published, once, in order, and no other.

Memory grows with the orders that were told (some hundred bytes each), not with the topic.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
from aiokafka import ConsumerRecord
from aiokafka.partitioner import murmur2

from backorder_notifier.checks import Check
from backorder_notifier.outcomes import SOURCE
from backorder_notifier.statements import Connection, run
from backorder_notifier.walking import Extent, Place, Walker
from backorder_schemas import CustomerNotified, Decoded, NotificationFailed, decode

TOPIC: Final = "notifications"
_SOURCE: Final = SOURCE.encode()
Outcome = CustomerNotified | NotificationFailed


@dataclass(slots=True)
class _Last:
    """The newest version seen of an order, and a digest of its bytes."""

    version: int
    digest: bytes


@dataclass(slots=True)
class OutcomesPublished:
    """Walks `notifications`. `snapshot` is the connection of the audit's snapshot; `live` sees what came since."""

    snapshot: Connection
    live: Connection
    epoch: int
    strangers: int = 0
    of_old_epochs: int = 0
    """Of a history that was given up when an older database was accepted."""
    last: dict[str, _Last] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)
    """Partitions of which the oldest records are gone."""
    partitions: int = 0
    numbered: Check = field(
        default_factory=lambda: Check("published outcomes of an order have no gap, repeats are equal")
    )
    given: Check = field(default_factory=lambda: Check("every published outcome was given, as it is published"))
    ended: Check = field(default_factory=lambda: Check("every published outcome is of a message that ended so"))
    complete: Check = field(default_factory=lambda: Check("every outcome that was given is published"))

    @property
    def checks(self) -> list[Check]:
        return [self.numbered, self.given, self.ended, self.complete]

    async def walk(self, walker: Walker, extents: dict[Place, Extent]) -> None:
        """Look at every record up to the ends, then at what was not among them."""
        for place, extent in extents.items():
            if place.topic != TOPIC:
                continue
            self.partitions += 1
            if extent.first:
                self.cut.add(place.partition)
            async for records in walker.walk(place, extent.first, extent.end):
                await self.look_at(place, records)
        self.strangers += walker.unreadable
        for row in await run(self.snapshot, "audit_published_outcomes"):
            self.look_for(row["order_id"], row["published"])

    def look_for(self, order_id: str, published: int) -> None:
        last = self.last.get(order_id)
        if last is not None and last.version >= published:
            self.complete.found(None)
        elif last is None and self._partition_of(order_id) in self.cut:
            self.complete.excused += 1
        else:
            seen = f"the last on {TOPIC} is {last.version}" if last else f"none is on {TOPIC}"
            says = f"order {order_id}: {published} outcomes were given and left the outbox, {seen}"
            self.complete.found(says, {"order_id": order_id})

    def _partition_of(self, order_id: str) -> int:
        return int((murmur2(order_id.encode()) & 0x7FFFFFFF) % self.partitions)

    async def look_at(self, place: Place, records: Sequence[ConsumerRecord]) -> None:
        """One portion of a partition."""
        ours = [(record, said) for record in records if (said := self.read(place, record)) is not None]
        if not ours:
            return
        orders = await self.orders([said.order_id for _, said in ours])
        ends = await self.ends([said for _, said in ours])
        for at, (record, said) in enumerate(ours):
            where = f"{place.topic}-{place.partition} offset {record.offset}"
            named = f"{where} (version {said.version} of order {said.order_id})"
            about = {"order_id": said.order_id}
            order = orders.get(said.order_id)
            if said.epoch < self.epoch and (order is None or order["outcome_version"] < said.version):
                self.of_old_epochs += 1
                continue
            self.number(place, record, said, named)
            self.compare(record, said, order, named)
            if order is not None and order["is_purged"]:
                self.ended.excused += 1
                continue
            wrong = _is_wrong(said, ends.get(at, ()))
            self.ended.found(f"{named}: {wrong}" if wrong else None, about)

    def read(self, place: Place, record: ConsumerRecord) -> Outcome | None:
        """An outcome of ours; None for a stranger's record."""
        if dict(record.headers).get("ce_source") != _SOURCE:
            self.strangers += 1
            return None
        decoded = decode(TOPIC, record.key, record.value, record.headers)
        where = f"{place.topic}-{place.partition} offset {record.offset}"
        if not isinstance(decoded, Decoded) or not isinstance(decoded.message, Outcome):
            self.given.found(f"{where} says that it is ours, and can't be read")
            return None
        if not decoded.key_matches:
            self.given.found(f"{where} has another key than its order", {"order_id": decoded.message.order_id})
        return decoded.message

    def number(self, place: Place, record: ConsumerRecord, said: Outcome, named: str) -> None:
        digest = hashlib.sha256(record.value).digest()
        last, about = self.last.get(said.order_id), {"order_id": said.order_id}
        if last is None or said.version > last.version:
            before = last.version if last else 0
            # Where the oldest records are gone, the first one that is left is where counting begins.
            begins = last is None and place.partition in self.cut
            gap = said.version != before + 1 and not begins
            self.numbered.found(f"{named} comes behind version {before}" if gap else None, about)
            self.last[said.order_id] = _Last(said.version, digest)
        else:
            differs = said.version == last.version and digest != last.digest
            self.numbered.found(f"{named} repeats it with other bytes" if differs else None, about)

    def compare(self, record: ConsumerRecord, said: Outcome, order: asyncpg.Record | None, named: str) -> None:
        about = {"order_id": said.order_id}
        if order is None or order["outcome_version"] < said.version:
            given = order["outcome_version"] if order else 0
            self.given.found(f"{named} was never given: {given} were", about)
            return
        is_last = order["outcome_version"] == said.version and order["outcome_digest"] is not None
        differs = is_last and hashlib.sha256(record.value).digest() != order["outcome_digest"]
        self.given.found(f"{named} has other bytes than were given" if differs else None, about)

    async def orders(self, order_ids: Sequence[str]) -> dict[str, asyncpg.Record]:
        """As they are now: versions only grow, and what is published was committed before."""
        return {row["order_id"]: row for row in await run(self.live, "audit_orders", sorted(set(order_ids)))}

    async def ends(self, outcomes: Sequence[Outcome]) -> dict[int, list[asyncpg.Record]]:
        """The deliveries that each may be the end of, by its place in the list."""
        columns: list[list[Any]] = [
            [said.order_id for said in outcomes],
            [said.about[0] if said.about else "" for said in outcomes],
            [len(said.about) for said in outcomes],
            [said.channel for said in outcomes],
        ]
        found: dict[int, list[asyncpg.Record]] = {}
        for row in await run(self.live, "audit_ends_of_messages", *columns):
            found.setdefault(row["at"] - 1, []).append(row)
        return found


def _is_wrong(said: Outcome, deliveries: Sequence[asyncpg.Record]) -> str:
    """What is wrong with an outcome, by the deliveries of messages that tell the same."""
    if not deliveries:
        return f"no message tells this by {said.channel}"
    states = {row["state"] for row in deliveries}
    if isinstance(said, CustomerNotified):
        return "" if "sent" in states else f"is said to be sent, and is {', '.join(sorted(states))}"
    # What staff sends again may have another end later.
    if states & {"failed", "withheld", "superseded"} or any(row["resent"] for row in deliveries):
        return ""
    return f"is said to have failed, and is {', '.join(sorted(states))}"
