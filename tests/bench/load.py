"""What the figures are measured with: synthetic purchases, and real ones from Complete Journey.

Of each SKU, the lines that come first find stock and the last WAITING of them wait, so that the share is the same
however many orders there are. Which lines these are follows from the order in which partitions are read; how many does
not, but for lines that get a part. The same for the same seed.
"""

import heapq
import random
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backorder_local import datasets, replay
from backorder_local.purchases import Purchases
from tests.e2e.messages import Message, OrderLine, order, receipt

SKUS = 2000
WAITING = 0.07
"""The share of the lines that wait."""
LINES_PER_ORDER = (1, 1, 2, 3)
"""1.75 on average."""
UNITS_PER_LINE = (1, 1, 2, 4)
HOT = "SKU-hot"
JOURNEY_LINES = 1_469_307
"""All that Complete Journey has; those of 0 or more than 20 units are left out."""

Bought = tuple[tuple[str, int], ...]
"""(SKU, units) of the lines of one order."""


@dataclass(frozen=True, slots=True)
class Load:
    """`stock` is to be told and settled before `orders` are published. `lines` are those of all orders.

    `ids` are those of the orders (not of their cancels), in the order in which they were placed.
    """

    stock: Sequence[Message]
    orders: Sequence[Message]
    lines: int
    ids: Sequence[str]

    @property
    def bytes(self) -> int:
        return sum(len(each.value or b"") for each in self.orders)


def purchases(number: int, seed: int, *, skus: int = SKUS, hot: bool = False, prefix: str = "o") -> Load:
    """That many orders of 1.75 lines each. `hot`: every order wants the one hot SKU, beside others.

    Every SKU and order is named by `prefix`, so that several loads fit into one world.
    """
    stock = opening(bought(number, seed, skus=skus, hot=hot), prefix)
    orders = list(placed(number, seed, skus=skus, hot=hot, prefix=prefix))
    lines = sum(len(each) for each in bought(number, seed, skus=skus, hot=hot))
    return Load(stock, orders, lines, [f"{prefix}-{each}" for each in range(number)])


def placed(number: int, seed: int, *, skus: int = SKUS, hot: bool = False, prefix: str = "o") -> Iterator[Message]:
    """The orders of `purchases` one by one, where all of them would take too much memory."""
    for each, lines in enumerate(bought(number, seed, skus=skus, hot=hot)):
        named = [OrderLine(f"{prefix}-{sku}", units) for sku, units in lines]
        yield order(f"{prefix}-{each}", *named, email=f"customer-{each}@example.org")


def bought(number: int, seed: int, *, skus: int = SKUS, hot: bool = False) -> Iterator[Bought]:
    """What each order wants; SKUs without prefix."""
    chance = random.Random(seed)
    names = [f"SKU-{each}" for each in range(skus)]
    for _ in range(number):
        wanted = chance.choices(names, k=chance.choice(LINES_PER_ORDER))
        if hot:
            wanted[0] = HOT
        yield tuple((sku, chance.choice(UNITS_PER_LINE)) for sku in wanted)


def opening(orders: Iterable[Bought], prefix: str, waiting: float = WAITING) -> list[Message]:
    """Receipts of so many units that of the lines of each SKU the last ones wait."""
    return [
        receipt("opening", f"{prefix}-{sku}", units) for sku, units in units_there(orders, waiting).items() if units
    ]


def units_there(orders: Iterable[Bought], waiting: float = WAITING) -> Mapping[str, int]:
    """The units of each SKU that are there, so that this share of the lines waits.

    What rounding takes from one SKU's lines the next one gets: with few lines each, the share of all stays right.
    """
    by_sku: dict[str, array[int]] = defaultdict(lambda: array("H"))
    for order_lines in orders:
        for sku, units in order_lines:
            by_sku[sku].append(units)
    there = {}
    carried = 0.0
    for sku, units_of_lines in by_sku.items():
        wanted = (1 - waiting) * len(units_of_lines) + carried
        served = min(len(units_of_lines), round(wanted))
        carried = wanted - served
        there[sku] = sum(units_of_lines[:served])
    return there


def journey(lines: int, seed: int) -> Load:
    """About so many lines of real baskets with made-up cancels, as one stream in the order of time.

    The data has no supply. Stock is there from the start, for all but the last WAITING of the lines of each SKU.
    """
    real = datasets.read(None, lines=lines, seed=seed)
    counted = units_there(tuple((line.sku, line.quantity) for line in each.lines) for each in real.orders)
    stock = [receipt("opening", sku, units) for sku, units in counted.items() if units]
    ids = [each.order_id for each in real.orders]
    return Load(stock, list(_stream(real)), real.line_count, ids)


def _stream(real: Purchases) -> Iterator[Message]:
    orders = (replay.order_placed(each) for each in real.orders)
    cancels = (replay.order_cancelled(each) for each in real.cancels)
    for each in heapq.merge(orders, cancels, key=lambda outgoing: outgoing.at):
        yield Message(each.topic, each.key.encode(), replay.encoded(each))
