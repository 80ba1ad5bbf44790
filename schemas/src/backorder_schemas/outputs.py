"""Messages that Backorder sends. None carries an address, a phone number or a name."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from backorder_schemas.fields import (
    MAX_LINES,
    By,
    Counter,
    Id,
    Ids,
    LineNo,
    Location,
    Model,
    NullMeans,
    Quantity,
    QuantityOrZero,
    Text,
    Timestamp,
    Total,
    Word,
)

PromiseCause = Literal[
    "supply_cancelled",
    "supply_moved",
    "supply_changed",
    "supply_overdue",
    "supply_announced",
    "stock_received",
    "stock_lost",
    "overtaken",
    "cancelled_ahead",
    "policy_changed",
    "recomputed",
]
SubstituteSkus = Annotated[Ids, NullMeans(())]


class Output(Model):
    """What every message from Backorder carries."""

    type: str
    id: Id = Field(description="The same on every attempt to send this message")
    occurred_at: Timestamp = Field(description="Now, for what caused it: the input record's timestamp, a due time, …")
    version: Counter = Field(description="1, 2, 3 … without gap per topic and key")
    epoch: Counter = Field(description="Higher after a restored database: versions start anew")
    caused_by: Id = Field(description="The id of the input message, or timer:… or planner:…")


class OrderOutput(Output):
    """What is about an order."""

    order_id: Id
    customer_id: Id | None = None


class LineOutput(OrderOutput):
    """What is about one line of an order."""

    line_no: LineNo
    sku: Id
    location: Location


class PoolOutput(Output):
    """What is about the stock of one SKU at one location."""

    sku: Id
    location: Location


class ReleasedLine(Model):
    """Units of one line that may ship."""

    line_no: LineNo
    sku: Id
    location: Location
    quantity: Quantity


class AllocationReleased(OrderOutput):
    """These units may ship now."""

    type: Literal["AllocationReleased"] = "AllocationReleased"
    release_no: Counter = Field(description="1, 2 … per order")
    lines: Annotated[tuple[ReleasedLine, ...], Strict(False), Field(fail_fast=True, min_length=1, max_length=500)]
    complete: bool = Field(description="Nothing of the order waits or is held")


class AllocationRevoked(LineOutput):
    """These units must not ship after all."""

    type: Literal["AllocationRevoked"] = "AllocationRevoked"
    release_no: Counter | None = Field(default=None, description="null: held units, never released")
    quantity: Quantity
    reason: Literal["cancelled", "stock_lost"]


class BackorderCreated(LineOutput):
    """Units of a line begin to wait."""

    type: Literal["BackorderCreated"] = "BackorderCreated"
    quantity: Quantity
    quantity_waiting: Quantity
    quantity_ordered: Quantity
    quantity_allocated: QuantityOrZero
    kind: Literal["backorder", "preorder"]
    reason: Literal["ordered", "stock_lost"]
    promised_at: Timestamp | None = Field(default=None, description="null: not known")
    substitutes: SubstituteSkus = ()


class BackorderFilled(LineOutput):
    """Waiting units got stock."""

    type: Literal["BackorderFilled"] = "BackorderFilled"
    quantity: Quantity
    quantity_waiting: QuantityOrZero
    held: Literal["complete", "preorder"] | None = Field(default=None, description="Filled, but not released yet")


class BackorderCancelled(LineOutput):
    """Waiting units are no longer wanted."""

    type: Literal["BackorderCancelled"] = "BackorderCancelled"
    quantity: Quantity
    quantity_waiting: QuantityOrZero
    by: By


class BackorderRejected(LineOutput):
    """These units will not wait; the shop must tell the customer."""

    type: Literal["BackorderRejected"] = "BackorderRejected"
    quantity: Quantity
    reason: Literal["not_accepted", "denied", "waiting_limit", "max_wait"]
    substitutes: SubstituteSkus = ()


class PromiseChanged(LineOutput):
    """The date told to the customer moved by a calendar day (UTC) or more, appeared or was lost."""

    type: Literal["PromiseChanged"] = "PromiseChanged"
    promised_at: Timestamp | None = None
    previous_promised_at: Timestamp | None = Field(default=None, description="The one last published")
    first_promised_at: Timestamp | None = None
    cause: PromiseCause


class SkuAvailability(PoolOutput):
    """What a shop may show now. A later version replaces an earlier one."""

    type: Literal["SkuAvailability"] = "SkuAvailability"
    status: Literal["in_stock", "backorder", "preorder", "out_of_stock"]
    available: Total
    waiting: Total
    next_promise_at: Timestamp | None = Field(default=None, description="For one more unit ordered now")


class LowStock(PoolOutput):
    """Available stock fell to or below the mark."""

    type: Literal["LowStock"] = "LowStock"
    available: Total
    low_stock_at: QuantityOrZero


class StockShortfall(PoolOutput):
    """On hand fell below what was allocated; these units went back to waiting."""

    type: Literal["StockShortfall"] = "StockShortfall"
    quantity: Counter


class SupplyOverdue(PoolOutput):
    """A supply is past its date and not all here."""

    type: Literal["SupplyOverdue"] = "SupplyOverdue"
    supply_id: Id
    supplier: Id
    expected_at: Timestamp
    quantity: Quantity
    orders_waiting: Total = Field(description="Orders that wait for this SKU at this location")


class ShipmentMismatch(PoolOutput):
    """The warehouse shipped units that it was not told to ship."""

    type: Literal["ShipmentMismatch"] = "ShipmentMismatch"
    shipment_id: Id
    order_id: Id
    line_no: LineNo
    quantity: Quantity
    reason: Literal["not_released", "not_allocated", "cancelled", "rejected"]


class ToldLine(Model):
    """How one line stands, as the customer reads it."""

    line_no: LineNo
    sku: Id
    quantity_waiting: QuantityOrZero
    promised_at: Timestamp | None = Field(default=None, description="null: nothing waits, or the date is not known")


class NotificationOutcome(OrderOutput):
    """What became of one message to a customer."""

    kind: Word
    channel: Word
    attempts: QuantityOrZero
    reason: Text | None = None
    about: Annotated[Ids, NullMeans(())] = Field(default=(), description="ids of the events told")
    told: Annotated[
        Annotated[tuple[ToldLine, ...], Strict(False), Field(fail_fast=True, max_length=MAX_LINES)], NullMeans(())
    ] = Field(default=(), description="The lines that the message names, as it says they stand")


class CustomerNotified(NotificationOutcome):
    """A customer was told."""

    type: Literal["CustomerNotified"] = "CustomerNotified"


class NotificationFailed(NotificationOutcome):
    """A customer could not be told."""

    type: Literal["NotificationFailed"] = "NotificationFailed"


OutputMessage = (
    AllocationReleased
    | AllocationRevoked
    | BackorderCreated
    | BackorderFilled
    | PromiseChanged
    | BackorderCancelled
    | BackorderRejected
    | SkuAvailability
    | LowStock
    | StockShortfall
    | SupplyOverdue
    | ShipmentMismatch
    | CustomerNotified
    | NotificationFailed
)
