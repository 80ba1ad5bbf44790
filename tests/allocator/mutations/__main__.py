"""Makes each mistake in a copy of the allocator and sees whether tests notice: `python -m tests.allocator.mutations`.

Words as arguments choose mistakes by name. Exits with 1 if a mistake goes unnoticed, if its text is no longer in the
source, or if the unchanged copy fails.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import backorder_allocator
from tests.allocator.mutations.changes import MUTATIONS, Mutation

PACKAGE = Path(backorder_allocator.__file__).parent
ROOT = Path(__file__).parents[3]
STORIES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/allocator/test_stories_*.py"))
TESTS = {
    "stories": [*STORIES, "tests/allocator/test_ranking.py", "tests/allocator/test_promises.py"],
    "model": ["tests/allocator/test_whole_histories.py"],
}
UNCHANGED = Mutation("(nothing is changed)", "allocation.py", ())


def main() -> int:
    print(f"{'mistake':64} {'stories':>8} {'model':>8}")
    fine = True
    chosen = [UNCHANGED, *(each for each in MUTATIONS if all(word in each.name for word in sys.argv[1:]))]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as executor:
        for mutation, failed in zip(chosen, executor.map(notice, chosen), strict=True):
            if failed is None:
                words = ["the text to change is not there exactly once"]
            else:
                words = [f"{'notice' if tests in failed else 'pass':>8}" for tests in TESTS]
            expected = failed == [] if mutation is UNCHANGED else bool(failed)
            fine = fine and expected
            print(f"{mutation.name:64} {' '.join(words)}{'' if expected else '   <- wrong'}", flush=True)
    return 0 if fine else 1


def notice(mutation: Mutation) -> list[str] | None:
    """Which tests fail under the mutation. None: the source is not what the mutation was written for."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PACKAGE.name
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        module = copy / mutation.module
        source = module.read_text()
        for old, new in mutation.changes:
            if source.count(old) != 1:
                return None
            source = source.replace(old, new)
        module.write_text(source)
        return [name for name, files in TESTS.items() if not passes(files, folder)]


def passes(files: list[str], first_on_path: str) -> bool:
    # Few examples that are the same each time, and no search for a smaller one: it is enough that a test fails.
    few = {"BACKORDER_EXAMPLES": "50", "BACKORDER_NO_SHRINK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--noconftest", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env={**os.environ, **few, "PYTHONPATH": first_on_path},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode not in (0, 1, 2):  # 2: the mistake already shows when the module is imported
        raise RuntimeError(run.stdout + run.stderr)
    return run.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
