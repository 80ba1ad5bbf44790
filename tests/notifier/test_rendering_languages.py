"""Languages: every message translated, nothing else in the catalogs, plurals, days and digits as readers write."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from babel.messages import Catalog
from babel.messages.checkers import num_plurals, python_format
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

import backorder_notifier
from backorder_notifier.catalogs import BUILT_IN, parse
from backorder_notifier.kinds import KINDS
from backorder_notifier.rendering import load_templates, render
from backorder_notifier.samples import recipient, samples_of
from backorder_notifier.words import zone
from tests.notifier.pages import TEMPLATES, Page, both, day, line, reader, said

PACKAGE = Path(backorder_notifier.__file__).parent
LANGUAGES = ["de", "ar"]
Message = str | tuple[str, ...]


def extracted() -> set[Message]:
    """What the templates and the code say, by `pybabel extract`."""
    with (BUILT_IN / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    found = extract_from_dir(PACKAGE, methods, options, keywords={**DEFAULT_KEYWORDS, "say": None})
    return {message if isinstance(message, str) else tuple(message) for _, _, message, _, _ in found}


def catalog(language: str) -> Catalog:
    with (BUILT_IN / f"{language}.po").open("rb") as file:
        return read_po(file, abort_invalid=True)


def messages(catalog: Catalog) -> Iterator[Any]:
    return (message for message in catalog if message.id)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_in_the_catalog_and_nothing_else(language: str) -> None:
    held = {message.id if isinstance(message.id, str) else tuple(message.id) for message in messages(catalog(language))}
    assert extracted() - held == set()
    assert held - extracted() == set()
    assert not catalog(language).obsolete


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated_in_every_plural_form_with_the_same_values(language: str) -> None:
    of = catalog(language)
    for message in messages(of):
        strings = [message.string] if isinstance(message.string, str) else list(message.string)
        assert all(strings), message.id
        assert not message.fuzzy, message.id
        num_plurals(of, message)
        python_format(of, message)
        wanted = set(re.findall(r"%\((\w+)\)s", message.id if isinstance(message.id, str) else message.id[1]))
        for form, string in enumerate(strings):
            # Arabic says one and two in words.
            spelt_out = {"count"} if language == "ar" and len(strings) == 6 and form in {1, 2} else set()
            assert wanted - spelt_out <= set(re.findall(r"%\((\w+)\)s", string)) <= wanted, message.id


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_english_word_is_left_in_another_language(language: str, kind: Any) -> None:
    ours = {"Post", "Phone", "Cable", "Ada", "Example", "DHL"}
    for sample in samples_of(kind):
        rendered = render(sample.content, recipient(language), TEMPLATES, as_of=sample.as_of)
        english = render(sample.content, recipient("en"), TEMPLATES, as_of=sample.as_of)
        mine, theirs = ({*re.findall(r"[A-Za-z]{4,}", words)} for words in (rendered.text, english.text))
        left = (mine & theirs) - ours - {"November", "black", "https", "shop", "example", "orders", "carrier", "PHONE"}
        assert left - {"CABLE"} == set()
        assert Page(rendered.html).all("html")[0].attributes["lang"] == rendered.language == language


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "ستصل قطعة واحدة لاحقًا"),
        (2, "ستصل قطعتان لاحقًا"),
        (3, "ستصل 3 قطع لاحقًا"),
        (10, "ستصل 10 قطع لاحقًا"),
        (11, "ستصل 11 قطعة لاحقًا"),
        (99, "ستصل 99 قطعة لاحقًا"),
        (100, "ستصل 100 قطعة لاحقًا"),
        (103, "ستصل 103 قطع لاحقًا"),
    ],
)
def test_arabic_counts_in_its_six_forms(count: int, words: str) -> None:
    rendered = said("backorder_created", line(created=count, waiting=count), locale="ar")
    assert rendered.subject == f"الطلب 1001: {words}"


def test_the_plural_form_of_arabic_is_the_one_of_its_grammar() -> None:
    """As Unicode CLDR has it: 11 to 99 take one form, 100 to 102 another."""
    plural = TEMPLATES.languages["ar"].translations.plural  # type: ignore[attr-defined]
    assert [plural(number) for number in (0, 1, 2, 3, 10, 11, 26, 99, 100, 102, 103, 111)] == [
        0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 3, 4,
    ]  # fmt: skip


def test_german_counts_in_two_forms() -> None:
    one = said("shipped", line(shipped_now=1, waiting=0), locale="de")
    many = said("shipped", line(shipped_now=2, waiting=0), locale="de")
    assert (one.subject, many.subject) == (
        "Bestellung 1001: 1 Stück ist unterwegs",
        "Bestellung 1001: 2 Stück sind unterwegs",
    )
    assert "hat unser Lager verlassen und ist auf dem Weg" in both(one)[0]
    assert "haben unser Lager verlassen und sind auf dem Weg" in both(many)[0]


@pytest.mark.parametrize(
    ("locale", "expected", "number"),
    [
        ("en", "November 20, 2026", "2,000"),
        ("en-GB", "20 November 2026", "2,000"),
        ("de", "20. November 2026", "2.000"),
        ("de_CH", "20. November 2026", "2’000"),
        ("ar", "20 نوفمبر 2026", "2,000"),
        ("ar-EG", "٢٠ نوفمبر ٢٠٢٦", "٢٬٠٠٠"),
    ],
)
def test_days_and_numbers_are_written_as_at_home_in_the_same_digits(locale: str, expected: str, number: str) -> None:
    rendered = said("backorder_created", line(created=2000, waiting=2000, ordered=2010), locale=locale)
    for words in both(rendered):
        assert expected in words
        assert number in words
    ours = rendered.sms.replace("1001?a=1&b=2", "").replace("1001", "")
    assert bool(re.search("[0-9]", ours)) == ("٢" not in ours)


def test_an_austrian_reads_austrian_months_and_german_words() -> None:
    january = datetime(2026, 1, 8, tzinfo=UTC)
    rendered = said("backorder_created", line(created=5, expected=january), locale="de-AT")
    assert "Erwartet: 8. Jänner 2026" in rendered.text
    assert rendered.language == "de"


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("de", "de"),
        ("de-AT", "de"),
        ("de_CH", "de"),
        ("DE", "de"),
        ("de-Latn-DE-1996", "de"),
        ("ar-EG", "ar"),
        ("en-US", "en"),
        ("fr", "en"),
        ("xx-YY", "en"),
        ("tlh", "en"),
        ("", "en"),
        ("-", "en"),
        ("a" * 35, "en"),
    ],
)
def test_an_unknown_language_becomes_the_shops_default(locale: str, language: str) -> None:
    assert said("shipped", line(shipped_now=1), locale=locale).language == language
    if language == "en" and not locale.startswith("en"):
        german = load_templates(default_locale="de-AT")
        sent = render(samples_of("shipped")[0].content, reader(locale=locale), german)
        assert sent.language == "de"


def test_no_name_from_outside_reaches_the_file_system() -> None:
    for name in ("../../etc/passwd", "/etc/localtime", "Europe/../../x", "\x00"):
        assert zone(name).key == "UTC"
        parse(name)


def test_arabic_is_written_from_right_to_left_and_keeps_the_direction_of_foreign_text_apart() -> None:
    rendered = said("backorder_created", line(created=5), locale="ar", name="Ada Example", order_id="1001-A")
    assert rendered.direction == "rtl"
    page = Page(rendered.html)
    assert page.all("html")[0].attributes["dir"] == "rtl"
    assert {element.style["text-align"] for element in page.all("th")} == {"right"}
    assert {element.style["text-align"] for element in page.all("td")} == {"left"}
    assert "\u2068Ada Example\u2069" in rendered.text
    assert "\u20681001-A\u2069" in rendered.subject
    for element in page.all("bdi"):
        assert element.words in {"Ada Example", "1001-A", "PHONE-X"}
    # An isolate around a link would become part of it in many mail programs.
    assert "\u2068https" not in rendered.text


def test_a_hebrew_name_in_an_english_mail_does_not_turn_the_words_around_it() -> None:
    rendered = said("shipped", line(shipped_now=1, title="טלפון (שחור)"), name="עדה")
    assert rendered.direction == "ltr"
    assert "Hello \u2068עדה\u2069," in rendered.text
    assert "\u2068טלפון (שחור)\u2069 (PHONE-X)" in rendered.text


def test_a_day_is_never_empty_in_any_language() -> None:
    for locale in ("en", "de", "ar"):
        rendered = said("promise_missed", line(), due_on=day(20), locale=locale)
        assert "20" in rendered.subject
        assert "2026" in rendered.sms
