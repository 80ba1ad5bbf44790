"""What operators do with dead letters: see why, try, drive again, forget; also with a crash or a second operator."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from backorder_notifier import dead_letter_store, housekeeping, redriving, store
from backorder_notifier.dead_letter_records import OUR_HEADERS, as_record
from backorder_notifier.dead_letter_store import (
    Asked,
    PurgedLetters,
    Which,
    dead_letter_causes,
    find_dead_letters,
    redrives_of_letter,
)
from backorder_notifier.display import dead_letter_content
from backorder_notifier.fail_points import FailPointError
from backorder_notifier.intake import take_batch
from backorder_notifier.policy import Policy
from backorder_notifier.redriving import Pace, drive_all
from backorder_notifier.relay import Relay
from backorder_notifier.rows import Headers
from backorder_notifier.statements import Connection
from tests.notifier.messages import NOON, Log, cancelled, contact_changed, created, filled, placed, shipped
from tests.notifier.test_sql import plan_of

POLICY = Policy()
OPEN = Which()
ADA = Asked("ada@ops-1", "shop-1 was mended")
HOUR = timedelta(hours=1)


class Letters:
    """Makes dead letters: hopeless ones, and some of messages that were spoiled on their way and can be read today."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.log = Log()

    async def take(self, *messages: Any) -> None:
        await take_batch(self.connection, self.log.records(*messages), NOON, POLICY)

    async def spoiled(self, *messages: Any) -> None:
        for message in messages:
            good = self.log.record(message)
            await take_batch(self.connection, [replace(good, value=b"{")], NOON, POLICY)
            await self.connection.execute(
                "UPDATE dead_letters SET record_value = $1 WHERE record_offset = $2 AND full_topic = $3",
                good.value,
                good.offset,
                good.full_topic,
            )

    async def hopeless(self, count: int = 1, headers: Headers = ()) -> None:
        records = [self.log.raw("orders", b"1001", b"{", headers) for _ in range(count)]
        await take_batch(self.connection, records, NOON, POLICY)


@pytest.fixture
def letters(connection: asyncpg.Connection) -> Letters:
    return Letters(connection)


async def driven(
    connection: Connection, which: Which = OPEN, *, dry_run: bool = False, asked: Asked | None = ADA
) -> list[str]:
    """What became of each: outcome, or the reason why it is refused still."""
    driving = drive_all(
        connection, which, POLICY, lambda: NOON, dry_run=dry_run, pace=Pace(0), asked=None if dry_run else asked
    )
    return [came.reason or came.outcome async for came in driving]


async def everything(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """All rows there are."""
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {
        row[0]: sorted(str(each[0]) for each in await connection.fetch(f"SELECT t FROM {row[0]} t")) for row in tables
    }


# Why they are dead


async def test_letters_that_differ_in_ids_and_amounts_only_have_one_cause_and_the_most_frequent_is_first(
    connection: asyncpg.Connection, letters: Letters
) -> None:
    await letters.spoiled(placed("1"))
    await letters.hopeless(6)
    for number, detail in enumerate(("order A-1 has no line 7", "order B2 has no line 12", "order 3 has no line 1")):
        await connection.execute(
            "UPDATE dead_letters SET reason = 'impossible', detail = $1 WHERE dead_letter_id = $2", detail, 2 + number
        )
    for number, detail in enumerate(
        ("lines.0.quantity: below 1; and 3 more", "lines.17.quantity: below 1; sku: missing")
    ):
        await connection.execute(
            "UPDATE dead_letters SET reason = 'invalid', detail = $1 WHERE dead_letter_id = $2", detail, 5 + number
        )
    assert await driven(connection, Which(ids=[1])) == ["applied"]

    def said(causes: Sequence[dead_letter_store.Cause]) -> list[tuple[Any, ...]]:
        return [(each.reason, each.detail, each.open, each.resolved, each.example_id) for each in causes]

    causes = said(await dead_letter_causes(connection, OPEN, 10))
    assert causes[:2] == [
        ("impossible", "order # has no line #", 3, 0, 2),
        ("invalid", "lines.*.quantity: below 1", 2, 0, 5),
    ]
    assert [cause[0] for cause in causes] == ["impossible", "invalid", "not_json"]
    everyone = said(await dead_letter_causes(connection, Which(resolved_too=True), 10))
    assert [(reason, open_, resolved) for reason, _, open_, resolved, _ in everyone][2:] == [("not_json", 1, 1)]
    for which, count in (
        (Which(topics=["orders"]), 3),
        (Which(topics=["t.orders", "backorders"]), 3),
        (Which(topics=["backorders"]), 0),
        (Which(reasons=["impossible", "other"]), 1),
        (Which(since=NOON), 3),
        (Which(until=NOON), 0),
    ):
        assert len(await dead_letter_causes(connection, which, 10)) == count, which


async def test_of_headers_only_an_envelope_is_shown_and_nothing_in_it_that_may_be_a_person(
    connection: asyncpg.Connection, letters: Letters
) -> None:
    headers = (
        ("ce_id", b"shop-1/7"),
        ("ce_subject", b"ada@example.org"),
        ("ce_source", b"Ada Lovelace"),
        ("ce_email", b"Ada"),
        ("content-type", b"application/json"),
        ("dlq.reason", b"invalid"),
        ("dlq.detail", b"Ada"),
        ("ada@example.org", b"x"),
    )
    await letters.hopeless(headers=headers)
    (letter,) = await find_dead_letters(connection, OPEN)
    assert dead_letter_content(letter.record, [], reveal=True)["headers"] == [[n, v.decode()] for n, v in headers]
    assert dead_letter_content(letter.record, [], reveal=False)["headers"] == [
        ["ce_id", "shop-1/7"],
        ["ce_subject", "<15 bytes>"],
        ["ce_source", "<12 bytes>"],
        ["ce_email", "<3 bytes>"],
        ["content-type", "application/json"],
        ["dlq.reason", "invalid"],
        ["dlq.detail", "<3 bytes>"],
        ["<name>", "<1 bytes>"],
    ]


# What is on the topic


async def test_a_letter_that_is_sent_back_and_refused_again_says_the_last_refusal_and_does_not_grow(
    connection: asyncpg.Connection, letters: Letters
) -> None:
    own: Headers = (("trace", b"\xff"), ("dlq.mine", b"1"), ("trace", None), ("dlq.left_out", b"a lie"))
    for round_ in range(3):
        await letters.hopeless(headers=own)
        letter = (await store.unpublished_dead_letters(connection, 9, 10**6))[-1]
        assert letter.record.headers == own, "the database keeps all of them"
        _, _, published = as_record(letter)
        assert [each for each in published if each[0] not in OUR_HEADERS] == [
            ("trace", b"\xff"),
            ("dlq.mine", b"1"),
            ("trace", None),
        ]
        ours = [each for each in published if each[0] in OUR_HEADERS]
        assert len(ours) == len(dict(ours)) == 6
        assert dict(ours)["dlq.offset"] == str(round_).encode()
        own = published


async def test_a_letter_that_its_topic_does_not_take_goes_there_without_what_is_too_large(
    connection: asyncpg.Connection, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    await letters.hopeless(headers=(("large", b"x" * 500),))
    await connection.execute("UPDATE dead_letters SET record_value = $1", b"x" * 5000)
    (letter,) = await store.unpublished_dead_letters(connection, 9, 10**6)
    relay = Relay(None, (), "")  # type: ignore[arg-type]
    taken: list[Any] = []
    most = 0

    async def publish(_topic: str, records: Sequence[tuple[bytes | None, bytes | None, Headers]]) -> None:
        for key, value, headers in records:
            if len(value or b"") > most or any(len(text or b"") > most for _, text in headers):
                raise MessageSizeTooLargeError
            taken.append((key, value, dict(headers).get("dlq.left_out"), "large" in dict(headers)))

    monkeypatch.setattr(relay, "_publish", publish)
    for most in (10_000, 1000, 100):  # noqa: B007
        await relay._publish_what_fits("notifier.dlq", letter)
    assert [(key, value and len(value), *rest) for key, value, *rest in taken] == [
        (b"1001", 5000, None, True),
        (b"1001", None, b"value", True),
        (b"1001", None, b"value, headers", False),
    ]


# Driving them again


async def test_a_dry_run_says_what_would_become_of_each_now_and_changes_nothing_at_all(
    connection: asyncpg.Connection, letters: Letters
) -> None:
    await letters.take(placed(), created(version=1), filled(version=2), contact_changed(revision=2), shipped())
    await letters.spoiled(placed("new"), placed(), shipped(), filled(version=2), cancelled(version=4))
    await letters.spoiled(contact_changed(revision=1), contact_changed(revision=3))
    await letters.hopeless()
    before = await everything(connection)
    expected = ["applied", "duplicate", "duplicate", "ignored", "applied", "ignored", "applied", "not_json"]
    assert await driven(connection, dry_run=True) == expected
    assert await everything(connection) == before
    assert await driven(connection) == expected
    details = [each.detail for number in (4, 5, 6) for each in await redrives_of_letter(connection, number)]
    assert details == [
        "this or a later version of its key was applied before",
        "waits for an earlier version of its key",
        "this or a later revision was applied before",
    ]


async def test_a_redrive_is_written_down_with_who_and_why_and_keeps_the_first_reason(
    connection: asyncpg.Connection, letters: Letters
) -> None:
    await letters.spoiled(placed())
    await connection.execute("UPDATE dead_letters SET reason = 'invalid', record_value = $1", b"\xff")
    assert await driven(connection) == ["not_utf8"]
    value = letters.log.record(placed()).value
    await connection.execute("UPDATE dead_letters SET record_value = $1", value)
    assert await driven(connection, Which(reasons=["invalid"])) == [], "the newest reason counts"
    assert await driven(connection, Which(reasons=["not_utf8"]), asked=Asked("bob@ops-2")) == ["applied"]
    assert await driven(connection, Which(ids=[1], resolved_too=True)) == ["resolved before"]
    (letter,) = await find_dead_letters(connection, Which(resolved_too=True))
    assert (letter.facts.reason, letter.facts.newest_reason, letter.facts.redrives) == ("invalid", "not_utf8", 2)
    history = await redrives_of_letter(connection, letter.facts.dead_letter_id)
    assert [(each.by, each.why, each.outcome, each.reason) for each in history] == [
        ("ada@ops-1", "shop-1 was mended", "dead_letter", "not_utf8"),
        ("bob@ops-2", None, "applied", None),
    ]


async def test_a_redrive_that_is_cut_off_before_its_commit_leaves_nothing_and_is_done_again(
    connection: asyncpg.Connection, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    await letters.spoiled(placed(), created())
    before = await everything(connection)

    def cut(place: str) -> None:
        raise FailPointError(place)

    with monkeypatch.context() as patch:
        patch.setattr(redriving, "reached", cut)
        with pytest.raises(FailPointError):
            await driven(connection)
    assert await everything(connection) == before
    assert await driven(connection) == ["applied", "applied"]
    assert await driven(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM interventions") == 2


async def test_two_operators_at_once_drive_each_letter_once(
    connection: asyncpg.Connection, letters: Letters, database: str
) -> None:
    others = [await asyncpg.connect(database) for _ in range(2)]
    await letters.spoiled(*(placed(f"o{number}") for number in range(15)))
    came = await asyncio.gather(*(driven(other) for other in others))
    assert sorted(outcome for outcomes in came for outcome in outcomes).count("applied") == 15
    assert set(came[0] + came[1]) <= {"applied", "resolved before"}
    assert await connection.fetchval("SELECT count(*) FROM interventions") == 15
    for other in others:
        await other.close()


async def test_a_letter_that_can_not_be_stored_is_refused_and_stops_no_other(
    connection: asyncpg.Connection, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    await letters.spoiled(placed("poison"), placed("good"))
    lock_orders = store.lock_orders

    async def picky(connection: Connection, order_ids: Any) -> Any:
        if "poison" in order_ids:
            await connection.fetch("SELECT 'poison'::int")
        return await lock_orders(connection, order_ids)

    monkeypatch.setattr(store, "lock_orders", picky)
    for dry_run in (True, False):
        assert await driven(connection, dry_run=dry_run) == ["impossible", "applied"]


async def test_a_command_that_is_frozen_while_it_drives_a_letter_again_holds_no_order_for_long(
    connection: asyncpg.Connection, letters: Letters
) -> None:
    assert await driven(connection) == []
    assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "15s"


async def test_all_are_driven_past_those_that_are_refused_still_portion_by_portion(
    connection: asyncpg.Connection, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    await letters.hopeless(5)

    async def few(connection: Connection, which: Which, after: int, limit: int) -> Any:
        if 0 < after < 9:  # one that comes meanwhile is left for the next time
            await letters.hopeless()
        return await find_dead_letters(connection, which, after, min(2, limit))

    monkeypatch.setattr(dead_letter_store, "find_dead_letters", few)
    assert await driven(connection) == 5 * ["not_json"]
    driving = drive_all(connection, OPEN, POLICY, lambda: NOON, dry_run=True, pace=Pace(0), limit=3)
    assert [came.dead_letter_id async for came in driving] == [1, 2, 3]


async def test_letters_go_out_evenly_and_not_faster_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [100.0], []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        clock[0] += seconds

    monkeypatch.setattr("backorder_notifier.redriving.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("backorder_notifier.redriving.asyncio.sleep", sleep)
    pace = Pace(4)
    for worked in (0.0, 0.1, 3.0, 0.0, 0.0):
        await pace.step()
        clock[0] += worked
    monkeypatch.undo()
    assert slept == [0.25, 0.15, 0.25]  # who was slow once does not hurry afterwards


async def test_a_letter_of_a_sender_whose_clock_is_ahead_is_driven_again_as_of_now(
    connection: asyncpg.Connection, letters: Letters
) -> None:
    await letters.spoiled(placed(), created())
    await connection.execute("UPDATE dead_letters SET recorded_at = $1", NOON + timedelta(days=4000))
    assert await driven(connection) == ["applied", "applied"]
    assert await connection.fetchval("SELECT max(recorded_at) FROM updates") == NOON


# By age


async def test_a_purge_goes_in_portions_spares_what_is_unpublished_and_only_an_operator_is_written_down(
    connection: asyncpg.Connection, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redriving, "_PURGED_AT_ONCE", 2)
    await letters.spoiled(placed())
    await driven(connection, asked=None)
    await letters.hopeless(6)
    await connection.execute("UPDATE dead_letters SET published_at = failed_at WHERE dead_letter_id <> 7")
    await connection.execute("UPDATE dead_letters SET failed_at = $1 WHERE dead_letter_id = 6", NOON + 2 * HOUR)
    before = NOON + HOUR
    assert await dead_letter_store.count_purgeable(connection, before) == PurgedLetters(5, 4)
    assert await redriving.purge(connection, before, ADA, NOON) == PurgedLetters(5, 4)
    assert [letter.facts.dead_letter_id for letter in await find_dead_letters(connection, OPEN)] == [6, 7]
    (act,) = await connection.fetch("SELECT by, what, note, detail FROM interventions")
    assert tuple(act)[:3] == ("ada@ops-1", "dead_letters_purged", "shop-1 was mended")
    assert json.loads(act["detail"]) == {"failed_before": before.isoformat(), "purged": 5, "unresolved": 4}


async def test_the_service_itself_forgets_letters_by_age_and_writes_nobody_down(
    connection: asyncpg.Connection, letters: Letters, database: str
) -> None:
    await letters.hopeless(2)
    await connection.execute("UPDATE dead_letters SET published_at = failed_at")
    async with asyncpg.create_pool(database, min_size=0) as pool:
        nothing: Any = None
        day = timedelta(days=1)
        house = housekeeping.House(pool, POLICY, 800 * day, 30 * day, nothing, nothing, nothing, nothing)
        await housekeeping._purge(house, NOON + 29 * day)
        assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 2
        await housekeeping._purge(house, NOON + 31 * day)
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0
    assert await connection.fetchval("SELECT count(*) FROM interventions") == 0
    assert await connection.fetchval("SELECT letters FROM dead_letters_purged") == 2


async def test_among_many_letters_the_next_ones_are_found_by_index(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO dead_letters (
            topic, full_topic, partition, record_offset, recorded_at, record_value, header_names, header_values, reason,
            detail, failed_at, published_at, redriven_at
        )
        SELECT
            'orders', 'orders', 0, i, $1::timestamptz, convert_to(repeat(md5(i::text), 20), 'UTF8'), '{}', '{}',
            'invalid', '', $1::timestamptz + i * interval '1 s', $1::timestamptz,
            CASE WHEN i % 2 = 0 THEN $1::timestamptz END
        FROM generate_series(1, 10000) AS i
        """,
        NOON,
    )
    await connection.execute("ANALYZE dead_letters")
    found = ("NULL", "NULL", "NULL", "NULL", "NULL", "false", "5000", "100", "10000000")
    for name, index, arguments in (
        ("find_dead_letters", "dead_letters_open", found),
        ("purge_dead_letters", "dead_letters_by_age", (f"'{NOON + HOUR}'", "100")),
    ):
        plan = await plan_of(connection, name, *arguments)
        assert index in plan, plan
        assert "Seq Scan on dead_letters" not in plan, plan
