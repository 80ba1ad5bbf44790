"""From what is told to words: subject, text, HTML and text message. Values are data: never compiled, never markup.

Templates live in templates/<kind>/: subject.txt, text.txt, html.html, sms.txt. They run in Jinja2's sandbox; an
undefined name is an error rather than a gap in a customer's mail.
"""

import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import CodeType
from typing import Final

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.sandbox import ImmutableSandboxedEnvironment

from backorder_notifier import gsm
from backorder_notifier.catalogs import Direction, Language, choose, load_languages, named, parse
from backorder_notifier.channel import Recipient
from backorder_notifier.content import Content
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.grouping import AT_MOST, Limits
from backorder_notifier.shop import Shop, read_shop
from backorder_notifier.view import values
from backorder_notifier.words import Part, Words, zone

BUILT_IN: Final = Path(__file__).parent / "templates"
FILES: Final[Mapping[Part, str]] = {
    "subject": "subject.txt",
    "text": "text.txt",
    "html": "html.html",
    "sms": "sms.txt",
}
EVERYTHING: Final = tuple(FILES)
OF_A_MAIL: Final[tuple[Part, ...]] = ("subject", "text", "html")
WIDTH: Final = 76
LONGEST_HTML: Final = 95_000  # bytes. Gmail cuts a page off at 102 kB, and the link to unsubscribe with it
LEAST_BLOCKS: Final = 10  # a shop's own template that shows all lines is not made shorter by asking for less


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message, ready for every channel; a part that was not asked for is "". `language` is a tag such as "de"."""

    subject: str
    text: str
    html: str
    sms: str
    language: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Templates:
    """All words: compiled once at start, read only afterwards. `folder` is the shop's, whose files go before ours."""

    folder: Path | None
    shop: Shop
    languages: Mapping[str, Language]
    default_language: str
    plain: Mapping[str, ImmutableSandboxedEnvironment] = field(repr=False)
    html: Mapping[str, ImmutableSandboxedEnvironment] = field(repr=False)


def load_templates(folder: Path | None = None, *, default_locale: str = "en") -> Templates:
    """Our templates and catalogs, with those of the shop's `folder` before them.

    `default_locale` is for customers of whose language there are no words. Raises ConfigurationError.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigurationError(f"NOTIFIER_TEMPLATES: there is no folder {folder}")
    languages = load_languages(folder / "locales" if folder is not None else None)
    locale = parse(default_locale)
    default = named(locale, languages) if locale else None
    if default is None:
        raise ConfigurationError(f"NOTIFIER_LOCALE_DEFAULT: there are no words of {default_locale}")
    return Templates(
        folder,
        read_shop(folder / "shop.toml") if folder is not None else Shop(),
        languages,
        default.name,
        {name: _environment(folder, language, html=False) for name, language in languages.items()},
        {name: _environment(folder, language, html=True) for name, language in languages.items()},
    )


def render(
    content: Content,
    recipient: Recipient,
    templates: Templates,
    *,
    shop_name: str | None = None,
    unsubscribe_url: str | None = None,
    as_of: datetime | None = None,
    parts: Collection[Part] = EVERYTHING,
) -> Rendered:
    """The words of one message, in all parts or in those of a mail.

    `as_of` is when it was composed: a date from before that day is not said to be expected. `unsubscribe_url` is
    offered on optional kinds only.
    """
    written = write(
        content, recipient, templates, shop_name=shop_name, unsubscribe_url=unsubscribe_url, as_of=as_of, parts=parts
    )
    language, _ = choose(recipient.locale, templates.languages, templates.default_language)
    return Rendered(
        subject=_one_line(written["subject"]),
        text=_tidy(written["text"]),
        html=written["html"].strip() + "\n",
        sms=_one_line(written.get("sms", "")),
        language=language.name,
        direction=language.direction,
    )


def write(
    content: Content,
    recipient: Recipient,
    templates: Templates,
    *,
    shop_name: str | None,
    unsubscribe_url: str | None,
    as_of: datetime | None,
    parts: Collection[Part] = EVERYTHING,
) -> dict[Part, str]:
    """The parts as the templates leave them, with whatever spaces and line breaks.

    Where the HTML part gets too long, because titles are or there is much to say of each line, all parts show less.
    """
    limits = AT_MOST
    while True:
        written = _write(content, recipient, templates, shop_name, unsubscribe_url, as_of, limits, parts)
        length = len(written["html"].encode())
        if length <= LONGEST_HTML or limits.blocks < LEAST_BLOCKS:
            return written
        limits = limits.less(min(0.9, LONGEST_HTML / length))


def _write(
    content: Content,
    recipient: Recipient,
    templates: Templates,
    shop_name: str | None,
    unsubscribe_url: str | None,
    as_of: datetime | None,
    limits: Limits,
    parts: Collection[Part],
) -> dict[Part, str]:
    language, locale = choose(recipient.locale, templates.languages, templates.default_language)
    written: dict[Part, str] = {}
    for part, file in FILES.items():
        if part not in parts:
            continue
        words = Words(language, locale, zone(recipient.timezone), part)
        told = values(
            content,
            recipient,
            words,
            templates.shop,
            shop_name=shop_name,
            unsubscribe_url=unsubscribe_url,
            as_of=as_of,
            limits=limits,
        )
        environment = (templates.html if part == "html" else templates.plain)[language.name]
        subject = {"subject": _one_line(written["subject"])} if written else {}
        template = environment.get_template(f"{content.kind}/{file}")
        written[part] = template.render({**told, **subject})
        if part == "sms" and told["short_order_url"] and not _is_short(_one_line(written[part])):
            written[part] = template.render({**told, **subject, "short_order_url": None})
    return written


def _is_short(sms: str) -> bool:
    """One part, as it is sent and paid for; three where the script leaves only 67 characters to each."""
    plain = gsm.plain(sms)
    return len(gsm.split(plain)) <= (1 if gsm.alphabet_of(plain) == "gsm-7" else 3)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _tidy(text: str) -> str:
    """Long lines broken at spaces, no more than one empty line in a row, none at the ends."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        if line.strip():
            indent = line[: len(line) - len(line.lstrip())]
            # What has no space is never broken: it may be a link. A row that goes on is set deeper than rows, so that
            # no text of others begins one.
            lines += textwrap.wrap(
                line, WIDTH, subsequent_indent=indent * 2, break_long_words=False, break_on_hyphens=False
            )
        elif lines and lines[-1]:
            lines.append("")
    return "\n".join(lines) + "\n"


class _Compiled(BytecodeCache):
    """Templates compiled once for all languages: only the words they ask for differ."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key, bucket.checksum] = bucket.code


_COMPILED: Final = {html: _Compiled() for html in (False, True)}


def _environment(folder: Path | None, language: Language, *, html: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([FileSystemLoader(path) for path in (folder, BUILT_IN) if path is not None]),
        extensions=["jinja2.ext.i18n"],
        undefined=StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_COMPILED[html],
    )
    install: Callable[..., None] = environment.install_gettext_translations  # type: ignore[attr-defined]
    install(language.translations, newstyle=True)
    return environment
