"""From news to what a message states: how each line stands, what came to pass since the last message. Pure."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal, assert_never
from zoneinfo import ZoneInfo

from backorder_notifier.content import Alternative, Content, ContentLine, Move, Shipment
from backorder_notifier.dossier import Dossier, Held, LineState, Standing, Told, ToldLine, standing
from backorder_notifier.kinds import Kind
from backorder_notifier.news import OrderView, Pending
from backorder_notifier.timers import Timer
from backorder_notifier.timing import local_day
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

By = Literal["customer", "shop"]
Titles = Mapping[str, str | None]
InStock = Callable[[str, str], bool]
"""Whether there is stock: location, SKU."""

MOST_ALTERNATIVES = 5


class Happened:
    """Units by what came to pass with them, line by line, and the shipments that news are about."""

    def __init__(
        self, dossier: Dossier, news: Sequence[Pending], booked_before: Collection[tuple[int | None, str]] = ()
    ) -> None:
        self._dossier = dossier
        self.created: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()
        self.filled: Counter[int] = Counter()
        self.cancelled: Counter[int] = Counter()
        self.rejected: Counter[int] = Counter()
        self.unbooked: Counter[int] = Counter()  # lost, though no event yet says that they wait again
        self.cancelled_by: dict[int, By] = {}
        self.rejected_because: dict[int, BackorderRejected] = {}
        self.shipments: dict[str, None] = {}  # in order
        self.shipped: list[str] = []
        self.begins = False  # whether this is the first that the customer hears of lines of the order
        booked = {_loss(each) for each in news if isinstance(each.event, BackorderCreated)}
        for each in news:
            self._add(each, booked, booked_before)

    def _add(
        self,
        news: Pending,
        booked: Collection[tuple[int | None, str]],
        booked_before: Collection[tuple[int | None, str]],
    ) -> None:
        match event := news.event:
            case BackorderCreated():
                self.created[event.line_no] += event.quantity
                if event.reason == "stock_lost":
                    self.lost[event.line_no] += event.quantity
                else:
                    self.begins = True
            case AllocationRevoked(reason="cancelled"):
                self.cancelled[event.line_no] += event.quantity
                by_shop = event.caused_by in self._dossier.cancelled_by_shop
                self.cancelled_by.setdefault(event.line_no, "shop" if by_shop else "customer")
            case AllocationRevoked():
                # The same units as in BackorderCreated of the same cause, which counts them.
                if _loss(news) not in booked:
                    self.created[event.line_no] += event.quantity
                    self.lost[event.line_no] += event.quantity
                    if _loss(news) not in booked_before:
                        self.unbooked[event.line_no] += event.quantity
            case BackorderFilled():
                self.filled[event.line_no] += event.quantity
            case BackorderCancelled():
                self.cancelled[event.line_no] += event.quantity
                self.cancelled_by[event.line_no] = event.by
            case BackorderRejected():
                self.rejected[event.line_no] += event.quantity
                self.rejected_because[event.line_no] = event
                self.begins = True
            case LinesShipped() | LinesDelivered():
                if event.shipment_id in self._dossier.shipments:
                    self.shipments[event.shipment_id] = None
                    if isinstance(event, LinesShipped):
                        self.shipped.append(event.shipment_id)
            case PromiseChanged() | AllocationReleased() | OrderCancelled():
                pass
            case _:
                assert_never(event)

    def lines(self) -> set[int]:
        """The lines that there is news of."""
        return self._lines(self.shipments)

    def overtakes(self) -> set[int]:
        """The lines of which there is weightier news than of their date: units moved."""
        return self._lines(self.shipped)

    def shipped_now(self, kind: Kind, line_no: int) -> int:
        """Of a delivery, what arrived; else what left: a parcel that arrived was told when it left."""
        shipments = self.shipments if kind == "delivered" else self.shipped
        return sum(self._dossier.shipments[each].lines.get(line_no, 0) for each in shipments)

    def _lines(self, shipments: Iterable[str]) -> set[int]:
        shipped = {line_no for each in shipments for line_no in self._dossier.shipments[each].lines}
        return {*self.created, *self.filled, *self.cancelled, *self.rejected, *shipped} & self._dossier.lines.keys()


def _loss(news: Pending) -> tuple[int | None, str]:
    return news.line_no, news.caused_by


def standings(dossier: Dossier, happened: Happened) -> dict[int, Standing]:
    """Each line by number, in its order. Lost units wait again, even if the event that books them is not here."""
    found = {}
    for line_no in sorted(dossier.lines):
        units = standing(dossier, line_no)
        lost = happened.unbooked[line_no]
        if lost and units.ready is not None:
            lost = min(lost, units.ready - units.shipped)
            units = replace(units, ready=units.ready - lost, waiting=units.waiting + lost)
        found[line_no] = units
    return found


def told_after(view: OrderView, units: Mapping[int, Standing], zone: ZoneInfo, now: datetime) -> Told:
    """What the customer knows once the message is accepted: every message says of all waiting lines how they stand."""
    told = dict(view.told)
    for line_no, each in units.items():
        line = view.dossier.lines[line_no]
        before = told.get(line_no)
        if each.waiting:
            since = now
            if before is not None and move(before.promised_at, line.promised_at, zone) is None and before.told_at:
                since = before.told_at
            told[line_no] = ToldLine(waiting=each.waiting, promised_at=line.promised_at, told_at=since)
        elif line.ever_waited and (before is None or before.waiting or before.promised_at is not None):
            told[line_no] = ToldLine(waiting=0)
    return told


def state(
    view: OrderView,
    kind: Kind,
    happened: Happened,
    units: Mapping[int, Standing],
    timers: Sequence[Timer],
    titles: Titles,
    in_stock: InStock,
    zone: ZoneInfo,
    *,
    late: bool,
) -> Content:
    """What the message says: lines with news and all that wait, be it for their release alone; where much may be new to
    the customer, or the last unit of one delivery came, ready ones too.
    """
    news_of_lines = happened.lines()
    some_wait = any(each.waiting for each in units.values())
    is_gathered = view.delivery == "complete" and bool(happened.filled) and not some_wait
    with_ready = happened.begins or late or is_gathered or kind == "feedback_request"
    lines = [
        _line(view, kind, line_no, happened, each, titles, in_stock, zone, some_wait=some_wait)
        for line_no, each in units.items()
        if line_no in news_of_lines
        or each.waiting
        or (with_ready and each.ready)
        or _held(view, view.dossier.lines[line_no], each, some_wait=some_wait) == "preorder"
    ]
    shipments = view.dossier.shipments if kind == "feedback_request" else happened.shipments
    due_on = [
        heard.promised_at
        for timer in timers
        if timer.kind == kind and timer.line_no is not None and (heard := view.told[timer.line_no]).promised_at
    ]
    return Content(
        kind=kind,
        order_id=view.order_id,
        delivery=view.delivery,
        order_url=view.order_url,
        late=late,
        whole_cancelled=view.dossier.whole_cancelled,
        lines=tuple(lines),
        shipments=tuple(_shipment(view.dossier, shipment_id) for shipment_id in shipments),
        due_on=min(due_on, default=None),
    )


def _line(
    view: OrderView,
    kind: Kind,
    line_no: int,
    happened: Happened,
    units: Standing,
    titles: Titles,
    in_stock: InStock,
    zone: ZoneInfo,
    *,
    some_wait: bool,
) -> ContentLine:
    line = view.dossier.lines[line_no]
    held = _held(view, line, units, some_wait=some_wait)
    heard = view.told.get(line_no)
    moved = None
    if units.waiting and (heard is None or heard.waiting):
        # Who heard nothing of a line, for want of an address, hears that there is a date.
        moved = move(heard.promised_at if heard else None, line.promised_at, zone)
    rejected_because = happened.rejected_because.get(line_no)
    needs_other = happened.created[line_no] or happened.rejected[line_no]
    return ContentLine(
        line_no=line_no,
        sku=line.sku,
        title=titles.get(line.sku),
        ordered=units.ordered,
        waiting=units.waiting,
        ready=units.ready,
        shipped=units.shipped,
        held=held,
        preorder=line.preorder,
        expected=line.promised_at if units.waiting or held == "preorder" else None,
        previous=heard.promised_at if heard and moved else None,
        move=moved,
        cause=line.cause if moved and heard else None,
        created=happened.created[line_no],
        lost=happened.lost[line_no],
        filled=happened.filled[line_no],
        cancelled=happened.cancelled[line_no],
        cancelled_by=happened.cancelled_by.get(line_no),
        rejected=happened.rejected[line_no],
        rejected_because=rejected_because.reason if rejected_because else None,
        shipped_now=happened.shipped_now(kind, line_no),
        alternatives=_alternatives(line, titles, in_stock) if needs_other else (),
    )


def move(before: datetime | None, after: datetime | None, zone: ZoneInfo) -> Move | None:
    """How a date moved, by the calendar there; None: it is the same day, or not known as before."""
    if before is None or after is None:
        return None if before is after else "appeared" if before is None else "lost"
    day_before, day_after = local_day(before, zone), local_day(after, zone)
    return None if day_before == day_after else "later" if day_after > day_before else "earlier"


def _held(view: OrderView, line: LineState, units: Standing, *, some_wait: bool) -> Held | None:
    """Why units that are the customer's don't ship yet."""
    if units.ready is None or units.ready <= max(line.released, units.shipped):
        return None
    if view.delivery == "complete" and some_wait and line.held is None:
        return "complete"
    return line.held


def _alternatives(line: LineState, titles: Titles, in_stock: InStock) -> tuple[Alternative, ...]:
    there = [sku for sku in line.substitutes if sku != line.sku and in_stock(line.location, sku)]
    return tuple(Alternative(sku=sku, title=titles.get(sku)) for sku in there[:MOST_ALTERNATIVES])


def _shipment(dossier: Dossier, shipment_id: str) -> Shipment:
    shipment = dossier.shipments[shipment_id]
    return Shipment(
        shipment_id=shipment_id,
        carrier=shipment.carrier,
        tracking_number=shipment.tracking_number,
        tracking_url=shipment.tracking_url,
        delivered_at=shipment.delivered_at,
    )
