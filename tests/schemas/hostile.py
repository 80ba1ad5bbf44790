"""Hostile records: messages of the contract at the edges of what it allows, and bent in one place or several.

What is nearly right reaches deepest. So most records are valid messages whose values are extreme and whose ids collide;
some are bent as JSON, some as text, some in their envelope, headers or key.
"""

import atexit
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from backorder_schemas import TOPICS
from backorder_schemas.topics import TOPIC_OF, TYPES

Headers = tuple[tuple[str, bytes | None], ...]

MOST: Final = 1_000_000_000
LAST_REVISION: Final = 2**63 - 1
LONG_ID: Final = "\U0001f9f5" * 200


@dataclass(frozen=True)
class HostileRecord:
    """One record as a sender may make it. `topic` is without prefix, `timestamp` in milliseconds."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


@dataclass(frozen=True)
class Raw:
    """Text that stands in JSON as it is, whether it is JSON or not."""

    text: str


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may occur twice."""


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# Few, so that messages meet: each of these is a valid id.
ORDER_IDS = ("a", "b", "1", LONG_ID, '":{}\\', "\u202eb\u2066", "\u2028\u2029", "e\u0301", "\ufeff", "NULL", "'; --")
SKUS = ("X", "Y", "\U0010ffff" * 200, 'x"\\', "\u202ex")
LOCATIONS = ("main", "outlet", "\U0001f9f5" * 200, " ")
DOCUMENTS = ("d1", "d2", "d3", LONG_ID, "\u200b", "𝕯" * 200)
QUANTITIES = (1, 1, 2, 3, 5, 999_999_999, MOST)
LINE_NUMBERS = (1, 1, 2, 3, MOST)
REVISIONS = (1, 2, 3, 4, LAST_REVISION - 1, LAST_REVISION)
DAYS = (0, 1, 30, 36_500)
MOMENTS = (
    "2026-11-02T09:00:00Z",
    "2026-11-03T09:00:00.123456789+01:00",
    "2026-11-02t09:00:00z",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00.000001Z",
    "0001-01-01T00:00:00-14:00",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999998Z",
    "9999-12-31T23:59:59.999999999Z",
    "9999-12-31T23:59:59+14:00",
    "1969-12-31T23:59:59.999999-00:00",
    "2024-02-29T12:00:00+05:45",
)
NO_MOMENTS = (
    "0000-12-31T23:59:59Z",
    "0001-01-01T00:00:00+00:01",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59.999999-00:01",
    "10000-01-01T00:00:00Z",
    "2016-12-31T23:59:60Z",
    "2026-02-29T09:00:00Z",
    "2026-11-02T24:00:00Z",
    "2026-11-02T09:00:00+24:00",
    "2026-11-02T09:00:00+99:99",
    "2026-11-02T09:00:00",
    "2026-11-02",
    "2026-11-02T09:00:00Zjunk",
    "\u0662\u0660\u0662\u0666-11-02T09:00:00Z",
    "infinity",
    "now",
)
ZONES = ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "Etc/GMT+12", "Nowhere/Land", "posixrules", "a/b/c+1_x-")
NO_ZONES = ("../../etc/passwd", "/etc/localtime", "Europe\\Berlin", "UTC\x00", "localtime\n")
TEXTS = (
    "plain",
    "\u202eevil\u2066",
    "line\nbreak\ttab\x07\x1b[31m",
    "\U0001f9f5" * 1000,
    "=?utf-8?q?=0D=0ABcc:_x?=",
    "{{ 7*7 }}<script>",
)
URLS = ("https://shop.example.org/o?a=1&b=2", "http://[::1]:99999/", "https://" + "x" * 1992, "https://\u202e/%00")
MONEY = ("0", "0.000000", "12.50", "999999999999.999999")
MISFITS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.0, 1e400, -0.0, "", " ", "1", "15", "\x00", "a\x00b", "\x01", "\x7f", "\x85", "\ud800",
    "\udc00x", "x" * 201, LONG_ID + "x", [], {}, [[]], [None], {"": {}}, MOST + 1, 2**31, 2**53, 2**63, -(2**63) - 1,
    10**30, "NaN", "1e9", "0x1", "١٥", "12.5", "-1", "1e3", "12.1234567", "9" * 13, "\u202e", "main:x", "ftp://x/",
    "javascript:alert(1)", "http://a b", *NO_MOMENTS, *NO_ZONES,
    Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999999999"), Raw("-0"), Raw("00"), Raw("1."), Raw("0x1F"),
    Raw("9" * 5000), Raw("-" + "9" * 400), Raw("1e9"), Raw("15.0"), Raw("'a'"), Raw('"\\ud800"'), Raw('"\\u0000"'),
    Raw('"\\ud83e\\uddf5"'), Raw('"\\udcff\\ud800"'), Raw('"\\x41"'), Raw('"a\tb"'), Raw("[" * 200 + "]" * 200),
    Raw("[" * 2000), Raw('{"a":' * 500 + "1" + "}" * 500), Raw("undefined"), Raw("/* */1"), Raw("1,"), Raw(""),
    Raw('{"a":1,"a":2}'), Raw("[1,]"), Raw("tRue"),
)  # fmt: skip
UNKNOWN_KEYS = (
    "x",
    "",
    "\x00",
    "specversion",
    "data",
    "traceparent",
    "type ",
    "Type",
    "__proto__",
    "\ud800",
    "id\u200b",
)

_from = st.sampled_from
order_ids, skus, locations, documents = _from(ORDER_IDS), _from(SKUS), _from(LOCATIONS), _from(DOCUMENTS)
quantities, revisions, moments, texts = _from(QUANTITIES), _from(REVISIONS), _from(MOMENTS), _from(TEXTS)
urls = _from(URLS)
days = st.none() | _from(DAYS)
Draw = Callable[[st.SearchStrategy[Any]], Any]


def _order(draw: Draw) -> dict[str, Any]:
    customer = {"customer_id": draw(order_ids), "segment": draw(_from(["standard", "gold", "platinum", LONG_ID]))}
    if draw(st.booleans()):
        customer |= {
            "email": draw(_from(["ada@example.org", "x" * 308 + "@example.org", "\u202e@\u2066", "not an address"])),
            "phone": "+4915112345678",
            "name": draw(_from(["Ada", "\u202eadA", "=?utf-8?b?DQo=?=", "𝕯" * 500])),
            "locale": draw(_from(["de", "zz-ZZ", "ar_EG", "en-US-x-y"])),
            "timezone": draw(_from(ZONES)),
        }
    numbers = draw(_from([(1,), (1,), (1, 2), (2, 1, 3), (MOST,)]))
    return {
        "order_id": draw(order_ids),
        "placed_at": draw(moments),
        "currency": draw(_from(["EUR", "USD", "ZZZ"])),
        "customer": customer,
        "order_url": draw(st.none() | urls),
        "delivery": draw(_from(["split", "complete", None])),
        "lines": [
            {
                "line_no": number,
                "sku": draw(skus),
                "quantity": draw(quantities),
                "unit_price": draw(_from(MONEY)),
                "location": draw(locations),
                "accepts_backorder": draw(_from([True, True, True, False, None])),
            }
            for number in numbers
        ],
    }


def _lines(draw: Draw) -> list[dict[str, Any]]:
    # A line that is named more often than its units fit in any column.
    count = draw(_from([1, 1, 2, 3, 1000]))
    if count == 1000:
        return [{"line_no": draw(_from(LINE_NUMBERS)), "quantity": draw(quantities)}] * count
    return [{"line_no": draw(_from(LINE_NUMBERS)), "quantity": draw(quantities)} for _ in range(count)]


def _cancel(draw: Draw) -> dict[str, Any]:
    lines = draw(_from([None, None, "some"])) and _lines(draw)
    return {"order_id": draw(order_ids), "by": draw(_from(["customer", "shop"])), "reason": draw(texts), "lines": lines}


def _stock(draw: Draw, document: str) -> dict[str, Any]:
    return {document: draw(documents), "sku": draw(skus), "location": draw(locations)}


def _policy(draw: Draw) -> dict[str, Any]:
    return {
        "sku": draw(skus),
        "revision": draw(revisions),
        "title": draw(texts),
        "backorders": draw(_from(["allow", "allow", "deny", "preorder"])),
        "waiting_limit": draw(st.none() | _from([0, 1, MOST])),
        "max_wait_days": draw(days),
        "safety_stock": draw(_from([0, 0, 1, MOST])),
        "low_stock_at": draw(st.none() | _from([0, 5, MOST])),
        "release_at": draw(moments),
        "default_lead_time_days": draw(days),
        "substitutes": draw(_from([[], ["Y"], ["X", "X", "Y"], list(SKUS)])),
    }


def _supply(draw: Draw) -> dict[str, Any]:
    return {"supply_id": draw(documents), "revision": draw(revisions), "sku": draw(skus)}


def _contact(draw: Draw) -> dict[str, Any]:
    return {
        "customer_id": draw(order_ids),
        "revision": draw(revisions),
        "email": draw(_from([None, "ada@example.org", "@", "\u202e@x"])),
        "phone": draw(_from([None, "+12", "+999999999999999"])),
        "name": draw(_from([None, "Ada", "𝕯" * 500])),
        "locale": draw(_from([None, "de", "xx_YY"])),
        "timezone": draw(st.none() | _from(ZONES)),
        "channels": draw(_from([None, [], ["email"], ["email", "sms", "pigeon"], ["a"] * 50])),
        "optional_kinds": draw(_from([None, True, False])),
    }


def _output(draw: Draw) -> dict[str, Any]:
    return {
        "version": draw(_from([1, 2, 3, 4, 5, LAST_REVISION])),
        "epoch": draw(_from([1, 1, 1, 1, 2, LAST_REVISION])),
        "caused_by": draw(documents),
    }


def _of_line(draw: Draw) -> dict[str, Any]:
    return _output(draw) | {
        "order_id": draw(order_ids),
        "customer_id": draw(st.none() | order_ids),
        "line_no": draw(_from(LINE_NUMBERS)),
        "sku": draw(skus),
        "location": draw(locations),
        "quantity": draw(quantities),
        "quantity_waiting": draw(quantities),
    }


def _created(draw: Draw) -> dict[str, Any]:
    return _of_line(draw) | {
        "quantity_ordered": draw(quantities),
        "quantity_allocated": draw(_from([0, 1, MOST])),
        "kind": draw(_from(["backorder", "preorder"])),
        "reason": draw(_from(["ordered", "stock_lost"])),
        "promised_at": draw(st.none() | moments),
        "substitutes": draw(_from([[], ["Y"], list(SKUS)])),
    }


def _moved(draw: Draw) -> dict[str, Any]:
    dates = ("promised_at", "previous_promised_at", "first_promised_at")
    cause = draw(_from(["supply_moved", "recomputed", "overtaken"]))
    return _of_line(draw) | {name: draw(st.none() | moments) for name in dates} | {"cause": cause}


def _released(draw: Draw) -> dict[str, Any]:
    lines = [{"line_no": draw(_from(LINE_NUMBERS)), "sku": draw(skus), "location": draw(locations)} for _ in range(2)]
    return _output(draw) | {
        "order_id": draw(order_ids),
        "customer_id": draw(order_ids),
        "release_no": draw(_from([1, 2, LAST_REVISION])),
        "lines": [line | {"quantity": draw(quantities)} for line in lines],
        "complete": draw(st.booleans()),
    }


def _shown(draw: Draw) -> dict[str, Any]:
    return _output(draw) | {
        "sku": draw(skus),
        "location": draw(locations),
        "status": draw(_from(["in_stock", "backorder", "preorder", "out_of_stock"])),
        "available": draw(_from([0, 1, LAST_REVISION])),
        "waiting": draw(_from([0, 1, LAST_REVISION])),
        "next_promise_at": draw(st.none() | moments),
    }


_WAYS_TO_REJECT = ["not_accepted", "denied", "waiting_limit", "max_wait"]
MAKERS: dict[str, Callable[[Draw], dict[str, Any]]] = {
    "OrderPlaced": _order,
    "OrderCancelled": _cancel,
    "StockReceived": lambda draw: (
        _stock(draw, "receipt_id") | {"quantity": draw(quantities), "supply_id": draw(st.none() | documents)}
    ),
    "StockAdjusted": lambda draw: (
        _stock(draw, "adjustment_id") | {"delta": draw(_from([1, -1, -3, MOST, -MOST])), "reason": draw(texts)}
    ),
    "StockCounted": lambda draw: _stock(draw, "count_id") | {"counted": draw(_from([0, 1, 5, MOST]))},
    "SupplyExpected": lambda draw: (
        _supply(draw)
        | {
            "location": draw(locations),
            "quantity": draw(quantities),
            "expected_at": draw(moments),
            "supplier": draw(documents),
        }
    ),
    "SupplyCancelled": _supply,
    "SkuPolicyChanged": _policy,
    "LinesShipped": lambda draw: {
        "shipment_id": draw(documents),
        "order_id": draw(order_ids),
        "lines": _lines(draw),
        "carrier": draw(texts),
        "tracking_number": draw(st.none() | documents),
        "tracking_url": draw(st.none() | urls),
    },
    "LinesDelivered": lambda draw: {
        "shipment_id": draw(documents),
        "order_id": draw(order_ids),
        "delivered_at": draw(moments),
    },
    "ContactChanged": _contact,
    "BackorderCreated": _created,
    "BackorderFilled": lambda draw: _of_line(draw) | {"held": draw(_from([None, "complete", "preorder"]))},
    "BackorderCancelled": lambda draw: _of_line(draw) | {"by": draw(_from(["customer", "shop"]))},
    "BackorderRejected": lambda draw: _of_line(draw) | {"reason": draw(_from(_WAYS_TO_REJECT)), "substitutes": ["Y"]},
    "PromiseChanged": _moved,
    "AllocationReleased": _released,
    "AllocationRevoked": lambda draw: (
        _of_line(draw)
        | {
            "release_no": draw(st.none() | _from([1, LAST_REVISION])),
            "reason": draw(_from(["cancelled", "stock_lost"])),
        }
    ),
    "SkuAvailability": _shown,
}
"""Valid fields of a message without type, id and moment, by type."""

# ── what is bent ─────────────────────────────────────────────────────────────────────────────────────────────────────

TREE_BENDS = ("replace", "replace", "replace", "drop", "add", "twice", "rename", "wrap", "many", "swap")
TEXT_BENDS = ("cut", "insert", "overwrite", "array", "bom", "utf-16", "latin-1", "behind", "twice_encoded", "pad")
DAMAGE = (
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b'"',
    b"\\",
    b"{",
    b"]",
    b":",
    b"\xf4\x90\x80\x80",
    b"\\u0000",
)
HEADERS: tuple[Headers, ...] = (
    (),
    (("content-type", b"application/cloudevents+json; charset=UTF-8"),),
    (("content-type", b"\xff\xfe"), ("ce_id", b"\xff"), ("ce_type", b"\xed\xa0\x80")),
    (("content-type", None), ("ce_id", None), ("ce_type", None), ("traceparent", None)),
    (("ce_id", b""), ("ce_type", b""), ("ce_specversion", b"9.9")),
    (("ce_id", b"a\x00b"), ("ce_type", b"com.shop.OrderPlaced")),
    (("ce_id", LONG_ID.encode() + b"x"), ("ce_type", b"backorder.StockReceived.v1")),
    (("ce_id", b"from-a-header"), ("ce_type", b"." * 100_000)),
    (("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"),),
    (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n"),),
    (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("", b""), ("\x00", b"\x00")),
    tuple((f"header-{number}", b"x" * 10) for number in range(5_000)),
    tuple(("traceparent", b"\xff" * number) for number in range(300)),
    (("x" * 100_000, b"y" * 100_000),),
    (("reply_to", b"orders"), ("correlation_id", b"\xff"), ("dlq.reason", b"not mine"), ("__TypeId__", b"java.Evil")),
)
TIMESTAMPS = (
    1_793_600_000_000,
    1_793_600_000_001,
    0,
    -1,
    1,
    253_402_300_799_999,
    253_402_300_800_000,
    2**63 - 1,
    -(2**63),
)


@st.composite
def hostile_records(draw: st.DrawFn, kinds: Sequence[str], bent: int = 50) -> HostileRecord:
    """A record with a message of these types; `bent` of a hundred are bent somehow, all are extreme."""
    kind = draw(_from(list(kinds)))
    content = {"type": kind, "id": draw(documents) + draw(_from(["", "1", "2", "3"])), "occurred_at": draw(moments)}
    content["id"] = content["id"][-200:]
    content |= MAKERS[kind](draw)
    is_bent = draw(st.integers(0, 99)) >= 100 - bent
    tree: Any = content
    for bend in draw(st.lists(_from(TREE_BENDS), max_size=3)) if is_bent else ():
        tree = bend_tree(draw, tree, bend)
    envelope = draw(_from(["bare"] * 6 + ["structured", "structured"])) if is_bent else "bare"
    if envelope == "structured":
        tree = structured(draw, tree)
    value = render(tree, ascii_only=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for bend in draw(st.lists(_from(TEXT_BENDS), max_size=1)) if is_bent else ():
        value = bend_text(draw, value, bend)
    topic = TOPIC_OF[TYPES[kind]].name
    right_key = str(content.get(TOPICS[topic].key, "")).encode("utf-8", "surrogatepass")
    return HostileRecord(
        topic,
        draw(_from([right_key, right_key, None, b"", b"\xff\x00", b"k" * 10_000])),
        draw(_from([value] * 30 + [None, b""])) if is_bent else value,
        draw(_from(HEADERS)) if is_bent else (),
        draw(_from(TIMESTAMPS)),
    )


def _misfit(draw: Draw) -> Any:
    # A copy: what is bent next may be in it, and no example may depend on the one before.
    return deepcopy(draw(_from(MISFITS)))


def bend_tree(draw: Draw, tree: Any, bend: str) -> Any:
    """The same with one thing wrong somewhere."""
    places = list(places_in(tree))
    if not places:
        return tree
    holder, name = places[draw(st.integers(0, len(places) - 1))]
    match bend:
        case "replace":
            holder[name] = _misfit(draw)
        case "drop":
            del holder[name]
        case "add":
            if isinstance(holder, dict):
                holder[draw(_from(UNKNOWN_KEYS))] = _misfit(draw)
        case "twice":
            if isinstance(holder, dict):
                again = Pairs([*holder.items(), (name, _misfit(draw))])
                return again if holder is tree else replaced(tree, holder, again)
        case "rename":
            if isinstance(holder, dict):
                holder[draw(_from(UNKNOWN_KEYS))] = holder.pop(name)
        case "wrap":
            holder[name] = draw(_from([[holder[name]], {"data": holder[name]}, {name: holder[name]}]))
        case "many":
            # Not of what is itself large: a thousand of a thousand lines would only measure patience.
            few = isinstance(holder[name], dict | list)
            holder[name] = [holder[name]] * (2 if few else draw(_from([2, 1001])))
        case _:
            other_holder, other = places[draw(st.integers(0, len(places) - 1))]
            mine, theirs = holder[name], other_holder[other]
            if not isinstance(mine, dict | list) and not isinstance(theirs, dict | list):
                holder[name], other_holder[other] = theirs, mine
    return tree


def places_in(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            found += [(holder, name) for name in holder]
            waiting += holder.values()
        elif isinstance(holder, list) and not isinstance(holder, Pairs):
            found += [(holder, at) for at in range(min(len(holder), 3))]
            waiting += holder[:3]
    return found


def replaced(tree: Any, old: Any, new: Any) -> Any:
    for holder, name in places_in(tree):
        if holder[name] is old:
            holder[name] = new
    return tree


def structured(draw: Draw, tree: Any) -> Any:
    """The object in an envelope, some of whose attributes stand in for what it lacks, or contradict it."""
    kind = "OrderPlaced"
    if isinstance(tree, dict):
        kind = tree.get("type", kind)
        for name in draw(st.lists(_from(["type", "id"]), max_size=2)):
            tree.pop(name, None)
    return {
        "specversion": draw(_from(["1.0", "1.0", None, 1, "0.3"])),
        "type": draw(_from([kind, f"com.shop.{kind}", f"backorder.{kind}.v1", 7, None, ".", [kind]])),
        "id": draw(_from(["from-an-envelope", "", 7, None, "\x00", LONG_ID + "x"])),
        "source": "/shop",
        "data": draw(_from([tree] * 6 + [None, [tree], "{}", {"data": tree}])),
    }


def render(value: Any, *, ascii_only: bool) -> str:
    """JSON text, of what is not JSON too."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        return "{" + ",".join(_member(name, each, ascii_only) for name, each in value) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(_member(str(name), each, ascii_only) for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(render(each, ascii_only=ascii_only) for each in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def _member(name: str, value: Any, ascii_only: bool) -> str:
    return f"{json.dumps(name, ensure_ascii=ascii_only)}:{render(value, ascii_only=ascii_only)}"


def bend_text(draw: Draw, value: bytes, bend: str) -> bytes:
    at = draw(st.integers(0, max(0, len(value) - 1)))
    match bend:
        case "cut":
            return value[:at]
        case "insert":
            return b"".join((value[:at], draw(_from(DAMAGE)), value[at:]))
        case "overwrite":
            damage: bytes = draw(_from(DAMAGE))
            return value[:at] + damage + value[at + len(damage) :]
        case "array":
            return b"[" + value + b"]"
        case "bom":
            return b"\xef\xbb\xbf" + value
        case "utf-16" | "latin-1":
            return value.decode("utf-8", "surrogatepass").encode(
                bend, "ignore" if bend == "latin-1" else "surrogatepass"
            )
        case "behind":
            return b"".join((value, draw(_from([b"}", b"\x00", b"{}", b"\n\n", b"null"]))))
        case "twice_encoded":
            return json.dumps(value.decode("utf-8", "surrogatepass")).encode()
        case _:
            return b" " * 3_000 + value + b"\t\r\n" * 1_000


# ── how many ─────────────────────────────────────────────────────────────────────────────────────────────────────────

EXAMPLES: Final = int(os.environ.get("BACKORDER_HOSTILE", "0"))
"""Inputs of the long run, in each of the places that take them; 0: a few hundred that never change."""


TRIED: Counter[str] = Counter()
"""What became of the records, by place; told at the end of the long run."""


def _tell() -> None:
    for place, records in sorted(TRIED.items()):
        print(f"{records:>9,} {place}")
    print(f"{TRIED.total():>9,} hostile records in all")


if EXAMPLES:
    atexit.register(_tell)


def hostile_settings(few: int, *, share: int = 1) -> settings:
    """For a test that takes `few` examples, or as many of the long run as make its share of inputs."""
    return settings(
        max_examples=max(few, EXAMPLES // share),
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate] if os.environ.get("BACKORDER_NO_SHRINK") else [Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
