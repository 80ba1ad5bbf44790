"""Decides what customers are told: orders whose time has come, each with all its news, in one transaction.

What to say is decided by `telling` (pure); here the rows are locked, read, and written set-wise: however many orders
are decided on, the number of statements is the same.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from backorder_notifier import store, told_store
from backorder_notifier.cases import Known, alternatives, case_of, skus_of, view_of
from backorder_notifier.contacts import suppression_key
from backorder_notifier.decided import Decided
from backorder_notifier.errors import describe, is_not_ready
from backorder_notifier.fail_points import reached
from backorder_notifier.policy import Policy
from backorder_notifier.statements import Connection
from backorder_notifier.telemetry import TELLING_FAILED, logger
from backorder_notifier.telling import compose
from backorder_notifier.timing import local_midnight
from backorder_notifier.told_rows import OpenRow, TellingRow

log = logger("teller")

LIMIT: Final = 200
"""Orders decided on in one transaction."""
_IN_HAND: Final = timedelta(seconds=1)  # until a sender that has the order's message is asked again
_AFTER_FAILURE: Final = timedelta(minutes=1)


@dataclass(slots=True)
class TellReport:
    """What a round did. `looked_at`: orders decided on; `open`: orders whose message a sender has in hand just now."""

    looked_at: int = 0
    open: int = 0
    messages: int = 0
    due: int = 0
    to_publish: int = 0
    verdicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # kind, state, reason
    failed: list[str] = field(default_factory=list)
    more: bool = False

    def add(self, other: "TellReport") -> None:
        self.looked_at += other.looked_at
        self.open += other.open
        self.messages += other.messages
        self.due += other.due
        self.to_publish += other.to_publish
        self.verdicts.update(other.verdicts)
        self.failed += other.failed


async def tell_due(connection: Connection, policy: Policy, now: datetime, limit: int = LIMIT) -> TellReport:
    """Decide on the orders whose time has come, at most `limit` of them, the longest due first.

    Raises what the database raises while it is away, with nothing changed. An order that can't be decided on, be it for
    a bug or for a value that can't be stored, is found by halving, reported in `failed`, and tried again in a minute.
    """
    taken: list[str] = []
    try:
        async with connection.transaction():
            orders = await told_store.take_orders_to_tell(connection, now, limit)
            taken += [row.order_id for row in orders]
            report = await _tell(connection, orders, policy, now) if orders else TellReport()
            if orders:
                reached("teller.before_commit")
    except Exception as error:
        if is_not_ready(error) or not taken:
            raise
        report = await _tell_apart(connection, taken, error, policy, now)
    report.more = len(taken) == limit
    if taken:
        reached("teller.after_commit")
    return report


async def _tell_apart(
    connection: Connection, order_ids: Sequence[str], error: Exception, policy: Policy, now: datetime
) -> TellReport:
    """Both halves by themselves, of orders that could not be decided on together."""
    if len(order_ids) == 1:
        _complain(order_ids[0], error)
        async with connection.transaction():
            await _give_up_for_now(connection, order_ids, now)
        return TellReport(failed=list(order_ids))
    report = TellReport()
    for half in (order_ids[: len(order_ids) // 2], order_ids[len(order_ids) // 2 :]):
        try:
            async with connection.transaction():
                orders = await told_store.take_named_orders_to_tell(connection, now, half)
                report.add(await _tell(connection, orders, policy, now))
        except Exception as again:
            if is_not_ready(again):
                raise
            report.add(await _tell_apart(connection, half, again, policy, now))
    return report


async def _give_up_for_now(connection: Connection, order_ids: Sequence[str], now: datetime) -> None:
    await told_store.tell_later(connection, dict.fromkeys(order_ids, now + _AFTER_FAILURE))
    await told_store.note_undecided(connection, order_ids, "telling_failed")


def _complain(order_id: str, error: Exception) -> None:
    TELLING_FAILED.inc()
    log.error("telling_failed", order_id=order_id, **describe(error))


async def _tell(connection: Connection, orders: Sequence[TellingRow], policy: Policy, now: datetime) -> TellReport:
    """Decide on orders, locked. Locks their customers and open deliveries; reads; decides; writes."""
    report = TellReport()
    customers = await told_store.lock_customers_to_tell(connection, {row.customer_id for row in orders})
    orders = [row for row in orders if row.customer_id in customers or not row.has_customer]
    if not orders:
        return report
    open_deliveries = await told_store.lock_open_deliveries(connection, [row.order_id for row in orders], now)
    # The shop's own system gets each message: its delivery stays where the customer has read the message already, for
    # then what it told is not told again.
    withdrawable = [row for row in open_deliveries if not (row.channel == "webhook" and row.reached)]
    held = {row.order_id for row in withdrawable if row.held}
    if held:
        await told_store.tell_later(connection, dict.fromkeys(sorted(held), now + _IN_HAND))
        report.open = len(held)
        orders = [row for row in orders if row.order_id not in held]
        if not orders:
            return report

    known = await _read(connection, orders, [row for row in withdrawable if row.order_id not in held], policy, now)
    decided, failed = await _decide(connection, orders, known, policy, now)
    await _write(connection, decided, now, report)
    if failed:
        await _give_up_for_now(connection, failed, now)
        report.failed += failed
    return report


async def _read(
    connection: Connection, orders: Sequence[TellingRow], withdrawable: Sequence[OpenRow], policy: Policy, now: datetime
) -> Known:
    order_ids = [row.order_id for row in orders]
    given_back = sorted({row.message_id for row in withdrawable if not row.reached})
    contacts = await told_store.contacts_to_tell(connection, order_ids)
    addresses = {
        (str(channel), address)
        for contact in contacts.values()
        for channel in policy.channels
        if (address := suppression_key(channel, contact)) is not None
    }
    suppressed = await told_store.suppressed_addresses(connection, addresses)
    since = [(row.order_id, row.customer_id, local_midnight(now, contacts[row.order_id].timezone)) for row in orders]
    of_order: dict[str, list[OpenRow]] = {}
    for row in withdrawable:
        of_order.setdefault(row.order_id, []).append(row)
    return Known(
        contacts,
        frozenset(suppressed),
        await told_store.updates_to_decide(connection, order_ids, given_back),
        await told_store.told_losses(connection, order_ids, given_back),
        await told_store.count_messages(connection, since, given_back),
        of_order,
    )


async def _decide(
    connection: Connection, orders: Sequence[TellingRow], known: Known, policy: Policy, now: datetime
) -> tuple[Decided, list[str]]:
    """The decisions, and orders that none could be made about."""
    failed = []
    cases = []
    for row in orders:
        try:
            cases.append(case_of(row, known))
        except Exception as error:
            _complain(row.order_id, error)
            failed.append(row.order_id)
    titles = await told_store.titles(connection, {sku for case in cases for sku in skus_of(case)})
    stock = await told_store.in_stock(connection, {pair for case in cases for pair in alternatives(case)})
    decided = Decided()
    sent_now: Counter[str] = Counter()
    for case in cases:
        try:
            decision = compose(
                view_of(case, known, policy, sent_now[case.row.customer_id]), case.pending, titles,
                lambda location, sku: (location, sku) in stock, policy, now,
            )  # fmt: skip
            decided.add(
                case.row, decision, known.updates.get(case.row.order_id, ()),
                known.withdrawable.get(case.row.order_id, ()),
            )  # fmt: skip
        except Exception as error:
            _complain(case.row.order_id, error)
            failed.append(case.row.order_id)
            continue
        if decision.message is not None and decision.message.due_at:
            sent_now[case.row.customer_id] += 1
    return decided, failed


async def _write(connection: Connection, decided: Decided, now: datetime, report: TellReport) -> None:
    if decided.withdrawn:
        await told_store.withdraw_deliveries(connection, decided.withdrawn, now)
    if decided.unsaid:
        await told_store.withdraw_timers(connection, sorted(decided.unsaid), now)
    new: set[UUID] = set()
    if decided.messages:
        await told_store.record_messages(connection, now, decided.messages)
        new = await told_store.record_message_deliveries(connection, now, decided.deliveries)
    if decided.verdicts:
        await told_store.decide_updates(connection, now, decided.verdicts)
    if decided.timers:
        await told_store.record_timers(connection, now, decided.timers)
    orders, outcomes = decided.outcomes(new, now, await store.read_epoch(connection))
    await told_store.save_told_orders(connection, orders)
    if outcomes:
        await store.append_outbox(connection, outcomes)
    report.looked_at += len(orders)
    report.messages += len(decided.messages)
    report.due += sum(each.state == "due" and each.delivery_id in new for each in decided.deliveries)
    report.to_publish += len(outcomes)
    report.verdicts.update(decided.counts)
