"""Polls: the next batch is taken while one is worked, and dropped where reading has to go back."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from backorder_allocator.batches import Record
from backorder_allocator.intake import Intake
from backorder_allocator.loading import Context
from backorder_allocator.polling import LIGHT_RECORD, Polls

PARTITION = TopicPartition("orders", 0)
AT_ONCE = 2


class Log:
    """A partition of which the library gives two records at a time, and the cursor that reading goes back to."""

    def __init__(self, records: int) -> None:
        self.end = records
        self.position = self.cursor = 0
        self.asked = 0
        self.went_back = 0
        self.in_hand = False
        self.is_paused = False

    def pause(self, *_partitions: TopicPartition) -> None:
        self.is_paused = True

    def resume(self, *_partitions: TopicPartition) -> None:
        self.is_paused = False

    def record(self, offset: int) -> ConsumerRecord:
        return ConsumerRecord("orders", 0, offset, 0, 0, b"key", b"value", None, 3, 5, ())

    async def library(self, _consumer: AIOKafkaConsumer) -> Sequence[ConsumerRecord]:
        assert not self.in_hand, "the library is asked by two at once"
        self.in_hand = True
        self.asked += 1
        await asyncio.sleep(0)
        first, self.position = self.position, min(self.end, self.position + AT_ONCE)
        self.in_hand = False
        return [self.record(offset) for offset in range(first, self.position)]

    async def to_cursors(self, _consumer: AIOKafkaConsumer, _assigned: set[TopicPartition]) -> None:
        assert not self.in_hand, "reading goes back while the library takes"
        self.went_back += 1
        self.position = self.cursor

    def assignment(self) -> set[TopicPartition]:
        return {PARTITION}


class Bench:
    """Polls over a log. `decoded`: offsets, in the order in which they were decoded."""

    def __init__(self, records: int = 6) -> None:
        self.log = Log(records)
        self.decoded: list[int] = []
        self.broken = False
        self.full: str | None = None
        self.polls = Polls(
            Intake(cast("Any", None), Context(), lambda: None),
            self.log.library, self.log.to_cursors, AT_ONCE, self.why_full, self.decode,
        )  # fmt: skip

    def decode(self, record: ConsumerRecord) -> Record:
        if self.broken:
            raise RuntimeError("a bug")
        self.decoded.append(record.offset)
        return cast("Record", record.offset)

    async def why_full(self) -> str | None:
        return self.full

    async def next(self) -> list[int]:
        return [record.offset for record in await self.polls.next(cast("AIOKafkaConsumer", self.log))]

    async def is_ahead(self) -> None:
        assert self.polls.ahead is not None
        await asyncio.wait({self.polls.ahead.taken})


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_while_a_batch_is_worked_the_next_is_taken_and_decoded(bench: Bench) -> None:
    assert await bench.next() == [0, 1]
    await bench.is_ahead()
    assert bench.decoded == [2, 3]
    bench.polls.worked()
    asked = bench.log.asked
    assert await bench.next() == [2, 3]
    assert list(bench.polls.decoded) == cast("Any", [2, 3])
    assert bench.log.asked == asked
    bench.polls.worked()
    assert await bench.next() == [4, 5]
    bench.polls.worked()
    assert await bench.next() == []
    assert bench.log.went_back == 0


async def test_what_was_taken_ahead_of_a_batch_that_failed_is_dropped_and_read_again(bench: Bench) -> None:
    assert await bench.next() == [0, 1]
    # It is not worked: at once, and with the next batch taken.
    assert await bench.next() == [0, 1]
    await bench.is_ahead()
    assert await bench.next() == [0, 1]
    assert bench.log.went_back == 2
    bench.polls.worked()
    assert await bench.next() == [2, 3]


async def test_where_partitions_come_while_a_batch_is_worked_reading_goes_to_the_cursors_though_it_is_done(
    bench: Bench,
) -> None:
    assert await bench.next() == [0, 1]
    await bench.is_ahead()
    bench.polls.assigned_anew()
    bench.log.cursor = 2
    bench.polls.worked()
    assert await bench.next() == [2, 3]
    assert bench.log.went_back == 1


async def test_nothing_is_taken_ahead_of_a_heavy_batch_and_nothing_heavy_is_decoded_ahead(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = b"x" * (LIGHT_RECORD + 1)
    ordinary = bench.log.record
    monkeypatch.setattr(
        bench.log, "record", lambda offset: replace(ordinary(offset), value=heavy if offset > 1 else b"")
    )
    assert await bench.next() == [0, 1]
    await bench.is_ahead()
    assert bench.decoded == []
    bench.polls.worked()
    assert await bench.next() == [2, 3]
    assert bench.polls.ahead is None


async def test_where_all_input_has_to_stand_still_what_was_taken_ahead_is_dropped(bench: Bench) -> None:
    assert await bench.next() == [0, 1]
    await bench.is_ahead()
    bench.polls.worked()
    bench.full = "too much is not published"
    bench.log.cursor = 2
    assert await bench.next() == []
    assert bench.log.is_paused
    bench.full = None
    assert await bench.next() == [2, 3]
    assert not bench.log.is_paused


async def test_a_bug_in_decoding_ahead_is_left_to_whoever_works_the_batch(bench: Bench) -> None:
    bench.broken = True
    assert await bench.next() == [0, 1]
    await bench.is_ahead()
    bench.polls.worked()
    assert await bench.next() == [2, 3]
    assert bench.polls.decoded == ()


async def test_while_a_batch_is_worked_that_was_not_full_nothing_is_taken_ahead() -> None:
    bench = Bench(records=1)
    assert await bench.next() == [0]
    assert bench.polls.ahead is None


async def test_what_comes_after_nothing_was_there_ahead_is_taken_at_once() -> None:
    bench = Bench(records=2)
    assert await bench.next() == [0, 1]
    await bench.is_ahead()
    bench.polls.worked()
    bench.log.end = 3
    assert await bench.next() == [2]
