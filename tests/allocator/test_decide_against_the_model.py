"""`decide` on random histories: in batches, message by message, and against a model that shares no code with it.

After every message the rules that must always hold are computed from rows and events, not by the code under test.
BACKORDER_EXAMPLES sets how many histories are tried; more than 500 are drawn anew each time, up to 500 never change.
"""

import copy
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backorder_allocator.allocation import Decision, Event, IncompleteStateError, Input, Outcome, decide
from backorder_allocator.ranking import HeadStartRules, ValueRule
from backorder_allocator.state import Line, Pool, PoolKey, State
from backorder_schemas import OrderCancelled, OrderPlaced, StockAdjusted, StockCounted, StockReceived
from tests.allocator import naive_model
from tests.allocator.strategies import SEGMENT_HEAD_STARTS, VALUE_HEAD_STARTS, Arrival, batches, histories

EXAMPLES = int(os.environ.get("BACKORDER_EXAMPLES", "500"))
RULES = HeadStartRules(by_segment=SEGMENT_HEAD_STARTS, by_value=tuple(ValueRule(*rule) for rule in VALUE_HEAD_STARTS))

pytestmark = pytest.mark.timeout(240 if EXAMPLES <= 500 else 0)
on_random_histories = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 500,
    database=None,
    deadline=None,
    phases=[Phase.generate] if os.environ.get("BACKORDER_NO_SHRINK") else [Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
on_some_random_histories = settings(on_random_histories, max_examples=max(10, EXAMPLES // 20))


@on_random_histories
@given(histories().flatmap(batches))
def test_batches_single_messages_and_the_naive_model_agree(cut: list[list[Arrival]]) -> None:
    assert_all_agree(cut)


@on_some_random_histories
@given(histories(most_messages=8, with_a_long_order=True).flatmap(batches))
def test_they_agree_about_orders_of_hundreds_of_lines_too(cut: list[list[Arrival]]) -> None:
    assert_all_agree(cut)


def assert_all_agree(cut: list[list[Arrival]]) -> None:
    model = naive_model.NaiveModel(SEGMENT_HEAD_STARTS, VALUE_HEAD_STARTS)
    one_by_one = State()
    single: list[Decision] = []
    for arrival in itertools.chain(*cut):
        answer = model.receive(arrival.message, arrival.now)
        decision = decide(one_by_one, [as_input(arrival)], RULES)
        single.append(decision)
        one_by_one = decision.state
        assert [in_words(outcome) for outcome in decision.outcomes] == [answer.outcome]
        assert by_line(plain(event) for event in decision.events) == by_line(answer.events)
        assert units_of_lines(one_by_one) == model.units_of_lines()
        assert_same_pools(units_of_pools(one_by_one), model.units_of_pools())

    batched = State()
    decisions = []
    for batch in cut:
        before = copy.deepcopy(batched)
        decision = decide(batched, [as_input(arrival) for arrival in batch], RULES)
        assert batched == before, "decide changed what it was given"
        assert_every_changed_row_is_named(before, decision)
        decisions.append(decision)
        batched = decision.state
    assert batched == one_by_one
    assert [each for decision in decisions for each in decision.outcomes] == [
        each for decision in single for each in decision.outcomes
    ]
    assert [each for decision in decisions for each in decision.events] == [
        each for decision in single for each in decision.events
    ]
    assert [each for decision in decisions for each in decision.movements] == [
        each for decision in single for each in decision.movements
    ]
    assert [each for decision in decisions for each in decision.cancels] == [
        each for decision in single for each in decision.cancels
    ]


@on_random_histories
@given(histories())
def test_the_rules_that_always_hold_do_so_after_every_message(history: list[Arrival]) -> None:
    state = State()
    books = Books()
    for arrival in history:
        decision = decide(state, [as_input(arrival)], RULES)
        books.book(arrival, state, decision)
        state = decision.state
        books.agree_with(state)


@on_random_histories
@given(histories(most_messages=15), st.integers(0, 2**32))
def test_the_order_in_which_rows_were_loaded_does_not_matter(history: list[Arrival], seed: int) -> None:
    random = Random(seed)
    state = shuffled = State()
    for arrival in history:
        decision = decide(state, [as_input(arrival)], RULES)
        other = decide(shuffled, [as_input(arrival)], RULES)
        assert other.events == decision.events
        assert other.state == decision.state
        state, shuffled = decision.state, other.state.copy()
        shuffle(shuffled.pools, random.shuffle)
        shuffle(shuffled.orders, random.shuffle)
        for order in shuffled.orders.values():
            shuffle(order.lines, random.shuffle)


@on_random_histories
@given(histories().flatmap(batches), st.integers(0, 2**32))
def test_a_state_that_holds_less_of_a_queue_decides_the_same_or_refuses(cut: list[list[Arrival]], seed: int) -> None:
    state, random = State(), Random(seed)
    for batch in cut:
        inputs = [as_input(arrival) for arrival in batch]
        whole = decide(state, inputs, RULES)
        partial = without_some_of_the_queues(state, batch, random)
        try:
            decision = decide(partial, inputs, RULES)
        except IncompleteStateError:
            assert partial.horizons
        else:
            assert (decision.outcomes, decision.events) == (whole.outcomes, whole.events)
            for order_id, order in decision.state.orders.items():
                assert order == whole.state.orders[order_id]
            assert decision.state.pools == whole.state.pools
        state = whole.state


class Books:
    """What must hold, kept by hand from the messages that were applied and the events that came out."""

    def __init__(self) -> None:
        self.on_hand: Counter[PoolKey] = Counter()
        self.waiting: Counter[tuple[str, int]] = Counter()
        self.got: Counter[tuple[str, int, int | None]] = Counter()  # by release_no
        self.said_waiting: dict[tuple[str, int], int] = {}
        self.closed: set[tuple[str, int]] = set()
        self.last_release: Counter[str] = Counter()
        self.versions: Counter[tuple[str, str]] = Counter()

    def book(self, arrival: Arrival, before: State, decision: Decision) -> None:
        message, after = arrival.message, decision.state
        applied = decision.outcomes == [Outcome("applied")]
        if not applied:
            assert decision.events == []
            assert units_of_lines(before) == units_of_lines(after)
        elif not isinstance(message, OrderPlaced | OrderCancelled):
            pool = PoolKey(message.sku, message.location)
            match message:
                case StockReceived():
                    self.on_hand[pool] += message.quantity
                case StockAdjusted():
                    self.on_hand[pool] += message.delta
                case StockCounted():
                    self.on_hand[pool] = message.counted
        for event in decision.events:
            self.book_event(arrival, event)
        self.nobody_lost_what_was_theirs(message, before, after)
        self.nobody_was_passed_over(before, after)
        self.closed = {name for name, line in lines_of(after).items() if line.cancelled + line.rejected == line.ordered}

    def book_event(self, arrival: Arrival, event: Event) -> None:
        fields, kind = event.fields, name_of(event)
        sealed = event.kind(
            id="id", occurred_at=event.now, version=1, epoch=1, caused_by=event.caused_by, **event.fields
        )
        assert sealed.type == name_of(event)
        assert (event.now, event.caused_by) == (arrival.now, arrival.message.id)
        if event.topic != "stock-alerts":
            self.versions[event.topic, event.key] += 1
            assert event.version == self.versions[event.topic, event.key]
            assert event.key == fields["order_id"]
        match kind:
            case "AllocationReleased":
                self.last_release[event.key] += 1
                assert fields["release_no"] == self.last_release[event.key]
                assert 1 <= len(fields["lines"]) <= 500
                for released in fields["lines"]:
                    self.got[event.key, released.line_no, fields["release_no"]] += released.quantity
                    assert (event.key, released.line_no) not in self.closed
                return
            case "StockShortfall":
                return
            case _:
                pass
        name = event.key, fields["line_no"]
        assert name not in self.closed, "an event after the line was closed"
        match kind:
            case "AllocationRevoked" if fields["release_no"] is not None:
                self.got[*name, fields["release_no"]] -= fields["quantity"]
                newer = range(fields["release_no"] + 1, self.last_release[event.key] + 1)
                assert not any(self.got[*name, no] for no in newer), "the newest release gives first"
            case "BackorderCreated":
                self.waiting[name] += fields["quantity"]
            case "BackorderFilled" | "BackorderCancelled":
                self.waiting[name] -= fields["quantity"]
            case _:
                pass
        if "quantity_waiting" in fields:
            self.said_waiting[name] = fields["quantity_waiting"]
            assert fields["quantity_waiting"] == self.waiting[name]

    def agree_with(self, state: State) -> None:
        lines = lines_of(state)
        released: Counter[tuple[str, int, int | None]] = Counter()
        for name, line in lines.items():
            assert line.ordered == line.allocated + line.waiting + line.cancelled + line.rejected
            assert min(line.allocated, line.waiting, line.cancelled, line.rejected, line.held) >= 0
            assert line.waiting == self.waiting[name] == self.said_waiting.get(name, 0)
            for release_no, units in line.releases:
                assert units > 0
                released[*name, release_no] = units
        assert released == +self.got, "what a line got is what was released to it and not revoked"
        for order in state.orders.values():
            waits = any(line.waiting for line in order.lines.values())
            for line in order.lines.values():
                assert line.held == 0 or (order.delivery == "complete" and waits)
            assert order.release_no == self.last_release[order.order_id]
        for key, pool in state.pools.items():
            allocated = sum(line.allocated for line in lines.values() if line.pool == key)
            waiting = sum(line.waiting for line in lines.values() if line.pool == key)
            assert pool.on_hand == self.on_hand[key]
            assert (pool.allocated, pool.waiting) == (allocated, waiting)
            assert allocated <= max(0, pool.on_hand), "oversold"
            assert waiting == 0 or allocated == max(0, pool.on_hand), "a unit lies idle while a line waits"
        assert {line.pool for line in lines.values()} <= set(state.pools)

    def nobody_lost_what_was_theirs(self, message: object, before: State, after: State) -> None:
        """A receipt takes from nobody, nor does an order; a cancel takes from its own order alone."""
        if isinstance(message, StockAdjusted | StockCounted):
            return
        own = message.order_id if isinstance(message, OrderCancelled) else None
        for name, line in lines_of(before).items():
            if name[0] != own:
                assert lines_of_one(after, name).allocated >= line.allocated

    def nobody_was_passed_over(self, before: State, after: State) -> None:
        """Whoever gained units has nobody waiting ahead; a newcomer gained none where somebody waited before."""
        old, new = lines_of(before), lines_of(after)
        first_waiting: dict[PoolKey, Any] = {}
        for line in new.values():
            if line.waiting:
                first_waiting[line.pool] = min(first_waiting.get(line.pool, rank_of(line)), rank_of(line))
        for name, line in new.items():
            if name not in old:
                assert not line.allocated or not before.pools.get(line.pool, Pool(line.pool)).waiting
            if line.allocated > (old[name].allocated if name in old else 0) and line.pool in first_waiting:
                assert rank_of(line) <= first_waiting[line.pool]


# -- rows and events as plain values


def as_input(arrival: Arrival) -> Input:
    return Input(arrival.message, arrival.now)


def in_words(outcome: Outcome) -> str:
    return outcome.reason if outcome.kind == "dead_letter" else outcome.kind


def name_of(event: Event) -> str:
    return event.kind.__name__


def plain(event: Event) -> naive_model.Event:
    """The fields of CONTRACT §4 as plain values."""
    fields = {name: value for name, value in event.fields.items() if name != "customer_id"}
    if "lines" in fields:
        fields["lines"] = [line.model_dump() for line in fields["lines"]]
    return {"type": name_of(event), "key": event.key, **fields}


def by_line(events: Any) -> dict[object, list[naive_model.Event]]:
    """The contract orders the events of a line, not those of several lines; a release comes after its lines' events."""
    sorted_out: dict[object, list[naive_model.Event]] = defaultdict(list)
    released = set()
    for event in events:
        if event["type"] == "AllocationReleased":
            released.add(event["key"])
        else:
            assert event["key"] not in released or event["type"] == "StockShortfall"
        sorted_out[event["key"], event.get("line_no")].append(event)
    return sorted_out


def lines_of(state: State) -> dict[tuple[str, int], Line]:
    return {(order.order_id, no): line for order in state.orders.values() for no, line in order.lines.items()}


def lines_of_one(state: State, name: tuple[str, int]) -> Line:
    return state.orders[name[0]].lines[name[1]]


def rank_of(line: Line) -> tuple[Any, bytes, int]:
    return line.rank[0], line.order_id.encode(), line.line_no


def units_of_lines(state: State) -> dict[tuple[str, int], dict[str, object]]:
    return {
        name: {
            "ordered": line.ordered,
            "waiting": line.waiting,
            "held": line.allocated - sum(units for _, units in line.releases),
            "released": dict(line.releases),
            "cancelled": line.cancelled,
            "rejected": line.rejected,
            "ranked_at": line.rank[0],
        }
        for name, line in lines_of(state).items()
    }


def units_of_pools(state: State) -> dict[naive_model.Pool, dict[str, int]]:
    return {
        (key.sku, key.location): {"on_hand": pool.on_hand, "allocated": pool.allocated, "waiting": pool.waiting}
        for key, pool in state.pools.items()
    }


def assert_same_pools(
    decided: dict[naive_model.Pool, dict[str, int]], expected: dict[naive_model.Pool, dict[str, int]]
) -> None:
    """A pool that nothing ever touched may or may not have a row."""
    empty = {"on_hand": 0, "allocated": 0, "waiting": 0}
    for key in {*decided, *expected}:
        assert decided.get(key, empty) == expected.get(key, empty)


def assert_every_changed_row_is_named(before: State, decision: Decision) -> None:
    """What the decision hands to the store is all that differs."""
    after = decision.state
    for key, pool in after.pools.items():
        assert pool == before.pools.get(key, Pool(key)) or decision.pools.get(key) is pool
    old_lines = lines_of(before)
    for name, line in lines_of(after).items():
        rows = decision.changed_lines if name in old_lines else decision.new_lines
        assert line == old_lines.get(name) or rows.get(name) is line
    for order_id, order in after.orders.items():
        old = before.orders.get(order_id)
        same = old is not None and without_lines(order) == without_lines(old)
        rows_of_orders = decision.changed_orders if old is not None else decision.new_orders
        assert same or rows_of_orders.get(order_id) is order
    assert {each.key for each in decision.movements} == set(after.movements) - set(before.movements)
    assert {each.message.id for each in decision.cancels} == set(after.cancels) - set(before.cancels)


def without_some_of_the_queues(state: State, batch: list[Arrival], random: Random) -> State:
    """What a store may load: orders that are named, those that may lose stock, and the first lines of every queue."""
    named = {each.message.order_id for each in batch if isinstance(each.message, OrderPlaced | OrderCancelled)}
    may_lose = {
        PoolKey(each.message.sku, each.message.location)
        for each in batch
        if isinstance(each.message, StockAdjusted | StockCounted)
    }
    needed = {name[0] for name, line in lines_of(state).items() if line.allocated and line.pool in may_lose} | named
    loaded = {
        order_id: order for order_id, order in state.orders.items() if order_id in needed or random.random() < 0.5
    }
    partial = copy.deepcopy(replace(state, orders=loaded))
    for key in state.pools:
        queue = sorted((line for line in lines_of(state).values() if line.waiting and line.pool == key), key=rank_of)
        if any(line.order_id not in loaded for line in queue):
            read = itertools.takewhile(lambda line: line.order_id in loaded, queue)
            partial.horizons[key] = max((line.rank for line in read), default=None)
    return partial


def without_lines(order: Any) -> Any:
    """An order's own row: lines have theirs, and early cancels are kept as cancels."""
    own = copy.copy(order)
    own.lines, own.early_cancels = {}, ()
    return own


def shuffle(rows: dict[Any, Any], shuffle_list: Callable[[list[Any]], None]) -> None:
    items = list(rows.items())
    shuffle_list(items)
    rows.clear()
    rows.update(items)
