"""Several reports as one, for the README: python -m tests.faults.campaign.summary FILE.json FILE.json …"""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.campaign.report import CATEGORIES, bound


def summary(reports: list[dict[str, Any]]) -> str:
    """Markdown: what was run, the counts per fault, per effect and per sentence that was checked."""
    injected: Counter[str] = Counter()
    effective: Counter[str] = Counter()
    effects: Counter[str] = Counter()
    checked: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for report in reports:
        checked.update(report["checked"])
        ended.update(report["exits"])
        for fault in report["faults"]:
            injected[fault["kind"]] += 1
            effective[fault["kind"]] += bool(fault["effects"])
            for what, pattern in CATEGORIES:
                effects[what] += any(re.search(pattern, name) for name in fault["effects"])
    violations = sum(len(report["violations"]) for report in reports)
    lines = [bound(len(reports), effective.total(), violations), ""]
    lines += [
        "| commit | seed | faults for | records | transactions | events | faults (effective) | snapshots | drained in |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for report in reports:
        with_effect = sum(bool(fault["effects"]) for fault in report["faults"])
        cells = [
            report["commit"].split()[0],
            report["seed"],
            f"{report['seconds_broken']:.0f} s",
            f"{report['records_sent']:,}",
            f"{report['transactions']:,}",
            f"{report['events']:,}",
            f"{len(report['faults'])} ({with_effect})",
            sum(report["snapshots"].values()),
            f"{report['drain_seconds']} s",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    mails = sum(report["mails"].get("accepted", 0) for report in reports)
    doubled = sum(report["mails"].get("doubled", 0) for report in reports)
    lines += ["", f"Machine: {reports[-1]['machine']}. {mails:,} mails were accepted, {doubled} of them a second copy."]
    lines += [f"Processes ended: {', '.join(f'{what} {number:,}' for what, number in ended.most_common())}.", ""]
    lines += ["| fault | injected | with effect |", "|---|---|---|"]
    lines += [f"| {kind} | {number} | {effective[kind]} |" for kind, number in sorted(injected.items())]
    lines += [f"| **all** | {injected.total()} | {effective.total()} |", ""]
    lines += ["| effect | faults that showed it |", "|---|---|"]
    lines += [f"| {what} | {effects[what]} |" for what, _ in CATEGORIES]
    lines += ["", "| sentence that was checked | times |", "|---|---|"]
    lines += [f"| {what} | {number:,} |" for what, number in checked.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(summary([json.loads(Path(name).read_text()) for name in sys.argv[1:]]))
