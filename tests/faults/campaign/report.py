"""What happened, as JSON for machines and as Markdown for README.md."""

import os
import platform
import re
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.faults.campaign.schedule import Fault

CATEGORIES = (
    ("a second owner was refused, or a batch came again", r"fenced|refused|redelivered"),
    ("batches were tried again", r"retries_total|batches_total|restarts_total|not_ready|tries again"),
    ("publishing was tried again", r"relay_failures|publishing_failed|relay tries again"),
    ("planning, timers, telling or sending were tried again", r"part_failures|failed_total|claiming_failed|telling"),
    ("a lease changed hands", r"lease changed hands|lease_was_lost|lost the right"),
    ("partitions moved to another process", r"group/"),
    ("mails were tried again", r"attempts_total|mailbox/|not_delivered|provider_is"),
    ("connections were made anew", r"/connections$|server_was_away"),
    ("connections were cut at a COMMIT, a Produce or a final dot", r"_cut_(before|after)$"),
    ("connections were cut in the middle of a message", r"cut_in_between$|/cut$"),
    ("bytes were late or held", r"bytes_"),
    ("work stood still for seconds", r"standstill/"),
    ("a process gave up and was started again", r"exits/by itself"),
)


@dataclass
class Report:
    """One campaign, from start to verdict."""

    seed: int
    seconds_broken: float
    commit: str = ""
    machine: str = ""
    seconds: float = 0.0
    seconds_by_step: dict[str, float] = field(default_factory=dict)
    records_sent: int = 0
    records_in_doubt: int = 0
    transactions: int = 0
    events: int = 0
    faults: list[Fault] = field(default_factory=list)
    exits: dict[str, int] = field(default_factory=dict)
    slowest_end_seconds: float = 0.0
    restarts: int = 0
    log_lines: int = 0
    said: dict[str, int] = field(default_factory=dict)
    """Warnings and errors in the logs, by text."""
    snapshots: dict[str, int] = field(default_factory=dict)
    snapshots_missed: int = 0
    gaps: list[tuple[float, str, float]] = field(default_factory=list)
    drain_seconds: float = 0.0
    load_average: float = 0.0
    """Of the machine when everything was mended: processes that wanted a core, the campaign's own among them."""
    mails: dict[str, int] = field(default_factory=dict)
    subscribers: dict[str, dict[str, int]] = field(default_factory=dict)
    replayed: dict[str, Any] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    folder: str = ""

    @property
    def effective(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.effective]

    @property
    def without_effect(self) -> list[Fault]:
        return [fault for fault in self.faults if not fault.effective]

    @property
    def sentence(self) -> str:
        return bound(1, len(self.effective), len(self.violations))

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"effective": len(self.effective), "sentence": self.sentence}

    def as_markdown(self) -> str:
        by_service = ", ".join(f"{number} of the {service}" for service, number in self.snapshots.items())
        ended = ", ".join(f"{what} {number}" for what, number in self.exits.items())
        facts = (
            f"Commit {self.commit}, {self.machine}.",
            f"{self.seconds:.0f} s from start to verdict, {self.seconds_broken:.0f} s of them with faults.",
            f"{self.records_sent:,} records sent ({self.records_in_doubt:,} in doubt and sent again),",
            f"{self.transactions:,} transactions, {self.events:,} events.",
            f"Snapshots audited: {by_service} ({self.snapshots_missed} times the database was away).",
            f"Everything drained within {self.drain_seconds} s (load average {self.load_average:.0f}).",
            f"{self.mails.get('accepted', 0):,} mails accepted, {self.mails.get('doubled', 0)} of them a second copy.",
            f"Processes ended: {ended}; the slowest took {self.slowest_end_seconds} s after SIGTERM.",
        )
        lines = [f"### Seed {self.seed}: {len(self.violations)} violations", "", self.sentence, "", " ".join(facts), ""]
        lines += ["| fault | injected | with effect |", "|---|---|---|"]
        injected = Counter(fault.kind for fault in self.faults)
        effective = Counter(fault.kind for fault in self.effective)
        lines += [f"| {kind} | {number} | {effective[kind]} |" for kind, number in sorted(injected.items())]
        lines += [f"| **all** | {len(self.faults)} | {len(self.effective)} |", ""]
        if self.without_effect:
            lines += ["Without effect:", ""]
            lines += [f"- {fault.what}{f' ({fault.failed})' if fault.failed else ''}" for fault in self.without_effect]
            lines += [""]
        lines += ["| effect | faults that showed it |", "|---|---|"]
        lines += [f"| {what} | {number} |" for what, number in self.by_effect().items()]
        lines += ["", "| sentence that was checked | times |", "|---|---|"]
        lines += [f"| {what} | {number:,} |" for what, number in self.checked.items()]
        if self.violations:
            lines += ["", "**Violations**", "", *(f"- {each}" for each in self.violations)]
        return "\n".join(lines) + "\n"

    def by_effect(self) -> dict[str, int]:
        """In how many faults' time each sort of effect was seen, among the counters that tell of that fault."""
        return {
            what: sum(any(re.search(pattern, name) for name in fault.effects) for fault in self.faults)
            for what, pattern in CATEGORIES
        }


def bound(runs: int, effective: int, violations: int) -> str:
    """The sentence that says how much was shown, and how little."""
    many = f"{runs} run{'s' if runs != 1 else ''}, {effective} effective faults, {violations} violations"
    if violations:
        return many + "."
    return f"{many}: with 95 % confidence fewer than 3/{runs} of the runs would violate."


def machine() -> str:
    gigabytes = psutil.virtual_memory().total / 1e9
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" and changes" if git("status", "--porcelain") else "")
