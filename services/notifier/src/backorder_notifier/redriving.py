"""Dead letters driven again through the service's own transaction, one by one and not faster than asked."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import asyncpg

from backorder_notifier import dead_letter_store
from backorder_notifier.applying import Upgrade
from backorder_notifier.clock import Clock
from backorder_notifier.dead_letter_store import Asked, KeptLetter, PurgedLetters, Which
from backorder_notifier.errors import is_data_error
from backorder_notifier.fail_points import reached
from backorder_notifier.intake import NOT_STORED, Report, apply_batch, in_time
from backorder_notifier.policy import Policy
from backorder_notifier.rows import Record
from backorder_notifier.sorting import Judged, judge, sort
from backorder_notifier.statements import Connection
from backorder_schemas import DeadLetter
from backorder_schemas.cloudevents import HEADERS_READ

_ANOTHER_STOOD_IN_THE_WAY: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
_TRIES: Final = 10  # of one letter, where another transaction stands in the way
_AT_ONCE: Final = 100
_PURGED_AT_ONCE: Final = 1000

OutcomeWord = Literal["applied", "duplicate", "ignored", "dead_letter", "resolved before"]


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of a letter. `reason`: why it is refused still; `detail` may say more of any outcome."""

    dead_letter_id: int
    topic: str
    outcome: OutcomeWord
    reason: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class Pace:
    """So many a second at most, evenly; 0: as fast as it goes. Whoever is downstream is not flooded."""

    per_second: float
    free_at: float = 0.0
    """When the next one may begin (monotonic)."""

    async def step(self) -> None:
        if not self.per_second:
            return
        wait = self.free_at - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        self.free_at = max(self.free_at, time.monotonic()) + 1 / self.per_second


async def drive_all(
    connection: Connection,
    which: Which,
    policy: Policy,
    clock: Clock,
    *,
    dry_run: bool,
    pace: Pace,
    limit: int | None = None,
    asked: Asked | None = None,
) -> AsyncIterator[Redriven]:
    """Drive all of these again, oldest first, a portion in memory at a time; gives what became of each.

    Those that come meanwhile are left for the next time. What is refused again stays, and is not met twice.
    """
    await dead_letter_store.limit_idling(connection)
    last = await dead_letter_store.newest_dead_letter(connection)
    after, done = 0, 0
    while limit is None or done < limit:
        most = _AT_ONCE if limit is None else min(_AT_ONCE, limit - done)
        letters = await dead_letter_store.find_dead_letters(connection, which, after, most)
        letters = [letter for letter in letters if letter.facts.dead_letter_id <= last]
        if not letters:
            return
        for letter in letters:
            await pace.step()
            yield await drive(connection, letter, clock(), policy, dry_run=dry_run, asked=asked)
        after, done = letters[-1].facts.dead_letter_id, done + len(letters)


async def drive(
    connection: Connection,
    letter: KeptLetter,
    now: datetime,
    policy: Policy,
    *,
    dry_run: bool = False,
    asked: Asked | None = None,
) -> Redriven:
    """Drive one again, in one transaction. Twice has the effect of once.

    With `dry_run` what would become of it now: all of it is done, and rolled back. `asked`: who wants it, which is
    written down in the same transaction.
    """
    judged = judged_again(in_time(letter.record, now))
    for tried in range(1, _TRIES + 1):
        try:
            return await _drive_once(connection, letter, judged, now, policy, dry_run, asked)
        except _ANOTHER_STOOD_IN_THE_WAY:
            if tried == _TRIES:
                raise
            await asyncio.sleep(0.05 * tried * random.uniform(0.5, 1.5))  # noqa: S311
        except Exception as error:
            if not is_data_error(error) or judged[1] is NOT_STORED:
                raise
            judged = letter.record, NOT_STORED
    raise AssertionError("the last try returns or raises")


def judged_again(record: Record) -> Judged:
    """As this release reads its bytes, with the headers that have a meaning."""
    meant = tuple(header for header in record.headers if header[0] in HEADERS_READ)
    return record, judge(replace(record, headers=meant))


async def _drive_once(
    connection: Connection,
    letter: KeptLetter,
    judged: Judged,
    now: datetime,
    policy: Policy,
    dry_run: bool,
    asked: Asked | None,
) -> Redriven:
    facts = letter.facts
    transaction = connection.transaction()
    await transaction.start()
    try:
        if not await dead_letter_store.lock_dead_letter(connection, facts.dead_letter_id):
            came = Redriven(facts.dead_letter_id, facts.full_topic, "resolved before")
        elif isinstance(refused := judged[1], DeadLetter):
            detail = refused.detail.replace("\x00", "\\x00")
            came = Redriven(facts.dead_letter_id, facts.full_topic, "dead_letter", refused.reason, detail)
        else:
            # Whatever release refused it, nobody was told of it: what came with an upgrade doesn't matter.
            report = await apply_batch(connection, sort([judged]), now, policy, Upgrade())
            came = Redriven(facts.dead_letter_id, facts.full_topic, *_what_came_of(report))
        if came.outcome != "resolved before":
            await _note(connection, facts, came, now, asked)
        if not dry_run:
            reached("redrive.before_commit")
    except BaseException:
        await transaction.rollback()
        raise
    if dry_run:
        await transaction.rollback()
    else:
        await transaction.commit()
    return came


async def _note(
    connection: Connection, facts: dead_letter_store.Facts, came: Redriven, now: datetime, asked: Asked | None
) -> None:
    refused = (came.reason, came.detail) if came.outcome == "dead_letter" else (None, None)
    await dead_letter_store.note_redrive(connection, facts.dead_letter_id, now, came.outcome, *refused)
    if asked is not None:
        detail = {
            "dead_letter_id": facts.dead_letter_id,
            "topic": facts.full_topic,
            "partition": facts.partition,
            "offset": facts.offset,
            "outcome": came.outcome,
            "reason": came.reason,
            "detail": came.detail,
        }
        await dead_letter_store.record_act(connection, asked, "dead_letter_redriven", detail, now)


def _what_came_of(report: Report) -> tuple[OutcomeWord, None, str | None]:
    """In the words of `dlq redrive`."""
    outcomes = report.outcomes
    if outcomes["waits"]:
        return "applied", None, "waits for an earlier version of its key"
    if outcomes["old_version"]:
        if report.changes:
            return "applied", None, "out of its turn: later versions of its key were applied before"
        return "ignored", None, "this or a later version of its key was applied before"
    if outcomes["old_revision"]:
        return "ignored", None, "this or a later revision was applied before"
    if outcomes["applied"] + outcomes["contact"] and not report.changes:
        return "duplicate", None, None
    return "applied", None, None


async def purge(connection: Connection, before: datetime, asked: Asked | None, now: datetime) -> PurgedLetters:
    """Forget what failed before then and was published. `asked`: the operator who wants it, to be written down.

    In portions, each a transaction: broken off in between, what went is gone and written down.
    """
    purged, number = PurgedLetters(), None
    while True:
        async with connection.transaction():
            portion = await dead_letter_store.purge_dead_letters(connection, before, _PURGED_AT_ONCE)
            if not portion.letters:
                return purged
            purged = PurgedLetters(purged.letters + portion.letters, purged.unresolved + portion.unresolved)
            if asked is not None:
                detail = {
                    "failed_before": before.isoformat(),
                    "purged": purged.letters,
                    "unresolved": purged.unresolved,
                }
                if number is None:
                    number = await dead_letter_store.record_act(connection, asked, "dead_letters_purged", detail, now)
                else:
                    await dead_letter_store.amend_act(connection, number, detail)
