"""A busy day to break things in, and the proof that nothing of it was lost or done twice.

The proof takes only what was sent and what is on the topics: it knows how many units came in and went out of each SKU,
and that every unit of every order was told to be in exactly one place.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from tests.e2e.messages import Message, OrderLine, cancel, order, receipt
from tests.e2e.subscriber import Subscriber, follow
from tests.e2e.world import World

SKUS = 40
RECEIPT_EVERY = 10
CANCEL_EVERY = 9
REPEAT_EVERY = 15


@dataclass
class Load:
    """Messages in the order they are sent, and what they add up to."""

    messages: list[Message] = field(default_factory=list)
    ordered: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    """(order_id, line_no) → (sku, units ordered)."""
    cancelled: Counter[tuple[str, int]] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)

    def slices(self, number: int) -> list[list[Message]]:
        """The messages in so many parts of about the same size."""
        size = -(-len(self.messages) // number)
        return [self.messages[start : start + size] for start in range(0, len(self.messages), size)]


def load(orders: int, *, seed: int) -> Load:
    """Orders of one to three lines, stock for most of them, cancels before and after their orders, and repeats."""
    chance = random.Random(seed)
    made = Load()
    for sku in range(SKUS):
        send_receipt(made, f"opening-{sku}", f"SKU-{sku}", orders // SKUS)
    for number in range(orders):
        order_id = f"o-{number}"
        lines = [
            OrderLine(f"SKU-{sku}", chance.choice([1, 1, 2, 4]))
            for sku in chance.choices(range(SKUS), k=chance.choice([1, 1, 2, 3]))
        ]
        for line_no, line in enumerate(lines, start=1):
            made.ordered[order_id, line_no] = (line.sku, line.quantity)
        batch = [
            order(
                order_id,
                *lines,
                after=timedelta(seconds=chance.randrange(100_000)),
                delivery=chance.choice(["split", "split", "complete"]),
            )
        ]
        if number % CANCEL_EVERY == 0:
            # One unit of a line that has more: so every order has something to tell.
            large = [at for at, line in enumerate(lines, start=1) if line.quantity > 1]
            if large:
                batch.insert(chance.choice([0, 1]), cancel(order_id, (large[0], 1)))
                made.cancelled[order_id, large[0]] += 1
        made.messages.extend(batch)
        if number % REPEAT_EVERY == 0:
            made.messages.extend(chance.sample(made.messages, 2))
        if number % RECEIPT_EVERY == 0:
            send_receipt(made, f"later-{number}", f"SKU-{chance.randrange(SKUS)}", chance.randrange(1, 20))
    return made


def send_receipt(made: Load, receipt_id: str, sku: str, units: int) -> None:
    made.messages.append(receipt(receipt_id, sku, units))
    made.received[sku] += units


async def check_nothing_lost_or_doubled(world: World, sent: Load) -> Subscriber:
    """Every line has one outcome, every unit is in one place, and the books of the database agree."""
    subscriber = await follow(world)
    told = {line: seen.told for line, seen in subscriber.lines.items()}
    held = {
        (row["order_id"], row["line_no"]): row["held"]
        for row in await world.database.fetch(
            "SELECT order_id, line_no, quantity_allocated - quantity_released AS held FROM lines "
            "WHERE quantity_allocated > quantity_released"
        )
    }
    wanted = {line: units - sent.cancelled[line] for line, (_, units) in sent.ordered.items()}
    # Held units of a complete order are told only once they are released.
    found = {line: told.get(line, 0) + held.get(line, 0) for line in sent.ordered}
    wrong = {line: (units, wanted[line]) for line, units in found.items() if units != wanted[line]}
    assert not wrong, f"{len(wrong)} lines are told (first number) other units than they have (second): {some(wrong)}"
    assert told.keys() <= sent.ordered.keys()
    allocated: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for line, (sku, _) in sent.ordered.items():
        seen = subscriber.lines.get(line)
        allocated[sku] += held.get(line, 0) + (seen.released if seen else 0)
        waiting[sku] += seen.waiting if seen else 0
    for sku, units in sent.received.items():
        left = units - allocated[sku]
        assert left >= 0, f"{sku}: {-left} units were sold twice"
        assert not (left and waiting[sku]), f"{sku}: {left} units rest while {waiting[sku]} wait"
    assert await world.number("SELECT sum(on_hand) FROM pools") == sum(sent.received.values())
    assert await world.number("SELECT count(*) FROM orders WHERE placed_at IS NOT NULL") == len(
        {order_id for order_id, _ in sent.ordered}
    )
    assert await world.number("SELECT count(*) FROM dead_letters") == 0
    await world.audit()
    return subscriber


def some(wrong: dict[tuple[str, int], tuple[int, int]]) -> str:
    return ", ".join(f"{line}: {units}" for line, units in list(wrong.items())[:5])
