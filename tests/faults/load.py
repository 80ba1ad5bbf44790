"""A busy day to break things in, and the proof that nothing of it was lost or done twice.

The proof takes only what was sent and what is on the topics: it knows how many units came in and went out of each SKU,
and that every unit of every order was told to be in exactly one place.
"""

import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from backorder_schemas import AllocationReleased
from tests.e2e.messages import (
    OPENING,
    Message,
    OrderLine,
    cancel,
    order,
    policy,
    receipt,
    rfc3339,
    shipment,
    supply,
    supply_cancelled,
)
from tests.e2e.subscriber import LineKey, Subscriber, follow
from tests.e2e.world import World

SKUS = 40
PREORDERED, LIMITED = "SKU-0", "SKU-1"
RECEIPT_EVERY = 10
CANCEL_EVERY = 9
REPEAT_EVERY = 15
SUPPLY_EVERY = 20
SHIPPED_EARLY_EVERY = 50
LONG_AGO = timedelta(days=200)
"""So much older are some complete orders than the others."""


@dataclass
class Load:
    """Messages in the order they are sent, and what they add up to."""

    messages: list[Message] = field(default_factory=list)
    ordered: dict[LineKey, tuple[str, int]] = field(default_factory=dict)
    """→ (sku, units ordered)."""
    cancelled: Counter[LineKey] = field(default_factory=Counter)
    shipped: Counter[LineKey] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)

    def slices(self, number: int) -> list[list[Message]]:
        """The messages in so many parts of about the same size."""
        size = -(-len(self.messages) // number)
        return [self.messages[start : start + size] for start in range(0, len(self.messages), size)]


def escalation_days() -> str:
    """After so many days complete orders of long ago become split at once, and the others not in our time."""
    days = (datetime.now(UTC) - OPENING + LONG_AGO / 2) / timedelta(days=1)
    return f"{days:.1f}"


def load(orders: int, *, seed: int) -> Load:
    """Orders of one to three lines, stock for most of them, cancels before and after their orders, and repeats.

    Supplies are announced, moved and cancelled, many of them overdue; some warehouse ships before it is told to, or
    before the order is there; one SKU can be ordered before its release, a few seconds from now, and one has a limit.
    """
    chance = random.Random(seed)
    made = Load()
    now = datetime.now(UTC)
    made.messages.append(policy(PREORDERED, backorders="preorder", release_at=rfc3339(now + timedelta(seconds=4))))
    made.messages.append(policy(LIMITED, waiting_limit=20))
    for at in range(SKUS):
        send_receipt(made, f"opening-{at}", f"SKU-{at}", orders // SKUS)
    for number in range(orders):
        send_order(made, number, chance)
        if number % REPEAT_EVERY == 0:
            made.messages.extend(chance.sample(made.messages, 2))
        if number % SUPPLY_EVERY == 0:
            send_supply(made, number, chance, now)
        if number % RECEIPT_EVERY == 0:
            sku, supply_id = f"SKU-{chance.randrange(SKUS)}", None
            if chance.random() < 0.3:
                supply_id = f"supply-{chance.randrange(0, orders, SUPPLY_EVERY)}"
            send_receipt(made, f"later-{number}", sku, chance.randrange(1, 20), supply_id)
    return made


def send_order(made: Load, number: int, chance: random.Random) -> None:
    order_id = f"o-{number}"
    lines = [
        OrderLine(f"SKU-{sku}", chance.choice([1, 1, 2, 4]))
        for sku in chance.choices(range(SKUS), k=chance.choice([1, 1, 2, 3]))
    ]
    for line_no, line in enumerate(lines, start=1):
        made.ordered[order_id, line_no] = (line.sku, line.quantity)
    delivery = chance.choice(["split", "split", "complete"])
    is_old = delivery == "complete" and number % 12 == 0
    after = timedelta(seconds=chance.randrange(100_000)) - (LONG_AGO if is_old else timedelta(0))
    batch = [order(order_id, *lines, after=after, delivery=delivery)]
    if number % CANCEL_EVERY == 0:
        # One unit of a line that has more and can't be rejected: so every order has something to tell.
        large = [at for at, line in enumerate(lines, start=1) if line.quantity > 1 and line.sku != LIMITED]
        if large:
            batch.insert(chance.choice([0, 1]), cancel(order_id, (large[0], 1)))
            made.cancelled[order_id, large[0]] += 1
    elif number % SHIPPED_EARLY_EVERY == 1:
        batch.insert(chance.choice([0, 1]), shipment(f"early-{number}", order_id, (1, 1)))
        made.shipped[order_id, 1] += 1
    made.messages.extend(batch)


def send_supply(made: Load, number: int, chance: random.Random, now: datetime) -> None:
    supply_id, sku, units = f"supply-{number}", f"SKU-{chance.randrange(SKUS)}", chance.randrange(1, 30)
    expected_at = now + timedelta(days=chance.choice([-3, -2, -1, 1, 5, 9, 14, 30]))
    made.messages.append(supply(supply_id, sku, units, expected_at))
    match chance.choice(["stays", "moves", "is cancelled"]):
        case "moves":
            later = expected_at + timedelta(days=chance.randrange(1, 9))
            made.messages.append(supply(supply_id, sku, units, later, revision=2))
        case "is cancelled":
            made.messages.append(supply_cancelled(supply_id, sku, revision=2))
        case _:
            pass


def send_receipt(made: Load, receipt_id: str, sku: str, units: int, supply_id: str | None = None) -> None:
    made.messages.append(receipt(receipt_id, sku, units, supply_id=supply_id))
    made.received[sku] += units


async def ships(world: World, sent: Load) -> list[Message]:
    """What a warehouse ships that hears of the first release of some orders; once each, whatever is revoked later."""
    messages = []
    for record in await world.read("allocations"):
        told = record.message
        if not isinstance(told, AllocationReleased) or told.release_no != 1:
            continue
        lines = [(told.order_id, line.line_no) for line in told.lines]
        if zlib.crc32(told.order_id.encode()) % 3 or any(sent.cancelled[line] or sent.shipped[line] for line in lines):
            continue
        sent.shipped.update({(told.order_id, line.line_no): line.quantity for line in told.lines})
        parts = [(line.line_no, line.quantity) for line in told.lines]
        messages.append(shipment(f"of-{told.order_id}", told.order_id, *parts))
    return messages


async def check_nothing_lost_or_doubled(world: World, sent: Load, *, dead_letters: int = 0) -> Subscriber:
    """Every line has one outcome, every unit is in one place, and the books of the database agree."""
    subscriber = await follow(world)
    told = {line: seen.told for line, seen in subscriber.lines.items()}
    held = {
        (row["order_id"], row["line_no"]): row["held"]
        for row in await world.database.fetch(
            "SELECT order_id, line_no, quantity_allocated - quantity_shipped - quantity_released AS held FROM lines "
            "WHERE quantity_allocated > quantity_shipped + quantity_released"
        )
    }
    wanted = {line: units - sent.cancelled[line] for line, (_, units) in sent.ordered.items()}
    # Held units are told only once they are released.
    found = {line: told.get(line, 0) + held.get(line, 0) for line in sent.ordered}
    wrong = {line: (units, wanted[line]) for line, units in found.items() if units != wanted[line]}
    assert not wrong, f"{len(wrong)} lines are told (first number) other units than they have (second): {some(wrong)}"
    assert told.keys() <= sent.ordered.keys()
    allocated: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    shipped: Counter[str] = Counter()
    for line, (sku, _) in sent.ordered.items():
        shipped[sku] += sent.shipped[line]
        seen = subscriber.lines.get(line)
        allocated[sku] += held.get(line, 0) + (seen.released + seen.mismatched if seen else 0)
        waiting[sku] += seen.waiting if seen else 0
    for sku, units in sent.received.items():
        left = units - allocated[sku]
        # A warehouse that ships before it is told to may ship more than ever came in.
        assert left >= min(0, units - shipped[sku]), f"{sku}: {-left} units were sold twice"
        assert not (left > 0 and waiting[sku]), f"{sku}: {left} units rest while {waiting[sku]} wait"
    on_hand = sent.received.total() - sent.shipped.total()
    assert await world.number("SELECT sum(on_hand) FROM pools") == on_hand
    assert await world.number("SELECT count(*) FROM orders WHERE placed_at IS NOT NULL") == len(
        {order_id for order_id, _ in sent.ordered}
    )
    assert await world.number("SELECT count(*) FROM dead_letters") == dead_letters
    await world.audit()
    return subscriber


def some(wrong: dict[tuple[str, int], tuple[int, int]]) -> str:
    return ", ".join(f"{line}: {units}" for line, units in list(wrong.items())[:5])
