"""Where a process spends its CPU time: its Python stacks, counted by a timer that runs while the CPU does.

`python -m tests.bench.peers.sampled` runs the allocator so; peers begin by themselves. SIGUSR1 counts anew, SIGUSR2
ends it and writes the counts to the file that BENCH_SAMPLES names.
"""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

VARIABLE = "BENCH_SAMPLES"
EVERY_SECONDS = 0.002
"""Of CPU time. A sample costs some 10 µs."""

Stack = tuple[str, ...]
"""From the outermost to the innermost frame: "package.module:function"."""

counted: Counter[Stack] = Counter()
names: dict[object, str] = {}


def begin() -> None:
    """Count from now on, if a file is named."""
    path = os.environ.get(VARIABLE)
    if not path:
        return

    def write(_number: int, _frame: FrameType | None) -> None:
        # Or a last signal might meet an interpreter that ends, and has no handler any more.
        signal.setitimer(signal.ITIMER_PROF, 0)
        partial = Path(f"{path}.part")
        partial.write_text("".join(f"{count} {' '.join(stack)}\n" for stack, count in counted.items()))
        partial.rename(path)

    signal.signal(signal.SIGUSR1, lambda _number, _frame: counted.clear())
    signal.signal(signal.SIGUSR2, write)
    signal.signal(signal.SIGPROF, count)
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)


def count(_number: int, frame: FrameType | None) -> None:
    stack = []
    while frame is not None:
        code = frame.f_code
        name = names.get(code)
        if name is None:
            name = names[code] = f"{module_of(code.co_filename)}:{code.co_qualname}".replace(" ", "_")
        stack.append(name)
        frame = frame.f_back
    counted[tuple(reversed(stack))] += 1


def module_of(file: str) -> str:
    """ "aiokafka.producer.sender" for …/site-packages/aiokafka/producer/sender.py."""
    parts = Path(file).with_suffix("").parts
    for root in ("site-packages", "src", f"python{sys.version_info.major}.{sys.version_info.minor}"):
        if root in parts:
            return ".".join(parts[len(parts) - parts[::-1].index(root) :])
    return ".".join(parts[-3:])


def read(path: Path) -> Counter[Stack]:
    found: Counter[Stack] = Counter()
    for line in path.read_text().splitlines():
        times, *stack = line.split(" ")
        found[tuple(stack)] += int(times)
    return found
