"""The planted bugs are in today's source, and each has a scene; whether they are found, `make faults-bugs` shows."""

import pytest

from tests.faults.bugs.catalogue import BUGS
from tests.faults.bugs.planted import Bug
from tests.faults.bugs.scenes import SCENES


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_python_and_changes_the_source_as_it_is_today(bug: Bug) -> None:
    for file, source in bug.sources().items():
        if file.endswith(".py"):
            compile(source, file, "exec")
    assert bug.scene in SCENES


def test_there_are_enough_bugs_and_each_has_its_name() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 14
