"""A shop whose every message goes through PostgreSQL, and a week in its life in which everything happens once."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from backorder_allocator import batches, planning, store
from backorder_allocator.decision import Message, Rules, SupplyDue, Timer
from backorder_allocator.loading import Context
from backorder_allocator.ranking import HeadStartRules
from backorder_allocator.state import PoolKey
from backorder_schemas import (
    CancelledLine,
    Customer,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    ShippedLine,
    SkuPolicyChanged,
    StockAdjusted,
    StockReceived,
    SupplyExpected,
)
from tests.allocator.records import Partitions
from tests.allocator.strategies import START, Sent

HOUR = timedelta(hours=1)
RULES = Rules(
    head_starts=HeadStartRules({"gold": timedelta(days=2)}),
    escalates_after=timedelta(days=1000),
)


def day(number: float) -> datetime:
    """So many days after the week began, at nine."""
    return START + timedelta(days=number)


class StoredShop:
    """Sends messages through the transactions of the service. Each comes an hour after the one before."""

    def __init__(self, connection: asyncpg.Connection, rules: Rules = RULES) -> None:
        self.connection = connection
        self.rules = rules
        self.now = START
        self.partitions = Partitions()
        self.context = Context(rules)

    async def open(self) -> None:
        self.context.rules_id = await store.register_rules(self.connection, self.rules)

    async def send(self, *messages: Message) -> list[str]:
        """The outcomes: reasons, where they have one."""
        records = []
        for message in messages:
            records.append(self.partitions.record(Sent(message, self.now)))
            self.now += HOUR
        await store.add_cursors(self.connection, {(record.topic, record.partition) for record in records})
        worked = await batches.work(self.connection, records, self.context, self.now)
        return [outcome.reason or outcome.kind for outcome in worked.outcomes]

    async def fire(self, timer: Timer, due: datetime) -> bool:
        self.now = max(self.now, due)
        return await batches.fire(self.connection, timer, due, self.context, self.now)

    async def plan(self) -> None:
        """The planner runs for all pools."""
        pools = [
            PoolKey(row["sku"], row["location"])
            for row in await self.connection.fetch("SELECT * FROM pools ORDER BY 1")
        ]
        await planning.plan_once(self.connection, pools, self.now, 1000, self.context)

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────

    def order(self, order_id: str, *lines: OrderLine | int, segment: str = "standard", **more: Any) -> OrderPlaced:
        """Lines by their quantity are of SKU X."""
        return OrderPlaced(
            id=f"placed {order_id}",
            occurred_at=self.now,
            order_id=order_id,
            currency="EUR",
            customer=Customer(customer_id="c-7", segment=segment, email="ada@example.org"),
            lines=tuple(each if isinstance(each, OrderLine) else line(n, each) for n, each in enumerate(lines, 1)),
            **{"placed_at": self.now} | more,
        )

    def cancel(self, order_id: str, *lines: tuple[int, int | None]) -> OrderCancelled:
        named = tuple(CancelledLine(line_no=number, quantity=units) for number, units in lines) or None
        id_ = f"cancel {order_id}"
        return OrderCancelled(id=id_, occurred_at=self.now, order_id=order_id, by="customer", lines=named)

    def receipt(self, receipt_id: str, quantity: int, sku: str = "X", supply_id: str | None = None) -> StockReceived:
        return StockReceived(
            id=f"receipt {receipt_id}",
            occurred_at=self.now,
            receipt_id=receipt_id,
            sku=sku,
            quantity=quantity,
            supply_id=supply_id,
        )

    def adjustment(self, adjustment_id: str, delta: int, sku: str = "X") -> StockAdjusted:
        return StockAdjusted(
            id=f"adjustment {adjustment_id}",
            occurred_at=self.now,
            adjustment_id=adjustment_id,
            sku=sku,
            delta=delta,
            reason="broken",
        )

    def supply(
        self,
        supply_id: str,
        quantity: int,
        expected_at: datetime,
        *,
        revision: int = 1,
        sku: str = "X",
        supplier: str = "acme",
    ) -> SupplyExpected:
        return SupplyExpected(
            id=f"supply {supply_id} {revision}",
            occurred_at=self.now,
            supply_id=supply_id,
            revision=revision,
            sku=sku,
            quantity=quantity,
            expected_at=expected_at,
            supplier=supplier,
        )

    def policy(self, sku: str = "X", **rules: Any) -> SkuPolicyChanged:
        fields: dict[str, Any] = {"revision": 1, "backorders": "allow"} | rules
        return SkuPolicyChanged(id=f"policy {sku} {fields['revision']}", occurred_at=self.now, sku=sku, **fields)

    def shipment(self, shipment_id: str, order_id: str, *lines: tuple[int, int]) -> LinesShipped:
        return LinesShipped(
            id=f"shipment {shipment_id} {order_id}",
            occurred_at=self.now,
            shipment_id=shipment_id,
            order_id=order_id,
            lines=tuple(ShippedLine(line_no=number, quantity=units) for number, units in lines),
            carrier="DHL",
        )

    def delivery(self, shipment_id: str, order_id: str) -> LinesDelivered:
        return LinesDelivered(
            id=f"delivery {shipment_id} {order_id}",
            occurred_at=self.now,
            shipment_id=shipment_id,
            order_id=order_id,
            delivered_at=self.now,
        )


def line(line_no: int, quantity: int, sku: str = "X", **more: Any) -> OrderLine:
    return OrderLine(line_no=line_no, sku=sku, quantity=quantity, unit_price=Decimal("1.00"), **more)


async def a_week(connection: asyncpg.Connection) -> StoredShop:
    """At its end "gold" (1 of 2), "standard" (2 of 5) and "whole" (1) wait for X in this order."""
    shop = StoredShop(connection)
    await shop.open()
    # X is scarce, Y is there, P can be pre-ordered, R is refused to those who come late.
    await shop.send(
        shop.policy("X", waiting_limit=100, low_stock_at=1, default_lead_time_days=60, substitutes=("Y",)),
        shop.policy("P", backorders="preorder", release_at=day(2000)),
        shop.policy("R", waiting_limit=3),
        shop.receipt("r1", 3),
        shop.receipt("r2", 9, "Y"),
        shop.supply("S-1", 4, day(20)),
        shop.supply("S-2", 2, day(1), sku="Y", supplier="brandt"),
    )
    await shop.send(
        shop.order("standard", 5, placed_at=START),
        shop.order("gold", 2, segment="gold", placed_at=START),
        shop.order("gone", 1),
        shop.cancel("gone"),
        shop.order("whole", line(1, 1), line(2, 2, "Y"), delivery="complete"),
        shop.order("early bird", line(1, 2, "P")),
        shop.receipt("r3", 1, "P"),
        shop.order("patient", line(1, 1, "R")),
        shop.order("refused", line(1, 5, "R")),
    )
    # Some come before their order, which takes what it has.
    await shop.send(
        shop.cancel("not here yet", (1, 1)),
        shop.shipment("sh0", "not here yet", (1, 1)),
        shop.cancel("foreseen", (1, 1), (9, 2)),
        shop.shipment("sh1", "foreseen", (1, 2)),
        shop.order("foreseen", line(1, 3, "Y")),
    )
    await shop.plan()
    # The supply of X is late, as it turns out; the one of Y comes a day and a half after its date, in part.
    await shop.send(shop.supply("S-1", 4, day(4000), revision=2))
    await shop.plan()
    await shop.fire(SupplyDue("S-2", "Y"), day(1))
    shop.now = day(2.5)
    await shop.send(
        shop.receipt("r4", 1, "Y", supply_id="S-2"),
        shop.shipment("sh2", "standard", (1, 1)),
        shop.delivery("sh2", "standard"),
        # The warehouse ships what waits behind "patient", and what was refused.
        shop.shipment("sh3", "refused", (1, 4)),
        shop.receipt("r5", 5, "R"),
        # Stock of Y is lost and comes back: "whole" loses what it holds before "late" does, and gets it again.
        shop.order("late", line(1, 1, "Y")),
        shop.adjustment("a1", -6, "Y"),
        shop.adjustment("a2", 1, "Y"),
        shop.receipt("r6", 1),
    )
    await shop.plan()
    return shop
