"""What one process remembers of its input positions, and what it means when the database says otherwise. Pure.

Behind what was worked: commits were lost. Ahead of it: somebody else has taken over while this process was frozen, or
cut off, and still believes that the partition is its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from backorder_notifier.errors import ConfigurationError
from backorder_notifier.rows import CursorPosition, Partition


class WentBackError(ConfigurationError):
    """The database or Kafka is not where it was when this process last looked.

    What the process remembers is wrong then: it ends, and the guards of the next start say what there is to decide.
    """


class LostCommitsError(WentBackError):
    """What the database had said it would keep is gone."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the database has lost commits: {what} (synchronous_commit off and a crash, a failover to a server that"
            " lagged, or a restored backup). This process ends so that nothing is passed over; the next start reads on"
            " from there, or says what there is to decide."
        )


class PassedOverError(WentBackError):
    """Kafka goes on elsewhere than where the last batch ended."""

    def __init__(self, partition: Partition, expected: int, offset: int) -> None:
        topic, number = partition
        why = (
            "retention has removed what lies between"
            if offset > expected
            else "it was deleted and made again, or Kafka has lost records"
        )
        super().__init__(
            f"topic {topic} partition {number} goes on at offset {offset} where {expected} was to be read: {why}. This"
            " process ends so that nothing is passed over; the next start says what there is to decide."
        )


@dataclass(slots=True)
class Memory:
    """Of one process. `known`: the highest position of each partition that the database ever told or confirmed.

    `worked`: partitions of which a batch was committed since they were assigned.
    """

    process: UUID = field(default_factory=uuid4)
    known: dict[Partition, int] = field(default_factory=dict)
    worked: set[Partition] = field(default_factory=set)

    def check(self, positions: Mapping[Partition, int], known: Mapping[Partition, int] | None = None) -> None:
        """Raises LostCommitsError for a position that went back. A missing one is 0.

        `known`: what was remembered before `positions` were read, where a batch may have been committed since.
        """
        for partition, was in sorted((self.known if known is None else known).items()):
            if (now := positions.get(partition, 0)) < was:
                topic, number = partition
                raise LostCommitsError(
                    f"topic {topic} partition {number} was worked up to offset {was}, and it says {now} now"
                )

    def see(self, positions: Mapping[Partition, int]) -> None:
        """They are what the database says. Raises LostCommitsError."""
        self.check(positions, {partition: self.known.get(partition, 0) for partition in positions})
        self.known.update(positions)

    def refused(self, positions: Mapping[Partition, CursorPosition], first: Mapping[Partition, int]) -> set[Partition]:
        """Partitions, locked, that another works, while a batch of ours begins at `first`. Raises LostCommitsError.

        Not those that were only just assigned: whoever had them may have finished its batch meanwhile. Nor those that
        this process moved itself, without hearing of it (the reply to a COMMIT was lost).
        """
        self.check(
            {partition: position.next_offset for partition, position in positions.items()},
            {partition: self.known.get(partition, 0) for partition in positions},
        )
        return {
            partition
            for partition, position in positions.items()
            if partition in self.worked
            and position.next_offset > max(self.known[partition], first[partition])
            and position.moved_by not in {None, self.process}
        }

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Up to these, a batch of ours is committed."""
        for partition, position in positions.items():
            self.known[partition] = max(position, self.known.get(partition, 0))
        self.worked |= positions.keys()

    def let_go(self, partitions: Iterable[Partition] | None = None) -> None:
        """They are assigned anew, or to another. What was known of them holds."""
        self.worked.difference_update(self.worked.copy() if partitions is None else partitions)
