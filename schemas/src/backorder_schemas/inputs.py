"""Messages that others send to Backorder."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, Strict, model_validator

from backorder_schemas.fields import (
    MAX_LINES,
    By,
    Counter,
    Currency,
    Days,
    Delta,
    Email,
    Id,
    Ids,
    LineNo,
    Locale,
    Location,
    Model,
    Money,
    NullMeans,
    PersonName,
    Phone,
    Quantity,
    QuantityOrZero,
    Text,
    Timestamp,
    Timezone,
    Url,
    Words,
)

LocationOrMain = Annotated[Location, NullMeans("main")]


class Input(Model):
    """What every message to Backorder carries."""

    type: str
    id: Id = Field(description="The same on every attempt to send this message")
    occurred_at: Timestamp = Field(description="When it happened at the source")


class Customer(Model):
    """Who ordered. Everything but `customer_id` and `segment` is for the notifier alone."""

    customer_id: Id
    segment: Annotated[Id, NullMeans("standard")] = "standard"
    email: Email | None = None
    phone: Phone | None = Field(default=None, description="E.164")
    name: PersonName | None = None
    locale: Annotated[Locale, NullMeans("en")] = "en"
    timezone: Annotated[Timezone, NullMeans("UTC")] = "UTC"


class OrderLine(Model):
    """One SKU of one order."""

    line_no: LineNo = Field(description="Unique in the order")
    sku: Id
    quantity: Quantity
    unit_price: Money
    location: LocationOrMain = "main"
    accepts_backorder: Annotated[bool, NullMeans(True)] = True


def _line_numbers_are_unique(lines: tuple[OrderLine, ...]) -> tuple[OrderLine, ...]:
    if len({line.line_no for line in lines}) != len(lines):
        raise ValueError("line_no should be unique in the order")
    return lines


class OrderPlaced(Input):
    """A customer ordered."""

    type: Literal["OrderPlaced"] = "OrderPlaced"
    order_id: Id
    placed_at: Timestamp = Field(description="Later than now counts as now")
    currency: Currency = Field(description="ISO 4217")
    customer: Customer
    order_url: Url | None = None
    delivery: Annotated[Literal["split", "complete"], NullMeans("split")] = "split"
    lines: Annotated[
        tuple[OrderLine, ...],
        Strict(False),
        Field(fail_fast=True, min_length=1, max_length=MAX_LINES),
        AfterValidator(_line_numbers_are_unique),
    ]


class CancelledLine(Model):
    """A line, or some units of it."""

    line_no: LineNo
    quantity: Quantity | None = Field(default=None, description="Left out: the whole line")


class OrderCancelled(Input):
    """An order, some of its lines or some units are no longer wanted."""

    type: Literal["OrderCancelled"] = "OrderCancelled"
    order_id: Id
    by: By
    reason: Text | None = None
    lines: (
        Annotated[tuple[CancelledLine, ...], Strict(False), Field(fail_fast=True, min_length=1, max_length=MAX_LINES)]
        | None
    ) = Field(default=None, description="Left out: the whole order")


class StockReceived(Input):
    """Units arrived at a location."""

    type: Literal["StockReceived"] = "StockReceived"
    receipt_id: Id
    sku: Id
    location: LocationOrMain = "main"
    quantity: Quantity
    supply_id: Id | None = Field(default=None, description="The announced supply that these units are part of")
    supplier: Id | None = None


def _is_not_zero(delta: int) -> int:
    if delta == 0:
        raise ValueError("Input should not be 0")
    return delta


class StockAdjusted(Input):
    """Units found, lost, broken or written off."""

    type: Literal["StockAdjusted"] = "StockAdjusted"
    adjustment_id: Id
    sku: Id
    location: LocationOrMain = "main"
    delta: Annotated[Delta, AfterValidator(_is_not_zero)] = Field(description="Not 0")
    reason: Text


class StockCounted(Input):
    """Somebody counted: on hand becomes this."""

    type: Literal["StockCounted"] = "StockCounted"
    count_id: Id
    sku: Id
    location: LocationOrMain = "main"
    counted: QuantityOrZero


class SupplyExpected(Input):
    """The full state of one announced supply; a higher revision replaces a lower one."""

    type: Literal["SupplyExpected"] = "SupplyExpected"
    supply_id: Id
    revision: Counter
    sku: Id
    location: LocationOrMain = "main"
    quantity: Quantity = Field(description="Announced in total, received units included")
    expected_at: Timestamp
    supplier: Id


class SupplyCancelled(Input):
    """Nothing more of this supply will come."""

    type: Literal["SupplyCancelled"] = "SupplyCancelled"
    supply_id: Id
    revision: Counter
    sku: Id


class SkuPolicyChanged(Input):
    """The full policy of one SKU; a higher revision replaces a lower one. Limits count per location."""

    type: Literal["SkuPolicyChanged"] = "SkuPolicyChanged"
    sku: Id
    revision: Counter
    title: Text | None = None
    backorders: Literal["allow", "deny", "preorder"]
    waiting_limit: QuantityOrZero | None = Field(default=None, description="Units that may wait per location")
    max_wait_days: Days | None = Field(default=None, description="Counted from placed_at")
    safety_stock: Annotated[QuantityOrZero, NullMeans(0)] = 0
    low_stock_at: QuantityOrZero | None = None
    release_at: Timestamp | None = Field(default=None, description="Needed for preorder")
    default_lead_time_days: Days | None = None
    substitutes: Annotated[Ids, NullMeans(())] = ()

    @model_validator(mode="after")
    def _preorder_has_a_release_date(self) -> Self:
        if self.backorders == "preorder" and self.release_at is None:
            raise ValueError("release_at is needed where backorders is preorder")
        return self


class ShippedLine(Model):
    """Units of a line that left the warehouse."""

    line_no: LineNo
    quantity: Quantity


class LinesShipped(Input):
    """What the warehouse really shipped."""

    type: Literal["LinesShipped"] = "LinesShipped"
    shipment_id: Id
    order_id: Id
    lines: Annotated[tuple[ShippedLine, ...], Strict(False), Field(fail_fast=True, min_length=1, max_length=MAX_LINES)]
    carrier: Text | None = None
    tracking_number: Id | None = None
    tracking_url: Url | None = None


class LinesDelivered(Input):
    """A shipment reached the customer."""

    type: Literal["LinesDelivered"] = "LinesDelivered"
    shipment_id: Id
    order_id: Id
    delivered_at: Timestamp


class ContactChanged(Input):
    """How to reach a customer; fields that are left out stay as they are."""

    type: Literal["ContactChanged"] = "ContactChanged"
    customer_id: Id
    revision: Counter
    email: Email | None = None
    phone: Phone | None = Field(default=None, description="E.164")
    name: PersonName | None = None
    locale: Locale | None = None
    timezone: Timezone | None = None
    channels: Words | None = Field(default=None, description="Channels the customer allows, such as email")
    optional_kinds: bool | None = Field(default=None, description="Whether the customer wants optional messages")


InputMessage = (
    OrderPlaced
    | OrderCancelled
    | StockReceived
    | StockAdjusted
    | StockCounted
    | SupplyExpected
    | SupplyCancelled
    | SkuPolicyChanged
    | LinesShipped
    | LinesDelivered
    | ContactChanged
)
