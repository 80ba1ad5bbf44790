"""The codec beside bare pydantic, on the same bytes: µs a message, by kind of message."""

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from pydantic import TypeAdapter

from backorder_schemas import Decoded, Message, decode, encode
from tests.bench.frame import Rounds
from tests.e2e.messages import Message as Record
from tests.e2e.messages import order, receipt

RECORDS_A_CASE = 500


@dataclass(slots=True)
class Case:
    """Records of one kind of message; the ways to read and to write all of them; what was measured, in µs a message."""

    name: str
    records: int
    bytes_each: float
    ways: Mapping[str, Callable[[], object]]
    took: Rounds = field(default_factory=Rounds)


def cases(orders: Sequence[Record], published: Sequence[Record]) -> list[Case]:
    """Orders of the load, orders of ten lines as real baskets are, receipts; and the frequent kinds of events."""
    chance = random.Random(10)
    baskets = [
        order(f"b-{each}", *((f"SKU-{chance.randrange(2000)}", 1) for _ in range(10)), email=f"c-{each}@example.org")
        for each in range(RECORDS_A_CASE)
    ]
    receipts = [receipt(f"r-{each}", f"SKU-{each}", 7) for each in range(RECORDS_A_CASE)]
    found = [case("OrderPlaced", orders), case("OrderPlaced, 10 lines", baskets), case("StockReceived", receipts)]
    for kind in ("AllocationReleased", "BackorderCreated", "SkuAvailability"):
        of_kind = [each for each in published if dict(each.headers)["ce_type"] == f"backorder.{kind}.v1".encode()]
        if of_kind:
            found.append(case(f"{kind}, with headers", of_kind))
    return found


def case(name: str, records: Sequence[Record]) -> Case:
    chosen = records[:RECORDS_A_CASE]
    read = [decode(each.topic, each.key, each.value, each.headers) for each in chosen]
    messages = [each.message for each in read if isinstance(each, Decoded)]
    assert len(messages) == len(chosen)
    values = [each.value or b"" for each in chosen]
    adapter: TypeAdapter[Message] = TypeAdapter(type(messages[0]))

    def bare_in() -> None:
        for value in values:
            adapter.validate_json(value)

    def codec_in() -> None:
        for each in chosen:
            decode(each.topic, each.key, each.value, each.headers)

    def bare_out() -> None:
        for message in messages:
            message.model_dump_json().encode()

    def codec_out() -> None:
        for message in messages:
            encode(message, source="/backorder/allocator")

    ways = {"bare in": bare_in, "decode": codec_in, "bare out": bare_out, "encode": codec_out}
    return Case(name, len(chosen), sum(map(len, values)) / len(values), ways)


def measure(found: Sequence[Case], rounds: int) -> None:
    """Fills `took`. The ways take turns, so that a busy machine is unfair to all of them."""
    enabled = gc.isenabled()
    gc.disable()  # as `timeit` does: whatever else lives in this process would be walked, too
    try:
        for number in range(-1, rounds):  # the first one warms up
            for each in found:
                for name, way in each.ways.items():
                    began = perf_counter()
                    way()
                    if number >= 0:
                        each.took.add(name, (perf_counter() - began) / each.records * 1e6)
    finally:
        if enabled:
            gc.enable()
