"""Places where a test may break this process, to prove what is lost by that: nothing.

`BACKORDER_FAIL_POINT=store.before_commit=kill@3` does it when that place is reached the third time (without `@`: the
first time); several are separated by commas. What can be done there:

- `kill`: SIGKILL, as a machine that loses its power;
- `stop`: SIGSTOP, as a machine that is frozen and wakes up later (SIGCONT);
- `hang`: the process stands still, and hears nothing but signals;
- `raise`: a `FailPointError`, which nobody expects: as a bug;
- `cancel`: the task is cancelled, as by a library that gives up on it;
- `note`: only says on stderr that the place was reached. The name `*` stands for all places.

Unset, as everywhere but in tests, a place costs one comparison.
"""

import asyncio
import os
import signal
import sys
import time

VARIABLE = "BACKORDER_FAIL_POINT"
PLACES = frozenset(
    {
        "intake.begun",
        "intake.locked",
        "intake.before_commit",
        "intake.after_commit",
        "teller.before_commit",
        "teller.after_commit",
        "sending.claimed",
        "sending.before_mark",
        "sending.marked",
        "relay.leased",
        "relay.sent",
        "relay.before_forget",
        "relay.forgotten",
        "house.before_commit",
        "dlq.acked",
        "redrive.before_commit",
        "assignment.placed",
    }
)
"""Every place there is. A test fails for one that is never reached."""
DEEDS = frozenset({"kill", "stop", "hang", "raise", "cancel", "note"})


class FailPointError(Exception):
    """What `raise` raises. Nothing but a test's own wish leads to it."""


def armed(text: str) -> dict[str, tuple[str, int]]:
    """What is to be done where, and at which time. Ends the process with exit code 2 for what it can't understand."""
    wishes: dict[str, tuple[str, int]] = {}
    for wish in filter(None, text.split(",")):
        name, _, action = wish.partition("=")
        deed, _, times = action.partition("@")
        if deed not in DEEDS or not (times or "1").isdecimal() or (name not in PLACES and name != "*"):
            sys.stderr.write(f"{VARIABLE}: {wish} is no place and deed; places: {', '.join(sorted(PLACES))}\n")
            raise SystemExit(2)
        for place in PLACES if name == "*" else (name,):
            wishes[place] = (deed, int(times or "1"))
    return wishes


_wishes = armed(os.environ.get(VARIABLE, ""))


def reached(name: str) -> None:
    """Do here what the test asked for, if it asked for it. Raises FailPointError where that is the wish."""
    if not _wishes or name not in _wishes:
        return
    deed, times = _wishes.pop(name)
    if times > 1:
        _wishes[name] = (deed, times - 1)
        return
    sys.stderr.write(f"fail point {name}: {deed}\n")
    sys.stderr.flush()
    match deed:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            time.sleep(3600)
        case "raise":
            raise FailPointError(name)
        case "cancel":
            task = asyncio.current_task()
            if task is not None:
                task.cancel()
        case _:
            pass  # `note` has been said
