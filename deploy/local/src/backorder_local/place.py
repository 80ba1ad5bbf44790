"""The folder of one stack: its servers' data, their logs, its mails. One stack at a time has it."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from backorder_local.errors import LocalError

TEMPORARY_PREFIX = "backorder-"
# A stack that was killed needs a moment to end its servers; the next one on the same folder waits for it.
LOCK_SECONDS = 15
ABANDONED_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Place:
    """`lock` is an open file whose lock every process of the stack shares: it is free when the last of them is gone."""

    folder: Path
    temporary: bool
    lock: int

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def mails(self) -> Path:
        return mails_of(self.folder)


def mails_of(folder: Path) -> Path:
    """Where the sink of a stack on this folder keeps its mails."""
    return folder / "mail" / "mails.sqlite"


@contextmanager
def place(data_dir: Path | None) -> Iterator[Place]:
    """The chosen folder (made if needed, kept), or a temporary one that is removed at the end. Raises LocalError."""
    try:
        if data_dir is None:
            remove_abandoned()
            folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        else:
            folder = data_dir.absolute()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            folder.chmod(folder.stat().st_mode | 0o011)  # PostgreSQL, then "nobody", must get to its folder in here
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
        lock = take_lock(folder)
    except OSError as error:
        wrong = f"{error.filename or data_dir} can't be used: {error.strerror}"
        raise LocalError(f"The folder {wrong}. Choose another with --data-dir (temporary ones: TMPDIR).") from error
    kept = set()
    try:
        yield Place(folder, data_dir is None, lock)
    except LocalError:
        if any((folder / "logs").iterdir()):
            kept = {folder / "logs", folder / "lock"}  # the error may name a log: those stay, for a day
        raise
    finally:
        if data_dir is None:
            remove(folder, kept)
        os.close(lock)


def remove(folder: Path, kept: set[Path]) -> None:
    for part in set(folder.iterdir()) - kept:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink()
    if not kept:
        folder.rmdir()


def take_lock(folder: Path) -> int:
    """An open file that holds the folder's lock and names us. Waits for a stack that was killed and is still ending."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 20, 0).decode()
            if time.monotonic() > deadline or (owner and psutil.pid_exists(int(owner))):
                os.close(lock)
                raise LocalError(
                    f"Another stack uses {folder} (process {owner}). End it first, or choose another with --data-dir."
                ) from None
            time.sleep(0.1)
        else:
            os.truncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            return lock


def remove_abandoned() -> None:
    """Removes temporary folders that a stack left behind a day ago, with its log or because it was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(OSError):
            if folder.stat().st_uid != os.geteuid() or time.time() - folder.stat().st_mtime < ABANDONED_SECONDS:
                continue  # another user's, or one that somebody may still look at
            lock = os.open(folder / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
