"""What operators type, as plain values. Wrong input is a ValueError whose text says what is meant instead."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from backorder_schemas import DeadLetter, OrderPlaced, decode
from backorder_schemas.fields import MAX_DAYS, MAX_QUANTITY

SPAN = re.compile(r"(-?)([0-9]{1,9})([mhdw])")
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
RECEIPT = re.compile(r"(?P<sku>.+)=(?P<quantity>[0-9]{1,20})(?:@(?P<location>[^:]+))?")


@dataclass(frozen=True, slots=True)
class Receipt:
    """Units that might arrive."""

    sku: str
    location: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Delay:
    """A supply that might come later, or earlier where `by` is negative. `supply` may name one SKU of it, too."""

    supply: str
    by: timedelta


def span(text: str) -> timedelta:
    """A time such as 30d, 36h, 2w or -7d."""
    found = SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time such as 30d, 36h or 2w")
    sign, number, unit = found.groups()
    if int(number) > timedelta(MAX_DAYS) / UNITS[unit]:
        raise ValueError(f"{text!r} is more than {MAX_DAYS} days")
    length = int(number) * UNITS[unit]
    return -length if sign else length


def moment(text: str, now: datetime) -> datetime:
    """A moment as RFC 3339 with a zone, or as an age such as 2h: so long before now."""
    with suppress(ValueError):
        if SPAN.fullmatch(text):
            age = span(text)
            if age >= timedelta(0):
                return now - age
        else:
            at = datetime.fromisoformat(text)
            if at.tzinfo is not None:
                return at
    raise ValueError(f"{text!r} is not a time such as 2026-11-02T09:00:00Z, or an age such as 2h or 3d")


def receipt(text: str) -> Receipt:
    """A receipt such as PHONE-X=40 or PHONE-X=40@outlet. A SKU may hold "=" itself: the last one counts."""
    found = RECEIPT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not SKU=UNITS or SKU=UNITS@LOCATION, such as PHONE-X=40@main")
    quantity = int(found["quantity"])
    if not 1 <= quantity <= MAX_QUANTITY:
        raise ValueError(f"{text!r}: units are from 1 to {MAX_QUANTITY}")
    return Receipt(found["sku"], found["location"] or "main", quantity)


def delay(text: str) -> Delay:
    """A delay such as S-17=7d (all SKUs of the supply), S-17/PHONE-X=7d or S-17=-2d."""
    supply, _, by = text.rpartition("=")
    if not supply:
        raise ValueError(f"{text!r} is not SUPPLY=TIME or SUPPLY/SKU=TIME, such as S-17=7d")
    return Delay(supply, span(by))


def order(text: str, now: datetime) -> OrderPlaced:
    """An order as the shop would send it; `type`, `id`, `occurred_at` and `placed_at` may be left out."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError("is not an OrderPlaced message")
    at = now.isoformat()
    content = {"type": "OrderPlaced", "id": "what-if", "occurred_at": at, "placed_at": at} | content
    decoded = decode("orders", None, json.dumps(content).encode(), ())
    if isinstance(decoded, DeadLetter):
        raise ValueError(f"is not an order that would be taken: {decoded.detail}")
    if not isinstance(decoded.message, OrderPlaced):
        raise ValueError(f"is {decoded.message.type}, not OrderPlaced")
    return decoded.message
