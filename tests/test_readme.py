"""The commands of the README work, one after the other, on a stack that was started as it says."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(sh|python) tested\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`backorder up`, and the environment of a terminal beside it."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ALLOCATOR_", "NOTIFIER_", "BACKORDER_"))
    }
    environment |= {"PATH": f"{BIN}:{environment['PATH']}", "XDG_STATE_HOME": str(tmp_path_factory.mktemp("state"))}
    up = subprocess.Popen(
        [BIN / "backorder", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert up.stdout is not None
    said = []
    for line in up.stdout:
        said.append(line)
        if "Ctrl-C ends it all" in line:
            break
    else:
        up.communicate()
        pytest.fail("".join(said))
    yield environment
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)


def test_the_commands_of_the_readme_work_one_after_the_other(stack: dict[str, str]) -> None:
    assert len(BLOCKS) >= 5
    prepare = 'eval "$(backorder env)"\n'
    for language, block in BLOCKS:
        script = prepare + (block if language == "sh" else f"python - <<'PYTHON'\n{block}\nPYTHON\n")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=stack,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        if "backorder-allocator explain 1001" in block:
            assert "release 1: line 1: 10" in done.stdout
        if language == "python":
            assert "1001 BackorderCreated 5" in done.stdout


def test_the_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
