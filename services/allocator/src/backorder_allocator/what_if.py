"""`what-if`: who would gain, who would lose and which dates would move, by the real rules, with nothing written.

The queues concerned are read whole, in one snapshot without locks; then `decide` and `plan` do what they would do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from backorder_allocator import reading, store, words
from backorder_allocator.allocation import decide
from backorder_allocator.arguments import Delay, Receipt
from backorder_allocator.decision import Event, Input, Message, Rules
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.output import as_json, show_table
from backorder_allocator.promises import UNKNOWN, Promise, Waiting, held, later, moved, plan, project
from backorder_allocator.ranking import EARLIEST, spoken
from backorder_allocator.state import Line, Pool, PoolKey, State, Supply
from backorder_allocator.statements import Connection, Rows, run
from backorder_schemas import OrderPlaced, StockReceived, SupplyExpected

Idea = Receipt | Delay | OrderPlaced
"""Something that might happen."""
LineKey = tuple[str, int]
EFFECTS = ("new", "gains", "loses")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known of the pools concerned: their whole queues, and what is to come for them."""

    state: State
    pools: Sequence[PoolKey]


async def what_if(connection: Connection, ideas: Sequence[Idea], rules: Rules, now: datetime) -> dict[str, Any]:
    """What would be if all this happened now, one after the other. Keys are documented in the README.

    Raises ConfigurationError for a SKU or supply that nobody named, or an order that there is already.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        snapshot, lines = await _read(connection, ideas, rules)
    # A long queue takes a while: not within the transaction, which must not idle.
    snapshot.state.orders = reading.orders_of(lines)
    return _compared(snapshot, ideas, rules, now)


# ── what is ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _read(connection: Connection, ideas: Iterable[Idea], rules: Rules) -> tuple[Snapshot, Rows]:
    """Everything that these ideas can touch; orders as rows of their lines. In a transaction with one snapshot."""
    named: set[PoolKey] = set()
    for idea in ideas:
        named |= await _named_by(connection, idea)
    skus = {key.sku for key in named}
    state = State(policies=await store.policies_of(connection, skus))
    found = await reading.pools_of(connection, skus, rules.default_policy)
    ids = {each.pool.key: each.pool_id for each in found}
    for key in named:
        _check_known(key, ids, state)
    concerned = [ids[key] for key in named if key in ids]
    lines = await run(connection, "orders_of_queues", concerned)
    state.supplies = await store.supplies_to_come(connection, concerned)
    # What such an order holds in other pools may be released by what happens in these; substitutes are named.
    others = {row["sku"] for row in lines}
    others.update(sku for each in found for sku in each.pool.policy.substitutes)
    found += await reading.pools_of(connection, others - skus, rules.default_policy)
    state.pools = {each.pool.key: each.pool for each in found}
    return Snapshot(state, sorted(named)), lines


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


# ── what would be ────────────────────────────────────────────────────────────────────────────────────────────────────


def _compared(snapshot: Snapshot, ideas: Sequence[Idea], rules: Rules, now: datetime) -> dict[str, Any]:
    before = snapshot.state
    after = before
    events: list[Event] = []
    for number, idea in enumerate(ideas, 1):
        for message in _messages(idea, after, now, f"what-if:{number}"):
            decision = decide(after, [Input(message, now)], rules)
            after = decision.state
            events += decision.events
    dates_before = _dates(before, snapshot.pools, rules, now)
    dates_after = _dates(after, snapshot.pools, rules, now)
    lines_before, lines_after = _lines(before), _lines(after)
    lines = [
        (line, described)
        for key, line in lines_after.items()
        if (
            described := _line(
                lines_before.get(key), line, dates_before.get(key, UNKNOWN), dates_after.get(key, UNKNOWN)
            )
        )
    ]
    lines.sort(key=lambda each: (EFFECTS.index(each[1]["effect"]), each[0].pool, each[0].rank))
    return {
        "at": now,
        "ideas": [_in_words(idea) for idea in ideas],
        "pools": [_pool(key, before.pools.get(key, Pool(key)), after.pools[key]) for key in snapshot.pools],
        "lines": [described for _, described in lines],
        "events": [_event(event) for event in events],
    }


def _messages(idea: Idea, state: State, now: datetime, name: str) -> list[Message]:
    """The messages that would tell of it. A delay may name several supplies: one for each SKU."""
    match idea:
        case OrderPlaced():
            return [idea]
        case Receipt():
            receipt = StockReceived(
                id=name,
                occurred_at=now,
                receipt_id=name,
                sku=idea.sku,
                location=idea.location,
                quantity=idea.quantity,
            )
            return [receipt]
        case Delay():
            named = (
                supply
                for supply in state.supplies.values()
                if idea.supply in {supply.key.supply_id, f"{supply.key.supply_id}/{supply.key.sku}"} and supply.to_come
            )
            return [_delayed(supply, idea.by, now, name) for supply in sorted(named, key=lambda each: each.key)]


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


def _dates(state: State, pools: Iterable[PoolKey], rules: Rules, now: datetime) -> dict[LineKey, Promise]:
    """The dates of all lines in these pools that wait, or that are there and may not ship yet or any more."""
    queues: dict[PoolKey, list[Line]] = {key: [] for key in pools if key in state.pools}
    for line in _lines(state).values():
        if line.pool in queues:
            queues[line.pool].append(line)
    dates: dict[LineKey, Promise] = {}
    for key, lines in queues.items():
        pool = state.pools[key]
        coming = (supply.coming(now) for supply in state.supplies.values() if supply.pool == key)
        projection = project(pool.unassigned, [each for each in coming if each is not None], now, rules.promises)
        release_at = pool.release_at(now)
        queue = sorted((line for line in lines if line.waiting), key=lambda line: line.rank)
        waiting = [
            Waiting(
                line.order_id,
                line.line_no,
                line.waiting,
                state.orders[line.order_id].placed_at or now,
                line.promised_at,
                line.first_promised_at,
                line.lead,
            )
            for line in queue
        ]
        days = pool.policy.default_lead_time_days
        promises = plan(waiting, projection, lead_time_days=days, release_at=release_at, now=now)
        for line in lines:
            if line.allocated and not line.waiting:
                dates[line.order_id, line.line_no] = held(release_at if line.held else None, now)
        for line, promise in zip(queue, promises, strict=True):
            dates[line.order_id, line.line_no] = promise
    return dates


def _lines(state: State) -> dict[LineKey, Line]:
    return {(order.order_id, number): line for order in state.orders.values() for number, line in order.lines.items()}


def _line(before: Line | None, after: Line, was: Promise, would_be: Promise) -> dict[str, Any] | None:
    """A line that gains, loses or is new; None for all others."""
    effect = _effect(before, after, was, would_be)
    if effect is None:
        return None
    return {
        "order_id": after.order_id,
        "line_no": after.line_no,
        "sku": after.pool.sku,
        "location": after.pool.location,
        "effect": effect,
        "quantity_ordered": after.ordered,
        "allocated_before": before.allocated if before else 0,
        "allocated_after": after.allocated,
        "waiting_before": before.waiting if before else 0,
        "waiting_after": after.waiting,
        "released_before": before.released if before else 0,
        "released_after": after.released,
        "rejected_after": after.rejected,
        "promised_at": before.promised_at if before else None,
        "date_before": was.at,
        "date_after": would_be.at,
        "covered_by": words.covered_by(would_be),
        "supply_id": would_be.supply_id,
    }


def _effect(
    before: Line | None, after: Line, was: Promise, would_be: Promise
) -> Literal["new", "gains", "loses"] | None:
    if before is None:
        return "new"
    more = (after.allocated - before.allocated) or (after.released - before.released)
    if more:
        return "gains" if more > 0 else "loses"
    if not moved(was.at, would_be.at):
        return None
    return "gains" if would_be.at is not None and (was.at is None or would_be.at < was.at) else "loses"


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
