"""The named places: each is reached by ordinary work, and what breaks there breaks nothing for the customers.

A few of them here; all, in all four ways, by `make faults-matrix`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from backorder_notifier.fail_points import PLACES, armed
from tests.e2e.processes import Service, eventually
from tests.faults.matrix import Servers
from tests.faults.matrix_notifier import NotifierScene, scene

IN_A_COMMAND = "redrive.before_commit"
ALL = ",".join(f"{place}=raise" for place in sorted(PLACES - {IN_A_COMMAND}))

MakeScene = Callable[[], Awaitable[NotifierScene]]


@pytest.fixture
async def make_scene(kafka: str, postgres: Any, migrated: str, tmp_path: Path) -> AsyncIterator[MakeScene]:
    """Makes scenes, each with a database, topics and a mail server of its own."""
    servers = Servers(kafka, postgres, tmp_path, {"notifier": migrated})
    async with AsyncExitStack() as stack:
        made = 0

        async def make() -> NotifierScene:
            nonlocal made
            made += 1
            folder = tmp_path / f"scene-{made}"
            folder.mkdir()
            return await stack.enter_async_context(scene(servers, f"p{uuid4().hex[:8]}.", folder, 0))

        yield make


async def test_every_place_is_reached_by_ordinary_work(make_scene: MakeScene) -> None:
    """A place that nothing reaches would prove nothing in the matrix."""
    played = await make_scene()
    await played.feed()
    service = await played.start("*=note")
    await played.settle()
    command = await played.redrive("*=note")
    _, err = await command.communicate()
    await service.end()
    said = service.said() + err.decode()
    assert {place for place in PLACES if f"fail point {place}: note" not in said} == set()


async def test_a_bug_at_every_place_once_loses_nothing_and_nobody_hears_twice(make_scene: MakeScene) -> None:
    played = await make_scene()
    await played.feed()
    service = await played.start(ALL)
    await said(service, PLACES - {IN_A_COMMAND, "house.before_commit"}, "raise")
    await played.feed()
    await played.settle()
    await said(service, {"house.before_commit"}, "raise")
    await played.prove()
    await service.end()


CANCELLED_AT = ("assignment.placed", "intake.before_commit", "relay.sent")


async def test_a_task_that_is_cancelled_ends_the_process_loudly(make_scene: MakeScene) -> None:
    """It would go on without it else, and look healthy."""
    scenes = [await make_scene() for _ in CANCELLED_AT]
    await asyncio.gather(*(each.feed() for each in scenes))
    services = await asyncio.gather(
        *(each.start(f"{place}=cancel") for place, each in zip(CANCELLED_AT, scenes, strict=True))
    )
    ends = await asyncio.gather(*(service.ended(60) for service in services))
    assert dict(zip(CANCELLED_AT, ends, strict=True)) == dict.fromkeys(CANCELLED_AT, 1)
    for place, service in zip(CANCELLED_AT, services, strict=True):
        assert f"fail point {place}: cancel" in service.said()
        assert "which it never should" in service.said(), service.explain()


async def said(service: Service, places: set[str] | frozenset[str], deed: str) -> None:
    async def all_said() -> bool:
        return all(f"fail point {place}: {deed}" in service.said() for place in places)

    await eventually(all_said, f"all of {sorted(places)}", 60, service.explain)


@pytest.mark.parametrize("wish", ["nowhere=kill", "relay.sent=explode", "relay.sent=kill@soon", "relay.sent"])
def test_a_wish_that_can_not_be_understood_ends_the_process(wish: str) -> None:
    with pytest.raises(SystemExit) as end:
        armed(wish)
    assert end.value.code == 2
