"""The rules of the database and of the topics together: what is published, what came in, and what became of it.

Nothing in flight is called a violation. The database's snapshot is taken first and the ends of the topics are asked for
after it: what was published by then is below these ends, and what lies beyond the snapshot is looked up in the database
as it is when it is met.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from backorder_allocator import audits, chains, connections
from backorder_allocator.checks import Check
from backorder_allocator.dead_copies import TOPIC as DEAD_LETTERS
from backorder_allocator.dead_copies import DeadCopies
from backorder_allocator.published import IN_DOUBT_SECONDS, OUTPUTS, Published, head
from backorder_allocator.settings import Settings
from backorder_allocator.statements import Connection, run
from backorder_allocator.walking import Extent, Place, Walker, walker
from backorder_allocator.worked import INPUTS, Worked
from backorder_schemas import DeadLetter, decode


async def audit(connection: Connection, settings: Settings) -> list[Check]:
    """Check every rule, of tables and topics, on the live system. Reads only; `connection` is in no transaction.

    Raises NotReadyError if Kafka or a second connection to the database can't be had, ConfigurationError if a topic is
    missing.
    """
    connect = partial(connections.command_connection, settings)
    live = await connections.patiently("PostgreSQL", connect, settings.start_timeout_seconds)
    try:
        # Kafka may let it wait.
        await connection.execute("SET idle_in_transaction_session_timeout = 0")
        async with (
            walker(settings, (*OUTPUTS, DEAD_LETTERS), committed=False) as outputs,
            walker(settings, INPUTS, committed=True) as inputs,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await check(connection, live, outputs, inputs)
    finally:
        await live.close()


async def check(
    snapshot: Connection, live: Connection, outputs: Walker, inputs: Walker, patience: float = IN_DOUBT_SECONDS
) -> list[Check]:
    """Check every rule, in the caller's transaction. `live` is a connection that sees what was committed since.

    `patience`: how many seconds to wait for what a relay repeats after it took over from another.
    """
    at = await head(snapshot)
    published_extents, input_extents = await outputs.extents(), await inputs.extents()
    checks = await audits.check(snapshot)
    purged_before = (await run(snapshot, "audit_purged_before"))[0]["purged_before"]
    published = Published(snapshot, live, at, patience)
    await published.walk(outputs, published_extents)
    letters = DeadCopies(snapshot, live, outputs.prefix, purged_before)
    await letters.walk(outputs, published_extents)
    worked = Worked(snapshot, at.journal, purged_before)
    await worked.walk(inputs, input_extents)
    published.in_log.strangers, letters.kept.strangers = published.strangers, letters.strangers
    published.in_log.excused = published.of_old_epochs
    more = [*published.checks, *letters.checks, *worked.checks]
    for each in more:
        if each.excused and not each.checked:
            each.unchecked = "all that it would look at was purged, compacted away, or is older than the topics keep"
    checks += more
    await chains.explain(snapshot, checks, partial(find_message, inputs, input_extents))
    return checks


async def find_message(
    inputs: Walker, extents: Mapping[Place, Extent], ranges: Sequence[Mapping[str, Any]], id_: str
) -> tuple[str, int, int] | None:
    """Where the message with this id is, among the records that a batch worked; None if it is gone."""
    for each in ranges:
        place = Place(each["topic"], each["partition"])
        extent = extents.get(place, Extent(0, 0))
        async with aclosing(inputs.walk(place, max(each["from"], extent.first), min(each["to"], extent.end))) as walk:
            async for records in walk:
                for record in records:
                    decoded = decode(place.topic, record.key, record.value, record.headers)
                    if not isinstance(decoded, DeadLetter) and decoded.message.id == id_:
                        return place.topic, place.partition, record.offset
    return None
