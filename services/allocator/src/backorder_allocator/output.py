"""How answers are printed: JSON on request, a table on a terminal, plain tab-separated lines in a pipe."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text


def as_json(answer: object) -> None:
    text = json.dumps(answer, indent=2, default=_plain, ensure_ascii=False)
    # A dead letter may hold half of a surrogate pair, which no terminal takes: it stays the escape that it was.
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def show_table(rows: Sequence[dict[str, Any]], *, json: bool, title: str | None = None) -> None:
    """Rows with the same keys. Rich respects NO_COLOR."""
    if json:
        as_json(list(rows))
        return
    if not sys.stdout.isatty():
        if rows:
            sys.stdout.write("\t".join(rows[0]) + "\n")
        for row in rows:
            sys.stdout.write("\t".join(_cell(value) for value in row.values()) + "\n")
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in rows[0] if rows else ():
        right = all(isinstance(row[name], int) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if right else "left", overflow="fold")
    for row in rows:
        # Text, so that a SKU such as [red] is not taken for markup.
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(table)


class Streamed:
    """Rows with the same keys, printed as they come: there may be more than memory holds, and people like to watch."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def add(self, row: dict[str, Any]) -> None:
        if self.json:
            text = json.dumps(row, default=_plain, ensure_ascii=False)
            text = ("[" if self.rows == 0 else ",\n ") + text
        elif sys.stdout.isatty():
            text = "  ".join(_cell(value) for value in row.values() if value not in {None, ""}) + "\n"
        else:
            head = "\t".join(row) + "\n" if self.rows == 0 else ""
            text = head + "\t".join(_cell(value) for value in row.values()) + "\n"
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
        sys.stdout.flush()
        self.rows += 1

    def __exit__(self, *_: object) -> None:
        # Also where the rest could not be done: what was printed is whole.
        if self.json:
            sys.stdout.write("]\n" if self.rows else "[]\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return str(_plain(value)) if isinstance(value, datetime | timedelta) else str(value)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)
