"""Orders of many lines: what waits or has news comes first in blocks, the rest is rows, and the mail can be sent."""

import re
from typing import Any

import pytest

from backorder_notifier.content import ContentLine
from backorder_notifier.rendering import Rendered
from tests.notifier.pages import ORDER_URL, Page, both, day, line, said

GMAIL_CLIPS = 102_000


def there(number: int, units: int = 12, **changes: Any) -> ContentLine:
    """A line of which nothing is still to come."""
    given: dict[str, Any] = {"sku": f"S{number}", "title": f"PAPER CHAIN KIT {number}", "ordered": units}
    given |= {"ready": units, "expected": None, **changes}
    return line(line_no=number, waiting=0, **given)


def waits(number: int, units: int = 5, **changes: Any) -> ContentLine:
    given = {"sku": f"W{number}", "title": f"LUNCH BAG {number}", **changes}
    return line(line_no=number, waiting=units, **given)


def order_of_1000(**changes: Any) -> list[ContentLine]:
    return [waits(number, **changes) for number in range(1, 1001)]


def under(heading: str, text: str) -> list[str]:
    """The rows of the list of that heading in a text part."""
    found = re.search(rf"^{heading}\n((?:  .*\n)+)", text, re.MULTILINE)
    return [row.strip() for row in found[1].splitlines()] if found else []


def size(rendered: Rendered) -> int:
    return len(rendered.html.encode())


def test_what_waits_comes_first_and_what_is_ready_is_a_row_under_a_heading_of_its_own() -> None:
    rendered = said(
        "backorder_created", there(1, 19), waits(2, created=5), there(3, 1, title=None), waits(4, created=1)
    )
    text, page = rendered.text, both(rendered)[1]
    assert under("Ready now", text) == ["19 × PAPER CHAIN KIT 1 (S1)", "1 × S3"]
    assert text.index("LUNCH BAG 2 (W2)\n  Ordered: 15") < text.index("LUNCH BAG 4 (W4)") < text.index("Ready now\n")
    assert page.index("LUNCH BAG 2") < page.index("LUNCH BAG 4") < page.index("Ready now 19 × PAPER CHAIN KIT 1 (S1)")
    assert "Ready now\n  19" in text
    assert Page(rendered.html).all("h2")[0].words == "Ready now"


def test_lines_come_in_the_order_of_the_order_whatever_order_they_are_told_in() -> None:
    rendered = said("backorder_created", there(4), waits(3, created=1), there(2), waits(1, created=1))
    places = [rendered.text.index(name) for name in ("LUNCH BAG 1 ", "LUNCH BAG 3 ", "KIT 2 ", "KIT 4 ")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("kind", "more", "changes", "heading", "row"),
    [
        ("shipped", {"shipped": 12, "shipped_now": 12}, {}, "On the way to you", "12 × PAPER CHAIN KIT 1 (S1)"),
        ("shipped", {"shipped": 12, "shipped_now": 5}, {}, "On the way to you", "5 of 12 × PAPER CHAIN KIT 1 (S1)"),
        ("delivered", {"shipped": 12, "shipped_now": 12}, {}, "Delivered", "12 × PAPER CHAIN KIT 1 (S1)"),
        ("feedback_request", {"shipped": 12}, {}, "Delivered", "12 × PAPER CHAIN KIT 1 (S1)"),
        ("backorder_filled", {"filled": 12}, {}, "Arrived, ready to ship", "12 × PAPER CHAIN KIT 1 (S1)"),
        (
            "backorder_filled",
            {"filled": 4, "held": "complete"},
            {"delivery": "complete"},
            "Arrived, set aside for you",
            "4 of 12 × PAPER CHAIN KIT 1 (S1)",
        ),
        ("backorder_created", {}, {"delivery": "complete"}, "Ready now", "12 × PAPER CHAIN KIT 1 (S1)"),
        (
            "backorder_created",
            {"held": "complete"},
            {"delivery": "complete"},
            "Set aside for you",
            "12 × PAPER CHAIN KIT 1 (S1)",
        ),
        ("backorder_rejected", {}, {"late": True}, "Ready now", "12 × PAPER CHAIN KIT 1 (S1)"),
        ("shipped", {"shipped": 12}, {"late": True}, "Already shipped", "12 × PAPER CHAIN KIT 1 (S1)"),
    ],
)
def test_a_line_of_which_nothing_is_to_come_is_a_row_that_says_where_it_is(
    kind: Any, more: dict[str, Any], changes: dict[str, Any], heading: str, row: str
) -> None:
    if kind == "backorder_filled" and "held" in more:
        more = {**more, "ready": 4}
    rendered = said(kind, there(1, **more), **changes)
    assert under(heading, rendered.text) == [row]
    assert f"{heading} {row}" in both(rendered)[1]
    assert Page(rendered.html).all("table") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"rejected": 2, "rejected_because": "denied"},
        {"rejected": 12, "rejected_because": "denied", "ready": 0},
        {"cancelled": 2, "cancelled_by": "shop"},
        {"cancelled": 12, "cancelled_by": "customer", "ready": 0},
        {"filled": 12, "held": "preorder", "expected": day(20)},
        {"shipped": 3, "shipped_now": 3, "filled": 9},
    ],
)
def test_news_that_needs_words_keeps_its_block(changes: dict[str, Any]) -> None:
    rendered = said("shipped", there(1), there(2, **changes), late=True)
    assert "PAPER CHAIN KIT 2 (S2)\n  Ordered: 12\n" in rendered.text
    assert under("Ready now", rendered.text) == ["12 × PAPER CHAIN KIT 1 (S1)"]


@pytest.mark.parametrize("locale", ["en", "de", "ar"])
@pytest.mark.parametrize("changes", [{"shipped": 12, "shipped_now": 12}, {"cancelled": 2}, {"filled": 2}])
def test_nothing_is_said_to_be_still_to_come_where_nothing_is(locale: str, changes: dict[str, Any]) -> None:
    for words in both(said("shipped", there(1, **changes), locale=locale)):
        assert not re.search("(Still to come|Noch ausstehend|لم يصل بعد)(: | 0)", words)


def test_a_long_list_says_how_much_more_there_is() -> None:
    lines = [there(number) for number in range(1, 91)]
    rendered = said("backorder_created", waits(100, created=5), *lines)
    rows = under("Ready now", rendered.text)
    assert len(rows) == 51
    assert rows[49:] == ["12 × PAPER CHAIN KIT 50 (S50)", "and 40 more items (480 units)"]
    assert "and 40 more items (480 units)" in both(rendered)[1]
    for words in both(rendered):
        assert "All items are on the page of your order." in words
    one_more = said("backorder_created", waits(100, created=5), *lines[:50], there(51, 1)).text
    assert under("Ready now", one_more)[-1] == "and 1 more item (1 unit)"
    assert "All items" not in said("backorder_created", waits(100, created=5), *lines, order_url=None).text
    assert "All items" not in said("backorder_created", waits(100, created=5), *lines[:50]).text


@pytest.mark.parametrize(
    ("locale", "one", "many"),
    [
        ("de", "und 1 weiterer Artikel (1 Stück)", "und 2 weitere Artikel (24 Stück)"),
        ("ar", "وصنف واحد آخر (قطعة واحدة)", "وصنفان آخران (24 قطعة)"),
    ],
)
def test_what_is_left_out_is_counted_in_every_language(locale: str, one: str, many: str) -> None:
    fifty = [there(number) for number in range(1, 51)]
    assert f"  {one}\n" in said("backorder_created", *fifty, there(51, 1), locale=locale).text
    assert f"  {many}\n" in said("backorder_created", *fifty, there(51), there(52), locale=locale).text


def test_lists_share_the_rows_and_what_came_to_pass_goes_before_what_is_simply_there() -> None:
    ready = [there(number) for number in range(1, 41)]
    left = [there(number, shipped=12, shipped_now=12) for number in range(41, 81)]
    text = said("shipped", *ready, *left, late=True).text
    assert len(under("On the way to you", text)) == 40
    assert under("Ready now", text)[10:] == ["and 30 more items (360 units)"]


def test_what_waits_keeps_its_place_before_what_is_ready() -> None:
    lines = [*order_of_1000(created=5), *[there(number) for number in range(1001, 1061)]]
    rendered = said("backorder_created", *lines)
    rows = under("Still to come", rendered.text)
    assert rows
    assert "Ready now\n  60 items (720 units)\n" in rendered.text
    assert "PAPER CHAIN" not in rendered.text
    assert "PAPER CHAIN" not in rendered.html


def test_a_thousand_lines_that_wait_are_blocks_then_rows_then_a_number_and_the_page_of_the_order() -> None:
    rendered = said("backorder_created", *order_of_1000(created=5))
    page = Page(rendered.html)
    blocks, rows = len(page.all("table")), len(page.all("li")) - 1
    assert 50 <= blocks <= 100
    assert 20 <= rows <= 50
    text = rendered.text
    assert text.count("  Still to come: 5\n") == blocks
    assert "5 of 15 × LUNCH BAG" in text
    left = 1000 - blocks - rows
    for words in both(rendered):
        assert f"and {left} more items ({5 * left:,} units)" in words
        assert "All items are on the page of your order." in words
    assert ORDER_URL in text
    assert ORDER_URL in page.links


def test_a_row_of_what_waits_says_until_when() -> None:
    lines = [*order_of_1000()[:100], waits(1001, expected=day(27)), waits(1002, expected=None)]
    text = said("promise_changed", *lines).text
    assert "LUNCH BAG 1002 (W1002), expected: not known yet" in re.sub(r"\n  (?=\S* ?known)", " ", text)
    assert "November 27, 2026" in text


def test_sums_are_those_of_all_lines_shown_or_not() -> None:
    rendered = said("backorder_created", *order_of_1000(created=5))
    assert rendered.subject == "Order 1001: 5,000 units will come later"
    for words in both(rendered):
        assert "5,000 units of your order 1001 are not in stock" in words


def test_of_a_thousand_lines_that_wait_those_with_news_have_their_block() -> None:
    lines = order_of_1000()
    lines[899] = waits(900, previous=day(10), move="later", cause="supply_moved")
    lines[949] = waits(950, rejected=2, rejected_because="denied")
    text = said("promise_changed", *lines).text
    assert "LUNCH BAG 900 (W900)\n  Ordered: 15\n  Still to come: 5\n" in text
    assert "LUNCH BAG 950 (W950)\n  Ordered: 15\n  Not available: 2\n" in text
    assert text.index("LUNCH BAG 1 ") < text.index("LUNCH BAG 900 ")


def test_of_a_thousand_lines_that_wait_those_that_a_reminder_is_about_have_their_block() -> None:
    lines = order_of_1000(expected=day(27))
    lines[899] = waits(900, expected=day(20))
    text = said("promise_approaching", *lines, due_on=day(20)).text
    assert "LUNCH BAG 900 (W900)\n  Ordered: 15\n" in text


@pytest.mark.parametrize("locale", ["en", "de", "ar"])
@pytest.mark.parametrize("title", ["LUNCH BAG", "🦄" * 200, "&" * 200])
def test_no_mail_program_clips_a_mail_of_a_thousand_lines(locale: str, title: str) -> None:
    lines = order_of_1000(created=5, title=title, previous=day(10))
    rendered = said("backorder_created", *lines, locale=locale, shop_name="The Shop")
    assert size(rendered) < GMAIL_CLIPS - 2_000
    assert len(Page(rendered.html).all("table")) >= 10
    assert "W1" in rendered.text


def test_the_order_is_named_once_above_its_lines() -> None:
    for number, words in enumerate(both(said("backorder_created", waits(1, created=5)))):
        above = words[: words.index("LUNCH BAG")]
        assert "Thank you for your order. 5 units of your order 1001 are" in above
        assert above.count("1001") == 1 + number  # the page has it above its heading too
