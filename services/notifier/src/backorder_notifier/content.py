"""What one message tells, as data: decided once, kept as JSON, put into words for each channel and try."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from backorder_notifier.dossier import Held, Part
from backorder_notifier.kinds import Kind
from backorder_schemas.outputs import PromiseCause

Move = Literal["later", "earlier", "appeared", "lost"]


class Alternative(Part):
    """Something in stock that the customer might take instead."""

    sku: str
    title: str | None = None


class Shipment(Part):
    shipment_id: str
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    delivered_at: datetime | None = None


class ContentLine(Part):
    """One line as it stands when the message is made, and its news since the last one.

    The news are units: `created` began to wait, `lost` of them because stock was lost, `filled` got stock, `cancelled`
    and `rejected` will not come, `shipped_now` left with this message's shipments (arrived, in a message about that).
    `previous` is the date told last, where `move` says that it differs; `expected` is also there for units that are
    held for their release.
    """

    line_no: int
    sku: str
    title: str | None = None
    ordered: int | None = None
    waiting: int = 0
    ready: int | None = None  # the customer's now, shipped ones included
    shipped: int = 0
    held: Held | None = None
    preorder: bool = False
    expected: datetime | None = None  # of what waits; null: not known
    previous: datetime | None = None
    move: Move | None = None
    cause: PromiseCause | None = None
    created: int = 0
    lost: int = 0
    filled: int = 0
    cancelled: int = 0
    cancelled_by: Literal["customer", "shop"] | None = None
    rejected: int = 0
    rejected_because: Literal["not_accepted", "denied", "waiting_limit", "max_wait"] | None = None
    shipped_now: int = 0
    alternatives: tuple[Alternative, ...] = ()


class Content(Part):
    """One message. `lines`: those with news, and all that wait; for a new backorder also those that are ready.

    `late`: told long after it happened (an outage), so it says how things stand now and that we are late.
    `delivery`: "complete" means that ready units are held until all is there. `whole_cancelled`: nothing of the order
    is wanted any more, be it here or not.
    """

    kind: Kind
    order_id: str
    delivery: Literal["split", "complete"] = "split"
    order_url: str | None = None
    late: bool = False
    whole_cancelled: bool = False
    lines: tuple[ContentLine, ...] = ()
    shipments: tuple[Shipment, ...] = ()
    due_on: datetime | None = Field(default=None, description="promise_approaching, promise_missed: the promised date")
