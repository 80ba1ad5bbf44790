"""Messages as the records of input partitions."""

from collections import Counter
from collections.abc import Iterable

from backorder_allocator.batches import Record
from backorder_allocator.decision import Input
from backorder_schemas import DeadLetter
from backorder_schemas.topics import TOPIC_OF
from tests.allocator.strategies import START, Sent


class Partitions:
    """Gives messages their places on partition 0 of their topics."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()

    def records(self, arrivals: Iterable[Sent]) -> list[Record]:
        return [self.record(arrival) for arrival in arrivals]

    def record(self, arrival: Sent) -> Record:
        topic = TOPIC_OF[type(arrival.message)].name
        return self._next(topic, Input(arrival.message, arrival.now), arrival)

    def broken(self, topic: str, reason: str) -> Record:
        """A record that could not be decoded."""
        return self._next(topic, DeadLetter(reason, "made by a test"), None)

    def _next(self, topic: str, read: Input | DeadLetter, arrival: Sent | None) -> Record:
        offset = self.ends[topic]
        self.ends[topic] += 1
        at = START if arrival is None else arrival.now
        return Record(topic, 0, offset, at, b"key", b"value", (("name", b"\xff"), ("null", None)), read)
