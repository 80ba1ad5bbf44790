"""What stands against a start: Kafka or the database is not what it was when this database was last worked with.

Each finding says in one line what it is, what it means, and which flag of `run` goes on all the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, assert_never

from backorder_notifier.errors import ConfigurationError
from backorder_notifier.guard_store import Identity, Server, TopicSeen
from backorder_notifier.rows import Partition
from backorder_notifier.topics import KafkaView, Published, TopicView

_EXAMPLES: Final = 5

What = Literal["recreated_topic", "partition_count", "lost_messages", "restored_database", "unsafe_durability"]


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says. `before`: positions as they were before Kafka was asked; `unknown`: of what is published,
    by ordinal, what this database can't have published."""

    before: Mapping[Partition, int]
    positions: Mapping[Partition, int]
    topics: Mapping[str, TopicSeen]
    identity: Identity
    server: Server
    unknown: Sequence[int]


@dataclass(frozen=True, slots=True)
class RecreatedTopic:
    """Its id is another, or its log ends before our positions. `beyond`: (partition, its end, our position)."""

    topic: str
    view: TopicView
    beyond: Sequence[tuple[int, int, int]]
    what: Literal["recreated_topic"] = "recreated_topic"


@dataclass(frozen=True, slots=True)
class PartitionCount:
    topic: str
    view: TopicView
    before: int
    what: Literal["partition_count"] = "partition_count"


@dataclass(frozen=True, slots=True)
class LostMessages:
    """`gone`: (partition, first offset that is gone, first that is there)."""

    topic: str
    gone: Sequence[tuple[int, int, int]]
    what: Literal["lost_messages"] = "lost_messages"


@dataclass(frozen=True, slots=True)
class RestoredDatabase:
    """`epoch`: the one to go on with."""

    published: Sequence[Published]
    identity: Identity
    server: Server
    epoch: int
    what: Literal["restored_database"] = "restored_database"


@dataclass(frozen=True, slots=True)
class UnsafeDurability:
    off: Sequence[str]
    what: Literal["unsafe_durability"] = "unsafe_durability"


Finding = RecreatedTopic | PartitionCount | LostMessages | RestoredDatabase | UnsafeDurability


class GuardError(ConfigurationError):
    """A line for each finding that was not accepted."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(sentence, findings)))


def judge(kafka: KafkaView, known: Known) -> list[Finding]:
    """Pure. Nothing is found wrong because another process goes on working meanwhile."""
    found: list[Finding] = []
    for topic, view in kafka.topics.items():
        found += _judge_topic(topic, view, known)
    published = [kafka.published[ordinal] for ordinal in known.unknown]
    published += [each for each in kafka.published if each.epoch > known.identity.epoch]
    if published:
        epoch = max(known.identity.epoch, *(each.epoch for each in published)) + 1
        found.append(RestoredDatabase(published, known.identity, known.server, epoch))
    if off := [name for name, is_off in known.server.unsafe.items() if is_off]:
        found.append(UnsafeDurability(off))
    return found


def _judge_topic(topic: str, view: TopicView, known: Known) -> Iterator[Finding]:
    seen = known.topics.get(topic)
    at = {partition: offset for (name, partition), offset in known.positions.items() if name == topic}
    before = {partition: offset for (name, partition), offset in known.before.items() if name == topic}
    # Behind the position before Kafka was asked, not only behind that of now: another process may have read on.
    beyond = [
        (partition, end, at[partition])
        for partition, end in view.end.items()
        if min(before.get(partition, 0), at.get(partition, 0)) > end
    ]
    another = seen is not None and seen.topic_id.int and view.topic_id.int and seen.topic_id != view.topic_id
    # Where nothing was read yet, there is nothing to mistake.
    if beyond or (another and any(at.values())):
        yield RecreatedTopic(topic, view, beyond)
        return
    if seen is not None and seen.partitions != len(view.end):
        yield PartitionCount(topic, view, seen.partitions)
    gone = [
        (partition, at[partition], first)
        for partition, first in view.first.items()
        # What was never read of a topic that was never seen is nothing that this database has lost.
        if partition in at and at[partition] < first and (seen is not None or at[partition])
    ]
    if gone:
        yield LostMessages(topic, gone)


def sentence(finding: Finding) -> str:
    """One line: what is so, what it means, and the flag that goes on all the same."""
    return f"{_says(finding)}; `run --accept-{finding.what.replace('_', '-')}` {_goes_on(finding)}"


def _says(finding: Finding) -> str:
    match finding:
        case RecreatedTopic(topic, view, beyond):
            ends = _list(f"partition {p}: {end}, ours {ours}" for p, end, ours in beyond)
            how = f"it ends before our position ({ends})" if beyond else f"its id is {view.topic_id} now"
            return (
                f"topic {topic} is not the one that was read, {how}: it was deleted and made again, or Kafka lost"
                " records, and by our positions we would pass over what it has"
            )
        case PartitionCount(topic, view, before):
            return (
                f"topic {topic} has {len(view.end)} partitions, and had {before}: keys are on other"
                " partitions now, and may be read out of order around the change"
            )
        case LostMessages(topic, gone):
            where = _list(f"partition {p}: offsets {a} to {b - 1}" for p, a, b in gone)
            return (
                f"topic {topic} has lost messages that were not read ({where}): retention or a person has deleted them"
            )
        case RestoredDatabase(published, identity, server):
            where = _list(f"{p.partition} at {p.offset}: order {p.order_id} version {p.version}" for p in published)
            return (
                f"the database doesn't know what was published ({len(published)} of the newest on notifications:"
                f" partition {where}): it was restored from a backup, has lost commits, or is another one"
                f"{_moved(identity, server)}"
            )
        case UnsafeDurability(off):
            return (
                f"the database runs with {', '.join(off)} off: a crash may lose what was told, news may never be told,"
                " and mails come twice"
            )
        case _:
            assert_never(finding)


def _goes_on(finding: Finding) -> str:
    match finding:
        case RecreatedTopic():
            return "reads it from its beginning"
        case PartitionCount():
            return "goes on"
        case LostMessages():
            return "goes on behind them, and keeps which they were"
        case RestoredDatabase(epoch=epoch):
            return (
                f"goes on from it in epoch {epoch}, and tells again what it doesn't know to be told, by mails of the"
                " same Message-ID"
            )
        case UnsafeDurability():
            return "lives with that"
        case _:
            assert_never(finding)


def detail(finding: Finding) -> dict[str, Any]:
    """What is kept of a finding that was accepted. No contact data."""
    match finding:
        case RecreatedTopic(topic, view, beyond):
            return {
                "topic": topic,
                "topic_id": str(view.topic_id),
                "partitions": len(view.end),
                "ended_before": [{"partition": p, "end": end, "position": ours} for p, end, ours in beyond],
            }
        case PartitionCount(topic, view, before):
            return {"topic": topic, "partitions": len(view.end), "before": before}
        case LostMessages(topic, gone):
            return {"topic": topic, "gone": [{"partition": p, "from": a, "to": b} for p, a, b in gone]}
        case RestoredDatabase(published, identity, server, epoch):
            examples = [
                {"partition": p.partition, "offset": p.offset, "order_id": p.order_id, "version": p.version}
                for p in published[:_EXAMPLES]
            ]
            return {
                "epoch": epoch,
                "unknown": len(published),
                "examples": examples,
                "system_identifier": server.system_identifier,
                "timeline": server.timeline,
                "system_identifier_before": identity.system_identifier,
                "timeline_before": identity.timeline,
            }
        case UnsafeDurability(off):
            return {"off": list(off)}
        case _:
            assert_never(finding)


def _list(texts: Iterator[str] | Sequence[str]) -> str:
    """The first few."""
    shown = list(texts)
    more = len(shown) - _EXAMPLES
    return "; ".join(shown[:_EXAMPLES]) + (f"; and {more} more" if more > 0 else "")


def _moved(identity: Identity, server: Server) -> str:
    """Whether it is another server, or has been failed over to; alone that stops nothing."""
    if identity.system_identifier and server.system_identifier != identity.system_identifier:
        return f"; the server is another one (system {server.system_identifier}, was {identity.system_identifier})"
    if identity.timeline and server.timeline != identity.timeline:
        return f"; the server went over to timeline {server.timeline} from {identity.timeline}"
    return ""
