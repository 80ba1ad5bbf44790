import asyncio
import time
from datetime import timedelta
from typing import Any

import aiosmtplib
import pytest
from aiosmtplib.protocol import SMTPProtocol

from backorder_notifier import smtp
from backorder_notifier.channel import Answer
from backorder_notifier.setting_values import SmtpServer
from backorder_notifier.smtp import MailServer
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.world import eventually

MAIL = b"Subject: hello\r\n\r\n.leading dot\r\n"


def server(
    script: ScriptedServer, seconds: float = 1.0, answer_within: float = 1.0, connections: int = 4
) -> MailServer:
    place = SmtpServer("127.0.0.1", script.port, "none")
    return MailServer(place, timedelta(seconds=seconds), timedelta(seconds=answer_within), connections)


async def send(mail_server: MailServer, recipient: str = "ada@example.org") -> Answer:
    return await mail_server.send("shop@example.org", recipient, MAIL)


async def test_a_connection_is_kept_for_the_next_mail(script: ScriptedServer) -> None:
    mail_server = server(script)
    assert [await send(mail_server) for _ in range(3)] == [Answer("sent")] * 3
    assert script.connections == 1
    assert ".leading dot" in script.accepted[0].as_string().splitlines()
    await mail_server.close()


async def test_a_process_that_stood_still_longer_than_a_try_lasts_hands_nothing_over_when_it_wakes_up(
    script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = aiosmtplib.SMTP.execute_command

    async def frozen_at_data(client: aiosmtplib.SMTP, *arguments: Any, **more: Any) -> aiosmtplib.SMTPResponse:
        answer = await asked(client, *arguments, **more)
        if arguments == (b"DATA",):
            time.sleep(1.1)  # noqa: ASYNC251  nothing of this process goes on, its timers neither
        return answer

    monkeypatch.setattr(aiosmtplib.SMTP, "execute_command", frozen_at_data)
    mail_server = server(script)
    assert await send(mail_server) == Answer("unreachable", "timeout")
    assert not script.accepted
    await mail_server.close()


async def test_a_mail_that_was_given_and_refused_late_is_not_given_to_another_connection(
    script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail_server = server(script, answer_within=10.0)
    assert await send(mail_server) == Answer("sent")
    read = SMTPProtocol.read_response

    given = False

    async def refused_late(protocol: SMTPProtocol, timeout: float | None = None) -> aiosmtplib.SMTPResponse:  # noqa: ASYNC109
        nonlocal given
        answer = await read(protocol, timeout)
        if given:
            time.sleep(1.1)  # noqa: ASYNC251  nothing of this process goes on, its timers neither
            answer = aiosmtplib.SMTPResponse(421, "4.3.2 closing")
        given = answer.code == 354
        return answer

    monkeypatch.setattr(SMTPProtocol, "read_response", refused_late)
    assert (await send(mail_server)).verdict == "unreachable"
    assert len(script.accepted) == 2, "as the server sees it: the second one was answered with 421 by this test"
    await mail_server.close()


async def test_a_mail_goes_over_the_wire_as_it_is_whatever_ends_its_lines(script: ScriptedServer) -> None:
    mail_server = server(script)
    await mail_server.send("shop@example.org", "ada@example.org", b"Subject: x\r\n\r\n..\r\n.\n.\rMAIL FROM:<x>\n\nend")
    [mail] = script.accepted
    assert str(mail.get_payload()).splitlines() == ["..", ".", ".", "MAIL FROM:<x>", "", "end"]
    await mail_server.close()


async def test_a_connection_that_was_idle_for_a_while_is_asked_whether_it_is_still_one(
    script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "_NOOP_AFTER_SECONDS", 0.0)
    mail_server = server(script)
    await send(mail_server)
    assert await send(mail_server) == Answer("sent")
    assert (script.noops, script.connections) == (1, 1)
    await mail_server.close()


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("451 4.3.0 come back", Answer("later", "smtp 451 4.3.0", whole_domain=True)),
        ("451 4.7.1 Greylisted at rcpt", Answer("later", "smtp 451 4.7.1", whole_domain=True)),
        ("450 4.2.0 <ada@example.org>: Greylisted at rcpt", Answer("later", "smtp 450 4.2.0", whole_domain=True)),
        ("450 4.2.1 too many for ada@example.org at rcpt", Answer("later", "smtp 450 4.2.1")),
        ("452 4.2.2 full at rcpt", Answer("later", "smtp 452 4.2.2")),
        ("550 5.1.1 <ada@example.org> who? at rcpt", Answer("never", "smtp 550 5.1.1", suppress=True)),
        ("550 5.1.10 null MX at rcpt", Answer("never", "smtp 550 5.1.10", suppress=True)),
        ("550 5.2.1 disabled", Answer("never", "smtp 550 5.2.1", suppress=True)),
        ("552 5.2.2 full at rcpt", Answer("never", "smtp 552 5.2.2")),
        ("550 5.7.1 we don't like you", Answer("never", "smtp 550 5.7.1", policy=True)),
        ("550 5.1.8 your domain is none at rcpt", Answer("never", "smtp 550 5.1.8", policy=True)),
        ("550 no such user at rcpt", Answer("never", "smtp 550")),
        ("554 Server 5.1.1 says no", Answer("never", "smtp 554")),
        ("550 5.1.1.9 is your address", Answer("never", "smtp 550")),
        ("552 too big", Answer("never", "smtp 552")),
        ("421 4.7.0 not you at rcpt", Answer("later", "smtp 421 4.7.0", whole_domain=True)),
        ("421 4.7.0 shutting down", Answer("unreachable", "smtp 421 4.7.0")),
        ("cut_at_rcpt", Answer("unreachable", "connection lost")),
        ("cut_at_data", Answer("unreachable", "connection lost")),
        ("cut_after_data", Answer("ambiguous", "connection lost after DATA")),
        ("hang_at_data", Answer("unreachable", "timeout")),
        ("hang_after_data", Answer("ambiguous", "timeout after DATA")),
        ("hang", Answer("unreachable", "timeout")),
    ],
)
async def test_each_answer_has_its_meaning_and_no_address_in_its_reason(
    script: ScriptedServer, step: str, answer: Answer
) -> None:
    mail_server = server(script, seconds=0.3, answer_within=0.3)
    script.script.append(step)
    assert await send(mail_server) == answer
    assert await send(mail_server) == Answer("sent")
    await mail_server.close()


async def test_a_server_may_think_about_a_mail_for_longer_than_everything_else_may_take(
    script: ScriptedServer,
) -> None:
    mail_server = server(script, seconds=0.2, answer_within=60)
    answers = script.hold_answers()
    sending = asyncio.create_task(send(mail_server))

    async def given() -> bool:
        return bool(script.seen)

    await eventually(given)
    await asyncio.wait({sending}, timeout=0.5)
    assert not sending.done()
    answers.set()
    assert await sending == Answer("sent")
    assert len(script.seen) == 1
    await mail_server.close()


async def test_no_more_connections_are_opened_than_allowed(script: ScriptedServer) -> None:
    mail_server = server(script, connections=2)
    assert await asyncio.gather(*(send(mail_server) for _ in range(10))) == [Answer("sent")] * 10
    assert script.connections == 2
    await mail_server.close()


async def test_a_refused_mail_keeps_the_connection(script: ScriptedServer) -> None:
    mail_server = server(script)
    script.script.extend(["550 5.1.1 at rcpt", "451 4.3.0"])
    for _ in range(3):
        await send(mail_server)
    assert script.connections == 1
    await mail_server.close()


async def test_a_kept_connection_that_the_server_closed_is_replaced_without_a_fuss(script: ScriptedServer) -> None:
    mail_server = server(script)
    await send(mail_server)
    script.cut_all()
    assert await send(mail_server) == Answer("sent")
    assert script.connections == 2
    await mail_server.close()


async def test_an_address_that_is_not_ascii_goes_to_a_server_that_takes_such(script: ScriptedServer) -> None:
    mail_server = server(script)
    script.extensions = ["SMTPUTF8", "8BITMIME"]
    assert await send(mail_server, "jürgen@example.org") == Answer("sent")
    assert script.recipients == ["jürgen@example.org"]
    await mail_server.close()


async def test_to_another_server_an_address_that_is_not_ascii_can_never_be_given(script: ScriptedServer) -> None:
    mail_server = server(script)
    assert await send(mail_server, "jürgen@example.org") == Answer("never", "smtputf8 not offered", tried=False)
    assert await send(mail_server) == Answer("sent")
    assert (script.connections, script.asked) == (1, ["ada@example.org"])
    await mail_server.close()


async def test_nobody_listening_is_unreachable() -> None:
    mail_server = MailServer(SmtpServer("127.0.0.1", 9, "none"), timedelta(seconds=1))
    assert (await send(mail_server)).verdict == "unreachable"


async def test_a_server_without_starttls_gets_no_mail_in_clear_text(script: ScriptedServer) -> None:
    mail_server = MailServer(SmtpServer("127.0.0.1", script.port, "starttls"), timedelta(seconds=1))
    assert (await send(mail_server)).verdict == "unreachable"
    assert script.seen == []
