"""What a planted bug is: a named mistake in the source of a service, and the rule that must find it.

Which rule that is was written down first. The mistake is made in a copy of the service's source, which processes find
before the real one. Text that is not in the source exactly once is an error: then the bug is not what it says any more.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import backorder_allocator
import backorder_notifier

PACKAGES: Mapping[str, Path] = {
    "allocator": Path(str(backorder_allocator.__file__)).parent,
    "notifier": Path(str(backorder_notifier.__file__)).parent,
}


class NotInTheSourceError(Exception):
    """The text that a bug changes is not there, or more than once."""


@dataclass(frozen=True)
class Change:
    """In `file` of the package, `old` becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """A mistake, and what must find it.

    `rule`: of `audit --topics` of either service, or a check of `judging`. `scene`: the name of what makes it show.
    """

    name: str
    service: str
    changes: tuple[Change, ...]
    rule: str
    scene: str

    def sources(self) -> dict[str, str]:
        """The changed files by name. Raises NotInTheSourceError."""
        sources: dict[str, str] = {}
        for change in self.changes:
            source = sources.get(change.file) or (PACKAGES[self.service] / change.file).read_text()
            if source.count(change.old) != 1:
                raise NotInTheSourceError(f"{self.name}: {change.file} has {source.count(change.old)} × {change.old!r}")
            sources[change.file] = source.replace(change.old, change.new)
        return sources

    def plant(self, folder: Path) -> None:
        """Make a copy of the service's package with the mistake in it; `folder` is for PYTHONPATH."""
        package = PACKAGES[self.service]
        copy = folder / package.name
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for file, source in self.sources().items():
            (copy / file).write_text(source)
