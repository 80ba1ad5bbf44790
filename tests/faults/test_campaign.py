"""A small campaign: that everything it needs works, and that nothing is lost by the quickest faults.

The whole one is `make faults`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.campaign.faults import KINDS, TINY
from tests.faults.campaign.running import PATIENCE_SECONDS, Wish, run
from tests.faults.campaign.stage import new_folder

QUICK = (
    "kill allocator",
    "kill notifier",
    "pg_terminate_backend all",
    "postgres cut after",
    "kafka cut after",
    "smtp cut after",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not in pytest's own, which the user that PostgreSQL runs as can't enter."""
    folder = new_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(240)
async def test_a_small_campaign_of_quick_faults_finds_nothing_wrong(folder: Path) -> None:
    kinds = tuple(kind for kind in KINDS if kind.name in QUICK)
    assert len(kinds) == len(QUICK)
    wish = Wish(seed=1, seconds=10, rate=40, kinds=kinds, lengths=TINY, replays=False, drains_within=PATIENCE_SECONDS)
    report = await run(wish, folder)
    assert not report.violations, json.dumps(report.violations, indent=1)
    assert len(report.faults) >= 4
    assert report.checked["sending everything again changes nothing"] > 100
    assert report.sentence.startswith("1 run, ")
