"""Values of messages in the form of the wire, to change and to feed."""

import json
from typing import Any

from backorder_schemas import DeadLetter, Decoded, Message, decode
from backorder_schemas.examples import EXAMPLES
from backorder_schemas.topics import TOPIC_OF, TYPES

EXAMPLE: dict[str, Message] = {message.type: message for message in EXAMPLES}
MISSING = object()
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def fields(kind: str, /, **changes: Any) -> dict[str, Any]:
    """The example of this type with some top-level fields changed; MISSING takes one away."""
    content: dict[str, Any] = json.loads(EXAMPLE[kind].model_dump_json())
    content.update(changes)
    return {name: value for name, value in content.items() if value is not MISSING}


def line(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"line_no": 1, "sku": "PHONE-X", "quantity": 15, "unit_price": "499.00", **changes}
    return {name: value for name, value in content.items() if value is not MISSING}


def read(kind: str, value: bytes | dict[str, Any], headers: Any = ()) -> Decoded | DeadLetter:
    """Decode on the topic that messages of this type belong on."""
    topic = TOPIC_OF[TYPES[kind]].name
    return decode(topic, None, value if isinstance(value, bytes) else json.dumps(value).encode(), headers)


def accepted(kind: str, /, **changes: Any) -> Any:
    result = read(kind, fields(kind, **changes))
    assert isinstance(result, Decoded), result
    return result.message


def refused(kind: str, /, **changes: Any) -> DeadLetter:
    result = read(kind, fields(kind, **changes))
    assert isinstance(result, DeadLetter), result
    return result
