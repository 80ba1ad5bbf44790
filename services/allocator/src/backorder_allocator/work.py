"""One decision in the making: the steps that every message is made of, over a working copy of the state.

Units begin to wait, are served, taken back and released here, so that rank order and what is held are said once.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from backorder_allocator.decision import (
    DUPLICATE,
    Decided,
    Decision,
    EscalationDue,
    Event,
    Input,
    Outcome,
    Rules,
    Topic,
)
from backorder_allocator.promises import Cause, Projection, Promise, later, leans_on, project, promise
from backorder_allocator.state import Line, Order, Pool, PoolKey, Queue, Rank, State, Supply, SupplyKey
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LowStock,
    ReleasedLine,
    StockShortfall,
)

LINES_PER_RELEASE = 500
MOST_SUBSTITUTES = 20
"""That one event names."""
LATER = "?"
"""Whether a fill is held shows when its message is done: another line of the order may be filled too."""


class IncompleteStateError(Exception):
    """A bug: the state holds less than its messages can touch."""


class Places:
    """How many units wait ahead of a rank: what was there before (`known`, else `others`) and what moved since."""

    __slots__ = ("_known", "_others", "_ranks", "_units")

    def __init__(self, known: Mapping[Rank, int], others: int, lines: Iterable[Line] = ()) -> None:
        self._known = known
        self._others = others
        ordered = sorted(lines, key=lambda line: line.rank)
        self._ranks = [line.rank for line in ordered]
        self._units = [line.waiting for line in ordered]

    def ahead(self, rank: Rank) -> int:
        return self._known.get(rank, self._others) + sum(self._units[: bisect_left(self._ranks, rank)])

    def shift(self, rank: Rank, units: int) -> None:
        at = bisect_left(self._ranks, rank)
        if at < len(self._ranks) and self._ranks[at] == rank:
            self._units[at] += units
        else:
            self._ranks.insert(at, rank)
            self._units.insert(at, units)


class Work:
    """The working copy, its queues and places, and what the message in hand has done so far."""

    def __init__(self, state: State, rules: Rules) -> None:
        self.decision = Decision(state.copy())
        self.state = self.decision.state
        self.rules = rules
        self.queues: dict[PoolKey, Queue] = {}
        waiting: dict[PoolKey, list[Line]] = {}
        for order in self.state.orders.values():
            for line in order.lines.values():
                if line.waiting:
                    waiting.setdefault(line.pool, []).append(line)
        for key, lines in waiting.items():
            self.queues[key] = Queue(lines)
        self.places = {
            key: Places(known, self.state.pools[key].waiting if key in self.state.pools else 0)
            for key, known in self.state.ahead.items()
        }
        self.supplies: dict[PoolKey, dict[SupplyKey, Supply]] = {}
        for supply in self.state.supplies.values():
            if supply.pool is not None:
                self.supplies.setdefault(supply.pool, {})[supply.key] = supply
        self.item: Input
        self.cause = ""
        self.events: list[Event] = []
        self.orders: dict[str, Order] = {}
        self.pools: dict[PoolKey, Pool] = {}
        self.causes: dict[tuple[PoolKey, Cause], None] = {}

    def begin(self, item: Input) -> None:
        self.item = item
        self.cause = item.cause
        self.events = []
        self.orders = {}
        self.pools = {}
        self.causes = {}

    def end(self) -> None:
        """What follows once all of a message is booked: releases, alerts, versions, and work for the planner."""
        for order in self.orders.values():
            self.release(order)
        for pool in self.pools.values():
            self.watch(pool)
        for key, cause in self.causes:
            pool = self.state.pools[key]
            # Units that are held for the release of a pre-order are promised although nothing of them waits.
            if pool.waiting or (pool.allocated and pool.takes_preorders(self.item.now)):
                pool.causes |= {cause}
        self.close()

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def pool(self, key: PoolKey) -> Pool:
        """The pool by its name, to be changed; a new one begins empty, with the policy of its SKU."""
        pool = self.state.pools.get(key)
        if pool is None:
            pool = self.state.pools[key] = Pool(key, policy=self.rules.default_policy)
            stored = self.state.policies.get(key.sku)
            if stored is not None:
                pool.policy, pool.over = stored.policy, stored.over
                pool.safety_stock = stored.policy.safety_stock
        self.decision.pools[key] = pool
        self.pools[key] = pool
        return pool

    def named_pool(self, key: PoolKey) -> Pool:
        """The pool that an order, stock or a supply names."""
        pool = self.pool(key)
        if not pool.named:
            pool.named = True
            if not pool.policy.revision:
                pool.safety_stock = self.rules.default_policy.safety_stock
        return pool

    def touch(self, order: Order) -> None:
        self.orders.setdefault(order.order_id, order)

    def change(self, order: Order) -> None:
        if order.order_id not in self.decision.new_orders:
            self.decision.changed_orders[order.order_id] = order

    def change_line(self, line: Line) -> None:
        name = (line.order_id, line.line_no)
        if name not in self.decision.new_lines:
            self.decision.changed_lines[name] = line

    def new_order(self, order_id: str) -> Order:
        order = Order(order_id)
        self.state.orders[order_id] = order
        self.decision.new_orders[order_id] = order
        return order

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────

    def wait(self, order: Order, line: Line, units: int, reason: Literal["ordered", "stock_lost"]) -> None:
        """Units of a line begin to wait, at the line's own rank, and get their date."""
        pool = self.pool(line.pool)
        self.shift(line, units)
        ahead, promised = self.promise(order, line, line.waiting)
        if ahead is not None and pool.waiting > ahead + line.waiting:
            self.moves(pool.key, "overtaken" if reason == "ordered" else "stock_lost")
        line.promised_at = promised.at
        line.first_promised_at = line.first_promised_at or promised.at
        line.lead = promised.lead or line.lead
        self.change_line(line)
        self.tell(
            BackorderCreated,
            order,
            line,
            why={"ahead": ahead, "promised_by": leans_on(promised), "safety_stock": pool.safety_stock},
            quantity=units,
            quantity_waiting=line.waiting,
            quantity_ordered=line.ordered,
            quantity_allocated=line.allocated,
            kind="preorder" if pool.takes_preorders(self.item.now) else "backorder",
            reason=reason,
            promised_at=promised.at,
            substitutes=self.substitutes(pool),
        )

    def shift(self, line: Line, units: int) -> None:
        """More or fewer (negative) units of a line wait."""
        pool = self.pool(line.pool)
        places = self.places.get(line.pool)
        if places is not None:
            places.shift(line.rank, units)
        line.waiting += units
        pool.waiting += units
        queue = self.queues.get(line.pool)
        if queue is None:
            queue = self.queues[line.pool] = Queue([])
        if line.waiting:
            queue.join(line)
        else:
            queue.leave(line)
        self.change_line(line)

    def reject(self, order: Order, line: Line, units: int, reason: str, **why: Any) -> None:
        line.rejected += units
        substitutes = self.substitutes(self.pool(line.pool))
        self.tell(BackorderRejected, order, line, why=why, quantity=units, reason=reason, substitutes=substitutes)

    def substitutes(self, pool: Pool) -> tuple[str, ...]:
        """What may be bought instead: those in stock at this location first, each group as the policy lists it.

        A policy may list a thousand, and an order have a thousand lines, each of which has an event with the list.
        """
        listed = [sku for sku in pool.policy.substitutes if sku != pool.key.sku]

        def is_out_of_stock(sku: str) -> bool:
            other = self.state.pools.get(PoolKey(sku, pool.key.location))
            return other is None or not other.available

        return tuple(sorted(listed, key=is_out_of_stock)[:MOST_SUBSTITUTES])

    def promise(self, order: Order, line: Line, units: int) -> tuple[int | None, Promise]:
        """The date at which `units` of a line at its rank are covered, and the units that wait ahead of it.

        The place is None where it decides nothing: no supply is to come, and there is no stock to give.
        """
        pool = self.state.pools[line.pool]
        now = self.item.now
        projection = self.projection(pool)
        if order.placed_at is None:
            raise IncompleteStateError(f"order {order.order_id} has lines and was not placed")
        ahead = None
        if projection.start > 0 or projection.dates:
            ahead = self.units_ahead(line)
        return ahead, promise(
            units + (ahead or 0),
            projection,
            placed_at=order.placed_at,
            lead_time_days=pool.policy.default_lead_time_days,
            promised_at=line.promised_at,
            known_lead=line.lead,
            release_at=pool.release_at(now),
            now=now,
        )

    def projection(self, pool: Pool) -> Projection:
        coming = (supply.coming(self.item.now) for supply in self.supplies.get(pool.key, {}).values())
        return project(
            pool.unassigned, [each for each in coming if each is not None], self.item.now, self.rules.promises
        )

    def units_ahead(self, line: Line) -> int:
        places = self.places.get(line.pool)
        if places is None and line.pool in self.state.horizons:
            raise IncompleteStateError(f"what waits ahead in {line.pool} was not loaded")
        if places is None:
            # Without a horizon the whole queue is loaded.
            waiting = [
                each
                for order in self.state.orders.values()
                for each in order.lines.values()
                if each.pool == line.pool and each.waiting
            ]
            places = self.places[line.pool] = Places({}, 0, waiting)
        return places.ahead(line.rank)

    def moves(self, key: PoolKey, cause: Cause) -> None:
        """Dates in this pool may move.

        What only shifts places moves none where no supply is to come, but in a pre-order: who is filled there is
        promised its release.
        """
        by_place = cause in {"stock_received", "stock_lost", "overtaken", "cancelled_ahead"}
        is_preorder = self.state.pools[key].takes_preorders(self.item.now)
        if not by_place or is_preorder or any(supply.to_come for supply in self.supplies.get(key, {}).values()):
            self.causes[key, cause] = None

    # ── stock that comes and goes ────────────────────────────────────────────────────────────────────────────────

    def serve(self, pool: Pool) -> None:
        """Fill waiting lines in rank order until nothing is available."""
        queue = self.queues.get(pool.key)
        while pool.waiting and pool.available:
            line = queue.first() if queue else None
            if line is None or self.beyond_horizon(line):
                raise IncompleteStateError(f"the queue of {pool.key} is longer than what was loaded")
            units = min(pool.available, line.waiting)
            pool.allocated += units
            line.allocated += units
            self.shift(line, -units)
            order = self.state.orders[line.order_id]
            self.touch(order)
            self.tell(BackorderFilled, order, line, quantity=units, quantity_waiting=line.waiting, held=LATER)

    def beyond_horizon(self, line: Line) -> bool:
        if line.pool not in self.state.horizons:
            return False
        horizon = self.state.horizons[line.pool]
        return horizon is None or line.rank > horizon

    def take_what_is_not_there(self, pool: Pool) -> bool:
        """Send allocated units back to the queue if on hand fell below them; True if any were."""
        lost = pool.allocated - max(0, pool.on_hand)
        if lost > 0:
            self.lose(pool, lost)
        return lost > 0

    def lose(self, pool: Pool, units: int) -> None:
        """The last in rank lose first, those not yet released before all others."""
        lines = [
            line
            for order in self.state.orders.values()
            for line in order.lines.values()
            if line.pool == pool.key and line.allocated > line.shipped
        ]
        lines.sort(key=lambda line: line.rank, reverse=True)
        taken: dict[int, int] = {}
        left = units
        for of_class in ("held", "released"):
            for index, line in enumerate(lines):
                there = line.held if of_class == "held" else line.released
                taken[index] = taken.get(index, 0) + min(left, there)
                left -= min(left, there)
        if left:
            raise IncompleteStateError(f"{pool.key} lost {units} units, {left} of them allocated to no loaded line")
        for index, from_line in taken.items():
            if from_line:
                line = lines[index]
                order = self.state.orders[line.order_id]
                self.take_back(order, line, from_line, "stock_lost")
                self.wait(order, line, from_line, "stock_lost")
                self.touch(order)
        self.alert(StockShortfall, pool.key, quantity=units)

    def take_back(self, order: Order, line: Line, units: int, reason: Literal["cancelled", "stock_lost"]) -> None:
        """Take allocated units from a line: held ones first, then the newest release first."""
        from_held = min(units, line.held)
        self.pool(line.pool).allocated -= units
        line.allocated -= units
        if from_held:
            self.tell(AllocationRevoked, order, line, release_no=None, quantity=from_held, reason=reason)
        left = units - from_held
        while left:
            release_no, released = line.releases[-1]
            revoked = min(left, released)
            kept = ((release_no, released - revoked),) if revoked < released else ()
            line.releases = (*line.releases[:-1], *kept)
            left -= revoked
            self.tell(AllocationRevoked, order, line, release_no=release_no, quantity=revoked, reason=reason)
        self.change_line(line)

    # ── the end of a message ─────────────────────────────────────────────────────────────────────────────────────

    def is_preordered(self, line: Line) -> bool:
        """Whether the units that a line holds are held for the release date of a pre-order."""
        pool = self.state.pools.get(line.pool)
        if pool is None:
            raise IncompleteStateError(f"{line.pool} holds units of order {line.order_id} and was not loaded")
        return pool.takes_preorders(self.item.now)

    def release(self, order: Order) -> None:
        """Let held units of an order ship if its delivery rule and their release dates allow it: once a message."""
        holding = [line for _, line in sorted(order.lines.items()) if line.held]
        going = [line for line in holding if not self.is_preordered(line)]
        stays = len(going) < len(holding) or any(line.waiting for line in order.lines.values())
        if order.delivery == "complete" and not order.escalated and stays:
            self.watch_escalation(order)
            return
        for start in range(0, len(going), LINES_PER_RELEASE):
            order.release_no += 1
            lines = []
            for line in going[start : start + LINES_PER_RELEASE]:
                units = line.held
                sku, location = line.pool
                lines.append(ReleasedLine(line_no=line.line_no, sku=sku, location=location, quantity=units))
                line.releases = (*line.releases, (order.release_no, units))
                self.change_line(line)
            is_last = start + LINES_PER_RELEASE >= len(going)
            fields = {
                "order_id": order.order_id,
                "customer_id": order.customer_id,
                "release_no": order.release_no,
                "lines": tuple(lines),
                "complete": is_last and not stays,
            }
            self.events.append(self.event(AllocationReleased, "allocations", order.order_id, fields))

    def watch_escalation(self, order: Order) -> None:
        """A `complete` order that still waits becomes `split` after a set time."""
        if self.rules.escalates_after is None or order.escalates_at is not None or order.placed_at is None:
            return
        order.escalates_at = later(order.placed_at, self.rules.escalates_after)
        self.decision.timers[EscalationDue(order.order_id)] = order.escalates_at
        self.change(order)

    def watch(self, pool: Pool) -> None:
        """Say once that a pool is low, until it is above its mark again."""
        if not pool.named:
            return
        mark = pool.policy.low_stock_at
        was_low, pool.low = pool.low, mark is not None and pool.available <= mark
        if pool.low and not was_low:
            self.alert(LowStock, pool.key, available=pool.available, low_stock_at=mark)

    def close(self) -> None:
        """Say which fills are held, now that releases are known, and count versions in the order of the events."""
        for event in self.events:
            if event.topic == "stock-alerts":
                continue
            order = self.state.orders[event.key]
            if event.topic == "allocations":
                order.allocations_version += 1
                event.version = order.allocations_version
            else:
                order.backorders_version += 1
                event.version = order.backorders_version
            if event.fields.get("held") == LATER:
                line = order.lines[event.fields["line_no"]]
                held = "preorder" if line.held and self.is_preordered(line) else "complete" if line.held else None
                event.fields["held"] = held
            self.change(order)
        self.decision.events.extend(self.events)

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────

    def tell(
        self, kind: Decided, order: Order, line: Line, /, why: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        """An event about a line, to those who follow the order."""
        about = {
            "order_id": order.order_id,
            "customer_id": order.customer_id,
            "line_no": line.line_no,
            "sku": line.pool.sku,
            "location": line.pool.location,
        }
        topic: Topic = "allocations" if kind is AllocationRevoked else "backorders"
        event = self.event(kind, topic, order.order_id, about | fields)
        event.why = why
        self.events.append(event)

    def alert(self, kind: Decided, key: PoolKey, /, **fields: Any) -> None:
        """An event about a pool, to buyers and operators."""
        about = {"sku": key.sku, "location": key.location}
        self.events.append(self.event(kind, "stock-alerts", key.sku, about | fields))

    def event(self, kind: Decided, topic: Topic, key: str, fields: dict[str, Any]) -> Event:
        return Event(kind, topic, key, fields, self.item.now, self.cause, self.item.traceparent)


def again(same: bool, difference: str) -> Outcome:
    """The outcome of a message whose natural key was seen before."""
    return DUPLICATE if same else Outcome("dead_letter", "conflicting_duplicate", difference)
