"""Breaks everything for a while and proves that nothing was lost and nothing done twice.

    python -m tests.faults.campaign [--seconds 130] [--seed N] [--report FILE.json] [--faults KIND,KIND]

Exit: 0 no violation, 1 a violation (the folder with logs and data is kept), 2 wrong usage.
"""

import argparse
import asyncio
import json
import logging
import random
import secrets
import shutil
import signal
import sys
from pathlib import Path

from tests.faults.campaign.faults import KINDS, LONG, SHORT, TINY
from tests.faults.campaign.report import Report
from tests.faults.campaign.running import Wish, run
from tests.faults.campaign.stage import new_folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=130, help="how long it is broken; judging takes 2 minutes more"
    )
    parser.add_argument("--seed", type=int, default=None, help="chooses load and faults (default: a new one)")
    parser.add_argument("--rate", type=float, default=40, help="messages a second (default 40)")
    parser.add_argument("--report", type=Path, help="where to write the report: FILE.json, and FILE.md beside it")
    parser.add_argument("--faults", default="", help=f"only these, by commas: {', '.join(kind.name for kind in KINDS)}")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and data")
    arguments = parser.parse_args()
    names = [name.strip() for name in arguments.faults.split(",") if name.strip()]
    kinds = tuple(kind for kind in KINDS if not names or kind.name in names)
    if unknown := set(names) - {kind.name for kind in KINDS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    # Our own clients live through the same faults, and say so many times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(100_000)
    lengths = LONG if arguments.seconds > 600 else TINY if arguments.seconds < 60 else SHORT
    wish = Wish(seed, arguments.seconds, arguments.rate, kinds, lengths)
    folder = new_folder()
    print(f"Seed {seed}; logs and data in {folder}", file=sys.stderr, flush=True)
    ended_well = False
    try:
        report = asyncio.run(until_told_to_stop(wish, folder))
        ended_well = not report.violations
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("Ended before the verdict.", file=sys.stderr)
        ended_well = True
        return 130
    finally:
        if ended_well and not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"Kept: {folder}", file=sys.stderr)
    if arguments.report:
        arguments.report.write_text(json.dumps(report.as_json(), indent=1, default=str) + "\n")
        arguments.report.with_suffix(".md").write_text(report.as_markdown())
    print(report.as_markdown())
    if report.violations:
        print(f"VIOLATION with seed {seed}: {report.violations[0]}")
        return 1
    return 0


async def until_told_to_stop(wish: Wish, folder: Path) -> Report:
    """SIGTERM ends a campaign as Ctrl-C does: everything it started is ended."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    random.seed(wish.seed)
    return await run(wish, folder)


if __name__ == "__main__":
    sys.exit(main())
