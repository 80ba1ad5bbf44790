"""The allocator sees how customers are reached, since it reads orders, and keeps nothing of it."""

import asyncio
import json
from dataclasses import replace
from typing import Any
from urllib.request import urlopen

from tests.e2e.messages import Message, cancel, order, receipt
from tests.e2e.world import OUTPUTS, World

CONTACT = {"email": "canary-local@canary-domain.example", "phone": "+9915100000077", "name": "Canary Canaryson"}
CANARIES = ("canary", "9915100000077")


def with_contact(message: Message, **fields: Any) -> Message:
    content = json.loads(message.value or b"")
    return replace(message, value=json.dumps(content | {"customer": content["customer"] | CONTACT} | fields).encode())


async def test_no_address_phone_number_or_name_is_in_what_the_allocator_keeps_and_says(
    world: World,
) -> None:
    service = await world.allocator(ALLOCATOR_LOG_LEVEL="DEBUG")
    good = with_contact(order("1001", ("CHAIR", 15)))
    await world.tell(
        receipt("r-1", "CHAIR", 10),
        good,
        replace(good, value=(good.value or b"")[:-20]),
        replace(good, key=CONTACT["email"].encode(), value=json.dumps({CONTACT["email"]: 1}).encode()),
        with_contact(order("1002", ("CHAIR", 1)), currency=CONTACT["email"], type="OrderPlaced"),
        with_contact(order("1003", ("CHAIR", 1)), type=CONTACT["email"]),
        with_contact(order("1001", ("CHAIR", 1))),  # the same order with other lines
        with_contact(order("1004", ("CHAIR", 1)), lines=CONTACT["name"]),
    )
    await world.tell(cancel("1001", (1, 2)), receipt("r-2", "CHAIR", 1))

    letters = await world.ask("dlq", "list")
    assert len(letters) == 6
    places = {"log": service.said(), "list": str(letters), **await _tables(world)}
    for path in ("readyz", "metrics", "asyncapi.json"):
        with await asyncio.to_thread(urlopen, f"{await service.address()}/{path}") as answer:
            places[path] = answer.read().decode()
    shown = [("dlq", "show", str(each["id"])) for each in letters if each["reason"] != "conflicting_duplicate"]
    lines = [("explain", "1001"), ("queue", "CHAIR"), *shown]
    said = await asyncio.gather(*(world.ask(*line) for line in lines))
    places |= {" ".join(line): str(answer) for line, answer in zip(lines, said, strict=True)}
    places["topics"] = str([(each.key, each.value, each.headers) for each in await world.read(*OUTPUTS)])
    dead = await world.read("allocator.dlq")
    places["notes on dead letters"] = str([h for each in dead for h in each.headers if h[0].startswith("dlq.")])
    assert all(places.values())
    assert [name for name, text in places.items() if any(canary in text.lower() for canary in CANARIES)] == []


async def _tables(world: World) -> dict[str, str]:
    """All but the bytes of dead letters, which are kept as they came."""
    named = await world.database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    texts = {}
    for (table,) in named:
        rows = await world.database.fetch(
            f"SELECT to_jsonb(t) - 'value' - 'key' - 'header_values' AS row FROM {table} t"
        )
        texts[f"table {table}"] = f"{table} {[row['row'] for row in rows]}"
        # Bytes are shown as hex.
        texts[f"bytes of {table}"] = f"{table} {[_unhexed(row['row']) for row in rows]}"
    return texts


def _unhexed(row: str) -> str:
    texts = (value[2:] for value in json.loads(row).values() if isinstance(value, str) and value.startswith("\\x"))
    return " ".join(bytes.fromhex(text).decode(errors="replace") for text in texts)
