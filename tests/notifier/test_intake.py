"""What a batch does to the database, without Kafka: the same function that the subscriber calls."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from backorder_notifier import store
from backorder_notifier.intake import give_up_waiting, redrive, take_batch
from backorder_notifier.rows import Record
from backorder_schemas import CustomerNotified, Decoded, NotificationFailed, PromiseChanged, decode
from tests.notifier.messages import NOON, Log, cancelled, created, filled, placed
from tests.notifier.world import eventually


async def take(connection: asyncpg.Connection, *records: Record, **settings: Any) -> Any:
    return await take_batch(connection, records, NOON, settings.get("start_at"))


async def states(connection: asyncpg.Connection) -> list[tuple[str, str, str | None]]:
    rows = await store.list_deliveries(connection, None, None, 1000)
    rows.sort(key=lambda row: (row.order_id, row.position))
    return [(row.kind, row.state, row.reason) for row in rows]


async def test_an_event_is_recorded_once_however_often_it_comes(connection: asyncpg.Connection) -> None:
    log = Log()
    first, order = log.record(created()), log.record(placed())
    await take(connection, order, first)
    await take(connection, order, first)  # the same batch again: dropped by its offsets
    await take(connection, log.record(created()))  # published twice: dropped by its version
    assert await states(connection) == [("backorder_created", "due", None)]


async def test_an_event_waits_for_a_contact_that_comes_later(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, log.record(created()))
    assert await states(connection) == [("backorder_created", "waiting_for_contact", None)]
    await take(connection, log.record(placed()))
    assert await states(connection) == [("backorder_created", "due", None)]


async def test_without_an_address_the_reason_is_kept_and_published(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, log.record(created()), log.record(placed(email=None)), log.record(filled()))
    await take(connection, *log.records(created("2"), placed("2", email="no mail can go here")))
    assert await states(connection) == [
        ("backorder_created", "withheld", "no_email"),
        ("backorder_filled", "withheld", "no_email"),
        ("backorder_created", "withheld", "invalid_email"),
    ]
    rows = await store.unpublished_outcomes(connection, 10)
    decoded = [decode("notifications", row.key, row.value, row.headers) for row in rows]
    failures = [each.message for each in decoded if isinstance(each, Decoded)]
    assert all(isinstance(each, NotificationFailed) for each in failures)
    told = [(each.order_id, each.version, each.reason, each.attempts) for each in failures]  # type: ignore[union-attr]
    assert told == [("1001", 1, "no_email", 0), ("1001", 2, "no_email", 0), ("2", 1, "invalid_email", 0)]


async def test_a_contact_that_comes_late_and_has_no_address_ends_the_wait_with_a_reason(
    connection: asyncpg.Connection,
) -> None:
    log = Log()
    await take(connection, *log.records(created(), filled()))
    await take(connection, log.record(placed(email=None)))
    assert await states(connection) == [
        ("backorder_created", "withheld", "no_email"),
        ("backorder_filled", "withheld", "no_email"),
    ]
    assert [row.position for row in await store.unpublished_outcomes(connection, 10)] == [1, 2]


async def test_the_first_contact_of_an_order_stays(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(placed(), placed(email="eve@example.org")))
    await take(connection, log.record(placed(email="mallory@example.org")))
    assert await connection.fetchval("SELECT email FROM orders") == "ada@example.org"


async def test_a_later_version_waits_for_the_one_before_it(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(placed(), created(version=1), cancelled(version=3)))
    assert [kind for kind, _, _ in await states(connection)] == ["backorder_created"]
    await take(connection, log.record(filled(version=2, quantity=2, quantity_waiting=3)))
    assert [kind for kind, _, _ in await states(connection)] == [
        "backorder_created",
        "backorder_filled",
        "backorder_cancelled",
    ]
    assert await connection.fetchval("SELECT count(*) FROM parked") == 0


async def test_an_older_version_is_ignored_and_a_higher_epoch_starts_anew(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(placed(), created(version=4), filled(version=3)))
    assert [kind for kind, _, _ in await states(connection)] == ["backorder_created"]
    await take(connection, log.record(filled(version=1, epoch=2, id="after the restore")))
    assert [kind for kind, _, _ in await states(connection)] == ["backorder_created", "backorder_filled"]


async def test_a_wait_for_a_version_that_never_comes_ends_and_is_reported(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *log.records(placed(), created(version=1), filled(version=4), cancelled(version=3)))
    wait = timedelta(minutes=15)
    assert not (await give_up_waiting(connection, NOON + wait, wait, None)).gaps
    report = await give_up_waiting(connection, NOON + wait + timedelta(seconds=1), wait, None)
    assert [(gap.first, gap.last) for gap in report.gaps] == [(2, 2)]
    assert [kind for kind, _, _ in await states(connection)] == [
        "backorder_created",
        "backorder_cancelled",
        "backorder_filled",
    ]
    assert await connection.fetchval("SELECT count(*) FROM parked") == 0


async def test_events_that_are_not_told_still_count_as_versions(connection: asyncpg.Connection) -> None:
    log = Log()
    moved = PromiseChanged(
        id="moved", occurred_at=NOON, version=2, epoch=1, caused_by="planner:1", order_id="1001", line_no=1,
        sku="PHONE-X", location="main", cause="supply_moved",
    )  # fmt: skip
    await take(connection, *log.records(placed(), created(version=1), filled(version=3)))
    await take(connection, log.record(moved))
    assert [kind for kind, _, _ in await states(connection)] == ["backorder_created", "backorder_filled"]


async def test_nothing_from_before_the_start_is_told(connection: asyncpg.Connection) -> None:
    log = Log()
    later = NOON + timedelta(hours=1)
    records = log.records(placed(), created(), filled(occurred_at=later))
    await take(connection, *records, start_at=later)
    assert await states(connection) == [
        ("backorder_created", "withheld", "before_start_at"),
        ("backorder_filled", "due", None),
    ]
    assert not await store.unpublished_outcomes(connection, 10)


async def test_lines_that_one_input_put_on_the_waiting_list_are_one_message(connection: asyncpg.Connection) -> None:
    log = Log()
    events = [created(version=number, line_no=number, sku=f"SKU-{number}", caused_by="order") for number in (1, 2, 3)]
    events.append(created(version=4, line_no=1, caused_by="order"))  # a second state of line 1 is another message
    await take(connection, *log.records(placed(), *events))
    rows = await store.list_deliveries(connection, None, None, 10)
    assert sorted(len(row.about) for row in rows) == [1, 3]


async def test_one_partition_can_be_read_by_a_zombie_without_harm(
    connection: asyncpg.Connection, database: str
) -> None:
    log = Log()
    records = log.records(placed(), created(), filled())
    await take(connection, *records)
    zombie = await asyncpg.connect(database)
    report = await take_batch(zombie, records[1:], NOON, None)
    await zombie.close()
    assert report.outcomes["repeated"] == 2
    assert len(await states(connection)) == 2


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
    assert {state for _, state, _ in await states(connection)} == {"due"}


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
    assert [kind for kind, _, _ in await states(connection)] == ["backorder_created", "backorder_filled"]
    letters = await store.list_dead_letters(connection, None, 100)
    letters.sort(key=lambda letter: letter.record.offset)
    assert [letter.record for letter in letters] == bad
    assert [letter.reason for letter in letters] == ["not_json", "empty", "empty", "unknown_type", letters[4].reason]
    assert report.to_publish == 5


async def test_a_record_that_the_database_cannot_store_is_found_and_buried_alone(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schemas let no such message through today; a statement that refuses one order stands in for it."""
    log = Log()
    lock_orders = store.lock_orders

    async def picky(connection: store.Connection, order_ids: Any) -> Any:
        if "poison" in order_ids:
            await connection.fetch("SELECT 'poison'::int")
        return await lock_orders(connection, order_ids)

    monkeypatch.setattr(store, "lock_orders", picky)
    orders = ["1", "2", "poison", "3", "4"]
    records = log.records(*(message for order in orders for message in (placed(order), created(order))))
    records.sort(key=lambda record: record.topic)
    await take(connection, *records)
    letters = await store.list_dead_letters(connection, None, 100)
    assert {letter.record.key for letter in letters} == {b"poison"}
    assert {letter.reason for letter in letters} == {"impossible"}
    assert len(await states(connection)) == 4


async def test_a_dead_letter_driven_again_is_used_once(connection: asyncpg.Connection) -> None:
    log = Log()
    good = log.record(created(version=2))
    await take(connection, *log.records(placed(), created(version=1)), log.raw("backorders", b"1001", b"{"))
    await connection.execute("UPDATE dead_letters SET record_value = $1", good.value)  # as if this release reads it
    results, _ = await redrive(connection, NOON, None, None, None, dry_run=True)
    assert [refused for _, refused in results] == [None]
    assert len(await states(connection)) == 1
    await redrive(connection, NOON, None, None, None, dry_run=False)
    await redrive(connection, NOON, None, None, None, dry_run=False)
    assert [kind for kind, _, _ in await states(connection)] == ["backorder_created", "backorder_created"]
    assert await connection.fetchval("SELECT redriven_at FROM dead_letters") == NOON


async def test_driving_all_again_gets_past_letters_that_are_refused_still(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *(log.raw("backorders", b"1001", b"{") for _ in range(5)))
    after, seen = 0, []
    while results := (await redrive(connection, NOON, None, None, None, dry_run=False, after=after, limit=2))[0]:
        seen += [letter.dead_letter_id for letter, _ in results]
        after = seen[-1]
    assert seen == sorted(set(seen))
    assert len(seen) == 5


async def test_large_dead_letters_are_published_a_few_at_a_time(connection: asyncpg.Connection) -> None:
    log = Log()
    await take(connection, *(log.raw("backorders", b"1001", b"{" * 1000) for _ in range(5)))
    assert len(await store.unpublished_dead_letters(connection, 500, 2_500)) == 3
    assert len(await store.unpublished_dead_letters(connection, 500, 1)) == 1  # never none: that would stand still
    assert len(await store.unpublished_dead_letters(connection, 4, 1_000_000)) == 4


async def test_a_wait_that_ended_while_its_locks_were_waited_for_is_not_given_up(
    connection: asyncpg.Connection, database: str
) -> None:
    log = Log()
    await take(connection, *log.records(placed(), created(version=1), filled(version=3)))
    wait = timedelta(minutes=15)
    late = NOON + wait + timedelta(seconds=1)
    other = await asyncpg.connect(database)
    async with connection.transaction():
        await connection.execute("SELECT FROM orders FOR UPDATE")
        giving_up = asyncio.create_task(give_up_waiting(other, late, wait, None))
        await eventually(lambda: _somebody_waits_for_a_lock(connection))
        records = log.records(filled(version=2, quantity=1, quantity_waiting=4), cancelled(version=5))
        await take_batch(connection, records, late, None)
    report = await giving_up
    await other.close()
    assert not report.gaps
    assert await connection.fetchval("SELECT version FROM parked") == 5


async def _somebody_waits_for_a_lock(connection: asyncpg.Connection) -> bool:
    found: bool = await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return found


async def test_outcomes_of_an_order_have_versions_without_gap(connection: asyncpg.Connection) -> None:
    log = Log()
    events = [filled(version=number, quantity=1, quantity_waiting=9) for number in range(1, 6)]
    for event in events:
        await take(connection, log.record(event))
    await take(connection, log.record(placed(email=None)))
    rows = await store.unpublished_outcomes(connection, 10)
    messages = [decode("notifications", row.key, row.value, row.headers) for row in rows]
    assert [each.message.version for each in messages if isinstance(each, Decoded)] == [1, 2, 3, 4, 5]  # type: ignore[union-attr]
    assert not any(isinstance(each.message, CustomerNotified) for each in messages if isinstance(each, Decoded))
