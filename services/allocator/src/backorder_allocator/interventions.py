"""What people decided: who, when, what and why, written in the transaction of what it did."""

import getpass
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backorder_allocator.statements import Connection, run


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants something, and why, in their own words."""

    by: str
    why: str | None = None


def operator() -> str:
    """Who gives this command, as the operating system has it: user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


async def record(connection: Connection, asked: Asked, what: str, detail: Mapping[str, Any], at: datetime) -> int:
    """Gives its number."""
    rows = await run(connection, "record_intervention", at, asked.by, what, asked.why, json.dumps(detail))
    return int(rows[0]["intervention_id"])


async def amend(connection: Connection, intervention_id: int, detail: Mapping[str, Any]) -> None:
    """For what is done in portions: what came of it so far."""
    await run(connection, "amend_intervention", intervention_id, json.dumps(detail))
