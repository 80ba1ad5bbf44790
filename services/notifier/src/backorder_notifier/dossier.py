"""What is known of an order from its messages: pure. One JSON document beside the order's row.

Topics are read side by side: what one says may come before what another said earlier. So each figure is kept as its own
topic says it (sums and last states, which don't mind what the others do), and `standing` puts them together.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    PromiseChanged,
)
from backorder_schemas.outputs import PromiseCause

Held = Literal["complete", "preorder"]

LineEvent = (
    BackorderCreated | BackorderFilled | BackorderCancelled | BackorderRejected | PromiseChanged | AllocationRevoked
)
Event = LineEvent | AllocationReleased | LinesShipped | LinesDelivered | OrderCancelled
"""What changes an order after it was placed."""


class Part(BaseModel):
    """Base of what is kept as JSON: immutable; defaults are left out when written."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LineState(Part):
    """One line, figure by figure as messages say them; `standing` says where its units are."""

    sku: str
    location: str = "main"
    ordered: int | None = None
    waiting: int = 0
    rejected: int = 0
    cancelled: int = 0  # Σ BackorderCancelled
    revoked: int = 0  # Σ AllocationRevoked, reason cancelled
    born_cancelled: int = 0  # by a cancel that came before the order, which no event tells
    revoked_at_least: int = 0  # as its first BackorderCreated shows, whose AllocationRevoked may come later
    released: int = 0  # Σ AllocationReleased − Σ AllocationRevoked with a release_no
    shipped: int = 0
    held: Held | None = None  # why the last fill was not released with it; it may have been since
    preorder: bool = False
    promised_at: datetime | None = None  # the date last published; null: not known
    cause: PromiseCause | None = None  # of this date, where it differs from the first one
    substitutes: tuple[str, ...] = ()
    ever_waited: bool = False
    reminded: tuple[date, ...] = ()  # the told days of which promise_approaching was decided
    missed: tuple[date, ...] = ()  # the told days of which promise_missed was decided


class ShipmentState(Part):
    """One LinesShipped: units by line number. `message_id` is null while only its LinesDelivered came."""

    lines: dict[int, int] = Field(default_factory=dict)
    message_id: str | None = None
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    delivered_at: datetime | None = None


class Dossier(Part):
    """`lines` by line number, `shipments` by id. Before `placed`, only lines that events named are known."""

    placed: bool = False
    lines: dict[int, LineState] = Field(default_factory=dict)
    shipments: dict[str, ShipmentState] = Field(default_factory=dict)
    cancel_ids: tuple[str, ...] = ()
    cancel_requested: dict[int, int | None] = Field(default_factory=dict)  # units by line; null: all
    whole_cancelled: bool = False
    cancelled_by_shop: tuple[str, ...] = ()  # ids of OrderCancelled; all others are by the customer
    feedback_decided: bool = False

    @property
    def ever_waited(self) -> bool:
        return any(line.ever_waited for line in self.lines.values())


class ToldLine(Part):
    """What the customer last heard of a line. `told_at`: when this promised day was told first."""

    waiting: int
    promised_at: datetime | None = None
    told_at: datetime | None = None


Told = Annotated[dict[int, ToldLine], "by line number"]
"""What the customer was last told of the order, as the provider accepted it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the units of a line are: ordered = ready + waiting + cancelled + rejected, shipped ≤ ready.

    `ready` are the customer's now, shipped ones included. `ordered` and `ready` are None while no message said how many
    were ordered.
    """

    ordered: int | None
    ready: int | None
    waiting: int
    cancelled: int
    rejected: int
    shipped: int


def standing(dossier: Dossier, line_no: int) -> Standing:
    """Where the units of this line are, as far as its messages came."""
    line = dossier.lines[line_no]
    cancelled = line.cancelled + line.born_cancelled + max(line.revoked, line.revoked_at_least)
    if line.ordered is None:
        return Standing(None, None, line.waiting, cancelled, line.rejected, line.shipped)
    left = line.ordered
    if not line.ever_waited:
        # Of a line that never waited, a cancel before its order is all that tells: no event follows it.
        cancelled = max(cancelled, _requested(dossier, line_no, left))
    rejected = min(line.rejected, left)
    waiting = min(line.waiting, left - rejected)
    cancelled = min(cancelled, left - rejected - waiting)
    ready = left - rejected - waiting - cancelled
    shipped = min(line.shipped, left)
    # What left the warehouse is a fact before the allocator has booked it: it takes waiting, cancelled, rejected units
    # in this order (contract §8.9), so "still waits" is never said of what is on its way.
    more = max(0, shipped - ready)
    from_waiting = min(more, waiting)
    from_cancelled = min(more - from_waiting, cancelled)
    return Standing(
        ordered=left,
        ready=ready + more,
        waiting=waiting - from_waiting,
        cancelled=cancelled - from_cancelled,
        rejected=rejected - (more - from_waiting - from_cancelled),
        shipped=shipped,
    )


def _requested(dossier: Dossier, line_no: int, ordered: int) -> int:
    if dossier.whole_cancelled:
        return ordered
    units = dossier.cancel_requested.get(line_no, 0)
    return ordered if units is None else min(units, ordered)
