"""Supply for purchases: no data set has any, so receipts are made up by a policy that is written here and seeded.

Each SKU has a level of stock that its buyer wants: the demand expected while a delivery is under way, and on top some
lines of the usual size, both times one factor, `cover`. The forecast is trailing demand: an average in which a purchase
counts less the longer it is past. Stock opens at this level (what is written off later is there too). At the end of
each slot (the replayed stretch has SLOTS of them), what is on hand and ordered, less what waits, is compared: at half
of the level or below it is ordered up to the level. Deliveries take about a tenth of the stretch, one in ten comes
late, up to four times as late, and one in four comes in two parts. In the last tenth nothing arrives, so that there
are queues to look at in the end.

`cover` is found by trying: so much that about TARGET of the lines wait.
"""

import heapq
import math
import random
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from backorder_local.purchases import Purchases, span

SLOTS = 60
TARGET = 0.06
TOLERANCE = 0.002
LEAD_SLOTS = 6.0
LATE_SHARE = 0.1
PARTIAL_SHARE = 0.25
SAFETY_LINES = 2.0
LAST_ARRIVAL = SLOTS - 6
DRAWS = 24
"""Random numbers of each SKU, drawn once: the same whatever the cover, so that more cover means less waiting."""

FORGET = math.exp(-1 / SLOTS)
"""What is left after a slot of the weight that a purchase has in the trailing average."""

LineKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Calendar:
    """The stretch in SLOTS equal parts. Goods-in books at the beginning of one."""

    start: datetime
    slot: timedelta

    def slot_of(self, at: datetime) -> int:
        return min(SLOTS - 1, int((at - self.start) / self.slot))

    def begin(self, slot: int) -> datetime:
        return self.start + slot * self.slot


@dataclass(frozen=True, slots=True)
class Receipt:
    receipt_id: str
    slot: int
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Supply:
    """`opening` units by SKU, and what arrives. `share_waiting` is what the policy expects, `cover` what it took."""

    calendar: Calendar
    opening: Mapping[str, int]
    receipts: tuple[Receipt, ...]
    cover: float
    share_waiting: float


@dataclass(frozen=True, slots=True)
class Event:
    """What happens to one SKU: a line is bought, units of it are cancelled (None: all), or stock is corrected."""

    slot: int
    line: LineKey | None
    quantity: int | None
    cancels: bool = False


@dataclass(slots=True)
class Demand:
    """One SKU. `rate` is units a slot by its history; `line_units` the usual size of a line."""

    sku: str
    rate: float
    line_units: float
    draws: Sequence[float]
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Course:
    """What became of one SKU under a policy."""

    opening: int
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    waited: int = 0


def supply_for(purchases: Purchases, seed: int) -> Supply:
    """Receipts for these purchases; the same for the same seed."""
    calendar = Calendar(purchases.start, max((purchases.end - purchases.start) / SLOTS, timedelta(seconds=1)))
    demands = demand_of(purchases, calendar, seed)
    cover, courses = tuned(demands, purchases.line_count)
    receipts = [
        Receipt(f"receipt/{demand.sku}/{number}", slot, demand.sku, units)
        for demand, course in zip(demands, courses, strict=True)
        for number, (slot, units) in enumerate(course.arrivals, start=1)
    ]
    return Supply(
        calendar=calendar,
        opening={demand.sku: course.opening for demand, course in zip(demands, courses, strict=True)},
        receipts=tuple(sorted(receipts, key=lambda receipt: (receipt.slot, receipt.receipt_id))),
        cover=cover,
        share_waiting=share_waiting(courses, purchases.line_count),
    )


def tuned(demands: Sequence[Demand], lines: int) -> tuple[float, list[Course]]:
    """The cover with which TARGET of the lines wait, as nearly as a few tries find it."""
    low, high = 0.02, 50.0
    while True:
        cover = math.sqrt(low * high)
        courses = [course_of(demand, cover) for demand in demands]
        share = share_waiting(courses, lines)
        if abs(share - TARGET) < TOLERANCE or high / low < 1.01:
            return cover, courses
        low, high = (cover, high) if share > TARGET else (low, cover)


def share_waiting(courses: Sequence[Course], lines: int) -> float:
    return sum(course.waited for course in courses) / lines


def demand_of(purchases: Purchases, calendar: Calendar, seed: int) -> list[Demand]:
    """All that happens, by SKU and in order."""
    past_units: dict[str, int] = defaultdict(int)
    past_lines: dict[str, int] = defaultdict(int)
    for order in purchases.history or purchases.orders:
        for line in order.lines:
            past_units[line.sku] += line.quantity
            past_lines[line.sku] += 1
    usual = sum(past_units.values()) / sum(past_lines.values())
    slots = trailing_slots(purchases, calendar)
    events: dict[str, list[tuple[datetime, int, Event]]] = defaultdict(list)
    number = count()
    lines = {}
    for order in purchases.orders:
        for line in order.lines:
            lines[order.order_id, line.line_no] = line
            event = Event(calendar.slot_of(order.placed_at), (order.order_id, line.line_no), line.quantity)
            events[line.sku].append((order.placed_at, next(number), event))
    whole = {order.order_id: tuple((line.line_no, None) for line in order.lines) for order in purchases.orders}
    for cancel in purchases.cancels:
        for line_no, units in cancel.lines or whole[cancel.order_id]:
            key = (cancel.order_id, line_no)
            event = Event(calendar.slot_of(cancel.at), key, units, cancels=True)
            events[lines[key].sku].append((cancel.at, next(number), event))
    for correction in purchases.corrections:
        at = calendar.slot_of(correction.at)
        # Corrections are booked with the receipts, at the beginning of the slot.
        events[correction.sku].append((calendar.begin(at), -1, Event(at, None, correction.delta)))
    chance = random.Random(f"receipts {seed}")  # noqa: S311  no secret
    return [
        Demand(
            sku=sku,
            rate=past_units[sku] / slots if purchases.history else 0.0,
            # As if one line of the usual size had been seen: a SKU with no past has that.
            line_units=(past_units[sku] + usual) / (past_lines[sku] + 1) if purchases.history else usual,
            draws=[chance.random() for _ in range(DRAWS)],
            events=[event for _, _, event in sorted(events[sku], key=lambda each: each[:2])],
        )
        for sku in sorted(events)
    ]


def trailing_slots(purchases: Purchases, calendar: Calendar) -> float:
    """How many slots the history would be."""
    return max(1.0, span(purchases.history) / calendar.slot)


def course_of(demand: Demand, cover: float) -> Course:
    """First come, first served, with the policy's receipts."""
    draws = demand.draws
    drawn = count(1)

    def draw() -> float:
        return draws[next(drawn) % DRAWS]

    def level() -> int:
        units = cover * (rate * (LEAD_SLOTS + 1) + SAFETY_LINES * demand.line_units)
        return int(units + draws[0])  # rounded by chance: most SKUs sell so little that all would jump at once

    rate = demand.rate
    course = Course(level() - sum(min(0, event.quantity or 0) for event in demand.events if event.line is None))
    on_hand = position = course.opening
    waiting: deque[LineKey] = deque()
    owed: dict[LineKey, int] = {}
    got: dict[LineKey, int] = {}
    arrivals: list[tuple[int, int]] = []
    events = iter(demand.events)
    event = next(events, None)
    last_slot = 0
    while event is not None or arrivals:
        slot = min(event.slot if event else SLOTS, arrivals[0][0] if arrivals else SLOTS)
        rate *= FORGET ** (slot - last_slot)
        last_slot = slot
        while arrivals and arrivals[0][0] == slot:
            on_hand += heapq.heappop(arrivals)[1]
        on_hand = serve(waiting, owed, got, on_hand)
        while event is not None and event.slot == slot:
            if event.line is None:
                on_hand += event.quantity or 0
                position += event.quantity or 0
                on_hand = serve(waiting, owed, got, on_hand)
            elif event.cancels:
                owes, has = owed.get(event.line, 0), got.get(event.line, 0)
                units = owes + has if event.quantity is None else event.quantity
                owed[event.line] = max(0, owes - units)
                freed = min(has, max(0, units - owes))
                got[event.line] = has - freed
                position += min(units, owes + has)
                on_hand = serve(waiting, owed, got, on_hand + freed)
            else:
                units = event.quantity or 0
                taken = max(0, min(units, on_hand))  # where somebody waits, nothing is there
                on_hand -= taken
                got[event.line] = taken
                position -= units
                rate += units * (1 - FORGET)
                if taken < units:
                    owed[event.line] = units - taken
                    waiting.append(event.line)
                    course.waited += 1
            event = next(events, None)
        wanted = max(1, level())
        if position <= wanted / 2:
            for when, units in delivery(slot, wanted - position, draw(), draw(), draw()):
                if when <= LAST_ARRIVAL:
                    heapq.heappush(arrivals, (when, units))
                    course.arrivals.append((when, units))
            position = wanted
    course.arrivals.sort()
    return course


def serve(waiting: deque[LineKey], owed: dict[LineKey, int], got: dict[LineKey, int], on_hand: int) -> int:
    """Gives what is on hand to those who wait, first in line first; returns what is left."""
    while waiting and on_hand > 0:
        line = waiting[0]
        units = min(on_hand, owed[line])
        on_hand -= units
        owed[line] -= units
        got[line] += units
        if owed[line] == 0:
            waiting.popleft()
    while waiting and owed[waiting[0]] == 0:  # cancelled
        waiting.popleft()
    return on_hand


def delivery(slot: int, units: int, late: float, how: float, parts: float) -> list[tuple[int, int]]:
    """(slot, units) of one order to the supplier. The three draws are even between 0 and 1."""
    lead = LEAD_SLOTS * (0.5 + how)
    if late < LATE_SHARE:
        lead *= 1 + 3 * late / LATE_SHARE
    arrives = slot + 1 + round(lead)
    if parts >= PARTIAL_SHARE or units < 2:
        return [(arrives, units)]
    first = min(units - 1, max(1, round(units * (0.5 + parts))))
    return [(arrives, first), (arrives + 1 + round(3 * how), units - first)]
