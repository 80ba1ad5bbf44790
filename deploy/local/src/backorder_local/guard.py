"""Runs one command and ends it when whoever asked for it is gone.

    python -I -S guard.py '{"command": [...], "stop_signal": 15, "grace_seconds": 10, "user": null, "remove": null}'

Started by path, without site packages, so that it is there in 20 ms: it may import the standard library only.

Standard input is a pipe that only the owner holds. The owner never writes: when it ends, in whatever way (kill -9 too),
the kernel closes the pipe and the read returns. This works on every Unix; on Linux the command also gets a parent death
signal, for the case that the guard itself is killed.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG = 1


class Stop(BaseException):
    """Raised in the main thread by SIGTERM, so that it leaves the wait for the command."""


def on_sigterm(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stop


def end_with_owner() -> None:
    """Waits for the owner's end of the pipe to close. A plain read, since a buffered one could not be left at exit."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def parent_death_signal(number: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork: the child may only make plain calls
    guard = os.getpid()

    def in_the_child() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)

    return in_the_child


def end(command: "subprocess.Popen[bytes]", stop_signal: int, grace_seconds: float) -> None:
    """Asks, waits, then kills the command's whole process group."""
    if command.poll() is None:
        command.send_signal(stop_signal)
        try:
            command.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            print(f"guard: did not end within {grace_seconds} s, killed", file=sys.stderr, flush=True)
            os.killpg(command.pid, signal.SIGKILL)
            command.wait()


def main() -> int:
    wish = json.loads(sys.argv[1])
    signal.signal(signal.SIGTERM, on_sigterm)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    identity = {} if wish["user"] is None else {"user": wish["user"], "group": wish["group"], "extra_groups": []}
    command: subprocess.Popen[bytes] | None = None
    try:
        command = subprocess.Popen(
            wish["command"],
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=parent_death_signal(wish["stop_signal"]),  # noqa: PLW1509  one thread only until here
            **identity,
        )
        threading.Thread(target=end_with_owner, daemon=True).start()
        code = command.wait()
        return code if code >= 0 else 128 - code
    except Stop:
        if command is not None:
            end(command, wish["stop_signal"], wish["grace_seconds"])
        return 0
    finally:
        if wish["remove"] is not None:
            shutil.rmtree(wish["remove"], ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
