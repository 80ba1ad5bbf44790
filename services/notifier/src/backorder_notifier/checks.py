"""What an audit says of one rule: how often it was looked at, how often it was broken, and of what."""

from dataclasses import dataclass, field
from typing import Any, Final

EXAMPLES: Final = 5

About = dict[str, Any]
"""What a violation is about, for whoever asks how it came about: `order_id`, `event_id`, or `topic`, `partition` and
`offset` of an input."""


@dataclass(slots=True)
class Check:
    """One rule.

    `excused`: what could not be looked at, since a retention time or a purge took it away. `unchecked`: why the rule
    was never looked at, where that is known. `strangers`: records of somebody else on
    topics of ours. `chain`: how the first violation came about.
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

    def found(self, violation: str | None, about: About | None = None) -> None:
        """Looked at once; `violation` says what is wrong."""
        self.checked += 1
        if violation is not None:
            self.violations += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(violation)
            if self.about is None:
                self.about = about


class Bits:
    """One bit for each number from 0 on: what was seen of a log that may be long."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __contains__(self, number: int) -> bool:
        at = number >> 3
        return at < len(self._bytes) and bool(self._bytes[at] >> (number & 7) & 1)

    def add(self, number: int) -> None:
        at = number >> 3
        if at >= len(self._bytes):
            self._bytes.extend(bytes(max(at + 1 - len(self._bytes), 4096)))
        self._bytes[at] |= 1 << (number & 7)
