"""How long a text message is: its alphabet, its parts, and how to cut it so that its end stays. Pure.

A text whose characters are all in the GSM 7 bit default alphabet (3GPP TS 23.038, 6.2.1) holds 160 of them; one other
character makes it UCS-2, which holds 70. A longer text is sent in parts, each paid for, of 153 or 67: the rest of a
part says which one it is.
"""

import unicodedata
from bisect import bisect_right
from typing import Final, Literal, assert_never

Alphabet = Literal["gsm-7", "ucs-2"]

_DEFAULT: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# Reached by an escape: two septets, which stay together.
_EXTENSION: Final = frozenset("\f^{}\\[~]|€")
_ONE_PART: Final[dict[Alphabet, int]] = {"gsm-7": 160, "ucs-2": 70}
_EACH_PART: Final[dict[Alphabet, int]] = {"gsm-7": 153, "ucs-2": 67}
# Typographic characters and their plain twins: one of them would more than halve what a part holds.
_TWINS: Final = {
    "‘": "'", "’": "'", "‚": ",", "‛": "'", "“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"', "‹": "'",
    "›": "'", "′": "'", "″": '"', "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-", "•": "-", "…": "...",
    "×": "x", "\u00a0": " ", "\u2007": " ", "\u2009": " ", "\u202f": " ", "\u00ad": "", "\t": " ",
}  # fmt: skip
_PLAIN: Final = str.maketrans(_TWINS)
_JOINER: Final = "\u200d"
_ATTACHED: Final = frozenset({"Mn", "Mc", "Me", "Sk"})  # belongs to the character before it


def alphabet_of(text: str) -> Alphabet:
    return "gsm-7" if all(character in _DEFAULT or character in _EXTENSION for character in text) else "ucs-2"


def plain(text: str) -> str:
    """With plain twins for typographic characters, where that makes the text GSM-7; else as it is."""
    twin = text.translate(_PLAIN)
    return twin if alphabet_of(twin) == "gsm-7" else text


def units(text: str) -> int:
    """Septets in GSM-7, UTF-16 units in UCS-2."""
    alphabet = alphabet_of(text)
    return sum(_units(character, alphabet) for character in text)


def split(text: str) -> tuple[str, ...]:
    """The parts as they are sent. Neither an escape sequence nor a surrogate pair is torn apart."""
    alphabet = alphabet_of(text)
    if sum(_units(character, alphabet) for character in text) <= _ONE_PART[alphabet]:
        return (text,)
    parts: list[str] = []
    begin = used = 0
    for position, character in enumerate(text):
        needed = _units(character, alphabet)
        if used + needed > _EACH_PART[alphabet]:
            parts.append(text[begin:position])
            begin, used = position, 0
        used += needed
    parts.append(text[begin:])
    return tuple(parts)


def fit(text: str, most_parts: int) -> str:
    """`text` in at most `most_parts`; a longer one is cut at a word, with an ellipsis, before its end.

    The end stays: the last line, or else the last word, which is where a text says where to read on (a link, an order
    number). Where it alone would take more than half of the room, it is cut like the rest.
    """
    if len(split(text)) <= most_parts:
        return text
    for separator in ("\n", " "):
        head, found, tail = text.rstrip().rpartition(separator)
        if found and 2 * units(tail) <= _room(tail, most_parts):
            return _cut(head, separator + tail, most_parts)
    return _cut(text, "", most_parts)


def _room(text: str, most_parts: int) -> int:
    alphabet = alphabet_of(text)
    return _ONE_PART[alphabet] if most_parts == 1 else most_parts * _EACH_PART[alphabet]


def _cut(head: str, tail: str, most_parts: int) -> str:
    """The longest beginning of `head` that fits with an ellipsis and `tail`: whole words, or whole characters."""

    def parts(end: int) -> int:
        return len(split(_joined(head[:end], tail)))

    # A longer beginning never takes fewer parts, so the longest that fits is found by halving.
    longest = bisect_right(range(len(head)), most_parts, key=parts) - 1
    at_word = max((end for end in range(longest + 1) if head[end].isspace()), default=0)
    # One endless word: rather most of it than nothing.
    end = at_word if 2 * at_word >= longest else _whole_character(head, max(0, longest))
    return _joined(head[:end], tail)


def _joined(head: str, tail: str) -> str:
    with_dots = f"{head.rstrip()}...{tail}"
    return with_dots if alphabet_of(with_dots) == "gsm-7" else f"{head.rstrip()}…{tail}"


def _whole_character(text: str, end: int) -> int:
    """The last place up to `end` that tears no accent from its letter, and no emoji apart."""
    while end > 0 and (_JOINER in text[end - 1 : end + 1] or unicodedata.category(text[end]) in _ATTACHED):
        end -= 1
    return end


def _units(character: str, alphabet: Alphabet) -> int:
    match alphabet:
        case "gsm-7":
            return 2 if character in _EXTENSION else 1
        case "ucs-2":
            return 2 if ord(character) > 0xFFFF else 1
        case _:
            assert_never(alphabet)
