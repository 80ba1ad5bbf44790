"""`decide` and the planner on random histories of everything, against a model that shares no code with them.

Message by message and in batches cut at random: the same units, the same dates, the same events. BACKORDER_EXAMPLES
sets how many histories are tried; more than the default are drawn anew each time, the default ones never change.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backorder_allocator.allocation import decide
from backorder_allocator.decision import (
    Decision,
    EscalationDue,
    Event,
    Input,
    Outcome,
    ReleaseDue,
    Rules,
    SupplyDue,
    Timer,
)
from backorder_allocator.policies import policy_of
from backorder_allocator.promises import PromiseRules
from backorder_allocator.ranking import HeadStartRules, ValueRule
from backorder_allocator.state import Policy, PoolKey, State
from tests.allocator import naive_model
from tests.allocator.invariants import Ledger, check_no_supply_is_promised_twice, check_state, check_step
from tests.allocator.invariants import Plan as Planned
from tests.allocator.naive_model import NaiveModel
from tests.allocator.pure_planner import plan_pool
from tests.allocator.strategies import (
    SEGMENT_HEAD_STARTS,
    VALUE_HEAD_STARTS,
    Fire,
    Plan,
    Sent,
    Settings,
    Step,
    settings_of_a_shop,
    whole_histories,
)

DEFAULT_EXAMPLES = 1000
EXAMPLES = int(os.environ.get("BACKORDER_EXAMPLES", DEFAULT_EXAMPLES))
HEAD_STARTS = HeadStartRules(
    by_segment=SEGMENT_HEAD_STARTS, by_value=tuple(ValueRule(*rule) for rule in VALUE_HEAD_STARTS)
)

pytestmark = pytest.mark.timeout(300 if EXAMPLES <= DEFAULT_EXAMPLES else 0)
on_random_histories = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= DEFAULT_EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate] if os.environ.get("BACKORDER_NO_SHRINK") else [Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@on_random_histories
@given(whole_histories(), settings_of_a_shop(), st.randoms(use_true_random=False))
def test_single_messages_batches_and_the_naive_model_agree_about_everything(
    history: list[Step], shop: Settings, random: Any
) -> None:
    assert_all_agree(history, shop, random)


@settings(on_random_histories, max_examples=max(10, EXAMPLES // 100))
@given(whole_histories(most_steps=8, with_a_long_order=True), settings_of_a_shop(), st.randoms(use_true_random=False))
def test_they_agree_about_orders_of_hundreds_of_lines_too(history: list[Step], shop: Settings, random: Any) -> None:
    assert_all_agree(history, shop, random)


def assert_all_agree(history: list[Step], shop: Settings, random: Any) -> None:
    model = model_of(shop)
    rules = rules_of(shop)
    ledger = Ledger(shop)
    state = batched = State()
    batch: list[Input] = []
    single: list[Decision] = []

    def close_batch() -> State:
        """Decide on everything since the last close at once: it must be what was decided one by one."""
        together = decide(batched, batch, rules)
        assert together.events == [event for decision in single for event in decision.events]
        assert together.outcomes == [outcome for decision in single for outcome in decision.outcomes]
        assert together.state == state
        batch.clear()
        single.clear()
        return together.state

    for step, item in meant(history, model):
        if isinstance(step, Plan):
            batched = close_batch()
            key = PoolKey(*step.pool)
            causes = state.pools[key].causes if key in state.pools else frozenset()
            assert model.causes_that_moved(step.pool) <= causes <= model.causes_noted(step.pool)
            plan = model.plan(step.pool, step.now)
            check_no_supply_is_promised_twice(ledger, step.pool, step.now, plan, units_of_lines(state))
            if not causes:
                assert_planned(state, key, step.now, plan)
                continue
            expected = model.moves(step.pool, step.now, causes)
            for planned in (state, batched):
                moves = plan_pool(planned, planned.pools[key], step.now, rules.promises) if key in planned.pools else []
                assert [move_in_words(move) for move in moves] == [moved_in_words(event) for event in expected]
            ledger.book_moves(expected, units_of_lines(state))
        else:
            answer = model.receive(as_model(item.message), item.now)
            decision = decide(state, [item], rules)
            assert [in_words(outcome) for outcome in decision.outcomes] == [answer.outcome]
            assert by_line(plain(event) for event in decision.events) == by_line(answer.events)
            assert [letter.key.shipment_id for letter in decision.late_letters] == answer.refused_late
            assert_timers(decision, model)
            before, after = units_of_lines(state), units_of_lines(decision.state)
            events = [plain(event) for event in decision.events]
            ledger.book(as_model(item.message), answer.outcome, events, answer.refused_late, before)
            check_step(ledger, item.message, answer.outcome, events, before, after)
            state = decision.state
            batch.append(item)
            single.append(decision)
            if random.random() < 0.3:
                batched = close_batch()
        assert units_of_lines(state) == model.units_of_lines()
        assert units_of_pools(state) == model.units_of_pools()
        check_state(ledger, units_of_lines(state), units_of_pools(state))
    close_batch()


def meant(history: list[Step], model: NaiveModel) -> Iterator[tuple[Step, Any]]:
    """The steps with what they stand for: a timer that fires is the next one due then."""
    for step in history:
        if isinstance(step, Fire):
            due = model.due_timers()
            if due:
                at, timer = due[0]
                yield step, Input(as_timer(timer), at)
        elif isinstance(step, Sent):
            yield step, Input(step.message, step.now)
        else:
            yield step, None


def assert_timers(decision: Decision, model: NaiveModel) -> None:
    """Every timer that a decision sets stands in the model at that time, and none stands that it takes away."""
    standing = {as_timer(timer): at for at, timer in model.due_timers()}
    for timer, due in decision.timers.items():
        assert standing.get(timer) == due


def assert_planned(state: State, key: PoolKey, now: datetime, plan: Planned) -> None:
    """Where the planner has nothing to do, what was promised is what planning from nothing gives, to the day."""
    coming = [each.coming(now) for each in state.supplies.values() if each.pool == key]
    if any(each.overdue or each.expected_at < now for each in coming if each is not None):
        return  # what is late moves with the clock; its timer says so
    for (order_id, line_no), (date, supply_id) in plan.items():
        promised_at = state.orders[order_id].lines[line_no].promised_at
        if supply_id is not None:
            assert promised_at is not None
            assert date is not None
            assert promised_at.date() == date.date()
        elif date is None:
            assert promised_at is None


# -- the two worlds in the same words


def model_of(shop: Settings) -> NaiveModel:
    return NaiveModel(
        SEGMENT_HEAD_STARTS,
        VALUE_HEAD_STARTS,
        default_policy=shop.default_policy,
        handling_days=shop.handling_days,
        overdue_days=shop.overdue_days,
        escalate_after=shop.escalate_after,
    )


def rules_of(shop: Settings) -> Rules:
    default = Policy() if shop.default_policy is None else replace(policy_of(shop.default_policy), revision=0)
    overdue = None if shop.overdue_days is None else timedelta(days=shop.overdue_days)
    return Rules(HEAD_STARTS, PromiseRules(timedelta(days=shop.handling_days), overdue), default, shop.escalate_after)


def as_timer(timer: naive_model.Timer) -> Timer:
    match timer:
        case naive_model.Escalate():
            return EscalationDue(timer.order_id)
        case naive_model.Release():
            return ReleaseDue(timer.sku)
        case naive_model.Overdue():
            return SupplyDue(timer.supply_id, timer.sku)


def as_model(message: Any) -> Any:
    match message:
        case EscalationDue():
            return naive_model.Escalate(message.order_id)
        case ReleaseDue():
            return naive_model.Release(message.sku)
        case SupplyDue():
            return naive_model.Overdue(message.supply_id, message.sku)
        case _:
            return message


def in_words(outcome: Outcome) -> str:
    return outcome.reason if outcome.kind == "dead_letter" else outcome.kind


def plain(event: Event) -> dict[str, Any]:
    fields = {name: value for name, value in event.fields.items() if name != "customer_id"}
    if "lines" in fields:
        fields["lines"] = [line.model_dump() for line in fields["lines"]]
    return {"type": event.kind.__name__, "key": event.key, **fields}


def by_line(events: Any) -> dict[object, list[dict[str, Any]]]:
    """The contract orders the events of a line and of an alert's pool, not those of several."""
    sorted_out: dict[object, list[dict[str, Any]]] = defaultdict(list)
    alerts: dict[object, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if "order_id" in event and event["type"] != "ShipmentMismatch":
            sorted_out[event["key"], event.get("line_no")].append(event)
        else:
            alerts[event["key"], event["location"]].append(event)
    for key, these in alerts.items():
        sorted_out["alerts", key] = sorted(these, key=lambda event: (event["type"], str(event.get("line_no"))))
    return sorted_out


def move_in_words(move: Any) -> tuple[Any, ...]:
    line = move.line
    return (line.order_id, line.line_no, line.promised_at, move.promised_at, move.first_promised_at, move.cause)


def moved_in_words(event: dict[str, Any]) -> tuple[Any, ...]:
    names = ("order_id", "line_no", "previous_promised_at", "promised_at", "first_promised_at", "cause")
    return tuple(event[name] for name in names)


def units_of_lines(state: State) -> dict[tuple[str, int], dict[str, object]]:
    return {
        (order.order_id, number): {
            "ordered": line.ordered,
            "waiting": line.waiting,
            "held": line.held,
            "released": dict(line.releases),
            "cancelled": line.cancelled,
            "rejected": line.rejected,
            "ranked_at": line.rank[0],
            "shipped": line.shipped,
            "promised_at": line.promised_at,
            "first_promised_at": line.first_promised_at,
        }
        for order in state.orders.values()
        for number, line in order.lines.items()
    }


def units_of_pools(state: State) -> dict[Any, dict[str, int]]:
    shipped: dict[PoolKey, int] = defaultdict(int)
    for order in state.orders.values():
        for line in order.lines.values():
            shipped[line.pool] += line.shipped
    return {
        (key.sku, key.location): {
            "on_hand": pool.on_hand,
            "allocated": pool.allocated + shipped[key],
            "waiting": pool.waiting,
            "shipped": shipped[key],
            "available": pool.available,
            "low": int(pool.low),
        }
        for key, pool in state.pools.items()
        if pool.named
    }
