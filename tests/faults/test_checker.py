"""`audit --topics` calls nothing broken while services work or are broken, and finds what really is, rule by rule."""

import asyncio
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from pydantic import SecretStr

from backorder_allocator import audits, topic_audits
from backorder_allocator.checks import Check
from backorder_allocator.dead_copies import TOPIC as DEAD_LETTERS
from backorder_allocator.dead_copies import DeadCopies
from backorder_allocator.events import SealedEvent, event_id, headers
from backorder_allocator.published import OUTPUTS, Published, head
from backorder_allocator.settings import Settings
from backorder_allocator.walking import Walker, walker
from backorder_allocator.worked import INPUTS, Worked
from backorder_schemas import LowStock
from tests.e2e.messages import OPENING, Message
from tests.e2e.processes import SCRIPTS, clean_environment, command
from tests.e2e.world import Read, World
from tests.faults.checked import Checked, published_again
from tests.faults.load import escalation_days, load


@dataclass(frozen=True)
class Checking:
    """The allocator of a shop at rest, a free connection to its database, and eyes on its topics."""

    shop: Checked
    database: asyncpg.Connection
    settings: Settings
    outputs: Walker
    inputs: Walker

    async def checks(self) -> dict[str, Check]:
        """All, in the transaction that the database is in."""
        found = await topic_audits.check(self.database, self.database, self.outputs, self.inputs, patience=0)
        return {check.rule: check for check in found}

    async def checks_of(self, rule: str) -> dict[str, Check]:
        """Those that walk the same topics as this rule does."""
        async with self.database.transaction():
            return await self._checks_of(rule)

    async def _checks_of(self, rule: str) -> dict[str, Check]:
        at = await head(self.database)
        published = Published(self.database, self.database, at, patience=0)
        purged_before = await self.database.fetchval("SELECT failed_before FROM dead_letters_purged")
        letters = DeadCopies(self.database, self.database, self.outputs.prefix, purged_before)
        worked = Worked(self.database, at.journal, purged_before)
        parts = ((published, self.outputs), (letters, self.outputs), (worked, self.inputs))
        (part, topics), *_ = (each for each in parts if rule in {check.rule for check in each[0].checks})
        await part.walk(topics, await topics.extents())
        return {check.rule: check for check in part.checks}

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


def settings_of(world: World) -> Settings:
    return Settings.model_construct(
        database_url=SecretStr(world.database_url), kafka_bootstrap_servers=[world.kafka], topic_prefix=world.prefix
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def checking(shop_at_rest: Checked) -> AsyncIterator[Checking]:
    shop = shop_at_rest
    settings = settings_of(shop.world)
    async with AsyncExitStack() as stack:
        outputs = await stack.enter_async_context(walker(settings, (*OUTPUTS, DEAD_LETTERS), committed=False))
        inputs = await stack.enter_async_context(walker(settings, INPUTS, committed=True))
        database = await asyncpg.connect(shop.world.database_url)
        stack.push_async_callback(database.close)
        yield Checking(shop, database, settings, outputs, inputs)


async def test_a_shop_in_which_everything_happened_breaks_no_rule_and_who_may_only_read_can_look_at_each(
    shop_at_rest: Checked,
) -> None:
    shop = shop_at_rest
    reader = f"reader_{secrets.token_hex(6)}"
    databases = (shop.world.database, shop.notifying.database)
    await shop.world.database.execute(f"CREATE ROLE {reader} LOGIN PASSWORD 'reads'")
    for database in databases:
        await database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    try:
        for service, settings in (("allocator", shop.world.allocator_settings), ("notifier", shop.notifying.settings)):
            name = f"{service.upper()}_DATABASE_URL"
            parts = urlsplit(settings[name])
            as_reader = parts._replace(netloc=f"{reader}:reads@{parts.hostname}:{parts.port}").geturl()
            said = await command(f"backorder-{service}", settings | {name: as_reader}, "audit", "--topics", "--strict")
            assert said["clean"]
            assert [check["rule"] for check in said["checks"] if not check["checked"] and not check["unchecked"]] == []
            assert sum(check["strangers"] for check in said["checks"]) == 2
    finally:
        for database in databases:
            await database.execute(f"DROP OWNED BY {reader}")
        await shop.world.database.execute(f"DROP ROLE {reader}")


# ── the allocator: what is broken once ───────────────────────────────────────────────────────────────────────────────

ONE_ORDER = "(SELECT order_id FROM orders WHERE fingerprint IS NOT NULL ORDER BY order_id LIMIT 1)"
IN_LOG = "everything published is in the log"
EQUAL = "every copy has the log's bytes, key and headers"
PUBLISHED = "everything logged is published"
LETTERS = "every published dead letter is in the table, byte for byte"
LETTERS_PUBLISHED = "every dead letter is published"
COVERED = "every input below its cursor is in a journal entry"
OUTCOME = "every input below its cursor had its outcome"
COUNTED = "every batch has one outcome for each of its records"
REFUSED = "every refusal that was counted is a dead letter"
KEPT = "dead letters are kept byte for byte"
ORDERED = "events appear in the order of the log"
NEWEST = "the newest availability is the last on its topic"
CAUSED = "every event of a batch is caused by one of its messages"
BREAKS = {
    "a log entry that is published is gone": (
        """DELETE FROM events WHERE (batch_id, ordinal) IN (
               SELECT batch_id, ordinal FROM events WHERE topic = 'backorders' ORDER BY batch_id, ordinal LIMIT 1)""",
        IN_LOG,
    ),
    "an id in the log is another": ("UPDATE events SET id = gen_random_uuid() WHERE topic = 'allocations'", IN_LOG),
    "a value in the log is another": (
        "UPDATE events SET value = value || ' ' WHERE topic = 'allocations' AND version = 1",
        EQUAL,
    ),
    "a header would be another": (
        "UPDATE events SET occurred_at = occurred_at + interval '1 s' WHERE topic = 'stock-alerts' AND version = 1",
        EQUAL,
    ),
    "the relay passed by what it never published": (
        """WITH last AS (UPDATE log_head SET seq = seq + 1, journal = journal + 1 RETURNING journal, seq),
           entry AS (
               INSERT INTO journal
               SELECT journal, 999999, 'batch', '[]', '2026-01-01Z', seq, 1, 0, 0, 0, 0, 1 FROM last
           ), moved AS (UPDATE relay SET seq = seq + 1)
           INSERT INTO events SELECT 999999, 0, 'backorders', 'unheard of', 1, gen_random_uuid(), 'BackorderCreated',
                                     '2026-01-01Z', 'nobody', NULL, '{}'""",
        PUBLISHED,
    ),
    "a dead letter is forgotten": ("DELETE FROM dead_letters WHERE reason = 'not_json'", LETTERS),
    "a dead letter is changed": ("UPDATE dead_letters SET value = 'x' || value WHERE reason = 'not_json'", KEPT),
    "a dead letter is not what was published": (
        "UPDATE dead_letters SET value = 'x' || value WHERE reason = 'not_json'",
        LETTERS,
    ),
    "a header of a dead letter is changed": (
        "UPDATE dead_letters SET header_values[1] = 'z' WHERE reason = 'not_json'",
        LETTERS,
    ),
    "a dead letter has another reason than it was published with": (
        "UPDATE dead_letters SET reason = 'invalid' WHERE reason = 'not_json'",
        LETTERS,
    ),
    "a dead letter counts as published and is not": (
        """INSERT INTO dead_letters (topic, partition, record_offset, record_at, header_names, header_values, reason,
                                     detail, failed_at, published)
           VALUES ('orders', 99, 0, '2026-01-01Z', '{}', '{}', 'x', 'x', '2026-01-01Z', true)""",
        LETTERS_PUBLISHED,
    ),
    "a cursor lies beyond its log": ("UPDATE cursors SET next_offset = 1000000 WHERE topic = 'orders'", COVERED),
    "a journal entry forgets a range": ("UPDATE journal SET what = what - 0 WHERE kind = 'batch'", COVERED),
    "an order is gone": (f"DELETE FROM orders WHERE order_id = {ONE_ORDER}", OUTCOME),
    "an order has other content": (f"UPDATE orders SET fingerprint = 'x' WHERE order_id = {ONE_ORDER}", OUTCOME),
    "a receipt is gone": ("DELETE FROM stock_movements WHERE document_id = 'opening-4'", OUTCOME),
    "an adjustment is gone": ("DELETE FROM stock_movements WHERE kind = 'adjusted'", OUTCOME),
    "a count is gone": ("DELETE FROM stock_movements WHERE kind = 'counted'", OUTCOME),
    "a supply is at an older revision": ("UPDATE supplies SET revision = 0", OUTCOME),
    "a policy is gone": ("DELETE FROM policies", OUTCOME),
    "a cancel is gone": ("DELETE FROM cancels", OUTCOME),
    "a shipment is gone": ("DELETE FROM fulfilments WHERE shipment_id = 's-1'", OUTCOME),
    "what could not be read is forgotten": ("DELETE FROM dead_letters WHERE topic = 'catalog'", OUTCOME),
    "a batch counts one outcome too many": (
        "UPDATE journal SET applied = applied + 1 WHERE number = (SELECT min(number) FROM journal)",
        COUNTED,
    ),
    "a dead letter was counted as applied": (
        """UPDATE journal SET applied = applied + 1, dead_letters = dead_letters - 1
           WHERE number = (SELECT min(number) FROM journal WHERE dead_letters > 0)""",
        REFUSED,
    ),
    "an event of a batch has a cause that never came": (
        "UPDATE events SET caused_by = 'nobody' WHERE type = 'BackorderCreated'",
        CAUSED,
    ),
}
"""By what happened: how to make it so, and the rule that finds it."""


@pytest.mark.parametrize("what", BREAKS)
async def test_what_is_wrong_between_database_and_topics_is_found(checking: Checking, what: str) -> None:
    change, rule = BREAKS[what]
    async with checking.changed(change):
        checks = await checking.checks_of(rule)
    found = checks[rule]
    assert found.violations, {name: check.examples for name, check in checks.items() if check.violations}
    assert found.examples


async def test_every_rule_of_topics_has_a_break_that_it_finds(checking: Checking) -> None:
    async with checking.changed("UPDATE relay SET seq = seq"):
        checks = await checking.checks()
    rules_of_tables = {check.rule for check in await audits.audit(checking.database)}
    found_otherwise = {ORDERED, NEWEST}
    assert {rule for _, rule in BREAKS.values()} | found_otherwise == checks.keys() - rules_of_tables


# ── what is no violation ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_purged_letters_are_excused_as_far_as_a_purge_says_so(checking: Checking) -> None:
    purge = "INSERT INTO dead_letters_purged (failed_before, letters, unresolved) VALUES ('{}', 5, 5)"
    async with checking.changed("DELETE FROM dead_letters"):
        await checking.database.execute(purge.format("2999-01-01Z"))
        checks = await checking.checks_of(OUTCOME) | await checking.checks_of(LETTERS)
        assert {rule: check.examples for rule, check in checks.items() if check.violations} == {}
        assert checks[OUTCOME].excused == checks[LETTERS].excused == 5
        await checking.database.execute("UPDATE dead_letters_purged SET failed_before = '2000-01-01Z'")
        assert (await checking.checks_of(OUTCOME))[OUTCOME].violations == 5


async def test_a_hole_that_somebody_accepted_is_excused_and_one_that_nobody_did_is_not(checking: Checking) -> None:
    number = await checking.database.fetchval("SELECT max(number) FROM journal WHERE kind = 'batch'")
    async with checking.changed(
        f"""UPDATE journal SET kind = 'accepted', applied = 0, duplicates = 0, ignored = 0, dead_letters = 0,
                               what = jsonb_build_object('finding', 'lost_messages', 'gone', what)
            WHERE number = {number}"""
    ):
        checks = await checking.checks_of(COVERED)
        assert not checks[COVERED].violations
        assert checks[OUTCOME].excused
    async with checking.changed(f"UPDATE journal SET what = '[]' WHERE number = {number}"):
        assert (await checking.checks_of(COVERED))[COVERED].violations


# ── what somebody wrote to the topics ────────────────────────────────────────────────────────────────────────────────


async def test_a_copy_with_other_bytes_is_found_and_one_more_that_is_equal_is_not(checking: Checking) -> None:
    world = checking.shop.world
    await world.publish(await published_again(world, "backorders"))
    assert not any(check.violations for check in (await checking.checks_of(EQUAL)).values())
    copy = await published_again(world, "backorders")
    await world.publish(replace(copy, value=(copy.value or b"") + b" "))
    await world.publish(replace(await published_again(world, "allocations"), key=b"another"))
    found = (await checking.checks_of(EQUAL))[EQUAL]
    assert found.violations == 2
    assert {what for example in found.examples for what in ("value", "key") if f": {what} differ" in example} == {
        "value",
        "key",
    }


async def test_an_event_that_nobody_decided_is_found(checking: Checking) -> None:
    world = checking.shop.world
    copy = await published_again(world, "stock-alerts")
    value = json.loads(copy.value or b"") | {"version": 1000, "id": "made up"}
    await world.publish(replace(copy, value=json.dumps(value).encode()))
    found = (await checking.checks_of(IN_LOG))[IN_LOG]
    assert found.violations == 1
    assert "made up" in found.examples[0]


async def test_a_dead_letter_that_nobody_has_is_found(checking: Checking) -> None:
    headers = (
        ("dlq.topic", f"{checking.outputs.prefix}orders".encode()),
        ("dlq.partition", b"0"),
        ("dlq.offset", b"77"),
    )
    await checking.shop.world.publish(Message("allocator.dlq", b"k", b"v", headers))
    found = (await checking.checks_of(LETTERS))[LETTERS]
    assert found.violations == 1


async def test_an_old_availability_behind_a_newer_one_is_found_and_forgiven_once_the_newer_is_repeated(
    checking: Checking,
) -> None:
    world = checking.shop.world
    of_key: dict[bytes | None, list[Read]] = {}
    for record in await world.read("availability"):
        of_key.setdefault(record.key, []).append(record)
    old, *_, new = next(records for records in of_key.values() if len(records) > 1)
    await world.publish(Message("availability", old.key, old.value, old.headers))
    assert (await checking.checks_of(NEWEST))[NEWEST].violations == 1
    await world.publish(Message("availability", new.key, new.value, new.headers))
    assert not (await checking.checks_of(NEWEST))[NEWEST].violations


async def test_events_in_another_order_than_they_were_logged_in_are_found(checking: Checking) -> None:
    # As if the first event of a partition had been logged long after the others.
    records = [each for each in await checking.shop.world.read("backorders") if each.partition == 0]
    first = json.loads(records[0].value or b"")["id"]
    async with checking.changed(f"UPDATE events SET ordinal = ordinal + 1000000 WHERE id = '{first}'"):
        found = (await checking.checks_of(ORDERED))[ORDERED]
    assert found.violations


# ── how it came about ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_violation_comes_with_the_chain_that_led_to_it(checking: Checking) -> None:
    order_id = await checking.database.fetchval("""
        SELECT min(order_id) FROM lines l
        WHERE quantity_waiting > 0 AND NOT EXISTS (
            SELECT FROM events e JOIN journal j USING (batch_id) WHERE e.key = l.order_id AND j.kind <> 'batch')
    """)
    async with checking.changed(
        f"UPDATE lines SET quantity_waiting = 0, quantity_cancelled = quantity_ordered - quantity_allocated "
        f"WHERE order_id = '{order_id}' AND quantity_waiting > 0"
    ):
        checks = await checking.checks()
    chain = checks["events add up to what waits"].chain
    assert [link["link"] for link in chain][:3] == ["event", "journal entry", "message"]
    event, entry, message = chain[:3]
    assert event["key"] == order_id
    assert event["journal"] == entry["journal"]
    assert message["id"] == event["caused_by"]
    spans = [
        each
        for each in entry["what"]
        if each["topic"] == message["topic"] and each["partition"] == message["partition"]
    ]
    assert any(each["from"] <= message["offset"] < each["to"] for each in spans)


# ── what is gone, and what is on its way ──────────────────────────────────────────────────────────────────────────────


async def test_what_retention_took_away_is_excused(checking: Checking) -> None:
    world = checking.shop.world
    ends = await world.ends(("stock-alerts", "inbound-supply"))
    for (topic, partition), end in ends.items():
        place = TopicPartition(f"{world.prefix}{topic}", partition)
        await world.admin.delete_records({place: RecordsToDelete(before_offset=end)})
    checks = await checking.checks_of(PUBLISHED) | await checking.checks_of(COVERED)
    broken = {rule: check.examples for rule, check in checks.items() if check.violations}
    assert not broken.keys() & {PUBLISHED, OUTCOME, COUNTED}, broken  # other tests write to the topics, too
    assert checks[PUBLISHED].excused
    assert checks[OUTCOME].excused
    assert checks[COUNTED].excused


async def test_while_everything_runs_and_is_killed_nothing_is_called_broken(world: World) -> None:
    sent = load(400, seed=11)
    found: list[Check] = []
    settings = settings_of(world)
    for part in sent.slices(3):
        service = await world.allocator(batch=20, ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=escalation_days())
        await world.publish(*part)
        connection = await asyncpg.connect(world.database_url)
        found += await topic_audits.audit(connection, settings)
        await connection.close()
        service.kill()
        await world.forget_dead_members()
    assert {check.rule: check.examples for check in found if check.violations} == {}
    await world.allocator(ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS=escalation_days())
    await world.settled()
    said = await world.ask("audit", "--topics")
    assert said["clean"]


# ── a long log ───────────────────────────────────────────────────────────────────────────────────────────────────────

AUDIT = ("audit", "--topics", "--json")
EVENTS_OF_AN_ENTRY = 500
SKUS = 200
JOURNAL_COLUMNS = ["number", "batch_id", "kind", "what", "at", "first_seq", "event_count"]
JOURNAL_COLUMNS += ["applied", "duplicates", "ignored", "dead_letters"]
EVENT_COLUMNS = ["batch_id", "ordinal", "topic", "key", "version", "id", "type", "occurred_at", "caused_by", "value"]


async def log_and_publish(world: World, entries: range) -> None:
    """Events as if they had been decided and published, so many to a journal entry."""
    events, journal, sends = [], [], []
    for number in entries:
        first = (number - 1) * EVENTS_OF_AN_ENTRY + 1
        journal.append((number, number, "batch", "[]", OPENING, first, EVENTS_OF_AN_ENTRY, 0, 0, 0, 0))
        for ordinal in range(EVENTS_OF_AN_ENTRY):
            version, sku = divmod(first - 1 + ordinal, SKUS)
            event = LowStock(
                id=str(event_id(1, "stock-alerts", f"SKU-{sku}", version + 1)),
                occurred_at=OPENING,
                version=version + 1,
                epoch=1,
                caused_by="x" * 200,
                sku=f"SKU-{sku}",
                location="main",
                available=0,
                low_stock_at=version,
            )
            value, id_ = event.model_dump_json(), UUID(event.id)
            events.append(
                (
                    number,
                    ordinal,
                    "stock-alerts",
                    event.sku,
                    event.version,
                    id_,
                    "LowStock",
                    OPENING,
                    event.caused_by,
                    value,
                )
            )
            of_event = headers(
                SealedEvent(
                    "stock-alerts", event.sku, event.version, id_, "LowStock", OPENING, event.caused_by, None, value
                )
            )
            topic = f"{world.prefix}stock-alerts"
            sends.append(await world.producer.send(topic, value.encode(), key=event.sku.encode(), headers=of_event))
    await world.database.copy_records_to_table("journal", records=journal, columns=JOURNAL_COLUMNS)
    await world.database.copy_records_to_table("events", records=events, columns=EVENT_COLUMNS)
    last = entries[-1] * EVENTS_OF_AN_ENTRY
    await world.database.execute("UPDATE log_head SET seq = $1, journal = $2", last, entries[-1])
    await world.database.execute("UPDATE relay SET seq = $1, journal = $2", last, entries[-1])
    await asyncio.gather(*sends)


async def peak_of_an_audit(world: World, events: int) -> int:
    """The most memory that the command had, in KiB; it must have looked at so many events."""
    answers = world.folder / "audit.json"
    environment = {**clean_environment(), **world.allocator_settings}
    peak = await asyncio.to_thread(peak_of, [SCRIPTS / "backorder-allocator", *AUDIT], environment, answers)
    checks = {check["rule"]: check for check in json.loads(answers.read_text())["checks"]}
    for rule in (IN_LOG, EQUAL, PUBLISHED):
        assert (checks[rule]["checked"], checks[rule]["violations"]) == (events, 0), checks[rule]
    return peak


def peak_of(command: Sequence[str | Path], environment: Mapping[str, str], answers: Path) -> int:
    with answers.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_maxrss


async def test_the_memory_of_an_audit_does_not_grow_with_the_log(world: World) -> None:
    await log_and_publish(world, range(1, 41))
    of_20_000 = await peak_of_an_audit(world, 20_000)
    for start in range(41, 201, 40):
        await log_and_publish(world, range(start, start + 40))
    of_100_000 = await peak_of_an_audit(world, 100_000)
    print(f"{of_20_000} KiB for 20,000 events, {of_100_000} KiB for 100,000")
    assert of_100_000 < 1.2 * of_20_000
