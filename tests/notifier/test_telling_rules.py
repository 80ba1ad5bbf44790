"""When customers are told: waiting for quiet, due dates, caps, quiet hours, outages, going live, preferences."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from backorder_notifier.dossier import ToldLine
from backorder_notifier.kinds import OPTIONAL, Kind
from backorder_notifier.policy import SETTLE, Debounce, Policy, QuietHours
from backorder_notifier.telling import Mark, look_at, take_as_told
from tests.notifier.messages import cancelled, created, delivered, filled, line, moved, rejected, released, shipped
from tests.notifier.story import Story, day

FEEDBACK_OFF = frozenset[Kind]({"feedback_request"})


def told_of_a_date(number: int = 20, **story: Any) -> Story:
    """5 of 15 units wait since day 2, the customer knows it and when they come."""
    told = Story(line(), **story)
    told.hear(created(promised_at=day(number)), released())
    told.wait(minutes=1)
    assert told.kinds == ["backorder_created"]
    return told


def composed_at(story: Story) -> list[datetime]:
    return [each.composed_at for each in story.messages]


# ── waiting for quiet ────────────────────────────────────────────────────────────────────────────────────────────────


def test_news_are_told_as_soon_as_what_belongs_together_can_have_come() -> None:
    story = Story(line())
    story.hear(created())
    story.wait(minutes=1)
    assert composed_at(story) == [day(2) + SETTLE.quiet]


def test_news_that_keep_coming_are_told_after_at_most_so_long() -> None:
    story = told_of_a_date()
    began = story.now
    for version in range(2, 6):
        story.hear(filled(version=version, quantity=1, quantity_waiting=6 - version))
        story.wait(seconds=1.9)
    story.wait(minutes=1)
    assert composed_at(story)[1:] == [began + timedelta(seconds=5.7) + SETTLE.quiet]
    began = story.now
    for version in range(6, 26):
        story.hear(rejected(version=version, quantity=1))
        story.wait(seconds=1)
    assert composed_at(story)[2] == began + SETTLE.at_most


def test_each_kind_waits_as_long_as_the_shop_says() -> None:
    policy = Policy(debounce={"backorder_filled": Debounce(timedelta(hours=1), timedelta(hours=2))})
    story = told_of_a_date(policy=policy)
    began = story.now
    story.hear(filled(quantity=1, quantity_waiting=4))
    story.wait(hours=3)
    assert composed_at(story)[1:] == [began + timedelta(hours=1)]


def test_the_first_news_that_are_due_take_the_others_along() -> None:
    story = told_of_a_date()
    story.hear(moved(version=2, promised_at=day(30), previous_promised_at=day(20)))
    began = story.now
    story.wait(minutes=29)
    story.hear(cancelled(version=3, quantity=1, quantity_waiting=4))
    story.wait(hours=5)
    assert composed_at(story)[1:] == [began + timedelta(minutes=29) + SETTLE.quiet]
    assert story.line().expected == day(30)


def test_who_knows_only_the_newest_news_wakes_the_teller_in_time() -> None:
    story = told_of_a_date()
    mark = Mark("promise_changed", 1, story.now)
    found = look_at(story.dossier, story.told, [mark], "UTC", story.policy)
    assert found == story.now + timedelta(minutes=30)
    assert look_at(story.dossier, {}, [], "UTC", story.policy) is None


# ── the date comes near, and passes ──────────────────────────────────────────────────────────────────────────────────


def test_a_reminder_comes_days_before_the_promised_day_in_the_morning_there() -> None:
    story = told_of_a_date(timezone="America/New_York")
    story.wait(days=16, hours=6)
    assert story.kinds == ["backorder_created", "promise_approaching"]
    assert composed_at(story)[1] == datetime(2026, 11, 18, 14, tzinfo=UTC)  # nine in New York
    assert (story.last.due_on, story.line().expected) == (day(20), day(20))


def test_who_was_told_just_before_is_not_reminded() -> None:
    story = told_of_a_date(5)  # the reminder would have come on the 3rd
    story.wait(days=2)
    assert story.kinds == ["backorder_created"]


def test_who_knows_a_date_for_long_is_reminded_though_a_message_repeated_it_just_now() -> None:
    story = told_of_a_date()
    story.wait_until(day(18, 8))
    story.hear(filled(quantity=1, quantity_waiting=4))
    story.wait_until(day(18, 10))
    assert story.kinds == ["backorder_created", "backorder_filled", "promise_approaching"]


def test_a_reminder_is_for_the_date_that_holds() -> None:
    story = told_of_a_date()
    story.wait(days=10)
    story.hear(moved(version=2, promised_at=day(21), previous_promised_at=day(20)))  # too small to be told
    story.wait(days=8)
    assert "promise_approaching" not in story.kinds


def test_no_reminder_goes_while_a_change_of_the_date_is_undecided() -> None:
    story = told_of_a_date()
    story.wait_until(day(18, 8.8))
    story.hear(
        moved(version=2, promised_at=day(27), previous_promised_at=day(20)),
        moved(version=3, promised_at=day(20), previous_promised_at=day(27)),
    )
    story.wait_until(day(18, 9.1))
    assert story.kinds == ["backorder_created"]
    story.wait_until(day(18, 12))
    assert story.kinds == ["backorder_created", "promise_approaching"]


def test_a_date_that_did_not_move_after_all_was_missed() -> None:
    story = told_of_a_date(policy=Policy(kinds_off=OPTIONAL))
    story.wait_until(day(21, 8.9))
    story.hear(
        moved(version=2, promised_at=day(27), previous_promised_at=day(20)),
        moved(version=3, promised_at=day(20), previous_promised_at=day(27)),
    )
    story.wait_until(day(21, 9.1))
    story.hear(rejected(version=4, quantity=1))
    story.wait_until(day(21, 9.2))
    assert story.kinds == ["backorder_created", "backorder_rejected"]
    assert story.timer("promise_missed") == ("told", None)


def test_a_promise_is_missed_when_the_day_has_passed_and_units_still_wait() -> None:
    story = told_of_a_date()
    story.wait_until(day(30))
    assert story.kinds == ["backorder_created", "promise_approaching", "promise_missed"]
    assert composed_at(story)[2] == day(21, 9)
    assert (story.last.due_on, story.line().waiting) == (day(20), 5)
    assert story.timer("promise_missed") == ("told", None)


def test_no_promise_is_missed_that_was_kept_or_changed() -> None:
    kept = told_of_a_date()
    kept.wait_until(day(20, 10))
    kept.hear(filled())
    kept.wait_until(day(30))
    assert "promise_missed" not in kept.kinds
    changed = told_of_a_date()
    changed.wait_until(day(21, 8.9))
    changed.hear(moved(version=2, promised_at=day(28), previous_promised_at=day(20)))
    changed.wait_until(day(22))
    assert changed.kinds == ["backorder_created", "promise_approaching", "promise_changed"]


def test_each_promised_day_is_reminded_and_missed_once() -> None:
    story = told_of_a_date()
    story.wait_until(day(22))
    story.hear(moved(version=2, promised_at=day(28), previous_promised_at=day(20)))
    story.wait(days=30)
    assert story.kinds == [
        "backorder_created",
        "promise_approaching",
        "promise_missed",
        "promise_changed",
        "promise_approaching",
        "promise_missed",
    ]


def test_lines_promised_for_one_day_are_one_reminder() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"))
    two: dict[str, Any] = {"line_no": 2, "sku": "CASE", "quantity": 1, "quantity_waiting": 1, "quantity_ordered": 3}
    story.hear(created(promised_at=day(20)), created(version=2, promised_at=day(20, 15), **two))
    story.wait_until(day(19))
    assert story.kinds == ["backorder_created", "promise_approaching"]
    assert len(story.accepted[1].about) == 2


def test_a_reminder_withdrawn_for_news_is_part_of_what_is_told_next() -> None:
    story = told_of_a_date()
    story.mail_is_down = True
    story.wait_until(day(18, 10))
    story.hear(rejected(version=2, quantity=1))
    story.wait_until(day(18, 11))
    story.mail_is_down = False
    story.wait_until(day(18, 12))
    assert story.kinds == ["backorder_created", "backorder_rejected"]
    assert story.timer("promise_approaching") == ("told", None)


def test_a_reminder_withdrawn_for_another_date_is_over() -> None:
    story = told_of_a_date()
    story.mail_is_down = True
    story.wait_until(day(18, 10))
    story.hear(moved(version=2, promised_at=day(29), previous_promised_at=day(20)))
    story.wait_until(day(18, 11))
    story.mail_is_down = False
    story.wait_until(day(18, 12))
    assert story.kinds == ["backorder_created", "promise_changed"]
    assert story.timer("promise_approaching") == ("superseded", "withdrawn")


def test_a_reminder_that_was_refused_for_good_is_not_made_again() -> None:
    story = told_of_a_date()
    story.mail_is_down = True
    story.wait_until(day(18, 10))
    story.messages[-1].state = "withheld"  # as a delivery that failed: nothing is given back
    story.mail_is_down = False
    story.hear(released(version=2, units={1: 1}))
    story.wait_until(day(20))
    assert len(story.messages) == 2


@pytest.mark.parametrize("promised_at", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
@pytest.mark.parametrize("timezone", ["Pacific/Kiritimati", "Pacific/Niue", "no/such_zone", "UTC"])
def test_dates_at_the_ends_of_the_calendar_are_told_like_others(promised_at: datetime, timezone: str) -> None:
    story = Story(line(), timezone=timezone)
    story.hear(created(promised_at=promised_at))
    story.wait(minutes=1)
    story.hear(moved(version=2, promised_at=day(20), previous_promised_at=promised_at))
    story.wait(hours=1)
    story.hear(moved(version=3, promised_at=promised_at, previous_promised_at=day(20)))
    story.wait(hours=1)
    assert [each for each in story.kinds if each != "promise_missed"] == [
        "backorder_created",
        "promise_changed",
        "promise_changed",
    ]


# ── how was it ───────────────────────────────────────────────────────────────────────────────────────────────────────


def finished(**story: Any) -> Story:
    order = told_of_a_date(**story)
    order.hear(filled(), released(version=2, units={1: 5}), shipped(units={1: 15}))
    order.wait(days=1)
    order.hear(delivered(delivered_at=order.now))
    order.wait(minutes=1)
    return order


def test_who_waited_is_asked_how_it_was_once_days_after_the_last_delivery() -> None:
    story = finished()
    assert composed_at(story)[-1].date() == day(3).date()
    story.wait(days=60)
    assert story.kinds == ["backorder_created", "shipped", "delivered", "feedback_request"]
    assert composed_at(story)[-1] == day(8, 9)
    assert [each.shipped for each in story.last.lines] == [15]


def test_nobody_is_asked_how_it_was_before_all_that_will_come_is_there() -> None:
    story = told_of_a_date(policy=Policy(missed_days=90))
    story.hear(shipped(units={1: 10}), delivered(delivered_at=story.now))
    story.wait(days=30)
    assert "feedback_request" not in story.kinds
    story.hear(cancelled(quantity=5))  # the rest will never come
    story.wait(days=1)
    assert story.kinds[-1] == "backorder_cancelled"
    assert story.timer("feedback_request") == ("not_told", "too_old")


def test_an_order_that_was_cancelled_whole_is_not_asked_about() -> None:
    story = Story(line())
    story.hear(created(quantity=15, quantity_waiting=15, quantity_allocated=0), cancelled(quantity=15))
    story.wait(days=60)
    assert story.kinds == ["backorder_cancelled"]


# ── caps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_beyond_the_daily_cap_news_wait_for_the_next_morning() -> None:
    story = told_of_a_date()
    story.sent_today = 9
    story.hear(moved(version=2, promised_at=day(27), previous_promised_at=day(20)))
    story.wait(hours=2)
    assert story.verdict("1001/v2") == ("pending", "daily_cap")
    story.sent_today = 0
    story.wait(days=1)
    assert composed_at(story)[1:] == [day(3, 9)]
    assert story.verdict("1001/v2") == ("told", None)


def test_beyond_the_daily_cap_optional_news_are_not_told() -> None:
    story = told_of_a_date(policy=Policy(kinds_off=FEEDBACK_OFF))
    story.hear(shipped(units={1: 10}))
    story.wait(minutes=1)
    story.sent_today = 10
    story.hear(delivered())
    story.wait(days=2)
    assert story.verdict(delivered().id) == ("not_told", "daily_cap")
    story.wait_until(day(18, 10))
    assert story.timer("promise_approaching") == ("not_told", "daily_cap")
    assert story.kinds == ["backorder_created", "shipped"]


def test_what_ends_a_wait_is_told_beyond_the_daily_cap_and_takes_the_rest_along() -> None:
    story = told_of_a_date()
    story.sent_today = 10
    story.hear(moved(version=2, promised_at=day(27), previous_promised_at=day(20)))
    story.wait(hours=1)
    story.hear(rejected(version=3, quantity=1))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created", "backorder_rejected"]
    assert story.verdict("1001/v2") == ("superseded", "backorder_rejected")


def test_a_missed_promise_beyond_the_daily_cap_is_told_the_next_morning() -> None:
    story = told_of_a_date(policy=Policy(kinds_off=frozenset({"promise_approaching"})))
    story.wait_until(day(21, 8))
    story.sent_today = 10
    story.wait_until(day(22, 8))
    assert story.kinds == ["backorder_created"]
    story.sent_today = 0
    story.wait_until(day(22, 10))
    assert story.kinds == ["backorder_created", "promise_missed"]


# ── quiet hours ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_channel_keeps_its_quiet_hours_and_others_go_at_once() -> None:
    story = told_of_a_date(timezone="Europe/Berlin")
    story.reachable = {"email": None, "sms": None}
    story.wait_until(day(2, 21))
    story.hear(filled())
    story.wait_until(day(3, 12))
    due_at = story.accepted[1].due_at
    assert due_at == {"email": story.messages[1].composed_at, "sms": day(3, 7)}  # eight in Berlin


def test_what_cannot_wait_goes_in_quiet_hours_too() -> None:
    story = told_of_a_date()
    story.reachable = {"sms": None}
    story.wait_until(day(2, 23))
    story.hear(cancelled())
    story.wait(minutes=1)
    assert story.accepted[1].due_at == {"sms": story.messages[1].composed_at}


def test_news_in_quiet_hours_are_one_message_in_the_morning() -> None:
    policy = Policy(quiet_hours={"sms": QuietHours(time(21), time(8))}, not_quiet=frozenset())
    story = told_of_a_date(policy=policy)
    story.reachable = {"sms": None}
    story.wait_until(day(2, 22))
    for version in range(2, 6):
        story.hear(filled(version=version, quantity=1, quantity_waiting=6 - version))
        story.wait(hours=1)
    story.wait_until(day(3, 12))
    assert story.kinds == ["backorder_created", "backorder_filled"]
    assert (story.line().filled, story.line().waiting) == (4, 1)
    assert story.messages[-1].accepted_at == day(3, 8)


# ── after an outage ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_an_outage_one_late_message_says_how_things_stand() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"))
    story.hear(created(promised_at=day(1)), occurred_at=day(-4))
    story.hear(filled(quantity=2, quantity_waiting=3), occurred_at=day(-2))
    story.hear(moved(version=3, promised_at=day(20), previous_promised_at=day(1)), occurred_at=day(-1))
    story.wait(hours=5)
    assert story.kinds == ["backorder_filled"]
    assert story.last.late
    assert [(each.line_no, each.ready, each.waiting, each.expected) for each in story.last.lines] == [
        (1, 12, 3, day(20)),
        (2, 3, 0, None),
    ]


def test_a_late_message_says_of_all_lines_how_they_stand() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"))
    story.hear(created(promised_at=day(20)))
    story.wait(minutes=1)
    story.hear(filled(quantity=2, quantity_waiting=3), occurred_at=day(-4))
    story.wait(minutes=1)
    assert [(each.line_no, each.ready) for each in story.last.lines] == [(1, 12), (2, 3)]


def test_what_is_over_after_an_outage_is_not_written_about() -> None:
    story = Story(line())
    story.hear(created(), filled(), shipped(), delivered(delivered_at=day(-9)), occurred_at=day(-9))
    story.wait(hours=5)
    assert story.messages == []
    assert {row.verdict.reason for row in story.rows.values()} == {"too_old"}


def test_units_that_never_come_are_told_however_late() -> None:
    story = Story(line())
    story.hear(created(quantity=15, quantity_waiting=15, quantity_allocated=0), occurred_at=day(-9))
    story.hear(cancelled(quantity=15, by="shop"), occurred_at=day(-8))
    story.wait(hours=5)
    assert story.kinds == ["backorder_cancelled"]
    assert story.last.late
    assert story.verdict("1001/v1") == ("not_told", "too_old")


def test_optional_news_are_not_told_late() -> None:
    story = told_of_a_date()
    story.hear(shipped(units={1: 10}))
    story.wait(minutes=1)
    story.hear(delivered(), occurred_at=story.now - timedelta(days=3))
    story.wait(minutes=1)
    assert story.verdict(delivered().id) == ("not_told", "too_old")


def test_a_message_that_could_not_be_sent_for_days_is_made_anew_and_says_that_it_is_late() -> None:
    story = told_of_a_date()
    story.mail_is_down = True
    story.hear(filled(quantity=2, quantity_waiting=3))
    story.wait(days=3)
    assert not story.messages[-1].composed.content.late
    story.decide()  # as housekeeping has it
    story.mail_is_down = False
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created", "backorder_filled"]
    assert story.last.late


def test_a_reminder_that_nobody_could_make_in_time_is_not_made() -> None:
    story = told_of_a_date()
    story.now = day(22)
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created", "promise_missed"]
    assert story.timer("promise_approaching") == ("not_told", "too_old")


def test_a_day_that_has_passed_is_not_announced_even_where_nothing_is_too_old() -> None:
    story = told_of_a_date(policy=Policy(stale_after=timedelta(days=30)))
    story.now = day(21, 0)
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created"]
    assert story.timer("promise_approaching") == ("not_told", "too_old")


# ── going live ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_happened_before_going_live_counts_as_told() -> None:
    story = Story(line(), policy=Policy(start_at=day(1)))
    before = created(promised_at=day(20)).model_copy(update={"occurred_at": day(-9)})
    story.hear(before, occurred_at=day(-9))
    story.told = take_as_told(story.told, story.dossier, before)
    story.wait(minutes=1)
    assert story.verdict("1001/v1") == ("not_told", "before_start_at")
    assert story.told == {1: ToldLine(waiting=5, promised_at=day(20), told_at=day(-9))}
    story.hear(moved(version=2, promised_at=day(21), previous_promised_at=day(20)))
    story.wait(hours=1)
    assert story.verdict("1001/v2") == ("not_told", "too_small")
    story.hear(moved(version=3, promised_at=day(27), previous_promised_at=day(21)))
    story.wait(hours=1)
    assert story.kinds == ["promise_changed"]
    assert story.line().previous == day(20)


def test_a_date_that_came_due_before_going_live_is_not_told() -> None:
    story = Story(line(), policy=Policy(start_at=day(1)))
    before = created(promised_at=day(-5)).model_copy(update={"occurred_at": day(-20)})
    story.hear(before, occurred_at=day(-20))
    story.told = take_as_told(story.told, story.dossier, before)
    story.wait(minutes=1)
    assert story.messages == []
    assert story.timer("promise_missed") == ("not_told", "before_start_at")


def test_the_baseline_keeps_since_when_a_date_is_known() -> None:
    story = Story(line())
    first = created(promised_at=day(20)).model_copy(update={"occurred_at": day(-9)})
    second = filled(quantity=2, quantity_waiting=3).model_copy(update={"occurred_at": day(-8)})
    third = released()
    for event in (first, second, third):
        story.hear(event, occurred_at=event.occurred_at)
        story.told = take_as_told(story.told, story.dossier, event)
    assert story.told == {1: ToldLine(waiting=3, promised_at=day(20), told_at=day(-9))}


# ── what people want ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_wants_no_optional_messages_gets_what_must_be_told_only() -> None:
    story = told_of_a_date()
    story.optional_kinds = False
    story.wait_until(day(19))
    story.hear(filled(), released(version=2, units={1: 5}), shipped(units={1: 15}))
    story.wait(hours=1)
    story.hear(delivered(delivered_at=story.now))
    story.wait(days=30)
    assert story.kinds == ["backorder_created", "shipped"]
    assert not OPTIONAL & set(story.kinds)
    assert story.verdict(delivered().id) == ("not_told", "optional_kinds_off")
    assert story.timer("promise_approaching") == ("not_told", "optional_kinds_off")
    assert story.timer("feedback_request") == ("not_told", "optional_kinds_off")


def test_kinds_that_the_shop_does_not_send_are_not_sent() -> None:
    story = told_of_a_date(policy=Policy(kinds_off=OPTIONAL))
    story.wait_until(day(19))
    assert story.kinds == ["backorder_created"]
    assert story.timer("promise_approaching") == ("not_told", "kind_off")


def test_a_delivery_that_is_not_wanted_is_no_part_of_another_message() -> None:
    story = told_of_a_date()
    story.hear(shipped(units={1: 10}))
    story.wait(minutes=1)
    story.optional_kinds = False
    story.hear(delivered(), cancelled())
    story.wait(minutes=1)
    assert story.kinds[-1] == "backorder_cancelled"
    assert story.last.shipments == ()


# ── held units ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_units_of_an_order_that_ships_complete_are_set_aside_until_all_is_there() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"), delivery="complete")
    two: dict[str, Any] = {"line_no": 2, "sku": "CASE", "quantity": 1, "quantity_waiting": 1, "quantity_ordered": 3}
    story.hear(created(), created(version=2, **two, quantity_allocated=2))
    story.wait(minutes=1)
    assert [each.held for each in story.last.lines] == ["complete", "complete"]
    story.hear(filled(version=3, held="complete"))
    story.wait(minutes=1)
    assert (story.line(1).held, story.line(1).filled) == ("complete", 5)
    story.hear(filled(version=4, line_no=2, sku="CASE", quantity=1), released(units={1: 15, 2: 3}))
    story.wait(minutes=1)
    # All of it ships now, so the message speaks of all of it.
    assert [(each.line_no, each.held) for each in story.last.lines] == [(1, None), (2, None)]


def test_a_pre_order_that_is_there_is_told_with_the_day_of_its_release() -> None:
    story = Story(line())
    every: dict[str, Any] = {"quantity": 15, "quantity_allocated": 0, "kind": "preorder"}
    story.hear(created(quantity_waiting=15, promised_at=day(25), **every), filled(quantity=15, held="preorder"))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_filled"]
    said = story.line()
    assert (said.preorder, said.held, said.waiting, said.expected) == (True, "preorder", 0, day(25))


def test_units_that_were_released_are_no_longer_held() -> None:
    story = Story(line(), delivery="complete")
    story.hear(created(promised_at=day(25)), filled(quantity=2, quantity_waiting=3, held="complete"))
    story.wait(minutes=1)
    assert story.line().held == "complete"
    story.hear(released(units={1: 12}))  # it waited long enough: from now on each part ships as it comes
    story.hear(cancelled(version=3, quantity=1, quantity_waiting=2))
    story.wait(minutes=1)
    assert (story.line().held, story.line().ready, story.line().waiting) == (None, 12, 2)
