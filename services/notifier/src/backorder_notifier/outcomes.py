"""What subscribers of `notifications` get: what became of a message to a customer. Never an address."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from backorder_notifier.content import ContentLine
from backorder_notifier.rows import Headers
from backorder_schemas import CustomerNotified, NotificationFailed, ToldLine, encode

SOURCE = "/backorder/notifier"
NAMESPACE = UUID("b6c1f3a8-2f0e-4d7b-93c5-1d9b0f1c7e42")


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

    `lines` are those of the message's content.
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
        about=tuple(about),
        told=tuple(
            ToldLine(
                line_no=line.line_no,
                sku=line.sku,
                quantity_waiting=line.waiting,
                promised_at=line.expected if line.waiting else None,
            )
            for line in lines
        ),
    )
    encoded = encode(message, source=SOURCE, traceparent=traceparent)
    return Outcome(order_id, version, encoded.key, encoded.value, tuple(encoded.headers))
