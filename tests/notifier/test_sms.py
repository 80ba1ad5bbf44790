import asyncio
import json
import logging
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest

from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.gsm import split
from backorder_notifier.posting import retry_after
from backorder_notifier.sms import Gateway, Generic, SmsChannel, Twilio
from tests.notifier.http_script import ScriptedHttp, scripted_http
from tests.notifier.outgoing import ADA, NOW, PHONE, outgoing

TOKEN = "canary-secret-token"
ERROR = f'{{"code": %s, "message": "The number {PHONE} is not valid", "status": 400}}'


@dataclass(frozen=True)
class Words:
    sms: str = "Shop: 5 × Phone X come on 1 December. Order 1001: https://shop.example/o"


@pytest.fixture
async def script() -> AsyncIterator[ScriptedHttp]:
    async with scripted_http() as server:
        yield server


def channel(gateway: Gateway, text: str = Words.sms, seconds: float = 5.0) -> SmsChannel:
    return SmsChannel(gateway, lambda _outgoing: Words(text), timeout=timedelta(seconds=seconds))


def twilio(script: ScriptedHttp, sender: str = "SHOP") -> Twilio:
    return Twilio("AC1", TOKEN, sender, f"http://127.0.0.1:{script.port}")


def generic(script: ScriptedHttp) -> Generic:
    return Generic(f"http://127.0.0.1:{script.port}/sms?key=canary-key", TOKEN, "SHOP")


async def answer(gateway: Gateway, message: Outgoing | None = None, seconds: float = 5.0) -> Answer:
    sender = channel(gateway, seconds=seconds)
    try:
        return await sender.send(message or outgoing(), NOW)
    finally:
        await sender.close()


async def test_twilio_gets_the_form_it_asks_for(script: ScriptedHttp) -> None:
    script.script.append('201\n\n{"sid": "SM1", "status": "queued", "error_code": null}')
    assert await answer(twilio(script)) == Answer("sent")
    [request] = script.seen
    assert request.line == "POST /2010-04-01/Accounts/AC1/Messages.json HTTP/1.1"
    assert b64decode(request.headers["authorization"].removeprefix("Basic ")).decode() == f"AC1:{TOKEN}"
    assert parse_qs(request.body.decode(), strict_parsing=True) == {
        "To": [PHONE],
        "From": ["SHOP"],
        "Body": ["Shop: 5 x Phone X come on 1 December. Order 1001: https://shop.example/o"],
    }


async def test_a_messaging_service_of_twilio_is_named_as_one(script: ScriptedHttp) -> None:
    service = "MG" + "0" * 32
    await answer(twilio(script, service))
    form = parse_qs(script.seen[0].body.decode())
    assert form["MessagingServiceSid"] == [service]
    assert "From" not in form


async def test_the_plain_gateway_gets_the_contract_with_one_key_for_all_tries(script: ScriptedHttp) -> None:
    script.script.extend(["500", "202"])
    assert (await answer(generic(script))).verdict == "later"
    assert await answer(generic(script)) == Answer("sent")
    first, second = script.seen
    assert first == second
    delivery_id = str(outgoing().delivery_id)
    assert first.line == "POST /sms?key=canary-key HTTP/1.1"
    assert first.headers["authorization"] == f"Bearer {TOKEN}"
    assert first.headers["idempotency-key"] == delivery_id
    assert json.loads(first.body) == {
        "to": PHONE,
        "from": "SHOP",
        "text": "Shop: 5 x Phone X come on 1 December. Order 1001: https://shop.example/o",
        "id": delivery_id,
    }


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("400\n\n" + ERROR % 21211, Answer("never", "http 400 code 21211", suppress=True)),
        ("400\n\n" + ERROR % 21610, Answer("never", "http 400 code 21610", suppress=True)),
        ("400\n\n" + ERROR % 21614, Answer("never", "http 400 code 21614", suppress=True)),
        ("400\n\n" + ERROR % 21635, Answer("never", "http 400 code 21635", suppress=True)),
        ("400\n\n" + ERROR % 21408, Answer("never", "http 400 code 21408", policy=True)),
        ("400\n\n" + ERROR % 21617, Answer("never", "http 400 code 21617", policy=True)),
        ("400\n\n" + ERROR % 21606, Answer("later", "http 400 code 21606", policy=True)),
        ("400\n\n" + ERROR % 30001, Answer("unreachable", "http 400 code 30001")),
        ("400\n\n" + ERROR % 30003, Answer("later", "http 400 code 30003")),
        ("400\n\n" + ERROR % 30005, Answer("never", "http 400 code 30005", suppress=True)),
        ("400\n\n" + ERROR % 30007, Answer("never", "http 400 code 30007", policy=True)),
        ("429\nRetry-After: 7\n\n" + ERROR % 20429, Answer("unreachable", "http 429 code 20429", timedelta(seconds=7))),
        ("429\nRetry-After: Mon, 02 Nov 2026 09:01:30 GMT", Answer("unreachable", "http 429", timedelta(seconds=90))),
        ("401\n\n" + ERROR % 20003, Answer("unreachable", "http 401 code 20003", policy=True)),
        ("403", Answer("unreachable", "http 403", policy=True)),
        ("404\n\n" + ERROR % 20404, Answer("unreachable", "http 404 code 20404", policy=True)),
        ("307\nLocation: http://127.0.0.1:1/", Answer("unreachable", "http 307", policy=True)),
        ("503\nRetry-After: 60", Answer("unreachable", "http 503", timedelta(seconds=60))),
        ("503", Answer("later", "http 503")),
        # It says itself that an error of its own may come after the message was sent.
        ("500\n\n" + ERROR % 20500, Answer("ambiguous", "http 500 code 20500")),
        ("502", Answer("ambiguous", "http 502")),
        ("400\n\nno json", Answer("later", "http 400", policy=True)),
        ("400\n\n" + ERROR % '"21211"', Answer("later", "http 400", policy=True)),
        ("400\n\n" + "[" * 10_000, Answer("later", "http 400", policy=True)),
        ("400\n\n" + ERROR % "[]", Answer("later", "http 400", policy=True)),
        ("400\n\n" + ERROR % PHONE[1:], Answer("later", "http 400", policy=True)),
        ('201\n\n{"status": ["failed"]}', Answer("sent")),
        ('201\n\n{"status": "failed", "error_code": 30006}', Answer("never", "http 201 code 30006", suppress=True)),
        ('201\n\n{"status": "failed", "error_code": 30007}', Answer("never", "http 201 code 30007", policy=True)),
        ("201\n\nno json", Answer("sent")),
        ("cut_in_body", Answer("sent")),
        ("cut", Answer("ambiguous", "connection lost after the request")),
        ("noise", Answer("ambiguous", "connection lost after the request")),
    ],
)
async def test_each_answer_of_twilio_has_its_meaning_and_no_number_in_its_reason(
    script: ScriptedHttp, step: str, expected: Answer
) -> None:
    script.script.append(step)
    assert await answer(twilio(script)) == expected
    assert len(script.seen) == 1


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("200", Answer("sent")),
        ('404\n\n{"error": "invalid_number"}', Answer("never", "http 404 invalid_number", suppress=True)),
        ('400\n\n{"error": "unsubscribed"}', Answer("never", "http 400 unsubscribed", suppress=True)),
        ('500\n\n{"error": "invalid_number"}', Answer("later", "http 500")),
        (f'422\n\n{{"error": "{PHONE}"}}', Answer("never", "http 422", policy=True)),
        ("401", Answer("unreachable", "http 401", policy=True)),
        ("404", Answer("unreachable", "http 404", policy=True)),
        ("302\nLocation: /", Answer("unreachable", "http 302", policy=True)),
        ("409", Answer("later", "http 409")),  # the same key is still being worked on
        ("429\nRetry-After: 3", Answer("unreachable", "http 429", timedelta(seconds=3))),
        ("503", Answer("later", "http 503")),
        # It knows the key again, so nothing is in doubt.
        ("cut", Answer("later", "connection lost after the request")),
    ],
)
async def test_each_answer_of_the_plain_gateway_has_its_meaning(
    script: ScriptedHttp, step: str, expected: Answer
) -> None:
    script.script.append(step)
    assert await answer(generic(script)) == expected


@pytest.mark.parametrize("step", ["hang", "trickle_head"])
async def test_silence_after_the_request_is_in_doubt_unless_the_gateway_knows_it_again(
    script: ScriptedHttp, step: str
) -> None:
    script.script.extend([step, step])
    assert await answer(twilio(script), seconds=0.3) == Answer("ambiguous", "timeout after the request")
    assert await answer(generic(script), seconds=0.3) == Answer("later", "timeout after the request")


@pytest.mark.parametrize("step", ["trickle", "huge"])
async def test_an_answer_without_end_does_not_hold_the_sender_up(script: ScriptedHttp, step: str) -> None:
    script.script.append(step)
    assert await answer(twilio(script), seconds=0.5) == Answer("sent")
    assert script.written < 20_000_000


async def test_nobody_listening_is_unreachable_and_nothing_in_doubt() -> None:
    assert await answer(Generic("http://127.0.0.1:9/", TOKEN, "SHOP")) == Answer("unreachable", "no connection")


async def test_a_gateway_that_speaks_no_tls_gets_nothing(script: ScriptedHttp) -> None:
    gateway = Generic(f"https://127.0.0.1:{script.port}/", TOKEN, "SHOP")
    assert (await answer(gateway, seconds=2)).verdict == "unreachable"
    assert script.seen == []


async def test_a_connection_is_kept_and_one_that_was_closed_meanwhile_is_replaced(script: ScriptedHttp) -> None:
    sender = channel(twilio(script))
    assert [await sender.send(outgoing(), NOW) for _ in range(3)] == [Answer("sent")] * 3
    assert script.connections == 1
    script.cut_all()
    await asyncio.sleep(0)  # the loop hears of it
    assert await sender.send(outgoing(), NOW) == Answer("sent")
    assert script.connections == 2
    await sender.close()


async def test_several_messages_go_at_the_same_time(script: ScriptedHttp) -> None:
    script.script.append("hang")
    sender = channel(twilio(script))
    hanging = asyncio.create_task(sender.send(outgoing(), NOW))
    await script.heard.wait()
    assert await sender.send(outgoing(), NOW) == Answer("sent")
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert await sender.send(outgoing(), NOW) == Answer("sent")
    await sender.close()


async def test_a_long_text_is_cut_to_three_parts_and_keeps_its_link(script: ScriptedHttp) -> None:
    sender = channel(generic(script), "Phone X, " * 100 + "https://shop.example/o")
    await sender.send(outgoing(), NOW)
    text = json.loads(script.seen[0].body)["text"]
    assert len(split(text)) == 3
    assert text.endswith("... https://shop.example/o")
    await sender.close()


async def test_without_a_number_nothing_is_sent(script: ScriptedHttp) -> None:
    nobody = outgoing(recipient=replace(ADA, phone=None))
    assert await answer(twilio(script), nobody) == Answer("never", "no_phone", tried=False)
    assert script.seen == []


async def test_without_words_nothing_is_sent(script: ScriptedHttp) -> None:
    with pytest.raises(ValueError, match="without a text"):
        await channel(twilio(script), " \n").send(outgoing(), NOW)
    assert script.seen == []


async def test_hostile_text_stays_text(script: ScriptedHttp) -> None:
    text = "a&To=%2B491&From=x\r\nX: y \u202e{{ 7*7 }} 🙂 <script>"
    sender = channel(twilio(script), text)
    await sender.send(outgoing(), NOW)
    form = parse_qs(script.seen[0].body.decode(), strict_parsing=True)
    assert form == {"To": [PHONE], "From": ["SHOP"], "Body": [text]}
    await sender.close()


async def test_nothing_of_a_customer_or_of_our_account_is_logged_or_shown(
    script: ScriptedHttp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script.script.extend(["400\n\n" + ERROR % 21211, "cut"])
    reasons = [(await answer(gateway)).reason for gateway in (generic(script), twilio(script), generic(script))]
    shown = caplog.text + repr(reasons) + repr(twilio(script)) + repr(generic(script))
    for secret in (PHONE, PHONE[1:], TOKEN, "Phone X"):
        assert secret not in shown
    assert "canary-key" not in caplog.text + repr(reasons)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("7", timedelta(seconds=7)),
        ("0", timedelta(0)),
        (" 120 ", timedelta(minutes=2)),
        ("Mon, 02 Nov 2026 09:00:30 GMT", timedelta(seconds=30)),
        ("Monday, 02-Nov-26 09:00:30 GMT", timedelta(seconds=30)),
        ("Mon Nov  2 09:00:30 2026", timedelta(seconds=30)),
        ("Sun, 01 Nov 2026 09:00:30 GMT", timedelta(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", timedelta(hours=6)),
        ("9" * 40, timedelta(hours=6)),
        ("soon", None),
        ("-5", None),
        ("7.5", None),
        ("٧", None),
        ("", None),
        ("Mon, 02 Nov 99999 09:00:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_more_than_six_hours(value: str, wait: timedelta | None) -> None:
    assert retry_after({"retry-after": value}, datetime(2026, 11, 2, 9, 0, tzinfo=UTC)) == wait
