"""Messages to look at: one of them, or all in all languages with a page that shows them side by side."""

from html import escape
from pathlib import Path
from typing import Final

from backorder_notifier.errors import ConfigurationError
from backorder_notifier.kinds import KINDS, OPTIONAL, Kind
from backorder_notifier.rendering import FILES, Rendered, Templates, render
from backorder_notifier.samples import HUGE, UNSUBSCRIBE_URL, Sample, recipient, samples_of
from backorder_notifier.words import Part

_PAGE: Final = Path(__file__).parent / "gallery.html"


def render_sample(
    templates: Templates,
    kind: Kind,
    *,
    locale: str = "en",
    part: Part = "text",
    variant: str | None = None,
    shop_name: str | None = None,
) -> str:
    """One part of a sample message of a kind, the plainest one unless `variant` names another.

    Raises ConfigurationError naming the variants there are.
    """
    samples = _shown(kind)
    sample = next((sample for sample in samples if variant in {None, sample.name}), None)
    if sample is None:
        names = ", ".join(sample.name for sample in samples)
        raise ConfigurationError(f"{kind} has no variant {variant}; there are: {names}")
    text: str = getattr(_rendered(sample, templates, locale, shop_name), part)
    return text


def write_gallery(folder: Path, templates: Templates, *, shop_name: str | None = None) -> Path:
    """Writes all samples in all languages into `folder`, which is made if need be, and returns the index page."""
    folder.mkdir(parents=True, exist_ok=True)
    cards: dict[str, list[str]] = {language: [] for language in templates.languages}
    for language in templates.languages:
        for kind in KINDS:
            for number, sample in enumerate(_shown(kind), start=1):
                rendered = _rendered(sample, templates, language, shop_name)
                name = f"{language}-{kind}-{number}"
                for part, file in FILES.items():
                    path = folder / f"{name}.{part}{Path(file).suffix}" if part != "html" else folder / f"{name}.html"
                    path.write_text(getattr(rendered, part), encoding="utf-8")
                cards[language].append(_card(sample, name, rendered))
    index = folder / "index.html"
    index.write_text(_index(cards), encoding="utf-8")
    return index


def _shown(kind: Kind) -> tuple[Sample, ...]:
    return (*samples_of(kind), *(sample for sample in HUGE if sample.kind == kind))


def _rendered(sample: Sample, templates: Templates, locale: str, shop_name: str | None) -> Rendered:
    return render(
        sample.content,
        recipient(locale),
        templates,
        shop_name=shop_name,
        unsubscribe_url=UNSUBSCRIBE_URL if sample.kind in OPTIONAL else None,
        as_of=sample.as_of,
    )


def _card(sample: Sample, name: str, rendered: Rendered) -> str:
    return (
        f"<section><h3>{escape(sample.kind)}: {escape(sample.name)}</h3>"
        f'<p dir="auto"><b>{escape(rendered.subject)}</b></p>'
        f'<iframe src="{name}.html" title="{escape(sample.kind)}, {escape(sample.name)}" loading="lazy"></iframe>'
        f'<details><summary>text</summary><pre dir="auto">{escape(rendered.text)}</pre></details>'
        f"<details><summary>text message, {len(rendered.sms)} characters</summary>"
        f'<p dir="auto">{escape(rendered.sms)}</p></details></section>'
    )


def _index(cards: dict[str, list[str]]) -> str:
    page = _PAGE.read_text(encoding="utf-8")
    tabs = " ".join(f'<a href="#{language}">{language}</a>' for language in cards)
    parts = "".join(
        f'<h2 id="{language}">{language}</h2><div class="cards">{"".join(shown)}</div>'
        for language, shown in cards.items()
    )
    return page.replace("<!-- languages -->", tabs).replace("<!-- messages -->", parts)
