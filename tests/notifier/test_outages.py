"""No mail can go, or a backlog comes at once: nothing is lost, nothing floods, and what is told is how things stand."""

from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest

from tests.notifier.messages import NOON, cancelled, created, delivered, filled, moved, placed, shipped
from tests.notifier.running import Running, about, by_mail, rows_of, running, text_of
from tests.notifier.smtp_script import ScriptedServer, scripted_server

DAY = timedelta(days=1)
FIRST, SECOND, THIRD = NOON + 20 * DAY, NOON + 30 * DAY, NOON + 40 * DAY
PER_SECOND = 4.0
ORDERS = [f"o{number}" for number in range(40)]
LATE = "We write to you later than we should, and we are sorry for that."


def order_of(mail: EmailMessage) -> str:
    return str(mail["Subject"]).removeprefix("Order ").partition(":")[0]


def placed_by_their_own(order_id: str, **fields: Any) -> Any:
    """An order of a customer who has no other."""
    customer = {"customer_id": f"c-{order_id}", "email": f"{order_id}@example.org"} | fields.pop("customer", {})
    return placed(order_id, customer=customer, **fields)


async def all_are_told_of(told: Running, date: Any) -> None:
    await told.reads(*(placed_by_their_own(order) for order in ORDERS))
    await told.reads(*(created(order, promised_at=date) for order in ORDERS))
    await told.passes(minutes=10)
    assert sum(told.sent_at.values()) == len(ORDERS)
    told.sent_at.clear()


async def much_happens(told: Running, hours: float) -> None:
    """All dates move, some twice, every fifth order is filled, every fifth cancelled, new ones come."""
    await told.passes(hours=hours / 12)
    await told.reads(*(moved(order, 2, SECOND, previous_promised_at=FIRST) for order in ORDERS))
    await told.passes(hours=hours / 12)
    await told.reads(*(filled(order, 3, quantity=2, quantity_waiting=3) for order in ORDERS[0::5]))
    await told.reads(*(cancelled(order, 3) for order in ORDERS[1::5]))
    await told.reads(*(placed_by_their_own(f"new-{order}") for order in ORDERS[:10]))
    await told.reads(*(created(f"new-{order}", promised_at=FIRST) for order in ORDERS[:10]))
    await told.passes(hours=hours / 12)
    await told.reads(*(moved(order, 4, THIRD, previous_promised_at=SECOND) for order in ORDERS[0::5]))
    await told.reads(*(moved(order, 3, THIRD, previous_promised_at=SECOND) for order in ORDERS[2::5]))
    await told.passes(hours=hours * 3 / 4)


async def says_how_things_stand(mails: list[EmailMessage], *, late: bool) -> None:
    assert Counter(order_of(mail) for mail in mails) == dict.fromkeys(
        [*ORDERS, *(f"new-{order}" for order in ORDERS[:10])], 1
    )
    for mail in mails:
        order, rows = order_of(mail), set(rows_of(mail))
        assert (LATE in text_of(mail)) == late
        if order in ORDERS[0::5]:
            assert {"Arrived, ready to ship: 2", "Still to come: 3", "Expected: December 12, 2026"} <= rows
        elif order in ORDERS[1::5]:
            assert "Cancelled: 5" in rows
            assert not any(row.startswith(("Expected", "Still to come: 5")) for row in rows)
        elif order in ORDERS[2::5]:
            assert {"Still to come: 5", "Expected: December 12, 2026", "Previous date: November 22, 2026"} <= rows
        elif order.startswith("new-"):
            assert {"Ready now: 10", "Still to come: 5", "Expected: November 22, 2026"} <= rows
        else:
            assert {"Still to come: 5", "Expected: December 2, 2026", "Previous date: November 22, 2026"} <= rows


def nothing_floods(told: Running) -> None:
    seconds = sorted(told.sent_at)
    assert max(told.sent_at.values()) <= PER_SECOND
    assert sum(told.sent_at.values()) <= PER_SECOND * ((seconds[-1] - seconds[0]).total_seconds() + 2)


@pytest.mark.parametrize(("hours", "late"), [(1, False), (84, True)])
async def test_a_mail_server_that_is_away_is_waited_for_and_each_customer_hears_once_how_things_stand(
    database: str, hours: int, late: bool
) -> None:
    async with AsyncExitStack() as stack:
        async with scripted_server() as before:
            port = before.port
            told = await stack.enter_async_context(running(database, {"email": by_mail(port, PER_SECOND)}))
            await all_are_told_of(told, FIRST)
        await much_happens(told, hours)
        assert not told.sent_at
        async with scripted_server(port) as back:
            await told.passes(hours=3)
            assert await told.is_quiet()
            await says_how_things_stand(back.accepted, late=late)
            nothing_floods(told)
            await told.passes(days=2)
            assert len(back.accepted) == len(ORDERS) + 10
        await told.is_sound()


async def test_a_mail_server_that_answers_not_now_for_an_hour_gets_each_message_once(
    database: str, script: ScriptedServer
) -> None:
    async with running(database, {"email": by_mail(script.port, PER_SECOND)}) as told:
        await all_are_told_of(told, FIRST)
        script.accepted.clear()
        script.choose = lambda _recipient: "421 4.3.2 Service shutting down at rcpt"
        script.asked.clear()
        await much_happens(told, 1)
        assert script.accepted == []
        # It is asked now and then, by a few: not by every mail every few seconds.
        assert len(script.asked) < 600
        script.choose = lambda _recipient: None
        await told.passes(hours=3)
        assert await told.is_quiet()
        await says_how_things_stand(script.accepted, late=False)
        nothing_floods(told)
        await told.is_sound()


@pytest.mark.parametrize("order_of_topics", [sorted, lambda topics: sorted(topics, reverse=True)])
async def test_a_backlog_of_three_days_that_is_read_at_once_is_one_late_message_an_order(
    database: str, script: ScriptedServer, order_of_topics: Callable[[Any], Any]
) -> None:
    """The notifier was down, or Kafka could not be reached. One topic is read before the other."""
    async with running(database, {"email": by_mail(script.port, PER_SECOND)}) as told:
        await all_are_told_of(told, FIRST)
        script.accepted.clear()
        backlog: dict[str, list[Any]] = {}

        def happens(hours: float, *messages: Any) -> None:
            told.log.now = NOON + timedelta(hours=hours)
            for message in messages:
                record = told.log.record(message.model_copy(update={"occurred_at": told.log.now}))
                backlog.setdefault(record.topic, []).append(record)

        happens(2, *(moved(order, 2, SECOND, previous_promised_at=FIRST) for order in ORDERS))
        happens(20, *(filled(order, 3, quantity=2, quantity_waiting=3) for order in ORDERS[0::5]))
        happens(20, *(cancelled(order, 3) for order in ORDERS[1::5]))
        happens(20, *(placed_by_their_own(f"new-{order}") for order in ORDERS[:10]))
        happens(20, *(created(f"new-{order}", promised_at=FIRST) for order in ORDERS[:10]))
        happens(22, *(moved(order, 4, THIRD, previous_promised_at=SECOND) for order in ORDERS[0::5]))
        happens(22, *(moved(order, 3, THIRD, previous_promised_at=SECOND) for order in ORDERS[2::5]))
        told.now = NOON + 3 * DAY
        for topic in order_of_topics(backlog):
            # In portions, as a poll gives them, seconds apart: what is known meanwhile is nobody's to tell.
            for first in range(0, len(backlog[topic]), 30):
                await told.reads_records(backlog[topic][first : first + 30])
                await told.passes(seconds=3)
        assert script.accepted == []
        await told.passes(hours=5)
        assert await told.is_quiet()
        await says_how_things_stand(script.accepted, late=True)
        nothing_floods(told)
        await told.is_sound()


async def test_what_is_optional_and_too_old_is_not_told_after_an_outage(database: str) -> None:
    async with AsyncExitStack() as stack:
        async with scripted_server() as before:
            port = before.port
            told = await stack.enter_async_context(running(database, {"email": by_mail(port)}))
            for order in ("reminded", "arrived", "waits"):
                await told.reads(placed_by_their_own(order), created(order, promised_at=NOON + 6 * DAY))
            await told.passes(days=3)
            await told.tells(filled("arrived"), shipped("arrived"))
            assert [len(about(before, order)) for order in ("reminded", "arrived", "waits")] == [1, 2, 1]
        # The reminder comes due on the fourth day, the delivery on the third; both while no mail can go.
        await told.reads(
            delivered("arrived", delivered_at=told.now), filled("waits", 2, quantity=1, quantity_waiting=4)
        )
        await told.passes(days=3)
        async with scripted_server(port) as back:
            await told.passes(hours=3)
            assert about(back, "arrived") == []
            assert about(back, "reminded") == []
            (mail,) = about(back, "waits")
            assert LATE in text_of(mail)
            assert mail["Subject"] == "Order waits: 1 unit has arrived, 4 still to come"
        assert (await told.verdicts("arrived"))["carrier/arrived/s-1"] == ("not_told", "too_old")
        reminders = [
            verdict
            for event, verdict in (await told.verdicts("reminded")).items()
            if event.startswith("timer:promise_approaching")
        ]
        assert reminders == [("not_told", "too_old")]
        said = await told.why("arrived")
        (update,) = [each for each in said["updates"] if each["event_id"] == "carrier/arrived/s-1"]
        assert "too late to be of use" in update["because"]
        await told.is_sound()
