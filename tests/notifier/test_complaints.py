"""What merchants complain about in other tools, each a test of the whole notifier: what customers read of it."""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from backorder_notifier.policy import Policy
from backorder_notifier.reasons import REASONS
from tests.notifier.messages import (
    NOON,
    cancelled,
    contact_changed,
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
    sku_policy,
)
from tests.notifier.running import Running, about, by_mail, html_of, rows_of, running, text_of
from tests.notifier.smtp_script import ScriptedServer

DAY = timedelta(days=1)
FIRST, SECOND = NOON + 20 * DAY, NOON + 30 * DAY


@pytest.fixture
async def told(database: str, script: ScriptedServer) -> AsyncIterator[Running]:
    async with running(database, {"email": by_mail(script.port)}) as told:
        yield told


async def test_the_mail_states_the_short_quantity_and_not_the_ordered_one(
    told: Running, script: ScriptedServer
) -> None:
    await told.tells(placed(), created(promised_at=FIRST))
    (mail,) = about(script)
    assert mail["Subject"] == "Order 1001: 5 units will come later"
    assert "5 units of your order 1001 are not in stock at the moment and will come later." in unwrapped(text_of(mail))
    assert rows_of(mail) == ["Ordered: 15", "Ready now: 10", "Still to come: 5", "Expected: November 22, 2026"]
    # The number of units ordered stands where it says so, and nowhere else.
    assert re.findall(r"\b15\b", without_dates(text_of(mail))) == ["15"]
    for number in ("15", "10", "5"):
        assert number in html_of(mail)


@pytest.mark.parametrize(
    ("delivery", "ready", "what_becomes_of_it"),
    [
        ("split", "Ready now: 10", "What is ready ships now. You need not do anything."),
        (
            "complete",
            "Set aside for you: 10",
            "You asked for one delivery: what is here is set aside for you and ships together with the rest.",
        ),
    ],
)
async def test_the_part_of_a_mixed_order_that_is_in_stock_is_not_passed_over_in_silence(
    told: Running, script: ScriptedServer, delivery: str, ready: str, what_becomes_of_it: str
) -> None:
    lines = (line(), line(2, 3, sku="CASE-X"), line(3, 2, sku="CABLE"))
    await told.reads(sku_policy("CASE-X", title="A case"))
    events = [created(), created(version=2, line_no=3, sku="CABLE", quantity=2, quantity_waiting=2, quantity_ordered=2,
                                 quantity_allocated=0)]  # fmt: skip
    freed = [released(units={1: 10, 2: 3})] if delivery == "split" else []
    await told.tells(placed(delivery=delivery, lines=lines), *events, *freed)
    (mail,) = about(script)
    text = unwrapped(text_of(mail))
    assert ready in rows_of(mail)
    assert what_becomes_of_it in text
    # The line that is there as a whole, and the one that isn't at all, are said too.
    of_line = sections(text_of(mail))
    word = ready.partition(":")[0]
    assert of_line[word] == ["3 × A case (CASE-X)"]
    assert of_line["CABLE"] == ["Ordered: 2", "Still to come: 2", "Expected: not known yet"]
    assert what_becomes_of_it in unwrapped(html_of(mail))


async def test_the_last_unit_of_one_delivery_lets_all_of_it_go_and_the_mail_says_so(
    told: Running, script: ScriptedServer
) -> None:
    lines = (line(), line(2, 3, sku="CASE-X"))
    await told.tells(placed(delivery="complete", lines=lines), created(promised_at=FIRST))
    await told.tells(filled(quantity=2, quantity_waiting=3, held="complete"))
    assert sections(text_of(about(script)[-1]))["PHONE-X"][:2] == ["Ordered: 15", "Arrived, set aside for you: 2"]
    await told.tells(filled(version=3, quantity=3), released(units={1: 15, 2: 3}))
    mail = about(script)[-1]
    of_line = sections(text_of(mail))
    assert "set aside" not in text_of(mail).lower()
    assert of_line["PHONE-X"] == ["Ordered: 15", "Arrived, ready to ship: 3", "Ready now: 12"]
    assert of_line["Ready now"] == ["3 × CASE-X"]
    assert "What is ready ships now." in unwrapped(text_of(mail))


async def test_one_delivery_of_which_the_rest_never_comes_ships_at_once(told: Running, script: ScriptedServer) -> None:
    lines = (line(), line(2, 3, sku="CASE-X"))
    await told.tells(placed(delivery="complete", lines=lines), rejected(quantity=15), released(units={2: 3}))
    (mail,) = about(script)
    assert sections(text_of(mail))["Ready now"] == ["3 × CASE-X"]
    assert "ships together with the rest" not in unwrapped(text_of(mail))


async def test_what_is_held_for_its_release_alone_keeps_its_date_and_the_order_is_not_called_done(
    told: Running, script: ScriptedServer
) -> None:
    lines = (line(), line(2, 3, sku="GAME"))
    game: dict[str, Any] = {"line_no": 2, "sku": "GAME", "quantity": 3}
    waits: dict[str, Any] = {"quantity_waiting": 3, "quantity_ordered": 3, "quantity_allocated": 0, "kind": "preorder"}
    await told.tells(
        placed(delivery="complete", lines=lines), created(), created(version=2, promised_at=FIRST, **game, **waits)
    )
    await told.tells(filled(version=3, held="preorder", **game))
    await told.tells(filled(version=4, held="complete"))
    mail = about(script)[-1]
    assert sections(text_of(mail))["GAME"] == ["Ordered: 3", "Set aside for you: 3", "Expected: November 22, 2026"]
    text = unwrapped(text_of(mail))
    assert "Expected means: we expect to ship on that day." in text
    assert "Nothing of your order is waiting any more." not in text


async def test_an_order_cancelled_as_a_whole_is_not_told_as_if_the_rest_would_come(
    told: Running, script: ScriptedServer
) -> None:
    await told.tells(placed(), created(), released(units={1: 10}))
    await told.tells(
        order_cancelled(by="shop"), cancelled(by="shop", caused_by="c"),
        revoked(reason="cancelled", quantity=10, caused_by="c"),
    )  # fmt: skip
    mail = about(script)[-1]
    assert mail["Subject"] == "Order 1001: 15 units were cancelled"
    for words in (unwrapped(text_of(mail)), unwrapped(html_of(mail))):
        assert "The whole order is cancelled: what has not left our warehouse yet will not come." in words
        assert "Nothing of your order is waiting any more." not in words


async def test_who_could_not_be_told_that_units_wait_hears_of_their_date(told: Running, script: ScriptedServer) -> None:
    await told.tells(placed(email="nobody @example"), created(promised_at=FIRST))
    await told.reads(contact_changed(email="ada@example.org"))
    await told.tells(moved(promised_at=SECOND, previous_promised_at=FIRST))
    await told.passes(hours=1)
    (mail,) = about(script)
    assert mail["Subject"] == "Order 1001: New date December 2, 2026"
    assert "For 5 units of your order 1001 there is a date now." in unwrapped(text_of(mail))


async def test_what_left_and_arrived_before_it_was_told_is_not_said_to_be_on_its_way(
    told: Running, script: ScriptedServer
) -> None:
    await told.tells(placed(), created(), released(units={1: 10}))
    await told.tells(shipped(units={1: 10}), delivered())
    mail = about(script)[-1]
    assert re.fullmatch(r"Order 1001: Delivered on November \d+, 2026, 5 still to come", mail["Subject"])
    assert "Delivered: 10" in rows_of(mail)
    for words in (unwrapped(text_of(mail)), unwrapped(html_of(mail))):
        assert "arrived on November" in words
        assert "on their way" not in words
        assert "On the way" not in words


async def test_what_was_shipped_is_nowhere_said_to_be_still_to_come(told: Running, script: ScriptedServer) -> None:
    lines = (line(), line(2, 4, sku="CASE-X"))
    whole: dict[str, Any] = {"line_no": 2, "sku": "CASE-X", "quantity_ordered": 4, "quantity_allocated": 0}
    await told.tells(
        placed(lines=lines), created(promised_at=FIRST),
        created(version=2, quantity=4, quantity_waiting=4, promised_at=FIRST, **whole),
    )  # fmt: skip
    await told.passes(days=1)
    # What fills the first line leaves at once; of the second nothing has come.
    await told.tells(filled(version=3, caused_by="receipt"), released(units={1: 15}), shipped(units={1: 15}))
    _, mail = about(script)
    assert mail["Subject"] == "Order 1001: 15 units are on their way, 4 still to come"
    of_line = sections(text_of(mail))
    assert of_line["On the way to you"] == ["15 × PHONE-X"]
    assert text_of(mail).count("PHONE-X") == 1
    assert of_line["CASE-X"] == ["Ordered: 4", "Still to come: 4", "Expected: November 22, 2026"]
    await told.passes(days=1)
    await told.tells(
        filled(version=4, line_no=2, sku="CASE-X", quantity=4), released(version=2, units={2: 4}),
        shipped(shipment_id="s-2", units={2: 4}, carrier="DHL", tracking_number="JD0002"),
    )  # fmt: skip
    mail = about(script)[-1]
    assert mail["Subject"] == "Order 1001: 4 units are on their way"
    text = unwrapped(text_of(mail))
    assert not re.search("backorder|not in stock|will come later|expected", text, re.IGNORECASE)
    assert not re.search("still to come", text, re.IGNORECASE)
    assert "Nothing of your order is waiting any more." in text
    assert "Tracking number: JD0002" in text
    await told.is_sound()


async def test_a_date_that_moved_and_came_back_sends_nothing(told: Running, script: ScriptedServer) -> None:
    await told.tells(placed(), created(promised_at=FIRST))
    await told.reads(moved(promised_at=SECOND, previous_promised_at=FIRST))
    await told.passes(minutes=20)
    await told.reads(moved(version=3, promised_at=FIRST, previous_promised_at=SECOND))
    await told.passes(hours=5)
    assert len(about(script)) == 1
    assert await told.verdicts() == {
        "v1": ("told", None), "v2": ("superseded", "later_date"), "v3": ("not_told", "back_to_what_was_told"),
    }  # fmt: skip
    said = await told.why()
    assert [each["because"] for each in said["updates"][1:]] == [
        "A later change of the same line's date was decided in its place.",
        "The date moved and came back to the day the customer was told.",
    ]


async def test_a_date_that_was_told_and_then_came_back_is_told_again(told: Running, script: ScriptedServer) -> None:
    """Of two changes a day apart the customer hears both: what they know would be wrong otherwise."""
    await told.tells(placed(), created(promised_at=FIRST))
    await told.tells(moved(promised_at=SECOND, previous_promised_at=FIRST))
    await told.passes(days=1)
    await told.tells(moved(version=3, promised_at=FIRST, previous_promised_at=SECOND))
    await told.passes(hours=1)
    assert [mail["Subject"] for mail in about(script)][1:] == [
        "Order 1001: New date December 2, 2026", "Order 1001: New date November 22, 2026",
    ]  # fmt: skip


async def test_a_thousand_changes_of_a_date_send_one_mail(told: Running, script: ScriptedServer) -> None:
    await told.tells(placed(), created(promised_at=FIRST))
    dates = [FIRST + number * DAY for number in range(1001)]
    await told.reads(
        *(
            moved(version=number + 1, promised_at=dates[number], previous_promised_at=dates[number - 1])
            for number in range(1, 1001)
        )
    )
    await told.passes(days=1)
    _, mail = about(script)
    assert mail["Subject"] == "Order 1001: New date August 18, 2029"
    assert rows_of(mail)[-3:-1] == ["Expected: August 18, 2029", "Previous date: November 22, 2026"]
    assert len([verdict for verdict in (await told.verdicts()).values() if verdict == ("told", None)]) == 2


STORIES: Mapping[str, tuple[str, str]] = {  # what happened, and what `why` says about the event v2 (or the last)
    "too_small": ("moved a day", "The date moved by less than is worth a message."),
    "same_day": ("moved hours", "It is the same calendar day where the customer lives."),
    "no_email": ("has no address", "There is no email address of the customer."),
    "invalid_email": ("has a broken address", "Mail can't go to the address of the customer."),
    "suppressed": ("has a dead address", "The provider said that the address is dead"),
    "no_longer_waits": ("moved after a fill", "Nothing of this line waits any more, so its date is of no use."),
    "channel_not_chosen": ("wants text messages only, of reminders", "The customer chose other channels."),
    "before_start_at": ("happened before the start", "It happened before NOTIFIER_START_AT."),
}


@pytest.mark.parametrize("reason", STORIES)
async def test_staff_see_why_nothing_was_sent(told: Running, script: ScriptedServer, reason: str) -> None:
    what, sentence = STORIES[reason]
    email: str | None = "ada@example.org"
    date: datetime | None = FIRST
    match reason:
        case "no_email":
            email = None
        case "invalid_email":
            email = "ada@example.org, eve"
        case "suppressed":
            script.choose = lambda _recipient: "550 5.1.1 no such user at rcpt"
        case "before_start_at":
            told.policy = Policy(start_at=told.now + DAY)
        case _:
            pass
    await told.tells(placed(email=email), created(promised_at=date))
    match reason:
        case "too_small":
            await told.reads(moved(promised_at=FIRST + DAY, previous_promised_at=FIRST))
        case "same_day":
            await told.reads(moved(promised_at=FIRST + timedelta(hours=5), previous_promised_at=FIRST))
        case "no_longer_waits":
            await told.tells(filled())
            await told.reads(moved(version=3, promised_at=SECOND, previous_promised_at=FIRST))
        case "suppressed":
            await told.tells(filled())
        case "channel_not_chosen":
            await told.reads(contact_changed(channels=("sms",)))
            await told.passes(days=19)
        case _:
            pass
    await told.passes(hours=5)
    mails = len(about(script))
    said = await told.why()
    (last,) = said["updates"][-1:]
    assert (last["state"], last["reason"]) == ("not_told", reason), what
    assert sentence in last["because"]
    assert last["because"] == REASONS[reason]
    expected = {"no_longer_waits": 2, "too_small": 1, "same_day": 1, "channel_not_chosen": 1}
    assert mails == expected.get(reason, 0)
    assert not any(sentence.startswith("Waits") for sentence in said["waits"])
    await told.is_sound()


async def test_staff_see_what_a_message_waits_for(told: Running) -> None:
    await told.tells(placed(), created(promised_at=FIRST))
    await told.reads(moved(promised_at=SECOND, previous_promised_at=FIRST))
    said = await told.why()
    assert said["updates"][-1]["state"] == "pending"
    assert len(said["waits"]) == 1
    assert "2026-11-02" in said["waits"][0]
    assert "12:30" in said["waits"][0]


async def test_an_order_whose_customer_is_not_known_yet_says_so(told: Running) -> None:
    await told.tells(created(promised_at=FIRST))
    assert "Waits for the OrderPlaced of this order" in (await told.why())["waits"][0]


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def without_dates(text: str) -> str:
    return re.sub(r"[A-Z][a-z]+ \d+, \d{4}", "", text)


def sections(text: str) -> dict[str, list[str]]:
    """The rows of each line of the order, by how it is named."""
    found: dict[str, list[str]] = {}
    name: Any = None
    for row in text.split("\n"):
        if row.startswith("  ") and name is not None:
            found.setdefault(name, []).append(row.strip())
        else:
            name = row
    return found
