"""What a customer is told about one order, when, and why not: the rules, as pure functions over values.

`look_at` says when to decide, `compose` decides everything there is about one order at once: at most one message, whose
kind is the heaviest of what it tells, and a verdict with its reason for each event it is about. Dates are compared with
what the customer was last told, never with what was computed last.

A message made here is written down before it is sent. One that was not sent when news come is withdrawn: what it told
is given back, and told by the next one. So nobody hears an old state after a newer one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid5

from backorder_notifier.deciding import NOT_BOOKED_YET, Desk
from backorder_notifier.dossier import Dossier, Event, Told, ToldLine
from backorder_notifier.kinds import Channel
from backorder_notifier.news import Composed, Decision, Mark, OrderView, Pending, Timed, Verdict, due_at, is_due
from backorder_notifier.policy import Policy
from backorder_notifier.reasons import REASONS
from backorder_notifier.stating import InStock, Titles
from backorder_notifier.timers import timers, undecided
from backorder_notifier.timing import zone_of

__all__ = [
    "REASONS",
    "Composed",
    "Decision",
    "Mark",
    "OrderView",
    "Pending",
    "Timed",
    "Verdict",
    "compose",
    "delivery_id",
    "look_at",
    "take_as_told",
]


def look_at(
    dossier: Dossier, told: Told, marks: Iterable[Mark | Pending], timezone: str, policy: Policy
) -> datetime | None:
    """When to decide next about an order; None: nothing is to come. It may be past.

    Whoever knows only some of the marks takes the earlier of this and what was said before: to decide too early does
    no harm.
    """
    marks = tuple(marks)
    moving = {mark.line_no for mark in marks if mark.kind == "promise_changed"}
    found = [timer.due_at for timer in timers(dossier, told, policy, zone_of(timezone), moving=moving)]
    due = due_at(marks, policy)
    return min(found if due is None else [*found, due], default=None)


def take_as_told(told: Told, dossier: Dossier, event: Event) -> Told:
    """What counts as told after this event from before NOTIFIER_START_AT: the customer heard it elsewhere."""
    line_no = getattr(event, "line_no", None)
    if line_no is None or line_no not in dossier.lines:
        return told
    line = dossier.lines[line_no]
    if not line.ever_waited:
        return told
    promised_at = line.promised_at if line.waiting else None
    before = told.get(line_no)
    since = event.occurred_at
    if before is not None and before.promised_at == promised_at and before.told_at is not None:
        since = before.told_at
    return told | {line_no: ToldLine(waiting=line.waiting, promised_at=promised_at, told_at=since)}


def delivery_id(message_id: UUID, channel: Channel) -> UUID:
    """The same for the same message and channel for ever."""
    return uuid5(message_id, channel)


def compose(
    view: OrderView, pending: Sequence[Pending], products: Titles, in_stock: InStock, policy: Policy, now: datetime
) -> Decision:
    """Decide what the customer of this order is told now. `pending`: all undecided news of it, given back or new."""
    view = replace(view, dossier=undecided(view.dossier, view.order_id, view.given_back_timers))
    zone = zone_of(view.timezone)
    desk = Desk(view, policy, zone, now, pending)
    due = [each for each in timers(view.dossier, view.told, policy, zone) if each.due_at <= now]
    moving = {each.line_no for each in pending if each.is_date}
    sure = [each for each in due if each.line_no not in moving]
    if sure or is_due(pending, policy, now):
        desk.sort(sure)
        dates_are_due = is_due(desk.dates, policy, now)
        if desk.message_is_due or dates_are_due:
            # The dates are decided now: what came due by a date that did not move after all is told too.
            desk.take_timers(each for each in due if each.line_no in moving and desk.why_no_date[each.line_no])
        if desk.message_is_due or (dates_are_due and desk.significant):
            desk.tell(products, in_stock)
        elif dates_are_due:
            desk.dates_alone()
    told = view.told if desk.message is None or not desk.message.due_at else desk.message.told
    rest = [each for each in pending if each.event_id not in desk.verdicts]
    looks = [
        desk.wait_until or look_at(desk.dossier, told, rest, view.timezone, policy),
        *(desk.not_booked[event_id] for event_id, verdict in desk.verdicts.items() if verdict is NOT_BOOKED_YET),
    ]
    return Decision(
        message=desk.message,
        verdicts=desk.verdicts,
        timers=tuple(desk.timed),
        dossier=desk.dossier,
        tell_at=min((each for each in looks if each is not None), default=None),
    )
