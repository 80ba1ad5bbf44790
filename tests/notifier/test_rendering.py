import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest

from backorder_notifier.mail import mail_bytes
from backorder_notifier.rendering import Reader, Rendered, check_templates, render
from backorder_notifier.settings import Sender
from tests.notifier.messages import NOON, cancelled, created, filled

READER = Reader("1001", "Ada", "Europe/Berlin", "https://shop.example/orders/1001?a=1&b=2", "split")
SHOP = Sender("shop@example.org", "The Shop")
DELIVERY = UUID("9a1f0000-0000-4000-8000-000000000001")


class Page(HTMLParser):
    """The words of a page, its tags and links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: list[str] = []
        self.links: list[str] = []
        self.in_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.in_style = tag == "style"
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False

    def handle_data(self, data: str) -> None:
        if not self.in_style:
            self.words += f" {data} "


def both(rendered: Rendered) -> tuple[str, str]:
    """The text part and the words of the HTML part, spaces made even."""
    return " ".join(rendered.text.split()), " ".join(Page(rendered.html).words.split())


def test_a_partly_allocated_line_names_the_short_quantity_what_ships_now_and_how_to_cancel() -> None:
    rendered = render("backorder_created", READER, [created()])
    assert rendered.subject == "Order 1001: 5 units will come later"
    text, page = both(rendered)
    assert "Ordered: 15 Ready now: 10 Still to come: 5 Expected: not known yet" in text
    assert "Ordered 15 Ready now 10 Still to come 5 Expected not known yet" in page
    for words in (text, page):
        assert "5 units of it are not in stock at the moment" in words
        assert "What is ready ships now." in words
        assert "15 units" not in words
    assert READER.order_url is not None
    assert READER.order_url in text
    assert Page(rendered.html).links == [READER.order_url]


def test_a_known_date_is_told_as_the_day_it_is_where_the_customer_is() -> None:
    late = datetime(2026, 12, 1, 23, 30, tzinfo=UTC)
    assert "Expected: December 2, 2026" in render("backorder_created", READER, [created(promised_at=late)]).text
    nowhere = Reader("1001", "Ada", "Nowhere/Atall", None, "split")
    assert "Expected: December 1, 2026" in render("backorder_created", nowhere, [created(promised_at=late)]).text


@pytest.mark.parametrize("moment", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
@pytest.mark.parametrize("timezone", ["Europe/Berlin", "Pacific/Kiritimati", "America/New_York"])
def test_a_date_at_an_end_of_the_calendar_stops_no_mail(moment: datetime, timezone: str) -> None:
    reader = Reader("1001", None, timezone, None, "split")
    assert "Expected: " in render("backorder_created", reader, [created(promised_at=moment)]).text


def test_a_wholly_waiting_line_does_not_say_that_something_ships() -> None:
    event = created(quantity=5, quantity_waiting=5, quantity_ordered=5, quantity_allocated=0)
    for words in both(render("backorder_created", READER, [event])):
        assert "ships now" not in words


def test_an_order_in_one_delivery_does_not_ship_what_is_ready() -> None:
    reader = Reader("1001", "Ada", "UTC", None, "complete")
    for words in both(render("backorder_created", reader, [created()])):
        assert "ships now" not in words
        assert "ships together with the rest" in words
        assert "contact the shop and name order 1001" in words


def test_units_that_will_neither_ship_nor_come_are_not_passed_over() -> None:
    event = created(quantity=2, quantity_waiting=2, quantity_ordered=15, quantity_allocated=10)
    assert "Cancelled or not available: 3" in render("backorder_created", READER, [event]).text


def test_lost_stock_is_said_to_be_lost() -> None:
    one = created(reason="stock_lost", quantity=1, quantity_waiting=1, quantity_allocated=14)
    for words in both(render("backorder_created", READER, [one])):
        assert "It is waiting again and keeps the place" in words
    event = created(reason="stock_lost", quantity=2, quantity_waiting=7, quantity_allocated=8)
    rendered = render("backorder_created", READER, [event])
    assert rendered.subject == "Order 1001: 2 units will come later than planned"
    for words in both(rendered):
        assert "we are sorry: 2 units of your order 1001 that we had set aside for you can't ship as planned" in words
        assert "thank you" not in words
        assert "ships now" not in words


def test_a_whole_fill_says_that_nothing_is_missing_and_a_part_what_still_is() -> None:
    whole = render("backorder_filled", READER, [filled(quantity=5, quantity_waiting=0)])
    assert whole.subject == "Order 1001: 5 units have arrived"
    for words in both(whole):
        assert "Nothing of this item is missing any more." in words
        assert "rather not wait" not in words
    part = render("backorder_filled", READER, [filled(quantity=2, quantity_waiting=3)])
    assert part.subject == "Order 1001: 2 units have arrived, 3 still to come"
    for words in both(part):
        assert "missing any more" not in words
        assert "rather not wait" in words


@pytest.mark.parametrize(("held", "words"), [("complete", "ships together with the rest"), ("preorder", "is released")])
def test_what_is_held_is_not_said_to_be_on_its_way(held: Any, words: str) -> None:
    for text in both(render("backorder_filled", READER, [filled(held=held)])):
        assert words in text
        assert "on the way" not in text
        assert "Set aside for you" in text


def test_one_unit_is_one_unit() -> None:
    assert render("backorder_filled", READER, [filled(quantity=1)]).subject == "Order 1001: 1 unit has arrived"
    assert render("backorder_cancelled", READER, [cancelled(quantity=1)]).subject == "Order 1001: 1 unit was cancelled"


def test_a_cancel_says_who_cancelled() -> None:
    for words in both(render("backorder_cancelled", READER, [cancelled()])):
        assert "as you asked, 5 units of your order 1001" in words
    for words in both(render("backorder_cancelled", READER, [cancelled(by="shop", quantity_waiting=2)])):
        assert "we are sorry: the shop has cancelled 5 units" in words
        assert "as soon as those still to come are here" in words


HOSTILE = [
    "{{ 7 * 7 }}{% for x in () %}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "evil\u202etxt.exe\u2066\u200b",
    "x" * 200,
    "🦄 ‍emoji 👩‍🚀",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", ["backorder_created", "backorder_filled", "backorder_cancelled"])
def test_hostile_text_is_literal_and_never_markup_or_a_template(kind: Any, text: str) -> None:
    reader = Reader(text, text, "UTC", None, "split")
    make: Any = {"backorder_created": created, "backorder_filled": filled, "backorder_cancelled": cancelled}[kind]
    rendered = render(kind, reader, [make(sku=text)])
    page = Page(rendered.html)
    assert not {"script", "img"} & set(page.tags)
    for words in (rendered.subject, rendered.text, rendered.html):
        assert "49" not in re.sub(r"[0-9a-f#]{6,}", "", words)
        assert not re.search(r"[\u202a-\u202e\u2066-\u2069\u200b]", words)
    if "{{" in text or "<" in text:
        assert text in rendered.text
        assert text in page.words


def parsed(reader: Reader = READER, recipient: str = "ada@example.org", order_id: str = "1001") -> EmailMessage:
    rendered = render("backorder_created", reader, [created()])
    mail = mail_bytes(DELIVERY, order_id, recipient, rendered, SHOP, NOON)
    message: EmailMessage = message_from_bytes(mail, EmailMessage, policy=policy.default)
    return message


def test_the_headers_that_people_and_machines_rely_on() -> None:
    mail = parsed()
    assert str(mail["From"]) == "The Shop <shop@example.org>"
    assert str(mail["To"]) == "ada@example.org"
    assert mail["Message-ID"] == f"<{DELIVERY}@example.org>"
    assert mail["References"] == parsed()["References"] != parsed(order_id="1002")["References"]
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Auto-Response-Suppress"] == "All"
    assert mail["Content-Language"] == "en"
    assert mail["Date"].datetime == NOON
    assert mail["List-Unsubscribe"] is None
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


def test_no_text_of_others_becomes_a_header() -> None:
    hostile = "1001\r\nBcc: eve@example.org\r\n\r\nbody"
    mail = parsed(Reader(hostile, hostile, "UTC", None, "split"), order_id=hostile)
    assert mail["Bcc"] is None
    assert "\n" not in str(mail["Subject"])
    assert set(mail.keys()) == set(parsed().keys())


@pytest.mark.parametrize(
    "order_id",
    ["=?utf-8?q?a=0D=0ABcc:_eve@example.org?=", "é=?utf-8?q?=0A=0Abody?=", "=?utf-8?b?DQpCY2M6IGV2ZUBleC5vcmc=?="],
)
def test_an_order_that_looks_like_an_encoded_word_writes_no_header(order_id: str) -> None:
    mail = parsed(Reader(order_id, None, "UTC", None, "split"), order_id=order_id)
    assert set(mail.keys()) == set(parsed().keys())
    assert str(mail["Subject"]) == f"Order {order_id}: 5 units will come later"


def test_encoded_words_are_no_longer_than_readers_take() -> None:
    rendered = render("backorder_created", Reader("é" * 60, None, "UTC", None, "split"), [created()])
    head = mail_bytes(DELIVERY, "1001", "ada@example.org", rendered, SHOP, NOON).partition(b"\r\n\r\n")[0]
    assert max(len(word) for word in head.split() if word.startswith(b"=?")) <= 75
    assert head.count(b"\n") == head.count(b"\r\n")


def test_long_and_foreign_subjects_survive_the_wire() -> None:
    mail = parsed(Reader("bestellung-ÄÖÜ-注文-🦄", None, "UTC", None, "split"))
    assert str(mail["Subject"]) == "Order bestellung-ÄÖÜ-注文-🦄: 5 units will come later"


def test_lines_are_short_enough_for_any_server() -> None:
    rendered = render("backorder_created", READER, [created(line_no=number, sku="x" * 200) for number in range(1, 200)])
    mail = mail_bytes(DELIVERY, "1001", "ada@example.org", rendered, SHOP, NOON)
    assert max(len(line) for line in mail.split(b"\r\n")) <= 998
    assert mail.isascii()


def test_every_template_compiles_and_an_undefined_name_is_an_error() -> None:
    check_templates()
    with pytest.raises(ValueError, match="without an event"):
        render("backorder_created", READER, [])


@pytest.mark.parametrize("dark", [True, False])
def test_the_page_has_what_readers_without_images_in_the_dark_or_by_ear_need(dark: bool) -> None:
    html = render("backorder_created", READER, [created()]).html
    page = Page(html)
    assert "img" not in page.tags
    assert {"h1", "th", "caption", "title"} <= set(page.tags)
    assert 'lang="en"' in html
    assert ("prefers-color-scheme: dark" if dark else 'name="viewport"') in html
