"""Mistakes that one could make in the rules of allocation and the planner, each as a change of the source text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """A named mistake: in `module`, each text that must occur exactly once, and what stands there instead."""

    name: str
    module: str
    changes: tuple[tuple[str, str], ...]


def in_(module: str, name: str, *changes: tuple[str, str]) -> Mutation:
    return Mutation(name, f"{module}.py", changes)


ORDERS = (
    in_("placing", "rank is the order of arrival", ("ranked_at(order.placed_at, start)", "work.item.now")),
    in_(
        "placing",
        "two lines of one SKU do not see each other",
        (
            "min(wanted, pool.available)",
            "min(wanted, pool.available + sum(x.allocated for x in order.lines.values() if x.pool == line.pool))",
        ),
    ),
    in_(
        "placing",
        "one unit too many is promised to a new order",
        ("min(wanted, pool.available)", "min(wanted, pool.available + 1)"),
    ),
    in_(
        "placing",
        "an order from the future stays there",
        ("min(message.placed_at, work.item.now)", "message.placed_at"),
    ),
    in_("ranking", "head starts are said but not given", ("return placed_at - start.duration", "return placed_at")),
    in_("ranking", "the exact amount is not enough", ("value >= rule.at_least", "value > rule.at_least")),
    in_("ranking", "a value rule counts for all currencies", ("rule.currency == order.currency and ", "")),
    in_("ranking", "the last head start counts, not the largest", (" and rule.head_start > best.duration:", ":")),
    in_(
        "state", "the queue is served from its end", ("return self._lines[self._first] if", "return self._lines[-1] if")
    ),
    in_("fingerprints", "the order of lines counts as content", ("lines = sorted(\n", "lines = list(\n")),
    in_(
        "work", "a conflict passes for a duplicate", ("return DUPLICATE if same else", "return DUPLICATE if True else")
    ),
)

CANCELS = (
    in_(
        "placing",
        "a cancelled backorder counts as stock and fills the next",
        (
            "work.shift(line, -from_waiting)",
            "work.shift(line, -from_waiting); work.pool(line.pool).on_hand += from_waiting",
        ),
        ("return from_allocated > 0", "return True"),
    ),
    in_("placing", "a cancel before its order is forgotten", ("for early in order.early_cancels:", "for early in ():")),
    in_(
        "placing",
        "a cancel takes allocated units first",
        ("from_waiting = min(units, line.waiting)", "from_waiting = min(max(0, units - line.allocated), line.waiting)"),
    ),
    in_(
        "placing",
        "freed stock is given away before the whole cancel is booked",
        ("freed[line.pool] = None", "work.serve(work.pool(line.pool))"),
    ),
    in_("placing", "a cancel of an unknown line does the rest", ("if unknown:", "if unknown is None:")),
    in_(
        "placing",
        "a cancel that comes again counts again",
        ("work.state.cancels[message.id] = content", "content = content"),
    ),
    in_(
        "work",
        "the oldest release gives first",
        ("release_no, released = line.releases[-1]", "release_no, released = line.releases[0]"),
        ("(*line.releases[:-1], *kept)", "(*kept, *line.releases[1:])"),
    ),
)

STOCK = (
    in_(
        "work",
        "the first in rank lose first",
        ("lines.sort(key=lambda line: line.rank, reverse=True)", "lines.sort(key=lambda line: line.rank)"),
    ),
    in_("work", "released units are lost before held ones", ('in ("held", "released")', 'in ("released", "held")')),
    in_(
        "work",
        "the last unit is kept for whoever comes next",
        ("while pool.waiting and pool.available:", "while pool.waiting and pool.available > 1:"),
    ),
    in_(
        "work",
        "negative stock is lost by those who have some",
        ("pool.allocated - max(0, pool.on_hand)", "pool.allocated - pool.on_hand"),
    ),
    in_("stock", "an older count is taken", ("counted_at < pool.counted_at:", "message is None:")),
    in_(
        "stock",
        "a count of the same moment is ignored",
        ("counted_at < pool.counted_at", "counted_at <= pool.counted_at"),
    ),
    in_("work", "low stock is said twice", ("if pool.low and not was_low:", "if pool.low:")),
    in_("work", "stock is low only below its mark", ("pool.available <= mark", "pool.available < mark")),
)

POLICIES = (
    in_(
        "state",
        "safety stock is ignored",
        ("return self.on_hand - self.allocated - self.safety_stock", "return self.on_hand - self.allocated"),
    ),
    in_(
        "placing",
        "the limit is off by one",
        ("max(0, policy.waiting_limit - pool.waiting)", "max(0, policy.waiting_limit - pool.waiting + 1)"),
    ),
    in_(
        "placing",
        "the limit is of an order and not of the pool",
        ("max(0, policy.waiting_limit - pool.waiting)", "policy.waiting_limit"),
    ),
    in_("placing", "everybody accepts to wait", ("if not asked.accepts_backorder:", "if asked is None:")),
    in_(
        "placing",
        "the longest wait counts from now",
        (
            "later(order.placed_at, timedelta(days=policy.max_wait_days))",
            "later(work.item.now, timedelta(days=policy.max_wait_days))",
        ),
    ),
    in_("placing", "the last day of the longest wait is too late", ("promised.at > latest:", "promised.at >= latest:")),
    in_("policies", "lowered safety stock serves nobody", ("        work.serve(pool)\n", "")),
    in_("supplies", "an equal revision replaces", ("if revision > known:", "if revision >= known:")),
    in_(
        "work",
        "what may be bought instead is told as listed",
        ("sorted(listed, key=is_out_of_stock)", "listed"),
    ),
)

DELIVERY = (
    in_(
        "work",
        "a complete order goes out in parts",
        ('if order.delivery == "complete" and not order.escalated and stays:', "if order.delivery is None:"),
    ),
    in_("work", "a held fill is told as released", ('event.fields["held"] = held', 'event.fields["held"] = None')),
    in_("work", "every part of a long release says complete", ("is_last and not stays", "not stays")),
    in_("work", "a release has 501 lines", ("LINES_PER_RELEASE = 500", "LINES_PER_RELEASE = 501")),
    in_(
        "state",
        "what was released is released again",
        ("return self.allocated - self.shipped - released", "return self.allocated - self.shipped"),
    ),
    in_(
        "work",
        "a pre-order is released early",
        ("going = [line for line in holding if not self.is_preordered(line)]", "going = list(holding)"),
    ),
    in_(
        "work",
        "a release date is overridden when a complete order becomes split",
        (
            "going = [line for line in holding if not self.is_preordered(line)]",
            "going = [line for line in holding if order.escalated or not self.is_preordered(line)]",
        ),
    ),
    in_(
        "work",
        "the time of a complete order counts from now",
        ("later(order.placed_at, self.rules.escalates_after)", "later(self.item.now, self.rules.escalates_after)"),
    ),
    in_(
        "placing",
        "a pre-order with stock is filled later",
        ("        if preorders:\n            work.serve(pool)\n", ""),
    ),
    in_(
        "policies", "a pre-order begins again for old records", ("(was_over or policy.release_at", "(policy.release_at")
    ),
    in_(
        "policies",
        "what is held is not released when its pre-order ends",
        ("if any(line.held and line.pool.sku == sku for line", "if any(line.held < 0 for line"),
    ),
)

FULFILMENT = (
    in_(
        "fulfilment",
        "a shipment takes no waiting units",
        ("from_waiting = min(left, line.waiting)", "from_waiting = 0"),
    ),
    in_(
        "fulfilment",
        "what shipped without a release is released again",
        ("line.shipped += units\n", "line.shipped += units - from_held\n"),
    ),
    in_(
        "fulfilment",
        "cancelled units that ship stay cancelled",
        ("line.cancelled -= from_cancelled\n", "line.ordered += from_cancelled\n"),
    ),
    in_(
        "fulfilment",
        "nobody loses what somebody else was sent",
        ("work.take_what_is_not_there(work.pool(key))", "work.pool(key)"),
    ),
    in_("fulfilment", "the newest release ships first", ("in line.releases:\n", "in line.releases[::-1]:\n")),
    in_(
        "fulfilment",
        "what left before its order is told to ship",
        ("for message in order.early_shipments:", "for message in ():"),
    ),
    in_(
        "fulfilment",
        "more is shipped than was ordered",
        ("line.shipped + units > line.ordered", "units > line.ordered"),
    ),
    in_(
        "fulfilment",
        "a shipment that comes again counts again",
        (
            'seen = work.state.fulfilments.get(key)\n    if seen is not None:\n        what = f"shipment',
            'seen = None\n    if seen is not None:\n        what = f"shipment',
        ),
    ),
)

SUPPLIES = (
    in_(
        "state",
        "what a supply brought is still to come",
        ("max(0, self.quantity - self.received)", "self.quantity"),
    ),
    in_(
        "supplies",
        "a late supply is late for ever",
        ("supply.overdue = False\n", "\n"),
    ),
    in_(
        "supplies",
        "a supply that is here has a date to keep",
        ("supply.expected_at if supply.to_come else None", "supply.expected_at"),
    ),
    in_(
        "supplies",
        "units that arrive elsewhere move no date",
        ('        work.moves(supply.pool, "supply_changed")\n    if to_come', "    if to_come"),
    ),
    in_("supplies", "a date that can't be stored", ("storable(message.expected_at)", "message.expected_at")),
)

PROMISES = (
    in_(
        "promises",
        "a supply is promised to everybody who waits",
        ("accumulate(line.units for line in queue)", "(line.units for line in queue)"),
    ),
    in_("work", "a new line is promised what those ahead were promised", ("units + (ahead or 0),", "units,")),
    in_("promises", "no promise waits for handling", ("later(date, rules.handling) for", "date for")),
    in_(
        "promises",
        "a date by lead time moves by itself",
        ("if known is not None and known.days == lead_time_days:", "if known is not None and not known.days:"),
    ),
    in_(
        "promises",
        "an overdue supply is promised like others",
        ("if not (supply.overdue or supply.expected_at < now):", "if supply.units:"),
    ),
    in_(
        "promises",
        "the first cause is told whether it fits or not",
        ("(BRINGS_FORWARD if forward else PUTS_BACK)", "(CAUSES if forward else CAUSES)"),
    ),
    in_(
        "promises",
        "another hour of the same day is news",
        ("return old != new and in_utc(old).date() != in_utc(new).date()", "return old != new"),
    ),
    in_(
        "work",
        "the overtaken are not told",
        ("if ahead is not None and pool.waiting > ahead + line.waiting:", "if pool.waiting < 0:"),
    ),
    in_(
        "work",
        "a line at the tail makes others be planned again",
        ("if ahead is not None and pool.waiting > ahead + line.waiting:", "if ahead is not None:"),
    ),
    in_(
        "work",
        "the first promise is the last one",
        ("line.first_promised_at or promised.at", "promised.at or line.first_promised_at"),
    ),
    in_(
        "supplies",
        "what comes as announced makes everybody be planned again",
        ("return is_next", "return False"),
    ),
    in_(
        "supplies",
        "a pre-order that is filled early keeps its late date",
        (" and not pool.takes_preorders(work.item.now)", ""),
    ),
    in_(
        "moves",
        "the planner forgets why",
        ("cause_of(line.promised_at, new.at, pool.causes)", "cause_of(line.promised_at, new.at, ())"),
    ),
)

ROWS = (
    in_("work", "the state that was given is changed", ("Decision(state.copy())", "Decision(state)")),
    in_(
        "work",
        "the store is not told of a filled line",
        ("            queue.leave(line)\n        self.change_line(line)\n", "            queue.leave(line)\n"),
    ),
    in_(
        "work",
        "a line is served although those ahead were not loaded",
        ("return horizon is None or line.rank > horizon", "return False"),
    ),
    in_(
        "work",
        "versions start anew with every message",
        ("order.backorders_version += 1", "order.backorders_version = 1"),
    ),
)

MUTATIONS = (*ORDERS, *CANCELS, *STOCK, *POLICIES, *DELIVERY, *FULFILMENT, *SUPPLIES, *PROMISES, *ROWS)
