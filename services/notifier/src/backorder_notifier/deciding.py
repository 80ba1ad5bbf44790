"""One decision about one order, step by step: what is not told and why, what leads, what it overtakes. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from backorder_notifier.dossier import Standing, standing
from backorder_notifier.filing import shipped_by
from backorder_notifier.kinds import KINDS, OPTIONAL, Channel, Kind
from backorder_notifier.news import TOLD, Composed, OrderView, Pending, Timed, Verdict, is_due, is_stale
from backorder_notifier.policy import Policy
from backorder_notifier.reasons import Reason
from backorder_notifier.stating import Happened, InStock, Titles, move, standings, state, told_after
from backorder_notifier.timers import Timer, decided, is_over
from backorder_notifier.timing import after_quiet_hours, later, local_day, next_morning
from backorder_schemas import AllocationRevoked, BackorderCreated, BackorderFilled, PromiseChanged

NAMESPACE: Final = UUID("0d5b0a52-9f5e-4c52-8b63-5f1d3b6a7c11")
MOST_ABOUT: Final = 1_000
"""Ids that an output may name."""

NOT_BOOKED_YET: Final = Verdict("pending", "not_booked_yet")

MUST_KNOW: Final[frozenset[Kind]] = frozenset({"backorder_rejected", "backorder_cancelled"})
"""What is told however late, even of an order that is over: units that never come."""


class Desk:
    """What lies on the desk while one order is decided.

    `news` and `dates` may be told, `timers` too; all else got its verdict. `significant`: lines whose date differs from
    what the customer was told by so much that it is worth a message.
    """

    def __init__(
        self, view: OrderView, policy: Policy, zone: ZoneInfo, now: datetime, pending: Sequence[Pending]
    ) -> None:
        self.view = view
        self.policy = policy
        self.zone = zone
        self.now = now
        self.pending = sorted(pending, key=lambda each: each.ordinal)
        self.not_booked = self._not_booked()
        self.dossier = view.dossier
        self.news: list[Pending] = []
        self.dates: list[Pending] = []
        self.timers: list[Timer] = []
        self.why_no_date: dict[int | None, Reason | None] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.timed: list[Timed] = []
        self.message: Composed | None = None
        self.wait_until: datetime | None = None

    # ── what is not told, whatever else there is ─────────────────────────────────────────────────────────────────

    def take_timers(self, due: Iterable[Timer]) -> None:
        """Put aside those that are not told."""
        for timer in due:
            reason = self._why_no_timer(timer)
            if reason is None:
                self.timers.append(timer)
            else:
                self._decide_timer(timer, Verdict("not_told", reason))

    def sort(self, due: Iterable[Timer]) -> None:
        """Put aside what is not told; judge each line's date."""
        self.take_timers(due)
        for each in self.pending:
            reason = self._why_not(each)
            if reason is not None:
                self.verdicts[each.event_id] = Verdict("not_told", reason)
            elif each.event_id in self.not_booked:
                self.verdicts[each.event_id] = NOT_BOOKED_YET
            elif each.is_date or (self._is_told_loss(each) and not self._more_waits_than_told(each.line_no)):
                self.dates.append(each)  # of a loss that was told before it was booked, its date may be news
            elif each.kind != "shipped" or self.dossier.ever_waited:
                self.news.append(each)
            elif is_due([each], self.policy, self.now):
                self.verdicts[each.event_id] = Verdict("not_told", "never_waited")
        changes: dict[int | None, list[Pending]] = {}
        for each in self.dates:
            changes.setdefault(each.line_no, []).append(each)
        self.why_no_date = {line_no: self._why_no_date(line_no, of_line) for line_no, of_line in changes.items()}

    @property
    def message_is_due(self) -> bool:
        """Whether there will be a message, whatever is said about dates."""
        return bool(self.timers) or is_due(self.news, self.policy, self.now)

    @property
    def significant(self) -> bool:
        return None in self.why_no_date.values()

    def _why_not(self, news: Pending) -> Reason | None:
        policy, view = self.policy, self.view
        if policy.start_at is not None and news.occurred_at < policy.start_at:
            return "before_start_at"
        if _is_forgotten(view.reachable):
            return "forgotten"
        if news.is_date:
            return None
        if isinstance(news.event, BackorderFilled) and shipped_by(self.dossier, news.caused_by):
            return "shipped_tells_it"
        if self._is_told_loss(news) and not isinstance(news.event, BackorderCreated):
            return "told_already"
        if is_stale(news, policy, self.now) and (
            news.kind in OPTIONAL or (news.kind not in MUST_KNOW and is_over(self.dossier))
        ):
            return "too_old"
        return self._why_no_kind(news.kind)

    def _why_no_timer(self, timer: Timer) -> Reason | None:
        policy = self.policy
        if policy.start_at is not None and timer.due_at < policy.start_at:
            return "before_start_at"
        if _is_forgotten(self.view.reachable):
            return "forgotten"
        if timer.kind in OPTIONAL and self.now - timer.due_at > policy.stale_after:
            return "too_old"
        if timer.kind == "promise_approaching" and local_day(self.now, self.zone) > timer.day:
            return "too_old"
        return self._why_no_kind(timer.kind)

    def _why_no_kind(self, kind: Kind) -> Reason | None:
        if kind in self.policy.kinds_off:
            return "kind_off"
        if kind in OPTIONAL and not self.view.optional_kinds:
            return "optional_kinds_off"
        return None

    def _is_told_loss(self, news: Pending) -> bool:
        return news.kind == "allocation_revoked" and (news.line_no, news.caused_by) in self.view.already_told

    def _not_booked(self) -> dict[str, datetime]:
        """Losses whose BackorderCreated, on another topic, has not come: by event, until when they wait for it."""
        booked = {(each.line_no, each.caused_by) for each in self.pending if isinstance(each.event, BackorderCreated)}
        return {
            each.event_id: until
            for each in self.pending
            if isinstance(each.event, AllocationRevoked)
            and each.kind == "allocation_revoked"
            and (each.line_no, each.caused_by) not in booked | self.view.already_told | self.view.booked
            and (until := later(each.recorded_at, self.policy.gap_wait)) > self.now
        }

    def _more_waits_than_told(self, line_no: int | None) -> bool:
        """Whether only some of the units were told, as others of the same loss came later."""
        if line_no is None:
            return False
        heard = self.view.told.get(line_no)
        return heard is None or heard.waiting < standing(self.dossier, line_no).waiting

    def _why_no_date(self, line_no: int | None, changes: Sequence[Pending]) -> Reason | None:
        """Why the date of a line is not worth a message; None: it is."""
        line = None if line_no is None else self.dossier.lines.get(line_no)
        if line_no is None or line is None or not standing(self.dossier, line_no).waiting:
            return "no_longer_waits"
        heard = self.view.told.get(line_no)
        told = None if heard is None else heard.promised_at
        if move(told, line.promised_at, self.zone) is None:
            if all(isinstance(each.event, BackorderCreated) for each in changes):
                return "told_already"
            if heard is None:
                return "still_unknown"
            return "back_to_what_was_told" if self._moved(told, changes) else "same_day"
        if told is None or line.promised_at is None:
            return None
        days = (local_day(line.promised_at, self.zone) - local_day(told, self.zone)).days
        return None if days >= self.policy.later_days or -days >= self.policy.earlier_days else "too_small"

    def _moved(self, told: datetime | None, changes: Sequence[Pending]) -> bool:
        """Whether the date was another one in between."""
        between = [each.event.previous_promised_at for each in changes if isinstance(each.event, PromiseChanged)]
        return any(move(told, date, self.zone) is not None for date in between)

    # ── dates that come to nothing ───────────────────────────────────────────────────────────────────────────────

    def dates_alone(self) -> None:
        """Decide on dates of which none is worth a message."""
        last = {each.line_no: each for each in self.dates}
        for each in self.dates:
            reason = self.why_no_date[each.line_no]
            later_one = each is not last[each.line_no]
            self.verdicts[each.event_id] = (
                Verdict("superseded", "later_date") if later_one else Verdict("not_told", reason)
            )

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────

    def tell(self, titles: Titles, in_stock: InStock) -> None:
        """Make the one message out of all there is, unless the customer got too many today."""
        happened = Happened(self.dossier, self.news, self.view.booked)
        units = standings(self.dossier, happened)
        overtaken = happened.overtakes()
        kinds = {each.kind for each in self.news} | {each.kind for each in self.timers}
        if any(reason is None and line_no not in overtaken for line_no, reason in self.why_no_date.items()):
            kinds.add("promise_changed")
        kind = min(kinds, key=KINDS.index)
        if self.view.sent_today >= self.policy.daily_cap and kind not in self.policy.not_capped:
            self._wait_for_another_day(kinds)
            return
        told = [*self.news, *self._decide_dates(overtaken, kind)]
        self._make(kind, told, happened, units, titles, in_stock)

    def _decide_dates(self, overtaken: set[int], kind: Kind) -> list[Pending]:
        """The message says of all waiting lines how they stand: which changes it tells, which it makes idle."""
        told = []
        last = {each.line_no: each for each in self.dates}
        for each in self.dates:
            reason = self.why_no_date[each.line_no]
            if each.line_no in overtaken:
                verdict = Verdict("superseded", kind)
            elif each is not last[each.line_no]:
                verdict = Verdict("superseded", "later_date")
            elif reason in (None, "too_small"):
                verdict = TOLD
                told.append(each)
            else:
                verdict = Verdict("not_told", reason)
            self.verdicts[each.event_id] = verdict
        return told

    def _wait_for_another_day(self, kinds: set[Kind]) -> None:
        """Optional news go untold; the others wait for the next morning, and are told as things stand then."""
        too_many = Verdict("not_told", "daily_cap")
        for timer in self.timers:
            if timer.kind in OPTIONAL:
                self._decide_timer(timer, too_many)
        waits = kinds - OPTIONAL
        for each in self.news:
            self.verdicts[each.event_id] = too_many if each.kind in OPTIONAL else Verdict("pending", "daily_cap")
        if waits:
            self.verdicts |= {each.event_id: Verdict("pending", "daily_cap") for each in self.dates}
            self.wait_until = next_morning(self.now, self.policy.timed_at, self.zone)
        elif is_due(self.dates, self.policy, self.now):
            self.dates_alone()

    def _make(
        self,
        kind: Kind,
        told: Sequence[Pending],
        happened: Happened,
        units: Mapping[int, Standing],
        titles: Titles,
        in_stock: InStock,
    ) -> None:
        reachable = self.view.reachable_optional if kind in OPTIONAL else self.view.reachable
        withheld: dict[Channel, str] = {channel: reason for channel, reason in reachable.items() if reason is not None}
        open_channels = [channel for channel, reason in reachable.items() if reason is None]
        verdict = TOLD if open_channels else Verdict("not_told", _why_unreachable(withheld))
        for each in told:
            self.verdicts[each.event_id] = verdict
        for timer in self.timers:
            self._decide_timer(timer, verdict)
        order_id = self.view.order_id
        about = [each.event_id for each in told] + [each.event_id(order_id) for each in self.timers]
        late = any(is_stale(each, self.policy, self.now) for each in told) or any(
            self.now - each.due_at > self.policy.stale_after for each in self.timers
        )
        quiet = {} if kind in self.policy.not_quiet else self.policy.quiet_hours
        self.message = Composed(
            # Made of all it says: the same again is the same message, another date is another one.
            message_id=uuid5(NAMESPACE, "\n".join([order_id, kind, *sorted({*about, *self._overtaken()})])),
            kind=kind,
            content=state(self.view, kind, happened, units, self.timers, titles, in_stock, self.zone, late=late),
            told=told_after(self.view, units, self.zone, self.now),
            about=tuple(about[:MOST_ABOUT]),
            occurred_at=min([each.occurred_at for each in told] + [each.due_at for each in self.timers]),
            traceparent=next((each.traceparent for each in told if each.traceparent), None),
            due_at={channel: after_quiet_hours(self.now, quiet.get(channel), self.zone) for channel in open_channels},
            withheld=withheld,
        )

    def _overtaken(self) -> set[str]:
        return {event_id for event_id, verdict in self.verdicts.items() if verdict.state == "superseded"}

    def _decide_timer(self, timer: Timer, verdict: Verdict) -> None:
        order_id = self.view.order_id
        self.dossier = decided(self.dossier, timer)
        self.timed.append(
            Timed(timer.event_id(order_id), timer.kind, timer.line_no, timer.due_at, timer.as_event(order_id), verdict)
        )


def _is_forgotten(reachable: Mapping[Channel, str | None]) -> bool:
    return bool(reachable) and all(reason == "forgotten" for reason in reachable.values())


def _why_unreachable(withheld: Mapping[Channel, str]) -> str:
    """What stands in the way of a channel that the customer might have been told over."""
    real = [reason for reason in withheld.values() if reason != "channel_not_chosen"]
    return real[0] if real else "channel_not_chosen"
