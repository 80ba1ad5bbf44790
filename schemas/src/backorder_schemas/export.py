"""Write the JSON Schemas and examples that are committed, or compare them with the code."""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from backorder_schemas.codec import DeadLetter, decode
from backorder_schemas.compatibility import KAFKA, breaking_changes
from backorder_schemas.examples import EXAMPLES
from backorder_schemas.fields import Model
from backorder_schemas.inputs import Input
from backorder_schemas.topics import TOPIC_OF, TYPES

LOG = "BREAKING.md"
_LOG_HEAD = "# Breaking changes\n\nWritten by `python -m backorder_schemas.export --breaking WHY`.\n\n"


class _Untitled(GenerateJsonSchema):
    """Without the titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(message: type[Model]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a message, as readers apply it."""
    topic = TOPIC_OF[message]
    schema = message.model_json_schema(schema_generator=_Untitled)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:backorder:{message.__name__}:v1",
        KAFKA: {"topic": topic.name, "key": topic.key},
    }
    return head | schema


def files() -> dict[str, str]:
    """Every file that is committed, by its path under the folder."""
    contents = {f"json/{name}.json": _pretty(schema_of(message)) for name, message in TYPES.items()}
    for message in EXAMPLES:
        # Of an input, what is optional and empty is left out, as a publisher would.
        fields = message.model_dump(mode="json", exclude_none=isinstance(message, Input))
        contents[f"examples/{message.type}.json"] = _pretty(fields)
    return contents


def _pretty(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def differences(folder: Path) -> list[str]:
    """Files that are not what the code says."""
    expected = files()
    present = {f"{part}/{path.name}" for part in ("json", "examples") for path in (folder / part).glob("*.json")}
    stale = [f"{name}: no message has this name" for name in sorted(present - expected.keys())]
    missing = [f"{name}: is missing" for name in sorted(expected.keys() - present)]
    differing = [
        f"{name}: differs from the code"
        for name in sorted(present & expected.keys())
        if (folder / name).read_text(encoding="utf-8") != expected[name]
    ]
    return stale + missing + differing


def breaks(folder: Path) -> list[str]:
    """What the code would break of the messages whose schemas and examples are in the folder."""
    found = []
    for path in sorted((folder / "json").glob("*.json")):
        message = TYPES.get(path.stem)
        if message is None:
            found.append(f"{path.stem}: the message was removed")
            continue
        before = json.loads(path.read_text(encoding="utf-8"))
        out = not issubclass(message, Input)
        found += [f"{path.stem}: {change}" for change in breaking_changes(before, schema_of(message), out=out)]
    for path in sorted((folder / "examples").glob("*.json")):
        message = TYPES.get(path.stem)
        if message is not None:
            read = decode(TOPIC_OF[message].name, None, path.read_bytes(), ())
            if isinstance(read, DeadLetter):
                found.append(f"{path.stem}: the example of before is refused ({read.reason}: {read.detail})")
    return found


def write(folder: Path, why: str | None = None) -> None:
    """Bring the folder up to date. `why` excuses what breaks, and is noted with it in the folder's log."""
    broken = breaks(folder)
    expected = files()
    for name, content in expected.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    for part in ("json", "examples"):
        for path in (folder / part).glob("*.json"):
            if f"{part}/{path.name}" not in expected:
                path.unlink()
    if broken and why is not None:
        log = folder / LOG
        text = log.read_text(encoding="utf-8") if log.exists() else _LOG_HEAD
        changes = "".join(f"  - {change}\n" for change in broken)
        log.write_text(f"{text}- {version('backorder-schemas')}: {why}\n{changes}", encoding="utf-8")


def _default_folder() -> Path | None:
    """`schemas/` of the source checkout that this package is run from, if it is."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() and (folder / "src").is_dir() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: fine; 1: the files differ or the change breaks something; 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m backorder_schemas.export", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="with json/ and examples/; default: schemas/ of the checkout"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files are not up to date")
    parser.add_argument("--breaking", metavar="WHY", help=f"write a breaking change too, noted in {LOG}")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder or _default_folder()
    if folder is None:
        parser.error("the package is not run from a source checkout: name the folder that holds json/ and examples/")
    if not folder.is_dir():
        parser.error(f"{folder} is not a folder")
    if chosen.check and chosen.breaking:
        parser.error("--check writes nothing: --breaking has no use with it")
    broken = breaks(folder)
    for change in broken:
        print(f"breaking: {change}", file=sys.stderr)
    if chosen.check:
        found = differences(folder)
        for difference in found:
            print(f"{folder / difference}", file=sys.stderr)
        if found:
            print("bring them up to date: python -m backorder_schemas.export", file=sys.stderr)
        return 1 if found or broken else 0
    if broken and not chosen.breaking:
        print("nothing was written; if it has to be: --breaking WHY", file=sys.stderr)
        return 1
    write(folder, chosen.breaking)
    return 0


if __name__ == "__main__":
    sys.exit(main())
