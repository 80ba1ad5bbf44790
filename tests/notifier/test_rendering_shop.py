"""A shop's own templates and words: used before ours, and checked at start, with the file, line and name at fault."""

from pathlib import Path

import pytest

from backorder_notifier.catalogs import BUILT_IN as LOCALES
from backorder_notifier.checking import check
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.gallery import render_sample, write_gallery
from backorder_notifier.kinds import KINDS
from backorder_notifier.rendering import BUILT_IN, FILES, Rendered, load_templates, render
from backorder_notifier.samples import HUGE, SAMPLES, samples_of
from backorder_notifier.view import NAMES, values
from backorder_notifier.words import Words, zone
from backorder_schemas.examples import EXAMPLES
from tests.notifier.pages import TEMPLATES, Page, content, line, reader

PO = (
    'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n'
    '"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n'
)


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return folder


def shipped(folder: Path, locale: str = "en") -> Rendered:
    templates = load_templates(folder)
    check(templates)
    told = content("shipped", line(shipped_now=2), order_url=None)
    return render(told, reader(locale=locale), templates)


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check(load_templates(folder))
    return str(caught.value)


def test_our_own_templates_pass_the_check() -> None:
    check(TEMPLATES)


def test_a_file_of_the_shop_goes_before_ours_and_may_use_ours(tmp_path: Path) -> None:
    put(tmp_path, "shipped/subject.txt", "Yay: {{ number(shipped_now) }} of {{ order }}")
    put(tmp_path, "shipped/text.txt", '{% extends "_message.txt" %}{% block lead %}Off it goes!{% endblock %}')
    rendered = shipped(tmp_path)
    assert rendered.subject == "Yay: 2 of 1001"
    assert "Off it goes!\n\nPHONE-X\n  Ordered: 15" in rendered.text
    assert "have left our warehouse" in rendered.html


def test_a_frame_of_the_shop_is_used_by_every_kind(tmp_path: Path) -> None:
    put(tmp_path, "_closing.j2", (BUILT_IN / "_closing.j2").read_text("utf-8").replace("ships now", "!!"))
    assert "What is ready !!" in render_sample(load_templates(tmp_path), "backorder_created")


def test_a_message_of_the_shop_replaces_ours_word_by_word(tmp_path: Path) -> None:
    put(
        tmp_path,
        "locales/de.po",
        PO + 'msgid "Tracking number: %(tracking_number)s"\nmsgstr "Nr. %(tracking_number)s"\n',
    )
    put(tmp_path, "locales/en.po", PO + 'msgid "Shipped"\nmsgstr "Gone"\n')
    assert "Gone: 2" in shipped(tmp_path).text
    german = render_sample(load_templates(tmp_path), "shipped", locale="de")
    assert "Nr. 00340434161094042557" in german
    assert "Noch ausstehend: 5" in german


def test_a_language_of_the_shop_must_be_whole(tmp_path: Path) -> None:
    put(tmp_path, "locales/nl.po", PO + 'msgid "Shipped"\nmsgstr "Verzonden"\n')
    with pytest.raises(ConfigurationError, match=r"nl\.po: \d+ messages are not translated"):
        load_templates(tmp_path)


def test_a_whole_language_of_the_shop_is_used(tmp_path: Path) -> None:
    german = (LOCALES / "de.po").read_text("utf-8")
    put(tmp_path, "locales/nds.po", german.replace("Versandt", "Wegschickt"))
    templates = load_templates(tmp_path)
    check(templates)
    assert "Wegschickt: 10" in render_sample(templates, "shipped", locale="nds-DE")


def test_a_catalog_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path, "locales/de.po", "msgid nonsense\n")
    with pytest.raises(ConfigurationError, match=r"de\.po"):
        load_templates(tmp_path)


def test_a_language_that_is_none_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "locales/klingonisch.po", PO)
    with pytest.raises(ConfigurationError, match="is no language"):
        load_templates(tmp_path)


def test_a_folder_that_is_not_there_and_a_default_without_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no folder"):
        load_templates(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="NOTIFIER_LOCALE_DEFAULT: there are no words of fr"):
        load_templates(default_locale="fr")


@pytest.mark.parametrize(
    ("name", "text", "at", "why"),
    [
        ("shipped/text.txt", "Hello\n{{ oder }}", "shipped/text.txt:2", "'oder' is no variable"),
        # Said even where no sample comes by.
        ("shipped/text.txt", "x{% if late and false %}\n{{ oder }}{% endif %}", "shipped/text.txt:2", "'oder'"),
        ("_frame.j2", "\n\n{{ shopname }}", "_frame.j2:3", "'shopname'"),
        ("shipped/html.html", "{% for line in lines %}\n{{ line.skuu }}{% endfor %}", "shipped/html.html:2", "skuu"),
        ("shipped/text.txt", "a\n{% if %}", "shipped/text.txt:2", "Expected an expression"),
        ("shipped/text.txt", "a\n{% endfor %}", "shipped/text.txt:2", "endfor"),
        ("shipped/text.txt", "a\n{{ order|nofilter }}", "shipped/text.txt:2", "nofilter"),
        ("shipped/sms.txt", "{{ order.__class__.__mro__ }}", "shipped/sms.txt:1", "unsafe"),
        ("shipped/sms.txt", "{{ ''.__class__ }}", "shipped/sms.txt:1", "unsafe"),
        ("shipped/sms.txt", "a\n{{ shipments.append(1) }}", "shipped/sms.txt:2", "unsafe"),
        ("shipped/sms.txt", "{{ 1 / 0 }}", "shipped/sms.txt:1", "ZeroDivisionError"),
        ("shipped/text.txt", '{% include "_no.j2" %}', "shipped/text.txt:1", "_no.j2"),
        ("shipped/subject.txt", "  \n ", "shipped/subject.txt", "is empty"),
        ("shipped/subject.txt", "{% if late %}Late{% endif %}", "shipped/subject.txt", "is empty"),
        ("shipped/subject.txt", "one\ntwo", "shipped/subject.txt", "more than one line"),
        ("shipped/html.html", "", "shipped/html.html", "is empty"),
        ("shiped/text.txt", "x", "shiped/text.txt", "is no template of a message"),
        ("shipped/body.txt", "x", "shipped/body.txt", "is no template of a message"),
        ("shop.toml", 'feedback_url = "javascript:x"', "shop.toml", "feedback_url"),
        ("shop.toml", 'contakt = "x"', "shop.toml", "contakt"),
        ("shop.toml", "contact = x", "shop.toml", "line 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, name: str, text: str, at: str, why: str) -> None:
    said = refusal(put(tmp_path, name, text))
    assert str(tmp_path / at) in said
    assert why in said


def test_what_is_wrong_in_every_language_is_said_once(tmp_path: Path) -> None:
    put(tmp_path, "shipped/sms.txt", "{{ 1 / 0 }}")
    assert len(refusal(tmp_path).splitlines()) == 1


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    put(tmp_path, "shipped/text.txt", "{{ one }}")
    put(tmp_path, "delivered/text.txt", "{{ two }}")
    assert len(refusal(tmp_path).splitlines()) == 2


def test_a_template_can_not_read_files_or_change_what_others_see(tmp_path: Path) -> None:
    put(tmp_path, "shipped/text.txt", '{% include "../../etc/passwd" %}')
    assert "etc/passwd" in refusal(tmp_path)


def test_what_the_shop_says_of_itself_is_in_every_mail(tmp_path: Path) -> None:
    put(
        tmp_path,
        "shop.toml",
        'contact = "help@shop.example"\nfeedback_url = "https://shop.example/rate"\n'
        'imprint = ["Shop Ltd <b>", "Berlin"]',
    )
    templates = load_templates(tmp_path)
    check(templates)
    told = content("backorder_created", line(created=5), order_url=None)
    rendered = render(told, reader(), templates)
    assert "contact help@shop.example and name order" in rendered.text
    assert "\nShop Ltd <b>\nBerlin\n" in rendered.text
    assert "Shop Ltd &lt;b&gt;" in rendered.html
    asked = render(content("feedback_request"), reader(), templates)
    assert "https://shop.example/rate" in Page(asked.html).links
    assert asked.sms.endswith("How was it? https://shop.example/rate")
    assert "reply to this message" not in asked.text


def test_what_templates_may_name_is_what_they_get() -> None:
    words = Words(TEMPLATES.languages["en"], TEMPLATES.languages["en"].locale, zone("UTC"), "text")
    told = values(
        samples_of("shipped")[0].content,
        reader(),
        words,
        TEMPLATES.shop,
        shop_name=None,
        unsubscribe_url=None,
        as_of=None,
    )
    assert told.keys() | {"subject"} == NAMES


def test_every_kind_has_every_part() -> None:
    for kind in KINDS:
        for file in FILES.values():
            assert (BUILT_IN / kind / file).is_file()


def test_samples_are_of_every_kind_and_named_once() -> None:
    assert {sample.kind for sample in SAMPLES} == set(KINDS)
    assert len({(sample.kind, sample.name) for sample in SAMPLES}) == len(SAMPLES)
    ids = {getattr(message, "order_id", None) for message in EXAMPLES}
    assert {sample.content.order_id for sample in SAMPLES} <= ids


def test_the_gallery_shows_every_kind_in_every_language(tmp_path: Path) -> None:
    index = write_gallery(tmp_path / "a" / "b", TEMPLATES, shop_name="The Shop")
    page = index.read_text("utf-8")
    for language in ("en", "de", "ar"):
        for sample in SAMPLES:
            number = samples_of(sample.kind).index(sample) + 1
            name = f"{language}-{sample.kind}-{number}.html"
            assert f'src="{name}"' in page
            html = (index.parent / name).read_text("utf-8")
            assert f'lang="{language}"' in html
    assert len(list(index.parent.iterdir())) == 1 + 4 * 3 * (len(SAMPLES) + len(HUGE))
    Page(page)


def test_one_sample_can_be_looked_at_and_a_variant_that_is_none_names_those_there_are() -> None:
    assert render_sample(TEMPLATES, "shipped", part="subject").startswith("Order 1001: 10 units are on their way")
    assert "5 units" in render_sample(TEMPLATES, "shipped", part="sms", variant="all, with a new date of another line")
    with pytest.raises(ConfigurationError, match="no variant x; there are: the rest waits, all"):
        render_sample(TEMPLATES, "shipped", variant="x")
