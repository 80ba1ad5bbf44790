"""One order told by mail, text message and webhook, each over a real server; one that is dead holds up no other."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from backorder_notifier.policy import Policy
from backorder_notifier.sms import Generic, SmsChannel
from backorder_notifier.webhook import WebhookChannel
from tests.notifier.http_script import ScriptedHttp, Seen, scripted_http
from tests.notifier.messages import NOON, contact_changed, created, filled, moved, placed, shipped
from tests.notifier.running import WORDS, Running, about, by_mail, provider, rows_of, running
from tests.notifier.smtp_script import ScriptedServer

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PHONE = {"phone": "+4915112345678"}


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedHttp]:
    async with scripted_http() as server:
        yield server


@pytest.fixture
async def hook() -> AsyncIterator[ScriptedHttp]:
    async with scripted_http() as server:
        yield server


@pytest.fixture
async def told(
    database: str, script: ScriptedServer, gateway: ScriptedHttp, hook: ScriptedHttp
) -> AsyncIterator[Running]:
    sms = SmsChannel(Generic(f"http://127.0.0.1:{gateway.port}/sms", "token", "SHOP"), WORDS)
    webhook = WebhookChannel(
        f"http://127.0.0.1:{hook.port}/hook", [SECRET], WORDS, allowed_networks=(ip_network("127.0.0.0/8"),)
    )
    providers = {"email": by_mail(script.port), "sms": provider(sms), "webhook": provider(webhook)}
    async with running(database, providers, Policy(channels=("email", "sms", "webhook"))) as told:  # type: ignore[arg-type]
        yield told


def hooked(server: ScriptedHttp) -> list[dict[str, Any]]:
    """What the receiver's own library makes of it: it refuses what is not signed."""
    return [json.loads(verified(seen)) for seen in server.seen]


def verified(seen: Seen) -> bytes:
    # Its `verify` would find the time of our clock to be too far from now.
    at = datetime.fromtimestamp(int(seen.headers["webhook-timestamp"]), UTC)
    signature = Webhook(SECRET).sign(seen.headers["webhook-id"], at, seen.body.decode())
    assert signature in seen.headers["webhook-signature"].split()
    return seen.body


def texted(server: ScriptedHttp) -> list[dict[str, str]]:
    return [json.loads(seen.body) for seen in server.seen]


async def test_one_story_over_all_three(
    told: Running, script: ScriptedServer, gateway: ScriptedHttp, hook: ScriptedHttp
) -> None:
    await told.reads(contact_changed(channels=("email", "sms")))
    await told.tells(placed(customer=PHONE), created(promised_at=NOON.replace(day=20)))
    await told.reads(moved(promised_at=NOON.replace(day=28), previous_promised_at=NOON.replace(day=20)))
    await told.passes(hours=1)
    await told.tells(filled(version=3), shipped(carrier="DHL", tracking_number="JD1"))
    subjects = [str(mail["Subject"]) for mail in about(script)]
    assert subjects == [
        "Order 1001: 5 units will come later",
        "Order 1001: New date November 28, 2026",
        "Order 1001: 15 units are on their way",
    ]
    assert [each["to"] for each in texted(gateway)] == [PHONE["phone"]] * 3
    assert ["5 units will come later" in texted(gateway)[0]["text"], "Nov 28, 2026" in texted(gateway)[1]["text"]] == [
        True, True,
    ]  # fmt: skip
    hooks = hooked(hook)
    assert [each["type"] for each in hooks] == ["backorder_created", "promise_changed", "shipped"]
    assert [each["data"]["subject"] for each in hooks] == subjects
    assert [each["data"]["lines"][0]["waiting"] for each in hooks] == [5, 5, 0]
    for seen in hook.seen:
        assert b"ada@example.org" not in seen.body
        assert b"Ada" not in seen.body
        assert PHONE["phone"].encode() not in seen.body
    # The same message over each: one message, three deliveries with ids of their own.
    assert len({seen.headers["webhook-id"] for seen in hook.seen} | {each["id"] for each in texted(gateway)}) == 6
    assert {state for _, _, state, _ in await told.deliveries()} == {"sent"}
    await told.is_sound()


async def test_who_chose_text_messages_gets_no_mail(
    told: Running, script: ScriptedServer, gateway: ScriptedHttp, hook: ScriptedHttp
) -> None:
    await told.reads(contact_changed(channels=("sms",)))
    await told.tells(placed(customer=PHONE), created())
    assert await told.deliveries() == [
        ("backorder_created", "email", "withheld", "channel_not_chosen"),
        ("backorder_created", "sms", "sent", None),
        ("backorder_created", "webhook", "sent", None),
    ]
    assert (len(script.accepted), len(gateway.seen), len(hook.seen)) == (0, 1, 1)
    # Who chose them and has no number hears what has to be told all the same.
    await told.tells(
        placed("1002", customer={"customer_id": "c-8"}), contact_changed("c-8", channels=("sms",)), created("1002")
    )
    assert len(about(script, "1002")) == 1
    await told.is_sound()


@pytest.mark.parametrize("dead", ["email", "sms", "webhook"])
async def test_a_channel_that_is_dead_holds_up_no_other(
    told: Running, script: ScriptedServer, gateway: ScriptedHttp, hook: ScriptedHttp, dead: str
) -> None:
    """For a day and a half: the others get each message at once, the dead one how things stand when it is back."""
    answers = True
    script.choose = lambda _recipient: None if answers or dead != "email" else "451 4.3.0 later at rcpt"
    server = {"sms": gateway, "webhook": hook}.get(dead)
    await told.reads(contact_changed(channels=("email", "sms")))
    answers = False
    if server is not None:
        server.script.extend(["503"] * 500)
    await told.tells(placed(customer=PHONE), created(promised_at=NOON.replace(day=20)))
    await told.passes(hours=20)
    await told.reads(moved(promised_at=NOON.replace(day=28), previous_promised_at=NOON.replace(day=20)))
    await told.passes(hours=2)
    await told.tells(filled(version=3, quantity=2, quantity_waiting=3))
    kinds = ["backorder_created", "promise_changed", "backorder_filled"]
    for channel in {"email", "sms", "webhook"} - {dead}:
        got = [(kind, state) for kind, of, state, _ in await told.deliveries() if of == channel]
        assert got == [(kind, "sent") for kind in kinds], channel
    answers = True
    refused = 0 if server is None else len(server.seen)
    if server is not None:
        server.script.clear()
    await told.passes(hours=7)
    ends = [(kind, state) for kind, of, state, _ in await told.deliveries() if of == dead]
    if dead == "webhook":
        # The shop's own system gets each message, in order.
        assert ends == [(kind, "sent") for kind in kinds]
        assert [each["type"] for each in hooked(hook)[refused:]] == kinds
    else:
        assert ends == [(kinds[0], "superseded"), (kinds[1], "superseded"), (kinds[2], "sent")]
    if dead == "email":
        (mail,) = about(script)
        assert "Expected: November 28, 2026" in rows_of(mail)
    if dead == "sms":
        (text,) = texted(gateway)[refused:]
        assert "2 units have arrived" in text["text"]
    await told.is_sound()


async def test_text_messages_keep_quiet_hours_and_mails_go(
    told: Running, script: ScriptedServer, gateway: ScriptedHttp
) -> None:
    told.policy = replace(told.policy, not_quiet=frozenset())
    await told.reads(contact_changed(channels=("email", "sms")))
    told.now = NOON.replace(hour=22)
    await told.tells(placed(customer=PHONE), created())
    assert (len(script.accepted), len(gateway.seen)) == (1, 0)
    await told.passes(hours=9)
    assert len(gateway.seen) == 0
    await told.passes(hours=2)
    assert len(gateway.seen) == 1
    await told.is_sound()
