"""What is known of an order from its messages: pure. One JSON document beside the order's row."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from backorder_schemas.outputs import PromiseCause

Held = Literal["complete", "preorder"]


class Part(BaseModel):
    """Base of what is kept as JSON: immutable; defaults are left out when written."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LineState(Part):
    """One line. Units: ordered = ready + waiting + cancelled + rejected, where `ordered` is known.

    `cancelled` counts BackorderCancelled and AllocationRevoked (reason cancelled); `cancel_requested` what
    OrderCancelled asked for, which may be all that is known of a line that never waited.
    """

    sku: str
    location: str = "main"
    ordered: int | None = None
    waiting: int = 0
    rejected: int = 0
    cancelled: int = 0
    cancel_requested: int = 0
    released: int = 0  # Σ AllocationReleased − Σ AllocationRevoked with a release_no
    shipped: int = 0
    held: Held | None = None  # why the last fill was not released, until a release
    preorder: bool = False
    promised_at: datetime | None = None  # the date last published; null: not known
    cause: PromiseCause | None = None  # of the last PromiseChanged
    substitutes: tuple[str, ...] = ()
    ever_waited: bool = False

    @property
    def ready(self) -> int | None:
        """Units that are the customer's now, shipped ones included. None while the order's quantity is not known."""
        if self.ordered is None:
            return None
        gone = self.rejected + max(self.cancelled, min(self.cancel_requested, self.ordered - self.waiting))
        return max(0, self.ordered - self.waiting - gone)


class ShipmentState(Part):
    """One LinesShipped: units by line number."""

    lines: dict[int, int]
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    delivered_at: datetime | None = None


class Dossier(Part):
    """`lines` by line number, `shipments` by id."""

    lines: dict[int, LineState] = Field(default_factory=dict)
    shipments: dict[str, ShipmentState] = Field(default_factory=dict)
    feedback_due_at: datetime | None = None  # set when all is delivered, null again once decided
    feedback_decided: bool = False


class ToldLine(Part):
    """What the customer last heard of a line. `approached`, `missed`: the promised date that was reminded or missed."""

    waiting: int
    promised_at: datetime | None = None
    told_at: datetime | None = None  # when this promised date was told first
    approached: datetime | None = None
    missed: datetime | None = None


Told = Annotated[dict[int, ToldLine], "by line number"]
"""What the customer was last told of the order, as the provider accepted it."""
