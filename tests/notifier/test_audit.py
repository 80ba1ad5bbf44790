"""The audit finds what is wrong: each rule is broken once in a database in which everything happened."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from backorder_notifier.audits import BY_SQL, NEVER_BACK, audit
from backorder_notifier.checks import Check
from backorder_notifier.policy import Policy
from backorder_notifier.states_told import OrderHistory
from tests.conftest import Databases
from tests.notifier.conftest import Season
from tests.notifier.messages import NOON, created, placed, released, revoked
from tests.notifier.season import POLICY
from tests.notifier.shop import Shop

OF = "message_id = (SELECT message_id FROM messages WHERE order_id = 'whole' AND position = {})"
BROKEN = {
    "every event that was applied has its update": (
        "DELETE FROM updates WHERE event_id = 'lost/v2'",
        "order lost: version 2 was applied, 1 is recorded",
    ),
    "the events of an order are there once each, without gap": (
        "DELETE FROM updates WHERE event_id = 'whole/v2'",
        "order whole: 3 events between versions 1 and 4",
    ),
    "every decision has a message or a reason": (
        "UPDATE updates SET reason = 'felt_like_it' WHERE event_id = 'whole/v2'",
        "whole/v2 is not_told, felt_like_it",
    ),
    "what is told hangs on no message that was withdrawn": (
        f"UPDATE deliveries SET state = 'superseded', reason = 'newer_message' WHERE {OF.format(2)}",
        "whole/v3 of order whole",
    ),
    "every message has a delivery for each channel, if only to say why not": (
        f"DELETE FROM deliveries WHERE channel = 'sms' AND {OF.format(6)}",
        "of order whole has nothing for sms",
    ),
    "messages are numbered as they were made": (
        f"UPDATE messages SET composed_at = composed_at - interval '1 year' WHERE {OF.format(3)}",
        "order whole: message 3",
    ),
    "an order has at most one open message, its last": (
        f"UPDATE deliveries SET state = 'due', settled_at = NULL WHERE {OF.format(2)}",
        "order whole: 1 open, the first is message 2 of 6",
    ),
    "nothing waits for ever": (
        "UPDATE orders SET tell_at = NULL WHERE order_id = 'pending'",
        "pending/v2 of order pending waits for nothing",
    ),
    "the units of a message are the sums of its events": (
        "UPDATE messages SET content = jsonb_set(content, '{lines,0,created}', '15') WHERE order_id = 'back'",
        "(order back) says (15,0,0,0,0), its events (5,0,0,0,0)",
    ),
    "what was told last is what was accepted last": (
        "UPDATE orders SET told = '{}' WHERE order_id = 'back'",
        "order back",
    ),
    "what was accepted was tried": (
        f"DELETE FROM attempts USING deliveries WHERE attempts.delivery_id = deliveries.delivery_id AND {OF.format(1)}",
        "of order whole: sent, 1 tries counted",
    ),
    "nobody is told the same twice": (
        f"UPDATE messages SET about = ARRAY['whole/v1'] WHERE {OF.format(2)}",
        "whole/v1 of order whole was told 2 times by email",
    ),
    "who unsubscribed gets nothing optional": (
        "UPDATE customers SET optional_kinds = false, unsubscribed_at = '2026-11-03' WHERE customer_id = 'c-whole'",
        "of order whole (delivered) was made after its customer unsubscribed",
    ),
    "who was forgotten is forgotten": (
        "UPDATE orders SET name = 'Ada' WHERE order_id = 'erased'",
        "order erased still has contact data",
    ),
    "every end of a message was given to subscribers, in order": (
        "DELETE FROM outbox WHERE order_id = 'whole' AND version = 3",
        "order whole: 12 outcomes given",
    ),
    NEVER_BACK: (
        f"UPDATE messages SET told = jsonb_set(told, '{{1,waiting}}', '5') WHERE {OF.format(4)}",
        "message 4 of order whole, line 1: 5 wait, no date",
    ),
}  # fmt: skip


def audited(url: str, *, break_it: str | None = None, policy: Policy = POLICY) -> dict[str, Check]:
    async def run() -> list[Check]:
        connection = await asyncpg.connect(url)
        try:
            if break_it is not None:
                await connection.execute(break_it)
            return await audit(connection, policy)
        finally:
            await connection.close()

    return {check.rule: check for check in asyncio.run(run())}


def test_a_season_in_which_everything_happened_breaks_no_rule_and_looks_at_each(season: Season) -> None:
    checks = audited(season.url, policy=Policy(channels=POLICY.channels, start_at=NOON - timedelta(days=1)))
    assert [check for check in checks.values() if check.violations] == []
    assert {rule for rule, check in checks.items() if not check.checked} == set()


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_named_with_what_breaks_it(season: Season, postgres: Databases, rule: str) -> None:
    statement, example = BROKEN[rule]
    check = audited(postgres.create_database(template=season.url), break_it=statement)[rule]
    assert check.violations == len(check.examples) >= 1
    assert any(example in found for found in check.examples), check.examples


def test_what_happened_before_the_start_and_was_told_is_found(season: Season) -> None:
    start_at = NOON + timedelta(seconds=5)  # the first messages were made after that, about what happened before
    check = audited(season.url, policy=Policy(start_at=start_at))["nothing from before NOTIFIER_START_AT was told"]
    assert check.violations == 5
    assert "happened at 2026-11-02" in check.examples[0]


def test_each_rule_has_been_seen_broken() -> None:
    assert {*BROKEN, "nothing from before NOTIFIER_START_AT was told"} == {*BY_SQL, NEVER_BACK}


def test_an_empty_database_is_clean_and_says_that_nothing_was_looked_at(migrated: str) -> None:
    checks = audited(migrated)
    assert {(check.checked, check.violations) for check in checks.values()} == {(0, 0)}
    assert len(checks) == len(BY_SQL) + 1


# ── states that messages tell ────────────────────────────────────────────────────────────────────────────────────────


def event(
    version: int, kind: str, *, waiting: int | None = None, date: str | None = None, **more: Any
) -> dict[str, Any]:
    fields = {"event_id": f"v{version}", "line_no": 1, "type": kind, "quantity": 5, "version": version}
    return fields | {"waiting": waiting, "promised_at": date and f"{date}T00:00:00Z"} | more


MOVES = [
    event(1, "BackorderCreated", waiting=5, date="2026-12-01"),
    event(2, "PromiseChanged", date="2026-12-09"),
    event(3, "BackorderFilled", waiting=2),
    event(4, "PromiseChanged", date="2026-12-01"),
]


def judged(*messages: tuple[int, str | None, list[str]], events: list[dict[str, Any]] = MOVES) -> list[bool]:
    """Whether each message, (units that wait, date, about), is fine."""
    history = OrderHistory("1001", events)
    fine = []
    for position, (waiting, date, about) in enumerate(messages, 1):
        told = {"1": {"waiting": waiting, "promised_at": date and f"{date}T00:00:00Z"}}
        fine += [found is None for found in history.judge(position, told, about)]
    return fine


def test_states_told_in_the_order_they_had_are_fine_whichever_are_left_out() -> None:
    assert judged((5, "2026-12-01", ["v1"]), (2, "2026-12-01", ["v3", "v4"])) == [True, True]
    assert judged((5, "2026-12-09", ["v1", "v2"]), (2, "2026-12-09", ["v3"])) == [True, True]


def test_a_state_from_before_the_last_message_or_before_the_news_it_tells_is_found() -> None:
    assert judged((2, "2026-12-09", ["v3"]), (5, "2026-12-09", [])) == [True, False]
    assert judged((5, "2026-12-01", ["v2"])) == [False]


def test_a_state_that_the_line_never_had_is_found() -> None:
    assert judged((4, "2026-12-01", ["v1"])) == [False]
    assert judged((5, "2026-12-02", ["v1"])) == [False]
    assert judged((5, None, ["v1"])) == [False]


def test_what_was_shipped_or_lost_may_be_told_before_it_is_booked() -> None:
    shipped = [MOVES[0], event(9, "LinesShipped")]
    assert judged((0, None, ["v1"]), events=shipped) == [True]
    lost = [MOVES[0], event(9, "AllocationRevoked", quantity=3)]
    assert judged((8, "2026-12-01", ["v1"]), (9, "2026-12-01", []), events=lost) == [True, False]


def test_what_stood_before_the_first_event_that_is_kept_is_not_judged() -> None:
    later = [event(7, "BackorderFilled", waiting=2)]
    assert judged((5, "2026-12-01", []), events=later) == [True]
    assert judged((5, "2026-12-01", ["v7"]), events=later) == [False]


def test_a_loss_told_before_the_event_that_books_it_may_have_no_date() -> None:
    lost = [event(9, "AllocationRevoked", quantity=2), event(1, "BackorderCreated", waiting=2, date="2026-12-01")]
    assert judged((2, None, ["v9"]), (2, "2026-12-01", ["v1"]), events=lost) == [True, True]
    assert judged((2, None, []), events=lost) == [False]


async def test_a_loss_is_counted_where_it_was_told_first(connection: asyncpg.Connection) -> None:
    shop = Shop(connection, POLICY)
    cause: dict[str, Any] = {"reason": "stock_lost", "quantity": 2, "caused_by": "a count"}
    for told_first in ("revoked", "created"):
        events = [
            revoked(told_first, version=2, **cause),
            created(
                told_first, promised_at=NOON + timedelta(days=9), quantity_waiting=2, quantity_allocated=0, **cause
            ),
        ]
        await shop.comes(placed(told_first))
        await shop.comes(released(told_first))
        for each in events if told_first == "revoked" else reversed(events):
            await shop.comes(each)
            await shop.decides(after=POLICY.gap_wait)
            await shop.sends()
    assert await connection.fetchval("SELECT count(*) FROM messages") == 3, "the date is told after the loss"
    checks = {check.rule: check for check in await audit(connection, POLICY)}
    assert [check for check in checks.values() if check.violations] == []
    assert checks["the units of a message are the sums of its events"].checked == 3
