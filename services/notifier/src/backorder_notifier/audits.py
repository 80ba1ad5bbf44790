"""The rules that must always hold, checked on a live database in one snapshot. Read-only rights are enough.

A rule is a sentence that says what holds; it comes with how often it was looked at, since one that was never looked at
says nothing.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from backorder_notifier import chains
from backorder_notifier.checks import Check
from backorder_notifier.kinds import OPTIONAL
from backorder_notifier.policy import Policy
from backorder_notifier.reasons import REASONS
from backorder_notifier.sentences import MORE_REASONS
from backorder_notifier.statements import Connection, run
from backorder_notifier.states_told import OrderHistory

_PORTION: Final = 500  # orders whose history is in memory at a time

BY_SQL: Final = {
    "every event that was applied has its update": "audit_events_have_their_update",
    "the events of an order are there once each, without gap": "audit_events_come_once",
    "every decision has a message or a reason": "audit_decisions_say_why",
    "what is told hangs on no message that was withdrawn": "audit_news_is_on_its_way",
    "every message has a delivery for each channel, if only to say why not": "audit_channels_are_served",
    "messages are numbered as they were made": "audit_messages_are_numbered",
    "an order has at most one open message, its last": "audit_one_message_is_open",
    "nothing waits for ever": "audit_nothing_waits_for_ever",
    "nothing from before NOTIFIER_START_AT was told": "audit_nothing_before_the_start",
    "the units of a message are the sums of its events": "audit_units_add_up",
    "what was told last is what was accepted last": "audit_told_is_the_last_accepted",
    "what was accepted was tried": "audit_tries_are_recorded",
    "nobody is told the same twice": "audit_nobody_reads_it_twice",
    "who unsubscribed gets nothing optional": "audit_wishes_are_kept",
    "who was forgotten is forgotten": "audit_the_forgotten_are_forgotten",
    "every end of a message was given to subscribers, in order": "audit_outcomes_are_numbered",
}
NONE_NOW: Final = {
    "an order has at most one open message, its last": "no message is open now",
    "nothing waits for ever": "nothing is undecided now",
    "nothing from before NOTIFIER_START_AT was told": "NOTIFIER_START_AT is not set, or nothing was told since",
    "who unsubscribed gets nothing optional": "nothing optional was sent",
    "who was forgotten is forgotten": "nobody was forgotten",
}
"""Rules that there may be nothing to look at for, without anything being wrong: why."""
NEVER_BACK: Final = "no message tells an older state than the one before"


async def audit(connection: Connection, policy: Policy) -> list[Check]:
    """Check every rule, in the caller's snapshot. Addresses are in no example."""
    arguments: dict[str, tuple[Any, ...]] = {
        "audit_decisions_say_why": (sorted({*REASONS, *MORE_REASONS}),),
        "audit_channels_are_served": (list(policy.channels),),
        "audit_nothing_before_the_start": (policy.start_at,),
        "audit_wishes_are_kept": (sorted(OPTIONAL),),
    }
    checks = []
    for rule, statement in BY_SQL.items():
        row = (await run(connection, statement, *arguments.get(statement, ())))[0]
        check = Check(rule, row["checked"], row["broken"], list(row["examples"] or ()))
        check.unchecked = None if check.checked else NONE_NOW.get(rule)
        check.about = {"order_id": row["order_id"]} if row["order_id"] else None
        checks.append(check)
    checks.append(await _never_back(connection))
    await chains.explain(connection, checks)
    return checks


async def _never_back(connection: Connection) -> Check:
    """Walk through every order: what its messages say of its lines are states that it had, in the order it had them."""
    check = Check(NEVER_BACK)
    after = ""
    while rows := await run(connection, "audit_states_told", after, _PORTION):
        for row in rows:
            history = OrderHistory(row["order_id"], json.loads(row["events"]))
            for message in json.loads(row["messages"]):
                for violation in history.judge(message["position"], message["told"], message["about"]):
                    check.found(violation, {"order_id": row["order_id"]})
        after = rows[-1]["order_id"]
    return check


def is_clean(checks: Iterable[Check], *, strict: bool) -> bool:
    """Whether no rule is broken; with `strict`, whether each was looked at as well, or says why not."""
    return not any(check.violations or (strict and not check.checked and not check.unchecked) for check in checks)
