"""Processes are killed while much happens: every customer hears each thing once, but for mails that were in flight."""

import asyncio
import random
import signal
from collections import Counter
from typing import Any

import asyncpg

from backorder_schemas import BackorderCancelled, BackorderFilled
from tests.notifier.messages import cancelled, created, filled, moved, placed, rejected
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.world import World

ORDERS = 40
IN_FLIGHT = 4  # NOTIFIER_SEND_CONCURRENCY: mails that a killed process may have handed over without noting it
SEED = 11


def history(order_id: str, chance: random.Random) -> list[Any]:
    """What happens to one order, in order: units wait, come bit by bit, are cancelled or refused, dates move."""
    events: list[Any] = [created(order_id)]
    waiting, version, date = 5, 1, None
    for _ in range(chance.randrange(5)):
        version += 1
        units = chance.randint(1, 2)
        match chance.choice(["filled", "cancelled", "rejected", "moved"]):
            case "filled" if waiting >= units:
                waiting -= units
                events.append(filled(order_id, version, quantity=units, quantity_waiting=waiting))
            case "cancelled" if waiting >= units:
                waiting -= units
                events.append(cancelled(order_id, version, quantity=units, quantity_waiting=waiting))
            case "rejected" if version == 2:
                events.append(rejected(order_id, version, quantity=units))
            case _:
                before, date = date, created().occurred_at.replace(year=2030, month=chance.randint(1, 12))
                events.append(moved(order_id, version, date, previous_promised_at=before))
    return events


async def test_two_notifiers_that_are_killed_again_and_again_tell_everything_once(
    world: World, script: ScriptedServer
) -> None:
    chance = random.Random(SEED)
    histories = {f"o{number}": history(f"o{number}", chance) for number in range(ORDERS)}
    streams = [[placed(order), *events] for order, events in histories.items()]
    kills = [
        "sending.before_mark=kill@5", "teller.after_commit=kill@4",
        "teller.before_commit=kill@6", "sending.before_mark=kill@9",
    ]  # fmt: skip
    dates_too = (
        '{"default": {"quiet": "PT0.2S", "at_most": "PT1S"}, "promise_changed": {"quiet": "PT0.3S", "at_most": "PT1S"}}'
    )

    async def start(place: str | None) -> Any:
        armed: dict[str, Any] = {"BACKORDER_FAIL_POINT": place} if place else {}
        return await world.start(ready=False, NOTIFIER_LEASE="PT4S", NOTIFIER_SMTP_TIMEOUT="PT2S",
                                 NOTIFIER_DEBOUNCE=dates_too, NOTIFIER_DAILY_CAP="1000", **armed)  # fmt: skip

    async def always_one(places: list[str]) -> int:
        """One process after the other, each killed where it is armed; the last one stays. How many were killed."""
        killed = 0
        for place in places:
            process = await start(place)
            if await process.stop(0, 90) == -signal.SIGKILL:
                killed += 1
        await start(None)
        return killed

    async def happens() -> None:
        rest = [list(stream) for stream in streams]
        while rest:
            stream = chance.choice(rest)
            await world.send(stream.pop(0))
            if not stream:
                rest.remove(stream)
            await asyncio.sleep(chance.choice([0, 0, 0.02]))
        # Who is armed is killed by work alone: there is some until the last one is.
        while not killing.done():
            order = f"more-{len(histories)}"
            histories[order] = [created(order)]
            await world.send(placed(order), *histories[order])
            await asyncio.sleep(0.05)

    killing = asyncio.gather(always_one(kills[:2]), always_one(kills[2:]))
    await happens()
    assert sum(await killing) == len(kills)
    verdicts = await world.decided(sum(len(events) for events in histories.values()), 90)
    assert "not_told" not in {state for state, reason in verdicts.values() if reason not in DATES_NOT_TOLD}

    ids = Counter(mail["Message-ID"] for mail in script.accepted)
    rows = await world.deliveries()
    sent = [row for row in rows if row.state == "sent"]
    assert max(ids.values()) <= 1 + len([place for place in kills if "before_mark" in place])
    assert sum(ids.values()) - len(ids) <= IN_FLIGHT * len(kills)
    # A copy goes out under the id of the first, also where its message was replaced before anybody knew it was taken.
    known = {f"<{delivery_id}@example.org>": state for delivery_id, state in await states(world)}
    assert ids.keys() <= known.keys()
    assert {mail_id for mail_id, state in known.items() if state == "sent"} <= ids.keys()
    assert len(ids) <= len(sent) + IN_FLIGHT * len(kills)
    for mail_id in [mail_id for mail_id, count in ids.items() if count > 1]:
        copies = [mail for mail in script.accepted if mail["Message-ID"] == mail_id]
        assert len({(copy["Subject"], body(copy)) for copy in copies}) == 1
    for order, events in histories.items():
        told = [event for row in sent if row.order_id == order for event in row.about]
        assert len(told) == len(set(told))
        must = {event.id for event in events if isinstance(event, BackorderFilled | BackorderCancelled)}
        assert must | {f"{order}/v1"} <= set(told)
    code, out, err = await world.command("audit")
    assert code == 0, out + err


DATES_NOT_TOLD = {"back_to_what_was_told", "same_day", "too_small", "no_longer_waits", "still_unknown"}


async def states(world: World) -> list[tuple[Any, str]]:
    """(delivery id, state)"""
    connection = await asyncpg.connect(world.database)
    try:
        return [tuple(row) for row in await connection.fetch("SELECT delivery_id, state FROM deliveries")]
    finally:
        await connection.close()


def body(mail: Any) -> str:
    return "\n".join(str(part.get_content()) for part in mail.walk() if not part.is_multipart())
