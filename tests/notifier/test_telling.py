"""What customers complain about in other shops' backorder mails, and how one order's news become one message."""

from datetime import timedelta
from typing import Any, get_args

import pytest

from backorder_notifier.dossier import Event
from backorder_notifier.kinds import KINDS
from backorder_notifier.policy import Policy
from backorder_notifier.reasons import REASONS, Reason
from backorder_notifier.telling import delivery_id
from backorder_schemas import BackorderCreated
from tests.notifier.messages import (
    cancelled,
    created,
    delivered,
    filled,
    line,
    moved,
    order_cancelled,
    placed,
    rejected,
    released,
    revoked,
    shipped,
)
from tests.notifier.story import Story, day


def told_of_a_date(**story: Any) -> Story:
    """5 of 15 units wait, the customer knows it and that they come on the 20th."""
    told = Story(line(), **story)
    told.hear(created(promised_at=day(20)), released())
    told.wait(minutes=1)
    assert told.kinds == ["backorder_created"]
    return told


# ── complaints ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_message_states_the_short_quantity_and_not_the_ordered_one() -> None:
    story = told_of_a_date()
    said = story.line()
    assert (said.created, said.waiting) == (5, 5)
    assert (said.ordered, said.ready) == (15, 10)


def test_the_part_of_a_mixed_order_that_is_in_stock_is_not_passed_over_in_silence() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"), line(3, 4, "CABLE"))
    story.hear(rejected(line_no=3, sku="CABLE", quantity=4), created(version=2, promised_at=day(20)))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_rejected"]
    assert [(each.line_no, each.ready, each.waiting, each.rejected) for each in story.last.lines] == [
        (1, 10, 5, 0),
        (2, 3, 0, 0),
        (3, 0, 0, 4),
    ]


def test_what_was_shipped_is_no_longer_said_to_wait() -> None:
    story = told_of_a_date()
    story.wait(days=8)
    story.hear(filled(caused_by="receipt"), released(version=2, units={1: 5}))
    story.wait(minutes=1)
    story.hear(shipped(units={1: 15}, tracking_number="T-1"))
    story.wait(minutes=1)
    assert story.kinds[-1] == "shipped"
    said = story.line()
    assert (said.waiting, said.expected, said.shipped_now, said.shipped, said.ready) == (0, None, 15, 15, 15)
    assert [each.tracking_number for each in story.last.shipments] == ["T-1"]


def test_units_shipped_while_they_still_waited_are_not_said_to_wait_even_before_the_allocator_booked_them() -> None:
    story = told_of_a_date()
    story.hear(shipped(units={1: 13}))
    story.wait(minutes=1)
    said = story.line()
    assert (said.shipped_now, said.ready, said.waiting) == (13, 13, 2)


def test_a_fill_by_a_shipment_is_told_as_the_shipment_whichever_comes_first() -> None:
    by_shipment = filled(quantity=3, quantity_waiting=2, caused_by=shipped().id)
    orders: list[list[Event]] = [[shipped(units={1: 13}), by_shipment], [by_shipment, shipped(units={1: 13})]]
    for events in orders:
        story = told_of_a_date()
        story.hear(*events)
        story.wait(minutes=1)
        assert story.kinds == ["backorder_created", "shipped"]
        assert story.verdict(by_shipment.id) == ("not_told", "shipped_tells_it")
        assert story.line().waiting == 2


def test_a_date_that_moves_away_and_back_sends_nothing() -> None:
    story = told_of_a_date()
    story.hear(moved(version=2, promised_at=day(27), previous_promised_at=day(20)))
    story.wait(minutes=10)
    story.hear(moved(version=3, promised_at=day(20), previous_promised_at=day(27)))
    story.wait(hours=5)
    assert story.kinds == ["backorder_created"]
    assert story.verdict("1001/v2") == ("superseded", "later_date")
    assert story.verdict("1001/v3") == ("not_told", "back_to_what_was_told")


def test_a_date_that_moves_by_days_too_few_each_time_is_told_once_they_add_up() -> None:
    story = told_of_a_date()
    for version, number in ((2, 21), (3, 22)):
        story.hear(moved(version=version, promised_at=day(number), previous_promised_at=day(number - 1)))
        story.wait(hours=1)
    assert story.verdict("1001/v2") == ("not_told", "too_small")
    assert story.verdict("1001/v3") == ("told", None)
    said = story.line()
    assert (said.previous, said.expected, said.move) == (day(20), day(22), "later")


def test_a_small_move_and_back_is_compared_with_what_was_told() -> None:
    story = told_of_a_date()
    for version, number in ((2, 21), (3, 20)):
        story.hear(moved(version=version, promised_at=day(number), previous_promised_at=day(41 - number)))
        story.wait(hours=1)
    assert story.verdict("1001/v3") == ("not_told", "back_to_what_was_told")
    assert story.kinds == ["backorder_created"]


def test_a_thousand_date_changes_are_one_message() -> None:
    story = told_of_a_date()
    for change in range(1_000):
        story.hear(moved(version=2 + change, promised_at=day(21 + change % 30), previous_promised_at=day(20)))
        story.wait(seconds=10)
    story.wait(hours=4)
    assert story.kinds == ["backorder_created", "promise_changed"]
    assert story.line().expected == story.dossier.lines[1].promised_at == day(21 + 999 % 30)
    verdicts = [story.verdict(f"1001/v{2 + change}") for change in range(1_000)]
    assert verdicts == [("superseded", "later_date")] * 999 + [("told", None)]


def test_a_date_that_never_rests_is_told_when_the_customer_has_waited_long_enough() -> None:
    story = told_of_a_date()
    first = story.now
    for change in range(300):
        story.hear(moved(version=2 + change, promised_at=day(25 + change % 2 * 3), previous_promised_at=day(20)))
        story.wait(minutes=1)
    assert story.messages[1].composed_at == first + timedelta(hours=4)


def test_everything_that_is_not_told_says_why() -> None:
    story = Story(line(), policy=Policy(kinds_off=frozenset({"feedback_request"})))
    story.hear(created(promised_at=day(20)), released())
    story.wait(minutes=1)
    story.hear(moved(version=2, promised_at=day(21), previous_promised_at=day(20)))
    story.wait(hours=1)
    story.hear(revoked(version=2, reason="cancelled", quantity=2))
    story.optional_kinds = False
    story.hear(shipped(units={1: 8}), delivered())
    story.wait(days=20)
    undecided = [row for row in story.rows.values() if row.verdict.state == "pending"]
    silent = [row.verdict for row in story.rows.values() if row.verdict.state != "told"]
    assert undecided == []
    assert silent
    assert all(verdict.reason in REASONS for verdict in silent)


def test_every_reason_and_kind_has_its_sentence() -> None:
    not_news, decided = get_args(Reason)
    assert REASONS.keys() == {*get_args(not_news), *get_args(decided), *KINDS}


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_a_sentence_for_people(reason: str) -> None:
    assert REASONS[reason][0].isupper()
    assert REASONS[reason].endswith(".")


# ── one message about one order ──────────────────────────────────────────────────────────────────────────────────────


def test_what_one_input_causes_on_several_lines_is_one_message() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"))
    story.hear(created(promised_at=day(20)))
    story.wait(seconds=1)
    story.hear(created(version=2, line_no=2, sku="CASE", quantity=1, quantity_waiting=1, quantity_ordered=3))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created"]
    assert [(each.line_no, each.created) for each in story.last.lines] == [(1, 5), (2, 1)]


def test_a_fill_overtakes_a_date_change_that_waits() -> None:
    story = told_of_a_date()
    story.hear(moved(version=2, promised_at=day(27), previous_promised_at=day(20)))
    story.wait(minutes=10)
    story.hear(filled(version=3, quantity=3, quantity_waiting=2))
    story.wait(hours=5)
    assert story.kinds == ["backorder_created", "backorder_filled"]
    assert story.verdict("1001/v2") == ("superseded", "backorder_filled")
    said = story.line()
    assert (said.filled, said.waiting, said.expected, said.move, said.previous) == (3, 2, day(27), "later", day(20))
    assert story.told[1].promised_at == day(27)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (filled(version=3), "backorder_filled"),
        (cancelled(version=3), "backorder_cancelled"),
        (rejected(version=3, quantity=1), "backorder_rejected"),
        (revoked(), "allocation_revoked"),
        (shipped(units={1: 10}), "shipped"),
    ],
)
def test_weightier_news_of_a_line_make_its_date_change_idle(event: Event, kind: str) -> None:
    story = told_of_a_date()
    story.hear(moved(version=2, promised_at=day(27), previous_promised_at=day(20)))
    story.hear(event)
    story.wait(hours=5)
    assert story.kinds == ["backorder_created", kind]
    assert story.verdict("1001/v2") == ("superseded", kind)


def test_the_date_of_another_line_is_told_along_with_weightier_news() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"))
    two: dict[str, Any] = {"line_no": 2, "sku": "CASE", "quantity": 1, "quantity_ordered": 3}
    story.hear(created(promised_at=day(20)), created(version=2, quantity_waiting=1, promised_at=day(20), **two))
    story.wait(minutes=1)
    story.hear(moved(version=3, promised_at=day(27), previous_promised_at=day(20)))
    story.hear(filled(version=4, line_no=2, sku="CASE", quantity=1))
    story.wait(hours=5)
    assert story.kinds == ["backorder_created", "backorder_filled"]
    assert story.verdict("1001/v3") == ("told", None)
    assert (story.line(1).move, story.line(2).filled) == ("later", 1)


def test_a_date_change_leads_a_delivery_of_the_same_line() -> None:
    story = told_of_a_date()
    story.hear(shipped(units={1: 10}))
    story.wait(days=1)
    story.hear(moved(version=2, promised_at=day(27), previous_promised_at=day(20)), delivered())
    story.wait(hours=5)
    assert story.kinds == ["backorder_created", "shipped", "promise_changed"]
    assert story.verdict("1001/v2") == ("told", None)


def test_a_small_move_is_stated_by_a_message_that_goes_anyway() -> None:
    story = told_of_a_date()
    story.hear(moved(version=2, promised_at=day(21), previous_promised_at=day(20)))
    story.hear(rejected(version=3, line_no=1, quantity=2))
    story.wait(minutes=1)
    assert (story.line().expected, story.line().move) == (day(21), "later")
    story.hear(moved(version=4, promised_at=day(22), previous_promised_at=day(21)))
    story.wait(hours=1)
    assert story.verdict("1001/v4") == ("not_told", "too_small")  # by one day only, from what was told


def test_a_small_move_of_another_line_is_told_along() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"))
    two: dict[str, Any] = {"line_no": 2, "sku": "CASE", "quantity": 1, "quantity_ordered": 3}
    story.hear(created(promised_at=day(20)), created(version=2, quantity_waiting=1, promised_at=day(20), **two))
    story.wait(minutes=1)
    story.hear(moved(version=3, promised_at=day(21), previous_promised_at=day(20)))
    story.hear(moved(version=4, line_no=2, promised_at=day(20, 15), previous_promised_at=day(27)))
    story.hear(filled(version=5, line_no=2, sku="CASE", quantity=1))
    story.wait(hours=1)
    assert story.kinds == ["backorder_created", "backorder_filled"]
    assert story.verdict("1001/v3") == ("told", None)
    assert story.accepted[1].about == ("1001/v5", "1001/v3")
    assert story.told[1].promised_at == day(21)


def test_a_line_that_waits_no_longer_has_no_date_to_tell() -> None:
    story = told_of_a_date()
    story.hear(filled(version=2))
    story.wait(minutes=1)
    story.hear(moved(version=3, promised_at=day(27), previous_promised_at=day(20)))
    story.wait(hours=1)
    assert story.verdict("1001/v3") == ("not_told", "no_longer_waits")


def test_the_same_day_where_the_customer_lives_is_no_move() -> None:
    story = Story(line(), timezone="Asia/Tokyo")
    story.hear(created(promised_at=day(20, 16)))  # the 21st in Tokyo
    story.wait(minutes=1)
    story.hear(moved(version=2, promised_at=day(21, 1), previous_promised_at=day(20, 16)))
    story.wait(hours=1)
    assert story.verdict("1001/v2") == ("not_told", "same_day")


@pytest.mark.parametrize(("days", "told"), [(1, False), (2, True), (-1, False), (-2, False), (-3, True)])
def test_only_moves_that_matter_are_told(days: int, told: bool) -> None:
    story = told_of_a_date()
    story.hear(moved(version=2, promised_at=day(20 + days), previous_promised_at=day(20)))
    story.wait(hours=1)
    assert story.verdict("1001/v2") == (("told", None) if told else ("not_told", "too_small"))


def test_a_date_that_appears_and_one_that_is_lost_are_told() -> None:
    story = Story(line())
    story.hear(created())
    story.wait(minutes=1)
    assert story.line().expected is None
    story.hear(moved(version=2, promised_at=day(20)))
    story.wait(hours=1)
    assert (story.line().move, story.line().expected, story.line().previous) == ("appeared", day(20), None)
    story.hear(moved(version=3, promised_at=None, previous_promised_at=day(20)))
    story.wait(hours=1)
    assert (story.line().move, story.line().expected, story.line().previous) == ("lost", None, day(20))
    assert story.kinds == ["backorder_created", "promise_changed", "promise_changed"]


def test_a_date_that_appears_and_is_lost_again_is_not_told() -> None:
    story = Story(line())
    story.hear(created())
    story.wait(minutes=1)
    story.hear(moved(version=2, promised_at=day(20)), moved(version=3, promised_at=None, previous_promised_at=day(20)))
    story.wait(hours=1)
    assert story.verdict("1001/v3") == ("not_told", "back_to_what_was_told")


def test_who_was_never_told_of_a_line_hears_no_date_that_there_is_not() -> None:
    story = Story(line())
    story.reachable = {"email": "no_email"}
    story.hear(created(promised_at=day(20)))
    story.wait(minutes=1)
    story.reachable = {"email": None}
    story.hear(moved(version=2, promised_at=None, previous_promised_at=day(20)))
    story.wait(hours=1)
    assert story.verdict("1001/v2") == ("not_told", "still_unknown")
    story.hear(moved(version=3, promised_at=day(22)))
    story.wait(hours=1)
    assert story.verdict("1001/v3") == ("told", None)


def test_an_item_in_stock_is_offered_instead_and_only_then() -> None:
    story = Story(line())
    story.stock, story.titles = {"PHONE-Y", "PHONE-X"}, {"PHONE-Y": "Phone Y", "PHONE-X": "Phone X"}
    story.hear(created(substitutes=("PHONE-Z", "PHONE-Y", "PHONE-X")))
    story.wait(minutes=1)
    assert [(each.sku, each.title) for each in story.line().alternatives] == [("PHONE-Y", "Phone Y")]
    assert story.line().title == "Phone X"
    story.hear(filled(version=2, quantity=1, quantity_waiting=4))
    story.wait(minutes=1)
    assert story.line().alternatives == ()


# ── lost stock ───────────────────────────────────────────────────────────────────────────────────────────────────────


def lost(version: int = 2, **fields: Any) -> BackorderCreated:
    units: dict[str, Any] = {"quantity": 4, "quantity_waiting": 9, "reason": "stock_lost", "caused_by": "count"}
    return created(version=version, **units | fields)


@pytest.mark.parametrize("revoked_first", [True, False])
def test_lost_stock_is_one_apology_with_the_units_counted_once(revoked_first: bool) -> None:
    story = told_of_a_date()
    events: list[Event] = [
        revoked(version=2, release_no=None, quantity=1, caused_by="count"),
        revoked(version=3, quantity=3, caused_by="count"),
        lost(promised_at=day(25)),
    ]
    story.hear(*(events if revoked_first else reversed(events)))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created", "allocation_revoked"]
    said = story.line()
    assert (said.created, said.lost, said.waiting, said.ready, said.expected) == (4, 4, 9, 6, day(25))


def test_a_loss_waits_for_the_event_that_books_it_and_is_one_message_with_its_date() -> None:
    story = told_of_a_date()
    story.hear(revoked(version=2, quantity=4, caused_by="count"))
    story.wait(minutes=14)
    assert story.verdict("1001/allocations/v2") == ("pending", "not_booked_yet")
    assert len(story.messages) == 1
    story.hear(lost(promised_at=day(28)))
    story.wait(seconds=3)
    assert story.kinds == ["backorder_created", "allocation_revoked"]
    assert (story.line().lost, story.line().waiting, story.line().expected) == (4, 9, day(28))


def test_a_loss_that_is_not_booked_yet_holds_no_other_news_up_nor_takes_their_message_back() -> None:
    story = Story(line())
    story.mail_is_down = True
    story.hear(created(promised_at=day(20)))
    story.wait(seconds=3)
    story.hear(revoked(version=2, quantity=4, caused_by="count"))
    story.wait(minutes=1)
    assert len({each.composed.message_id for each in story.messages}) == 1, "the same message goes on as it is"
    story.mail_is_down = False
    story.hear(filled(version=2, quantity=1, quantity_waiting=4))
    story.wait(minutes=1)
    assert story.kinds[-1] == "backorder_filled"
    assert (story.line().filled, story.line().waiting) == (1, 4)
    assert story.verdict("1001/allocations/v2") == ("pending", "not_booked_yet")


def test_a_loss_whose_booking_could_not_be_told_waits_for_nothing_and_is_counted_once() -> None:
    story = Story(line())
    story.reachable = {"email": "no_email"}
    story.hear(created(promised_at=day(20)))
    story.wait(minutes=1)
    story.hear(lost(promised_at=day(28)))
    story.wait(minutes=1)
    assert story.verdict("1001/v2") == ("not_told", "no_email")
    story.reachable = {"email": None}
    story.hear(revoked(version=2, quantity=4, caused_by="count"))
    story.wait(minutes=1)
    assert story.verdict("1001/allocations/v2") == ("told", None)
    said = story.line()
    assert (said.lost, said.waiting, said.ready, said.expected) == (4, 9, 6, day(28))


UNBOOKED = Policy().gap_wait + timedelta(minutes=1)


def test_a_loss_that_nobody_books_is_told_as_waiting_all_the_same() -> None:
    story = told_of_a_date()
    story.hear(revoked(version=2, quantity=4, caused_by="count"))
    story.wait(seconds=UNBOOKED.total_seconds())
    said = story.line()
    assert (said.lost, said.waiting, said.ready) == (4, 9, 6)
    story.hear(lost(promised_at=day(20)))
    story.wait(minutes=1)
    assert story.verdict("1001/v2") == ("not_told", "told_already")
    assert len(story.messages) == 2


def test_a_loss_told_without_its_date_is_followed_by_the_date() -> None:
    story = told_of_a_date()
    story.hear(revoked(version=2, quantity=4, caused_by="count"))
    story.wait(seconds=UNBOOKED.total_seconds())
    story.hear(lost(promised_at=day(28)))
    story.wait(minutes=1)
    assert story.kinds[-1] == "promise_changed"
    assert (story.line().expected, story.line().lost) == (day(28), 0)


def test_a_loss_of_which_only_a_part_was_told_is_told_as_a_whole() -> None:
    story = told_of_a_date()
    story.hear(revoked(version=2, release_no=None, quantity=1, caused_by="count"))
    story.wait(seconds=UNBOOKED.total_seconds())
    assert (story.line().lost, story.line().waiting) == (1, 6)
    story.hear(revoked(version=3, quantity=3, caused_by="count"), lost(promised_at=day(20)))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created", "allocation_revoked", "allocation_revoked"]
    assert (story.line().lost, story.line().waiting, story.line().ready) == (4, 9, 6)
    assert story.verdict("1001/allocations/v3") == ("not_told", "told_already")


def test_a_revocation_after_its_loss_was_told_is_not_told_again() -> None:
    story = told_of_a_date()
    story.hear(lost())
    story.wait(minutes=1)
    late = revoked(version=2, quantity=4, caused_by="count")
    story.hear(late)
    story.wait(minutes=1)
    assert story.verdict(late.id) == ("not_told", "told_already")


def test_units_revoked_by_a_cancel_are_told_as_the_cancel() -> None:
    story = told_of_a_date()
    story.hear(revoked(reason="cancelled", quantity=10, caused_by="cancel"), cancelled(caused_by="cancel"))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created", "backorder_cancelled"]
    assert (story.line().cancelled, story.line().cancelled_by, story.line().ready) == (15, "customer", 0)
    assert story.verdict("1001/allocations/v2") == ("told", None)


def test_the_shop_that_cancels_units_that_were_set_aside_is_named() -> None:
    story = told_of_a_date()
    cancel = order_cancelled(by="shop")
    story.hear(cancel, revoked(reason="cancelled", quantity=10, caused_by=cancel.id))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_created", "backorder_cancelled"]
    assert (story.line().cancelled, story.line().cancelled_by, story.line().waiting) == (10, "shop", 5)


# ── shipments ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shipments_of_an_order_that_never_waited_are_left_to_the_shop() -> None:
    story = Story(line())
    story.hear(released(units={1: 15}), shipped(), delivered())
    story.wait(days=30)
    assert story.messages == []
    assert story.verdict(shipped().id) == ("not_told", "never_waited")


def test_a_shipment_that_comes_before_all_else_of_its_order_is_told_once_the_order_is_known_to_wait() -> None:
    story = Story(line())
    story.hear(shipped(units={1: 10}))
    story.wait(seconds=1)
    story.hear(created(promised_at=day(20)))
    story.wait(minutes=1)
    assert story.kinds == ["shipped"]
    assert (story.line().created, story.line().shipped_now, story.line().waiting) == (5, 10, 5)


def test_a_shipment_is_not_judged_before_its_time_by_news_that_are_due() -> None:
    story = Story(line(1, 15), line(2, 3, "CASE"))
    story.hear(rejected(version=1, line_no=2, sku="CASE", quantity=3))
    story.wait(seconds=1.5)
    story.hear(shipped(units={1: 10}))
    story.wait(seconds=1)
    assert story.kinds == ["backorder_rejected"]
    story.hear(created(version=2))
    story.wait(minutes=1)
    assert story.kinds == ["backorder_rejected", "shipped"]


def test_a_shipment_of_an_order_of_which_nobody_says_that_it_waits_is_not_told_in_the_end() -> None:
    story = Story(line())
    story.hear(shipped(units={1: 10}))
    story.wait(minutes=1)
    assert story.verdict(shipped().id) == ("not_told", "never_waited")


def test_the_same_shipment_reported_twice_is_told_once() -> None:
    story = told_of_a_date()
    story.hear(shipped(units={1: 10}), shipped(units={1: 10}, id="again"))
    story.wait(minutes=1)
    assert story.line().shipped == 10
    assert story.verdict("again") == ("not_told", "repeated")


def test_a_delivery_is_told_with_the_shipment_that_it_is_of() -> None:
    story = told_of_a_date()
    story.hear(shipped(units={1: 10}, carrier="Post"))
    story.wait(hours=1)
    story.hear(delivered(delivered_at=day(4)))
    story.wait(minutes=1)
    assert story.kinds[-1] == "delivered"
    assert [(each.carrier, each.delivered_at) for each in story.last.shipments] == [("Post", day(4))]
    assert (story.line().shipped_now, story.line().waiting) == (10, 5)


# ── messages that were not sent when news come ───────────────────────────────────────────────────────────────────────


def test_a_message_that_waits_to_be_sent_gives_way_to_one_that_says_how_things_stand_now() -> None:
    story = told_of_a_date()
    story.mail_is_down = True
    story.hear(filled(version=2, quantity=3, quantity_waiting=2))
    story.wait(minutes=1)
    story.hear(cancelled(version=3, quantity=2))
    story.wait(minutes=1)
    story.mail_is_down = False
    story.wait(minutes=1)
    assert [each.state for each in story.messages] == ["accepted", "withdrawn", "accepted"]
    assert story.kinds == ["backorder_created", "backorder_cancelled"]
    assert (story.line().filled, story.line().cancelled, story.line().waiting) == (3, 2, 0)
    assert set(story.accepted[-1].about) == {"1001/v2", "1001/v3"}


def test_a_date_change_taken_back_before_it_was_sent_is_never_told() -> None:
    story = told_of_a_date()
    story.mail_is_down = True
    story.hear(moved(version=2, promised_at=day(27), previous_promised_at=day(20)))
    story.wait(hours=1)
    story.hear(moved(version=3, promised_at=day(20), previous_promised_at=day(27)))
    story.wait(hours=1)
    story.mail_is_down = False
    story.wait(hours=1)
    assert story.kinds == ["backorder_created"]
    assert [each.state for each in story.messages] == ["accepted", "withdrawn"]
    assert story.verdict("1001/v3") == ("not_told", "back_to_what_was_told")


def test_the_same_news_told_anew_are_the_same_message() -> None:
    story = told_of_a_date()
    story.mail_is_down = True
    story.hear(filled())
    story.wait(minutes=1)
    story.tell_at = story.now
    story.wait(minutes=1)
    first, second = [each.composed for each in story.messages[1:]]
    assert first.message_id == second.message_id
    assert delivery_id(first.message_id, "email") == delivery_id(second.message_id, "email")
    assert delivery_id(first.message_id, "email") != delivery_id(first.message_id, "sms")


def test_the_same_news_with_another_date_are_another_message() -> None:
    story = told_of_a_date()
    story.mail_is_down = True
    story.hear(filled(quantity=1, quantity_waiting=4))
    story.wait(minutes=1)
    story.hear(moved(version=3, promised_at=day(27), previous_promised_at=day(20)))
    story.wait(hours=1)
    first, second = [each.composed for each in story.messages[1:]]
    assert first.about == second.about
    assert first.message_id != second.message_id


def test_messages_that_tell_different_things_have_ids_of_their_own() -> None:
    story = told_of_a_date()
    for version in range(2, 6):
        story.hear(filled(version=version, quantity=1, quantity_waiting=6 - version))
        story.wait(minutes=1)
    ids = [each.message_id for each in story.accepted]
    assert len(set(ids)) == len(ids) == 5


# ── who can't be told ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_can_go_nowhere_is_kept_with_the_reason() -> None:
    story = Story(line())
    story.reachable = {"email": "no_email", "sms": "channel_not_chosen"}
    story.hear(created(promised_at=day(20)))
    story.wait(minutes=1)
    (message,) = story.messages
    assert (message.state, message.composed.due_at) == ("withheld", {})
    assert message.composed.withheld == {"email": "no_email", "sms": "channel_not_chosen"}
    assert story.verdict("1001/v1") == ("not_told", "no_email")
    assert story.told == {}
    story.wait(days=60)
    assert len(story.messages) == 1


def test_one_channel_is_enough() -> None:
    story = Story(line())
    story.reachable = {"email": "suppressed", "webhook": None}
    story.hear(created())
    story.wait(minutes=1)
    assert list(story.accepted[0].due_at) == ["webhook"]
    assert story.accepted[0].withheld == {"email": "suppressed"}
    assert story.verdict("1001/v1") == ("told", None)


def test_nothing_is_made_for_who_was_forgotten() -> None:
    story = told_of_a_date()
    story.reachable = {"email": "forgotten"}
    story.hear(filled())
    story.wait(days=60)
    assert len(story.messages) == 1
    assert story.verdict("1001/v2") == ("not_told", "forgotten")


def test_a_message_carries_what_it_is_about_and_since_when() -> None:
    story = Story(order=placed(order_url="https://shop.example/1001"))
    story.hear(created(), occurred_at=day(2, 11))
    story.hear(released())
    story.wait(minutes=1)
    (message,) = story.accepted
    assert message.about == ("1001/v1",)
    assert message.occurred_at == day(2, 11)
