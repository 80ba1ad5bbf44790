"""Translations: .po files read and compiled in memory at start, so that none can be older than its source."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import Final, Literal

from babel import Locale, UnknownLocaleError
from babel.messages import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po

from backorder_notifier.errors import ConfigurationError

BUILT_IN: Final = Path(__file__).parent / "locales"
SOURCE_LANGUAGE: Final = "en"  # the words in the templates themselves

Direction = Literal["ltr", "rtl"]


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
    paths: dict[str, list[Path]] = {SOURCE_LANGUAGE: []}
    for directory in (BUILT_IN, *([folder] if folder is not None and folder.is_dir() else [])):
        for path in sorted(directory.glob("*.po")):
            paths.setdefault(path.stem, []).append(path)
    known = {message for path in sorted(BUILT_IN.glob("*.po")) for message in _messages(_read(path))}
    languages = (_language(name, [_read(path) for path in files], known, files) for name, files in paths.items())
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


def _messages(catalog: Catalog) -> set[str | tuple[str, ...]]:
    return {tuple(message.id) if message.pluralizable else str(message.id) for message in catalog if message.id}


def _language(name: str, catalogs: list[Catalog], known: set[str | tuple[str, ...]], files: list[Path]) -> Language:
    locale = parse(name.replace("_", "-"))
    if locale is None:
        raise ConfigurationError(f"{files[-1]}: {name} is no language known")
    translations = NullTranslations()
    translated: set[str | tuple[str, ...]] = set()
    for catalog in catalogs:
        mine = _compiled(catalog)
        mine.add_fallback(translations)
        translations = mine
        translated |= {
            tuple(message.id) if message.pluralizable else str(message.id)
            for message in catalog
            if message.id and not message.fuzzy and _is_whole(message.string)
        }
    missing = sorted(map(str, known - translated))
    if name != SOURCE_LANGUAGE and missing:
        raise ConfigurationError(f"{files[-1]}: {len(missing)} messages are not translated, among them {missing[0]}")
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
