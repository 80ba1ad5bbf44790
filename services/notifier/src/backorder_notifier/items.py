"""Messages about orders on their way into the database. Pure."""

from dataclasses import dataclass

from backorder_notifier.dossier import Event
from backorder_notifier.rows import Record
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    OrderPlaced,
    PromiseChanged,
)

VersionedEvent = (
    BackorderCreated
    | BackorderFilled
    | BackorderCancelled
    | BackorderRejected
    | PromiseChanged
    | AllocationReleased
    | AllocationRevoked
)


@dataclass(frozen=True, slots=True)
class Item:
    """A message about one order and the record that it came in, which is what is kept while it waits.

    `out_of_turn`: a later version was applied before.
    """

    record: Record
    message: OrderPlaced | Event
    traceparent: str | None
    out_of_turn: bool = False
