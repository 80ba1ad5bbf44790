"""Whose turn it is: the rule of `Versions`, its positions and waiting records in the database."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from backorder_notifier import store
from backorder_notifier.items import Item, VersionedEvent
from backorder_notifier.rows import Key, ParkedRow, Record
from backorder_notifier.statements import Connection
from backorder_schemas import DeadLetter, Decoded, Gap, Position, Versions, decode


@dataclass(slots=True)
class Turns:
    """Positions of the keys that a transaction touches. Their orders are locked."""

    versions: Versions[Item]
    parked: frozenset[tuple[str, str, int, int]]
    unreadable: list[tuple[Record, DeadLetter]]
    gaps: list[Gap] = field(default_factory=list)

    def take(self, item: Item, event: VersionedEvent) -> tuple[str, tuple[Item, ...]]:
        """What becomes of it (applied, waits, old_version), and what is to be applied now, in order."""
        topic, key = item.record.topic, event.order_id
        turn = self.versions.feed(topic, key, event.epoch, event.version, item)
        self.gaps += [turn.gap] if turn.gap else []
        match turn.action:
            case "apply":
                return "applied", turn.ready
            case "wait":
                return "waits", turn.ready
            case "ignore":
                return "old_version", turn.ready

    def was_passed(self, item: Item, event: VersionedEvent) -> bool:
        """Whether its version lies behind what was applied, rather than waiting or of a history that was given up."""
        position = self.versions.position(item.record.topic, event.order_id)
        return position is not None and event.epoch == position.epoch and event.version <= position.version

    def give_up(self, key: Key) -> tuple[Item, ...]:
        """Stop waiting for what is missing: what is to be applied now."""
        turn = self.versions.give_up(*key)
        self.gaps += [turn.gap] if turn.gap else []
        return turn.ready


async def open_turns(connection: Connection, keys: Collection[Key]) -> Turns:
    """The positions of these keys."""
    ordered = sorted(keys)
    known = await store.read_versions(connection, ordered)
    rows = await store.read_parked(connection, ordered) if known else []
    unreadable = []
    waiting: dict[Key, list[tuple[int, Item]]] = {}
    for row in rows:
        judged = decode(row.record.topic, row.record.key, row.record.value, row.record.headers)
        if isinstance(judged, DeadLetter):  # of an older release, which could read it
            unreadable.append((row.record, judged))
        elif item := _item(row.record, judged):
            waiting.setdefault((row.topic, row.key), []).append((row.version, item))
    positions = (
        Position(topic, key, epoch, version, tuple(waiting.get((topic, key), ())))
        for (topic, key), (epoch, version) in known.items()
    )
    parked = frozenset((row.topic, row.key, row.epoch, row.version) for row in rows)
    return Turns(Versions(positions), parked, unreadable)


async def save_turns(connection: Connection, turns: Turns, now: datetime) -> None:
    """Positions and what waits, as they are after the transaction's work."""
    positions = list(turns.versions.positions())
    if positions:
        await store.save_versions(connection, ((each.topic, each.key, each.epoch, each.version) for each in positions))
    after = {
        (each.topic, each.key, each.epoch, version): item.record for each in positions for version, item in each.waiting
    }
    if gone := turns.parked - after.keys():
        await store.unpark(connection, sorted(gone))
    if came := after.keys() - turns.parked:
        await store.park(connection, now, (ParkedRow(*each, after[each]) for each in sorted(came)))
    if turns.unreadable:
        await store.bury(connection, now, turns.unreadable)


def keys_of(items: Iterable[Item]) -> set[Key]:
    return {(item.record.topic, item.message.order_id) for item in items if isinstance(item.message, VersionedEvent)}


def _item(record: Record, judged: Decoded) -> Item | None:
    if isinstance(judged.message, VersionedEvent):
        return Item(record, judged.message, judged.traceparent)
    return None
