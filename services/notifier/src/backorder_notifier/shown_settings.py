"""Settings for people: each as it would be set, with its default; secrets masked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from backorder_notifier.policy import Debounce, QuietHours
from backorder_notifier.settings import PREFIX, Settings

MASK = "********"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    name: str
    value: str | None
    default: str | None
    is_set: bool


def shown(settings: Settings) -> list[ShownSetting]:
    """Every setting for people, as it would be set; secrets masked."""
    rows = []
    for name, info in Settings.model_fields.items():
        required = info.is_required()
        rows.append(
            ShownSetting(
                name=PREFIX + name.upper(),
                value=_text(getattr(settings, name)),
                default=None if required else _text(info.get_default(call_default_factory=True)),
                is_set=name in settings.model_fields_set,
            )
        )
    return rows


def _text(value: Any) -> str | None:
    match value:
        case None:
            return None
        case SecretStr():
            return MASK
        case tuple():
            return ",".join(str(each) for each in value)
        case frozenset():
            return ",".join(sorted(value))
        case timedelta():
            return _span(value)
        case datetime():
            return value.astimezone(UTC).isoformat()
        case time():
            return f"{value:%H:%M}"
        case Mapping():
            return json.dumps({name: _part(each) for name, each in value.items()})
        case str() if "?" in value and value.startswith("http"):
            # What follows may be a key that the other side asks for.
            return urlsplit(value)._replace(query=MASK).geturl()
        case _:
            return str(value)


def _part(value: QuietHours | Debounce) -> Any:
    if isinstance(value, QuietHours):
        return f"{value.begin:%H:%M}-{value.end:%H:%M}"
    return {"quiet": _span(value.quiet), "at_most": _span(value.at_most)}


def _span(value: timedelta) -> str:
    """As people write it: PT30M, P2D; else seconds."""
    seconds = value.total_seconds()
    for unit, size in (("P{}D", 86_400), ("PT{}H", 3600), ("PT{}M", 60)):
        if seconds and seconds % size == 0:
            return unit.format(int(seconds // size))
    return f"PT{seconds:g}S"
