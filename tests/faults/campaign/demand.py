"""A busy shop without an end: what it, its suppliers and its warehouse say, seeded, in the order they say it.

Some of it is wrong on purpose: told twice, told too early, or not a message at all (marked, so that a judge who reads
the topics knows how many dead letters there have to be).
"""

import json
import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

from tests.e2e.messages import (
    Message,
    OrderLine,
    adjustment,
    cancel,
    count,
    order,
    policy,
    receipt,
    rfc3339,
    shipment,
    supply,
    supply_cancelled,
)

SKUS = 200
POISON = "x-campaign-poison"
SHARES = {
    "order": 62.0,
    "receipt": 13.0,
    "supply": 7.0,
    "cancel": 5.0,
    "repeat": 3.0,
    "poison": 1.0,
    "adjust": 1.0,
    "count": 0.5,
    "policy": 0.7,
    "early cancel": 0.7,
    "early shipment": 0.6,
    "contact": 1.0,
}
SEGMENTS = {"standard": 80, "gold": 15, "platinum": 5}
AGES = (*range(0, 900, 30), *range(7186, 7206, 2))
"""Seconds. Complete orders become split two hours after they were placed: some at once, some 14 s later, no others."""
TIMERS_SECONDS = 16.0
"""So long after the last message time changes nothing more."""
PREORDERED = range(4)
"""The most wanted of all, released some time after the start."""
RELEASED_AFTER = timedelta(seconds=25)


@dataclass(slots=True)
class Placed:
    """An order that was sent, and how many units of each line nobody cancelled."""

    order_id: str
    lines: list[OrderLine]
    early: bool = False
    """Something came before it: the warehouse then doesn't act on its release."""


@dataclass
class Shop:
    """`next_messages` says what comes next. The same seed says the same, but for times."""

    seed: int
    placed: dict[str, Placed] = field(default_factory=dict)
    recent: deque[Message] = field(default_factory=lambda: deque(maxlen=4000))
    number: int = 0
    supplies: dict[str, tuple[str, int]] = field(default_factory=dict)
    """→ (SKU, revision)."""
    policies: dict[str, int] = field(default_factory=dict)
    contacts: dict[str, int] = field(default_factory=dict)
    wanted: Counter[str] = field(default_factory=Counter)
    """Units ordered since the SKU's last receipt."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        weights = [1 / (rank + 2) for rank in range(SKUS)]  # Zipf's law, the top a little flatter
        self._weights = list(accumulate(weights))

    def sku(self) -> str:
        return f"SKU-{self.chance.choices(range(SKUS), cum_weights=self._weights)[0]:03}"

    def opening(self, units: int) -> list[Message]:
        """Policies of some SKUs and stock of all: about so many units, as much of each as it is wanted."""
        now = datetime.now(UTC)
        rules: list[tuple[int, dict[str, Any]]] = [
            *((sku, {"backorders": "preorder", "release_at": rfc3339(now + RELEASED_AFTER)}) for sku in PREORDERED),
            *((sku, {"waiting_limit": 40}) for sku in range(4, 8)),
            *((sku, {"backorders": "deny"}) for sku in range(8, 10)),
            *((sku, {"safety_stock": 5, "low_stock_at": 20}) for sku in range(10, 30)),
            *((sku, {"default_lead_time_days": 30, "max_wait_days": 20}) for sku in range(30, 40)),
            *((sku, {"default_lead_time_days": 14}) for sku in range(40, 60)),
        ]
        messages = []
        for sku, each in rules:
            name = f"SKU-{sku:03}"
            self.policies[name] = 1
            messages.append(policy(name, **each))
        total = self._weights[-1]
        before = 0.0
        for sku, so_far in enumerate(self._weights):
            share, before = (so_far - before) / total, so_far
            messages.append(receipt(f"opening-{sku}", f"SKU-{sku:03}", 1 + int(units * share)))
        return [stamped(each, now) for each in messages]

    def next_messages(self) -> Iterator[Message]:
        """One thing that happens: one message, or two where one comes too early."""
        now = datetime.now(UTC)
        sort = self.chance.choices(list(SHARES), list(SHARES.values()))[0]
        for message in self._of(sort, now):
            done = message if sort in {"repeat", "poison"} else stamped(message, now)
            if sort not in {"repeat", "poison"}:
                self.recent.append(done)
            yield done

    def _of(self, sort: str, now: datetime) -> list[Message]:
        self.number += 1
        number, chance = self.number, self.chance
        match sort:
            case "receipt":
                known = [name for name in list(self.supplies)[-60:] if chance.random() < 0.3]
                supply_id = chance.choice(known) if known and chance.random() < 0.3 else None
                sku = self.supplies[supply_id][0] if supply_id else self.sku()
                # About what was ordered of it since the last receipt, or the queues of a long run would grow for ever.
                units = max(1, round(self.wanted.pop(sku, 0) * chance.uniform(0.5, 1.5)))
                return [receipt(f"r-{number}", sku, units, supply_id=supply_id)]
            case "supply":
                return [self._supply(number, now)]
            case "adjust":
                return [adjustment(f"a-{number}", self.sku(), chance.choice([-3, -2, -1, 1, 2]))]
            case "count":
                # Of what is seldom ordered: there few units are set aside that a count can lose.
                return [count(f"c-{number}", f"SKU-{chance.randrange(SKUS // 2, SKUS):03}", chance.randrange(12))]
            case "policy":
                sku = f"SKU-{chance.randrange(60, SKUS):03}"
                self.policies[sku] = revision = self.policies.get(sku, 0) + 1
                limits: dict[str, Any] = {"safety_stock": chance.randrange(4), "low_stock_at": chance.randrange(10)}
                return [policy(sku, revision=revision, **limits)]
            case "cancel" if self.placed:
                return [self._cancel(self._some_order(), number)]
            case "repeat" if self.recent:
                late = chance.random() < 0.5
                return [
                    chance.choice(self.recent) if late else self.recent[-chance.randint(1, min(30, len(self.recent)))]
                ]
            case "poison":
                return [self._poison(number, now)]
            case "contact" if self.placed:
                return [self._contact(self._some_order().order_id)]
            case "early cancel":
                made, placed = self._order(number)
                placed.early = True
                return [self._cancel(placed, number), made]
            case "early shipment":
                made, placed = self._order(number)
                placed.early = True
                return [shipment(f"early-{number}", placed.order_id, (1, 1)), made]
            case _:
                return [self._order(number)[0]]

    def _some_order(self) -> Placed:
        """Rather a new one."""
        known = list(self.placed)
        back = int(self.chance.expovariate(1 / 300))
        return self.placed[known[max(0, len(known) - 1 - back)]]

    def _order(self, number: int) -> tuple[Message, Placed]:
        chance = self.chance
        lines = [
            OrderLine(self.sku(), chance.choice([1, 1, 1, 2, 2, 4]), accepts_backorder=chance.random() < 0.98)
            for _ in range(chance.choice([1, 1, 2, 2, 3, 4]))
        ]
        for line in lines:
            self.wanted[line.sku] += line.quantity
        order_id = f"o-{number}"
        placed = self.placed[order_id] = Placed(order_id, lines)
        made = order(
            order_id,
            *lines,
            placed_at=datetime.now(UTC) - timedelta(seconds=chance.choice(AGES)),
            segment=chance.choices(list(SEGMENTS), list(SEGMENTS.values()))[0],
            email=f"{order_id}@example.org",
            delivery=chance.choice(["split", "split", "split", "complete"]),
        )
        return made, placed

    def _cancel(self, placed: Placed, number: int) -> Message:
        by = self.chance.choice(["customer", "customer", "shop"])
        at = self.chance.randrange(len(placed.lines))
        parts: list[list[tuple[int, int | None]]] = [[], [(at + 1, None)], [(at + 1, 1)]]
        return cancel(placed.order_id, *self.chance.choice(parts), name=f"cancel-{number}", by=by)

    def _supply(self, number: int, now: datetime) -> Message:
        chance = self.chance
        known = list(self.supplies)[-40:]
        if known and chance.random() < 0.45:
            supply_id = chance.choice(known)
            sku, revision = self.supplies[supply_id]
            self.supplies[supply_id] = (sku, revision + 1)
            if chance.random() < 0.3:
                return supply_cancelled(supply_id, sku, revision=revision + 1)
        else:
            supply_id, sku, revision = f"s-{number}", self.sku(), 0
            self.supplies[supply_id] = (sku, 1)
        # Some are overdue at once, some in a moment, none while the judge looks.
        expected_at = now + chance.choice([timedelta(days=-2), timedelta(seconds=10), *map(timedelta, range(1, 40, 3))])
        return supply(supply_id, sku, chance.randrange(1, 60), expected_at, revision=revision + 1)

    def _contact(self, order_id: str) -> Message:
        customer_id = f"customer-of-{order_id}"
        self.contacts[customer_id] = revision = self.contacts.get(customer_id, 0) + 1
        content = {
            "type": "ContactChanged",
            "id": f"contact/{customer_id}/{revision}",
            "occurred_at": "",
            "customer_id": customer_id,
            "revision": revision,
            "locale": self.chance.choice(["en", "de"]),
        }
        return Message("customers", customer_id.encode(), json.dumps(content).encode())

    def _poison(self, number: int, now: datetime) -> Message:
        """Each is a dead letter of the allocator, and none of them changes anything."""
        order_id, sku = f"poison-{number}", self.sku()
        good = stamped(order(order_id, (sku, 2)), now)
        assert good.value is not None
        sorts: dict[str, tuple[str, str, bytes | None]] = {
            "not_json": ("orders", order_id, good.value[:-3]),
            "not_utf8": ("orders", order_id, good.value.replace(b"EUR", b"\xff\xfe")),
            "empty": ("orders", order_id, None),
            "no_bytes": ("stock-received", sku, b""),
            "unknown_type": ("inbound-supply", sku, b'{"type": "SupplyDreamtOf", "id": "1", "sku": "X"}'),
            "quantity_is_text": ("orders", order_id, good.value.replace(b'"quantity": 2', b'"quantity": "2"')),
            "duplicate_keys": ("orders", order_id, b'{"type": "OrderPlaced", "type": "OrderPlaced"}'),
            "nan": ("stock-received", sku, b'{"type": "StockReceived", "quantity": NaN}'),
            "lone_surrogate": ("orders", order_id, good.value.replace(b'"EUR"', b'"\\ud800"')),
            "deep": ("fulfilment", order_id, b"[" * 5000),
            "wrong_topic": ("fulfilment", order_id, good.value),
            "not_an_object": ("catalog", sku, b"[1, 2]"),
        }
        if self.placed:
            known = next(iter(self.placed.values()))
            other = stamped(order(known.order_id, *known.lines, OrderLine(sku, 7)), now)
            sorts["conflict"] = ("orders", known.order_id, other.value)
        sort = self.chance.choice(list(sorts))
        topic, key, value = sorts[sort]
        return Message(topic, key.encode(), value, ((POISON, sort.encode()), ("x-empty", None)))


def stamped(message: Message, now: datetime) -> Message:
    """The same, happening now."""
    content = json.loads(message.value or b"")
    return replace(message, value=json.dumps(content | {"occurred_at": rfc3339(now)}).encode())
