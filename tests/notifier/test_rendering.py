"""What each kind of message says: the right units, dates and reasons, in the text and the HTML part alike."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from backorder_notifier import gsm
from backorder_notifier.content import Alternative, Shipment
from backorder_notifier.kinds import KINDS, OPTIONAL
from backorder_notifier.lines import fitting
from backorder_notifier.rendering import render
from backorder_notifier.samples import SAMPLES, recipient
from backorder_schemas.outputs import PromiseCause
from tests.notifier.pages import ORDER_URL, TEMPLATES, Page, both, day, line, said

PARCEL = Shipment(shipment_id="S-1", carrier="Post", tracking_number="T 42", tracking_url="https://carrier.example/T42")
APOLOGY = "sorry"


def test_a_partly_allocated_line_names_the_short_quantity_what_ships_now_and_how_to_cancel() -> None:
    rendered = said("backorder_created", line(created=5, expected=None))
    assert rendered.subject == "Order 1001: 5 units will come later"
    text, page = both(rendered)
    assert "Ordered: 15 Ready now: 10 Still to come: 5 Expected: not known yet" in text
    assert "Ordered 15 Ready now 10 Still to come 5 Expected not known yet" in page
    for words in (text, page):
        assert "Thank you for your order. 5 units of your order 1001 are not in stock at the moment" in words
        assert "What is ready ships now." in words
        assert "you can cancel what is still to come here" in words
        assert "15 units" not in words
        assert APOLOGY not in words
    assert ORDER_URL in text
    assert Page(rendered.html).links == [ORDER_URL]
    assert rendered.sms == "Order 1001: 5 units will come later. Date not known yet. " + ORDER_URL


def test_a_known_date_is_told_as_the_day_it_is_where_the_customer_is() -> None:
    late = datetime(2026, 12, 1, 23, 30, tzinfo=UTC)
    for timezone, told in (("Europe/Berlin", "December 2, 2026"), ("Nowhere/Atall", "December 1, 2026")):
        for words in both(said("backorder_created", line(created=5, expected=late), timezone=timezone)):
            assert told in words
            assert "Expected means: we expect to ship on that day." in words


@pytest.mark.parametrize("moment", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
@pytest.mark.parametrize("timezone", ["Europe/Berlin", "Pacific/Kiritimati", "America/New_York"])
def test_a_date_at_an_end_of_the_calendar_stops_no_message(moment: datetime, timezone: str) -> None:
    assert "Expected: " in said("backorder_created", line(created=5, expected=moment), timezone=timezone).text


def test_a_wholly_waiting_line_does_not_say_that_something_ships() -> None:
    for words in both(said("backorder_created", line(created=15, waiting=15, ready=0))):
        assert "ships now" not in words
        assert "Ready now" not in words


def test_an_order_in_one_delivery_does_not_ship_what_is_ready() -> None:
    for words in both(said("backorder_created", line(created=5), delivery="complete", order_url=None)):
        assert "ships now" not in words
        assert "what is here is set aside for you and ships together with the rest" in words
        assert "we expect it with us on that day" in words
        assert "contact the shop and name order 1001" in words


def test_lines_that_are_ready_are_named_beside_those_that_wait() -> None:
    other = line(line_no=2, sku="CABLE", ordered=2, ready=2, waiting=0, expected=None)
    text = said("backorder_created", line(created=5), other).text
    assert "\n\nReady now\n  2 × CABLE\n\n" in text


def test_what_may_be_taken_instead_is_named_by_its_title_where_it_has_one() -> None:
    instead = (Alternative(sku="PHONE-W", title="Phone W"), Alternative(sku="PHONE-V"))
    for words in both(said("backorder_created", line(created=5, alternatives=instead))):
        assert "In stock now, if you would rather take something else: Phone W, PHONE-V" in words


def test_a_pre_order_is_said_to_be_one() -> None:
    rendered = said("backorder_created", line(created=15, waiting=15, ready=0, preorder=True))
    assert rendered.subject == "Order 1001: Your pre-order of 15 units"
    for words in both(rendered):
        assert "not released yet" in words
        assert "not in stock" not in words


def test_a_line_has_its_title_and_its_sku() -> None:
    rendered = said("backorder_created", line(created=5, title="Phone X, black"))
    assert "Phone X, black (PHONE-X)\n  Ordered: 15" in rendered.text
    assert "Phone X, black PHONE-X Ordered 15" in both(rendered)[1]


def test_lost_stock_is_said_to_be_lost_and_is_apologised_for() -> None:
    one = said("allocation_revoked", line(created=1, lost=1, waiting=1, ready=14))
    for words in both(one):
        assert "It waits again and keeps its place" in words
    rendered = said("allocation_revoked", line(created=2, lost=2, waiting=7, ready=8))
    assert rendered.subject == "Order 1001: 2 units will come later than planned"
    for words in both(rendered):
        assert "We are sorry: 2 units of your order 1001 that were set aside for you can't ship as planned" in words
        assert "Thank you" not in words
        assert "ships now" not in words
    assert "Waiting again: 2\n  Still to come: 7" in rendered.text
    assert "Sorry: 2 units will come later than planned. Still to come: 7. Expected Nov 20, 2026." in rendered.sms


def test_stock_that_was_lost_and_replaced_before_it_was_told_does_not_wait() -> None:
    rendered = said("allocation_revoked", line(created=2, lost=2, filled=2, waiting=0, ready=15, expected=None))
    assert rendered.subject == "Order 1001: 2 units have arrived"
    for words in both(rendered):
        assert "Waiting again" not in words
        assert "wait again" not in words


def test_a_rejection_says_why_and_what_may_be_taken_instead() -> None:
    rejected = line(waiting=0, expected=None, rejected=4, rejected_because="denied", ordered=4, ready=0)
    instead = (Alternative(sku="PHONE-W"),)
    rendered = said("backorder_rejected", rejected.model_copy(update={"alternatives": instead}))
    assert rendered.subject == "Order 1001: 4 units are not available"
    for words in both(rendered):
        assert "4 units of your order 1001 are not available and will not come." in words
        assert "the shop takes no orders in advance for it" in words
        assert "take something else: PHONE-W" in words
        assert "rather not wait" not in words
        assert APOLOGY not in words


@pytest.mark.parametrize("reason", ["not_accepted", "denied", "waiting_limit", "max_wait", None])
def test_every_reason_of_a_rejection_is_a_sentence(reason: Any) -> None:
    text = said("backorder_rejected", line(waiting=0, rejected=4, rejected_because=reason)).text
    assert "Why: it is not in stock" in text
    assert "_" not in text


def test_a_cancel_says_who_cancelled() -> None:
    rendered = said("backorder_cancelled", line(cancelled=5, cancelled_by="customer", waiting=0, expected=None))
    assert rendered.subject == "Order 1001: 5 units were cancelled"
    for words in both(rendered):
        assert "As you asked, 5 units of your order 1001 that were still to come are cancelled." in words
        assert "Nothing of your order is waiting any more." in words
        assert "rather not wait" not in words
    rendered = said("backorder_cancelled", line(cancelled=1, cancelled_by="shop", waiting=2))
    assert rendered.subject == "Order 1001: 1 unit was cancelled"
    for words in both(rendered):
        assert "The shop has cancelled 1 unit of your order 1001 that was still to come." in words
        assert "when there is news of what is still to come" in words
        assert "As you asked" not in words


def test_a_whole_fill_says_that_nothing_waits_and_a_part_what_still_does() -> None:
    whole = said("backorder_filled", line(filled=5, waiting=0, ready=15, expected=None))
    assert whole.subject == "Order 1001: 5 units have arrived"
    for words in both(whole):
        assert "will be on their way to you soon" in words
        assert "Nothing of your order is waiting any more." in words
        assert "rather not wait" not in words
    part = said("backorder_filled", line(filled=1, waiting=4, ready=11))
    assert part.subject == "Order 1001: 1 unit has arrived, 4 still to come"
    assert "Arrived, ready to ship: 1\n  Still to come: 4\n  Expected: November 20, 2026" in part.text
    for words in both(part):
        assert "is waiting any more" not in words
        assert "rather not wait" in words


@pytest.mark.parametrize(("held", "words"), [("complete", "ship together with the rest"), ("preorder", "are released")])
def test_what_is_held_is_not_said_to_be_on_its_way(held: Any, words: str) -> None:
    for text in both(said("backorder_filled", line(filled=3, waiting=2, held=held), delivery="complete")):
        assert words in text
        assert "on their way" not in text
        assert "Arrived, set aside for you" in text
        assert "Arrived, ready" not in text


def test_a_pre_order_that_was_there_at_once_says_when_it_ships() -> None:
    filled = line(created=15, filled=15, waiting=0, ready=15, held="preorder", preorder=True)
    for words in both(said("backorder_filled", filled)):
        assert "Thank you for your order" in words
        assert "November 20, 2026" in words
        assert "will come later" not in words
        assert "is waiting any more" not in words


def test_what_shipped_is_told_with_its_tracking_and_what_still_waits() -> None:
    rendered = said("shipped", line(shipped=10, shipped_now=10), shipments=(PARCEL,))
    assert rendered.subject == "Order 1001: 10 units are on their way, 5 still to come"
    assert "Shipped: 10\n  Still to come: 5\n  Expected: November 20, 2026" in rendered.text
    for words in both(rendered):
        assert "10 units of your order 1001 have left our warehouse and are on their way to you." in words
        assert "Carrier: Post Tracking number: T 42 Follow your parcel" in words
        assert "backorder" not in words.lower()
    assert "https://carrier.example/T42" in rendered.text
    assert Page(rendered.html).links == ["https://carrier.example/T42", ORDER_URL]
    assert "10 units are on their way. Still to come: 5. Expected Nov 20, 2026." in rendered.sms


def test_once_all_has_shipped_nothing_is_said_to_wait() -> None:
    last = line(shipped=15, shipped_now=5, ready=15, waiting=0, expected=None)
    rendered = said("shipped", last)
    assert rendered.subject == "Order 1001: 5 units are on their way"
    assert "\n\nOn the way to you\n  5 of 15 × PHONE-X\n\n" in rendered.text
    for words in both(rendered):
        assert "Nothing of your order is waiting any more." in words
        assert "rather not wait" not in words
        assert "Tracking" not in words


def test_a_parcel_that_arrived_says_when_and_is_not_said_to_leave() -> None:
    arrived = PARCEL.model_copy(update={"delivered_at": day(5)})
    rendered = said("delivered", line(shipped=10, shipped_now=10), shipments=(arrived,))
    assert rendered.subject == "Order 1001: Delivered on November 5, 2026"
    for words in both(rendered):
        assert "a delivery of your order 1001 arrived on November 5, 2026" in words
        assert "on their way" not in words
    assert "Delivered: 10\n  Still to come: 5" in rendered.text


def test_a_moved_date_is_told_with_the_old_one_and_why() -> None:
    moved = line(expected=day(27), previous=day(20), move="later", cause="supply_moved")
    rendered = said("promise_changed", moved)
    assert rendered.subject == "Order 1001: New date November 27, 2026"
    assert "Still to come: 5\n  Expected: November 27, 2026\n  Previous date: November 20, 2026" in rendered.text
    for words in both(rendered):
        assert "5 units of your order 1001 will come later than we told you." in words
        assert "Why: the supplier changed the date of a delivery to us." in words
        assert APOLOGY not in words
        assert "Ready now" not in words
    assert rendered.sms == (f"Order 1001: New date Nov 27, 2026. Still to come: 5. Before: Nov 20, 2026. {ORDER_URL}")


def test_a_date_that_is_lost_is_said_to_be_unknown() -> None:
    gone = line(expected=None, previous=day(20), move="lost", cause="supply_cancelled")
    rendered = said("promise_changed", gone)
    assert rendered.subject == "Order 1001: The date is open again"
    assert "Expected: not known yet\n  Previous date: November 20, 2026" in rendered.text
    for words in both(rendered):
        assert "the date that we told you no longer holds, and we don't know a new one yet" in words
        assert "Expected means" not in words


def test_several_dates_that_moved_are_told_line_by_line() -> None:
    rendered = said(
        "promise_changed",
        line(expected=day(27), previous=day(20), move="later", cause="supply_moved"),
        line(line_no=2, sku="B", waiting=1, expected=day(10), previous=day(20), move="earlier", cause="stock_received"),
        line(line_no=3, sku="C", waiting=2, expected=day(11), move="appeared", cause="supply_announced"),
    )
    assert rendered.subject == "Order 1001: New dates"
    for words in both(rendered):
        assert "5 units of your order 1001 will come later than we told you." in words
        assert "1 unit of your order 1001 will come earlier than we told you." in words
        assert "For 2 units of your order 1001 there is a date now." in words
    assert "The first expected Nov 10, 2026." in rendered.sms


@pytest.mark.parametrize("cause", get_args(PromiseCause))
@pytest.mark.parametrize("move", ["later", "earlier", "appeared", "lost"])
def test_every_cause_is_a_sentence_without_jargon(cause: Any, move: Any) -> None:
    known = None if move == "lost" else day(27)
    text = said("promise_changed", line(expected=known, previous=day(20), move=move, cause=cause)).text
    assert text.count("Why: ") == 1
    for word in ("_", "pool", "supply", "alloc", "promise", "SKU", "recompute", "policy"):
        assert word not in text.replace("_url", "")


def test_a_cause_that_can_not_have_moved_the_date_this_way_is_not_named() -> None:
    """The move is the sum of many, the cause that of the last."""
    assert fitting("cancelled_ahead", "later") == "recomputed"
    assert fitting("overtaken", "earlier") == "recomputed"
    assert fitting("supply_overdue", "appeared") == "recomputed"
    assert fitting("overtaken", "later") == "overtaken"
    assert fitting("supply_moved", "earlier") == "supply_moved"


def test_a_missed_promise_is_apologised_for_and_no_past_date_is_said_to_be_expected() -> None:
    rendered = said("promise_missed", line(), due_on=day(20), as_of=day(21))
    assert rendered.subject == "Order 1001: Not here by November 20, 2026 as promised"
    for words in both(rendered):
        assert (
            "We are sorry: 5 units of your order 1001 that we had promised for November 20, 2026 are still not" in words
        )
    assert "Expected: not known yet\n  Previous date: November 20, 2026" in rendered.text
    assert "Still to come: 5. Date not known yet." in rendered.sms


def test_a_date_that_passed_without_a_new_one_is_not_said_to_be_expected() -> None:
    for as_of, expected in ((day(20), "Expected: November 20"), (day(21), "Expected: not known yet")):
        assert expected in said("backorder_filled", line(filled=1, waiting=4), as_of=as_of).text


def test_a_reminder_names_the_units_due_that_day_and_no_others() -> None:
    later = line(line_no=2, sku="B", waiting=3, expected=day(27))
    rendered = said("promise_approaching", line(), later, due_on=day(20))
    assert rendered.subject == "Order 1001: Expected on November 20, 2026"
    for words in both(rendered):
        assert "As promised, we expect 5 units of your order 1001 on November 20, 2026." in words
    assert "Units: 5." in rendered.sms


def test_a_request_for_feedback_is_short_and_asks_nothing_else() -> None:
    arrived = PARCEL.model_copy(update={"delivered_at": day(5)})
    done = line(waiting=0, shipped=15, ready=15, expected=None)
    rendered = said("feedback_request", done, shipments=(arrived,))
    for words in both(rendered):
        assert "did we keep you well informed" in words
        assert "There is no need to." in words
        assert "Tracking" not in words
        assert "According to the carrier" not in words
    assert "Delivered\n  15 × PHONE-X\n" in rendered.text
    assert len(rendered.text.split()) < 90


def test_several_news_of_an_order_are_all_told_the_heaviest_first() -> None:
    rendered = said(
        "backorder_rejected",
        line(rejected=4, rejected_because="waiting_limit", waiting=0, expected=None),
        line(line_no=2, sku="B", cancelled=1, cancelled_by="shop", waiting=0),
        line(line_no=3, sku="C", shipped_now=2, shipped=2, waiting=0),
        line(line_no=4, sku="D", filled=3, waiting=0),
        line(line_no=5, sku="E", created=6, waiting=6),
        line(line_no=6, sku="F", waiting=7, expected=day(27), previous=day(20), move="later", cause="overtaken"),
        shipments=(PARCEL,),
    )
    for words in both(rendered):
        places = [
            words.index(part)
            for part in (
                "4 units of your order 1001 are not available",
                "The shop has cancelled 1 unit",
                "2 units of your order 1001 have left our warehouse",
                "3 units of your order 1001 that you were waiting for have arrived",
                "6 units of your order 1001 are not in stock",
                "7 units of your order 1001 will come later than we told you",
            )
        ]
        assert places == sorted(places)
    for part in ("4 units are not available", "1 unit was cancelled", "2 units are on their way", "3 units have arr"):
        assert part in rendered.sms
    assert "Still to come: 13." in rendered.sms


def test_a_message_that_comes_late_says_so() -> None:
    for kind in ("backorder_created", "shipped"):
        rendered = said(kind, line(created=5, shipped_now=10, shipped=10), late=True)
        for words in both(rendered):
            assert "We write to you later than we should, and we are sorry for that." in words
            assert "how your order stands now" in words
            assert "Thank you" not in words


def test_only_what_is_our_fault_is_apologised_for() -> None:
    for sample in SAMPLES:
        rendered = render(sample.content, recipient("en"), TEMPLATES, as_of=sample.as_of)
        sorry = sample.content.late or sample.kind in {"allocation_revoked", "promise_missed"}
        for words in (*both(rendered), rendered.sms):
            assert (APOLOGY in words.lower()) == sorry, sample


def test_one_unit_is_one_unit() -> None:
    assert said("backorder_filled", line(filled=1, waiting=0)).subject == "Order 1001: 1 unit has arrived"
    assert said("shipped", line(shipped_now=1, waiting=0)).subject == "Order 1001: 1 unit is on its way"
    assert said("backorder_created", line(created=1, waiting=1)).subject == "Order 1001: 1 unit will come later"


def test_only_what_may_be_switched_off_has_a_link_to_do_so() -> None:
    url = "https://notify.example/unsubscribe/4pXz0nq1mV8tQyRk2bLwHg"
    for kind in KINDS:
        rendered = said(kind, line(), due_on=day(20), unsubscribe_url=url)
        assert (url in rendered.text) == (url in Page(rendered.html).links) == (kind in OPTIONAL)
        assert "nsubscribe" not in said(kind, line(), due_on=day(20)).text


def test_the_shop_names_itself_where_it_has_a_name() -> None:
    rendered = said("shipped", line(shipped_now=1), shop_name="The Shop")
    for words in both(rendered):
        assert "because of your order 1001 at The Shop." in words
    assert rendered.sms.startswith("The Shop: Order 1001: ")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample.kind} {sample.name}")
@pytest.mark.parametrize("locale", ["en", "de", "ar", "de-AT", "ar-EG"])
def test_every_part_says_how_many_units_wait_and_until_when(sample: Any, locale: str) -> None:
    rendered = render(sample.content, recipient(locale), TEMPLATES, as_of=sample.as_of)
    text = both(rendered)[0].translate(LATIN)
    page = both(rendered)[1].translate(LATIN)
    for each in sample.content.lines:
        numbers = [each.waiting, each.filled, each.shipped_now, each.cancelled, each.rejected]
        for number in (number for number in numbers if number):
            assert f" {number} " in text
            assert f" {number} " in page
        if each.waiting and each.expected and each.expected >= sample.as_of - timedelta(days=1):
            assert f"{each.expected.day}" in text
            assert f"{each.expected.day}" in page


LATIN = {0x660 + digit: str(digit) for digit in range(10)}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample.kind} {sample.name}")
def test_an_english_text_message_is_one_part(sample: Any) -> None:
    sms = render(sample.content, recipient("en"), TEMPLATES, shop_name="The Shop", as_of=sample.as_of).sms
    assert len(gsm.split(sms)) == 1, sms


def test_a_long_page_address_is_left_out_of_a_text_message() -> None:
    url = f"https://shop.example/{'x' * 60}"
    rendered = said("shipped", line(shipped_now=1), order_url=url)
    assert url not in rendered.sms
    assert url in rendered.text
