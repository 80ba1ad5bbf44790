"""Who gets which unit: the rules of DESIGN §3 as one pure function over rows.

`decide` takes messages one by one in the order received, so that `decide(state, [a, b])` equals deciding `a` and then
`b`: batch size, restarts and redelivery never change who gets what. It reads no clock and no random number; *now* comes
with each message. Every unit is in one place at any moment: ordered = allocated + waiting + cancelled + rejected.
"""

from collections.abc import Sequence
from typing import assert_never

from backorder_allocator.decision import (
    APPLIED,
    Decision,
    EscalationDue,
    Input,
    Outcome,
    ReleaseDue,
    Rules,
    SupplyDue,
)
from backorder_allocator.fulfilment import deliver, ship
from backorder_allocator.placing import cancel, place
from backorder_allocator.policies import change_policy, end_preorder
from backorder_allocator.state import State
from backorder_allocator.stock import move_stock
from backorder_allocator.supplies import announce, cancel_supply, overdue
from backorder_allocator.work import Work
from backorder_schemas import (
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderPlaced,
    SkuPolicyChanged,
    StockAdjusted,
    StockCounted,
    StockReceived,
    SupplyCancelled,
    SupplyExpected,
)


def decide(state: State, inputs: Sequence[Input], rules: Rules) -> Decision:
    """Apply messages one by one to a copy of `state`; `state` itself stays as it is."""
    work = Work(state, rules)
    for item in inputs:
        work.begin(item)
        work.decision.outcomes.append(_take(work, item))
        work.end()
    return work.decision


def _take(work: Work, item: Input) -> Outcome:
    message = item.message
    match message:
        case OrderPlaced():
            return place(work, message)
        case OrderCancelled():
            return cancel(work, message)
        case StockReceived() | StockAdjusted() | StockCounted():
            return move_stock(work, message)
        case SupplyExpected():
            return announce(work, message)
        case SupplyCancelled():
            return cancel_supply(work, message)
        case SkuPolicyChanged():
            return change_policy(work, message)
        case LinesShipped():
            return ship(work, message)
        case LinesDelivered():
            return deliver(work, message)
        case EscalationDue():
            return escalate(work, message)
        case ReleaseDue():
            return end_preorder(work, message)
        case SupplyDue():
            return overdue(work, message)
        case _:
            assert_never(message)


def escalate(work: Work, timer: EscalationDue) -> Outcome:
    """A `complete` order has waited long enough: from now on each part ships as it is allocated."""
    order = work.state.orders.get(timer.order_id)
    if order is None or order.escalated or order.delivery != "complete":
        return Outcome("ignored", "nothing_is_due")
    order.escalated = True
    work.change(order)
    work.touch(order)
    return APPLIED
