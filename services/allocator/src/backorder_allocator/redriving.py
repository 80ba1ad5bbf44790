"""Dead letters driven again through the service's own transaction, one by one and not faster than asked."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import random
from time import monotonic
from typing import Any

import asyncpg

from backorder_allocator import batches, dead_letter_reports, dead_letters, store
from backorder_allocator.batches import Record
from backorder_allocator.dead_letters import DeadLetterRow, Which
from backorder_allocator.decision import Input, Message, Outcome, Rules
from backorder_allocator.intake import DATA_ERRORS, refused
from backorder_allocator.interventions import Asked
from backorder_allocator.loading import Context
from backorder_allocator.statements import Connection
from backorder_schemas import DeadLetter, decode
from backorder_schemas.cloudevents import HEADERS_READ

ANOTHER_STOOD_IN_THE_WAY = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
TRIES = 10
"""Of one letter, where another transaction stands in the way."""
RESOLVED_BEFORE = "resolved before"


@dataclass(slots=True)
class Pace:
    """So many a second at most, evenly; 0: as fast as it goes. What is downstream is not flooded."""

    per_second: float
    free_at: float = 0.0
    """When the next one may begin (monotonic)."""

    async def step(self) -> None:
        if not self.per_second:
            return
        wait = self.free_at - monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        self.free_at = max(self.free_at, monotonic()) + 1 / self.per_second


async def drive_all(
    connection: Connection,
    rules: Rules,
    which: Which,
    *,
    dry_run: bool,
    pace: Pace,
    limit: int | None = None,
    asked: Asked | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Drive all of these again, oldest first, a portion in memory at a time; gives what became of each.

    Those that come meanwhile are left for the next time. What is refused again stays, and is not met twice.
    """
    last = await dead_letter_reports.newest(connection)
    after, done = 0, 0
    while limit is None or done < limit:
        most = 100 if limit is None else min(100, limit - done)
        letters = await dead_letters.find(connection, which, after=after, limit=most)
        letters = [letter for letter in letters if letter.dead_letter_id <= last]
        if not letters:
            return
        async for row in drive(connection, rules, letters, dry_run=dry_run, pace=pace, asked=asked):
            yield row
        after, done = letters[-1].dead_letter_id, done + len(letters)


async def drive(
    connection: Connection,
    rules: Rules,
    letters: Sequence[DeadLetterRow],
    *,
    dry_run: bool,
    pace: Pace | None = None,
    asked: Asked | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Drive dead letters again, oldest first; gives what became of each. Twice has the effect of once.

    With `dry_run` what would become of it now, each by itself; nothing is changed.
    """
    # What is only tried gets no entry in the journal, which would name the rules.
    rules_id = None if dry_run else await store.register_rules(connection, rules)
    context = Context(rules, await store.read_epoch(connection), rules_id)
    for letter in letters:
        if pace is not None:
            await pace.step()
        if letter.resolved_at is not None:
            yield _row(letter, None)
            continue
        record = record_of(letter)
        try:
            outcome = await _patiently(connection, letter, record, context, dry_run, asked)
        except DATA_ERRORS as error:
            # As in a batch: the message that holds a value which can't be stored is what is wrong.
            outcome = await _patiently(connection, letter, refused(record, error), context, dry_run, asked)
        yield _row(letter, outcome)


async def _patiently(
    connection: Connection, letter: DeadLetterRow, record: Record, context: Context, dry_run: bool, asked: Asked | None
) -> Outcome | None:
    """Once more, where another transaction stood in the way: the service works on meanwhile."""
    for tried in range(1, TRIES + 1):
        now = datetime.now(UTC)
        try:
            if dry_run:
                return await batches.try_redrive(connection, letter.dead_letter_id, record, context, now)
            return await batches.redrive(
                connection, letter.dead_letter_id, record, context, now, topics_ago=letter.topics_ago, asked=asked
            )
        except ANOTHER_STOOD_IN_THE_WAY:
            if tried == TRIES:
                raise
            await asyncio.sleep(0.05 * tried * (0.5 + random()))  # noqa: S311
    raise AssertionError("the last try returns or raises")


def _row(letter: DeadLetterRow, outcome: Outcome | None) -> dict[str, Any]:
    return {
        "id": letter.dead_letter_id,
        "topic": letter.topic,
        "outcome": RESOLVED_BEFORE if outcome is None else outcome.kind,
        "reason": "" if outcome is None else outcome.reason,
        "detail": "" if outcome is None else outcome.detail,
    }


def record_of(letter: DeadLetterRow) -> Record:
    """The record as it was read, decoded with today's codec from its bytes and the headers that have a meaning."""
    meant = [header for header in letter.headers if header[0] in HEADERS_READ]
    decoded = decode(letter.topic, letter.key, letter.value, meant)
    read: Input | DeadLetter
    if isinstance(decoded, DeadLetter):
        read = decoded
    elif isinstance(decoded.message, Message):
        read = Input(decoded.message, letter.record_at, decoded.traceparent)
    else:
        read = DeadLetter("wrong_topic", f"{letter.topic} is not read by the allocator")
    return Record(
        letter.topic, letter.partition, letter.offset, letter.record_at, letter.key, letter.value, letter.headers, read
    )
