"""What a start would stop for, of what Kafka and the database say: without either."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from backorder_notifier.guard_store import Identity, Server, TopicSeen
from backorder_notifier.guards import Finding, Known, LostMessages, judge, sentence
from backorder_notifier.topics import KafkaView, Published, TopicView

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
OLD, NEW, UNTOLD = UUID(int=1), UUID(int=2), UUID(int=0)
SAFE = {"fsync": False, "full_page_writes": False, "synchronous_commit": False}  # is off?
KNOWN = Known(
    before={("orders", 0): 10, ("orders", 1): 0},
    positions={("orders", 0): 10, ("orders", 1): 0},
    topics={"orders": TopicSeen(OLD, 2, NOON)},
    identity=Identity(1, "7", 1, NOON),
    server=Server("7", 1, SAFE),
    unknown=[],
)


def topic(topic_id: UUID = OLD, first: tuple[int, ...] = (0, 0), end: tuple[int, ...] = (10, 0)) -> KafkaView:
    return KafkaView({"orders": TopicView(topic_id, dict(enumerate(first)), dict(enumerate(end)))}, [])


def whats(found: list[Finding]) -> list[str]:
    return [each.what for each in found]


def test_what_is_as_it_was_stops_nothing() -> None:
    assert judge(topic(), KNOWN) == []


def test_another_server_or_timeline_alone_stops_nothing_and_is_named_where_something_does() -> None:
    moved = replace(KNOWN, server=Server("8", 1, SAFE))
    assert judge(topic(), moved) == []
    published = [Published(0, 5, "1001", 1, 3, b"")]
    (found,) = judge(replace(topic(), published=published), replace(moved, unknown=[0]))
    assert "; the server is another one (system 8, was 7); `run --accept-restored-database`" in sentence(found)
    over = replace(KNOWN, server=Server("7", 2, SAFE), unknown=[0])
    (found,) = judge(replace(topic(), published=published), over)
    assert "went over to timeline 2 from 1" in sentence(found)


@pytest.mark.parametrize(
    ("kafka", "what"),
    [
        (topic(NEW), ["recreated_topic"]),
        (topic(UNTOLD), []),
        (topic(NEW, (0, 0, 0), (10, 0, 0)), ["recreated_topic"]),  # the number of partitions is part of that
        (topic(end=(9, 0)), ["recreated_topic"]),
        (topic(first=(10, 0)), []),
        (topic(first=(11, 0), end=(12, 0)), ["lost_messages"]),
        (topic(first=(0, 5), end=(10, 5)), ["lost_messages"]),  # where nothing was read yet
        (topic(first=(0, 0, 0), end=(10, 0, 0)), ["partition_count"]),
    ],
)
def test_a_topic_that_is_not_as_it_was_is_found(kafka: KafkaView, what: list[str]) -> None:
    assert whats(judge(kafka, KNOWN)) == what


def test_a_topic_made_again_before_anything_was_read_is_nothing_to_decide() -> None:
    nothing_read = replace(KNOWN, before={}, positions={("orders", 0): 0, ("orders", 1): 0})
    assert judge(topic(NEW, end=(0, 0)), nothing_read) == []


def test_what_another_process_does_meanwhile_is_no_finding() -> None:
    # Read on after Kafka was asked for the end, and past what retention has taken since the position was first read.
    assert judge(topic(end=(15, 0)), replace(KNOWN, positions={("orders", 0): 20, ("orders", 1): 0})) == []
    assert judge(topic(first=(12, 0), end=(30, 0)), replace(KNOWN, positions={("orders", 0): 20})) == []


def test_what_is_gone_is_named_by_partition_and_offset() -> None:
    (found,) = judge(topic(first=(14, 0), end=(20, 0)), KNOWN)
    assert found == LostMessages("orders", [(0, 10, 14)])
    assert "(partition 0: offsets 10 to 13)" in sentence(found)


def test_a_topic_never_seen_before_begins_where_its_log_does() -> None:
    new = replace(KNOWN, topics={}, before={}, positions={("orders", 0): 0})
    assert judge(topic(first=(14, 0), end=(20, 0)), new) == []


def test_the_next_epoch_is_above_any_that_was_published() -> None:
    published = [Published(0, 5, "1001", 1, 3, b""), Published(0, 6, "1001", 4, 4, b"")]
    (found,) = judge(replace(topic(), published=published), KNOWN)
    assert "in epoch 5" in sentence(found)
