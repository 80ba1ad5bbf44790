"""The whole service as processes of its own: what customers get, whatever fails meanwhile."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from typing import Any

import asyncpg
import pytest

from backorder_notifier.intake import READS
from backorder_schemas import CustomerNotified, NotificationFailed
from tests.notifier.messages import created, filled, placed
from tests.notifier.smtp_script import ScriptedServer, scripted_server
from tests.notifier.world import Process, World, eventually, get


def subjects(script: ScriptedServer) -> list[str]:
    return [str(mail["Subject"]) for mail in script.accepted]


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


async def test_the_example_of_the_design_is_told_once_each_in_right_words(world: World, mail_sink: Any) -> None:
    """Stock 10; an order of 15, an order of 5, a receipt of 7: what the allocator publishes then."""
    mail_sink.reset()
    await world.start(NOTIFIER_SMTP_URL=mail_sink.smtp_url)
    await world.send(placed("A", email="first@example.org"), placed("B", email="second@example.org"))
    whole = {"quantity": 5, "quantity_waiting": 5, "quantity_ordered": 5, "quantity_allocated": 0}
    await world.send(created("A", 1), created("B", 1, **whole))
    await world.settled(2)
    await world.send(filled("A", 2, caused_by="r"), filled("B", 2, caused_by="r", quantity=2, quantity_waiting=3))
    await world.settled(4)
    mails = {address: mail_sink.messages_to(f"{address}@example.org") for address in ("first", "second")}
    assert [mail.subject for mail in mails["first"]] == [
        "Order A: 5 units will come later",
        "Order A: 5 units have arrived",
    ]
    assert [mail.subject for mail in mails["second"]] == [
        "Order B: 5 units will come later",
        "Order B: 2 units have arrived, 3 still to come",
    ]
    assert "Ready now: 10" in mails["first"][0].text
    assert len({mail.message["References"] for mail in mails["first"]}) == 1

    outcomes = await eventually(lambda: _enough(world, 4))
    for order_id in ("A", "B"):
        told = [each for each in outcomes if each.order_id == order_id]
        assert [(each.version, each.kind, each.attempts) for each in told] == [
            (1, "backorder_created", 1),
            (2, "backorder_filled", 1),
        ]
        assert [each.about for each in told] == [(f"{order_id}/v1",), (f"{order_id}/v2",)]
        assert all(isinstance(each, CustomerNotified) and each.customer_id == "c-7" for each in told)


async def _enough(world: World, count: int) -> list[Any]:
    outcomes = await world.outcomes()
    return list(outcomes) if len(outcomes) >= count else []


async def test_a_contact_that_comes_later_is_waited_for(world: World, script: ScriptedServer) -> None:
    await world.start()
    await world.send(created())
    await world.send(placed("other"), created("other"))
    await world.settled(1)
    assert subjects(script) == ["Order other: 5 units will come later"]
    await world.send(placed())
    await world.settled(2)
    assert subjects(script)[1:] == ["Order 1001: 5 units will come later"]


async def test_the_same_events_again_send_no_second_mail(world: World, script: ScriptedServer) -> None:
    await world.start()
    await world.send(placed(), created())
    await world.settled(1)
    for _ in range(3):
        await world.send(placed(), created(), filled())
    await world.settled(2)
    await world.send(placed(), created(), filled(), placed("last"), created("last"))
    await world.settled(3)
    assert Counter(subjects(script)) == {
        "Order 1001: 5 units will come later": 1,
        "Order 1001: 5 units have arrived": 1,
        "Order last: 5 units will come later": 1,
    }


async def test_a_mail_that_is_put_off_gives_way_to_one_that_says_how_things_stand(
    world: World, script: ScriptedServer
) -> None:
    refusing = True
    script.choose = lambda recipient: "451 4.3.0 later" if refusing and recipient == "slow@slow.example" else None
    await world.start()
    await world.send(placed(email="slow@slow.example"), created())
    await world.send(placed("other"), created("other"))

    async def refused_and_other_told() -> bool:
        rows = {row.order_id: row for row in await world.deliveries()}
        return len(rows) == 2 and rows["1001"].attempts > 0 and rows["other"].state == "sent"

    await eventually(refused_and_other_told)
    await world.send(filled(quantity=2, quantity_waiting=3))

    async def replaced() -> bool:
        return len(await world.deliveries("1001")) == 2

    await eventually(replaced)
    refusing = False
    rows = await world.settled(3)
    assert [(row.state, row.about) for row in rows if row.order_id == "1001"] == [
        ("superseded", ("1001/v1",)),
        ("sent", ("1001/v1", "1001/v2")),
    ]
    (mail,) = script.mails_about("1001")
    assert mail["Subject"] == "Order 1001: 2 units have arrived, 3 still to come"


async def test_a_refused_address_fails_with_a_reason_and_is_not_tried_again(
    world: World, script: ScriptedServer
) -> None:
    script.script.append("550 5.1.1 <ada@example.org> unknown at rcpt")
    await world.start()
    await world.send(placed(), created())
    await world.settled(1)
    await world.send(filled())
    rows = await world.settled(2)
    assert [(row.state, row.reason) for row in rows] == [("failed", "smtp 550 5.1.1"), ("withheld", "suppressed")]
    outcomes = await eventually(lambda: _enough(world, 2))
    assert all(isinstance(each, NotificationFailed) for each in outcomes)
    assert [(each.version, each.reason, each.attempts) for each in outcomes] == [
        (1, "smtp 550 5.1.1", 1),
        (2, "suppressed", 0),
    ]
    assert not script.accepted


@pytest.mark.parametrize("misdeed", ["hang", "cut_at_rcpt", "421 4.3.2 going down"])
async def test_a_server_that_fails_before_the_mail_is_handed_over_gets_it_again(
    world: World, script: ScriptedServer, misdeed: str
) -> None:
    script.script.append(misdeed)
    await world.start(NOTIFIER_SMTP_TIMEOUT="PT2S", NOTIFIER_LEASE="PT4S")
    await world.send(placed(), created())
    (row,) = await world.settled(1)
    assert (row.state, row.attempts) == ("sent", 2)
    assert len(script.accepted) == 1


@pytest.mark.parametrize("misdeed", ["cut_after_data", "hang_after_data"])
async def test_a_mail_in_doubt_is_sent_again_with_the_same_message_id(
    world: World, script: ScriptedServer, misdeed: str
) -> None:
    script.script.append(misdeed)
    await world.start(NOTIFIER_SMTP_TIMEOUT="PT2S", NOTIFIER_LEASE="PT4S", NOTIFIER_SMTP_ANSWER_TIMEOUT="PT2S")
    await world.send(placed(), created())
    (row,) = await world.settled(1)
    assert (row.state, row.attempts, row.in_doubt) == ("sent", 2, 1)
    assert len(script.seen) == 2
    assert len({mail["Message-ID"] for mail in script.seen}) == 1


async def test_while_the_mail_server_is_away_reading_goes_on_and_each_customer_hears_once_when_it_is_back(
    world: World,
) -> None:
    async with scripted_server() as gone:
        port = gone.port
    process = await world.start(NOTIFIER_SMTP_URL=f"smtp://127.0.0.1:{port}")
    orders = [f"o{number}" for number in range(40)]
    for order_id in orders:
        await world.send(placed(order_id), created(order_id))

    async def made(count: int) -> bool:
        return len(await world.deliveries()) == count

    await eventually(lambda: made(40))
    for order_id in orders:
        await world.send(filled(order_id, quantity=2, quantity_waiting=3))
    await eventually(lambda: made(80))
    assert Counter(row.state for row in await world.deliveries()) == {"superseded": 40, "due": 40}
    assert process.log.count("provider_is_unreachable") <= 2
    async with scripted_server(port) as back:
        await world.settled(80, 60)
        assert sorted(subjects(back)) == sorted(
            f"Order {order_id}: 2 units have arrived, 3 still to come" for order_id in orders
        )


KILLED_AT = [
    "sending.before_mark",
    "intake.before_commit",
    "intake.after_commit",
    "teller.before_commit",
    "teller.after_commit",
    "relay.before_forget",
]


async def test_killed_wherever_everybody_is_told_and_a_mail_comes_at_most_once_more(
    make_world: Callable[[], Awaitable[tuple[World, ScriptedServer]]],
) -> None:
    """All places at once: each takes the seconds until Kafka gives up the killed member."""
    worlds = [await make_world() for _ in KILLED_AT]
    stuck, _ = await make_world()
    await stuck.send(placed())
    hanging = await stuck.start(ready=False, BACKORDER_FAIL_POINT="intake.before_commit=hang@1")
    await hanging.logged("intake.before_commit: hang", 40)
    await asyncio.gather(
        ends_in_time_although_it_hangs(hanging),
        *(told_although_killed_at(place, *world) for place, world in zip(KILLED_AT, worlds, strict=True)),
    )


async def told_although_killed_at(place: str, world: World, script: ScriptedServer) -> None:
    orders = [f"o{number}" for number in range(20)]
    for order_id in orders:
        await world.send(placed(order_id), created(order_id), filled(order_id))
    killed = await world.start(ready=False, BACKORDER_FAIL_POINT=f"{place}=kill@1")
    assert await killed.stop(0, 60) == -signal.SIGKILL, killed.log
    assert f"fail point {place}: kill" in killed.log
    taken_before = len(script.accepted)
    assert taken_before > 0 if place == "sending.before_mark" else taken_before >= 0
    await world.start()
    verdicts = await world.decided(2 * len(orders), 60)
    assert set(verdicts.values()) == {("told", None)}
    # Only mails that the killed process had in flight may have come a second time, under the same id.
    ids = [mail["Message-ID"] for mail in script.accepted]
    assert max(Counter(ids).values()) <= 2
    assert len(ids) - len(set(ids)) <= 4
    rows = [row for row in await world.deliveries() if row.state == "sent"]
    assert len(set(ids)) == len(rows)
    outcomes = await eventually(lambda: _enough(world, len(rows)))
    for order_id in orders:
        told = [event for row in rows if row.order_id == order_id for event in row.about]
        assert sorted(told) == [f"{order_id}/v1", f"{order_id}/v2"]
        assert str(script.mails_about(order_id)[-1]["Subject"]).endswith("units have arrived")
        published = [each for each in outcomes if each.order_id == order_id]
        assert [each.version for each in published] == list(range(1, len(published) + 1))
        assert sorted(event for each in published for event in each.about) == sorted(told)


async def ends_in_time_although_it_hangs(process: Process) -> None:
    """The event loop stands still for ever, and never hears of SIGTERM."""
    began = time.monotonic()
    assert await process.stop() == 0
    assert time.monotonic() - began < 30
    assert "ended_before_all_was_closed" in process.log


async def test_two_processes_side_by_side_tell_everything_exactly_once_and_in_order(
    world: World, script: ScriptedServer
) -> None:
    first, _ = await asyncio.gather(world.start(), world.start())
    orders = [f"o{number}" for number in range(60)]
    for order_id in orders[:30]:
        await world.send(placed(order_id), created(order_id), filled(order_id))
    assert await first.stop() == 0  # its partitions go to the other in the middle of things
    await world.start()
    for order_id in orders[30:]:
        await world.send(created(order_id), placed(order_id), filled(order_id))
    verdicts = await world.decided(120, 60)
    assert set(verdicts.values()) == {("told", None)}
    assert max(Counter(mail["Message-ID"] for mail in script.accepted).values()) == 1
    rows = [row for row in await world.deliveries() if row.state == "sent"]
    assert len(script.accepted) == len(rows)
    for order_id in orders:
        told = [event for row in rows if row.order_id == order_id for event in row.about]
        assert told == [f"{order_id}/v1", f"{order_id}/v2"]
    outcomes = await eventually(lambda: _enough(world, len(rows)))
    for order_id in orders:
        versions = [each.version for each in outcomes if each.order_id == order_id]
        assert versions == list(range(1, len(versions) + 1))


async def test_a_poisoned_batch_is_told_where_it_is_good_and_kept_byte_for_byte_where_it_is_bad(
    world: World, script: ScriptedServer
) -> None:
    not_text = [("h", b"\xff\xfe"), ("null", None), ("reply_to", b"notifications")]
    bad: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
        (b"1", b"{not json", []),
        (b"2", None, []),
        (None, b"", []),
        (None, None, []),
        (b"\xff", b"\xff\xfe\x00", not_text),
        (b"5", b'{"type": "Nonsense", "id": "x"}', [("content-type", b"application/json")]),
    ]
    for number, (key, value, headers) in enumerate(bad):
        await world.send(placed(f"good-{number}"))
        await world.send_raw("backorders", key, value, headers)
        await world.send_raw(
            "backorders", f"good-{number}".encode(), created(f"good-{number}").model_dump_json().encode(), not_text
        )
    await world.start()
    await world.settled(len(bad))
    assert len(script.accepted) == len(bad)

    async def published() -> list[Any] | None:
        records = await world.read("notifier.dlq")
        return records if len(records) >= len(bad) else None

    records = await eventually(published)
    assert records is not None
    found = []
    for record in records:
        own = [(name, value) for name, value in record.headers if not name.startswith("dlq.")]
        found.append((record.key, record.value, own))
        why = dict(record.headers)
        assert (why["dlq.topic"] or b"").decode() == f"{world.prefix}backorders"
        assert {"dlq.partition", "dlq.offset", "dlq.reason", "dlq.detail", "dlq.failed_at"} <= why.keys()
    assert sorted(map(repr, found)) == sorted(map(repr, bad))

    letters = await world.json("dlq", "list")
    assert {letter["reason"] for letter in letters} >= {"not_json", "empty", "unknown_type"}
    assert len(letters) == len(bad)
    assert all(letter["published_at"] for letter in letters)


async def test_sigterm_finishes_the_mail_in_flight_and_ends_with_0(world: World, script: ScriptedServer) -> None:
    script.script.append("hang_after_data")
    process = await world.start(NOTIFIER_SMTP_ANSWER_TIMEOUT="PT5S")
    await world.send(placed(), created())

    async def handed_over() -> bool:
        return bool(script.seen)

    await eventually(handed_over)
    assert await process.stop() == 0
    (row,) = await world.deliveries()
    # Settled before the end, not left to its lease.
    assert (row.state, row.in_doubt) == ("due", 1)
    assert '"event": "stopped"' in process.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_nothing_is_reachable_ends_at_once_too(world: World, number: int) -> None:
    process = await world.start(ready=False, NOTIFIER_DATABASE_URL="postgresql://u@127.0.0.1:9/x")
    await process.logged('"what": "database"')
    status, body = await asyncio.to_thread(get, f"http://127.0.0.1:{process.port}/readyz")
    assert (status, json.loads(body)["checks"]["database"]) == (503, False)
    assert (await asyncio.to_thread(get, f"http://127.0.0.1:{process.port}/livez"))[0] == 200
    assert await process.stop(number, 5) == 0


async def test_lost_connections_to_the_database_are_lived_through(world: World, script: ScriptedServer) -> None:
    process = await world.start()
    await world.send(placed(), created())
    await world.settled(1)
    connection = await asyncpg.connect(world.database)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
    await world.send(filled())
    await world.settled(2)
    assert len(script.accepted) == 2
    assert await process.stop() == 0


async def test_the_settings_of_the_session_are_what_the_database_sees(world: World) -> None:
    await world.start()
    connection = await asyncpg.connect(world.database)
    names = await connection.fetch(
        "SELECT DISTINCT application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
    assert [row[0] for row in names] == ["backorder-notifier"]


async def test_http_says_how_it_is_and_lets_nobody_publish(world: World) -> None:
    process = await world.start()
    base = f"http://127.0.0.1:{process.port}"

    async def fetch(path: str) -> tuple[int, str]:
        return await asyncio.to_thread(get, base + path)

    async def ready() -> bool:
        return (await fetch("/readyz"))[0] == 200

    await eventually(ready)
    assert (await fetch("/livez"))[0] == 200
    await world.send(placed(), created())
    await world.settled(1)

    async def counted() -> bool:
        _, text = await fetch("/metrics")
        return 'backorder_notifier_attempts_total{channel="email",kind="backorder_created",outcome="sent"} 1.0' in text

    await eventually(counted)
    status, document = await fetch("/asyncapi.json")
    assert status == 200
    channels = json.loads(document)["channels"]
    assert {name.removeprefix(world.prefix) for name in channels} == {
        *READS, "notifications", "notifier.dlq",
    }  # fmt: skip
    schemas = json.loads(document)["components"]["schemas"]
    payload = json.dumps(schemas[f"{world.prefix}orders:Message:Payload"])
    assert "OrderPlaced" in payload
    assert "BackorderCreated" not in payload
    assert (await fetch("/asyncapi"))[0] == 200
    assert (await fetch("/asyncapi/try"))[0] == 404
    assert (await fetch("/"))[0] == 404
