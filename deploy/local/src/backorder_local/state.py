"""What other terminals need to know of running stacks: one file each in the user's runtime folder."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
import psutil  # type: ignore[import-untyped]

from backorder_local.errors import LocalError


@dataclass(frozen=True)
class State:
    """A running stack. `variables` are environment variables with which its servers and services are reached."""

    pid: int
    started: float
    folder: str
    prefix: str
    kafka: str
    postgres: str
    smtp: str
    sink: bool
    services: dict[str, str]
    variables: dict[str, str]


def runtime_folder() -> Path:
    """The folder of the files; nobody else can enter it, since they hold passwords.

    In the user's own state folder rather than $XDG_RUNTIME_DIR, which is missing in containers and for root."""
    folder = Path(platformdirs.user_state_dir("backorder")) / "running"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise LocalError(f"{folder} can't be used: {error.strerror}. XDG_STATE_HOME names another folder.") from error
    return folder


@contextmanager
def published(state: State) -> Iterator[None]:
    """Lets others find the stack during the block."""
    file = runtime_folder() / f"{state.pid}.json"
    half_written = file.with_suffix(".part")
    half_written.touch(mode=0o600)
    half_written.write_text(json.dumps(asdict(state)))
    half_written.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running_stacks() -> list[State]:
    """All of this user, oldest first. Forgets those that were killed."""
    stacks = []
    for file in runtime_folder().glob("*.json"):
        try:
            state = State(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):  # ended meanwhile, or of another version
            continue
        if is_running(state):
            stacks.append(state)
        else:
            file.unlink(missing_ok=True)
    return sorted(stacks, key=lambda stack: stack.started)


def is_running(state: State) -> bool:
    """By start time too: after a crash the number may belong to another process."""
    try:
        return bool(abs(psutil.Process(state.pid).create_time() - state.started) < 1)
    except psutil.Error:
        return False


def own_start() -> float:
    return float(psutil.Process(os.getpid()).create_time())


def running_stack(data_dir: Path | None) -> State:
    """The stack on this folder, or the only one there is. Raises LocalError."""
    stacks = running_stacks()
    if data_dir is not None:
        stacks = [stack for stack in stacks if Path(stack.folder) == data_dir.absolute()]
    if len(stacks) == 1:
        return stacks[0]
    if not stacks:
        where = "" if data_dir is None else f" on {data_dir}"
        raise LocalError(f"No stack is running{where}. Start one with: backorder up")
    folders = "".join(f"\n  --data-dir {stack.folder}" for stack in stacks)
    raise LocalError(f"{len(stacks)} stacks are running. Say which one:{folders}")
