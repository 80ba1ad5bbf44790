"""What subscribers of `notifications` get: what became of a message to a customer. Never an address."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from backorder_notifier.content import ContentLine
from backorder_notifier.rows import Headers
from backorder_schemas import CustomerNotified, NotificationFailed, ToldLine, encode
from backorder_schemas.fields import MAX_LINES

SOURCE = "/backorder/notifier"
NAMESPACE = UUID("b6c1f3a8-2f0e-4d7b-93c5-1d9b0f1c7e42")

# With its key and headers still what a broker takes by default (max.message.bytes), however badly it can be compressed.
_MOST_BYTES: Final = 1_000_000
_SURELY_SMALL: Final = 500  # ids and lines, of at most some 900 bytes each


@dataclass(frozen=True, slots=True)
class Outcome:
    """One record for the outbox."""

    order_id: str
    version: int
    key: bytes
    value: bytes
    headers: Headers


def outcome(
    *,
    order_id: str,
    customer_id: str | None,
    version: int,
    epoch: int,
    kind: str,
    channel: str,
    attempts: int,
    failure: str | None,
    about: Sequence[str],
    lines: Iterable[ContentLine] = (),
    occurred_at: datetime,
    traceparent: str | None,
) -> Outcome:
    """CustomerNotified, or NotificationFailed where there is a `failure`. `version` is the order's next one there,
    `epoch` that of this database (`identity`).

    `lines` are those of the message's content. However much a message told, its outcome can be made and published: it
    names the first 1,000 events, and no line where the lines would make it larger than a broker takes.
    """
    shape = CustomerNotified if failure is None else NotificationFailed
    message = shape(
        id=str(uuid5(NAMESPACE, f"{epoch}\nnotifications\n{order_id}\n{version}")),
        occurred_at=occurred_at,
        version=version,
        epoch=epoch,
        caused_by=about[0],
        order_id=order_id,
        customer_id=customer_id,
        kind=kind,
        channel=channel,
        attempts=attempts,
        reason=failure,
        about=tuple(about[:MAX_LINES]),
        told=tuple(_told(line) for line in lines)[:MAX_LINES],
    )
    if _is_too_large(message):
        message = message.model_copy(update={"told": ()})
    encoded = encode(message, source=SOURCE, traceparent=traceparent)
    return Outcome(order_id, version, encoded.key, encoded.value, tuple(encoded.headers))


def _is_too_large(message: CustomerNotified | NotificationFailed) -> bool:
    if len(message.about) + len(message.told) < _SURELY_SMALL:
        return False
    return len(message.model_dump_json().encode()) > _MOST_BYTES


def _told(line: ContentLine) -> ToldLine:
    return ToldLine(
        line_no=line.line_no,
        sku=line.sku,
        quantity_waiting=line.waiting,
        promised_at=line.expected if line.waiting else None,
    )
