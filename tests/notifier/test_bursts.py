"""Many dates move at once, or one moves many times: who is told what, how often, and how fast it goes out."""

import os
from collections import Counter
from datetime import datetime, timedelta
from email.message import EmailMessage
from itertools import pairwise

from backorder_notifier.policy import Policy
from backorder_schemas import PromiseChanged
from tests.notifier.messages import NOON, cancelled, created, filled, moved, placed, rejected
from tests.notifier.running import about, by_mail, running, text_of
from tests.notifier.smtp_script import ScriptedServer

DAY = timedelta(days=1)
ORDERS = int(os.environ.get("BACKORDER_BURST_ORDERS", "120"))
"""How many promises move at once; BACKORDER_BURST_ORDERS=10000 takes some minutes."""
PER_SECOND = 50.0
FIRST = NOON + 20 * DAY


def moves(order_id: str, dates: list[datetime], version: int = 2) -> list[PromiseChanged]:
    """The events of a date that moves from one of `dates` to the next; it was the first of them before."""
    return [
        moved(order_id, version + number, promised_at=after, previous_promised_at=before)
        for number, (before, after) in enumerate(pairwise(dates))
    ]


async def test_ten_thousand_promises_that_move_at_once_are_one_message_an_order_within_the_rate(
    database: str, script: ScriptedServer
) -> None:
    orders = [f"o{number}" for number in range(ORDERS)]
    weightier = {  # what comes between the move of the date and its telling
        "backorder_filled": [order for number, order in enumerate(orders) if number % 20 == 3],
        "backorder_cancelled": [order for number, order in enumerate(orders) if number % 20 == 7],
        "backorder_rejected": [order for number, order in enumerate(orders) if number % 20 == 11],
    }
    kinds = {order: kind for kind, of_kind in weightier.items() for order in of_kind}
    units = {"quantity": 5, "quantity_allocated": 8, "quantity_waiting": 5, "quantity_ordered": 15}
    async with running(database, {"email": by_mail(script.port, PER_SECOND)}) as told:
        await told.reads(
            *(placed(order, customer={"customer_id": order, "email": f"{order}@example.org"}) for order in orders)
        )
        await told.reads(*(created(order, promised_at=FIRST, **units) for order in orders))
        await told.passes(hours=1)
        assert Counter(script.recipients) == {f"{order}@example.org": 1 for order in orders}
        script.accepted.clear()

        # Each moves four times within minutes: two weeks later, back, a month later, and a day earlier than that.
        dates = [FIRST, FIRST + 14 * DAY, FIRST, FIRST + 30 * DAY, FIRST + 29 * DAY]
        for number in range(4):
            await told.reads(*(moves(order, dates)[number] for order in orders))
            await told.passes(minutes=5)
        assert script.accepted == []
        told.sent_at.clear()
        await told.reads(*(filled(order, 6, quantity=3, quantity_waiting=2) for order in weightier["backorder_filled"]))
        await told.reads(
            *(cancelled(order, 6, quantity=1, quantity_waiting=4) for order in weightier["backorder_cancelled"])
        )
        await told.reads(*(rejected(order, 6, quantity=2) for order in weightier["backorder_rejected"]))
        await told.passes(hours=2)

        assert await told.is_quiet()
        assert Counter(order_of(mail) for mail in script.accepted) == dict.fromkeys(orders, 1)
        for mail in script.accepted:
            order = order_of(mail)
            text = text_of(mail)
            assert "Expected: December 21, 2026" in text
            still = {"backorder_filled": 2, "backorder_cancelled": 4}.get(kinds.get(order, ""), 5)
            assert f"Still to come: {still}\n" in text
        for order in orders:
            verdicts = await told.verdicts(order)
            kind = kinds.get(order)
            assert [verdicts[f"v{number}"] for number in (2, 3, 4)] == [("superseded", kind or "later_date")] * 3
            assert verdicts["v5"] == (("told", None) if kind is None else ("superseded", kind))
            assert kind is None or verdicts["v6"] == ("told", None)
        assert most_in(told.sent_at, seconds=1) <= PER_SECOND
        # What a provider may get at once when it was idle, and what time brings.
        assert most_in(told.sent_at, seconds=10) <= PER_SECOND * 11
        assert sum(told.sent_at.values()) == len(orders)
        await told.is_sound()


def order_of(mail: EmailMessage) -> str:
    return str(mail["Subject"]).removeprefix("Order ").partition(":")[0]


def most_in(sent_at: Counter[datetime], seconds: int) -> int:
    """The most within any so many seconds."""
    span = timedelta(seconds=seconds)
    return max(sum(sent_at[other] for other in sent_at if begin <= other < begin + span) for begin in sent_at)


async def test_a_thousand_changes_of_one_date_are_one_message(database: str, script: ScriptedServer) -> None:
    dates = [FIRST + (number * 7 % 40) * DAY for number in range(1000)] + [FIRST + 9 * DAY]
    async with running(database, {"email": by_mail(script.port)}) as told:
        await told.tells(placed(), created(promised_at=FIRST))
        events = moves("1001", dates)
        for first in range(0, len(events), 25):
            records = []
            for number, event in enumerate(events[first : first + 25]):
                told.log.now = told.now + number * timedelta(seconds=10)
                records.append(told.log.record(event))
            await told.passes(seconds=250)
            await told.reads_records(records)
        await told.passes(hours=4)
        _, mail = about(script)
        assert mail["Subject"] == "Order 1001: New date December 1, 2026"
        assert "Previous date: November 22, 2026" in text_of(mail)
        verdicts = await told.verdicts()
        assert verdicts.pop("v1") == verdicts.pop("v1001") == ("told", None)
        assert set(verdicts.values()) == {("superseded", "later_date")}
        assert len(verdicts) == 999
        await told.is_sound()


async def test_a_date_that_never_rests_is_told_every_four_hours_and_not_more_often(
    database: str, script: ScriptedServer
) -> None:
    async with running(database, {"email": by_mail(script.port)}) as told:
        await told.tells(placed(), created(promised_at=FIRST))
        dates = [FIRST + 5 * number * DAY for number in range(73)]
        for event in moves("1001", dates):
            await told.reads(event)
            await told.passes(minutes=20)
        await told.passes(hours=1)
        # A day of a change every 20 minutes: what was told is the state of every fourth hour, and the last.
        assert len(about(script)) - 1 == 6
        assert "Expected: November 17, 2027" in text_of(about(script)[-1])
        await told.is_sound()


async def test_beyond_the_daily_cap_dates_wait_for_the_morning_and_are_one_message_then(
    database: str, script: ScriptedServer
) -> None:
    """A customer with many orders, whose dates move all day."""
    orders = [f"o{number}" for number in range(8)]
    policy = Policy(daily_cap=3)
    async with running(database, {"email": by_mail(script.port)}, policy) as told:
        await told.tells(*(placed(order) for order in orders), *(created(order, promised_at=FIRST) for order in orders))
        assert len(script.accepted) == len(orders)  # that units wait is told however many there are
        await told.passes(days=1)
        script.accepted.clear()
        for number in range(3):
            await told.reads(*(moves(order, [FIRST, FIRST + 5 * DAY, FIRST + 10 * DAY, FIRST + 15 * DAY])[number]
                               for order in orders))  # fmt: skip
            await told.passes(hours=1)
        assert len(script.accepted) == 3
        for order in orders:
            assert ("pending", "daily_cap") in (await told.verdicts(order)).values()
        said = await told.why(orders[0])
        assert any("as many messages today as one customer may get" in sentence for sentence in said["waits"])
        script.accepted.clear()
        await told.passes(days=4)
        for order in orders:
            (mail,) = about(script, order)
            assert "Expected: December 7, 2026" in text_of(mail)
        await told.is_sound()
