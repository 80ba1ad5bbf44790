"""The whole service as processes of its own: what customers get, whatever fails meanwhile."""

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from backorder_schemas import CustomerNotified, NotificationFailed
from tests.notifier.messages import cancelled, created, filled, placed
from tests.notifier.smtp_script import ScriptedServer, scripted_server
from tests.notifier.world import World, eventually, get


def subjects(script: ScriptedServer) -> list[str]:
    return [str(mail["Subject"]) for mail in script.accepted]


async def test_the_example_of_the_design_is_told_once_each_in_right_words(world: World, mail_sink: Any) -> None:
    """Stock 10; an order of 15, an order of 5, a receipt of 7: what the allocator publishes then."""
    mail_sink.reset()
    await world.start(NOTIFIER_SMTP_URL=mail_sink.smtp_url)
    await world.send(placed("A", email="first@example.org"), placed("B", email="second@example.org"))
    whole = {"quantity": 5, "quantity_waiting": 5, "quantity_ordered": 5, "quantity_allocated": 0}
    await world.send(created("A", 1), created("B", 1, **whole))
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

    async def waits() -> bool:
        return [row.state for row in await world.deliveries()] == ["waiting_for_contact"]

    await eventually(waits)
    await world.send(placed())
    await world.settled(1)
    assert subjects(script) == ["Order 1001: 5 units will come later"]


async def test_the_same_events_again_send_no_second_mail(world: World, script: ScriptedServer) -> None:
    await world.start()
    for _ in range(3):
        await world.send(placed(), created(), filled())
    await world.send(placed("last"), created("last"))
    await world.settled(3)
    assert Counter(subjects(script)) == {
        "Order 1001: 5 units will come later": 1,
        "Order 1001: 5 units have arrived": 1,
        "Order last: 5 units will come later": 1,
    }


async def test_a_mail_that_is_put_off_is_tried_again_and_later_news_of_the_order_wait_for_it(
    world: World, script: ScriptedServer
) -> None:
    refusals = iter(["451 4.3.0 later"] * 2)
    script.choose = lambda recipient: next(refusals, None) if recipient == "slow@example.org" else None
    await world.start()
    await world.send(placed(email="slow@example.org"), created(), filled(), cancelled(version=3))
    await world.send(placed("other"), created("other"))
    rows = await world.settled(4)
    assert [row.attempts for row in rows if row.order_id == "1001"] == [3, 1, 1]
    told = [subject for subject in subjects(script) if "1001" in subject]
    assert told == [
        "Order 1001: 5 units will come later",
        "Order 1001: 5 units have arrived",
        "Order 1001: 5 units were cancelled",
    ]
    assert len({mail["Message-ID"] for mail in script.seen if "come later" in mail["Subject"]}) == 2
    outcomes = await eventually(lambda: _enough(world, 4))
    assert [each.attempts for each in outcomes if each.order_id == "1001"] == [3, 1, 1]


async def test_a_refused_address_fails_with_a_reason_and_does_not_hold_up_the_order(
    world: World, script: ScriptedServer
) -> None:
    script.script.append("550 5.1.1 <ada@example.org> unknown at rcpt")
    await world.start()
    await world.send(placed(), created(), filled())
    rows = await world.settled(2)
    assert [(row.state, row.reason) for row in rows] == [("failed", "smtp 550 5.1.1"), ("sent", None)]
    failed, notified = await eventually(lambda: _enough(world, 2))
    assert isinstance(failed, NotificationFailed)
    assert (failed.version, failed.reason, failed.attempts) == (1, "smtp 550 5.1.1", 1)
    assert isinstance(notified, CustomerNotified)
    assert notified.version == 2


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
    await world.start(NOTIFIER_SMTP_TIMEOUT="PT2S", NOTIFIER_LEASE="PT4S")
    await world.send(placed(), created())
    (row,) = await world.settled(1)
    assert (row.state, row.attempts) == ("sent", 2)
    assert len(script.seen) == 2
    assert len({mail["Message-ID"] for mail in script.seen}) == 1


async def test_while_the_mail_server_is_away_reading_goes_on_and_nothing_is_lost(world: World) -> None:
    async with scripted_server() as gone:
        port = gone.port
    process = await world.start(NOTIFIER_SMTP_URL=f"smtp://127.0.0.1:{port}")
    orders = [f"o{number}" for number in range(40)]
    for order_id in orders:
        await world.send(placed(order_id), created(order_id))

    async def all_read() -> bool:
        return len(await world.deliveries()) == len(orders)

    await eventually(all_read)
    assert not [row for row in await world.deliveries() if row.settled_at]
    assert process.log.count("provider_is_unreachable") <= 2
    async with scripted_server(port) as back:
        rows = await world.settled(len(orders), 60)
        assert {row.state for row in rows} == {"sent"}
        assert len(back.accepted) == len(orders)


KILLED_AT = ["sending.before_mark", "intake.before_commit", "intake.after_commit", "relay.before_forget"]


async def test_killed_wherever_everybody_is_told_and_a_mail_comes_at_most_once_more(
    make_world: Callable[[], Awaitable[tuple[World, ScriptedServer]]],
) -> None:
    """All places at once: each takes the seconds until Kafka gives up the killed member."""
    worlds = [await make_world() for _ in KILLED_AT]
    await asyncio.gather(
        *(told_although_killed_at(place, *world) for place, world in zip(KILLED_AT, worlds, strict=True))
    )


async def told_although_killed_at(place: str, world: World, script: ScriptedServer) -> None:
    orders = [f"o{number}" for number in range(20)]
    for order_id in orders:
        await world.send(placed(order_id), created(order_id), filled(order_id))
    killed = await world.start(ready=False, BACKORDER_FAIL_POINT=f"{place}=kill@1")
    assert await killed.stop(0, 60) == -signal.SIGKILL, killed.log
    assert f"fail point {place}: killed" in killed.log
    taken_before = len(script.accepted)
    assert taken_before > 0 if place == "sending.before_mark" else taken_before >= 0
    await world.start()
    rows = await world.settled(2 * len(orders), 60)
    assert {row.state for row in rows} == {"sent"}
    ids = [mail["Message-ID"] for mail in script.accepted]
    assert len(set(ids)) == 2 * len(orders)
    # Only mails that the killed process had in flight may have come a second time, under the same id.
    assert max(Counter(ids).values()) <= 2
    assert len(ids) - len(set(ids)) <= 4
    for order_id in orders:
        assert subjects_of(script, order_id) == ["will come later", "have arrived"]
    outcomes = await eventually(lambda: _enough(world, 2 * len(orders)))
    assert all([each.version for each in outcomes if each.order_id == order_id] == [1, 2] for order_id in orders)


def subjects_of(script: ScriptedServer, order_id: str) -> list[str]:
    """What an order was told, in order, repeats of the same mail left out."""
    mails = {mail["Message-ID"]: str(mail["Subject"]) for mail in script.mails_about(order_id)}
    return [subject.partition(" units ")[2] for subject in mails.values()]


async def test_two_processes_side_by_side_send_every_mail_exactly_once_and_in_order(
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
    await world.settled(120, 60)
    assert max(Counter(subjects(script)).values()) == 1
    for order_id in orders:
        assert subjects_of(script, order_id) == ["will come later", "have arrived"]
    outcomes = await eventually(lambda: _enough(world, 120))
    assert all([each.version for each in outcomes if each.order_id == order_id] == [1, 2] for order_id in orders)


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
    process = await world.start(NOTIFIER_SMTP_TIMEOUT="PT3S", NOTIFIER_LEASE="PT6S")
    await world.send(placed(), created())

    async def handed_over() -> bool:
        return bool(script.seen)

    await eventually(handed_over)
    assert await process.stop() == 0
    (row,) = await world.deliveries()
    assert (row.state, row.reason) == ("due", "timeout after DATA")  # settled before the end, not left to its lease
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
        "orders", "backorders", "notifications", "notifier.dlq",
    }  # fmt: skip
    schemas = json.loads(document)["components"]["schemas"]
    payload = json.dumps(schemas[f"{world.prefix}orders:Message:Payload"])
    assert "OrderPlaced" in payload
    assert "BackorderCreated" not in payload
    assert (await fetch("/asyncapi"))[0] == 200
    assert (await fetch("/asyncapi/try"))[0] == 404
    assert (await fetch("/"))[0] == 404


async def test_contact_data_is_in_no_log_metric_topic_or_listing(world: World, script: ScriptedServer) -> None:
    canary = {"email": "canary.7f3@example.org", "phone": "+4915112345678", "name": "Kanarina Vogel-7f3"}
    script.script.extend(
        ["451 4.3.0 <canary.7f3@example.org> later", "cut_after_data", "550 5.7.1 canary.7f3@example.org refused"]
    )
    process = await world.start(NOTIFIER_LOG_LEVEL="debug")
    await world.send(placed(customer=canary, email=canary["email"]), created(), filled())
    broken = json.loads(placed("2", customer=canary).model_dump_json()) | {"currency": "canary.7f3@example.org"}
    await world.send_raw("orders", b"2", json.dumps(broken).encode())
    await world.send_raw("orders", b"3", b'{"canary.7f3@example.org": "+4915112345678"')
    await world.send(placed("4", email="canary.7f3@example.org, x"), created("4"))
    await world.settled(3)
    await eventually(lambda: _enough(world, 3))
    metrics = (await asyncio.to_thread(get, f"http://127.0.0.1:{process.port}/metrics"))[1]
    await process.stop()
    letters = await world.json("dlq", "list")
    assert len(letters) == 2
    commands = ["status", "outbox", "outbox --json", "dlq list", "settings"]
    commands += [f"dlq show {letter['id']}" for letter in letters]
    listings = [str(shown) for shown in await asyncio.gather(*(world.command(*each.split()) for each in commands))]
    topics = [repr((record.key, record.value, record.headers)) for record in await world.read("notifications")]
    everything = "\n".join([process.log, metrics, *listings, *topics])
    assert not re.search(r"canary|4915112345678|Kanarina", everything)
    assert "refused_by_policy" in process.log
    # What was asked for is shown.
    revealed = await world.json("dlq", "show", str(letters[0]["id"]), "--reveal")
    assert "canary" in revealed["value"]


async def test_commands_show_what_happened(world: World, script: ScriptedServer) -> None:
    script.script.append("550 5.1.1 no at rcpt")
    await world.start()
    await world.send(placed(), created(), filled())
    await world.send_raw("backorders", b"k", b"{")
    await world.settled(2)

    async def buried() -> bool:
        return bool(await world.json("dlq", "list"))

    await eventually(buried)
    status = await world.json("status")
    assert status.keys() == {"deliveries", "waits", "cursors"}
    assert status["waits"]["dead_letters"] == 1
    (failed,) = await world.json("outbox", "--state", "failed")
    assert (failed["order_id"], failed["reason"], failed["about"]) == ("1001", "smtp 550 5.1.1", ["1001/v1"])
    assert datetime.fromisoformat(failed["settled_at"]).tzinfo
    assert len(await world.json("outbox", "--order", "1001")) == 2
    assert (await world.command("outbox", "--state", "nonsense"))[0] == 2
    still = await world.json("dlq", "redrive", "--all", expect=1)
    assert [(letter["used"], letter["reason"]) for letter in still["letters"]] == [(False, "not_json")]
    assert (await world.command("dlq", "redrive"))[0] == 2
    assert (await world.command("dlq", "show", "99"))[0] == 2
    assert (await world.command("status", NOTIFIER_DATABASE_URL="postgresql://u@127.0.0.1:9/x"))[0] == 3
    code, _, err = await world.command("status", NOTIFIER_DATABASE_ULR="x")
    assert code == 2
    assert "did you mean NOTIFIER_DATABASE_URL" in err
