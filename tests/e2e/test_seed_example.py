"""The example that the project grew from: stock 10, an order of 15, one of 5, a receipt of 7, and who is told what."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from backorder_schemas import AllocationReleased, BackorderCreated, BackorderFilled
from tests.conftest import Databases, MailSink
from tests.e2e.conftest import migrated_database
from tests.e2e.messages import Message, order, receipt
from tests.e2e.notifying import Notifying
from tests.e2e.subscriber import follow
from tests.e2e.world import World

ADA, BOB, CARL, DORA = (f"{name}@example.org" for name in ("ada", "bob", "carl", "dora"))


@pytest.fixture
async def notifying(world: World, postgres: Databases, mail_sink: MailSink) -> AsyncIterator[Notifying]:
    mail_sink.reset()
    url = migrated_database(postgres, "notifier")
    database = await asyncpg.connect(url)
    yield Notifying(world, url, database, mail_sink)
    await database.close(timeout=5)


async def test_stock_10_an_order_of_15_one_of_5_and_a_receipt_of_7_and_nobody_is_told_twice(
    world: World, notifying: Notifying
) -> None:
    services = [await world.allocator(ready=False), await notifying.start(ready=False)]
    for service in services:
        await service.ready()
    mails = notifying.mails
    inputs: list[Message] = []

    async def happens(message: Message) -> None:
        inputs.append(message)
        await world.publish(message)
        await notifying.settled()

    await happens(receipt("opening", "PHONE-X", 10))
    await happens(order("1001", ("PHONE-X", 15), email=ADA))
    subscriber = await follow(world)
    assert (subscriber.released_of("1001"), subscriber.waiting_of("1001")) == (10, 5)
    (mail,) = mails.messages_to(ADA)
    assert "1001" in mail.subject
    assert "5 units" in mail.subject

    await happens(order("1002", ("PHONE-X", 5), after=timedelta(minutes=1), email=BOB))
    subscriber = await follow(world)
    assert (subscriber.released_of("1002"), subscriber.waiting_of("1002")) == (0, 5)
    assert [mail.recipients for mail in mails.messages] == [(ADA,), (BOB,)]

    await happens(receipt("from-the-supplier", "PHONE-X", 7))
    subscriber = await follow(world)
    assert (subscriber.released_of("1001"), subscriber.waiting_of("1001")) == (15, 0)
    assert (subscriber.released_of("1002"), subscriber.waiting_of("1002")) == (2, 3)
    last_of_ada, last_of_bob = mails.messages_to(ADA)[-1], mails.messages_to(BOB)[-1]
    assert "5 units" in last_of_ada.subject
    assert "2 units" in last_of_bob.subject
    assert "3 still to come" in last_of_bob.subject
    assert len(mails.messages) == 4
    told = [record.message for record in await world.read("notifications")]
    assert [message.type for message in told] == ["CustomerNotified"] * 4

    # A shop repeats its order with another address, which is no business content: it is the same order again.
    first = order("1003", ("PHONE-X", 1), after=timedelta(minutes=2), email=CARL)
    again = replace(first, value=(first.value or b"").replace(CARL.encode(), DORA.encode()))
    inputs += [first, again]
    await world.publish(first, again)
    await notifying.settled()
    assert [mail.recipients for mail in mails.messages[4:]] == [(CARL,)]

    # Everything once more: what the shop and the warehouse sent, and what the allocator published.
    events = [Message(each.topic, each.key, each.value, each.headers) for each in await world.read("backorders")]
    await world.publish(*inputs, *reversed(inputs), *events)
    await notifying.settled()
    kinds = [type(message) for message in (await follow(world)).messages]
    assert kinds.count(AllocationReleased) == 3
    assert kinds.count(BackorderCreated) == 3
    assert kinds.count(BackorderFilled) == 2
    assert len(mails.messages) == 5, "nobody is told twice"
    assert len(await world.read("notifications")) == 5
    assert await world.number("SELECT count(*) FROM dead_letters") == 0
    await world.audit()
