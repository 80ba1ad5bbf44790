"""A small campaign: that everything it needs works, and that nothing is lost by the quickest faults.

The whole one is `make faults`.
"""

import json
from pathlib import Path

import pytest

from tests.faults.campaign.faults import KINDS, TINY
from tests.faults.campaign.running import Wish, run

QUICK = (
    "kill allocator",
    "kill notifier",
    "pg_terminate_backend all",
    "postgres cut after",
    "kafka cut after",
    "smtp cut after",
)


@pytest.mark.timeout(240)
async def test_a_small_campaign_of_quick_faults_finds_nothing_wrong(tmp_path: Path) -> None:
    kinds = tuple(kind for kind in KINDS if kind.name in QUICK)
    assert len(kinds) == len(QUICK)
    report = await run(Wish(seed=1, seconds=12, rate=40, kinds=kinds, lengths=TINY, replays=False), tmp_path / "campaign")
    assert not report.violations, json.dumps(report.violations, indent=1)
    assert len(report.faults) >= 4
    assert report.checked["sending everything again changes nothing"] > 100
    assert report.sentence.startswith("1 run, ")
