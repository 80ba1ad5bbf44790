"""What operators do with dead letters: see why, try, drive again, forget; also with a crash or a second operator."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from backorder_allocator import batches, dead_letter_reports, dead_letters, purging, redriving
from backorder_allocator.batches import Record
from backorder_allocator.connections import SESSION
from backorder_allocator.dead_letters import OUR_HEADERS, DeadLetterRow, Headers, Which
from backorder_allocator.decision import Input, Rules
from backorder_allocator.fail_points import FailPointError
from backorder_allocator.interventions import Asked
from backorder_allocator.loading import Context
from backorder_allocator.masking import shown
from backorder_allocator.redriving import Pace, drive_all
from backorder_allocator.relay import Relay
from backorder_allocator.statements import statement
from backorder_schemas import DeadLetter, OrderPlaced
from backorder_schemas.topics import TOPIC_OF
from tests.allocator.records import Partitions
from tests.allocator.stored_shop import StoredShop, line
from tests.allocator.strategies import START, AnyMessage
from tests.allocator.test_batches import NOW, assert_audit_is_clean, work

RULES = Rules()
OPEN = Which()
ADA = Asked("ada@ops-1", "shop-1 was mended")


class Letters:
    """Makes dead letters of messages that were spoiled on their way, so that today they can be read."""

    def __init__(self, connection: asyncpg.Connection, partitions: Partitions) -> None:
        self.connection = connection
        self.partitions = partitions

    async def spoiled(self, *messages: AnyMessage, detail: str = "made by a test", headers: Headers = ()) -> None:
        records = []
        for message in messages:
            place = self.partitions.broken(TOPIC_OF[type(message)].name, "invalid")
            read = DeadLetter("invalid", detail)
            records.append(
                replace(place, key=b"k", value=message.model_dump_json().encode(), headers=headers, read=read)
            )
        await work(self.connection, records, Context(RULES))

    async def hopeless(self, reason: str, *details: str, topic: str = "orders") -> None:
        places = [(self.partitions.broken(topic, reason), detail) for detail in details]
        records = [replace(place, read=DeadLetter(reason, detail)) for place, detail in places]
        await work(self.connection, records, Context(RULES))


@pytest.fixture
def letters(connection: asyncpg.Connection, shop: StoredShop) -> Letters:
    return Letters(connection, shop.partitions)


@pytest.fixture
def shop(connection: asyncpg.Connection) -> StoredShop:
    return StoredShop(connection)


async def driven(
    connection: asyncpg.Connection, which: Which = OPEN, *, dry_run: bool = False, asked: Asked | None = ADA
) -> list[str]:
    """What became of each: outcome, or the reason why it is refused still."""
    rows = drive_all(connection, RULES, which, dry_run=dry_run, pace=Pace(0), asked=None if dry_run else asked)
    return [row["reason"] if row["outcome"] == "dead_letter" else row["outcome"] async for row in rows]


async def everything(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """All rows there are."""
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {
        row[0]: sorted(str(each[0]) for each in await connection.fetch(f"SELECT t FROM {row[0]} t")) for row in tables
    }


# ── why they are dead ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_letters_that_differ_in_ids_and_amounts_only_have_one_cause_and_the_most_frequent_is_first(
    connection: asyncpg.Connection, letters: Letters, shop: StoredShop
) -> None:
    await letters.hopeless("impossible", "order A-1 has no line 7", "order B2 has no line 12", "order 3 has no line 1")
    await letters.hopeless(
        "invalid", "lines.0.quantity: below 1; and 3 more", "lines.17.quantity: below 1; sku: missing"
    )
    await letters.hopeless("invalid", "type: is missing", topic="catalog")
    await letters.spoiled(shop.order("1", 3), detail="lines.1.sku: missing")
    assert await driven(connection, Which(ids=[7])) == ["applied"]

    def said(causes: Sequence[dead_letter_reports.Cause]) -> list[tuple[Any, ...]]:
        return [(each.reason, each.detail, each.open, each.resolved, each.example_id) for each in causes]

    causes = await dead_letter_reports.causes(connection, Which(), 10)
    assert said(causes) == [
        ("impossible", "order # has no line #", 3, 0, 1),
        ("invalid", "lines.*.quantity: below 1", 2, 0, 4),
        ("invalid", "type: is missing", 1, 0, 6),
    ]
    everyone = await dead_letter_reports.causes(connection, Which(resolved_too=True), 10)
    assert said(everyone)[3:] == [("invalid", "lines.*.sku: missing", 0, 1, 7)]
    assert len(await dead_letter_reports.causes(connection, Which(topics=["catalog"]), 10)) == 1
    assert len(await dead_letter_reports.causes(connection, Which(reasons=["impossible", "other"]), 10)) == 1
    await connection.execute("UPDATE dead_letters SET failed_at = failed_at - interval '1 day' WHERE topic = 'catalog'")
    assert len(await dead_letter_reports.causes(connection, Which(since=NOW), 10)) == 2
    assert len(await dead_letter_reports.causes(connection, Which(until=NOW), 10)) == 1


async def test_of_headers_only_an_envelope_is_shown_and_no_address_in_it(
    connection: asyncpg.Connection, letters: Letters, shop: StoredShop
) -> None:
    headers = (
        ("ce_id", b"shop-1/7"),
        ("ce_subject", b"ada@example.org"),
        ("ce_email", b"Ada"),
        ("content-type", b"application/json"),
        ("dlq.reason", b"invalid"),
        ("dlq.detail", b"Ada"),
        ("X-Customer", b"Ada"),
        ("ada@example.org", b"x"),
    )
    await letters.spoiled(shop.order("1", 3), headers=headers)
    (letter,) = await dead_letters.find(connection)
    assert shown(letter, [], unmasked=True)["headers"] == [[name, value.decode()] for name, value in headers]
    masked = shown(letter, [], unmasked=False)["headers"]
    assert [value for _, value in masked] == ["shop-1/7", "***", "***", "application/json", "invalid", *3 * ["***"]]
    assert [name for name, _ in masked] == [*(name for name, _ in headers[:-1]), "***"]


# ── what is on the topic ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_letter_that_is_sent_back_and_refused_again_says_the_last_refusal_and_does_not_grow(
    connection: asyncpg.Connection, letters: Letters
) -> None:
    own: Headers = (("trace", b"\xff"), ("dlq.mine", b"1"), ("trace", None), ("dlq.left_out", b"a lie"))
    relay = Relay("relay", "x.", pytest.fail)
    for round_ in range(3):
        place = replace(letters.partitions.broken("orders", "invalid"), headers=own)
        await work(connection, [replace(place, read=DeadLetter("invalid", f"round {round_}"))], Context(RULES))
        letter = (await dead_letters.find(connection))[-1]
        assert letter.headers == own, "the database keeps all of them"
        _, _, _, published = relay.dead_letter_message(letter)
        assert [each for each in published if each[0] not in OUR_HEADERS] == [
            ("trace", b"\xff"),
            ("dlq.mine", b"1"),
            ("trace", None),
        ]
        ours = [each for each in published if each[0] in OUR_HEADERS]
        assert len(ours) == len(dict(ours)) == 6
        assert (dict(ours)["dlq.detail"], dict(ours)["dlq.offset"]) == (
            f"round {round_}".encode(),
            str(round_).encode(),
        )
        own = tuple(published)


async def test_large_letters_are_read_a_few_at_a_time(connection: asyncpg.Connection, letters: Letters) -> None:
    await letters.hopeless("invalid", *(5 * ["x"]))
    await connection.execute("UPDATE dead_letters SET value = $1", b"x" * 1000)
    for read in (dead_letters.unpublished, dead_letters.find):
        sizes = [len(await read(connection, most_bytes=most, limit=9)) for most in (1, 2500, 9000)]
        assert sizes == [1, 3, 5]  # never none: that would stand still


# ── driving them again ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_dry_run_says_what_would_become_of_each_now_and_changes_nothing_at_all(
    connection: asyncpg.Connection, letters: Letters, shop: StoredShop
) -> None:
    await shop.send(shop.order("1", 3, placed_at=START), shop.policy("X", revision=2))
    await letters.spoiled(shop.order("new", line(1, 5, sku="NEVER-NAMED")))  # would make a pool
    await letters.spoiled(shop.order("1", 3, placed_at=START), shop.order("1", 4), shop.policy("X"))
    await letters.hopeless("invalid", "made by a test")
    before = await everything(connection)
    expected = ["applied", "duplicate", "conflicting_duplicate", "ignored", "not_json"]
    assert await driven(connection, dry_run=True) == expected
    assert await everything(connection) == before
    assert await driven(connection) == expected
    await assert_audit_is_clean(connection)


async def test_a_redrive_is_written_down_with_who_and_why_and_keeps_the_first_reason(
    connection: asyncpg.Connection, letters: Letters, shop: StoredShop
) -> None:
    await shop.send(shop.order("1", 3))
    await letters.spoiled(shop.order("1", 4))
    assert await driven(connection) == ["conflicting_duplicate"]
    await connection.execute("UPDATE dead_letters SET value = $1", shop.order("2", 1).model_dump_json().encode())
    assert await driven(connection, Which(reasons=["invalid"])) == [], "the newest reason counts"
    assert await driven(connection, Which(reasons=["conflicting_duplicate"]), asked=Asked("bob@ops-2")) == ["applied"]
    assert await driven(connection, Which(ids=[1], resolved_too=True)) == [redriving.RESOLVED_BEFORE]
    (letter,) = await dead_letters.find(connection, Which(resolved_too=True))
    assert (letter.reason, letter.newest_reason, letter.outcome) == ("invalid", "conflicting_duplicate", "applied")
    history = await dead_letter_reports.redrives(connection, letter.dead_letter_id)
    assert [(each.by, each.why, each.outcome, each.reason) for each in history] == [
        ("ada@ops-1", "shop-1 was mended", "dead_letter", "conflicting_duplicate"),
        ("bob@ops-2", None, "applied", ""),
    ]


async def test_a_redrive_that_is_cut_off_before_its_commit_leaves_nothing_and_is_done_again(
    connection: asyncpg.Connection, letters: Letters, shop: StoredShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await letters.spoiled(shop.order("1", 3))
    before = await everything(connection)

    def cut(place: str) -> None:
        if place == "redrive.before_commit":
            raise FailPointError(place)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "reached", cut)
        with pytest.raises(FailPointError):
            await driven(connection)
    after = await everything(connection)
    # Nobody sees a pool, or the rules of a version, before something is decided for it.
    for table in ("pools", "rules"):
        del before[table], after[table]
    assert after == before
    assert await driven(connection) == ["applied"]
    assert await connection.fetchval("SELECT count(*) FROM interventions") == 1
    await assert_audit_is_clean(connection)


async def test_two_operators_at_once_drive_each_letter_once(
    connection: asyncpg.Connection, letters: Letters, shop: StoredShop, database_url: str
) -> None:
    others = [await asyncpg.connect(database_url, server_settings=SESSION) for _ in range(2)]
    await letters.spoiled(*(shop.order(f"o{number}", 2) for number in range(15)))
    came = await asyncio.gather(*(driven(other) for other in others))
    assert sorted(outcome for outcomes in came for outcome in outcomes).count("applied") == 15
    assert set(came[0] + came[1]) <= {"applied", redriving.RESOLVED_BEFORE}
    assert await connection.fetchval("SELECT count(*) FROM interventions") == 15
    assert await connection.fetchval("SELECT sum(waiting) FROM pools") == 30
    await assert_audit_is_clean(connection)
    for other in others:
        await other.close()


async def test_a_letter_that_can_not_be_stored_is_refused_and_stops_no_other(
    connection: asyncpg.Connection, letters: Letters, shop: StoredShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await letters.spoiled(shop.order("poison", 3), shop.order("good", 2))
    real = redriving.record_of

    def unstorable(letter: DeadLetterRow) -> Record:
        record = real(letter)
        read = record.read
        if isinstance(read, Input) and isinstance(read.message, OrderPlaced) and read.message.order_id == "poison":
            return replace(record, read=Input(read.message.model_copy(update={"order_id": "a\0b"}), START))
        return record

    # The codec refuses such a text; what if it did not?
    monkeypatch.setattr(redriving, "record_of", unstorable)
    assert await driven(connection, dry_run=True) == ["impossible", "applied"]
    assert await driven(connection) == ["impossible", "applied"]


async def test_all_are_driven_past_those_that_are_refused_still_portion_by_portion(
    connection: asyncpg.Connection, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    await letters.hopeless("invalid", *(5 * ["made by a test"]))
    find = dead_letters.find

    async def few(connection: Any, which: Which, *, after: int, limit: int) -> list[DeadLetterRow]:
        if 0 < after < 9:  # one that comes meanwhile is left for the next time
            await letters.hopeless("invalid", "later")
        return await find(connection, which, after=after, limit=min(2, limit))

    monkeypatch.setattr(dead_letters, "find", few)
    assert await driven(connection) == 5 * ["not_json"]
    rows = drive_all(connection, RULES, Which(), dry_run=True, pace=Pace(0), limit=3)
    assert [row["id"] async for row in rows] == [1, 2, 3]


async def test_letters_go_out_evenly_and_not_faster_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [100.0], []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        clock[0] += seconds

    monkeypatch.setattr(redriving, "monotonic", lambda: clock[0])
    monkeypatch.setattr("backorder_allocator.redriving.asyncio.sleep", sleep)
    pace = Pace(4)
    for worked in (0.0, 0.1, 3.0, 0.0, 0.0):
        await pace.step()
        clock[0] += worked
    assert slept == [0.25, 0.15, 0.25]  # who was slow once does not hurry afterwards
    for _ in range(3):
        await Pace(0).step()
    assert len(slept) == 3


# ── by age ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_purge_goes_in_portions_spares_what_is_unpublished_and_only_an_operator_is_written_down(
    connection: asyncpg.Connection, letters: Letters, shop: StoredShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "PORTION", 2)
    await letters.spoiled(shop.order("1", 3))
    await driven(connection, asked=None)
    await letters.hopeless("invalid", *(6 * ["x"]))
    await connection.execute("UPDATE dead_letters SET published = dead_letter_id <> 7")
    await connection.execute(
        "UPDATE dead_letters SET failed_at = failed_at + interval '1 day' WHERE dead_letter_id = 6"
    )
    before = NOW + timedelta(hours=1)
    assert await purging.would_purge(connection, before) == purging.Purged(5, 4)
    assert await purging.purge(connection, before, ADA, NOW) == purging.Purged(5, 4)
    assert [letter.dead_letter_id for letter in await dead_letters.find(connection)] == [6, 7]
    (act,) = await connection.fetch("SELECT by, what, why, detail FROM interventions")
    assert tuple(act)[:3] == ("ada@ops-1", "dead_letters_purged", "shop-1 was mended")
    assert json.loads(act["detail"]) == {"failed_before": before.isoformat(), "purged": 5, "unresolved": 4}

    by_itself = purging.Purging(timedelta(0))
    by_itself.due_at = 0
    assert await by_itself.turn(connection) > 3000
    assert [letter.dead_letter_id for letter in await dead_letters.find(connection)] == [7]
    assert await by_itself.turn(connection) > 3000, "a commit wakes it, and it has nothing to do"
    assert await connection.fetchval("SELECT count(*) FROM interventions") == 1
    assert await connection.fetchval("SELECT letters FROM dead_letters_purged") == 6


async def test_among_many_letters_the_next_ones_are_found_by_index(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO dead_letters (topic, partition, record_offset, record_at, value, header_names, header_values,
                                  reason, detail, failed_at, published, resolved_at)
        SELECT 'orders', 0, n, at, convert_to(repeat(md5(n::text), 20), 'UTF8'), '{}', '{}', 'invalid', '', at, true,
               CASE WHEN n % 2 = 0 THEN at END
        FROM generate_series(1, 10000) n, LATERAL (SELECT $1::timestamptz + n * interval '1 s' AS at) t
        """,
        START,
    )
    await connection.execute("ANALYZE dead_letters")
    found = [*Which().arguments, 5000, 100, 10**7]
    for name, index, arguments in (
        ("find_dead_letters", "dead_letters_open", found),
        ("purge_dead_letters", "dead_letters_by_age", [START + timedelta(hours=1), 100]),
    ):
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement(name)}", *arguments))
        assert index in plan, plan
        assert "Seq Scan on dead_letters" not in plan, plan
