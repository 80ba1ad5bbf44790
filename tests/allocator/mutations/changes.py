"""Mistakes that one could make in the rules of allocation, each as a change of the source text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """A named mistake: in `module`, each text that must occur exactly once, and what stands there instead."""

    name: str
    module: str
    changes: tuple[tuple[str, str], ...]


def in_allocation(name: str, *changes: tuple[str, str]) -> Mutation:
    return Mutation(name, "allocation.py", changes)


MUTATIONS = (
    in_allocation(
        "a cancelled backorder counts as stock and fills the next",
        (
            "self.pool(line.pool).waiting -= from_waiting",
            "self.pool(line.pool).waiting -= from_waiting; self.pool(line.pool).on_hand += from_waiting",
        ),
        ("return from_allocated > 0", "return True"),
    ),
    in_allocation("rank is the order of arrival", ("ranked_at(order.placed_at, start)", "self.item.now")),
    in_allocation(
        "the first in rank lose first", ("key=lambda line: line.rank, reverse=True", "key=lambda line: line.rank")
    ),
    in_allocation("released units are lost before held ones", ('("held", "released")', '("released", "held")')),
    in_allocation(
        "a conflict passes for a duplicate", ("return DUPLICATE if same else", "return DUPLICATE if True else")
    ),
    in_allocation(
        "two lines of one SKU do not see each other",
        (
            "min(wanted, pool.available)",
            "min(wanted, pool.available + sum(x.allocated for x in order.lines.values() if x.pool == line.pool))",
        ),
    ),
    in_allocation(
        "one unit too many is promised to a new order",
        ("min(wanted, pool.available)", "min(wanted, pool.available + 1)"),
    ),
    in_allocation(
        "the last unit is kept for whoever comes next",
        ("while pool.waiting and pool.available:", "while pool.waiting and pool.available > 1:"),
    ),
    in_allocation(
        "what was released is released again",
        (
            "held = [(number, line, line.held) for number, line in sorted(order.lines.items()) if line.held]",
            "held = [(number, line, line.allocated) for number, line in sorted(order.lines.items()) if line.allocated]",
        ),
    ),
    in_allocation("a cancel before its order is forgotten", ("for early in order.early_cancels:", "for early in ():")),
    in_allocation(
        "a cancel takes allocated units first",
        ("from_waiting = min(units, line.waiting)", "from_waiting = min(max(0, units - line.allocated), line.waiting)"),
    ),
    in_allocation(
        "the oldest release gives first",
        ("release_no, released = line.releases[-1]", "release_no, released = line.releases[0]"),
        ("(*line.releases[:-1], *kept)", "(*kept, *line.releases[1:])"),
    ),
    in_allocation("an older count is taken", ("message.occurred_at < pool.counted_at:", "message is None:")),
    in_allocation(
        "a count of the same moment is ignored",
        ("message.occurred_at < pool.counted_at", "message.occurred_at <= pool.counted_at"),
    ),
    in_allocation(
        "a complete order goes out in parts",
        ('if order.delivery == "complete" and waits:', "if order.delivery is None:"),
    ),
    in_allocation(
        "a held fill is told as released", ('event.fields["held"] = "complete"', 'event.fields["held"] = None')
    ),
    in_allocation(
        "freed stock is given away before the whole cancel is booked",
        ("freed[line.pool] = None", "self.serve(self.pool(line.pool))"),
    ),
    in_allocation("a cancel of an unknown line does the rest", ("if unknown:", "if unknown is None:")),
    in_allocation(
        "an order from the future stays there", ("min(message.placed_at, self.item.now)", "message.placed_at")
    ),
    in_allocation("every part of a long release says complete", ("is_last and not waits", "not waits")),
    in_allocation("a release has 501 lines", ("LINES_PER_RELEASE = 500", "LINES_PER_RELEASE = 501")),
    in_allocation("everybody accepts to wait", ("if asked.accepts_backorder:", "if asked is not None:")),
    in_allocation(
        "negative stock is lost by those who have some",
        ("pool.allocated - max(0, pool.on_hand)", "pool.allocated - pool.on_hand"),
    ),
    in_allocation(
        "a cancel that comes again counts again", ("self.state.cancels[message.id] = content", "content = content")
    ),
    in_allocation("the state that was given is changed", ("Decision(state.copy())", "Decision(state)")),
    in_allocation(
        "the store is not told of a filled line",
        (
            "self.change_line(line)\n            order = self.state.orders[line.order_id]",
            "order = self.state.orders[line.order_id]",
        ),
    ),
    in_allocation(
        "a line is served although those ahead were not loaded",
        ("return horizon is None or line.rank > horizon", "return False"),
    ),
    in_allocation(
        "versions start anew with every message", ("order.backorders_version += 1", "order.backorders_version = 1")
    ),
    Mutation(
        "head starts are said but not given", "ranking.py", (("return placed_at - start.duration", "return placed_at"),)
    ),
    Mutation("the exact amount is not enough", "ranking.py", (("value >= rule.at_least", "value > rule.at_least"),)),
    Mutation("a value rule counts for all currencies", "ranking.py", (("rule.currency == order.currency and ", ""),)),
    Mutation(
        "the last head start counts, not the largest", "ranking.py", ((" and rule.head_start > best.duration:", ":"),)
    ),
    Mutation(
        "the queue is served from its end", "state.py", (("return self._lines[0] if", "return self._lines[-1] if"),)
    ),
    Mutation("the order of lines counts as content", "fingerprints.py", (("lines = sorted(\n", "lines = list(\n"),)),
)
