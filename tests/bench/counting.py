"""What figures count before and after a run: rows, messages, log, statements, and when the last event was published."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer

from tests.e2e.processes import Service, get_text
from tests.e2e.world import OUTPUTS, World

TOLD = ("allocations", "backorders")
"""The topics whose last event ends a run; availability and alerts follow at their own pace."""
PUBLISHED = "published"
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
STATEMENT = re.compile(r'^allocator_statement_seconds_(count|sum)\{statement="(\w+)"\} (\S+)$', re.MULTILINE)


async def wal(world: World) -> int:
    """Bytes of log that the server has written in its life."""
    return await world.number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")


async def waiting(world: World) -> int:
    return await world.number("SELECT count(*) FROM lines WHERE quantity_waiting > 0")


async def counts(world: World) -> dict[str, int]:
    """Rows of each table, and the messages that are published."""
    tables = [row["relname"] for row in await world.database.fetch(TABLES)]
    rows = {name: await world.number(f'SELECT count(*) FROM "{name}"') for name in tables}
    return rows | {PUBLISHED: await published(world, OUTPUTS)}


async def published(world: World, topics: Sequence[str]) -> int:
    return sum((await world.ends(topics)).values())


async def statements(allocator: Service) -> tuple[Counter[str], Counter[str]]:
    """By name, how often it was run, and µs until all its answers."""
    called: Counter[str] = Counter()
    waited: Counter[str] = Counter()
    url = await allocator.address()
    text = await asyncio.to_thread(get_text, f"{url}/metrics")
    for kind, name, value in STATEMENT.findall(text):
        if kind == "count":
            called[name] = int(float(value))
        else:
            waited[name] = int(float(value) * 1e6)
    return called, waited


async def last_told(world: World) -> float:
    """When Kafka took the last event, in seconds since 1970: the topics have LogAppendTime."""
    newest = 0
    async with AIOKafkaConsumer(bootstrap_servers=world.kafka) as consumer:
        partitions = world.partitions(TOLD)
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            if end:
                consumer.seek(partition, end - 1)
                newest = max(newest, (await consumer.getone(partition)).timestamp)
    return newest / 1000
