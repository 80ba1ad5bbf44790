"""What a subscriber does with `version` and `epoch`: the rule of the delivery promise, as a small value."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from backorder_schemas.topics import TOPICS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gap:
    """Versions of a key that never came: from `first` to `last`, both included."""

    topic: str
    key: str
    epoch: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Verdict(Generic[T]):
    """What to do. `action` is about the item just fed; `ready` is what to apply now, in order, whatever the action."""

    action: Literal["apply", "ignore", "wait"]
    ready: tuple[T, ...] = ()
    gap: Gap | None = None


@dataclass(frozen=True, slots=True)
class Position(Generic[T]):
    """Where a subscriber stands with one key: the last version applied, and what waits for the ones between."""

    topic: str
    key: str
    epoch: int
    version: int
    waiting: tuple[tuple[int, T], ...] = ()


class Versions(Generic[T]):
    """Tells for each record whether to apply it, ignore it or let it wait; keeps one position per (topic, key).

    The first version seen of a key is the baseline. The next one is applied, one already seen or older ignored, a later
    one waits for those between. When more than `max_waiting` wait for one key, the missing ones are given up and
    reported as a gap. A higher epoch starts anew. On a compacted topic a later version replaces, so nothing waits.
    """

    def __init__(self, positions: Iterable[Position[T]] = (), *, max_waiting: int = 100) -> None:
        if max_waiting < 0:
            raise ValueError(f"max_waiting should be 0 or more, not {max_waiting}")
        self._max_waiting = max_waiting
        self._positions = {(position.topic, position.key): position for position in positions}

    def feed(self, topic: str, key: str, epoch: int, version: int, item: T) -> Verdict[T]:
        """Take one record. `topic` is without prefix; raises ValueError for one that is not ours."""
        if topic not in TOPICS:
            raise ValueError(f"{topic!r} is no topic of Backorder (names are without prefix)")
        known = self._positions.get((topic, key))
        if known is None or epoch > known.epoch:
            # What waited in an older epoch belongs to a history that was given up.
            self._positions[topic, key] = Position(topic, key, epoch, version)
            return Verdict("apply", (item,))
        if epoch < known.epoch or version <= known.version:
            return Verdict("ignore")
        if version == known.version + 1 or TOPICS[topic].compacted:
            ready, position = _release(Position(topic, key, epoch, version, known.waiting))
            self._positions[topic, key] = position
            return Verdict("apply", (item, *ready))
        if any(version == waiting for waiting, _ in known.waiting):
            return Verdict("ignore")
        waiting = tuple(sorted((*known.waiting, (version, item)), key=lambda pair: pair[0]))
        self._positions[topic, key] = Position(topic, key, epoch, known.version, waiting)
        if len(waiting) <= self._max_waiting:
            return Verdict("wait")
        released = self.give_up(topic, key)
        still_waiting = self._positions[topic, key].version < version
        return Verdict("wait" if still_waiting else "apply", released.ready, released.gap)

    def give_up(self, topic: str, key: str) -> Verdict[T]:
        """Stop waiting for what is missing before this key's first waiting record: release it, report the gap."""
        known = self._positions.get((topic, key))
        if known is None or not known.waiting:
            return Verdict("ignore")
        first = known.waiting[0][0]
        gap = Gap(topic, key, known.epoch, known.version + 1, first - 1)
        ready, self._positions[topic, key] = _release(Position(topic, key, known.epoch, first - 1, known.waiting))
        return Verdict("apply", ready, gap)

    def positions(self) -> Iterator[Position[T]]:
        """All that is known, to keep it in a database: give it to a new `Versions` to go on from there."""
        yield from self._positions.values()

    def position(self, topic: str, key: str) -> Position[T] | None:
        """Where this key stands, to keep it beside what was applied."""
        return self._positions.get((topic, key))

    def forget(self, topic: str, key: str) -> None:
        """Drop a key that nothing more is expected of. The next version seen of it is a baseline again."""
        self._positions.pop((topic, key), None)


def _release(position: Position[T]) -> tuple[tuple[T, ...], Position[T]]:
    """The waiting items that follow the position without a gap, and the position after them."""
    ready = []
    version = position.version
    for waiting, item in position.waiting:
        if waiting != version + 1:
            break
        ready.append(item)
        version = waiting
    rest = position.waiting[len(ready) :]
    return tuple(ready), Position(position.topic, position.key, position.epoch, version, rest)
