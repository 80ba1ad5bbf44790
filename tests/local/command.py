"""Runs the command `backorder` as a user does: a process of its own, with folders of its own."""

import json
import os
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from backorder_local import finder

BACKORDER = Path(sysconfig.get_path("scripts")) / "backorder"
DEADLINE_SECONDS = 120


@dataclass(frozen=True)
class Home:
    """Folders that only one test uses, so that it neither sees nor is seen by other stacks of this machine."""

    folder: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """No server is named in it, unless a change does."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        named = {*finder.EXAMPLES, finder.WAY_VARIABLE}
        kept = {name: value for name, value in os.environ.items() if name not in named}
        return (
            kept
            | {
                "TMPDIR": str(self.folder / "tmp"),
                "XDG_STATE_HOME": str(self.folder / "state"),
                "BACKORDER_WITH": "embedded",
            }
            | changes
        )

    def variables(self, *arguments: str | Path) -> dict[str, str]:
        """What `backorder env` says of the running stack."""
        result = self.run("env", "--json", *arguments)
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout))

    def run(self, *arguments: str | Path, given: str = "", **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [BACKORDER, *arguments],
            env=self.environment(**changes),
            input=given,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    @contextmanager
    def up(self, *arguments: str | Path, **changes: str) -> Iterator["Up"]:
        """`backorder up` from the moment it says how to connect; ended with the block if it still runs."""
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="up-", suffix=".log", delete=False) as output:
            process = subprocess.Popen(
                [BACKORDER, "up", *arguments], env=self.environment(**changes), stdout=output, stderr=output
            )
            up = Up(process, Path(output.name))
            try:
                eventually(lambda: "Ctrl-C" in up.said() or process.poll() is not None, up.said)
                assert process.poll() is None, up.said()
                yield up
            finally:
                if process.poll() is None:
                    process.terminate()
                    assert process.wait(DEADLINE_SECONDS) == 0, up.said()


@dataclass(frozen=True)
class Up:
    process: "subprocess.Popen[bytes]"
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def descendants(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))


def commands(processes: list[psutil.Process]) -> str:
    """The command lines of those that still run."""
    lines = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                # One that is just ending has no command line any more, but may still hold files.
                lines.append(" ".join(process.cmdline()) or f"process {process.pid}")
        except psutil.NoSuchProcess:
            continue
    return "\n".join(lines)


def one_that_runs(program: str, processes: list[psutil.Process]) -> psutil.Process:
    """The one of them that runs this program; others may end while we look."""
    [found] = [each for each in processes if commands([each]).split(" ")[0].endswith(f"/{program}")]
    return found


def eventually(holds: Callable[[], object], explain: Callable[[], object]) -> None:
    """Waits for a condition; what `explain` returns is shown if it doesn't come."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)
