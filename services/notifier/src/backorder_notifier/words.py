"""How one customer is written to: words, numbers and days in their language, zone and script, for one part."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_decimal
from markupsafe import Markup, escape

from backorder_notifier.catalogs import Language
from backorder_notifier.cleaning import isolated, visible

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
        line = visible(text, longest, ellipsis="..." if self.part == "sms" else "…")
        if self.part == "html":
            return Markup("<bdi>") + escape(line) + Markup("</bdi>")
        return isolated(line, right_to_left=self.language.direction == "rtl")

    def number(self, count: int) -> str:
        text = format_decimal(count, locale=self.locale, numbering_system="default")
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
        text = text.translate(_digits(str(self.locale)))
        return self._plain(text) if self.part == "sms" else text

    @staticmethod
    def _plain(text: str) -> str:
        # Narrow spaces would cost every text message two thirds of its length.
        return text.replace("\u202f", " ").replace("\u00a0", " ")


@lru_cache(maxsize=1000)
def _digits(locale: str) -> dict[int, str]:
    """Babel writes numbers in the digits of the locale and dates always in ours: they should not differ."""
    return {ord(str(digit)): format_decimal(digit, locale=locale, numbering_system="default") for digit in range(10)}


@lru_cache(maxsize=1000)  # names come from outside
def zone(name: str) -> ZoneInfo:
    """The zone of a customer, UTC where it is none we know."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
