"""Dates, and what happens by itself at a time, as subscribers of the topics see it: real topics, a real process."""

from datetime import UTC, datetime, timedelta
from typing import Any

from backorder_schemas import (
    AllocationReleased,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LowStock,
    PromiseChanged,
    SkuAvailability,
    SupplyOverdue,
)
from tests.e2e.conftest import COMPLETE_ESCALATES_AFTER
from tests.e2e.messages import OrderLine, order, policy, receipt, rfc3339, supply, supply_cancelled
from tests.e2e.processes import eventually
from tests.e2e.subscriber import Subscriber, follow
from tests.e2e.world import World

NOW = datetime.now(UTC)
OPENED = NOW - timedelta(hours=1)
LEAD_DAYS = 20


def day(number: int) -> datetime:
    """Noon of a day to come; supplies come on days 1, 2, 3 …"""
    return NOW.replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1 + number)


def days(*numbers: int) -> list[datetime | None]:
    return [day(number) for number in numbers]


async def test_whoever_leans_on_a_supply_that_moves_or_falls_away_is_told_and_nobody_else(running: World) -> None:
    # The same for two SKUs, of which one has a lead time.
    skus = ("CHAIR", "TABLE")
    comes = [6, 4, 2, 4, 8, 4, 4, 4]
    await running.tell(
        policy("CHAIR", default_lead_time_days=LEAD_DAYS),
        *(supply(f"s-{at}", sku, units, day(at)) for sku in skus for at, units in enumerate(comes, start=1)),
    )
    wanted = [6, 2, 3, 6, 6, 1, 2, 2]
    placed = [OPENED + timedelta(minutes=at) for at in range(len(wanted))]
    await running.tell(
        *(order(f"{sku}-{at}", (sku, units), placed_at=placed[at]) for sku in skus for at, units in enumerate(wanted))
    )
    before = await follow(running)
    for sku in skus:
        assert promised(before, sku) == days(1, 2, 3, 5, 5, 5, 6, 6)
        assert before.availability[f"main:{sku}"].next_promise_at == day(7)

    await running.tell(*(supply("s-5", sku, 8, day(9), revision=2) for sku in skus))
    moved = await follow(running)
    for sku in skus:
        assert promised(moved, sku) == days(1, 2, 3, 6, 7, 7, 8, 8)
        assert told_since(before, moved, sku) == [(f"{sku}-{at}", "supply_moved") for at in (3, 4, 5, 6, 7)]
        assert moved.availability[f"main:{sku}"].next_promise_at == day(9)

    await running.tell(*(supply_cancelled("s-5", sku, revision=3) for sku in skus))
    cancelled = await follow(running)
    for sku in skus:
        assert told_since(moved, cancelled, sku) == [], "nothing leaned on it"

    await running.tell(*(supply_cancelled("s-8", sku, revision=2) for sku in skus))
    after = await follow(running)
    lead = timedelta(days=LEAD_DAYS)
    assert promised(after, "CHAIR") == [*days(1, 2, 3, 6, 7, 7), placed[6] + lead, placed[7] + lead]
    assert promised(after, "TABLE") == [*days(1, 2, 3, 6, 7, 7), None, None]
    for sku in skus:
        assert told_since(cancelled, after, sku) == [(f"{sku}-{at}", "supply_cancelled") for at in (6, 7)]
    assert after.availability["main:TABLE"].next_promise_at is None


async def test_at_its_time_a_preorder_is_released_a_complete_order_is_split_and_a_supply_is_overdue(
    running: World,
) -> None:
    now = datetime.now(UTC)
    soon = now + COMPLETE_ESCALATES_AFTER
    await running.tell(
        policy("GAME", backorders="preorder", release_at=rfc3339(soon)),
        receipt("r-1", "GAME", 5),
        receipt("r-1", "BED", 1),
        supply("late", "LAMP", 9, soon),
    )
    await running.tell(
        order("gamer", ("GAME", 2), placed_at=now),
        order("sleeper", ("BED", 1), ("MATTRESS", 1), placed_at=now, delivery="complete"),
        order("reader", ("LAMP", 4), placed_at=now),
    )

    async def all_has_happened() -> bool:
        return await running.number("SELECT count(*) FROM timers WHERE due_at < $1", soon + timedelta(days=1)) == 0

    await eventually(all_has_happened, "the timers to be taken", explain=running.explain)
    await running.settled()
    subscriber = await follow(running)

    created, filled, released = about(subscriber, "gamer")
    assert isinstance(created, BackorderCreated)
    assert (created.kind, created.promised_at) == ("preorder", soon)
    assert isinstance(filled, BackorderFilled)
    assert (filled.quantity, filled.held) == (2, "preorder")
    assert isinstance(released, AllocationReleased)
    assert (released.caused_by, released.occurred_at, released.complete) == ("timer:release:GAME", soon, True)
    window = [each for each in subscriber.messages if isinstance(each, SkuAvailability) and each.sku == "GAME"]
    assert (window[0].status, window[0].next_promise_at) == ("preorder", soon)
    assert (window[-1].status, window[-1].available, window[-1].next_promise_at) == ("in_stock", 3, None)

    created, released = about(subscriber, "sleeper")
    assert (created.sku, created.quantity) == ("MATTRESS", 1)
    assert (released.caused_by, released.occurred_at) == ("timer:escalate:sleeper", soon)
    assert [(line.sku, line.quantity) for line in released.lines] == [("BED", 1)]
    assert not released.complete

    created, moved = about(subscriber, "reader")
    assert created.promised_at == soon
    assert (moved.promised_at, moved.previous_promised_at, moved.cause) == (None, soon, "supply_overdue")
    (overdue,) = (each for each in subscriber.messages if isinstance(each, SupplyOverdue))
    assert (overdue.supply_id, overdue.quantity, overdue.orders_waiting) == ("late", 9, 1)
    assert (overdue.caused_by, overdue.expected_at, overdue.occurred_at) == ("timer:overdue:LAMP:late", soon, soon)


async def test_a_shop_window_shows_the_last_of_each_key_and_buyers_hear_once_that_stock_is_low(running: World) -> None:
    async def window() -> dict[str, tuple[str, int]]:
        """Like one who reads the compacted topic: the last value of each key, whatever came before."""
        last = {record.key: record.message for record in await running.read("availability")}
        return {
            key.decode(): (each.status, each.available)
            for key, each in last.items()
            if key is not None and each.sku == "MUG"
        }

    async def low() -> list[int]:
        alerts = [record.message for record in await running.read("stock-alerts")]
        return [alert.available for alert in alerts if isinstance(alert, LowStock) and alert.sku == "MUG"]

    await running.tell(policy("MUG", backorders="deny", low_stock_at=2), receipt("r-1", "MUG", 4))
    assert await window() == {"main:MUG": ("in_stock", 4)}
    await running.tell(
        *(order(f"mug-{at}", ("MUG", 1)) for at in range(4)), order("far", OrderLine("MUG", 2, location="north"))
    )
    assert await window() == {"main:MUG": ("out_of_stock", 0), "north:MUG": ("out_of_stock", 0)}
    assert sorted(await low()) == [0, 2], "once at either location"
    (rejected,) = about(await follow(running), "far")
    assert isinstance(rejected, BackorderRejected)
    assert (rejected.quantity, rejected.reason) == (2, "denied")

    await running.tell(receipt("r-2", "MUG", 5))
    await running.tell(order("mug-5", ("MUG", 4)))
    assert await window() == {"main:MUG": ("in_stock", 1), "north:MUG": ("out_of_stock", 0)}
    assert sorted(await low()) == [0, 1, 2], "and again after it had recovered"


def promised(subscriber: Subscriber, sku: str) -> list[datetime | None]:
    """What the customers of a SKU were told last, in the order of their places."""
    of_sku = {order_id: line.promised_at for (order_id, _), line in subscriber.lines.items() if line.sku == sku}
    return [of_sku[order_id] for order_id in sorted(of_sku)]


def told_since(before: Subscriber, after: Subscriber, sku: str) -> list[tuple[str, str]]:
    """Who was told of another date meanwhile, and why. Nothing else was said to customers of this SKU."""
    known = {message.id for message in before.messages}
    new = [each for each in after.messages if each.id not in known and getattr(each, "order_id", "").startswith(sku)]
    assert all(isinstance(each, PromiseChanged) for each in new), new
    return sorted((each.order_id, each.cause) for each in new)


def about(subscriber: Subscriber, order_id: str) -> list[Any]:
    """All that was said of an order: on `backorders`, then on `allocations`."""
    of_order = [each for each in subscriber.messages if getattr(each, "order_id", None) == order_id]
    return sorted(of_order, key=lambda each: (isinstance(each, AllocationReleased), each.version))
