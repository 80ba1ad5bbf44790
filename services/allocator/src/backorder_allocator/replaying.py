"""`replay`: what happened is repeated in an empty database from the topics' bytes, and must come out the same.

Locks are held until COMMIT, and the number of a journal entry is taken last before it: whatever a transaction read was
committed by entries of lower numbers. So they are repeated one by one, each by the function that did it, with the time
and the rules it says, and have the same to decide from. Only ids that a database gives by itself are others.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
from aiokafka.errors import KafkaError
from pydantic import SecretStr

from backorder_allocator import (
    accepting,
    batches,
    connections,
    dead_letters,
    migrate,
    planning,
    redriving,
    store,
    telemetry,
    words,
)
from backorder_allocator.batches import Record
from backorder_allocator.comparing import Comparison
from backorder_allocator.dead_letters import Which
from backorder_allocator.decision import Rules
from backorder_allocator.errors import ConfigurationError, NotReadyError
from backorder_allocator.intake import DATA_ERRORS, refused
from backorder_allocator.loading import Context
from backorder_allocator.remembering import PartitionKey
from backorder_allocator.rereading import kafka_records
from backorder_allocator.settings import Settings
from backorder_allocator.state import PoolKey
from backorder_allocator.statements import Connection, Rows, run
from backorder_allocator.timers import timer_of

log = telemetry.logger(__name__)

ENTRIES_AT_ONCE = 100
"""So many are repeated before their events are compared."""
SAY_EVERY_SECONDS = 2.0

Say = Callable[[str], None]


class Records(Protocol):
    """Where the bytes of input topics come from."""

    async def read(self, topic: str, partition: int, start: int, end: int) -> list[Record]:
        """The records there are from `start` up to, but not with, `end`. Each partition is read forward."""

    async def extent(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset there is, and the one behind the last."""


class NotRepeatedError(Exception):
    """A journal entry can't be repeated: what comes after it would be compared in vain."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction, as the journal has it."""

    number: int
    kind: str
    what: Any
    at: datetime
    rules_id: int | None
    """None: it is of a version that did not say."""
    records: int
    """How many were worked."""
    epoch: int | None
    """Of its event ids; None where it has no event."""

    @property
    def words(self) -> str:
        return f"journal entry {self.number} ({words.of_cause(self.kind, self.what)})"


@dataclass(slots=True)
class Replay:
    """Repeats journal entries of `source` in `target`, one after the other."""

    source: Connection
    target: Connection
    records: Records
    rules: Rules
    """For entries that don't say which were in force."""
    say: Say
    compared: Comparison = field(default_factory=Comparison)
    context: Context = field(default_factory=Context)
    rules_by_id: dict[int, tuple[Rules, int]] = field(default_factory=dict)
    """By number in the source: rules and their number in the target."""
    said_at: float = field(default_factory=monotonic)

    async def go_on(self, until: int) -> bool:
        """Repeat entries up to this number; compare what they say and told. False: one of them can't be repeated."""
        done = self.compared.repeated
        while done < until:
            problem = await self.repeat_some(await run(self.source, "replay_journal", done, until, ENTRIES_AT_ONCE))
            async with self.source.transaction(), self.target.transaction():
                await self.compared.log(self.source, self.target, done, self.compared.repeated)
            if problem is not None:
                self.compared.differs(self.compared.entries, str(problem))
                return False
            done = self.compared.repeated
            if monotonic() - self.said_at > SAY_EVERY_SECONDS:
                self.said_at = monotonic()
                events = sum(each.compared for each in self.compared.events.values())
                self.say(f"repeated {done} of {until} journal entries, compared {events} events")
        return True

    async def repeat_some(self, rows: Rows) -> NotRepeatedError | None:
        """Repeat entries; gives why not all of them."""
        try:
            for row in rows:
                await self.repeat(_entry(row))
                self.compared.repeated = row["number"]
        except NotRepeatedError as error:
            return error
        return None

    async def repeat(self, entry: Entry) -> None:
        """Raises NotRepeatedError where it can't be done, or does nothing here."""
        await self.take_context(entry)
        try:
            match entry.kind:
                case "batch":
                    await self.work(entry)
                case "redrive":
                    await self.redrive(entry)
                case "timer":
                    due = datetime.fromisoformat(entry.what["due"])
                    await batches.fire(self.target, timer_of(entry.what), due, self.context, entry.at)
                case "planner":
                    at = datetime.fromisoformat(entry.what["at"])
                    pools = [PoolKey(*names) for names in entry.what["pools"]]
                    await planning.plan_once(self.target, pools, at, entry.what["most"], self.context)
                case "accepted":
                    await self.accept(entry)
                case other:
                    raise NotRepeatedError(f"this version of backorder-allocator doesn't know the kind {other}")
        except DATA_ERRORS as error:
            # Its text may quote the value, which may be an address.
            raise NotRepeatedError(f"{entry.words} can't be repeated: {type(error).__name__}") from error
        except (*connections.PASSING_DATABASE_ERRORS, KafkaError, ConfigurationError, NotReadyError, NotRepeatedError):
            raise
        except Exception as error:
            log.error("a journal entry can't be repeated", entry=entry.number, exc_info=error)
            raise NotRepeatedError(f"{entry.words} can't be repeated: {type(error).__name__}") from error
        if await newest(self.target) != entry.number:
            raise NotRepeatedError(f"{entry.words} finds nothing to do when it is repeated")

    async def take_context(self, entry: Entry) -> None:
        """The rules that were in force, and the epoch; what was remembered of pools and policies stays."""
        rules, rules_id = self.rules, None
        if entry.rules_id is not None:
            if entry.rules_id not in self.rules_by_id:
                known = await store.rules_by_id(self.source, entry.rules_id)
                self.rules_by_id[entry.rules_id] = known, await store.register_rules(self.target, known)
            rules, rules_id = self.rules_by_id[entry.rules_id]
        self.context = replace(self.context, rules=rules, rules_id=rules_id, epoch=entry.epoch or self.context.epoch)

    async def work(self, entry: Entry) -> None:
        records: list[Record] = []
        for span in entry.what:
            records += await self.records.read(span["topic"], span["partition"], span["from"], span["to"])
        if len(records) != entry.records:
            raise ConfigurationError(await self.what_is_gone(entry, len(records)))
        await store.add_cursors(self.target, {(record.topic, record.partition) for record in records})
        try:
            await batches.work(self.target, records, self.context, entry.at)
        except DATA_ERRORS as error:
            if len(records) > 1:
                raise
            await batches.work(self.target, [refused(records[0], error)], self.context, entry.at)

    async def what_is_gone(self, entry: Entry, found: int) -> str:
        wanted: dict[PartitionKey, tuple[int, int]] = {}
        for span in entry.what:
            place = (span["topic"], span["partition"])
            wanted[place] = wanted.get(place, (span["from"], 0))[0], span["to"]
        said = []
        for (topic, partition), (start, to) in wanted.items():
            first, end = await self.records.extent(topic, partition)
            there = f"offsets {first} to {end - 1} are there" if first < end else "none is there"
            said.append((start < first or end < to, f"{topic}-{partition} offsets {start} to {to - 1} ({there})"))
        lacking = [what for is_lacking, what in said if is_lacking] or [what for _, what in said]
        return (
            f"journal entry {entry.number} worked {entry.records} records, and {found} can be read: "
            f"{', '.join(lacking)}. A replay needs all that was ever worked: see the retention of the input topics"
        )

    async def accept(self, entry: Entry) -> None:
        """What a person decided then is done again: work goes on behind a hole, or in another epoch."""
        async with self.target.transaction():
            await accepting.carry_out(self.target, entry.what, entry.at, self.context.memory)
        if entry.what["finding"] == "restored_database":
            self.context = replace(self.context, epoch=entry.what["epoch"])

    async def redrive(self, entry: Entry) -> None:
        place = entry.what
        topics_ago = place.get("topics_ago", 0)
        where = (place["topic"], place["partition"], place["offset"], topics_ago)
        rows = await run(self.target, "replay_letter", *where)
        if not rows:
            raise NotRepeatedError(f"{entry.words}: its record is no dead letter when it is repeated")
        which = Which(ids=[rows[0]["dead_letter_id"]], resolved_too=True)
        (letter,) = await dead_letters.find(self.target, which)
        drive = partial(
            batches.redrive,
            self.target,
            letter.dead_letter_id,
            context=self.context,
            now=entry.at,
            topics_ago=topics_ago,
        )
        record = redriving.record_of(letter)
        try:
            await drive(record)
        except DATA_ERRORS as error:
            await drive(refused(record, error))


async def replay(
    source: Connection, target: Connection, records: Records, rules: Rules, until: int | None, say: Say
) -> Comparison:
    """Repeat the journal of `source` in the empty `target`, and compare: with `until`, the log up to that number alone.

    While the source works on, its journal grows. What it gets meanwhile is repeated from the snapshot in which the
    state is compared, which is so taken as late as possible.
    """
    work = Replay(source, target, records, rules, say)
    end = await newest(source)
    if until is not None and until > end:
        raise ConfigurationError(f"--until {until}: the journal ends at {end}")
    await _require_bytes(source, end if until is None else until)
    went = await work.go_on(end if until is None else until)
    if went and until is None:
        async with source.transaction(isolation="repeatable_read", readonly=True):
            if await work.go_on(await newest(source)):
                async with target.transaction():
                    await work.compared.state(source, target)
    return work.compared


async def _require_bytes(source: Connection, until: int) -> None:
    """Raises ConfigurationError if a topic was made again after entries worked it: its offsets mean other bytes now."""
    for row in await run(source, "replay_recreated", until):
        raise ConfigurationError(
            f"journal entry {row['number']} says that {', '.join(row['topics'])} was deleted and made again: what the "
            "entries before it worked is gone with the old topic, and can't be repeated"
        )


async def replay_into(source: Connection, *, settings: Settings, into: str, until: int | None, say: Say) -> Comparison:
    """`replay` into a database by its URL, which must be empty, from the topics in Kafka.

    Raises ConfigurationError for another database, or where records are gone; NotReadyError where one can't be reached.
    """
    if urlsplit(into).scheme not in {"postgresql", "postgres"}:
        raise ConfigurationError("--into does not begin with postgresql://")
    other = settings.model_copy(update={"database_url": SecretStr(into)})
    connect = partial(connections.command_connection, other)
    target = await connections.patiently("the database to replay into", connect, settings.start_timeout_seconds)
    try:
        await prepare(source, target)
        async with kafka_records(settings) as records:
            return await replay(source, target, records, settings.rules(), until, say)
    finally:
        await target.close()


async def prepare(source: Connection, target: Connection) -> None:
    """Make sure that the target is another database and empty; make its tables."""
    (ours,), (theirs,) = await run(source, "replay_target"), await run(target, "replay_target")
    if all(ours[name] == theirs[name] for name in ("server", "database", "schema")):
        raise ConfigurationError("--into is the database of the service itself: name an empty one")
    if theirs["schema"] is None:
        raise ConfigurationError("--into has no schema to make tables in: see its search_path")
    if theirs["tables"]:
        some = ", ".join(theirs["tables"])
        raise ConfigurationError(f"--into is not empty, it has tables ({some}, …): name an empty database")
    await migrate.apply(target)
    # Nothing is lost that could not be replayed again.
    await target.execute("SET synchronous_commit = off")
    for each in (source, target):
        # One waits for the other.
        await each.execute("SET idle_in_transaction_session_timeout = 0")


async def newest(connection: Connection) -> int:
    """The number of the newest journal entry."""
    return int((await run(connection, "replay_head"))[0]["journal"])


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(
        row["number"],
        row["kind"],
        json.loads(row["what"]),
        row["at"],
        row["rules_id"],
        row["records"],
        row["epoch"],
    )
