"""What is committed is what the code says, and a change that breaks others does not pass unseen."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings

from backorder_schemas import Decoded, export
from backorder_schemas.compatibility import breaking_changes
from backorder_schemas.topics import TYPES
from tests.schemas.samples import read
from tests.schemas.test_codec_properties import orders, wrong_in

COMMITTED = Path(__file__).resolve().parents[2] / "schemas"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("json", "examples"):
        shutil.copytree(COMMITTED / part, tmp_path / part)
    return tmp_path


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def test_what_is_committed_is_what_the_code_says() -> None:
    assert export.main(["--check"]) == 0
    assert export.main(["--check", str(COMMITTED)]) == 0


def test_every_message_has_a_schema_and_an_example_that_is_read() -> None:
    for part in ("json", "examples"):
        assert {path.stem for path in (COMMITTED / part).glob("*")} == set(TYPES)
    for path in (COMMITTED / "examples").glob("*.json"):
        assert isinstance(read(path.stem, path.read_bytes()), Decoded)


def test_a_file_that_differs_is_missing_or_too_many_fails_the_check(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder / "json" / "LowStock.json", lambda schema: schema.update(description="Other"))
    (folder / "examples" / "LowStock.json").unlink()
    (folder / "examples" / "Nobody.json").write_text("{}")
    assert export.main(["--check", str(folder)]) == 1
    told = capsys.readouterr().err
    assert "json/LowStock.json: differs from the code" in told
    assert "examples/LowStock.json: is missing" in told
    assert "examples/Nobody.json: no message has this name" in told
    assert export.main([str(folder)]) == 0
    assert export.main(["--check", str(folder)]) == 0
    assert not (folder / export.LOG).exists()


def test_a_breaking_change_fails_is_not_written_and_has_to_be_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "json" / "StockReceived.json"
    change(path, lambda schema: schema["properties"].update(colour={"type": "string"}))
    before = path.read_text()
    for arguments in (["--check", str(folder)], [str(folder)]):
        assert export.main(arguments) == 1
        assert "breaking: StockReceived: colour: was removed" in capsys.readouterr().err
        assert path.read_text() == before
    assert export.main([str(folder), "--breaking", "Nobody ever sent a colour"]) == 0
    assert export.main(["--check", str(folder)]) == 0
    log = (folder / export.LOG).read_text()
    assert "Nobody ever sent a colour\n  - StockReceived: colour: was removed\n" in log


def test_a_message_that_goes_breaks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "json" / "LowStock.json", folder / "json" / "HighStock.json")
    assert export.main([str(folder)]) == 1
    assert "breaking: HighStock: the message was removed" in capsys.readouterr().err
    assert export.main([str(folder), "--breaking", "Stock is never high"]) == 0
    assert not (folder / "json" / "HighStock.json").exists()


def test_an_example_of_before_that_is_refused_now_breaks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder / "examples" / "StockReceived.json", lambda example: example.update(quantity=0))
    assert export.main([str(folder)]) == 1
    assert "StockReceived: the example of before is refused (invalid: quantity: " in capsys.readouterr().err


def test_a_first_export_writes_everything(tmp_path: Path) -> None:
    assert export.main(["--check", str(tmp_path)]) == 1
    assert export.main([str(tmp_path)]) == 0
    assert export.main(["--check", str(tmp_path)]) == 0


def test_away_from_a_checkout_the_folder_has_to_be_named(tmp_path: Path) -> None:
    package = Path(export.__file__).parent
    shutil.copytree(package, tmp_path / "site-packages" / "backorder_schemas")
    run = [sys.executable, "-S", "-m", "backorder_schemas.export", "--check"]
    path = f"{tmp_path / 'site-packages'}:{Path(pydantic.__file__).parents[1]}"
    done = subprocess.run(run, capture_output=True, text=True, env={"PYTHONPATH": path}, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "name the folder that holds json/ and examples/" in done.stderr
    named = subprocess.run(
        [*run, str(COMMITTED)], capture_output=True, text=True, env={"PYTHONPATH": path}, cwd=tmp_path, check=False
    )
    assert (named.returncode, named.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--check", "--breaking", "x"], ["/nowhere/at/all"], ["--unknown"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        export.main(arguments)
    assert stopped.value.code == 2


def schema(**properties: Any) -> dict[str, Any]:
    required = [name for name, part in properties.items() if part.pop("needed", False)]
    return {"type": "object", "properties": properties, "required": required}


def text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def number(**more: Any) -> dict[str, Any]:
    return {"type": "integer", **more}


def nullable(part: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"anyOf": [part, {"type": "null"}], "default": None, **more}


# before, after, whether it breaks a message in, and a message out
CHANGES = {
    "nothing": (schema(a=text()), schema(a=text()), False, False),
    "a field goes": (schema(a=text()), schema(), True, True),
    "a field may come": (schema(), schema(a=nullable(text())), False, False),
    "a field has to come": (schema(), schema(a=text(needed=True)), True, True),
    "a field is needed now": (schema(a=text()), schema(a=text(needed=True)), True, True),
    "a field is not needed now": (schema(a=text(needed=True)), schema(a=text()), False, True),
    "another type": (schema(a=text()), schema(a=number()), True, True),
    "null is refused": (schema(a=nullable(text())), schema(a=text(default=None)), True, True),
    "null may come": (schema(a=text(default=None)), schema(a=nullable(text())), False, True),
    "another default": (schema(a=text(default="x")), schema(a=text(default="y")), True, True),
    "a higher minimum": (schema(a=number(minimum=0)), schema(a=number(minimum=1)), True, True),
    "a lower minimum": (schema(a=number(minimum=1)), schema(a=number(minimum=0)), False, True),
    "a new maximum": (schema(a=number()), schema(a=number(maximum=9)), True, True),
    "no maximum": (schema(a=number(maximum=9)), schema(a=number()), False, True),
    "shorter": (schema(a=text(maxLength=9)), schema(a=text(maxLength=8)), True, True),
    "longer": (schema(a=text(maxLength=8)), schema(a=text(maxLength=9)), False, True),
    "another pattern": (schema(a=text(pattern="^a$")), schema(a=text(pattern="^b$")), True, True),
    "another format": (schema(a=text(format="date-time")), schema(a=text()), True, True),
    "a value less": (schema(a=text(enum=["x", "y"])), schema(a=text(const="x")), True, True),
    "a value more": (schema(a=text(const="x")), schema(a=text(enum=["x", "y"])), False, True),
    "values at all": (schema(a=text()), schema(a=text(enum=["x"])), True, True),
    "any value": (schema(a=text(enum=["x"])), schema(a=text()), False, True),
    "fewer items": ({"type": "array", "maxItems": 9}, {"type": "array", "maxItems": 8}, True, True),
    "other items": ({"type": "array", "items": text()}, {"type": "array", "items": number()}, True, True),
    "words only": (schema(a=text(description="x")), schema(a=text(description="y", title="z")), False, False),
    "another topic": ({"x-kafka": {"topic": "a"}}, {"x-kafka": {"topic": "b"}}, True, True),
    "inside of a part": (
        {**schema(a={"$ref": "#/$defs/A"}), "$defs": {"A": schema(b=text())}},
        {**schema(a={"$ref": "#/$defs/B"}), "$defs": {"B": schema(b=text(needed=True))}},
        True,
        True,
    ),
    "another name of a part": (
        {**schema(a={"items": {"$ref": "#/$defs/A"}, "type": "array"}), "$defs": {"A": schema(b=text())}},
        {**schema(a={"items": {"$ref": "#/$defs/B"}, "type": "array"}), "$defs": {"B": schema(b=text())}},
        False,
        False,
    ),
}


@pytest.mark.parametrize(("before", "after", "breaks_in", "breaks_out"), CHANGES.values(), ids=CHANGES.keys())
def test_what_breaks(before: Any, after: Any, breaks_in: bool, breaks_out: bool) -> None:
    assert bool(breaking_changes(before, after, out=False)) == breaks_in
    assert bool(breaking_changes(before, after, out=True)) == breaks_out


def test_a_change_is_told_by_field_and_rule() -> None:
    before = schema(lines={"type": "array", "items": schema(quantity=number(maximum=9))}, by=text(enum=["x", "y"]))
    after = schema(lines={"type": "array", "items": schema(quantity=number(maximum=8))}, by=text(enum=["x"]))
    assert breaking_changes(before, after, out=False) == [
        "lines[].quantity: maximum was 9 and is 8",
        "by: of the values, y are no longer accepted",
    ]


def conforms(value: Any, part: Any, whole: Any) -> bool:
    """Whether a value is right by a schema: as much of JSON Schema as ours use, integers as in the contract."""
    if "$ref" in part:
        part = whole["$defs"][part["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in part:
        return any(conforms(value, choice, whole) for choice in part["anyOf"])
    if value not in part.get("enum", [part.get("const", value)]):
        return False
    match part["type"], value:
        case "null", None:
            return True
        case "boolean", bool():
            return True
        case "integer", int() if not isinstance(value, bool):
            return bool(part.get("minimum", value) <= value <= part.get("maximum", value))
        case "string", str():
            fits = part.get("minLength", 0) <= len(value) <= part.get("maxLength", len(value))
            return fits and bool(re.search(part.get("pattern", "").replace("$", r"\Z"), value))
        case "array", list():
            fits = part.get("minItems", 0) <= len(value) <= part.get("maxItems", len(value))
            return fits and all(conforms(item, part["items"], whole) for item in value)
        case "object", dict():
            inner = ((value[name], rule) for name, rule in part["properties"].items() if name in value)
            return value.keys() >= set(part.get("required", ())) and all(conforms(v, r, whole) for v, r in inner)
        case _:
            return False


# What a schema can't say, or ours doesn't.
BEYOND_SCHEMAS = (
    "Input should be an RFC 3339 date",  # 30 February
    "line_no should be unique in the order",
    "Input should not be 0",
    "release_at is needed",
)


@given(orders())
@settings(max_examples=300)
def test_the_codec_takes_what_the_committed_schema_allows_and_nothing_else(text: str) -> None:
    if wrong_in(text) is not None:
        return
    content = json.loads(text)
    kind = content.get("type")
    if not isinstance(kind, str) or kind not in TYPES or "data" in content:
        return
    committed = json.loads((COMMITTED / "json" / f"{kind}.json").read_text())
    result = read(kind, text.encode())
    if isinstance(result, Decoded):
        assert conforms(content, committed, committed)
    elif conforms(content, committed, committed):
        assert any(rule in result.detail for rule in BEYOND_SCHEMAS), result
