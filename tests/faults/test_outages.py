"""The database or an output is away under load: it is said once and not a thousand times, and then all goes on."""

import asyncio
from functools import partial

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.e2e.messages import order, receipt
from tests.e2e.processes import eventually, get, get_text
from tests.e2e.world import World
from tests.faults.campaign.proxy import Link
from tests.faults.load import check_nothing_lost_or_doubled, load
from tests.faults.test_lost_replies import through
from tests.faults.test_members import publishing

AWAY_SECONDS = 4.0
LINES_OF_A_PART = 4
"""When trouble begins, when it lasts, and what comes of what was in hand."""
PARTS = ("input", "relay", "planner", "timers", "watch", "purging")
MOST_UNPUBLISHED = 40


async def test_a_database_that_is_away_for_seconds_floods_no_log_and_loses_nothing(world: World) -> None:
    port = int(world.database_url.rpartition(":")[2].partition("/")[0])
    link = Link("database", "postgres", port)
    await link.listen()
    url = through(link, world.database_url)
    sent = load(400, seed=7)
    service = await world.allocator(batch=20, ALLOCATOR_DATABASE_URL=url)
    address = await service.address()
    async with publishing(world, sent.messages):
        await eventually(partial(works, world, 60), "work to begin", explain=service.explain)
        before = len(service.lines())
        await link.close()  # nobody listens any more: connections end, new ones are refused
        await eventually(lambda: not_ready(address, "the database does not answer"), "/readyz to say so")
        await asyncio.sleep(AWAY_SECONDS)
        during = [line for line in service.lines()[before:] if line["level"] != "info"]
        assert await asyncio.to_thread(get, f"{address}/livez") == 200, "a restart would not mend it"
        worked = await cursor_sum(world)
        await link.listen()
        await eventually(partial(works, world, worked), "work to go on", explain=service.explain)
    await world.settled()
    await check_nothing_lost_or_doubled(world, sent)
    said = [f"{line['event']}: {line.get('error')}" for line in during]
    assert 0 < len(during) <= LINES_OF_A_PART * len(PARTS), said
    assert "Traceback" not in service.said()
    await service.ready()
    assert await service.metric("allocator_stopped") == 0
    await service.end()
    await link.close()


async def test_input_stands_still_while_too_much_is_not_published_and_goes_on_by_itself(world: World) -> None:
    service = await world.allocator(batch=20, ALLOCATOR_MAX_UNPUBLISHED=str(MOST_UNPUBLISHED))
    address = await service.address()
    await world.tell(receipt("r", "MUG", 1))
    await takes_messages_of(world, "backorders", at_most_bytes=100)
    await world.publish(*(order(f"o-{number}", ("MUG", 2)) for number in range(100)))
    await eventually(lambda: not_ready(address, "input stands still"), "input to stand still", explain=service.explain)
    said = await asyncio.to_thread(get_text, f"{address}/readyz")
    assert "events are committed and not published, ALLOCATOR_MAX_UNPUBLISHED is 40: it goes on at 20" in said
    assert await service.metric("allocator_stopped") == 1
    unpublished = await service.metric("allocator_unpublished")
    assert unpublished > MOST_UNPUBLISHED
    worked = await cursor_sum(world)
    await world.publish(*(order(f"o-{number}", ("MUG", 2)) for number in range(100, 150)))
    # It is still a member of the group, alive, and takes nothing.
    await eventually(lambda: not_ready(address, "nothing is published"), "the relay to say so", explain=service.explain)
    assert await cursor_sum(world) == worked
    assert await asyncio.to_thread(get, f"{address}/livez") == 200

    await takes_messages_of(world, "backorders", at_most_bytes=1024 * 1024)
    await world.settled()
    assert await cursor_sum(world) == 151
    await service.ready()
    assert await service.metric("allocator_stopped") == 0
    await world.audit()
    await service.end()


async def takes_messages_of(world: World, topic: str, *, at_most_bytes: int) -> None:
    config = {"max.message.bytes": str(at_most_bytes)}
    await world.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, world.prefix + topic, configs=config)])


async def not_ready(address: str | None, why: str) -> bool:
    return why in await asyncio.to_thread(get_text, f"{address}/readyz")


async def cursor_sum(world: World) -> int:
    return sum((await world.cursors()).values())


async def works(world: World, beyond: int) -> bool:
    return await cursor_sum(world) > beyond
