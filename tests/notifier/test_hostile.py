"""Hostile text through the whole notifier: what customers get is literal or left out, never run, never a header."""

import asyncio
import re
from collections.abc import Sequence
from email import policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backorder_notifier.cleaning import visible
from backorder_schemas import ReleasedLine, encode
from tests.conftest import Databases
from tests.notifier.messages import (
    NOON,
    availability,
    created,
    delivered,
    filled,
    line,
    moved,
    placed,
    released,
    shipped,
    sku_policy,
)
from tests.notifier.pages import Page, even
from tests.notifier.running import Running, by_mail, html_of, rows_of, running, text_of
from tests.notifier.smtp_script import ScriptedServer, scripted_server
from tests.notifier.world import World

URL = "https://shop.example.org/orders/1?a=1&b='%22"
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted",
    "X-Auto-Response-Suppress", "MIME-Version", "Content-Type", "Content-Language",
}  # fmt: skip
ONE_CLICK = {"List-Unsubscribe", "List-Unsubscribe-Post"}
OURS = {"html", "head", "meta", "title", "style", "body", "div", "p", "h1", "h2", "table", "caption", "thead", "tbody"}
OURS |= {"tr", "th", "td", "br", "bdi", "span", "a", "ul", "li", "b", "strong"}
HIDDEN = re.compile("[\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2066\u2067\ufeff\x00-\x09\x0b-\x1f\x7f-\x9f]")

HOSTILE = [
    "plain",  # what the others are compared with
    "{{ 7777 * 7777 }}",
    "{% raw %}{{ config }}{% endraw %}{# #}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)><a href="https://evil.example/">',
    "</td></tr></table><h1>You won</h1>",
    "<!-- --> ]]> &lt;b&gt; &amp; &#x3c;",
    "%(order)s %s %d %% {0} {name} $x ${x} \\1 \\u0041",
    "=?utf-8?q?=0D=0ABcc:_eve=40evil.example?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBldmlsLmV4YW1wbGU=?=",
    "line\u2028Bcc: eve@evil.example\u2029\u2028body",
    "evil\u202etxt.exe\u2066\u2067 \u200b\u2069\u2069",
    "שלום \u202dab \u200fعربي",
    "\u202e",
    "🦄 👩\u200d🚀 🏳️\u200d🌈 \u200d \u200c",
    "\u200d",
    "Z" + "\u0351" * 180,
    "x" * 200,
    "ß" * 200,
    "Still to come: 99",
    "  Still to come: 99",
    "word " * 14 + " Still to come: 99 Expected: July 1, 2030 Ready now: 99",
    "a  Still to come: 99" * 9,
    "--",
    ".",
    "..",
    "../../../etc/passwd",
    "'; DROP TABLE orders; --",
    'o\'brien "quoted" \\ back\\slash',
    "https://evil.example/win",
    "1001: 5 units have arrived",
    "NULL",
    "0",
    "-1",
]
WITH_BREAKS = [  # allowed in texts for people: titles, carriers
    "Phone\n  Still to come: 0\n  Ready now: 99",
    "Phone\r\n\r\n--\r\nBcc: eve@evil.example\r\n.\r\nMAIL FROM:<eve@evil.example>",
    "tab\tbell\x07escape\x1b[31m\x85next\x9b\x0b\x0c",
]


def as_id(text: str, longest: int = 200) -> str:
    return re.sub("[\x00-\x1f\x7f-\x9f]", " ", text)[:longest] or "?"


def story(number: int, text: str) -> list[list[Any]]:
    """What happens to one order all of whose texts are this one, in four mails: waits, moves, ships, arrives."""
    order, sku, other = as_id(text), as_id(text, 199) + "1", as_id(text, 199) + "2"
    customer = {
        "customer_id": order, "name": as_id(text, 500) * 2 if len(text) < 200 else as_id(text, 500),
        "email": f"customer-{number}@example.org",
    }  # fmt: skip
    of_line: dict[str, Any] = {
        "sku": sku,
        "customer_id": order,
        "location": as_id(text).replace(":", "."),
        "caused_by": "x",
    }
    units = ReleasedLine(line_no=1, sku=sku, location=of_line["location"], quantity=15)
    return [
        [
            sku_policy(sku, title=text, id=f"p1 {number}"), sku_policy(other, title=text, id=f"p2 {number}"),
            availability(other, location=of_line["location"], id=f"a {number}"),
            placed(order, customer=customer, order_url=URL, id=f"placed {number}",
                   lines=(line(sku=sku, location=of_line["location"]),)),
            created(order, substitutes=(other,), id=f"v1 {number}", **of_line),
        ],
        [moved(order, 2, NOON.replace(day=25), id=f"v2 {number}", **of_line)],
        [
            filled(order, 3, id=f"v3 {number}", **of_line),
            released(order, lines=(units,), id=f"r1 {number}", caused_by="x"),
            shipped(order, as_id(text), id=f"s {number}", carrier=text, tracking_number=order, tracking_url=URL),
        ],
        [delivered(order, as_id(text), id=f"d {number}", delivered_at=NOON)],
    ]  # fmt: skip


async def tell_all(told: Running, texts: Sequence[str]) -> None:
    stories = [story(number, text) for number, text in enumerate(texts)]
    for chapter in range(4):
        await told.reads(*(message for each in stories for message in each[chapter]))
        await told.passes(hours=1)


def judge(script: ScriptedServer, texts: Sequence[str]) -> None:
    """The mails of each order say what those of the first order say, with its own texts in their place."""
    assert len(script.asked) == len(script.accepted) == len(script.recipients) == 4 * len(texts)
    plain = mails_to(script, 0)
    for number, text in enumerate(texts):
        for mail, model in zip(mails_to(script, number), plain, strict=True):
            judge_mail(mail, f"customer-{number}@example.org")
            judge_text(mail, model, text)
            judge_html(mail, model, text)


def mails_to(script: ScriptedServer, number: int) -> list[EmailMessage]:
    address = f"customer-{number}@example.org"
    return [mail for mail, to in zip(script.accepted, script.recipients, strict=True) if to == address]


def judge_mail(mail: EmailMessage, address: str) -> None:
    names = [name for name, _ in mail.items()]
    assert len(names) == len(set(names))
    assert set(names) - ONE_CLICK == HEADERS
    assert mail["To"] == address
    assert mail["From"] == "Shop <shop@example.org>"
    assert not mail.defects
    subject = str(mail["Subject"])
    assert len(subject.splitlines()) == 1
    assert not HIDDEN.search(subject)
    assert subject.startswith("Order ")
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    raw = mail.as_bytes(policy=policy.SMTP)
    assert all(len(row) <= 998 for row in raw.split(b"\r\n"))
    assert not re.search(rb"(?mi)^(bcc|cc):", raw.partition(b"\r\n\r\n")[0])


def judge_text(mail: EmailMessage, model: EmailMessage, text: str) -> None:
    body = text_of(mail)
    assert not HIDDEN.search(body)
    assert "60481729" not in body
    # No text of others makes a row, or changes one.
    assert facts(mail) == facts(model)
    assert body.count("\u2068") == body.count("\u2069")
    # The end of the message begins where we say so.
    assert body.split("\n").count("--") == 1
    shown = visible(as_id(text), 200)
    if shown:
        assert even(shown).replace(" ", "") in re.sub(r"[\s\u2068\u2069]", "", body)


def facts(mail: EmailMessage) -> list[str]:
    """The rows that are ours: not those that name an item."""
    return [row for row in rows_of(mail) if not re.match("In stock now|[0-9]+ × ", row)]


def judge_html(mail: EmailMessage, model: EmailMessage, text: str) -> None:
    page, of_model = Page(html_of(mail)), Page(html_of(model))
    assert {element.tag for element in page.elements} <= OURS
    assert [element.tag for element in page.elements if element.tag != "bdi"] == [
        element.tag for element in of_model.elements if element.tag != "bdi"
    ]
    for element in page.elements:
        assert not any(name.startswith("on") or name in {"src", "background"} for name in element.attributes)
    # The link that ends optional messages is each customer's own.
    assert [link for link in page.links if "/unsubscribe/" not in link] == [
        link for link in of_model.links if "/unsubscribe/" not in link
    ]
    assert set(page.links) <= {URL, *(link for link in page.links if link.startswith("https://told.example.org/"))}
    assert "60481729" not in page.words
    shown = visible(as_id(text), 200)
    if shown:
        assert even(shown).replace(" ", "") in re.sub(r"\s", "", page.words)


async def test_hostile_text_in_every_field_is_literal_in_every_mail(database: str, script: ScriptedServer) -> None:
    texts = [*HOSTILE, *WITH_BREAKS]
    async with running(database, {"email": by_mail(script.port)}) as told:
        await tell_all(told, texts)
        judge(script, texts)
        assert await told.is_quiet()
        await told.is_sound()
        for text in texts:
            await told.why(as_id(text))


PIECES = st.sampled_from(
    [*HOSTILE[1:], *WITH_BREAKS, "\u2028", "\u0085", "\r\n", "\n  ", ": 5", "  ", "\u202e", "\u200d"]
)
TEXTS = st.lists(
    st.lists(PIECES | st.text(max_size=12), min_size=1, max_size=4).map("".join)
    .filter(lambda text: text and "\x00" not in text).map(lambda text: text[:199]),
    min_size=12, max_size=12, unique_by=as_id,
)  # fmt: skip


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(texts=TEXTS)
def test_whatever_text_comes_in_whatever_field_it_is_literal(
    postgres: Databases, migrated: str, texts: list[str]
) -> None:
    async def tell() -> None:
        async with (
            scripted_server() as script,
            running(postgres.create_database(template=migrated), {"email": by_mail(script.port)}) as told,
        ):
            await tell_all(told, ["plain", *texts])
            judge(script, ["plain", *texts])
            await told.is_sound()

    if "plain" not in map(as_id, texts):
        asyncio.run(tell())


ADDRESSES = {  # as they come, and where mail goes then; None: nowhere
    "ada@example.org": "ada@example.org",
    "Ada.Lovelace+shop@example.org": "Ada.Lovelace+shop@example.org",
    "o'brien@example.org": "o'brien@example.org",
    "ada@exämple.org": "ada@xn--exmple-cua.org",
    "ada@example.org, eve@evil.example": None,
    "ada@example.org;eve@evil.example": None,
    "ada@example.org eve@evil.example": None,
    "Ada <ada@example.org>": None,
    "<ada@example.org>": None,
    "ada@example.org> SIZE=1": None,
    "ada@example.org>,<eve@evil.example": None,
    "ada@example.org\u2028Bcc: eve@evil.example": None,
    "=?utf-8?q?ada=0D=0ABcc:_eve?=@example.org": None,
    '"ada\\"@evil.example"@example.org': None,
    "ada(eve@evil.example)@example.org": None,
    "eve@evil.example@example.org": None,
    "@evil.example:ada@example.org": None,
    "ada@[127.0.0.1]": None,
    "ada@localhost": None,
    "ada@-example.org": None,
    "ada@example..org": None,
    "ada": None,
    "@": None,
    "a" * 65 + "@example.org": None,
    "ada@" + "x" * 300 + ".org": None,
    "{{ 7 * 7 }}@example.org": None,
    "ada\u202e@example.org": None,
    "ada\u200b@example.org": None,
    " ada@example.org": None,
    "ada%evil.example@example.org": "ada%evil.example@example.org",
}


async def test_an_address_is_one_address_or_none(database: str, script: ScriptedServer) -> None:
    async with running(database, {"email": by_mail(script.port)}) as told:
        for number, address in enumerate(ADDRESSES):
            order = f"o{number}"
            await told.reads(
                placed(order, customer={"customer_id": order, "email": address}), created(order),
            )  # fmt: skip
        await told.passes(minutes=1)
        assert sorted(script.asked) == sorted(filter(None, ADDRESSES.values()))
        assert sorted(mail["To"] for mail in script.accepted) == sorted(script.asked)
        for number, (address, goes_to) in enumerate(ADDRESSES.items()):
            states = [(state, reason) for _, _, state, reason in await told.deliveries(f"o{number}")]
            assert states == [("sent", None) if goes_to else ("withheld", "invalid_email")], address
        await told.is_sound()


@pytest.mark.parametrize(
    ("locale", "timezone"),
    [
        ("de_XX", "Europe/Nowhere"),
        ("tlh", "A//etc/passwd"),
        ("zz-ZZ-zz-zz", "America//posixrules"),
        ("en-US-u-nu-arab", "localtime"),
        ("root", "Factory"),
        ("ar-u-nu-thai", "Etc/GMT+99"),
        ("jinja-x2", "zoneinfo"),
        ("POSIX", "right/UTC"),
    ],
)
async def test_a_locale_or_zone_that_is_none_is_taken_as_the_default(
    database: str, script: ScriptedServer, locale: str, timezone: str
) -> None:
    async with running(database, {"email": by_mail(script.port)}) as told:
        await told.tells(
            placed(customer={"locale": locale, "timezone": timezone}), created(promised_at=NOON.replace(day=20)),
        )  # fmt: skip
        (mail,) = script.accepted
        assert "1001" in str(mail["Subject"])
        assert "2026" in text_of(mail) or "٢٠٢٦" in text_of(mail)
        await told.is_sound()


REFUSED = {  # where it stands in an OrderPlaced or BackorderCreated; each is against the schema
    "order_id": "1001\r\nBcc: eve@evil.example",
    "sku": "PHONE\nX-Evil: 1",
    "name": "Ada\r\nBcc: eve@evil.example",
    "email": "ada@example.org\r\nRCPT TO:<eve@evil.example>",
    "order_url": "javascript:alert(1)",
    "order_url ": 'https://shop.example.org/" onclick="alert(1)',
    "order_url  ": "https://shop.example.org/\r\nBcc: eve",
    "locale": "../../etc/passwd",
    "timezone": "../../etc/passwd",
    "phone": "+49\r\nX: 1",
    "surrogate": "\\ud800",
}


async def test_what_is_against_the_schema_is_a_dead_letter_and_tells_nobody(
    database: str, script: ScriptedServer
) -> None:
    async with running(database, {"email": by_mail(script.port)}) as told:
        records = []
        for number, (where, text) in enumerate(REFUSED.items()):
            good = encode(placed(f"o{number}", customer={"customer_id": f"c{number}"}), source="/test")
            value = good.value.decode()
            escaped = (
                text if where == "surrogate" else text.replace("\r", "\\r").replace("\n", "\\n").replace('"', '\\"')
            )
            match where.strip():
                case "order_id":
                    value = value.replace('"order_id":"o0"', f'"order_id":"{escaped}"')
                case "sku":
                    value = value.replace("PHONE-X", escaped)
                case "name" | "surrogate":
                    value = value.replace('"Ada"', f'"{escaped}"')
                case "email":
                    value = value.replace("ada@example.org", escaped)
                case field if field == "order_url":
                    value = value.replace('{"type"', f'{{"{field}":"{escaped}","type"', 1)
                case field:
                    value = value.replace('"name":"Ada"', f'"name":"Ada","{field}":"{escaped}"')
            assert value.encode() != good.value, where
            records.append(told.log.raw("orders", good.key, value.encode(), tuple(good.headers)))
            records.append(told.log.record(created(f"o{number}")))
        records += told.log.records(placed("good"), created("good"))
        await told.reads_records(records)
        await told.passes(hours=1)
        assert [str(mail["Subject"]) for mail in script.accepted] == ["Order good: 5 units will come later"]
        letters = await told.pool.fetch("SELECT reason FROM dead_letters")
        assert [row["reason"] for row in letters] == ["invalid"] * len(REFUSED)


async def test_hostile_text_is_literal_in_a_running_service_too(world: World, script: ScriptedServer) -> None:
    texts = ["plain", *(text for text in [*HOSTILE, *WITH_BREAKS] if re.search("[{<=%\u2028\n'.]", text))]
    process = await world.start()
    stories = [story(number, text)[0] for number, text in enumerate(texts)]
    for *titles_and_stock, _placed, _created in stories:
        await world.send(*titles_and_stock)
    # What is read later than the order is not in its mail, and topics are read in any order.
    await world.has_read(3 * len(texts))
    for *_, order, waits in stories:
        await world.send(order, waits)
    rows = await world.settled(len(texts), 60)
    assert {row.state for row in rows} == {"sent"}
    assert len(script.accepted) == len(texts)
    for number, text in enumerate(texts):
        (mail,) = mails_to(script, number)
        judge_mail(mail, f"customer-{number}@example.org")
        judge_text(mail, mails_to(script, 0)[0], text)
        judge_html(mail, mails_to(script, 0)[0], text)
        code, _, err = await world.command("why", "--json", "--", as_id(text)) if number % 6 == 1 else (0, "", "")
        assert code == 0, err
    assert "Traceback" not in process.log
    assert "telling_failed" not in process.log
