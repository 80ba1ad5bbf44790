"""What a replay compares: two databases that must hold the same, but for the numbers that each gives by itself."""

import json as json_module
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from backorder_allocator.output import as_json, show_table
from backorder_allocator.statements import Connection, stream

EXAMPLES = 10
LONGEST_VALUE = 200
ROWS = {
    "pools": "compare_pools",
    "queues by day": "compare_queue_days",
    "orders": "compare_orders",
    "lines": "compare_lines",
    "supplies": "compare_supplies",
    "policies": "compare_policies",
    "stock movements": "compare_stock_movements",
    "cancels": "compare_cancels",
    "shipments and deliveries": "compare_fulfilments",
    "timers": "compare_timers",
    "cursors": "compare_cursors",
    "versions of alerts": "compare_alert_versions",
    "dead letters": "compare_dead_letters",
    "head of the log": "compare_log_head",
}
"""The state, by what it is: statements that give the rows of one table in the order of a key."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """One row as both databases have it; None: it is not there. `row`: either of them."""

    row: asyncpg.Record
    source: asyncpg.Record | None
    target: asyncpg.Record | None


@dataclass(slots=True)
class Compared:
    """How much of one thing was compared, and how much of it differs."""

    compared: int = 0
    differences: int = 0


@dataclass(slots=True)
class Comparison:
    """What was compared, and the first differences in words."""

    entries: Compared = field(default_factory=Compared)
    events: dict[str, Compared] = field(default_factory=dict)
    """By type."""
    rows: dict[str, Compared] = field(default_factory=dict)
    purged: int = 0
    """Dead letters that the source has no more."""
    repeated: int = 0
    """The number of the last journal entry that was repeated."""
    examples: list[str] = field(default_factory=list)

    @property
    def differences(self) -> int:
        return sum(each.differences for each in (self.entries, *self.events.values(), *self.rows.values()))

    async def log(self, source: Connection, target: Connection, after: int, until: int) -> None:
        """Compare journal entries and their events, from the number `after` on (without it) up to `until`."""
        pairs = _pairs(stream(source, "compare_journal", after, until), stream(target, "compare_journal", after, until))
        async for pair in pairs:
            self.found(self.entries, f"journal entry {pair.row['key'][0]}", pair)
        pairs = _pairs(stream(source, "compare_events", after, until), stream(target, "compare_events", after, until))
        async for pair in pairs:
            number, ordinal = pair.row["key"]
            kind = pair.row["type"]
            name = f"event {ordinal} of journal entry {number} ({kind})"
            self.found(self.events.setdefault(kind, Compared()), name, pair)

    async def state(self, source: Connection, target: Connection) -> None:
        """Compare every row of the state."""
        for what, statement in ROWS.items():
            count = self.rows[what] = Compared()
            async for pair in _pairs(stream(source, statement), stream(target, statement)):
                if what == "dead letters" and pair.source is None:
                    # They are forgotten by age, whatever the journal says.
                    self.purged += 1
                else:
                    self.found(count, f"{what}: {pair.row['key']}", pair)

    def found(self, count: Compared, name: str, pair: _Pair) -> None:
        count.compared += 1
        if pair.source is None:
            self.differs(count, f"{name} is there only after the replay")
        elif pair.target is None:
            self.differs(count, f"{name} is not there after the replay")
        elif pair.source["content"] != pair.target["content"]:
            before, after = (json_module.loads(row["content"]) for row in (pair.source, pair.target))
            self.differs(count, f"{name}: {'; '.join(_differing(before, after))}")

    def differs(self, count: Compared, what: str) -> None:
        count.differences += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(what)


async def _pairs(source: AsyncIterator[asyncpg.Record], target: AsyncIterator[asyncpg.Record]) -> AsyncIterator[_Pair]:
    """Rows of two databases side by side, each in the order of its key."""
    ours, theirs = await anext(source, None), await anext(target, None)
    while True:
        if ours is not None and (theirs is None or ours["key"] < theirs["key"]):
            yield _Pair(ours, ours, None)
            ours = await anext(source, None)
        elif theirs is not None and (ours is None or theirs["key"] < ours["key"]):
            yield _Pair(theirs, None, theirs)
            theirs = await anext(target, None)
        elif ours is not None:
            yield _Pair(ours, ours, theirs)
            ours, theirs = await anext(source, None), await anext(target, None)
        else:
            return


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The fields that differ, those of a published message by themselves."""
    said = []
    for name in before.keys() | after.keys():
        ours, theirs = before.get(name), after.get(name)
        if ours == theirs:
            continue
        message, replayed = _as_message(ours), _as_message(theirs)
        if name == "value" and message is not None and replayed is not None and message != replayed:
            said += [f"value.{each}" for each in _differing(message, replayed)]
        elif _is_binary(ours) or _is_binary(theirs):
            # It may hold an address.
            said.append(f"{name} is another")
        else:
            said.append(f"{name} is {_cut(ours)}, after the replay {_cut(theirs)}")
    return sorted(said)


def _as_message(value: object) -> dict[str, Any] | None:
    """The fields of an event's value."""
    try:
        read = json_module.loads(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


def _is_binary(value: object) -> bool:
    return isinstance(value, str) and value.startswith("\\x")


def _cut(value: object) -> str:
    text = json_module.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def show(found: Comparison, *, json: bool) -> None:
    """Print what was compared: as JSON, or a line for each kind of thing and one for each example of a difference."""
    kinds = [("journal", "entries", found.entries)]
    kinds += [("event", name, each) for name, each in sorted(found.events.items())]
    kinds += [("row", name, each) for name, each in found.rows.items()]
    rows = [
        {"kind": kind, "what": what, "compared": each.compared, "differences": each.differences}
        for kind, what, each in kinds
    ]
    events, state = (sum(each.compared for each in counts.values()) for counts in (found.events, found.rows))
    if json:
        as_json(
            {
                "same": not found.differences,
                "repeated_to": found.repeated,
                "entries": found.entries.compared,
                "events": events,
                "rows": state,
                "differences": found.differences,
                "dead_letters_purged": found.purged,
                "compared": rows,
                "examples": found.examples,
            }
        )
        return
    show_table(rows, json=False)
    for example in found.examples:
        print(f"DIFFERENCE {example}")
    verdict = f"{found.differences} differences" if found.differences else "the same"
    print(f"{found.repeated} journal entries repeated; {events} events and {state} rows compared: {verdict}")
