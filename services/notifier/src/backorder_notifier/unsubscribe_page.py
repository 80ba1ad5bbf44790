"""What the unsubscribe link shows: one small page without scripts, images, cookies, or anything about a person."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

Outcome = Literal[
    "wanted", "unwanted", "stopped", "resumed", "unknown", "wrong_method", "not_understood", "too_large", "too_slow",
    "not_ready", "failed",
]  # fmt: skip
"""What became of a request. wanted, unwanted: how it stands (GET); stopped, resumed: what was done (POST)."""

Said = tuple[str, str]
"""Heading and sentence."""


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language."""

    direction: Literal["ltr", "rtl"]
    wanted: Said
    unwanted: Said
    stopped: Said
    resumed: Said
    unknown: Said
    later: Said
    refused: Said
    stop: str
    resume: str
    still: str


_WORDS: Final[Mapping[str, Words]] = {
    "en": Words(
        direction="ltr",
        wanted=(
            "Stop optional messages?",
            "These are reminders before a date, notices of delivery and questions about how it was.",
        ),
        unwanted=(
            "Optional messages are off",
            "You get no reminders, notices of delivery or questions about how it was.",
        ),
        stopped=("Done: optional messages are off", "A message that was just being sent may still arrive."),
        resumed=("Done: optional messages are on", "You get reminders, notices of delivery and questions again."),
        unknown=("This link is not valid", "Please use the whole link from the message."),
        later=("Not possible right now", "Nothing was changed. Please try again in a minute."),
        refused=("This was not understood", "Nothing was changed. Please use the link from the message."),
        stop="Stop optional messages",
        resume="Get optional messages again",
        still="What concerns your order itself (new dates, cancellations, shipping) you will hear in any case.",
    ),
    "de": Words(
        direction="ltr",
        wanted=(
            "Freiwillige Nachrichten abbestellen?",
            "Das sind Erinnerungen vor einem Termin, Zustellmeldungen und Fragen nach Ihrer Zufriedenheit.",
        ),
        unwanted=(
            "Freiwillige Nachrichten sind abbestellt",
            "Sie bekommen keine Erinnerungen, Zustellmeldungen und Fragen nach Ihrer Zufriedenheit.",
        ),
        stopped=(
            "Erledigt: Freiwillige Nachrichten sind abbestellt",
            "Eine Nachricht, die gerade unterwegs ist, kann noch ankommen.",
        ),
        resumed=(
            "Erledigt: Freiwillige Nachrichten sind wieder bestellt",
            "Sie bekommen wieder Erinnerungen, Zustellmeldungen und Fragen nach Ihrer Zufriedenheit.",
        ),
        unknown=("Dieser Link ist ungültig", "Bitte benutzen Sie den ganzen Link aus der Nachricht."),
        later=(
            "Das geht gerade nicht",
            "Es wurde nichts geändert. Bitte versuchen Sie es in einer Minute noch einmal.",
        ),
        refused=(
            "Das wurde nicht verstanden",
            "Es wurde nichts geändert. Bitte benutzen Sie den Link aus der Nachricht.",
        ),
        stop="Freiwillige Nachrichten abbestellen",
        resume="Freiwillige Nachrichten wieder bestellen",
        still="Was Ihre Bestellung selbst betrifft (neue Termine, Stornierungen, Versand), erfahren Sie in jedem Fall.",
    ),
    "ar": Words(
        direction="rtl",
        wanted=(
            "هل تريد إيقاف الرسائل الاختيارية؟",
            "هي رسائل التذكير قبل الموعد، وإشعارات التسليم، والأسئلة عن رضاك.",
        ),
        unwanted=("الرسائل الاختيارية متوقفة", "لن تصلك رسائل تذكير أو إشعارات تسليم أو أسئلة عن رضاك."),
        stopped=("تم إيقاف الرسائل الاختيارية", "قد تصلك رسالة كانت قيد الإرسال في هذه اللحظة."),
        resumed=("تم تفعيل الرسائل الاختيارية", "ستصلك من جديد رسائل التذكير وإشعارات التسليم والأسئلة."),
        unknown=("هذا الرابط غير صالح", "يرجى استخدام الرابط الكامل من الرسالة."),
        later=("هذا غير ممكن الآن", "لم يتغير شيء. يرجى المحاولة مرة أخرى بعد دقيقة."),
        refused=("لم نفهم هذا الطلب", "لم يتغير شيء. يرجى استخدام الرابط من الرسالة."),
        stop="إيقاف الرسائل الاختيارية",
        resume="استقبال الرسائل الاختيارية من جديد",
        still="ستصلك في كل الأحوال الرسائل التي تخص طلبك نفسه: المواعيد الجديدة والإلغاءات والشحن.",
    ),
}

_STYLE: Final = """
:root { color-scheme: light dark;
  --page: #f3f3f0; --card: #fff; --text: #1c1c1a; --line: #dcdcd6; --button: #0b57d0; --on: #fff }
@media (prefers-color-scheme: dark) {
  :root { --page: #161614; --card: #22221f; --text: #ecece8; --line: #3a3a36; --button: #9cc2ff; --on: #10233f }
}
body { margin: 0; padding: 24px 12px; background: var(--page); color: var(--text);
  font: 16px/1.5 -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; overflow-wrap: anywhere }
main { max-width: 560px; margin: 0 auto; padding: 24px 20px; box-sizing: border-box; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px }
h1 { margin: 0 0 16px; font-size: 22px; line-height: 1.3 }
p { margin: 0 0 16px }
button { min-height: 44px; padding: 8px 20px; border: 0; border-radius: 6px; background: var(--button);
  color: var(--on); font: inherit; font-weight: bold; cursor: pointer }
button:focus-visible { outline: 3px solid var(--text); outline-offset: 2px }
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final[Mapping[str, str]] = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "vary": "Accept-Language",
    "referrer-policy": "no-referrer",  # the address of this page is a secret of the customer
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
}


def page(outcome: Outcome, accept_language: str, default: str, shop_name: str | None) -> tuple[bytes, str]:
    """The page in UTF-8, and its language: what the browser likes best of those there are."""
    language = _language(accept_language, default)
    words = _WORDS[language]
    heading, sentence = _said(outcome, words)
    name = f"<p>{escape(shop_name)}</p>\n" if shop_name else ""
    text = f"""<!doctype html>
<html lang="{language}" dir="{words.direction}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<title>{escape(heading)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{name}<h1>{escape(heading)}</h1>
<p role="status">{escape(sentence)}</p>
{_form(outcome, words)}</main>
</body>
</html>
"""
    return text.encode(), language


def _said(outcome: Outcome, words: Words) -> Said:
    match outcome:
        case "wanted":
            return words.wanted
        case "unwanted":
            return words.unwanted
        case "stopped":
            return words.stopped
        case "resumed":
            return words.resumed
        case "unknown":
            return words.unknown
        case "not_ready" | "too_slow" | "failed":
            return words.later
        case "wrong_method" | "not_understood" | "too_large":
            return words.refused


def _form(outcome: Outcome, words: Words) -> str:
    """Posts to the page's own address, wherever a proxy has put it."""
    match outcome:
        case "wanted" | "resumed":
            field, label = ("List-Unsubscribe", "One-Click"), words.stop
        case "unwanted" | "stopped":
            field, label = ("resubscribe", "yes"), words.resume
        case _:
            return ""
    return f"""<p>{escape(words.still)}</p>
<form method="post">
<input type="hidden" name="{field[0]}" value="{field[1]}">
<button type="submit">{escape(label)}</button>
</form>
"""


def _language(accept_language: str, default: str) -> str:
    wishes = []
    for position, item in enumerate(accept_language[:500].split(",")):
        tag, _, rest = item.strip().partition(";")
        try:
            weight = float(rest.strip().removeprefix("q=")) if rest else 1.0
        except ValueError:
            weight = 0.0
        wishes.append((-weight, position, tag.lower().partition("-")[0]))
    for weight, _, tag in sorted(wishes):
        if tag in _WORDS and weight < 0:
            return tag
    base = default.lower().replace("_", "-").partition("-")[0]
    return base if base in _WORDS else "en"
