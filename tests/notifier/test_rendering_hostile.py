"""Text of others is literal or left out: never a template, markup, header, or something that hides what follows."""

import re
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backorder_notifier.cleaning import is_greetable, safe_url, visible
from backorder_notifier.content import Alternative, Content, ContentLine, Move, Shipment
from backorder_notifier.kinds import KINDS
from backorder_notifier.lines import arrived
from backorder_notifier.rendering import render
from backorder_schemas.outputs import PromiseCause
from tests.notifier.pages import TEMPLATES, Page, both, content, even, line, reader, said

HOSTILE = [
    "{{ 7 * 7 }}{% for x in () %}{# #}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "%(order)s %s %% {0} $x",
    "evil\u202etxt.exe\u2066\u200b\u2069",
    "a\r\nBcc: eve@example.org\r\n\r\nbody\x00\x85\u2028",
    "x" * 200,
    "🦄 \u200demoji 👩\u200d🚀 \u200d",
    "Z" + "\u0351" * 150,
    "&lt;b&gt; &amp; <!-- --> ]]>",
    "\ufeff\u2060\u00ad",
]
# Elements of our own pages.
OURS = {"html", "head", "meta", "title", "style", "body", "div", "p", "h1", "table", "caption", "tr", "th", "td", "br"}
OURS |= {"bdi", "span", "a", "tbody", "h2", "ul", "li"}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("locale", ["en", "ar"])
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_text_is_literal_and_never_markup_or_a_template(kind: Any, locale: str, text: str) -> None:
    told = content(
        kind,
        line(
            sku=text, title=text, created=1, shipped=1, shipped_now=1, alternatives=(Alternative(sku=text, title=text),)
        ),
        line(line_no=2, sku=text),
        order_id=text,
        shipments=(Shipment(shipment_id=text, carrier=text, tracking_number=text),),
        due_on=datetime(2026, 11, 20, tzinfo=UTC),
    )
    rendered = render(told, reader(name=text, locale=locale), TEMPLATES, shop_name=text)
    page = Page(rendered.html)
    assert {element.tag for element in page.elements} <= OURS
    assert "49" not in re.sub(r"[0-9a-f#]{6,}", "", rendered.text + rendered.html + rendered.sms)
    for part in (rendered.subject, rendered.sms):
        assert len(part.splitlines()) == 1
    for part in (rendered.subject, rendered.text, rendered.html, rendered.sms):
        assert not re.search(r"[\u202a-\u202e\u2066\u2067\u200b\u2028\ufeff\x00-\x09\x0b-\x1f\x7f-\x9f]", part)
        assert part.count("\u2068") == part.count("\u2069")
    shown = visible(text, 200)
    if shown:
        assert even(shown) in even(rendered.text)
        assert even(shown) in both(rendered)[1]


def test_what_can_not_be_seen_is_left_out() -> None:
    assert visible("evil\u202etxt.exe", 200) == "eviltxt.exe"
    assert visible("a\r\n\tb\x00c", 200) == "a b c"
    assert visible("👩\u200d🚀 \u200d", 200) == "👩\u200d🚀"
    assert visible("\u200d a \u200c b", 200) == "a b"
    assert visible("می\u200cخواهم", 200) == "می\u200cخواهم"
    assert visible("Z" + "\u0351" * 150, 200) == "Z" + "\u0351" * 6
    assert visible("\u200d \u200d", 200) == ""
    assert visible("x" * 201, 200) == "x" * 199 + "…"
    assert visible("x" * 41, 40, ellipsis="...") == "x" * 37 + "..."


def test_a_name_of_which_nothing_can_be_seen_leaves_no_gap() -> None:
    rendered = said("shipped", line(shipped_now=1, sku="\u200d", title=None), order_id="\u2060", name="\u200b")
    assert rendered.subject.startswith("Order ?: ")
    assert "\n?\n  Ordered: 15" in rendered.text
    assert rendered.text.startswith("Hello,\n")


def test_a_very_long_order_id_leaves_room_for_the_subject() -> None:
    rendered = said("shipped", line(shipped_now=3, waiting=0), order_id="x" * 200)
    assert rendered.subject == f"Order {'x' * 59}…: 3 units are on their way"
    assert "x" * 200 in rendered.text
    assert "x" * 41 not in rendered.sms


@pytest.mark.parametrize("name", ["Win at https://evil.example", "www.evil.example", "x evil.example/win", "://"])
def test_a_name_that_is_a_link_greets_nobody(name: str) -> None:
    """Or we would send a stranger's link to whomever the order's address belongs to."""
    assert not is_greetable(name)
    rendered = said("backorder_created", line(created=5), name=name)
    assert rendered.text.startswith("Hello,\n")
    assert "evil" not in rendered.html


@pytest.mark.parametrize("name", ["Ada M. Lovelace", "Dr. Ada", "Ada/Charles", "O'Brien & Sons", "ada.l"])
def test_an_ordinary_name_greets(name: str) -> None:
    assert said("backorder_created", line(created=5), name=name).text.startswith(f"Hello {name},\n")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "https://",
        "https://shop.example/\u202egpj",
        "https://shop.example/a b",
        'https://shop.example/"onclick="x',
        "https://shop.example/\r\nBcc: eve@example.org",
        "https://[::1",
        "//shop.example",
        "https://shop.example/" + "x" * 2000,
        None,
    ],
)
def test_an_address_that_is_none_of_the_web_is_no_link(url: str | None) -> None:
    assert safe_url(url) is None
    parcel = Shipment(shipment_id="S", tracking_url=url, tracking_number="T")
    rendered = said("shipped", line(shipped_now=1), order_url=url, shipments=(parcel,))
    assert Page(rendered.html).links == []
    for words in both(rendered):
        assert "contact the shop" in words
        assert "javascript" not in words


texts = st.text(max_size=40) | st.sampled_from(HOSTILE)
ids = texts.filter(bool)
units = st.integers(0, 30) | st.sampled_from([999, 1_000, 1_000_000_000])
moments = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)]
)
urls = st.none() | texts | st.just("https://shop.example/orders/1001")
alternatives = st.builds(Alternative, sku=ids, title=st.none() | texts)
lines = st.builds(
    ContentLine,
    line_no=st.integers(1, 1000),
    sku=ids,
    title=st.none() | texts,
    ordered=st.none() | units,
    waiting=units,
    ready=st.none() | units,
    shipped=units,
    held=st.sampled_from([None, "complete", "preorder"]),
    preorder=st.booleans(),
    expected=st.none() | moments,
    previous=st.none() | moments,
    move=st.none() | st.sampled_from(get_args(Move)),
    cause=st.none() | st.sampled_from(get_args(PromiseCause)),
    created=units,
    lost=units,
    filled=units,
    cancelled=units,
    cancelled_by=st.sampled_from([None, "customer", "shop"]),
    rejected=units,
    rejected_because=st.sampled_from([None, "not_accepted", "denied", "waiting_limit", "max_wait"]),
    shipped_now=units,
    alternatives=st.lists(alternatives, max_size=2).map(tuple),
)
shipments = st.builds(
    Shipment,
    shipment_id=ids,
    carrier=st.none() | texts,
    tracking_number=st.none() | texts,
    tracking_url=urls,
    delivered_at=st.none() | moments,
)
contents = st.builds(
    Content,
    kind=st.sampled_from(KINDS),
    order_id=ids,
    delivery=st.sampled_from(["split", "complete"]),
    order_url=urls,
    late=st.booleans(),
    lines=st.lists(lines, max_size=3).map(tuple),
    shipments=st.lists(shipments, max_size=2).map(tuple),
    due_on=st.none() | moments,
)
readers = st.builds(
    reader,
    name=st.none() | texts,
    locale=st.sampled_from(["en", "de", "ar", "ar-EG", "de-AT", "zz"]) | texts,
    timezone=st.sampled_from(["UTC", "Pacific/Kiritimati", "America/New_York"]) | texts,
)


@settings(max_examples=150, deadline=None)
@given(told=contents, to=readers, shop_name=st.none() | texts, as_of=st.none() | moments, url=urls)
@example(Content(kind="promise_missed", order_id="\u200d"), reader(name=" "), " ", None, None)
def test_whatever_a_message_tells_it_can_be_put_into_words(
    told: Content, to: Any, shop_name: str | None, as_of: datetime | None, url: str | None
) -> None:
    rendered = render(told, to, TEMPLATES, shop_name=shop_name, unsubscribe_url=url, as_of=as_of)
    for part in (rendered.subject, rendered.sms):
        assert len(part.splitlines()) == 1
        assert part.strip() == part
    page = Page(rendered.html)
    assert {element.tag for element in page.elements} <= OURS
    assert all(link.startswith(("https://", "http://")) for link in page.links)
    for element in page.elements:
        assert not any(name.startswith("on") or name in {"src", "background"} for name in element.attributes)
    if told.kind != "feedback_request":
        digits = str.maketrans({0x660 + digit: str(digit) for digit in range(10)} | dict.fromkeys(map(ord, ",.٬’"), ""))
        numbers = set(re.findall(r"\d+", rendered.text.translate(digits)))
        shown = set(re.findall(r"\d+", page.words.translate(digits)))
        for each in told.lines:
            for number in (each.waiting, arrived(each), each.cancelled, each.rejected, each.shipped_now, each.ordered):
                if number:
                    assert str(number) in numbers
                    assert str(number) in shown
