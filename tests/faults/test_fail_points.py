"""Every fail point is reached by ordinary work, and a process that is broken there goes on by itself or ends loudly."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from backorder_allocator.fail_points import PLACES, VARIABLE
from tests.e2e.messages import Message, order, policy, receipt, rfc3339, supply
from tests.e2e.processes import SCRIPTS, clean_environment, eventually
from tests.e2e.subscriber import follow
from tests.e2e.world import World
from tests.faults.matrix import stays_ready

NOTED = re.compile(r"^fail point (\S+): note$", re.MULTILINE)
OUTSIDE = {"redrive.before_commit"}
"""Reached by another command than `run`."""


def work() -> list[Message]:
    """A little of everything that leads to all places."""
    now = datetime.now(UTC)
    return [
        policy("SOON", backorders="preorder", release_at=rfc3339(now + timedelta(seconds=1))),
        receipt("r-1", "MUG", 3),
        receipt("r-2", "SOON", 3),
        supply("late", "MUG", 10, now - timedelta(days=1)),
        *(order(f"o-{number}", ("MUG", 1), ("SOON", 1)) for number in range(5)),
        Message("orders", b"poison", b"no JSON"),
    ]


async def test_every_place_is_reached_by_ordinary_work(world: World) -> None:
    service = await world.allocator(BACKORDER_FAIL_POINT="*=note")
    await world.tell(*work())
    letter = await world.number("SELECT min(dead_letter_id) FROM dead_letters")
    mended = receipt("mended", "MUG", 1)
    query = "UPDATE dead_letters SET topic = 'stock-received', key = $1, value = $2"
    await world.database.execute(query, mended.key, mended.value)
    driven = await redrive(world, letter)

    async def all_reached() -> bool:
        return {*NOTED.findall(service.said()), *NOTED.findall(driven)} == PLACES

    await eventually(all_reached, f"all of {sorted(PLACES)}", explain=service.explain)
    assert {*NOTED.findall(service.said())} == PLACES - OUTSIDE
    await world.settled()
    await service.end()


async def redrive(world: World, letter: int) -> str:
    """What the command says on stderr."""
    process = await asyncio.create_subprocess_exec(
        SCRIPTS / "backorder-allocator",
        *("dlq", "redrive", str(letter)),
        env=clean_environment() | world.allocator_settings | {VARIABLE: "*=note"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    said = (await process.communicate())[1].decode()
    assert process.returncode == 0, said
    return said


def test_the_list_of_places_is_that_of_the_code() -> None:
    calls: set[str] = set()
    for path in files("backorder_allocator").iterdir():
        if path.name.endswith(".py") and path.name != "fail_points.py":
            calls.update(re.findall(r'reached\("([^"]+)"\)', path.read_text(encoding="utf-8")))
    assert calls == PLACES
    assert len(PLACES) >= 10


@pytest.mark.parametrize(
    ("armed", "ends"),
    [
        ("store.before_commit=cancel", True),
        ("assignment.placed=raise", False),
    ],
)
async def test_a_process_that_is_broken_goes_on_by_itself_or_ends_loudly(
    world: World, armed: str, *, ends: bool
) -> None:
    service = await world.allocator(ready=False, BACKORDER_FAIL_POINT=armed)
    await world.publish(*work())
    if ends:
        assert await service.ended(60) == 1, service.explain()
        (line,) = [line for line in service.lines() if line["level"] == "critical"]
        assert line["event"] == "ends with exit 1, to be started again"
        assert "was cancelled" in line["broken"]
        await world.forget_dead_members()
        service = await world.allocator()
    await world.settled()
    assert await stays_ready(service), service.explain()
    subscriber = await follow(world)
    assert sum(subscriber.released_of(f"o-{number}") for number in range(5)) == 6
    assert await world.number("SELECT count(*) FROM dead_letters") == 1
    await world.audit()
    await service.end()


async def test_a_place_or_deed_that_does_not_exist_is_refused(world: World) -> None:
    service = await world.allocator(ready=False, BACKORDER_FAIL_POINT="store.somewhere=kill")
    assert await service.ended() == 2
    assert "store.somewhere=kill is no place and deed; places: assignment.placed" in service.said()
