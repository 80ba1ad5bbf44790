"""What one customer is told about one order, on a clock of the test's own: the rules without database, mail or Kafka.

It does with plain values what the intake, the teller and the senders do with rows: news are recorded, looked at when it
is time, messages written down, withdrawn for newer ones, or accepted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from backorder_notifier.content import Content, ContentLine
from backorder_notifier.dossier import Dossier, Event, Told
from backorder_notifier.filing import apply, news_of, place
from backorder_notifier.kinds import KINDS, Channel, Kind
from backorder_notifier.policy import Policy
from backorder_notifier.reasons import REASONS
from backorder_notifier.telling import Composed, Decision, Mark, OrderView, Pending, Verdict, compose, look_at
from backorder_notifier.timing import local_midnight
from backorder_schemas import BackorderCreated, OrderPlaced
from tests.notifier.messages import NOON, placed

Reachable = Mapping[Channel, str | None]
BY_MAIL: Reachable = {"email": None}
WITHDRAWN = Verdict("superseded", "withdrawn")


@dataclass(slots=True)
class Row:
    """One update. `pending` is None for a timer and for what is no news."""

    pending: Pending | None
    verdict: Verdict
    message_id: UUID | None = None


@dataclass(slots=True)
class Sent:
    """One message. `state`: open until it is accepted, withdrawn for a newer one, or withheld."""

    composed: Composed
    composed_at: datetime
    state: Literal["open", "accepted", "withdrawn", "withheld"]
    accepted_at: datetime | None = None


class Story:
    """One order of one customer. Mails are accepted at once, unless `mail_is_down`."""

    def __init__(
        self,
        *lines: Any,
        order: OrderPlaced | None = None,
        policy: Policy | None = None,
        timezone: str = "UTC",
        delivery: Literal["split", "complete"] = "split",
        now: datetime = NOON,
    ) -> None:
        self.now = now
        self.policy = policy or Policy()
        self.timezone = timezone
        self.delivery: Literal["split", "complete"] = delivery
        self.reachable: Reachable = BY_MAIL
        self.optional_kinds = True
        self.stock: set[str] = set()
        self.titles: dict[str, str | None] = {}
        self.mail_is_down = False
        self.sent_today = 0  # about other orders
        self.told: Told = {}
        self.rows: dict[str, Row] = {}
        self.messages: list[Sent] = []
        self.tell_at: datetime | None = None
        self.dossier = Dossier()
        self.decisions: Counter[datetime] = Counter()
        if order is not None or lines:
            self.place(order or placed(lines=lines))

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────

    def place(self, order: OrderPlaced) -> None:
        self.dossier = place(self.dossier, order)

    def hear(self, *events: Event, occurred_at: datetime | None = None) -> None:
        """Events come now. They happened now, unless something else is said."""
        for each in events:
            event = each.model_copy(update={"occurred_at": occurred_at or self.now})
            news = news_of(self.dossier, event)
            self.dossier = apply(self.dossier, event)
            if news in KINDS:
                self._record(event, news)
            elif news is not None:
                assert news in REASONS
                self.rows[event.id] = Row(None, Verdict("not_told", news))
        self._look(())

    def _record(self, event: Event, kind: Kind) -> None:
        pending = Pending(
            event_id=event.id,
            ordinal=len(self.rows) + 1,
            line_no=getattr(event, "line_no", None),
            kind=kind,
            caused_by=getattr(event, "caused_by", event.id),
            occurred_at=event.occurred_at,
            recorded_at=self.now,
            event=event,
            traceparent=None,
        )
        assert event.id not in self.rows, "an event is taken once"
        self.rows[event.id] = Row(pending, Verdict("pending"))
        self._look([Mark(kind, pending.line_no, pending.recorded_at)])

    def _look(self, marks: Iterable[Mark]) -> None:
        found = look_at(self.dossier, self.told, marks, self.timezone, self.policy)
        if found is not None:
            self.tell_at = found if self.tell_at is None else min(self.tell_at, found)

    def wait(self, **duration: float) -> None:
        self.wait_until(self.now + timedelta(**duration))

    def wait_until(self, end: datetime) -> None:
        """All that is due on the way is done at its time."""
        while True:
            accepted_at = self._accepted_at()
            next_at = min([at for at in (self.tell_at, accepted_at) if at is not None], default=None)
            if next_at is None or next_at > end:
                break
            self.now = max(self.now, next_at)
            if accepted_at is not None and accepted_at <= self.now:
                self._accept()
            else:
                self.decide()
        self.now = max(self.now, end)

    def _accepted_at(self) -> datetime | None:
        if self.mail_is_down or not self.messages or self.messages[-1].state != "open":
            return None
        return min(self.messages[-1].composed.due_at.values())

    def _accept(self) -> None:
        sent = self.messages[-1]
        sent.state, sent.accepted_at = "accepted", self.now
        self.told = sent.composed.told

    # ── what the teller does ─────────────────────────────────────────────────────────────────────────────────────

    def decide(self) -> Decision:
        self.decisions[self.now] += 1
        assert self.decisions[self.now] <= 6, "decided again and again at one moment"
        given_back = self._withdraw()
        decision = compose(self.view(given_back), self.pending(), self.titles, self._in_stock, self.policy, self.now)
        message = decision.message
        for event_id, verdict in decision.verdicts.items():
            of_message = message.message_id if message and verdict.state in {"told", "superseded"} else None
            row = self.rows[event_id]
            assert row.verdict.state == "pending"
            self.rows[event_id] = replace(row, verdict=verdict, message_id=of_message)
        for timer in decision.timers:
            again = self.rows.get(timer.event_id)
            assert again is None or again.verdict == WITHDRAWN, "a due date is decided once"
            self.rows[timer.event_id] = Row(None, timer.verdict, message.message_id if message else None)
        self.dossier = decision.dossier
        self.tell_at = decision.tell_at
        if message is not None:
            self.messages.append(Sent(message, self.now, "open" if message.due_at else "withheld"))
        return decision

    def _withdraw(self) -> frozenset[str]:
        if not self.messages or self.messages[-1].state != "open":
            return frozenset()
        self.messages[-1].state = "withdrawn"
        message_id = self.messages[-1].composed.message_id
        timers = set()
        for event_id, row in self.rows.items():
            if row.message_id == message_id and row.pending is None:
                timers.add(event_id)
                self.rows[event_id] = Row(None, WITHDRAWN)
            elif row.message_id == message_id:
                self.rows[event_id] = Row(row.pending, Verdict("pending"))
        return frozenset(timers)

    def view(self, given_back: frozenset[str] = frozenset()) -> OrderView:
        midnight = local_midnight(self.now, self.timezone)
        today = [each for each in self.messages if each.composed_at >= midnight and each.state in {"open", "accepted"}]
        return OrderView(
            order_id="1001",
            customer_id="c-7",
            timezone=self.timezone,
            delivery=self.delivery,
            order_url=None,
            dossier=self.dossier,
            told=self.told,
            sent_today=self.sent_today + len(today),
            optional_kinds=self.optional_kinds,
            reachable=self.reachable,
            reachable_optional=self.reachable,
            already_told=frozenset(
                (row.pending.line_no, row.pending.caused_by)
                for row in self.rows.values()
                if row.pending and row.pending.kind == "allocation_revoked" and row.verdict.state == "told"
            ),
            booked=frozenset(
                (row.pending.line_no, row.pending.caused_by)
                for row in self.rows.values()
                if row.pending
                and row.pending.kind == "allocation_revoked"
                and isinstance(row.pending.event, BackorderCreated)
                and row.verdict.state != "pending"
            ),
            given_back_timers=given_back,
        )

    def pending(self) -> list[Pending]:
        return [row.pending for row in self.rows.values() if row.pending and row.verdict.state == "pending"]

    def _in_stock(self, _location: str, sku: str) -> bool:
        return sku in self.stock

    # ── what became of it ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def accepted(self) -> list[Composed]:
        return [each.composed for each in self.messages if each.state == "accepted"]

    @property
    def kinds(self) -> list[Kind]:
        """Of the messages that the customer got, in order."""
        return [each.kind for each in self.accepted]

    @property
    def last(self) -> Content:
        return self.accepted[-1].content

    def line(self, line_no: int = 1) -> ContentLine:
        """As the last message states it."""
        return next(each for each in self.last.lines if each.line_no == line_no)

    def verdict(self, event_id: str) -> tuple[str, str | None]:
        verdict = self.rows[event_id].verdict
        return verdict.state, verdict.reason

    def timer(self, kind: Kind) -> tuple[str, str | None]:
        found = [event_id for event_id in self.rows if event_id.startswith(f"timer:{kind}:")]
        assert len(found) == 1, found
        return self.verdict(found[0])


def day(number: int, hour: float = 12) -> datetime:
    """A moment of November 2026; NOON is day 2."""
    return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=number - 1, hours=hour)
