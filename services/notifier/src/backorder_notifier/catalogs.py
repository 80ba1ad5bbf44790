"""Translations: .po files read and compiled in memory at start, so that none can be older than its source."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import Final, Literal

from babel import Locale, UnknownLocaleError
from babel.messages import Catalog
from babel.messages.catalog import Message as CatalogMessage
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po

from backorder_notifier.errors import ConfigurationError

BUILT_IN: Final = Path(__file__).parent / "locales"
SOURCE_LANGUAGE: Final = "en"  # the words in the templates themselves

Direction = Literal["ltr", "rtl"]
Message = str | tuple[str, ...]
"""A text to translate, or its singular and plural."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language that messages can be written in. `name` is a tag for `lang` and Content-Language: "pt-BR"."""

    name: str
    locale: Locale
    translations: NullTranslations = field(repr=False)

    @property
    def direction(self) -> Direction:
        return "rtl" if self.locale.character_order == "right-to-left" else "ltr"


def load_languages(folder: Path | None) -> dict[str, Language]:
    """All languages by name: ours, and those of the shop's `folder`, whose messages go before ours.

    Raises ConfigurationError naming the file for one that can't be read or leaves something untranslated.
    """
    files: dict[str, list[tuple[Path, Catalog]]] = {SOURCE_LANGUAGE: []}
    known: set[Message] = set()
    for path in sorted(BUILT_IN.glob("*.po")):
        catalog = _read(path)
        files.setdefault(path.stem, []).append((path, catalog))
        known |= {_id(message) for message in catalog if message.id}
    if folder is not None and folder.is_dir():
        for path in sorted(folder.glob("*.po")):
            files.setdefault(path.stem, []).append((path, _read(path)))
    languages = (_language(name, catalogs, known) for name, catalogs in files.items())
    return {language.name: language for language in languages}


def choose(locale: str, languages: Mapping[str, Language], default: str) -> tuple[Language, Locale]:
    """The language to write to somebody of `locale` ("de-AT", "pt_BR"), and the locale of numbers and dates in it."""
    wished = parse(locale)
    language = named(wished, languages) if wished else None
    if wished is None or language is None:
        return languages[default], languages[default].locale
    return language, wished


def named(locale: Locale, languages: Mapping[str, Language]) -> Language | None:
    """The language of a locale, the nearest if there are several: of pt_BR "pt-BR" rather than "pt"."""
    return next((languages[tag] for tag in _tags(locale) if tag in languages), None)


def parse(locale: str) -> Locale | None:
    """The locale that a tag names, as far as it is known: of "de-XX-1996" German."""
    parts = [part for part in locale.replace("-", "_").split("_") if part]
    for length in range(min(len(parts), 3), 0, -1):
        try:
            return Locale.parse("_".join(parts[:length]))
        except (ValueError, UnknownLocaleError):
            continue
    return None


def _tags(locale: Locale) -> Iterable[str]:
    language, script, territory = locale.language, locale.script, locale.territory
    yield "-".join(part for part in (language, script, territory) if part)
    if script:
        yield f"{language}-{script}"
    if territory:
        yield f"{language}-{territory}"
    yield language


def _read(path: Path) -> Catalog:
    try:
        with path.open("rb") as file:
            # Without a locale: the file's own Plural-Forms count.
            return read_po(file, abort_invalid=True)
    except (OSError, UnicodeDecodeError, ValueError, PoFileError) as error:
        raise ConfigurationError(f"{path}: can't be read as a catalog: {error}") from None


def _id(message: CatalogMessage) -> Message:
    return tuple(message.id) if isinstance(message.id, list | tuple) else str(message.id)


def _language(name: str, catalogs: list[tuple[Path, Catalog]], known: set[Message]) -> Language:
    locale = parse(name)
    if locale is None:
        raise ConfigurationError(f"{catalogs[-1][0]}: {name} is no language known")
    translations = NullTranslations()
    missing = set(known)
    for _, catalog in catalogs:
        mine = _compiled(catalog)
        mine.add_fallback(translations)
        translations = mine
        missing -= {_id(each) for each in catalog if each.id and not each.fuzzy and _is_whole(each.string)}
    if name != SOURCE_LANGUAGE and missing:
        first = min(map(str, missing))
        raise ConfigurationError(f"{catalogs[-1][0]}: {len(missing)} messages are not translated, among them {first}")
    return Language("-".join(name.split("_")), locale, translations)


def _is_whole(string: str | tuple[str, ...] | list[str] | None) -> bool:
    if not string:
        return False
    return isinstance(string, str) or all(string)


def _compiled(catalog: Catalog) -> NullTranslations:
    buffer = io.BytesIO()
    write_mo(buffer, catalog)
    buffer.seek(0)
    return GNUTranslations(buffer)
