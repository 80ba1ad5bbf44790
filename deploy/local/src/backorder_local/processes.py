"""Processes that end with us: each runs under a guard (guard.py) and writes to a log file of the stack."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backorder_local.errors import LocalError
from backorder_local.place import Place

GUARD = Path(__file__).with_name("guard.py")
TAIL_LINES = 25


@dataclass(frozen=True)
class Identity:
    """The user a process runs as, where that isn't ours."""

    user: int
    group: int


@dataclass(frozen=True)
class Process:
    name: str
    guard: "subprocess.Popen[bytes]"
    log: Path
    grace_seconds: float

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.guard.poll()

    def stop(self) -> None:
        """Asks it to end, kills it after its grace, returns when it is gone. Twice does no harm."""
        self.begin_to_stop()
        try:
            self.guard.wait(self.grace_seconds + 5)
        except subprocess.TimeoutExpired:  # a guard that was stopped itself (SIGSTOP)
            self.guard.kill()
            self.guard.wait()

    def begin_to_stop(self) -> None:
        """Asks it to end and returns at once, so that several end side by side."""
        if self.guard.stdin is not None:
            self.guard.stdin.close()

    def failure(self, what: str) -> LocalError:
        """An error that carries the end of the log and where the rest is."""
        return LocalError(f"{self.name}: {what}\n{tail(self.log)}\nThe whole log: {self.log}", exit_code=1)


def start(
    place: Place,
    name: str,
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    grace_seconds: float = 10,
    identity: Identity | None = None,
    remove: Path | None = None,
) -> Process:
    """Starts a command that ends when this process does, even by kill -9. `remove` is a folder that goes with it.

    Its log is added to, so that a kept folder tells of earlier runs as well."""
    wish = {
        "command": [str(part) for part in command],
        "stop_signal": int(stop_signal),
        "grace_seconds": grace_seconds,
        "user": identity and identity.user,
        "group": identity and identity.group,
        "remove": remove and str(remove),
    }
    log = place.logs / f"{name.lower().replace(' ', '-')}.log"
    with log.open("ab") as output:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", GUARD, json.dumps(wish)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            pass_fds=(place.lock,),  # the guard shares the lock and ends last: the folder is free when all are gone
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone, so that we can end things in order
        )
    return Process(name, guard, log, grace_seconds)


def finish(process: Process) -> None:
    """Waits for a process that ends by itself. Raises LocalError with the tail of its log if it fails."""
    try:
        code = process.guard.wait()
    finally:
        process.stop()
    if code != 0:
        raise process.failure(f"ended with exit code {code}")


def wait_until(ready: Callable[[], bool], *, process: Process | None, what: str, timeout_seconds: float) -> None:
    """Asks again and again, with short pauses, until the server answers. Raises as soon as its process has ended."""
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        if process is not None and process.exit_code() is not None:
            raise process.failure(f"ended with exit code {process.exit_code()} instead of answering")
        if time.monotonic() > deadline:
            problem = f"{what} did not answer within {timeout_seconds:.0f} s"
            raise process.failure(problem) if process is not None else LocalError(problem, exit_code=3)
        time.sleep(0.03)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, indented."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (the log is empty)"


def port_or_free(port: int, name: str, option: str) -> int:
    """The port asked for if it can be had, or any free one for 0. Raises LocalError if it is taken."""
    with socket.socket() as probe:
        if port:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port in TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LocalError(
                f"{name}: port {port} on 127.0.0.1 can't be had ({error.strerror}). "
                f"Choose another with {option}, or 0 for a free one."
            ) from error
        return int(probe.getsockname()[1])
