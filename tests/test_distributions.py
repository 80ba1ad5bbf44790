"""Each distribution installs and imports alone: what it needs, it declares.

An empty virtual environment gets the wheel, and of the packages installed here those that it declares, with what they
declare in turn. Nothing is downloaded, so that it is quick.
"""

import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "backorder-schemas": "schemas",
    "backorder-allocator": "services/allocator",
    "backorder-notifier": "services/notifier",
    "backorder-local": "deploy/local",
}
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [name for _, name, _ in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    sources = (ROOT / source for source in FOLDERS.values())
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, *sources)
    return folder


def declared(name: str, extras: frozenset[str] = frozenset(), seen: set[str] | None = None) -> set[str]:
    """The names of all distributions that `name` with `extras` needs, as far as their metadata says."""
    seen = set() if seen is None else seen
    for text in distribution(name).requires or ():
        needed = Requirement(text)
        if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        key = f"{canonicalize_name(needed.name)}{sorted(needed.extras)}"
        if key not in seen:
            seen.add(key)
            declared(needed.name, frozenset(needed.extras), seen)
    return {key.split("[")[0] for key in seen}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_distribution_installs_and_imports_alone_in_an_empty_environment(
    name: str, wheels: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path)
    python = tmp_path / "bin" / "python"
    (site,) = tmp_path.glob("lib/python3*/site-packages")
    needed = declared(name)
    ours = [*wheels.glob(f"{name.replace('-', '_')}-*.whl")]
    for other in needed & FOLDERS.keys():
        ours += wheels.glob(f"{other.replace('-', '_')}-*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", *ours)
    for other in needed - FOLDERS.keys():
        for file in distribution(other).files or ():
            top = file.parts[0]
            if top not in {"..", "__pycache__"} and not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution(other).locate_file(top))).resolve())
    assert int(run(python, "-I", "-c", IMPORT_ALL, name.replace("-", "_"))) > 3


def test_a_subscriber_who_wants_the_schemas_gets_pydantic_and_nothing_else() -> None:
    assert declared("backorder-schemas") == {
        "annotated-types",
        "pydantic",
        "pydantic-core",
        "typing-extensions",
        "typing-inspection",
    }
