"""`backorder-notifier audit --topics` finds what tables and topics say differently, rule by rule."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import asyncpg
import pytest
import pytest_asyncio

from backorder_notifier.checks import Check
from backorder_notifier.dead_copies import TOPIC as DEAD_LETTERS
from backorder_notifier.dead_copies import DeadCopies
from backorder_notifier.intake import READS
from backorder_notifier.outcomes_published import TOPIC as OUTCOMES
from backorder_notifier.outcomes_published import OutcomesPublished
from backorder_notifier.policy import Policy
from backorder_notifier.taken import Taken
from backorder_notifier.topic_audits import audit
from backorder_notifier.walking import Walker, walker
from tests.faults.checked import Checked, published_again

REACHED = "no cursor lies beyond the end of its topic"
TRACED = "every input below its cursor left its trace or a dead letter"
UPDATED = "every event below its cursor has its update"
KEPT = "dead letters are kept byte for byte"
NUMBERED = "published outcomes of an order have no gap, repeats are equal"
GIVEN = "every published outcome was given, as it is published"
ENDED = "every published outcome is of a message that ended so"
COMPLETE = "every outcome that was given is published"
LETTERS = "every published dead letter is in the table, byte for byte"
LETTERS_PUBLISHED = "every dead letter is published"


@dataclass(frozen=True)
class Checking:
    """The notifier of a shop at rest, a free connection to its database, and eyes on its topics."""

    shop: Checked
    database: asyncpg.Connection
    outputs: Walker
    inputs: Walker

    async def checks_of(self, *rules: str) -> dict[str, Check]:
        """Those that walk the same topics as these rules do."""
        async with self.database.transaction():
            outcomes = OutcomesPublished(self.database, self.database, 1)
            letters = DeadCopies(self.database, self.database, None)
            taken = Taken(self.database, self.inputs.prefix, None)
            found: list[Check] = []
            for part, topics in ((outcomes, self.outputs), (letters, self.outputs), (taken, self.inputs)):
                if {check.rule for check in part.checks} & set(rules):
                    await part.walk(topics, await topics.extents())
                    found += part.checks
        return {check.rule: check for check in found}

    @asynccontextmanager
    async def changed(self, change: str) -> AsyncIterator[None]:
        """In a transaction that is rolled back."""
        transaction = self.database.transaction()
        await transaction.start()
        try:
            assert await self.database.execute(change) not in {"UPDATE 0", "DELETE 0"}
            yield
        finally:
            await transaction.rollback()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def checking(shop_at_rest: Checked) -> AsyncIterator[Checking]:
    shop = shop_at_rest
    kafka, prefix = shop.world.kafka, shop.world.prefix
    async with AsyncExitStack() as stack:
        names = sorted((OUTCOMES, DEAD_LETTERS))
        outputs = await stack.enter_async_context(walker([kafka], prefix, names, committed=False))
        inputs = await stack.enter_async_context(walker([kafka], prefix, sorted(READS), committed=True))
        database = await asyncpg.connect(shop.notifying.database_url)
        stack.push_async_callback(database.close)
        yield Checking(shop, database, outputs, inputs)


BREAKS = {
    "a cursor lies beyond its log": ("UPDATE cursors SET next_offset = 1000000", REACHED),
    "an event was applied and has no update": ("DELETE FROM updates WHERE topic = 'backorders'", UPDATED),
    "an update is of another event": ('UPDATE updates SET event = event || \'{"type": "X"}\'', UPDATED),
    "a release was passed by": ("UPDATE versions SET version = version - 1 WHERE topic = 'allocations'", TRACED),
    "an order was passed by": ("UPDATE orders SET known_at = NULL, customer_id = NULL", TRACED),
    "a policy was passed by": ("DELETE FROM products", TRACED),
    "what is in stock was passed by": ("UPDATE availability SET version = 0", TRACED),
    "what could not be read is forgotten": ("DELETE FROM dead_letters WHERE reason = 'not_json'", TRACED),
    "a dead letter is changed": ("UPDATE dead_letters SET record_value = 'x' WHERE reason = 'not_json'", KEPT),
    "an outcome was published and never given": ("UPDATE orders SET outcome_version = 0", GIVEN),
    "an outcome was published with other bytes than were given": ("UPDATE orders SET outcome_digest = 'x'", GIVEN),
    "a message is said to be sent and failed": (
        "UPDATE deliveries SET state = 'failed', reason = 'x' WHERE state = 'sent'",
        ENDED,
    ),
    "a message is said to be withheld and was sent": (
        "UPDATE deliveries SET state = 'sent', reason = NULL WHERE state = 'withheld'",
        ENDED,
    ),
    "an outcome was given and never published": ("UPDATE orders SET outcome_version = outcome_version + 1", COMPLETE),
    "a dead letter was published and forgotten": ("DELETE FROM dead_letters WHERE reason = 'not_json'", LETTERS),
    "a dead letter counts as published and is not": (
        """INSERT INTO dead_letters (topic, full_topic, partition, record_offset, recorded_at, record_value,
                                     header_names, header_values, reason, detail, failed_at, published_at)
           VALUES ('orders', 'orders', 99, 0, '2026-01-01Z', 'x',
                   '{}', '{}', 'x', 'x', '2026-01-01Z', '2026-01-01Z')""",
        LETTERS_PUBLISHED,
    ),
}
"""By what happened: how to make it so, and the rule that finds it."""


async def test_at_rest_nothing_is_broken_and_everything_was_looked_at(checking: Checking) -> None:
    checks = await checking.checks_of(GIVEN, LETTERS, TRACED)
    assert {rule: check.examples for rule, check in checks.items() if check.violations} == {}
    assert [rule for rule, check in checks.items() if not check.checked] == []
    assert {rule for _, rule in BREAKS.values()} | {NUMBERED} == checks.keys()


@pytest.mark.parametrize("what", BREAKS)
async def test_what_is_wrong_between_database_and_topics_is_found(checking: Checking, what: str) -> None:
    change, rule = BREAKS[what]
    async with checking.changed(change):
        checks = await checking.checks_of(rule)
    assert checks[rule].violations, {name: check.examples for name, check in checks.items() if check.violations}
    assert checks[rule].examples


async def test_a_violation_comes_with_what_became_of_its_order(checking: Checking) -> None:
    world = checking.shop.world
    live = await asyncpg.connect(checking.shop.notifying.database_url)
    try:
        await checking.database.execute("UPDATE updates SET event_id = 'x/' || event_id WHERE order_id = 'told'")
        found = await audit(checking.database, live, Policy(), [world.kafka], world.prefix)
    finally:
        await checking.database.execute("UPDATE updates SET event_id = substr(event_id, 3) WHERE order_id = 'told'")
        await live.close()
    (broken,) = (check for check in found if check.rule == UPDATED)
    message, *events = broken.chain
    assert (message["link"], message["topic"]) == ("message", "backorders")
    assert {event["order_id"] for event in events} == {"told"}
    assert all(link["words"] for link in broken.chain)


async def test_an_outcome_that_comes_again_is_fine_and_one_with_other_bytes_or_behind_a_gap_is_not(
    checking: Checking,
) -> None:
    world = checking.shop.world
    copy = await published_again(world, "notifications")
    await world.publish(copy)
    assert not (await checking.checks_of(NUMBERED))[NUMBERED].violations
    value = json.loads(copy.value or b"")
    await world.publish(replace(copy, value=json.dumps(value | {"attempts": 99}).encode()))
    assert (await checking.checks_of(NUMBERED))[NUMBERED].violations == 1
    await world.publish(replace(copy, value=json.dumps(value | {"version": value["version"] + 5}).encode()))
    assert (await checking.checks_of(NUMBERED))[NUMBERED].violations == 2
