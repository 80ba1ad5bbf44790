"""Start-up guards: what must not be gone past without a person's word, each as one line that says what it costs.

Judged from what the database remembers and what Kafka has. Work goes on elsewhere meanwhile, so the order of reading
matters: cursors, then Kafka, then the database again. A cursor that was read before an end can't lie behind it by
itself; a first offset is compared with the cursor read after it; and what is published was committed before.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from backorder_allocator.errors import ConfigurationError
from backorder_allocator.looking import INPUTS, OUTPUTS, Published, View
from backorder_allocator.remembering import PartitionKey

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Server:
    """The PostgreSQL server, as far as it may be asked."""

    system_identifier: str | None
    timeline: int | None
    unsafe: tuple[str, ...] = ()
    """Settings by which a crash can lose what was acknowledged."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A topic as it was last found right; `first`: where its partitions began when each was seen first."""

    topic_id: str | None
    first: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What the database remembers."""

    cursors_before: Mapping[PartitionKey, int]
    """Read before Kafka was asked."""
    cursors: Mapping[PartitionKey, int]
    """Read afterwards."""
    topics: Mapping[str, Seen]
    epoch: int
    has_published: bool
    not_in_log: Sequence[Published]
    """What is on the topics in this epoch and not in the log."""
    server: Server
    server_before: Server | None
    """As last seen."""


@dataclass(frozen=True, slots=True)
class RecreatedTopic:
    """Topics were deleted and made again: cursors, or what was published, speak of the old ones."""

    topics: Sequence[str]
    cursors: Mapping[PartitionKey, int]
    """Of inputs among them, where something was worked."""
    ends: Mapping[PartitionKey, int] = field(default_factory=dict)
    """Of those known only by an end that lies before the cursor."""


@dataclass(frozen=True, slots=True)
class PartitionCount:
    changed: Mapping[str, tuple[int, int]]
    """Topic → how many partitions it had and has."""


@dataclass(frozen=True, slots=True)
class LostMessages:
    gone: Mapping[PartitionKey, tuple[int, int]]
    """From the cursor up to, but not with, the first offset that there is."""


@dataclass(frozen=True, slots=True)
class RestoredDatabase:
    unknown: Sequence[Published]
    epoch: int
    """To go on with: higher than any that was published."""
    server_changed: str | None


@dataclass(frozen=True, slots=True)
class UnsafeDurability:
    settings: Sequence[str]
    system_identifier: str | None


Finding = RecreatedTopic | PartitionCount | LostMessages | RestoredDatabase | UnsafeDurability


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a person said may be gone past, by the flags of `run`."""

    recreated_topic: bool = False
    partition_count: bool = False
    lost_messages: bool = False
    restored_database: bool = False
    unsafe_durability: bool = False
    why: str | None = None

    def covers(self, finding: Finding) -> bool:
        match finding:
            case RecreatedTopic():
                return self.recreated_topic
            case PartitionCount():
                return self.partition_count
            case LostMessages():
                return self.lost_messages
            case RestoredDatabase():
                return self.restored_database
            case UnsafeDurability():
                return self.unsafe_durability
            case _:
                assert_never(finding)


NOTHING = Accepted()


class GuardError(ConfigurationError):
    """The process must not begin: one line for each finding."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(sentence(finding) for finding in findings))
        self.findings = findings


def judge(known: Known, view: View) -> list[Finding]:
    """Everything that needs a person's word, each kind once."""
    found: list[Finding] = []
    recreated = _recreated(known, view)
    if recreated.topics:
        found.append(recreated)
    changed = {
        name: (len(known.topics[name].first), now.partitions)
        for name, now in view.topics.items()
        if name in known.topics and len(known.topics[name].first) != now.partitions
    }
    if changed:
        found.append(PartitionCount(changed))
    if gone := _gone(known, view, recreated.topics):
        found.append(LostMessages(gone))
    ahead = [each for each in view.published if each.epoch > known.epoch]
    if unknown := [*ahead, *known.not_in_log]:
        newest = max(known.epoch, *(each.epoch for each in unknown))
        found.append(RestoredDatabase(unknown, newest + 1, server_changed(known)))
    if known.server.unsafe:
        found.append(UnsafeDurability(known.server.unsafe, known.server.system_identifier))
    return found


def _recreated(known: Known, view: View) -> RecreatedTopic:
    topics: set[str] = set()
    ends: dict[PartitionKey, int] = {}
    worked = {key: cursor for key, cursor in known.cursors_before.items() if cursor > 0}
    in_use = {topic for topic, _ in worked} | (set(OUTPUTS) if known.has_published else set())
    for name, now in view.topics.items():
        before = known.topics[name].topic_id if name in known.topics else None
        if name in in_use and before is not None and now.topic_id is not None and before != now.topic_id:
            topics.add(name)
    for (name, partition), cursor in sorted(worked.items()):
        if name in view.topics and name not in topics and view.topics[name].end.get(partition, cursor) < cursor:
            ends[name, partition] = view.topics[name].end[partition]
    topics |= {name for name, _ in ends}
    cursors = {key: cursor for key, cursor in sorted(known.cursors.items()) if key[0] in topics and cursor > 0}
    return RecreatedTopic(sorted(topics), cursors, ends)


def _gone(known: Known, view: View, recreated: Collection[str]) -> dict[PartitionKey, tuple[int, int]]:
    """What was deleted before anybody worked it, by partition of an input."""
    gone: dict[PartitionKey, tuple[int, int]] = {}
    for name in INPUTS:
        if name in recreated or name not in view.topics:
            continue
        seen = known.topics[name].first if name in known.topics else ()
        for partition, first in sorted(view.topics[name].first.items()):
            # Where nothing was worked yet, work begins at what there was when the partition was seen first.
            begins = known.cursors.get((name, partition), 0) or (seen[partition] if partition < len(seen) else first)
            if begins < first:
                gone[name, partition] = (begins, first)
    return gone


def server_changed(known: Known) -> str | None:
    """How the server is another than last time; None where it is the same, or nobody knows."""
    before, now = known.server_before, known.server
    if before is None:
        return None
    if (
        None not in {before.system_identifier, now.system_identifier}
        and before.system_identifier != now.system_identifier
    ):
        return f"the server is another one (system identifier {now.system_identifier}, was {before.system_identifier})"
    if None not in {before.timeline, now.timeline} and before.timeline != now.timeline:
        return f"the server went over to timeline {now.timeline} from {before.timeline}"
    return None


def sentence(finding: Finding) -> str:
    """One line: what is so, what it means, and the flag that goes past it."""
    match finding:
        case RecreatedTopic(topics=topics, cursors=cursors, ends=ends):
            remade = [name for name in topics if name not in {topic for topic, _ in ends}]
            said = (
                [f"{', '.join(remade)} {'was' if len(remade) == 1 else 'were'} deleted and made again"]
                if remade
                else []
            )
            said += [
                f"{name}-{partition} ends at offset {end} and was worked up to {cursors[name, partition]}"
                for (name, partition), end in ends.items()
            ]
            means = []
            if set(topics) & set(INPUTS):
                means.append("the positions in this database mean other messages now")
            if set(topics) & set(OUTPUTS):
                means.append("what was published there is gone")
            cost = "begins at the beginning of these topics" if cursors else "goes on"
            named = "topics" if len(remade) > 1 else "topic"
            return f"{named} {'; '.join(said)}: {' and '.join(means)}; `run --accept-recreated-topic` {cost}"
        case PartitionCount(changed=changed):
            said = [f"{name} has {now} partitions and had {was}" for name, (was, now) in changed.items()]
            return (
                f"topic {', topic '.join(said)}: keys are on other partitions now, so what belongs to one key may be "
                "worked or read out of order around the change; `run --accept-partition-count` goes on"
            )
        case LostMessages(gone=gone):
            return (
                f"messages are gone that were never worked: {_spans(gone)}: retention or a person has deleted them; "
                "`run --accept-lost-messages` goes on behind them, and the journal keeps which they were"
            )
        case RestoredDatabase(unknown=unknown, epoch=epoch, server_changed=changed):
            first = unknown[0]
            example = f"{first.topic} {first.key} version {first.version}, epoch {first.epoch}"
            server = f"; {changed}" if changed else ""
            count = f"{len(unknown)} of the newest records" if len(unknown) > 1 else "a record"
            return (
                f"the database is older than what was published from it: {count} on the topics is not in its log "
                f"(such as {example}){server}: it was restored from a backup, or is another one; "
                f"`run --accept-restored-database` goes on from it as epoch {epoch}, and reads again what it has not "
                "worked: units may go to others than was published"
            )
        case UnsafeDurability(settings=settings):
            return (
                f"PostgreSQL runs with {', '.join(settings)}: a crash can lose what was acknowledged and published, "
                "or all; `run --accept-unsafe-durability` lives with that"
            )
        case _:
            assert_never(finding)


def _spans(gone: Mapping[PartitionKey, tuple[int, int]]) -> str:
    said = [f"{topic}-{partition} offsets {start} to {to - 1}" for (topic, partition), (start, to) in gone.items()]
    more = f" and {len(said) - EXAMPLES} more partitions" if len(said) > EXAMPLES else ""
    return ", ".join(said[:EXAMPLES]) + more
