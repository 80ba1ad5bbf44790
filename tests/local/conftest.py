from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.command import Home, Up


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(reachable(tmp_path))


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(reachable(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def running(shared_home: Home) -> Iterator[Up]:
    """One stack without services, on the folder data of its home, for all tests that neither end it nor mind others."""
    with shared_home.up("--no-services", "--data-dir", shared_home.folder / "data") as up:
        yield up


def reachable(folder: Path) -> Path:
    """pytest's folders are closed to others, but PostgreSQL runs as "nobody" where the tests run as root."""
    for part in (folder, *folder.parents):
        if part.name.startswith("pytest-"):
            part.chmod(0o711)
    folder.chmod(0o711)
    return folder
