"""What a demo found, in numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from backorder_local import measure
from backorder_local.mail_store import Mail
from backorder_local.measure import Latency, Ledger
from backorder_local.purchases import Purchases
from backorder_local.receipts import Supply
from backorder_local.replay import Published


@dataclass(frozen=True, slots=True)
class Audit:
    """What `backorder-allocator audit` found."""

    clean: bool
    rules: int
    checked: int
    violations: dict[str, int]


@dataclass(frozen=True, slots=True)
class Decided:
    """What `backorder-notifier status` says of the events that may concern customers.

    `later`: news that waits for its time (more of the same may come first). `not_told` by reason.
    """

    events: int
    later: int
    not_told: dict[str, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """All numbers of a demo; the keys of `--json`. Units are units of goods, `…_ms` milliseconds."""

    source: str
    first_placed_at: str
    last_placed_at: str
    orders: int
    lines: int
    units: int
    customers: int
    cancels: int
    corrections: int
    receipts: int
    receipt_units: int
    opening_units: int
    stock_cover: float
    units_allocated_at_once: int
    lines_waited: int
    orders_waited: int
    units_waited: int
    units_stock_lost: int
    units_filled: int
    units_cancelled_waiting: int
    units_cancelled_allocated: int
    lines_waiting: int
    units_waiting: int
    mails_sent: int
    mails_not_sent: dict[str, int]
    events_not_told: dict[str, int]
    events_told_later: int
    events_untold: int
    seconds: float
    orders_per_second: float
    lines_per_second: float
    receipt_to_filled: Latency | None
    event_to_mail: Latency | None
    audit: Audit
    most_waited_for_sku: str | None
    most_waited_for_title: str
    most_waited_for_lines: int
    example_order: str | None

    @property
    def fine(self) -> bool:
        return self.audit.clean and self.events_untold == 0


def sum_up(
    bought: Purchases,
    supply: Supply,
    published: Published,
    ledger: Ledger,
    mails: Sequence[Mail],
    decided: Decided,
    audit: Audit,
) -> Summary:
    seconds = max(0.001, (ledger.last_decision_ms - published.first_ms) / 1000)
    waiting = {line: units for line, units in ledger.waiting.items() if units}
    order_ids = {order.order_id for order in bought.orders}
    sku, lines = max(ledger.sku_waiting.items(), key=lambda item: len(item[1]), default=("", set()))
    example = next(reversed(ledger.filled_orders), None)
    return Summary(
        source=bought.source,
        first_placed_at=f"{bought.start:%Y-%m-%d %H:%M}",
        last_placed_at=f"{bought.orders[-1].placed_at:%Y-%m-%d %H:%M}",
        orders=len(bought.orders),
        lines=bought.line_count,
        units=sum(line.quantity for order in bought.orders for line in order.lines),
        customers=len({order.customer_id for order in bought.orders}),
        cancels=len(bought.cancels),
        corrections=len(bought.corrections),
        receipts=len(supply.receipts),
        receipt_units=sum(each.quantity for each in supply.receipts),
        opening_units=sum(supply.opening.values()),
        stock_cover=round(supply.cover, 2),
        units_allocated_at_once=ledger.units["at_once"],
        lines_waited=len(ledger.waited_lines),
        orders_waited=len({order_id for order_id, _ in ledger.waited_lines}),
        units_waited=ledger.units["waited"],
        units_stock_lost=ledger.units["stock_lost"],
        units_filled=ledger.units["filled"],
        units_cancelled_waiting=ledger.units["cancelled_waiting"],
        units_cancelled_allocated=ledger.units["revoked_cancelled"],
        lines_waiting=ledger.lines_waiting,
        units_waiting=sum(waiting.values()),
        mails_sent=len(ledger.sent),
        mails_not_sent=dict(Counter(each.failure for each in ledger.told if each.failure is not None)),
        events_not_told=decided.not_told,
        events_told_later=decided.later,
        events_untold=max(0, len(ledger.to_tell) - decided.events - decided.later),
        seconds=round(seconds, 3),
        orders_per_second=round(len(bought.orders) / seconds, 1),
        lines_per_second=round(bought.line_count / seconds, 1),
        receipt_to_filled=measure.receipt_to_filled(ledger, published.receipts),
        event_to_mail=measure.event_to_mail(ledger, mails, order_ids),
        audit=audit,
        most_waited_for_sku=sku if lines else None,
        most_waited_for_title=bought.titles(sku) if lines else "",
        most_waited_for_lines=len(lines),
        example_order=example or next((order_id for order_id, _ in waiting), None),
    )


def example_mail(mails: Sequence[Mail], ledger: Ledger) -> Mail | None:
    """The newest mail about the order that the commands name, or the newest of all."""
    order = next(reversed(ledger.filled_orders), None)
    of_order = (mail for mail in reversed(mails) if order and measure.order_of(mail, {order}))
    return next(of_order, mails[-1] if mails else None)
