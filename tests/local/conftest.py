import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.local.command import Home, Up


@contextmanager
def open_folder() -> Iterator[Path]:
    """Not pytest's own: those are closed to others, and PostgreSQL runs as "nobody" where the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="test-backorder-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
def home() -> Iterator[Home]:
    with open_folder() as folder:
        yield Home(folder)


@pytest.fixture(scope="session")
def shared_home() -> Iterator[Home]:
    with open_folder() as folder:
        yield Home(folder)


@pytest.fixture(scope="session")
def running(shared_home: Home) -> Iterator[Up]:
    """One stack without services, on the folder data of its home, for all tests that neither end it nor mind others."""
    with shared_home.up("--no-services", "--data-dir", shared_home.folder / "data") as up:
        yield up
