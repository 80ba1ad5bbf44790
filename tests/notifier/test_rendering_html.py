"""The HTML part: readable in light and dark, on a small screen, without images, by ear."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from backorder_notifier.rendering import BUILT_IN, render
from backorder_notifier.samples import SAMPLES, UNSUBSCRIBE_URL, Sample, recipient
from tests.notifier.pages import TEMPLATES, Element, Page

AA = 4.5  # WCAG 2.2, 1.4.3: text of this size
LOCALES = ["en", "de", "ar"]


def page(sample: Sample, locale: str = "en") -> Page:
    rendered = render(
        sample.content, recipient(locale), TEMPLATES, shop_name="The Shop", unsubscribe_url=UNSUBSCRIBE_URL
    )
    return Page(rendered.html)


def pages() -> Iterator[Page]:
    return (page(sample, locale) for sample in SAMPLES for locale in LOCALES)


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", as WCAG defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def dark_rules(html: str) -> dict[str, dict[str, str]]:
    """What the style sheet says of each class in the dark."""
    sheet = html.split("@media (prefers-color-scheme: dark) {")[1].split("</style>", maxsplit=1)[0]
    rules = re.findall(r"\.(\w+) \{([^}]*)\}", sheet)
    return {
        name: {part.split(":")[0].strip(): part.split(":")[1].strip() for part in body.split(";") if part.strip()}
        for name, body in rules
    }


def colours(element: Element, rules: dict[str, dict[str, str]] | None) -> tuple[str, str]:
    """Foreground and background of an element, as its own style, its class in the dark, or an ancestor says."""

    def of(name: str) -> str:
        for each in (element, *reversed(element.parents)):
            for declared in (rules or {}).get(each.attributes.get("class", ""), {}), each.style:
                if name in declared:
                    value = declared[name]
                    if rules is not None and declared is not each.style:
                        # Only that wins over the element's own style.
                        assert value.endswith("!important"), value
                    return value.removesuffix(" !important")
        raise AssertionError(f"no {name} of {element}")

    return of("color"), of("background")


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_enough_contrast(dark: bool) -> None:
    for each in pages():
        rules = dark_rules(each.html) if dark else None
        for element in each.elements:
            if element.words.strip() and any(parent.tag == "body" for parent in element.parents):
                foreground, background = colours(element, rules)
                assert contrast(foreground, background) >= AA, (element.tag, foreground, background)


def test_the_contrast_is_computed_as_others_do() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_dark_and_light_are_both_announced() -> None:
    html = page(SAMPLES[0]).html
    assert '<meta name="color-scheme" content="light dark">' in html
    assert dark_rules(html).keys() == {"page", "card", "line", "dim", "link"}


def test_nothing_is_fetched_from_anywhere() -> None:
    for each in pages():
        assert not {"img", "script", "link", "iframe", "object", "video", "form", "svg"} & {
            element.tag for element in each.elements
        }
        assert not re.search(r"url\(|@import|@font-face|http-equiv", each.html)
        for element in each.elements:
            assert not {"src", "srcset", "background", "poster"} & element.attributes.keys()


def test_the_words_carry_it_all_without_styles() -> None:
    """Some mail programs drop the style sheet: all that matters is inlined."""
    for each in pages():
        for element in each.elements:
            if element.tag in {"p", "h1", "h2", "ul", "li", "table", "th", "td", "a", "div"}:
                assert element.style, element


def test_the_page_has_what_readers_by_ear_need() -> None:
    for locale in LOCALES:
        for sample in SAMPLES:
            each = page(sample, locale)
            (root,) = each.all("html")
            assert root.attributes["lang"] == locale
            assert root.attributes["dir"] == ("rtl" if locale == "ar" else "ltr")
            (heading,) = each.all("h1")
            assert heading.words.strip()
            (title,) = each.all("title")
            assert heading.words.split()[0] in title.words
            assert len(each.all("table")) == len(each.all("caption"))
            assert len(each.all("table")) + len(each.all("li")) == len(sample.content.lines)
            assert len(each.all("h2")) == len(each.all("ul"))
            for item in each.all("li"):
                assert item.parents[-1].tag == "ul"
            for table in each.all("table"):
                assert table.words.strip()
            for cell in each.all("td"):
                (row,) = [parent for parent in cell.parents if parent.tag == "tr"]
                assert any(header.attributes["scope"] == "row" for header in each.all("th") if row in header.parents)
            for link in each.all("a"):
                # Said without what stands around it: "here" would say nothing.
                assert len(link.words.split()) >= 2 or locale == "ar", link
            # Clients drop what is outside of body: language and direction stand inside too.
            assert any(element.attributes.get("lang") == locale for element in each.elements if element.tag == "div")


def test_a_small_screen_needs_no_scrolling_sideways() -> None:
    for each in pages():
        for element in each.elements:
            for name, value in element.style.items():
                assert name not in {"width", "min-width"} or value == "100%", element
                assert name != "font-size" or int(value.removesuffix("px")) >= 13
            if element.tag in {"p", "caption", "h1", "h2", "li"}:
                # Ids of 200 characters break anywhere.
                assert (
                    any("overflow-wrap" in parent.style for parent in element.parents) or "max-width" in element.style
                )
        assert 'name="viewport" content="width=device-width' in each.html


def test_right_to_left_mirrors_every_side() -> None:
    def sides(each: Page) -> list[tuple[str, str]]:
        return [
            (name, value)
            for element in each.elements
            for name, value in element.style.items()
            if name.endswith(("left", "right")) or value in {"left", "right"}
        ]

    def mirrored(pair: tuple[str, str]) -> tuple[str, str]:
        swap = {"left": "right", "right": "left"}
        name, value = pair
        return re.sub("left|right", lambda found: swap[found[0]], name), swap.get(value, value)

    for sample in SAMPLES:
        english, arabic = sides(page(sample)), sides(page(sample, "ar"))
        assert arabic == [mirrored(pair) for pair in english]
        assert english


@pytest.mark.parametrize("name", ["_layout.html"])
def test_no_side_is_written_down_in_a_template(name: str) -> None:
    text = (BUILT_IN / name).read_text(encoding="utf-8")
    assert not re.search(r"(?<!{{ )\b(left|right)\b", text)


def test_the_title_of_a_page_is_its_subject() -> None:
    rendered: Any = render(SAMPLES[0].content, recipient("en"), TEMPLATES)
    assert Page(rendered.html).all("title")[0].words == rendered.subject
