"""Orders: placed, and cancelled in whole or in part at any time before shipping."""

from datetime import timedelta

from backorder_allocator.decision import APPLIED, Cancel, Outcome
from backorder_allocator.fingerprints import fingerprint
from backorder_allocator.fulfilment import book_early
from backorder_allocator.promises import later
from backorder_allocator.ranking import head_start, ranked_at, storable
from backorder_allocator.state import Line, Order, PoolKey
from backorder_allocator.work import Work, again
from backorder_schemas import BackorderCancelled, OrderCancelled, OrderLine, OrderPlaced


def place(work: Work, message: OrderPlaced) -> Outcome:
    """Take a new order: stock that is there, places in queues, and what was said about it before it came."""
    content = fingerprint(message)
    order = work.state.orders.get(message.order_id)
    if order is not None and order.fingerprint is not None:
        return again(order.fingerprint == content, f"order {message.order_id} was placed with other content")
    if order is None:
        order = work.new_order(message.order_id)
    else:
        work.change(order)
    start = head_start(message, work.rules.head_starts)
    order.placed_at = storable(min(message.placed_at, work.item.now))
    order.ranked_at = ranked_at(order.placed_at, start)
    order.head_start, order.head_start_reason = start.duration, start.reason
    order.delivery = message.delivery
    order.customer_id = message.customer.customer_id
    order.fingerprint = content
    ordered = sorted(message.lines, key=lambda each: each.line_no)
    for each in ordered:
        line = Line((order.ranked_at, order.order_id, each.line_no), PoolKey(each.sku, each.location), each.quantity)
        order.lines[each.line_no] = line
        work.decision.new_lines[order.order_id, each.line_no] = line
    for early in order.early_cancels:
        for line, units in named_units(order, early):
            line.cancelled += min(units, line.ordered - line.cancelled)
    for each in ordered:
        begin(work, order, order.lines[each.line_no], each)
    book_early(work, order)
    work.touch(order)
    return APPLIED


def begin(work: Work, order: Order, line: Line, asked: OrderLine) -> None:
    """Give a new line what is there now; the rest waits or is refused."""
    pool = work.named_pool(line.pool)
    wanted = line.ordered - line.cancelled
    # Nobody who arrives later takes what a waiting customer is owed.
    there = 0 if pool.waiting else min(wanted, pool.available)
    # In a pre-order everything begins to wait, so that the customer hears of the date; what is there is filled at once.
    preorders = pool.takes_preorders(work.item.now)
    begins_to_wait = there if preorders else 0
    line.allocated = there - begins_to_wait
    pool.allocated += line.allocated
    if wanted > there:
        begins_to_wait += may_wait(work, order, line, asked, wanted - there, begins_to_wait)
    if begins_to_wait:
        work.wait(order, line, begins_to_wait, "ordered")
        if preorders:
            work.serve(pool)


def may_wait(work: Work, order: Order, line: Line, asked: OrderLine, units: int, beside: int) -> int:
    """How many of these units may wait, `beside` others of the line; the rest is rejected with its reason."""
    pool = work.pool(line.pool)
    policy = pool.policy
    if not asked.accepts_backorder:
        work.reject(order, line, units, "not_accepted")
        return 0
    if policy.backorders == "deny":
        work.reject(order, line, units, "denied")
        return 0
    if policy.waiting_limit is not None:
        room = max(0, policy.waiting_limit - pool.waiting)
        if units > room:
            limit = {"waiting_limit": policy.waiting_limit, "waiting": pool.waiting}
            work.reject(order, line, units - room, "waiting_limit", **limit)
            units = room
    if units and policy.max_wait_days is not None and order.placed_at is not None:
        latest = later(order.placed_at, timedelta(days=policy.max_wait_days))
        _, promised = work.promise(order, line, units + beside)
        if promised.at is None or promised.at > latest:
            at = None if promised.at is None else promised.at.isoformat()
            work.reject(order, line, units, "max_wait", max_wait_days=policy.max_wait_days, would_be_at=at)
            units = 0
    return units


def cancel(work: Work, message: OrderCancelled) -> Outcome:
    """Take back what is no longer wanted; a cancel that comes before its order is remembered."""
    content = fingerprint(message)
    seen = work.state.cancels.get(message.id)
    if seen is not None:
        return again(seen == content, f"cancel {message.id} was sent with other content")
    order = work.state.orders.get(message.order_id)
    early = order is None or order.placed_at is None
    if order is not None and not early:
        unknown = [each.line_no for each in message.lines or () if each.line_no not in order.lines]
        if unknown:
            return Outcome("dead_letter", "impossible", f"order {order.order_id} has no line {unknown[0]}")
    work.state.cancels[message.id] = content
    work.decision.cancels.append(Cancel(message, content, early, work.item.now))
    if order is None:
        order = work.new_order(message.order_id)
    if early:
        order.early_cancels += (message,)
        return APPLIED
    # All lines are booked before freed stock serves the queue: else a line that is about to be cancelled could be
    # filled by another line of the same message.
    freed: dict[PoolKey, None] = {}
    for line, units in named_units(order, message):
        if cancel_line(work, order, line, units, message.by):
            freed[line.pool] = None
    for key in freed:
        work.serve(work.pool(key))
    work.touch(order)
    return APPLIED


def cancel_line(work: Work, order: Order, line: Line, units: int, by: str) -> bool:
    """Cancel up to `units` open units: waiting ones first, then held, then released. True if stock was freed."""
    from_waiting = min(units, line.waiting)
    from_allocated = min(units - from_waiting, line.allocated - line.shipped)
    if not from_waiting and not from_allocated:
        return False
    if from_allocated:
        work.take_back(order, line, from_allocated, "cancelled")
    if from_waiting:
        # A cancelled backorder frees demand, not supply: it fills nobody.
        work.shift(line, -from_waiting)
        work.tell(BackorderCancelled, order, line, quantity=from_waiting, quantity_waiting=line.waiting, by=by)
    line.cancelled += from_waiting + from_allocated
    work.change_line(line)
    work.moves(line.pool, "cancelled_ahead")
    return from_allocated > 0


def named_units(order: Order, message: OrderCancelled) -> list[tuple[Line, int]]:
    """The lines a cancel names, with the most units it takes from each. Lines the order doesn't have are left out."""
    lines = [line for _, line in sorted(order.lines.items())]
    if message.lines is None:
        return [(line, line.ordered) for line in lines]
    # A line that is named twice is one cancel of the sum, so that its events come once and in their order.
    named: dict[int, int] = {}
    for each in message.lines:
        if each.line_no in order.lines:
            units = each.quantity or order.lines[each.line_no].ordered
            named[each.line_no] = named.get(each.line_no, 0) + units
    return [(line, named[line.line_no]) for line in lines if line.line_no in named]
