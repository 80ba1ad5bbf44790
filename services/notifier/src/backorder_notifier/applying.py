"""What messages do to orders: pure, one message at a time. The dossier takes what happened; what may concern a customer
becomes an update, pending or decided at once with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Final

from pydantic import TypeAdapter

from backorder_notifier.contacts import Customer, OrderContact, contact_of
from backorder_notifier.dossier import (
    Dossier,
    Event,
    Told,
    ToldLine,
)
from backorder_notifier.filing import apply, news_of, place
from backorder_notifier.items import Item
from backorder_notifier.kinds import KINDS, Kind
from backorder_notifier.rows import CursorPosition, KnownUpdate, NewUpdate, OrderRow, Partition, Record
from backorder_notifier.telling import take_as_told
from backorder_notifier.timing import storable
from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    BackorderCancelled,
    BackorderFilled,
    BackorderRejected,
    LinesDelivered,
    LinesShipped,
    OrderCancelled,
    OrderPlaced,
)

_TOLD: Final[TypeAdapter[dict[int, ToldLine]]] = TypeAdapter(dict[int, ToldLine])
_MAX_ID: Final = 200


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What the release before 0002 has seen: `backorders` as far as it had read, other topics by time."""

    told_below: Mapping[Partition, int] = field(default_factory=dict)
    upgraded_at: datetime | None = None

    def covers(self, record: Record) -> bool:
        if self.upgraded_at is None:
            return False
        if record.topic == "backorders":
            return record.offset < self.told_below.get((record.full_topic, record.partition), 0)
        return record.recorded_at < self.upgraded_at


def upgrade_of(positions: Mapping[Partition, CursorPosition]) -> Upgrade:
    upgraded_at = next((each.upgraded_at for each in positions.values()), None)
    return Upgrade({partition: each.told_below for partition, each in positions.items()}, upgraded_at)


@dataclass(slots=True)
class OrderInHand:
    """One order, locked, while messages are applied to it."""

    row: OrderRow
    dossier: Dossier
    told: Told
    before: Dossier
    contact: OrderContact | None = None
    updates: list[NewUpdate] = field(default_factory=list)
    waited_at: datetime | None = None  # since when something waits, where nothing of it ever had

    @property
    def is_changed(self) -> bool:
        return bool(self.updates) or self.contact is not None or self.dossier is not self.before

    @property
    def is_known(self) -> bool:
        """Whether there is somebody to tell."""
        return self.contact is not None or self.row.customer_id is not None

    def dossier_json(self) -> str:
        return self.dossier.model_dump_json(exclude_defaults=True)

    def told_json(self) -> str:
        return _TOLD.dump_json(self.told, exclude_defaults=True).decode()


def in_hand(row: OrderRow) -> OrderInHand:
    dossier = Dossier.model_validate_json(row.dossier)
    return OrderInHand(row, dossier, _TOLD.validate_json(row.told), dossier)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else decides. `known`: updates that are there already, by id; those made here are added."""

    customers: Mapping[str, Customer]
    known: dict[str, KnownUpdate]
    start_at: datetime | None
    upgrade: Upgrade


def take(order: OrderInHand, item: Item, circumstances: Circumstances) -> None:
    """Change the order by one message whose turn it is, or that comes out of turn."""
    message = item.message
    if isinstance(message, OrderPlaced):
        _take_placed(order, message, item.record, circumstances.customers[message.customer.customer_id])
        return
    event_id = id_of(item, circumstances.known)
    known = circumstances.known.get(event_id)
    if item.out_of_turn and not _is_additive(message):
        # The others never have an update, so one that comes again can't be told from one that comes late.
        if known is None and may_have_update(message):
            _add(order, item, message, event_id, circumstances, None, "out_of_order")
        return
    if item.out_of_turn and known is not None:
        return
    news = news_of(order.dossier, message)
    ever_waited = order.dossier.ever_waited
    order.dossier = apply(order.dossier, message)
    if not ever_waited and order.dossier.ever_waited:
        order.waited_at = storable(message.occurred_at)
    if known is not None:
        if known.state == "told":
            _hear(order, message)
        return
    if news is None:
        return
    if news not in KINDS:
        _add(order, item, message, event_id, circumstances, None, news)
    elif circumstances.start_at is not None and message.occurred_at < circumstances.start_at:
        _add(order, item, message, event_id, circumstances, news, "before_start_at")
        order.told = take_as_told(order.told, order.dossier, message)
    elif news != "promise_changed" and circumstances.upgrade.covers(item.record):
        # Whether a date is still another than the one told, its customer should know, however old it is.
        _add(order, item, message, event_id, circumstances, news, "before_upgrade")
    else:
        _add(order, item, message, event_id, circumstances, news, None)


def _take_placed(order: OrderInHand, message: OrderPlaced, record: Record, customer: Customer) -> None:
    """The first one counts; changes come by ContactChanged."""
    if order.row.known_at is None and order.contact is None:
        order.contact = contact_of(message, record.recorded_at, customer.forgotten_at)
        order.row = replace(order.row, timezone=_zone(order.contact, customer))
    order.dossier = place(order.dossier, message)


def _zone(contact: OrderContact, customer: Customer) -> str:
    """As the view `contacts` says it."""
    if contact.timezone is None or (customer.timezone_at is not None and customer.timezone_at > contact.placed_at):
        return customer.timezone or contact.timezone or "UTC"
    return contact.timezone


def _is_additive(message: Event) -> bool:
    """Whether it may be told though later events were: it says what happened, and no later one says it too.

    The others say how the line stands, which is not true any more.
    """
    return isinstance(message, BackorderRejected | AllocationRevoked)


def _hear(order: OrderInHand, message: Event) -> None:
    """It was told before: of the messages of earlier releases only that about a new backorder named a date."""
    before = order.told.get(getattr(message, "line_no", 0))
    order.told = take_as_told(order.told, order.dossier, message)
    if isinstance(message, BackorderFilled | BackorderCancelled):
        after = order.told[message.line_no]
        known = (before.promised_at, before.told_at) if before else (None, None)
        date = {"promised_at": known[0], "told_at": known[1]} if after.waiting else {}
        order.told = order.told | {message.line_no: after.model_copy(update=date)}


def _add(
    order: OrderInHand,
    item: Item,
    message: Event,
    event_id: str,
    circumstances: Circumstances,
    kind: Kind | None,
    reason: str | None,
) -> None:
    order.updates.append(
        NewUpdate(
            event_id=event_id,
            order_id=message.order_id,
            topic=item.record.topic,
            line_no=getattr(message, "line_no", None),
            kind=kind,
            caused_by=getattr(message, "caused_by", message.id),
            occurred_at=storable(message.occurred_at),
            recorded_at=item.record.recorded_at,
            event=message.model_dump_json(),
            traceparent=item.traceparent,
            state="pending" if reason is None else "not_told",
            reason=reason,
        )
    )
    state = "pending" if reason is None else "not_told"
    circumstances.known[event_id] = KnownUpdate(message.order_id, message.type, state)


def may_have_update(message: OrderPlaced | Event) -> bool:
    return not isinstance(message, OrderPlaced | AllocationReleased | OrderCancelled)


def id_of(item: Item, known: Mapping[str, KnownUpdate]) -> str:
    """The message's own id. One that another message has already gets the name of what it says instead."""
    message = item.message
    update = known.get(message.id)
    if update is None or (update.order_id == message.order_id and update.type == message.type):
        return message.id
    if isinstance(message, LinesShipped | LinesDelivered):
        name = f"{message.type}/{message.order_id}/{message.shipment_id}"
    else:
        name = f"{item.record.topic}/{message.order_id}/{getattr(message, 'epoch', 0)}/{getattr(message, 'version', 0)}"
    return name if len(name) <= _MAX_ID else sha256(name.encode()).hexdigest()
