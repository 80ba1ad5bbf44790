"""The rules of a shop as JSON: the journal says which ones were in force, and a replay uses them again."""

import json

from pydantic import TypeAdapter

from backorder_allocator.decision import Rules

_rules = TypeAdapter(Rules)


def dump(rules: Rules) -> str:
    """Rules as JSON: equal rules give equal texts."""
    return json.dumps(_rules.dump_python(rules, mode="json"), sort_keys=True)


def load(body: str) -> Rules:
    """The rules that `dump` wrote. Raises ValueError for anything else."""
    return _rules.validate_json(body)
