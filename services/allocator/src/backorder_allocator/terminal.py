"""What every command does with its terminal: settings in, problems in one line, exit codes."""

import sys
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from backorder_allocator import settings, telemetry

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
Result = TypeVar("Result")


def say(problem: object, code: int) -> int:
    """Tell a problem on stderr; gives the exit code."""
    for line in str(problem).splitlines():
        sys.stderr.write(f"backorder-allocator: {line}\n")
    return code


def load() -> settings.Settings:
    """The settings of the environment; logs go to stderr from now on."""
    loaded = settings.load()
    telemetry.set_up_logs(loaded.log_level)
    return loaded


def understood(read: Callable[[str], Result], text: str) -> Result:
    """What an operator typed, or wrong usage (exit 2) with the text of the ValueError."""
    try:
        return read(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
