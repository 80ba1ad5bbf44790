"""What a change of a JSON Schema breaks.

Messages live long: topics keep them, and the two ends are not upgraded together. So of a message *in*, all that was
accepted must still be: nothing required that was not, nothing narrower. Of a message *out*, readers of before and
records of before both have to be served: its fields stay as they are, and new ones that need not be there may come.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

KAFKA = "x-kafka"  # topic and key of the message
# What a value may be at least, and at most.
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def breaking_changes(before: Schema, after: Schema, *, out: bool) -> list[str]:
    """Sentences, each naming the field and what breaks; empty where the change is safe."""
    moved = [] if before.get(KAFKA) == after.get(KAFKA) else ["message: its topic or key changed"]
    return moved + list(_compare(_Node(before, before), _Node(after, after), "", out))


class _Node:
    """A part of a schema, with the whole that its references point into."""

    def __init__(self, part: Schema, whole: Schema) -> None:
        if "$ref" in part:
            part = {**whole["$defs"][part["$ref"].removeprefix("#/$defs/")], **part}
        self.part = part
        self.whole = whole

    def at(self, part: Schema) -> "_Node":
        return _Node(part, self.whole)

    def alternatives(self) -> dict[str, "_Node"]:
        """By JSON type. Our schemas have one alternative for each type at most."""
        nodes = [self.at(part) for part in self.part.get("anyOf", (self.part,))]
        return {node.part.get("type", "any"): node for node in nodes}


def _compare(before: _Node, after: _Node, path: str, out: bool) -> Iterator[str]:
    where = path or "message"
    if before.part.get("default") != after.part.get("default"):
        yield f"{where}: what it means to leave it out changed"
    old, new = before.alternatives(), after.alternatives()
    if gone := sorted(old.keys() - new.keys()):
        yield f"{where}: {', '.join(gone)} is no longer accepted"
    if out and (came := sorted(new.keys() - old.keys())):
        yield f"{where}: may be {', '.join(came)} now, which readers of before refuse"
    for kind in sorted(old.keys() & new.keys()):
        yield from _compare_values(old[kind], new[kind], path, out)


def _compare_values(before: _Node, after: _Node, path: str, out: bool) -> Iterator[str]:
    where = path or "message"
    for rule in (*_LOWER, *_UPPER):
        was, now = before.part.get(rule), after.part.get(rule)
        if was != now:
            wider = now is None or (was is not None and (now < was if rule in _LOWER else now > was))
            if out or not wider:
                yield f"{where}: {rule} was {was} and is {now}"
    for rule in ("pattern", "format"):
        if before.part.get(rule) != after.part.get(rule):
            yield f"{where}: {rule} changed"
    yield from _compare_choices(before, after, where, out)
    if "items" in before.part or "items" in after.part:
        yield from _compare(
            before.at(before.part.get("items", {})), after.at(after.part.get("items", {})), f"{path}[]", out
        )
    yield from _compare_fields(before, after, path, out)


def _compare_choices(before: _Node, after: _Node, where: str, out: bool) -> Iterator[str]:
    was, now = _choices(before.part), _choices(after.part)
    if now is not None and (was is None or was - now):
        yield f"{where}: of the values, {_names(was - now) if was else 'most'} are no longer accepted"
    if out and was is not None and (now is None or now - was):
        yield f"{where}: may be {_names(now - was) if now else 'anything'} now, which readers of before refuse"


def _choices(part: Schema) -> set[Any] | None:
    if "const" in part:
        return {part["const"]}
    return set(part["enum"]) if "enum" in part else None


def _names(values: set[Any]) -> str:
    return ", ".join(sorted(map(str, values)))


def _compare_fields(before: _Node, after: _Node, path: str, out: bool) -> Iterator[str]:
    old, new = before.part.get("properties", {}), after.part.get("properties", {})
    was_required, is_required = set(before.part.get("required", ())), set(after.part.get("required", ()))
    for name in old:
        inner = f"{path}.{name}" if path else name
        if name not in new:
            yield f"{inner}: was removed"
        else:
            yield from _compare(before.at(old[name]), after.at(new[name]), inner, out)
        if out and name in was_required - is_required:
            yield f"{inner}: may be left out now"
    for name in sorted(is_required - was_required):
        yield f"{path}.{name}: is required now".removeprefix(".")
