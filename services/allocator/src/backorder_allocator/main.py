"""The entry point. It imports nothing heavy, so that SIGTERM ends `run` in order from its first moment on."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """The command `backorder-allocator`."""
    if sys.argv[1:2] == ["run"]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _nothing_has_begun)
    # The imports of the service take a second or two, and longer on a busy machine.
    from backorder_allocator.cli import main as command  # noqa: PLC0415

    command()


def _nothing_has_begun(_number: int, _frame: FrameType | None) -> None:
    """Ends at once, until `ending.stop_on_signals` takes over: no transaction and no session is open yet."""
    os._exit(0)
