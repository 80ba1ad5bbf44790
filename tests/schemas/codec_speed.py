"""How much the codec costs above bare pydantic: python -m tests.schemas.codec_speed [--json]."""

import argparse
import json
import timeit
from collections.abc import Callable, Mapping

from pydantic import BaseModel

from backorder_schemas import decode, encode
from backorder_schemas.topics import TOPIC_OF
from tests.schemas.samples import EXAMPLE, TRACEPARENT, fields, line

ROUNDS, CALLS = 60, 500


def fastest(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """µs of one call of each way: the best of many short rounds in turns, so that a busy machine hurts all alike."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            best[name] = min(best[name], timeit.timeit(way, number=CALLS) / CALLS * 1e6)
    return best


def ways_of(kind: str, value: bytes, headers: list[tuple[str, bytes | None]]) -> dict[str, Callable[[], object]]:
    """The same message by bare pydantic and by the codec, in and out."""
    model: type[BaseModel] = type(EXAMPLE[kind])
    topic = TOPIC_OF[type(EXAMPLE[kind])]
    message = EXAMPLE[kind]
    key = topic.key_of(message).encode()
    return {
        "bare in": lambda: model.model_validate_json(value),
        "decode": lambda: decode(topic.name, key, value, headers),
        "bare out": lambda: message.model_dump_json().encode(),
        "encode": lambda: encode(message, source="/backorder/allocator"),
    }


def measure() -> dict[str, dict[str, float]]:
    """By case: µs of each way, and the codec's cost as a multiple of bare pydantic's."""
    fifteen = [line(line_no=number, sku=f"SKU-{number}") for number in range(1, 16)]
    traced: list[tuple[str, bytes | None]] = [("traceparent", TRACEPARENT.encode())]
    filled = EXAMPLE["BackorderFilled"]
    cases = {
        "OrderPlaced": ways_of("OrderPlaced", json.dumps(fields("OrderPlaced", order_url=None)).encode(), []),
        "OrderPlaced, an URL": ways_of("OrderPlaced", json.dumps(fields("OrderPlaced")).encode(), traced),
        "OrderPlaced, 15 lines": ways_of("OrderPlaced", json.dumps(fields("OrderPlaced", lines=fifteen)).encode(), []),
        "OrderPlaced, a new field": ways_of("OrderPlaced", json.dumps(fields("OrderPlaced", gift=True)).encode(), []),
        "StockReceived": ways_of("StockReceived", json.dumps(fields("StockReceived")).encode(), []),
        "BackorderFilled, our headers": ways_of(
            "BackorderFilled", filled.model_dump_json().encode(), [*encode(filled, source="/x").headers]
        ),
    }
    measured = {}
    for name, ways in cases.items():
        took = fastest(ways)
        measured[name] = {
            **took,
            "decode / bare": took["decode"] / took["bare in"],
            "encode / bare": took["encode"] / took["bare out"],
        }
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    measured = measure()
    if parser.parse_args().json:
        print(json.dumps(measured))
        return
    for name, took in measured.items():
        print(f"{name:30}", "  ".join(f"{way} {value:.2f}" for way, value in took.items()))


if __name__ == "__main__":
    main()
