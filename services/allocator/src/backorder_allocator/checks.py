"""What an audit says of one rule: how often it was looked at, how often it was broken, and of what."""

from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 5

About = dict[str, Any]
"""What a violation is about, for whoever asks how it came about: `seq`, `journal`, `order_id` with `line_no`, `sku`
with `location`, or `topic` with `partition` and `offset` of an input."""


@dataclass(slots=True)
class Check:
    """One rule.

    `excused`: what could not be looked at, since a retention time, compaction or a purge took it away. `unchecked`: why
    the rule was never looked at, where that is known. `strangers`: records of somebody else on topics
    of ours. `chain`: how the first violation came about.
    """

    rule: str
    checked: int = 0
    violations: int = 0
    examples: list[str] = field(default_factory=list)
    excused: int = 0
    strangers: int = 0
    unchecked: str | None = None
    chain: list[dict[str, Any]] = field(default_factory=list)
    about: About | None = None

    def found(self, broken: bool, what: str = "", about: About | None = None) -> None:
        self.checked += 1
        if broken:
            self.violations += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(what)
            if self.about is None:
                self.about = about

    def fine(self, times: int = 1) -> None:
        """Looked at, and nothing was wrong."""
        self.checked += times


class Bits:
    """One bit for each number from 0 on: what was seen of a log that may be long."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __contains__(self, number: int) -> bool:
        at = number >> 3
        return at < len(self._bytes) and bool(self._bytes[at] >> (number & 7) & 1)

    def add(self, number: int) -> bool:
        """Note a number; False where it was noted before."""
        at, bit = number >> 3, 1 << (number & 7)
        if at >= len(self._bytes):
            self._bytes.extend(bytes(max(at + 1 - len(self._bytes), 4096)))
        if self._bytes[at] & bit:
            return False
        self._bytes[at] |= bit
        return True

    def first_missing(self, start: int, end: int) -> int | None:
        """The first number from `start` up to and with `end` that was not noted."""
        number = start
        while number <= end:
            at = number >> 3
            if not number & 7 and at < len(self._bytes) and self._bytes[at] == 0xFF:
                number += 8
            elif number not in self:
                return number
            else:
                number += 1
        return None
