"""`what-if`: who would gain, who would lose and which dates would move, by the real rules, with nothing written.

As much is read as the service would read for the same messages, in one snapshot without locks; then `decide` does what
it would do. Whose date would move by that is asked of PostgreSQL, which knows the queues.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from backorder_allocator import outlooks, reading, store, unlocked, words
from backorder_allocator.allocation import decide
from backorder_allocator.arguments import Delay, Receipt
from backorder_allocator.decision import Decision, Event, Input, Message, Rules
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.gains import gains
from backorder_allocator.outlooks import LineChange
from backorder_allocator.output import as_json, show_table
from backorder_allocator.promises import later
from backorder_allocator.ranking import EARLIEST, spoken
from backorder_allocator.state import Pool, PoolKey, State, Supply, SupplyKey
from backorder_allocator.statements import Connection, run
from backorder_allocator.touching import touched_by
from backorder_schemas import OrderPlaced, StockReceived, SupplyExpected

Idea = Receipt | Delay | OrderPlaced
"""Something that might happen."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The messages that would tell of what might happen, and all that they can touch."""

    state: State
    inputs: Sequence[Input]
    pools: Mapping[PoolKey, int | None]
    """Those that are named, sorted, with the ids of those that are there."""


async def what_if(connection: Connection, ideas: Sequence[Idea], rules: Rules, now: datetime) -> dict[str, Any]:
    """What would be if all this happened now, one after the other. Keys are documented in the README.

    Raises ConfigurationError for a SKU or supply that nobody named, or an order that there is already.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        asked = await _read(connection, ideas, rules, now)
        decision = decide(asked.state, asked.inputs, rules)
        changes = _changes(asked.state, decision)
        views = {
            key: (
                outlooks.outlook(asked.state, key, rules, now),
                outlooks.outlook(decision.state, key, rules, now),
            )
            for key in asked.pools
        }
        rows = await outlooks.read_moved(connection, asked.pools, views, changes)
    return {
        "at": now,
        "ideas": [_in_words(idea) for idea in ideas],
        "pools": [
            _pool(key, asked.state.pools.get(key, Pool(key)), decision.state.pools.get(key, Pool(key)))
            for key in asked.pools
        ],
        "lines": gains(decision.state, changes, views, rows),
        "events": [_event(event) for event in decision.events],
    }


# ── what is ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _read(connection: Connection, ideas: Iterable[Idea], rules: Rules, now: datetime) -> Asked:
    """Everything that these ideas can touch. In a transaction with one snapshot."""
    named: set[PoolKey] = set()
    for idea in ideas:
        named |= await _named_by(connection, idea)
    skus = {key.sku for key in named}
    state = State(policies=await store.policies_of(connection, skus))
    found = await reading.pools_of(connection, skus, rules.default_policy)
    ids = {each.pool.key: each.pool_id for each in found}
    for key in sorted(named):
        _check_known(key, ids, state)
    state.pools = {each.pool.key: each.pool for each in found}
    state.supplies = await store.supplies_to_come(connection, [ids[key] for key in named if key in ids])
    inputs = [Input(message, now) for message in _messages(ideas, state.supplies, now)]
    await unlocked.load(connection, state, found, touched_by(inputs), rules)
    return Asked(state, inputs, {key: ids.get(key) for key in sorted(named)})


async def _named_by(connection: Connection, idea: Idea) -> set[PoolKey]:
    match idea:
        case Receipt():
            return {PoolKey(idea.sku, idea.location)}
        case Delay():
            rows = await run(connection, "pools_of_named_supply", idea.supply)
            if not rows:
                raise ConfigurationError(f"nothing is to come of supply {idea.supply}")
            return {PoolKey(row["sku"], row["location"]) for row in rows}
        case OrderPlaced():
            if await run(connection, "order_by_id", idea.order_id):
                raise ConfigurationError(f"order {idea.order_id} is known already: give it another order_id")
            return {PoolKey(line.sku, line.location) for line in idea.lines}


def _check_known(key: PoolKey, known: Iterable[PoolKey], state: State) -> None:
    """A name that nobody used before is rather a slip than a new pool."""
    locations = sorted(each.location for each in known if each.sku == key.sku)
    if not locations and key.sku not in state.policies:
        raise ConfigurationError(f"SKU {key.sku} is not known: no order, stock or supply has named it")
    if locations and key.location not in locations:
        raise ConfigurationError(f"SKU {key.sku} is not known at {key.location}, but at {', '.join(locations)}")


def _messages(ideas: Iterable[Idea], supplies: Mapping[SupplyKey, Supply], now: datetime) -> list[Message]:
    """The messages that would tell of these ideas, one after the other."""
    known = dict(supplies)
    messages: list[Message] = []
    for number, idea in enumerate(ideas, 1):
        name = f"what-if:{number}"
        match idea:
            case OrderPlaced():
                messages.append(idea)
            case Receipt():
                messages.append(_received(idea, now, name))
            case Delay():
                # It may name several: one for each SKU. Of one that is delayed twice, the second counts from the first.
                for key in sorted(known):
                    if idea.supply in {key.supply_id, f"{key.supply_id}/{key.sku}"}:
                        delayed = _delayed(known[key], idea.by, now, name)
                        known[key] = replace(known[key], revision=delayed.revision, expected_at=delayed.expected_at)
                        messages.append(delayed)
    return messages


def _received(idea: Receipt, now: datetime, name: str) -> StockReceived:
    return StockReceived(
        id=name, occurred_at=now, receipt_id=name, sku=idea.sku, location=idea.location, quantity=idea.quantity
    )


def _delayed(supply: Supply, by: timedelta, now: datetime, name: str) -> SupplyExpected:
    if supply.pool is None or supply.expected_at is None or supply.supplier is None:
        raise ValueError(f"{supply.key} is to come and was never announced")
    # Not before the calendar begins.
    moved_to = later(supply.expected_at, max(by, EARLIEST - supply.expected_at))
    return SupplyExpected(
        id=name,
        occurred_at=now,
        supply_id=supply.key.supply_id,
        revision=supply.revision + 1,
        sku=supply.key.sku,
        location=supply.pool.location,
        quantity=supply.quantity,
        expected_at=moved_to,
        supplier=supply.supplier,
    )


# ── what would be ────────────────────────────────────────────────────────────────────────────────────────────────────


def _changes(before: State, decision: Decision) -> list[LineChange]:
    """Every line that would change itself, not only its date."""
    changed = decision.changed_lines.values()
    return [
        *((None, line) for line in decision.new_lines.values()),
        *((before.orders[line.order_id].lines[line.line_no], line) for line in changed),
    ]


def _pool(key: PoolKey, before: Pool, after: Pool) -> dict[str, Any]:
    return {
        "sku": key.sku,
        "location": key.location,
        "on_hand_before": before.on_hand,
        "on_hand_after": after.on_hand,
        "available_before": before.available,
        "available_after": after.available,
        "waiting_before": before.waiting,
        "waiting_after": after.waiting,
    }


def _event(event: Event) -> dict[str, Any]:
    version = event.version or 1
    message = event.kind(
        id="what-if", occurred_at=event.now, version=version, epoch=1, caused_by=event.caused_by, **event.fields
    )
    value = message.model_dump(mode="json")
    return {"topic": event.topic, "key": event.key, "type": message.type, "words": words.of_event(value, event.why)}


def _in_words(idea: Idea) -> str:
    match idea:
        case Receipt():
            return f"{idea.quantity} of {idea.sku} arrive at {idea.location}"
        case Delay():
            when = "later" if idea.by >= timedelta(0) else "earlier"
            return f"supply {idea.supply} comes {spoken(abs(idea.by))} {when}"
        case OrderPlaced():
            return f"order {idea.order_id} is placed"


def show(found: Mapping[str, Any], *, json: bool) -> None:
    if json:
        as_json(found)
        return
    print(f"if {', then '.join(found['ideas'])}:")
    for pool in found["pools"]:
        changes = ", ".join(
            f"{pool[f'{name}_before']} → {pool[f'{name}_after']} {said}"
            for name, said in (("on_hand", "on hand"), ("available", "available"), ("waiting", "waiting"))
        )
        print(f"{pool['sku']} at {pool['location']}: {changes}")
    if not found["lines"]:
        print("nobody gains or loses, and no date moves")
        return
    show_table([_row(line) for line in found["lines"]], json=False)
    new = {line["order_id"] for line in found["lines"] if line["effect"] == "new"}
    for event in found["events"]:
        if event["key"] in new:
            print(f"order {event['key']}: {event['type']}: {event['words']}")


def _row(line: Mapping[str, Any]) -> dict[str, Any]:
    leans = "" if line["waiting_after"] == 0 else line["supply_id"] or line["covered_by"] or ""
    return {
        "effect": line["effect"],
        "order_id": line["order_id"],
        "line_no": line["line_no"],
        "sku": line["sku"],
        "location": line["location"],
        "allocated": f"{line['allocated_before']} → {line['allocated_after']}",
        "waiting": f"{line['waiting_before']} → {line['waiting_after']}",
        "date_before": line["date_before"],
        "date_after": line["date_after"],
        "covered_by": leans,
    }
