"""What the naive model remembers, and the few sums of moments that it needs."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from backorder_schemas import SupplyCancelled, SupplyExpected

Pool = tuple[str, str]  # (sku, location)
Event = dict[str, object]

# The first and the last moment of the calendar have another meaning in the database: nothing is stored beyond these.
FIRST_MOMENT = datetime.min.replace(tzinfo=UTC) + timedelta(microseconds=1)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)


class Policy(Protocol):
    """The part of SkuPolicyChanged that a default in settings has too."""

    @property
    def backorders(self) -> Literal["allow", "deny", "preorder"]: ...
    @property
    def waiting_limit(self) -> int | None: ...
    @property
    def max_wait_days(self) -> int | None: ...
    @property
    def safety_stock(self) -> int: ...
    @property
    def low_stock_at(self) -> int | None: ...
    @property
    def release_at(self) -> datetime | None: ...
    @property
    def default_lead_time_days(self) -> int | None: ...
    @property
    def substitutes(self) -> tuple[str, ...]: ...


@dataclass
class Line:
    """Where the units of one line are. `released` holds (release_no, units not shipped yet), the newest last."""

    order_id: str
    line_no: int
    pool: Pool
    placed_at: datetime
    ranked_at: datetime
    ordered: int
    waiting: int = 0
    held: int = 0
    shipped: int = 0
    cancelled: int = 0
    rejected: int = 0
    released: list[tuple[int, int]] = field(default_factory=list)
    promised_at: datetime | None = None
    first_promised_at: datetime | None = None
    lead: tuple[int, datetime] | None = None
    """The days of lead time that the date was computed from, and the date: it doesn't move by itself."""

    @property
    def unshipped(self) -> int:
        return self.held + sum(units for _, units in self.released)

    @property
    def allocated(self) -> int:
        return self.unshipped + self.shipped

    @property
    def rank(self) -> tuple[datetime, bytes, int]:
        return self.ranked_at, self.order_id.encode(), self.line_no

    def event(self, type_: str, **fields: object) -> Event:
        sku, location = self.pool
        about = {"order_id": self.order_id, "line_no": self.line_no, "sku": sku, "location": location}
        return {"type": type_, "key": self.order_id, **about, **fields}

    def publish(self, date: datetime | None) -> None:
        self.promised_at = date
        if self.first_promised_at is None:
            self.first_promised_at = date


@dataclass
class Supply:
    """One (supply_id, sku). `announced` is None for one that was only ever cancelled."""

    last: SupplyExpected | SupplyCancelled
    announced: SupplyExpected | None
    found_overdue: bool = False
    """Its timer has fired for this revision."""

    @property
    def revision(self) -> int:
        return self.last.revision

    @property
    def cancelled(self) -> bool:
        return isinstance(self.last, SupplyCancelled)

    @property
    def pool(self) -> Pool | None:
        return None if self.announced is None else (self.announced.sku, self.announced.location)


def storable(moment: datetime) -> datetime:
    return min(max(moment, FIRST_MOMENT), LAST_MOMENT)


def plus(moment: datetime, duration: timedelta) -> datetime:
    return LAST_MOMENT if duration > LAST_MOMENT - moment else moment + duration


def minus(moment: datetime, duration: timedelta) -> datetime:
    return FIRST_MOMENT if duration > moment - FIRST_MOMENT else moment - duration


def take_newest(line: Line, units: int) -> list[tuple[int | None, int]]:
    """Takes released units, the newest release first; answers (release_no, units) for each one taken from."""
    taken: list[tuple[int | None, int]] = []
    while units:
        release_no, there = line.released.pop()
        given = min(units, there)
        if given < there:
            line.released.append((release_no, there - given))
        taken.append((release_no, given))
        units -= given
    return taken


def take_oldest(line: Line, units: int) -> None:
    """Takes released units, the oldest release first."""
    while units:
        release_no, there = line.released.pop(0)
        given = min(units, there)
        if given < there:
            line.released.insert(0, (release_no, there - given))
        units -= given
