"""A small shop in which everything happened, on a real Kafka and PostgreSQL, for the checker to look at."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.conftest import Databases, MailSink
from tests.e2e.conftest import migrated_database
from tests.e2e.messages import Message, OrderLine, adjustment, cancel, count, order, receipt, shipment
from tests.e2e.notifying import INPUTS, Notifying
from tests.e2e.processes import eventually
from tests.e2e.world import World, made_world
from tests.faults.load import Load, escalation_days, load, ships

NOBODY = "/somebody/else"
TO_DO_SOON = """
    SELECT (SELECT count(*) FROM orders WHERE tell_at < clock_timestamp() + interval '10 s')
         + (SELECT count(*) FROM deliveries WHERE state = 'due')
         + (SELECT count(*) FROM outbox)
         + (SELECT count(*) FROM dead_letters WHERE published_at IS NULL)"""


@dataclass(frozen=True)
class Checked:
    """Both services after their work; they have ended, and nothing changes any more."""

    world: World
    notifying: Notifying
    sent: Load


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop_at_rest(
    kafka: str, postgres: Databases, mail_sink: MailSink, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Checked]:
    """One for all tests of the checker: what they change in tables they roll back."""
    prefix, folder = f"t{secrets.token_hex(6)}.", tmp_path_factory.mktemp("checked")
    async with checked(kafka, postgres, mail_sink, prefix, folder, orders=100) as made:
        yield made


@asynccontextmanager
async def checked(
    kafka: str, postgres: Databases, mail_sink: MailSink, prefix: str, folder: Path, *, orders: int
) -> AsyncIterator[Checked]:
    """`orders` orders and what belongs to them, bad messages and repeats among them."""
    mail_sink.reset()
    urls = [migrated_database(postgres, service) for service in ("allocator", "notifier")]
    async with made_world(kafka, prefix, urls[0], folder) as world:
        database = await asyncpg.connect(urls[1])
        notifying = Notifying(world, urls[1], database, mail_sink)
        try:
            sent = load(orders, seed=7)
            services = [
                await world.allocator(
                    ready=False, batch=100, ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=escalation_days()
                ),
                await notifying.start(ready=False),
            ]
            for service in services:
                await service.ready()
            await world.publish(*sent.messages, *bad_messages(), order("waits", OrderLine("SKU-9", 900)))
            await world.settled()
            # What was shown of stock before is shown anew after these.
            await world.publish(*await ships(world, sent), *of_customers(), *of_strangers())
            await world.settled()
            await has_told(notifying)
            for service in services:
                await service.end()
            yield Checked(world, notifying, sent)
        finally:
            await database.close(timeout=5)


async def has_told(notifying: Notifying) -> None:
    """Waits until the notifier has read everything, and has nothing to do soon.

    Of an order that was shipped before it was released, as far as anybody heard, it decides much later.
    """
    ends = await notifying.world.ends(INPUTS)

    async def nothing_is_left() -> bool:
        rows = await notifying.database.fetch("SELECT topic, partition, next_offset FROM cursors")
        cursors = {
            (row["topic"].removeprefix(notifying.world.prefix), row["partition"]): row["next_offset"] for row in rows
        }
        if any(cursors.get(position, 0) < end for position, end in ends.items()):
            return False
        return not await notifying.database.fetchval(TO_DO_SOON)

    await eventually(nothing_is_left, "the notifier to have told everything", 60, notifying.world.explain)


def bad_messages() -> list[Message]:
    """Each of them is a dead letter; the first two differ from what is known, the last one is empty."""
    return [
        order("conflict", OrderLine("SKU-2", 1)),
        order("conflict", OrderLine("SKU-2", 2)),
        receipt("opening-3", "SKU-3", 1),
        Message("orders", b"not json", b"{", (("x", b"\xff"), ("null", None))),
        Message("catalog", b"SKU-4", b'{"type": "SkuPolicyChanged", "id": "p"}'),
        Message("customers", b"c-1", b'{"type": "ContactChanged"}'),
        Message("fulfilment", None, None),
    ]


def of_customers() -> list[Message]:
    """Stock that is lost, found and counted; customers who can be reached and some who can't."""
    return [
        adjustment("a-1", "SKU-5", -3),
        adjustment("a-2", "SKU-5", 2),
        count("c-1", "SKU-6", 2),
        receipt("r-1", "SKU-9", 20),
        order("told", OrderLine("SKU-7", 900), email="told@example.org"),
        order("told later", OrderLine("SKU-7", 900), email="later@example.org"),
        cancel("told later", (1, 5)),
        order("shipped", OrderLine("SKU-8", 1), email="shipped@example.org"),
        shipment("s-1", "shipped", (1, 1)),
    ]


def of_strangers() -> list[Message]:
    """What somebody else wrote to topics of ours, by mistake."""
    return [
        Message("stock-alerts", b"SKU-1", b'{"type": "LowStock"}', (("ce_source", NOBODY.encode()),)),
        Message("allocator.dlq", b"x", b"y"),
        Message("notifier.dlq", b"x", b"y"),
        Message("notifications", b"x", b"y"),
    ]


async def published_again(world: World, topic: str) -> Message:
    """A copy of a record of ours on a topic, the last of its key: only with that are bytes compared."""
    ours = [
        each for each in await world.read(topic) if ("ce_source", NOBODY.encode()) not in each.headers and each.message
    ]
    last = next(iter({each.key: each for each in ours}.values()))
    return Message(topic, last.key, last.value, last.headers)
