"""What makes bugs show: small, and by itself harmless. Each plays on real processes, and ends when all is worked."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from signal import SIGCONT

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from tests.e2e.messages import Message, OrderLine, cancel, order, receipt, supply
from tests.e2e.processes import Service, eventually
from tests.faults.bugs.stage import SECONDS, Stage
from tests.faults.checked import bad_messages
from tests.faults.load import load
from tests.faults.test_members import waits_for

HOT = "HOT"


def orders_of_one(count: int, name: str = "o", sku: str = HOT) -> list[Message]:
    return [order(f"{name}-{number}", (sku, 1)) for number in range(count)]


async def a_day(stage: Stage) -> None:
    """Some of everything, with dead letters; then two orders that one supply could be promised to."""
    await stage.allocator(batch=40)
    await stage.tell(*load(100, seed=11).messages, *bad_messages())
    await stage.tell(*orders_of_one(3), cancel("o-0"), receipt("late", HOT, 1))
    in_a_week = datetime.now(UTC) + timedelta(days=7)
    await stage.tell(supply("s-1", "COMING", 5, in_a_week))
    await stage.tell(order("first", ("COMING", 5)))
    await stage.tell(order("second", ("COMING", 5)))


async def frozen_with_a_batch_in_hand(stage: Stage) -> None:
    """Another process takes its partitions over; then it goes on with what it had read before."""
    frozen = await stage.allocator("intake.decoded=stop")
    await stage.world.publish(*orders_of_one(60))
    await stage.stopped(frozen)
    await stage.world.forget_dead_members()
    await stage.allocator()
    await stage.settled()
    frozen.signal(SIGCONT)
    await has_looked_again(stage, frozen)
    await stage.settled()


async def has_looked_again(stage: Stage, service: Service) -> None:
    """It has dropped what it had in hand, or worked it once more."""

    async def dropped_or_worked() -> bool:
        names = ("allocator_redelivered_total", "allocator_messages_total", "allocator_fenced_total")
        return sum([await service.metric(name) for name in names]) > 0

    await eventually(dropped_or_worked, "the late batch", SECONDS, service.explain)


async def killed_before_the_commit(stage: Stage) -> None:
    service = await stage.allocator("store.before_commit=kill@2", batch=10, ready=False)
    await stage.world.publish(*orders_of_one(60))
    await stage.killed(service)
    await stage.allocator(batch=10)
    await stage.settled()


async def a_transaction_fails(stage: Stage) -> None:
    """Between others that don't."""
    before = await stage.allocator()
    await stage.tell(*orders_of_one(60, "before"))
    await before.end()
    service = await stage.allocator("store.before_commit=raise@2", batch=10)
    await stage.world.publish(*orders_of_one(60))
    await eventually(lambda: says(service, "fail point"), "a transaction to fail", SECONDS, service.explain)
    await stage.tell(*orders_of_one(60, "behind"))


async def says(service: Service, text: str) -> bool:
    return text in service.said()


async def two_processes_sell_one_pool(stage: Stage) -> None:
    """One is frozen for a moment when it has read the pool; the other wants it meanwhile."""
    before = await stage.allocator()
    await stage.tell(receipt("r-1", HOT, 30), order("o-first", (HOT, 1)))
    await before.end()
    slow = await stage.allocator("store.locked=stop")
    other = await stage.allocator()
    await stage.world.publish(*orders_of_one(30))
    await stage.stopped(slow)
    # It may have had its part before the one that is frozen now: it gets more.
    done = await other.metric("allocator_messages_total")
    await stage.world.publish(*orders_of_one(30, "meanwhile"))

    async def wants_it() -> bool:
        return await waits_for(stage.world, "FROM pools") or await other.metric("allocator_messages_total") > done

    await eventually(wants_it, "the other process to want the pool", SECONDS, other.explain)
    slow.signal(SIGCONT)
    await stage.settled()


async def any_order_of_skus(stage: Stage) -> None:
    """Three processes, and orders of five SKUs each, in small transactions."""
    skus = [f"HOT-{number}" for number in range(5)]
    before = await stage.allocator()
    await stage.tell(*(receipt("opening", sku, 200) for sku in skus))
    for batch in (3, 4):
        await stage.allocator(batch=batch)
    await stage.world.publish(
        *(
            order(f"o-{number}", *(OrderLine(sku, 1) for sku in (skus if number % 2 else skus[::-1])))
            for number in range(150)
        )
    )
    await stage.settled()
    await before.end()


async def somebody_looks_at_the_first_in_line(stage: Stage) -> None:
    """A session of somebody else has locked the line that is to be served next."""
    service = await stage.allocator()
    await stage.tell(order("first", (HOT, 1)))
    await stage.tell(order("second", (HOT, 1), after=timedelta(hours=1)))
    journal = await stage.world.number("SELECT journal FROM log_head")
    async with stage.world.database.transaction():
        await stage.world.database.execute("SELECT FROM lines WHERE order_id = 'first' FOR UPDATE")
        await stage.world.publish(receipt("r-1", HOT, 1))

        async def waits_or_is_done() -> bool:
            is_done = await stage.world.number("SELECT journal FROM log_head") > journal
            return is_done or await waits_for(stage.world, "UPDATE lines")

        await eventually(waits_or_is_done, "the receipt", SECONDS, service.explain)
    await stage.settled()


async def kafka_refuses_records(stage: Stage) -> None:
    """For a while; a relay that notices tries again."""
    service = await stage.allocator()
    await stage.tell(receipt("r-1", HOT, 5))
    await refuse(stage, "backorders", bytes_at_most=1)
    await stage.world.publish(*orders_of_one(30))

    async def noticed_or_moved() -> bool:
        head, position = await stage.world.database.fetchrow("SELECT h.seq, r.seq FROM log_head h, relay r")
        return "did not take" in service.said() or head == position > 30

    await eventually(noticed_or_moved, "records to be refused", SECONDS, service.explain)
    # A relay that moves on without waiting for an answer says nothing of what it sends: time has to pass.
    for _ in range(30):
        if "did not take" not in service.said():
            await asyncio.sleep(0.1)
    await refuse(stage, "backorders", bytes_at_most=2**20)
    await stage.settled()


async def refuse(stage: Stage, topic: str, *, bytes_at_most: int) -> None:
    """From now on the topic takes no larger batches."""
    name = stage.world.prefix + topic
    await stage.world.admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(bytes_at_most)})]
    )

    async def is_so() -> bool:
        try:
            await stage.world.producer.send_and_wait(name, b"of a stranger", key=b"nobody")
        except KafkaError:
            return bytes_at_most == 1
        return bytes_at_most > 1

    await eventually(is_so, f"{topic} to take at most {bytes_at_most} bytes")


async def frozen_relay(stage: Stage) -> None:
    """What it had on its way lands behind what its successor has published since."""
    frozen = await stage.allocator("relay.sent=stop")
    await stage.world.publish(receipt("r-1", HOT, 5))
    await stage.stopped(frozen)
    await stage.world.forget_dead_members()
    await stage.allocator()
    await stage.settled()
    await stage.tell(order("o-1", (HOT, 2)))
    published = sum((await stage.world.ends(["availability"])).values())
    frozen.signal(SIGCONT)

    async def has_landed() -> bool:
        return sum((await stage.world.ends(["availability"])).values()) > published

    await eventually(has_landed, "what it had on its way", SECONDS, frozen.explain)
    await stage.settled()


async def customers_are_told(stage: Stage) -> None:
    await told(stage, "")


async def killed_when_a_mail_is_marked(stage: Stage) -> None:
    await told(stage, "sending.marked=kill")


async def killed_when_a_mail_is_claimed(stage: Stage) -> None:
    await told(stage, "sending.claimed=kill")


async def told(stage: Stage, armed: str) -> None:
    """Some customers wait, hear of it, and get their units; the notifier is killed on the way if it is armed."""
    await stage.allocator()
    notifier = await stage.notifier(armed, ready=False)
    await stage.world.publish(
        *(order(f"o-{number}", (HOT, 1), email=f"customer-{number}@example.org") for number in range(6))
    )
    if armed:
        await stage.killed(notifier)
        await stage.notifier()
    await stage.settled()
    await stage.tell(receipt("r-1", HOT, 3))


Scene = Callable[[Stage], Awaitable[None]]
SCENES: dict[str, Scene] = {
    "a day": a_day,
    "a frozen process wakes up with a batch in hand": frozen_with_a_batch_in_hand,
    "killed before the commit": killed_before_the_commit,
    "a transaction fails": a_transaction_fails,
    "two processes sell one pool": two_processes_sell_one_pool,
    "orders name the same SKUs in any order": any_order_of_skus,
    "somebody looks at the first in line": somebody_looks_at_the_first_in_line,
    "Kafka refuses records for a while": kafka_refuses_records,
    "a frozen relay wakes up in the middle of a send": frozen_relay,
    "customers are told": customers_are_told,
    "killed when a mail is marked": killed_when_a_mail_is_marked,
    "killed when a mail is claimed": killed_when_a_mail_is_claimed,
}
