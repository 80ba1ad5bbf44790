"""What this process has seen committed, so that it notices when the database knows better, or less.

A cursor beyond what we worked ourselves: another process works a partition that we believe is ours. One below what was
committed before: commits were lost, and all that is remembered here is of a history that did not happen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from backorder_allocator.errors import LostCommitsError

PartitionKey = tuple[str, int]
"""(topic without prefix, partition)."""


@dataclass(slots=True)
class Memory:
    """Positions that were seen committed, shared by all parts of a process. None of them ever goes back."""

    cursors: dict[PartitionKey, int] = field(default_factory=dict)
    """The furthest that was seen of each partition, whoever worked it."""
    worked: dict[PartitionKey, int] = field(default_factory=dict)
    """How far we worked partitions ourselves since they were assigned to us."""
    in_doubt: dict[PartitionKey, int] = field(default_factory=dict)
    """How far we worked if a COMMIT arrived whose answer did not."""
    journal: int = 0
    """The newest entry that was seen."""

    def assigned(self, cursors: Mapping[PartitionKey, int]) -> None:
        """Partitions are ours from now on, others may have worked them before."""
        self.see(cursors)
        for key in cursors:
            self.worked.pop(key, None)
            self.in_doubt.pop(key, None)

    def see(self, cursors: Mapping[PartitionKey, int]) -> None:
        """Compare committed cursors. Raises LostCommitsError for one that went back."""
        for key, cursor in cursors.items():
            if cursor < self.cursors.get(key, 0):
                topic, partition = key
                raise LostCommitsError(
                    f"{topic}-{partition} is worked up to {cursor}, and was up to {self.cursors[key]}"
                )
            self.cursors[key] = cursor

    def overtaken(self, cursors: Mapping[PartitionKey, int]) -> frozenset[PartitionKey]:
        """The partitions that somebody else has worked since they were assigned to us."""
        return frozenset(
            key
            for key, cursor in cursors.items()
            if key in self.worked and cursor > max(self.worked[key], self.in_doubt.get(key, 0))
        )

    def commits(self, ends: Mapping[PartitionKey, int]) -> None:
        """The next thing sent is COMMIT."""
        self.in_doubt.update(ends)

    def committed(self, cursors: Mapping[PartitionKey, int]) -> None:
        """Partitions stand here, and we know of it."""
        for key, cursor in cursors.items():
            self.worked[key] = cursor
            self.cursors[key] = max(cursor, self.cursors.get(key, 0))
            self.in_doubt.pop(key, None)

    def check_number(self, number: int) -> None:
        """A transaction is about to be committed with this number. Raises LostCommitsError if it was taken before."""
        if number <= self.journal:
            raise LostCommitsError(f"the next journal entry is {number}, and there was one with number {self.journal}")

    def has_number(self, number: int) -> None:
        """An entry with this number is committed."""
        self.journal = max(self.journal, number)

    def known(self) -> "Known":
        """What is known at this moment: anything read from now on is not before it."""
        return Known(dict(self.cursors), self.journal)


@dataclass(frozen=True, slots=True)
class Known:
    """A copy of what was known before the database was asked."""

    cursors: Mapping[PartitionKey, int]
    journal: int

    def compare(self, cursors: Iterable[tuple[PartitionKey, int]], journal: int) -> None:
        """Raises LostCommitsError if the database knows less."""
        Memory(dict(self.cursors)).see(dict(cursors))
        if journal < self.journal:
            raise LostCommitsError(f"the newest journal entry is {journal}, and was {self.journal}")
