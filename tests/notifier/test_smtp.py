from datetime import timedelta

import pytest

from backorder_notifier.settings import SmtpServer
from backorder_notifier.smtp import Answer, MailServer
from tests.notifier.smtp_script import ScriptedServer

MAIL = b"Subject: hello\r\n\r\n.leading dot\r\n"


def server(script: ScriptedServer, seconds: float = 1.0) -> MailServer:
    return MailServer(SmtpServer("127.0.0.1", script.port, "none"), timedelta(seconds=seconds))


async def send(mail_server: MailServer) -> Answer:
    return await mail_server.send("shop@example.org", "ada@example.org", MAIL)


async def test_a_connection_is_kept_for_the_next_mail(script: ScriptedServer) -> None:
    mail_server = server(script)
    assert [await send(mail_server) for _ in range(3)] == [Answer("sent")] * 3
    assert script.connections == 1
    assert ".leading dot" in script.accepted[0].as_string().splitlines()
    await mail_server.close()


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("451 4.3.0 come back", Answer("later", "smtp 451 4.3.0")),
        ("450 4.2.1 at rcpt", Answer("later", "smtp 450 4.2.1")),
        ("550 5.1.1 <ada@example.org> who? at rcpt", Answer("never", "smtp 550 5.1.1")),
        ("552 too big", Answer("never", "smtp 552")),
        ("421 4.7.0 not you at rcpt", Answer("later", "smtp 421 4.7.0")),
        ("421 4.7.0 shutting down", Answer("unreachable", "smtp 421 4.7.0")),
        ("cut_at_rcpt", Answer("unreachable", "connection lost")),
        ("cut_after_data", Answer("ambiguous", "connection lost after DATA")),
        ("hang_after_data", Answer("ambiguous", "timeout after DATA")),
        ("hang", Answer("unreachable", "timeout")),
    ],
)
async def test_each_answer_has_its_meaning_and_no_address_in_its_reason(
    script: ScriptedServer, step: str, answer: Answer
) -> None:
    mail_server = server(script)
    script.script.append(step)
    assert await send(mail_server) == answer
    assert await send(mail_server) == Answer("sent")
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


async def test_a_policy_refusal_is_told_from_a_bad_address() -> None:
    assert Answer("never", "smtp 550 5.7.1").is_policy
    assert not Answer("never", "smtp 550 5.1.1").is_policy


async def test_nobody_listening_is_unreachable() -> None:
    mail_server = MailServer(SmtpServer("127.0.0.1", 9, "none"), timedelta(seconds=1))
    assert (await send(mail_server)).verdict == "unreachable"


async def test_a_server_without_starttls_gets_no_mail_in_clear_text(script: ScriptedServer) -> None:
    mail_server = MailServer(SmtpServer("127.0.0.1", script.port, "starttls"), timedelta(seconds=1))
    assert (await send(mail_server)).verdict == "unreachable"
    assert script.seen == []
