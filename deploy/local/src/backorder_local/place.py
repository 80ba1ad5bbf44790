"""The folder of one stack: its servers' data, their logs, its mails."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backorder_local.errors import LocalError

TEMPORARY_PREFIX = "backorder-"


@dataclass(frozen=True)
class Place:
    folder: Path
    temporary: bool

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def mails(self) -> Path:
        return self.folder / "mail" / "mails.sqlite"


@contextmanager
def place(data_dir: Path | None) -> Iterator[Place]:
    """The chosen folder (made if needed, kept), or a temporary one that is removed at the end. Raises LocalError."""
    try:
        if data_dir is None:
            folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        else:
            folder = data_dir.absolute()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            folder.chmod(0o711)  # PostgreSQL runs as "nobody" then, and must get to its folder in here
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LocalError(
            f"The folder {error.filename} can't be used: {error.strerror}. Choose another with --data-dir."
        ) from error
    try:
        yield Place(folder, data_dir is None)
    finally:
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)
