"""`doctor`: whether everything that `run` needs is there, each with the way out. Nothing is changed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import asyncpg
from aiokafka.errors import KafkaError

from backorder_allocator import accepting, connections, guards, migrate, topics
from backorder_allocator.errors import ConfigurationError, NotReadyError
from backorder_allocator.looking import look
from backorder_allocator.output import as_json, show_table
from backorder_allocator.settings import Settings
from backorder_allocator.statements import Connection, run

SECONDS = 20.0
"""For each of the things that are reached."""

State = Literal["fine", "note", "wrong"]
"""note: it works, and somebody may want it otherwise."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was looked at. `away`: it could not be reached, so nobody knows."""

    about: str
    state: State
    says: str
    away: bool = False


async def examine(settings: Settings) -> list[Found]:
    """Everything there is to look at; database and Kafka at the same time, each for a bounded time."""
    found = [Found("settings", "fine", "All that is set is known and fits together.")]
    reached: dict[str, Callable[[], Awaitable[Sequence[Found]]]] = {
        "database": lambda: _database(settings),
        "kafka": lambda: _kafka(settings),
    }
    for each in await asyncio.gather(*(_tried(about, work) for about, work in reached.items())):
        found += each
    schema = next((each for each in found if each.about == "schema"), None)
    kafka = [each for each in found if each.about == "kafka"]
    if schema is not None and schema.state == "fine" and all(each.state != "wrong" for each in kafka):
        found += await _tried("guards", lambda: _guards(settings))
    return found


async def _tried(about: str, work: Callable[[], Awaitable[Sequence[Found]]]) -> Sequence[Found]:
    """What `work` finds, or what it can't get past."""
    try:
        async with asyncio.timeout(SECONDS):
            return await work()
    except ConfigurationError as error:
        return [Found(about, "wrong", f"{error}.")]
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        return [Found(about, "wrong", f"The server refuses user, password or name ({type(error).__name__}).")]
    except asyncpg.InsufficientPrivilegeError as error:
        return [Found(about, "wrong", f"The database user lacks a right: {error}.")]
    except (*connections.PASSING_DATABASE_ERRORS, KafkaError, NotReadyError) as error:
        return [Found(about, "wrong", f"It can't be reached: {error or type(error).__name__}.", away=True)]


async def _database(settings: Settings) -> list[Found]:
    connection = await connections.command_connection(settings)
    try:
        row = (await run(connection, "server_settings"))[0]
        found = list(_server(row))
        if any(each.state == "wrong" for each in found):
            return found
        found += await _schema(connection)
        return found
    finally:
        await connection.close(timeout=5)


def _server(row: asyncpg.Record) -> Iterator[Found]:
    about = "database"
    if row["version"] < 160_000:
        yield Found(about, "wrong", "It is older than PostgreSQL 16.")
    if row["is_a_copy"]:
        yield Found(about, "wrong", "It is a read-only copy: ALLOCATOR_DATABASE_URL should name the primary.")
    if not row["encrypted"] and not row["is_this_machine"]:
        yield Found(
            about, "note", "The connection is not encrypted: add ?sslmode=verify-full to ALLOCATOR_DATABASE_URL."
        )
    yield Found(about, "fine", f"PostgreSQL {row['version'] // 10_000} answers.")


async def _schema(connection: Connection) -> list[Found]:
    if missing := await migrate.pending(connection):
        names = ", ".join(migration.name for migration in missing)
        return [Found("schema", "wrong", f"It lacks {names}: run `backorder-allocator migrate`.")]
    found = [Found("schema", "fine", "It is the one of this release.")]
    lacking = [row["what"] for row in await run(connection, "rights_lacking")]
    if lacking:
        return [*found, Found("rights", "wrong", f"The database user may not {'; '.join(lacking)}.")]
    return [*found, Found("rights", "fine", "The database user may read and write every table.")]


async def _kafka(settings: Settings) -> list[Found]:
    admin = await connections.admin(settings)
    try:
        states = [each for each in await topics.compare(admin, settings.topic_prefix) if topics.is_ours(each.topic)]
    finally:
        await admin.close()
    missing = [each.name for each in states if each.partitions is None]
    if missing:
        says = f"Topics are missing: {', '.join(missing)}: run `backorder-allocator topics --apply`."
        return [Found("kafka", "wrong", says)]
    found = [Found("kafka", "fine", f"It answers, and all {len(states)} topics are there.")]
    found += [
        Found("topics", "note", f"{each.name} {'; '.join(each.differences)}.") for each in states if each.differences
    ]
    return found


async def _guards(settings: Settings) -> list[Found]:
    """What `run` would stop for."""
    connection = await connections.command_connection(settings)
    try:
        server = await accepting.server_of(connection)
        before = await accepting.cursors(connection)
        view = await look(settings)
        findings = await accepting.find(connection, before, view, server)
        known = await accepting.known(connection, before, view, server)
    finally:
        await connection.close(timeout=5)
    found = [Found("guards", "wrong", f"{guards.sentence(each)}.") for each in findings]
    if any(each.topic_id is None for each in view.topics.values()):
        says = "Kafka tells no ids of topics: one that is made again shows only by ending before it was worked to."
        found.append(Found("guards", "note", says))
    if server.system_identifier is None or server.timeline is None:
        says = "The server doesn't tell its identifier or timeline, so nobody can say whether it is another one."
        found.append(Found("identity", "note", says))
    elif changed := guards.server_changed(known):
        found.append(Found("identity", "note", f"Since the service last started, {changed}."))
    if not findings:
        found.append(Found("guards", "fine", "Database and topics fit together: `run` would begin."))
    return found


def exit_code(found: Sequence[Found]) -> int:
    """0: all is fine, 1: something is wrong, 3: something could not be reached."""
    if any(each.away for each in found):
        return 3
    return 1 if any(each.state == "wrong" for each in found) else 0


def show(found: Sequence[Found], *, json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {name: value for name, value in asdict(each).items() if name != "away"} for each in found
    ]
    if json:
        as_json(rows)
    else:
        show_table(rows, json=False)
