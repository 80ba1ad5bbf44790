"""Places where a test may kill this process, to prove what is lost by that: nothing.

`BACKORDER_FAIL_POINT=store.before_commit=kill@3` sends SIGKILL to the process when it reaches that place the third
time; with `hang@3` the process stands still there. Unset, as everywhere but in tests, a place costs one comparison.
"""

import os
import signal
import sys
import time

_ARMED = os.environ.get("BACKORDER_FAIL_POINT", "")
_NAME, _, _ACTION = _ARMED.partition("=")
_DEED, _, _TIMES = _ACTION.partition("@")
_remaining = int(_TIMES) if _ARMED else 0


def reached(name: str) -> None:
    """Die here if the test asked for it."""
    if name != _NAME:
        return
    global _remaining  # noqa: PLW0603 - the count is the process's own
    _remaining -= 1
    if _remaining != 0:
        return
    if _DEED == "hang":
        sys.stderr.write(f"fail point {name}: hangs\n")
        sys.stderr.flush()
        time.sleep(3600)
    else:
        sys.stderr.write(f"fail point {name}: killed\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
