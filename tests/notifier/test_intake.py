"""What a batch does to the database, without Kafka: the same function that the subscriber calls."""

import asyncio
import itertools
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from backorder_notifier import store
from backorder_notifier.dead_letter_store import Which, find_dead_letters
from backorder_notifier.dossier import Dossier
from backorder_notifier.intake import Report, give_up_waiting, take_batch
from backorder_notifier.policy import Policy
from backorder_notifier.redriving import Pace, drive_all
from backorder_notifier.rows import Record
from backorder_notifier.statements import Connection
from tests.notifier.messages import (
    NOON,
    Log,
    availability,
    cancelled,
    contact_changed,
    created,
    delivered,
    filled,
    line,
    moved,
    order_cancelled,
    placed,
    rejected,
    released,
    revoked,
    shipped,
    sku_policy,
)
from tests.notifier.world import eventually

POLICY = Policy()
WAIT = timedelta(minutes=15)
DAY = timedelta(days=1)


async def take(
    connection: asyncpg.Connection, *records: Record, policy: Policy = POLICY, now: datetime = NOON
) -> Report:
    return await take_batch(connection, records, now, policy)


async def updates(connection: asyncpg.Connection, order_id: str = "1001") -> list[tuple[str | None, str, str | None]]:
    """Kind, state and reason, in the order of applying."""
    rows = await connection.fetch(
        "SELECT kind, state, reason FROM updates WHERE order_id = $1 ORDER BY ordinal", order_id
    )
    return [tuple(row) for row in rows]


async def dossier(connection: asyncpg.Connection, order_id: str = "1001") -> Dossier:
    return Dossier.model_validate_json(
        await connection.fetchval("SELECT dossier::text FROM orders WHERE order_id = $1", order_id)
    )


async def told(connection: asyncpg.Connection, order_id: str = "1001") -> Any:
    return json.loads(await connection.fetchval("SELECT told FROM orders WHERE order_id = $1", order_id))


async def tell_at(connection: asyncpg.Connection, order_id: str = "1001") -> datetime | None:
    moment: datetime | None = await connection.fetchval("SELECT tell_at FROM orders WHERE order_id = $1", order_id)
    return moment


CREATED = ("backorder_created", "pending", None)
FILLED = ("backorder_filled", "pending", None)
CANCELLED = ("backorder_cancelled", "pending", None)


# Each event once


async def test_an_event_is_recorded_once_however_often_it_comes(connection: asyncpg.Connection) -> None:
    log = Log()
    batch = log.records(placed(), created(), shipped(units={1: 10}))
    await take(connection, *batch)
    report = await take(connection, *batch)  # the same batch again: dropped by its offsets
    assert report.outcomes["repeated"] == 3
    await take(connection, *log.records(created(), shipped(units={1: 10})))  # published twice
    assert await updates(connection) == [CREATED, ("shipped", "pending", None)]
    assert (await dossier(connection)).lines[1].shipped == 10


async def test_an_order_is_known_the_same_whichever_topic_is_read_first(connection: asyncpg.Connection) -> None:
    """What each topic says stays in its order; between topics any order is possible."""
    lines = (line(1, 15), line(2, 3, "PHONE-Y"))
    seen = set()
    for number, topics in enumerate(itertools.permutations(("orders", "backorders", "allocations", "fulfilment"))):
        order_id = f"o-{number}"
        says: dict[str, list[Any]] = {
            "orders": [placed(order_id, lines=lines), order_cancelled(order_id, {2: None})],
            "backorders": [created(order_id), moved(order_id, 2, NOON + 9 * DAY), filled(order_id, 3)],
            "allocations": [released(order_id, 1, {1: 10}), released(order_id, 2, {1: 5})],
            "fulfilment": [shipped(order_id, units={1: 10}), delivered(order_id)],
        }
        log = Log()
        for topic in topics:
            for record in log.records(*says[topic]):
                numbered = Record(topic, f"{order_id}.{topic}", 0, record.offset, NOON, *_body(record))
                await take(connection, numbered)
        known = (await dossier(connection, order_id)).model_dump_json().replace(order_id, "")
        news = frozenset(await updates(connection, order_id))
        seen.add((known, news, await tell_at(connection, order_id)))
    assert len(seen) == 1


def _body(record: Record) -> tuple[bytes | None, bytes | None, Any]:
    return record.key, record.value, record.headers


async def test_two_messages_with_one_id_are_both_recorded(connection: asyncpg.Connection) -> None:
    """A carrier that numbers shipments, not messages, and uses the number for all it says of one."""
    log = Log()
    says = [shipped("1", id="S-1"), shipped("2", id="S-1"), delivered("1", id="S-1"), delivered("2", id="S-1")]
    orders = [created("1"), created("2"), placed("1"), placed("2")]
    await take(connection, *log.records(*orders, *says))
    await take(connection, *log.records(*says))
    for order_id in ("1", "2"):
        rows = await updates(connection, order_id)
        assert [kind for kind, _, _ in rows] == ["backorder_created", "shipped", "delivered"]


async def test_a_shipment_that_is_reported_again_under_another_id_is_no_news(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(placed(), created(), shipped(), shipped(id="again")))
    assert await updates(connection) == [CREATED, ("shipped", "pending", None), (None, "not_told", "repeated")]
    assert (await dossier(connection)).lines[1].shipped == 15


async def test_one_partition_can_be_read_by_a_zombie_without_harm(
    connection: asyncpg.Connection, database: str
) -> None:
    log = Log()
    records = log.records(placed(), created(), filled())
    await take(connection, *records)
    zombie = await asyncpg.connect(database)
    report = await take(zombie, *records[1:])
    await zombie.close()
    assert report.outcomes["repeated"] == 2
    assert await updates(connection) == [CREATED, FILLED]


# In order of version


async def test_a_later_version_waits_for_the_one_before_it(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(placed(), created(version=1), cancelled(version=3), revoked(version=1)))
    await take(connection, *log.records(released(version=3), cancelled(version=3)))
    assert await updates(connection) == [CREATED, ("allocation_revoked", "pending", None)]
    second = filled(version=2, quantity=2, quantity_waiting=3)
    await take(connection, log.record(second), log.record(revoked(version=2, reason="cancelled")))
    assert await updates(connection) == [
        CREATED,
        ("allocation_revoked", "pending", None),
        FILLED,
        CANCELLED,
        ("backorder_cancelled", "pending", None),
    ]
    assert await connection.fetchval("SELECT count(*) FROM parked") == 0
    assert (await dossier(connection)).lines[1].released == 0  # 10 released, 5 revoked twice


async def test_an_older_version_is_ignored_and_a_higher_epoch_starts_anew(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(placed(), created(version=4), filled(version=4)))
    assert await updates(connection) == [CREATED, (None, "not_told", "out_of_order")]
    await take(connection, log.record(filled(version=1, epoch=2, id="after the restore")))
    assert await updates(connection) == [CREATED, (None, "not_told", "out_of_order"), FILLED]


@pytest.mark.parametrize("topic", ["backorders", "allocations"])
async def test_a_wait_for_a_version_that_never_comes_ends_and_is_reported(
    connection: asyncpg.Connection, topic: str
) -> None:
    log = Log()
    events: Iterable[Any] = {
        "backorders": (created(version=1), filled(version=4), cancelled(version=3)),
        "allocations": (revoked(version=1), revoked(version=4), revoked(version=3)),
    }[topic]
    await take(connection, *log.records(placed(), *events))
    assert not (await give_up_waiting(connection, NOON + WAIT, WAIT, POLICY)).gaps
    report = await give_up_waiting(connection, NOON + WAIT + timedelta(seconds=1), WAIT, POLICY)
    assert [(gap.topic, gap.key, gap.first, gap.last) for gap in report.gaps] == [(topic, "1001", 2, 2)]
    ids = await connection.fetch("SELECT event ->> 'version' AS version FROM updates ORDER BY ordinal")
    assert [row["version"] for row in ids] == ["1", "3", "4"]
    assert await connection.fetchval("SELECT count(*) FROM parked") == 0


async def test_a_wait_that_ended_while_its_locks_were_waited_for_is_not_given_up(
    connection: asyncpg.Connection, database: str
) -> None:
    log = Log()
    await take(connection, *log.records(placed(), created(version=1), filled(version=3)))
    late = NOON + WAIT + timedelta(seconds=1)
    other = await asyncpg.connect(database)
    async with connection.transaction():
        await connection.execute("SELECT FROM orders FOR UPDATE")
        giving_up = asyncio.create_task(give_up_waiting(other, late, WAIT, POLICY))
        await eventually(lambda: _somebody_waits_for_a_lock(connection))
        await take(
            connection, *log.records(filled(version=2, quantity=1, quantity_waiting=4), cancelled(version=5)), now=late
        )
    report = await giving_up
    await other.close()
    assert not report.gaps
    assert await connection.fetchval("SELECT version FROM parked") == 5


async def _somebody_waits_for_a_lock(connection: asyncpg.Connection) -> bool:
    found: bool = await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return found


# When an order is looked at


async def test_what_is_told_at_once_is_looked_at_in_two_seconds_and_a_date_in_half_an_hour(
    connection: asyncpg.Connection,
) -> None:
    log = Log()
    await take(connection, *log.records(placed("1"), moved("1", 1, NOON + 9 * DAY), placed("2"), created("2")))
    assert await tell_at(connection, "1") == NOON + timedelta(minutes=30)
    assert await tell_at(connection, "2") == NOON + timedelta(seconds=2)
    log.now = NOON + timedelta(minutes=29)
    report = await take(connection, log.record(moved("1", 2, NOON + 12 * DAY)), now=log.now)
    assert await tell_at(connection, "1") == report.tell_at == NOON + timedelta(minutes=59)


async def test_nobody_is_told_before_it_is_known_who(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, log.record(created()))
    assert await updates(connection) == [CREATED]
    assert await tell_at(connection) is None
    await take(connection, log.record(placed()))
    assert await tell_at(connection) == NOON + timedelta(seconds=2)


async def test_nothing_from_before_the_start_is_told_and_it_counts_as_told(connection: asyncpg.Connection) -> None:
    log = Log()
    start = NOON + timedelta(hours=1)
    before = [placed(), created(promised_at=NOON + 9 * DAY), shipped(units={1: 10})]
    records = log.records(*before, moved(version=2, promised_at=NOON + 12 * DAY, occurred_at=start))
    await take(connection, *records, policy=Policy(start_at=start))
    assert await updates(connection) == [
        ("backorder_created", "not_told", "before_start_at"),
        ("shipped", "not_told", "before_start_at"),
        ("promise_changed", "pending", None),
    ]
    heard = await told(connection)
    assert (heard["1"]["waiting"], heard["1"]["promised_at"][:10]) == (5, "2026-11-11")


async def test_shipments_are_told_though_it_is_known_only_later_that_something_had_waited(
    connection: asyncpg.Connection,
) -> None:
    log = Log()
    at: dict[str, Any] = {"occurred_at": NOON + timedelta(hours=1)}
    await take(connection, *log.records(placed(), released(), shipped(units={1: 10}, **at), delivered(**at)))
    assert [row[2] for row in await updates(connection)] == ["never_waited", "never_waited"]
    await take(connection, log.record(created(occurred_at=NOON)))
    assert await updates(connection) == [("shipped", "pending", None), ("delivered", "pending", None), CREATED]


async def test_shipments_from_before_something_waited_stay_untold(connection: asyncpg.Connection) -> None:
    log = Log()
    later = NOON + timedelta(hours=1)
    await take(connection, *log.records(placed(), released(), shipped(units={1: 10}), created(occurred_at=later)))
    assert await updates(connection) == [(None, "not_told", "never_waited"), CREATED]


async def test_a_backlog_that_is_being_read_is_noticed_until_it_is_read(connection: asyncpg.Connection) -> None:
    log = Log(NOON - DAY)

    async def catching_up(now: datetime) -> bool:
        return await store.catching_up(connection, now - timedelta(seconds=5), now - timedelta(hours=1))

    await take(connection, *log.records(placed(), created()))
    assert await catching_up(NOON)
    assert not await catching_up(NOON + timedelta(minutes=1))  # it stands still: nobody waits for it
    later = NOON + timedelta(hours=2)
    await take(connection, log.record(placed("2")), now=later)
    assert not await catching_up(later)  # behind for so long that it may be for ever
    log.now = later
    await take(connection, *log.records(placed("3"), filled()), now=later)
    await take(connection, log.record(placed("4")), now=later)
    assert await connection.fetchval("SELECT count(*) FROM cursors WHERE behind_since IS NOT NULL") == 0


# Customers


async def test_the_first_contact_of_an_order_stays(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(placed(), placed(email="eve@example.org")))
    await take(connection, log.record(placed(email="mallory@example.org", lines=(line(7, 1),))))
    assert await connection.fetchval("SELECT email FROM orders") == "ada@example.org"
    assert list((await dossier(connection)).lines) == [1]


async def contact(connection: asyncpg.Connection, order_id: str = "1001") -> dict[str, Any]:
    return dict(await connection.fetchrow("SELECT * FROM contacts WHERE order_id = $1", order_id))


async def test_a_change_of_contact_is_for_orders_of_before_and_after_and_older_ones_change_nothing(
    connection: asyncpg.Connection,
) -> None:
    log = Log()
    at: dict[str, Any] = {"occurred_at": NOON + timedelta(hours=1)}
    await take(connection, log.record(placed()))
    change = contact_changed(revision=4, email="new@example.org", phone="+4930123456", channels=("sms",), **at)
    report = await take(connection, *log.records(change, placed("2", email=None)))
    older = [contact_changed(revision=number, email="old@example.org", **at) for number in (4, 3)]
    report.add(await take(connection, *log.records(*older)))
    assert report.outcomes["contact_changed"] == 1
    assert report.outcomes["old_revision"] == 2
    for order_id in ("1001", "2"):
        known = await contact(connection, order_id)
        assert (known["email"], known["phone"], known["channels"]) == ("new@example.org", "+4930123456", ["sms"])


async def test_each_customer_has_one_token_for_ever(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, log.record(placed()))
    token = await connection.fetchval("SELECT unsubscribe_token FROM customers")
    assert len(token) == 22
    await take(connection, *log.records(placed("2"), contact_changed(), placed("3", customer={"customer_id": "c-8"})))
    rows = await connection.fetch("SELECT customer_id, unsubscribe_token FROM customers ORDER BY customer_id")
    assert rows[0]["unsubscribe_token"] == token != rows[1]["unsubscribe_token"]
    assert len(rows) == 2


async def test_what_was_recorded_before_a_customer_was_forgotten_tells_no_contact_again(
    connection: asyncpg.Connection,
) -> None:
    log = Log()
    await take(connection, log.record(contact_changed(revision=1, phone="+4930123456")))
    await connection.execute("UPDATE customers SET phone = NULL, forgotten_at = $1", NOON)
    await take(connection, *log.records(placed(), created(), contact_changed(revision=2, phone="+4930123456")))
    known = await contact(connection)
    assert (known["email"], known["phone"], known["name"]) == (None, None, None)
    assert await updates(connection) == [CREATED]
    log.now = NOON + DAY
    await take(connection, log.record(placed("2")), now=log.now)
    assert (await contact(connection, "2"))["email"] == "ada@example.org"


async def test_the_clock_of_a_customer_who_moved_counts(connection: asyncpg.Connection) -> None:
    log = Log()
    policy = Policy(start_at=NOON + DAY)
    change = contact_changed(timezone="Asia/Tokyo", occurred_at=NOON + timedelta(hours=1))
    promised_at = NOON + 9 * DAY
    for order_id, records in (
        ("1", [placed("1"), change, created("1", promised_at=promised_at)]),
        ("2", [placed("2"), created("2", promised_at=promised_at)]),
    ):
        await take(connection, *log.records(*records), policy=policy)
        # Two days before, at nine o'clock in Tokyo: midnight in UTC.
        assert await tell_at(connection, order_id) == (promised_at - 2 * DAY).replace(hour=0)


# Several processes


async def test_an_order_and_its_event_in_two_processes_do_not_pass_each_other_unseen(
    connection: asyncpg.Connection, database: str
) -> None:
    log = Log()
    other = await asyncpg.connect(database)
    for number in range(40):
        order_ids = [f"{number}-{each}" for each in range(5)]
        await take(connection, *(log.record(created(order_id)) for order_id in order_ids))
        await asyncio.gather(
            take(connection, *(log.record(filled(order_id)) for order_id in order_ids)),
            take(other, *(log.record(placed(order_id)) for order_id in reversed(order_ids))),
        )
    await other.close()
    assert await connection.fetchval("SELECT count(*) FROM orders WHERE tell_at IS NULL") == 0


async def test_processes_that_name_the_same_orders_and_customers_never_wait_for_each_other_for_ever(
    connection: asyncpg.Connection, database: str
) -> None:
    others = [await asyncpg.connect(database) for _ in range(2)]
    logs = [Log() for _ in others]
    for turn in range(30):
        names = [f"{turn}-{each}" for each in range(6)]

        def batch(log: Log, number: int, names: list[str]) -> list[Record]:
            # Each process reads partitions of its own.
            records = log.records(
                *(placed(name, customer={"customer_id": f"c-{name}"}) for name in names),
                *(created(name) for name in names),
            )
            return [
                Record(each.topic, f"{number}.{each.topic}", 0, each.offset, NOON, *_body(each)) for each in records
            ]

        await asyncio.gather(
            take(others[0], *batch(logs[0], 0, names)), take(others[1], *batch(logs[1], 1, names[::-1]))
        )
    for other in others:
        await other.close()
    assert await connection.fetchval("SELECT count(*) FROM updates") == 180


# What a batch costs


async def test_a_large_batch_takes_as_many_statements_as_a_small_one(connection: asyncpg.Connection) -> None:
    log = Log()

    def batch(first: int, orders: int) -> list[Record]:
        messages: list[Any] = []
        for number in range(first, first + orders):
            name = str(number)
            customer: dict[str, Any] = {"customer": {"customer_id": name}}
            messages += [placed(name, **customer), created(name), moved(name, 2, NOON + 9 * DAY), filled(name, 4)]
            messages += [released(name), shipped(name, units={1: 10}), contact_changed(name, phone="+4930123456")]
            messages += [sku_policy(name), availability(name)]
        return log.records(*messages)

    async def statements(records: list[Record]) -> int:
        count = 0

        def one(_query: object) -> None:
            nonlocal count
            count += 1

        with connection.query_logger(one):
            await take(connection, *records)
        return count

    await statements(batch(0, 1))  # prepares, makes cursors
    assert await statements(batch(1, 1)) == await statements(batch(2, 60)) < 30


# What can't be used


async def test_bad_records_become_dead_letters_and_good_ones_are_told(connection: asyncpg.Connection) -> None:
    log = Log()
    not_utf8 = (("trace", b"\xff\xfe"), ("gone", None))
    good = log.record(created())
    bad = [
        log.raw("backorders", b"1001", b"{not json"),
        log.raw("backorders", None, None),
        log.raw("backorders", b"\xff", b"", not_utf8),
        log.raw("backorders", b"1001", b'{"type":"Nonsense","id":"x","occurred_at":"2026-11-02T09:00:00Z"}'),
        log.raw("backorders", b"1001", b"\xff\xfe"),
    ]
    report = await take(connection, log.record(placed()), bad[0], good, *bad[1:], log.record(filled()))
    assert await updates(connection) == [CREATED, FILLED]
    letters = await find_dead_letters(connection, Which())
    letters.sort(key=lambda letter: letter.record.offset)
    assert [letter.record for letter in letters] == bad
    assert [letter.facts.reason for letter in letters][:4] == ["not_json", "empty", "empty", "unknown_type"]
    assert report.to_publish == 5


async def test_a_record_that_the_database_cannot_store_is_found_and_buried_alone(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schemas let no such message through today; a statement that refuses one order stands in for it."""
    log = Log()
    lock_orders = store.lock_orders

    async def picky(connection: Connection, order_ids: Any) -> Any:
        if "poison" in order_ids:
            await connection.fetch("SELECT 'poison'::int")
        return await lock_orders(connection, order_ids)

    monkeypatch.setattr(store, "lock_orders", picky)
    orders = ["1", "2", "poison", "3", "4"]
    records = log.records(*(message for order in orders for message in (placed(order), created(order))))
    records.sort(key=lambda record: record.topic)
    await take(connection, *records)
    letters = await find_dead_letters(connection, Which())
    assert {letter.record.key for letter in letters} == {b"poison"}
    assert {letter.facts.reason for letter in letters} == {"impossible"}
    assert await connection.fetchval("SELECT count(*) FROM updates") == 4


async def driven(connection: Connection, *, dry_run: bool = False) -> list[str]:
    """What became of all letters that are open."""
    driving = drive_all(connection, Which(), POLICY, lambda: NOON, dry_run=dry_run, pace=Pace(0))
    return [came.outcome async for came in driving]


async def test_a_dead_letter_driven_again_is_used_once(connection: asyncpg.Connection) -> None:
    log = Log()
    good = log.record(filled(version=2))
    await take(connection, *log.records(placed(), created(version=1)), log.raw("backorders", b"1001", b"{"))
    await connection.execute("UPDATE dead_letters SET record_value = $1", good.value)  # as if this release reads it
    assert await driven(connection, dry_run=True) == ["applied"]
    assert await updates(connection) == [CREATED]
    assert await driven(connection) == ["applied"]
    assert await driven(connection) == []
    assert await updates(connection) == [CREATED, FILLED]
    assert await connection.fetchval("SELECT redriven_at FROM dead_letters") == NOON


async def test_an_event_driven_again_after_later_ones_is_told_only_where_they_do_not_say_it(
    connection: asyncpg.Connection,
) -> None:
    log = Log()
    late = [rejected(version=2), filled(version=3, quantity=2, quantity_waiting=3)]
    await take(connection, *log.records(placed(), created(version=1), cancelled(version=4)))
    for event in late:
        value = log.record(event).value
        await take(connection, bad := log.raw("backorders", b"1001", b"{"))
        await connection.execute(
            "UPDATE dead_letters SET record_value = $1 WHERE record_offset = $2", value, bad.offset
        )
    assert (await give_up_waiting(connection, NOON + 2 * WAIT, WAIT, POLICY)).gaps
    before = [CREATED, CANCELLED]
    assert await updates(connection) == before
    for _ in range(2):
        await driven(connection)
        await connection.execute("UPDATE dead_letters SET redriven_at = NULL")
    rejection = ("backorder_rejected", "pending", None)
    assert await updates(connection) == [*before, rejection, (None, "not_told", "out_of_order")]
    known = (await dossier(connection)).lines[1]
    assert (known.waiting, known.rejected) == (0, 5)


async def test_large_dead_letters_are_published_a_few_at_a_time(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *(log.raw("backorders", b"1001", b"{" * 1000) for _ in range(5)))
    assert len(await store.unpublished_dead_letters(connection, 500, 2_500)) == 3
    assert len(await store.unpublished_dead_letters(connection, 500, 1)) == 1  # never none: that would stand still
    assert len(await store.unpublished_dead_letters(connection, 4, 1_000_000)) == 4


# Products and stock


async def test_titles_and_stock_are_as_the_latest_message_says(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(sku_policy(title="Phone", revision=2), sku_policy(title="Old", revision=1)))
    await take(connection, *log.records(sku_policy(title="Older", revision=1), sku_policy("Y", 1, title="Other")))
    rows = await connection.fetch("SELECT sku, title FROM products ORDER BY sku")
    assert [tuple(row) for row in rows] == [("PHONE-X", "Phone"), ("Y", "Other")]

    await take(connection, *log.records(availability(version=2), availability(version=1, status="backorder")))
    await take(connection, log.record(availability(version=1, status="out_of_stock")))
    assert await connection.fetchval("SELECT in_stock FROM availability") is True
    await take(connection, log.record(availability(version=1, epoch=2, status="out_of_stock")))
    assert await connection.fetchval("SELECT in_stock FROM availability") is False
