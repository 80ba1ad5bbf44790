"""What customers are told because a day has come: reminders, missed promises, requests for feedback. Pure."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any, Literal
from zoneinfo import ZoneInfo

from backorder_notifier.dossier import Dossier, LineState, Told, standing
from backorder_notifier.policy import Policy
from backorder_notifier.timing import at_days_after, later, local_day

TimedKind = Literal["promise_approaching", "promise_missed", "feedback_request"]

_LONGEST_ID = 200  # as outputs allow


@dataclass(frozen=True, slots=True)
class Timer:
    """One due date. `day`: the promised day, or that of the last delivery; `line_no` is None for the whole order."""

    kind: TimedKind
    line_no: int | None
    day: date
    due_at: datetime

    def event_id(self, order_id: str) -> str:
        """The same whenever this timer is found. A long one keeps its beginning."""
        return _event_id(self.kind, order_id, self.day, self.line_no)

    def as_event(self, order_id: str) -> dict[str, Any]:
        """As it is kept beside the events."""
        return {
            "type": "TimerDue",
            "kind": self.kind,
            "order_id": order_id,
            "line_no": self.line_no,
            "day": self.day.isoformat(),
            "due_at": self.due_at.isoformat(),
        }


def timers(
    dossier: Dossier,
    told: Told,
    policy: Policy,
    zone: ZoneInfo,
    *,
    moving: AbstractSet[int | None] = frozenset(),
) -> list[Timer]:
    """Due dates, past or to come, that are undecided. `moving`: lines with undecided news of their date."""
    found: list[Timer] = []
    for line_no, heard in told.items():
        line = dossier.lines.get(line_no)
        if heard.promised_at is None or line is None or not line.waiting or line_no in moving:
            continue
        if line.shipped and not standing(dossier, line_no).waiting:
            continue
        day = local_day(heard.promised_at, zone)
        if day not in line.missed:
            # Who is told of a day that has passed hears of it again after as many days as others.
            since = day if heard.told_at is None else max(day, local_day(heard.told_at, zone))
            found += _timer("promise_missed", line_no, day, since, policy.missed_days, policy, zone)
        if day not in line.reminded and _is_to_come(line, day, zone):
            found += [
                timer
                for timer in _timer("promise_approaching", line_no, day, day, -policy.approaching_days, policy, zone)
                # Who was told just before knows.
                if heard.told_at is not None and heard.told_at <= later(timer.due_at, timedelta(days=-1))
            ]
    delivered_at = None if dossier.feedback_decided else _all_delivered_at(dossier)
    if delivered_at is not None:
        day = local_day(delivered_at, zone)
        found += _timer("feedback_request", None, day, day, policy.feedback_days, policy, zone)
    return found


def decided(dossier: Dossier, timer: Timer) -> Dossier:
    """So that this timer is never found again."""
    if timer.line_no is None:
        return dossier.model_copy(update={"feedback_decided": True})
    line = dossier.lines[timer.line_no]
    field = "missed" if timer.kind == "promise_missed" else "reminded"
    days = getattr(line, field)
    if timer.day in days:
        return dossier
    after = line.model_copy(update={field: (*days, timer.day)})
    return dossier.model_copy(update={"lines": dossier.lines | {timer.line_no: after}})


def undecided(dossier: Dossier, order_id: str, event_ids: AbstractSet[str]) -> Dossier:
    """Before these timers were decided: who was to hear of them didn't."""
    if not event_ids:
        return dossier
    lines = dict(dossier.lines)
    for line_no, line in dossier.lines.items():
        missed = _without("promise_missed", line_no, line.missed, order_id, event_ids)
        reminded = _without("promise_approaching", line_no, line.reminded, order_id, event_ids)
        if len(missed) < len(line.missed) or len(reminded) < len(line.reminded):
            lines[line_no] = line.model_copy(update={"missed": missed, "reminded": reminded})
    asked = any(event_id.startswith("timer:feedback_request:") for event_id in event_ids)
    return dossier.model_copy(
        update={"lines": lines, "feedback_decided": dossier.feedback_decided and not asked},
    )


def _without(
    kind: TimedKind, line_no: int, days: tuple[date, ...], order_id: str, event_ids: AbstractSet[str]
) -> tuple[date, ...]:
    return tuple(day for day in days if _event_id(kind, order_id, day, line_no) not in event_ids)


def _event_id(kind: TimedKind, order_id: str, day: date, line_no: int | None) -> str:
    of_line = "" if line_no is None else f":{line_no}"
    text = f"timer:{kind}:{order_id}:{day.isoformat()}{of_line}"
    if len(text) <= _LONGEST_ID:
        return text
    return f"{text[: _LONGEST_ID - 33]}~{sha256(text.encode()).hexdigest()[:32]}"


def _timer(
    kind: TimedKind, line_no: int | None, day: date, since: date, days: int, policy: Policy, zone: ZoneInfo
) -> tuple[Timer, ...]:
    due = at_days_after(since, days, policy.timed_at, zone)
    return () if due is None else (Timer(kind, line_no, day, due),)


def _is_to_come(line: LineState, day: date, zone: ZoneInfo) -> bool:
    """Whether the date that was told still is the date."""
    return line.promised_at is not None and local_day(line.promised_at, zone) == day


def is_over(dossier: Dossier) -> bool:
    """Whether nothing of the order is to come any more: all that will was shipped and delivered."""
    if not dossier.placed:
        return False
    if any(each.delivered_at is None for each in dossier.shipments.values()):
        return False
    for line_no, line in dossier.lines.items():
        if line.shipped != line.ordered:  # the usual end needs no sums
            units = standing(dossier, line_no)
            if units.waiting or units.ready is None or units.shipped < units.ready:
                return False
    return True


def _all_delivered_at(dossier: Dossier) -> datetime | None:
    """When the last unit that will come was delivered to a customer who waited for one; None: not yet, or never."""
    if not dossier.shipments or not dossier.ever_waited or not is_over(dossier):
        return None
    return max(each.delivered_at for each in dossier.shipments.values() if each.delivered_at is not None)
