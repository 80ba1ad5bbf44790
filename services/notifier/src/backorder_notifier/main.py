"""Where the command begins. `run` ends in order from its first moment on: importing what it needs takes a second, and a
SIGTERM that comes meanwhile would end it as a failure.
"""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        _run()
    else:
        from backorder_notifier.cli import main as command  # noqa: PLC0415

        command()


def _run() -> None:
    # `app` replaces these once there is something to finish.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_before_the_beginning)
    from backorder_notifier.cli import main as command  # noqa: PLC0415 - heavy, that is the point

    code: object = 0
    try:
        command()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's own end: it takes handlers away first, and a second SIGTERM would kill it then.
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _end_before_the_beginning(_number: int, _frame: FrameType | None) -> None:
    """Nothing was begun, so there is nothing to finish."""
    os._exit(0)
