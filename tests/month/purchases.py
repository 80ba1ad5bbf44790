"""A month of real purchases as messages: orders and cancels from the data, the rest made up by a seeded policy.

Made up are supply (announced, moved, late, or not announced at all), policies, contacts and what customers want, and
how soon the warehouse ships and the carrier delivers. The same for the same seed.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from backorder_local import datasets, receipts
from backorder_local.purchases import Order, Purchases
from backorder_schemas import (
    CancelledLine,
    ContactChanged,
    Customer,
    InputMessage,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    SkuPolicyChanged,
    StockAdjusted,
    StockCounted,
    StockReceived,
    SupplyExpected,
)

ZONES = ("Europe/London", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "Nowhere/Atlantis")
LOCALES = ("en",) * 6 + ("de", "de-AT", "ar", "xx")


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of the outside, and when it is recorded."""

    at: datetime
    message: InputMessage


@dataclass(frozen=True, slots=True)
class Month:
    """All that the outside says, in order."""

    source: str
    sent: tuple[Sent, ...]
    start: datetime
    end: datetime
    orders: int
    lines: int


def read(data: Path | None, *, lines: int, seed: int, share: float = 1.0) -> Month:
    """About `lines` lines of purchases, of a share of the customers: fewer messages in the same stretch of time."""
    bought = _of_some(datasets.read(data, lines=lines, seed=seed), seed, share)
    supply = receipts.supply_for(bought, seed)
    sent = [
        *_policies(bought, seed),
        *_stock(supply, seed),
        *_announced(supply, seed),
        *_orders(bought, seed),
        *_corrections(bought),
        *_contacts(bought, seed),
    ]
    sent.sort(key=lambda each: each.at)
    return Month(bought.source, tuple(sent), supply.calendar.start, bought.end, len(bought.orders), bought.line_count)


def _of_some(bought: Purchases, seed: int, share: float) -> Purchases:
    def chosen(order: Order) -> bool:
        return _chance("share", seed, order.customer_id).random() < share

    orders = tuple(order for order in bought.orders if chosen(order))
    ids = {order.order_id for order in orders}
    return replace(
        bought,
        history=tuple(order for order in bought.history if chosen(order)),
        orders=orders,
        cancels=tuple(cancel for cancel in bought.cancels if cancel.order_id in ids),
        corrections=bought.corrections if share == 1.0 else (),
    )


def _chance(*what: object) -> random.Random:
    return random.Random("/".join(str(each) for each in what))


def _policies(bought: Purchases, seed: int) -> Iterator[Sent]:
    skus = sorted({line.sku for order in bought.orders for line in order.lines})
    at = bought.start - timedelta(hours=3)
    for number, sku in enumerate(skus):
        chance = _chance("policy", seed, sku)
        draw = chance.random()
        more: dict[str, Any] = {}
        if draw < 0.03:
            more = {"backorders": "deny"}
        elif draw < 0.05:
            more = {"backorders": "preorder", "release_at": bought.start + timedelta(days=chance.uniform(5, 20))}
        elif draw < 0.10:
            more = {"backorders": "allow", "waiting_limit": chance.randint(1, 30)}
        elif draw < 0.13:
            more = {"backorders": "allow", "max_wait_days": chance.randint(5, 20)}
        elif draw < 0.60:
            continue
        else:
            more = {"backorders": "allow"}
        if chance.random() < 0.4:
            more["default_lead_time_days"] = chance.randint(7, 21)
        if chance.random() < 0.3:
            more["substitutes"] = tuple(sorted({chance.choice(skus), chance.choice(skus)} - {sku}))
        title = bought.titles(sku) if number % 7 else f"Träume von  Tee <b>&amp;</b> {sku}"
        yield Sent(
            at,
            SkuPolicyChanged(id=f"policy/{sku}", occurred_at=at, sku=sku, revision=1, title=title or None, **more),
        )


def _stock(supply: receipts.Supply, seed: int) -> Iterator[Sent]:
    at = supply.calendar.start - timedelta(hours=2)
    for sku, units in supply.opening.items():
        yield Sent(at, StockCounted(id=f"opening/{sku}", occurred_at=at, count_id="opening", sku=sku, counted=units))
    for each in supply.receipts:
        at = _arrives(supply, each, seed)
        yield Sent(
            at,
            StockReceived(
                id=each.receipt_id,
                occurred_at=at,
                receipt_id=each.receipt_id,
                sku=each.sku,
                quantity=each.quantity,
                supply_id=f"po/{each.receipt_id}",
                supplier="ACME",
            ),
        )


def _arrives(supply: receipts.Supply, receipt: receipts.Receipt, seed: int) -> datetime:
    """Some time in its slot, so that not all SKUs arrive at once."""
    return supply.calendar.begin(receipt.slot) + supply.calendar.slot * _chance("arrives", seed, receipt).random()


def _announced(supply: receipts.Supply, seed: int) -> Iterator[Sent]:
    """Half of the supplies come as announced; others are announced too early and moved, or come late without a word."""
    for each in supply.receipts:
        chance = _chance("announced", seed, each.receipt_id)
        arrives = _arrives(supply, each, seed)
        first = max(supply.calendar.start, arrives - timedelta(days=chance.uniform(2, 9)))
        in_time = arrives + timedelta(hours=chance.uniform(0, 12))
        draw = chance.random()
        dates: list[tuple[datetime, datetime]]
        if draw < 0.05:
            continue
        if draw < 0.50:
            dates = [(first, in_time)]
        elif draw < 0.75:
            early = max(first + timedelta(days=1), arrives - timedelta(days=chance.uniform(3, 7)))
            dates = [(first, early), (first + (early - first) * chance.random(), in_time)]
        elif draw < 0.85:
            other = in_time + timedelta(days=chance.uniform(3, 8))
            moved = first + timedelta(hours=chance.uniform(1, 30))
            dates = [(first, in_time), (moved, other), (moved + timedelta(minutes=chance.uniform(1, 25)), in_time)]
        else:
            dates = [(first, max(first, arrives - timedelta(days=chance.uniform(1.5, 4))))]
        for revision, (at, expected) in enumerate(dates, 1):
            if at >= arrives:
                continue
            yield Sent(
                at,
                SupplyExpected(
                    id=f"supply/{each.receipt_id}/{revision}",
                    occurred_at=at,
                    supply_id=f"po/{each.receipt_id}",
                    revision=revision,
                    sku=each.sku,
                    quantity=each.quantity,
                    expected_at=expected,
                    supplier="ACME",
                ),
            )


def _orders(bought: Purchases, seed: int) -> Iterator[Sent]:
    for order in bought.orders:
        yield Sent(order.placed_at, _placed(order, seed))
    for cancel in bought.cancels:
        lines = None
        if cancel.lines is not None:
            lines = tuple(CancelledLine(line_no=number, quantity=units) for number, units in cancel.lines)
        yield Sent(
            cancel.at,
            OrderCancelled(
                id=f"cancel/{cancel.id}",
                occurred_at=cancel.at,
                order_id=cancel.order_id,
                by="customer" if _chance("by", seed, cancel.id).random() < 0.8 else "shop",
                lines=lines,
            ),
        )


def _placed(order: Order, seed: int) -> OrderPlaced:
    chance = _chance("customer", seed, order.customer_id)
    return OrderPlaced(
        id=f"placed/{order.order_id}",
        occurred_at=order.placed_at,
        order_id=order.order_id,
        placed_at=order.placed_at,
        currency=order.currency,
        customer=Customer(
            customer_id=order.customer_id,
            email=order.email,
            name=None if chance.random() < 0.2 else chance.choice(("Ada", "Grace Brewster Murray", "José", "نور")),
            phone="+4915112345678" if chance.random() < 0.2 else None,
            locale=chance.choice(LOCALES),
            timezone=chance.choice(ZONES),
        ),
        order_url=f"https://shop.example.org/orders/{order.order_id}" if chance.random() < 0.7 else None,
        delivery="complete" if _chance("delivery", seed, order.order_id).random() < 0.25 else "split",
        lines=tuple(
            OrderLine(line_no=line.line_no, sku=line.sku, quantity=line.quantity, unit_price=Decimal(line.unit_price))
            for line in order.lines
        ),
    )


def _corrections(bought: Purchases) -> Iterator[Sent]:
    for each in bought.corrections:
        yield Sent(
            each.at,
            StockAdjusted(
                id=f"correction/{each.id}",
                occurred_at=each.at,
                adjustment_id=each.id,
                sku=each.sku,
                delta=each.delta,
                reason=each.reason,
            ),
        )


def _contacts(bought: Purchases, seed: int) -> Iterator[Sent]:
    first: dict[str, datetime] = {}
    for order in bought.orders:
        first.setdefault(order.customer_id, order.placed_at)
    for customer_id, at in first.items():
        chance = _chance("contact", seed, customer_id)
        draw = chance.random()
        if draw > 0.15:
            continue
        changed = at + timedelta(days=chance.uniform(-1, 10))
        more: dict[str, Any]
        if draw < 0.06:
            more = {"optional_kinds": False}
        elif draw < 0.10:
            more = {"email": f"new-{customer_id}@example.net", "locale": "en"}
        else:
            more = {"timezone": chance.choice(ZONES)}
        yield Sent(
            changed,
            ContactChanged(
                id=f"contact/{customer_id}", occurred_at=changed, customer_id=customer_id, revision=1, **more
            ),
        )


def parts(sent: Sequence[Sent], most: int) -> Iterator[Sequence[Sent]]:
    for first in range(0, len(sent), most):
        yield sent[first : first + most]
