"""What is in a mail besides its words."""

from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from backorder_notifier.channel import Answer, Outgoing, Recipient
from backorder_notifier.contacts import wire_address
from backorder_notifier.content import Content
from backorder_notifier.kinds import KINDS, OPTIONAL, Kind
from backorder_notifier.mail import MailChannel, MailWords, mail_bytes, unsubscribe_url
from backorder_notifier.setting_values import Sender, SmtpServer
from backorder_notifier.smtp import MailServer
from tests.notifier.messages import NOON
from tests.notifier.smtp_script import ScriptedServer

SHOP = Sender("shop@example.org", "The Shop")
TOKEN = "abcdefghijklmnopqrstuv"
PUBLIC_URL = "https://notifications.a-shop-with-a-rather-long-name.example.org/customers"


def outgoing(kind: Kind = "feedback_request", order_id: str = "1001", **recipient: Any) -> Outgoing:
    customer = {"customer_id": "c-7", "email": "ada@example.org", "phone": None, "name": "Ada", "locale": "en"}
    return Outgoing(
        delivery_id=UUID(int=7),
        message_id=UUID(int=8),
        order_id=order_id,
        content=Content(kind=kind, order_id=order_id),
        recipient=Recipient(**customer | {"timezone": "UTC", "unsubscribe_token": TOKEN} | recipient),
        about=("1001/v1",),
        composed_at=NOON,
    )


def words(subject: str = "Order 1001", language: str = "en") -> MailWords:
    return SimpleNamespace(subject=subject, text="Hello, Ada\n", html="<p>Hello</p>", language=language)


def sent(
    each: Outgoing | None = None,
    says: MailWords | None = None,
    sender: Sender = SHOP,
    public_url: str | None = PUBLIC_URL,
) -> tuple[bytes, EmailMessage]:
    each = each or outgoing()
    recipient = wire_address(each.recipient.email or "")
    url = unsubscribe_url(each, public_url)
    mail = mail_bytes(each.delivery_id, each.order_id, recipient, says or words(), sender, NOON, unsubscribe_url=url)
    return mail, message_from_bytes(mail, EmailMessage, policy=policy.default)


def test_the_headers_that_people_and_machines_rely_on() -> None:
    _, mail = sent(says=words(language="de"))
    assert str(mail["From"]) == "The Shop <shop@example.org>"
    assert str(mail["To"]) == "ada@example.org"
    assert mail["Message-ID"] == f"<{UUID(int=7)}@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Auto-Response-Suppress"] == "All"
    assert mail["Content-Language"] == "de"
    assert mail["Date"].datetime == NOON
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


def test_all_mails_of_an_order_are_one_thread() -> None:
    first, second = (sent(replace(outgoing(), delivery_id=UUID(int=number)))[1] for number in (1, 2))
    assert first["Message-ID"] != second["Message-ID"]
    assert first["References"] == second["References"] == first["In-Reply-To"]
    assert sent(outgoing(order_id="1002"))[1]["References"] != first["References"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_click_ends_what_is_optional_and_nothing_else(kind: Kind) -> None:
    data, mail = sent(outgoing(kind))
    url = f"{PUBLIC_URL}/unsubscribe/{TOKEN}"
    if kind in OPTIONAL:
        # In one piece, on one line, in no encoding: so that mail programs show a button.
        assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in data
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    else:
        assert mail["List-Unsubscribe"] is None
        assert mail["List-Unsubscribe-Post"] is None
        assert TOKEN.encode() not in data


@pytest.mark.parametrize(("token", "public_url"), [(None, PUBLIC_URL), (TOKEN, None)])
def test_without_a_page_to_go_to_there_is_no_button(token: str | None, public_url: str | None) -> None:
    _, mail = sent(outgoing(unsubscribe_token=token), public_url=public_url)
    assert mail["List-Unsubscribe"] is None


@pytest.mark.parametrize(
    "hostile",
    [
        "1001\r\nBcc: eve@example.org\r\n\r\nbody",
        "=?utf-8?q?a=0D=0ABcc:_eve@example.org?=",
        "é=?utf-8?q?=0A=0Abody?=",
        "=?utf-8?b?DQpCY2M6IGV2ZUBleC5vcmc=?=",
        "x" * 5000,
        "\u202eevil\u0000\u0085\u2028",
        "🦄" * 200,
    ],
)
def test_no_text_of_others_becomes_a_header(hostile: str) -> None:
    subject = " ".join(hostile.split())
    data, mail = sent(outgoing(order_id=hostile, name=hostile), words(subject))
    assert set(mail.keys()) == set(sent()[1].keys())
    assert data.isascii()
    assert max(len(line) for line in data.split(b"\r\n")) <= 998
    assert data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")


@pytest.mark.parametrize("subject", ["Bestellung ÄÖÜ: 注文 🦄 " * 5, "é" * 60, "طلبك رقم ١٠٠١"])
def test_foreign_subjects_survive_the_wire_in_words_that_readers_take(subject: str) -> None:
    data, mail = sent(says=words(subject.strip()))
    assert str(mail["Subject"]) == subject.strip()
    head = data.partition(b"\r\n\r\n")[0]
    assert max(len(word) for word in head.split() if word.startswith(b"=?")) <= 75


def test_a_shop_whose_name_is_not_ascii_is_shown_by_its_name() -> None:
    data, mail = sent(sender=Sender("shop@example.org", 'Bücher, "Müller" & Söhne'))
    assert mail["From"].addresses[0].display_name == 'Bücher, "Müller" & Söhne'
    assert data.isascii()


def test_a_domain_of_any_script_goes_out_in_its_ascii_form() -> None:
    data, mail = sent(outgoing(email="ada@bücher.example"))
    assert str(mail["To"]) == "ada@xn--bcher-kva.example"
    assert data.isascii()


def test_a_mailbox_whose_name_is_not_ascii_is_written_as_it_is() -> None:
    data, mail = sent(outgoing(email="jürgen@example.org"), words("Grüße"))
    assert "\r\nTo: jürgen@example.org\r\n".encode() in data
    assert str(mail["Subject"]) == "Grüße"


@pytest.mark.parametrize(
    ("email", "answer"),
    [
        (None, Answer("never", "no_email", tried=False)),
        ("nobody", Answer("never", "invalid_email", tried=False)),
        ("ada@example.org>\r\nRCPT TO:<eve@example.org", Answer("never", "invalid_email", tried=False)),
        ("jürgen@example.org", Answer("never", "smtputf8 not offered", tried=False)),
        ("ada@example.org", Answer("sent")),
    ],
)
async def test_where_no_mail_can_go_none_is_tried(script: ScriptedServer, email: str | None, answer: Answer) -> None:
    server = MailServer(SmtpServer("127.0.0.1", script.port, "none"), timedelta(seconds=2))
    channel = MailChannel(server, SHOP, lambda _: words())
    assert await channel.send(outgoing(email=email), NOON) == answer
    assert script.asked == (["ada@example.org"] if answer.tried else [])
    await channel.close()
