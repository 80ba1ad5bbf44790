"""How one customer is written to: words, numbers and days in their language, zone and script, for one part."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_decimal
from markupsafe import Markup, escape

from backorder_notifier.catalogs import Language
from backorder_notifier.cleaning import isolated, visible

# Babel knows which digits a locale writes, and writes ours. Locales of other digits than these get ours throughout.
_DIGITS: Final[Mapping[str, Mapping[int, int]]] = {
    system: {ord("0") + digit: zero + digit for digit in range(10)}
    for system, zero in {
        "latn": 0x30, "arab": 0x660, "arabext": 0x6F0, "deva": 0x966, "beng": 0x9E6, "mymr": 0x1040,
    }.items()
}  # fmt: skip

Part = Literal["subject", "text", "html", "sms"]


@dataclass(frozen=True, slots=True)
class Words:
    """`locale` is of the language, but may say more: an Austrian reads German words and Austrian months."""

    language: Language
    locale: Locale
    zone: ZoneInfo
    part: Part

    def say(self, message: str, **values: Any) -> str:
        """A sentence with values in it. In HTML what is not markup already becomes harmless."""
        words = self.language.translations.gettext(message)
        return Markup(words) % values if self.part == "html" else words % values  # noqa: S704 - ours or the shop's

    def mark(self, text: str, longest: int = 200) -> str:
        """Text of others: on one line, its direction kept to itself, in HTML escaped."""
        line = visible(text, longest, ellipsis="..." if self.part == "sms" else "…") or "?"
        if self.part == "html":
            return Markup("<bdi>") + escape(line) + Markup("</bdi>")
        return isolated(line, right_to_left=self.language.direction == "rtl")

    def number(self, count: int) -> str:
        system = _system(self.locale)
        text = format_decimal(count, locale=self.locale, numbering_system=system).translate(_DIGITS[system])
        return self._plain(text) if self.part == "sms" else text

    def day_of(self, moment: datetime) -> date:
        """The calendar day where the customer is."""
        try:
            return moment.astimezone(self.zone).date()
        except OverflowError:  # at an end of the calendar, which some suppliers send for "not known"
            return moment.date()

    def day(self, moment: datetime | None) -> str | None:
        """That day in words. Short ones in a text message, but no digits and slashes from right to left."""
        if moment is None:
            return None
        short = self.part == "sms" and self.language.direction == "ltr"
        text = format_date(self.day_of(moment), format="medium" if short else "long", locale=self.locale)
        text = text.translate(_DIGITS[_system(self.locale)])
        return self._plain(text) if self.part == "sms" else text

    @staticmethod
    def _plain(text: str) -> str:
        # Narrow spaces would cost every text message two thirds of its length.
        return text.replace("\u202f", " ").replace("\u00a0", " ")


def _system(locale: Locale) -> str:
    system = locale.default_numbering_system
    return system if system in _DIGITS else "latn"


@lru_cache(maxsize=1000)  # names come from outside
def zone(name: str) -> ZoneInfo:
    """The zone of a customer, UTC where it is none we know."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
