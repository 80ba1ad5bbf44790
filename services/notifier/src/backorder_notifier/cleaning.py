"""Text of others made fit to stand in a message: on one line, without characters that hide or turn what follows."""

import re
import unicodedata
from typing import Final
from urllib.parse import urlsplit

# Joiners that emoji and some scripts need between two letters; all other format characters (bidi overrides, zero
# widths) are dropped.
_JOINERS: Final = "\u200c\u200d"
_LONE_JOINERS: Final = re.compile(rf"(?:^|(?<=\s))[{_JOINERS}]+|[{_JOINERS}]+(?=\s|$)")
# More marks on one letter than any script needs only paint over other lines.
_MOST_MARKS: Final = 6
_FIRST_STRONG_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"
_RIGHT_TO_LEFT: Final = frozenset(("R", "AL", "AN"))
# Read the same in a text of either direction.
_EVEN: Final = re.compile(r"[0-9]+|[A-Za-z][A-Za-z0-9]*")
_LOOKS_LIKE_A_LINK: Final = re.compile(r"://|www\.|\w\.[a-z]{2,}/", re.IGNORECASE)


def visible(text: str, longest: int, *, ellipsis: str = "…") -> str:
    """Text of others on one line of at most `longest` characters: no controls, no line breaks, nothing invisible."""
    kept: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category == "Cf" and character not in _JOINERS:
            continue
        marks = marks + 1 if category[0] == "M" else 0
        if marks > _MOST_MARKS:
            continue
        kept.append(" " if category[0] in "ZC" and category != "Cf" else character)
    line = " ".join(_LONE_JOINERS.sub("", " ".join("".join(kept).split())).split())
    return line if len(line) <= longest else line[: longest - len(ellipsis)].rstrip(_JOINERS + " ") + ellipsis


def is_greetable(name: str) -> bool:
    """Whether a name may stand in a greeting. Mail programs make links of what looks like one, and a stranger who

    orders under such a name for somebody else's address would have us send it.
    """
    return not _LOOKS_LIKE_A_LINK.search(name)


def isolated(text: str, *, right_to_left: bool) -> str:
    """`text` such that its direction and that of the words around it don't mix (Unicode UAX 9, isolates)."""
    foreign = any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in text)
    if foreign or (right_to_left and not _EVEN.fullmatch(text)):
        return f"{_FIRST_STRONG_ISOLATE}{text}{_POP_ISOLATE}"
    return text


def safe_url(url: str | None) -> str | None:
    """`url` if a customer may be given it: of the web, and nothing in it that a reader can't see."""
    if url is None or len(url) > 2000 or not url.isprintable() or re.search(r"[\s<>\"]", url):
        return None
    if any(unicodedata.category(character) in {"Cf", "Cc"} for character in url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.hostname else None
