from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from backorder_notifier.contacts import (
    Contact,
    Customer,
    changed,
    contact_of,
    is_mail_address,
    reachable,
    suppression_key,
    wire_address,
)
from backorder_notifier.kinds import CHANNELS
from backorder_notifier.told_store import contacts_to_tell
from backorder_schemas import ContactChanged
from tests.notifier.messages import NOON, contact_changed, placed
from tests.notifier.shop import Shop

HOUR = timedelta(hours=1)
ADA = Contact("1001", "c-7", "ada@example.org", "+4915112345678", "Ada", "de", "Europe/Berlin", None, True, "t", False)
ALL = CHANNELS


def change(revision: int = 1, **fields: Any) -> ContactChanged:
    return contact_changed("c-7", revision, **fields)


@pytest.mark.parametrize(
    "address", ["ada@example.org", "a.b+c@sub.example.co.uk", "o'hara@example.org", "ADA@example.org", "ada@shop.test"]
)
def test_ordinary_addresses_are_taken(address: str) -> None:
    assert wire_address(address) == address


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@straße.example", "ada@xn--strae-oqa.example"),  # IDNA 2003 made it strasse: somebody else's domain
        ("ada@Example.ORG", "ada@example.org"),
        ("ädä@example.org", "ädä@example.org"),  # for servers with SMTPUTF8
        ("用户@例子.广告", "用户@xn--fsqu00a.xn--4rr70v"),
    ],
)
def test_an_address_of_another_script_goes_out_with_its_domain_in_ascii(address: str, wire: str) -> None:
    assert wire_address(address) == wire


@pytest.mark.parametrize(
    "address",
    [
        "", "ada", "@example.org", "ada@", "a b@example.org", "a@b@example.org", "ada@example", "ada@test", "ada@.org",
        "ada@example.org\r\nRCPT TO:<eve@example.org>", "ada@example.org,eve@example.org", "<ada@example.org>",
        "Ada <ada@example.org>", '"ada"@example.org', "ada@[127.0.0.1]", "ada@127.0.0.1", "ada@exa mple.org",
        "ada@-example.org", "a" * 65 + "@example.org", "ä" * 33 + "@example.org", "ada@localhost",
        "=?utf-8?q?=0D=0AX-Evil=3A=20x=40y.z?=@example.org", "ada@xn--zzzzzz.org",
        "ada\u202e@example.org", "\u2066ada@example.org", "ada@example.org\u0000", "ad\ra@example.org",
        "ada@example..org", ".ada@example.org", "ada\ud800@example.org",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    assert not is_mail_address(address)


def test_the_refusal_of_an_address_does_not_repeat_it() -> None:
    with pytest.raises(ValueError, match="not an address") as caught:
        wire_address("canary canary@example.org")
    assert "canary" not in repr(caught.value)
    assert caught.value.__suppress_context__


def test_an_order_keeps_only_what_it_says_itself() -> None:
    contact = contact_of(placed(), NOON, None)
    assert (contact.email, contact.locale, contact.timezone) == ("ada@example.org", None, None)
    assert contact_of(placed(customer={"locale": "de"}), NOON, None).locale == "de"


def test_an_order_from_before_its_customer_was_forgotten_brings_no_contact_data_again() -> None:
    order = placed(customer={"phone": "+4915112345678", "locale": "de", "timezone": "Europe/Berlin"})
    before, after = contact_of(order, NOON, NOON), contact_of(order, NOON + HOUR, NOON)
    assert (before.email, before.phone, before.name, before.locale, before.timezone) == (None,) * 5
    assert (after.email, after.phone, after.name) == ("ada@example.org", "+4915112345678", "Ada")
    assert before.customer_id == "c-7"


def test_fields_that_a_change_leaves_out_stay_as_they_are() -> None:
    first = changed(Customer("c-7"), change(1, email="old@example.org", name="Ada", channels=["sms"]), NOON)
    second = changed(first, change(2, email="new@example.org", occurred_at=NOON + HOUR), NOON)
    assert (second.email, second.email_at) == ("new@example.org", NOON + HOUR)
    assert (second.name, second.name_at, second.channels) == ("Ada", NOON, ("sms",))


def test_the_highest_revision_holds_in_whatever_order_changes_come() -> None:
    changes = [change(revision, email=f"{revision}@example.org", locale="de") for revision in (1, 2, 3)]
    ends = set()
    for order in permutations(changes):
        customer = Customer("c-7")
        for each in order:
            customer = changed(customer, each, NOON)
        ends.add((customer.revision, customer.email))
    assert ends == {(3, "3@example.org")}
    customer = changed(Customer("c-7"), changes[1], NOON)
    assert changed(customer, changes[1], NOON) is customer


def test_a_change_from_before_a_customer_was_forgotten_brings_preferences_but_no_contact_data() -> None:
    forgotten = Customer("c-7", revision=1, forgotten_at=NOON)
    late = change(2, email="ada@example.org", phone="+4915112345678", name="Ada", optional_kinds=False)
    assert changed(forgotten, late, NOON) == replace(forgotten, revision=2, optional_kinds=False)
    assert changed(forgotten, late, NOON + HOUR).email == "ada@example.org"


def test_who_wants_optional_messages_again_is_not_unsubscribed_any_more() -> None:
    gone = Customer("c-7", optional_kinds=False, unsubscribed_at=NOON)
    back = changed(gone, change(1, optional_kinds=True), NOON)
    assert (back.optional_kinds, back.unsubscribed_at) == (True, None)
    still = changed(gone, change(1, name="Ada"), NOON)
    assert (still.optional_kinds, still.unsubscribed_at) == (False, NOON)


def test_mail_goes_to_whoever_never_chose_and_sms_only_to_who_asked() -> None:
    assert reachable(ADA, ALL, (), optional=True) == {"email": None, "sms": "channel_not_chosen", "webhook": None}
    both = replace(ADA, channels=("email", "sms"))
    assert reachable(both, ALL, (), optional=True) == {"email": None, "sms": None, "webhook": None}
    only_sms = replace(ADA, channels=("sms",))
    assert reachable(only_sms, ALL, (), optional=False) == {"email": "channel_not_chosen", "sms": None, "webhook": None}


def test_only_configured_channels_are_judged() -> None:
    assert reachable(replace(ADA, channels=("sms",)), ["email"], (), optional=True) == {"email": "channel_not_chosen"}


@pytest.mark.parametrize("channels", [(), ("push",)])
def test_what_can_not_be_switched_off_goes_by_the_first_channel_with_an_address(channels: tuple[str, ...]) -> None:
    nothing = replace(ADA, channels=channels)
    refused = {"email": "channel_not_chosen", "sms": "channel_not_chosen", "webhook": None}
    assert reachable(nothing, ALL, (), optional=True) == refused
    assert reachable(nothing, ALL, (), optional=False) == refused | {"email": None}
    assert reachable(replace(nothing, email=None), ALL, (), optional=False) == refused | {"sms": None}
    assert reachable(nothing, ALL, {"email"}, optional=False) == refused | {"sms": None}
    nowhere = replace(nothing, email=None, phone=None)
    assert reachable(nowhere, ALL, (), optional=False) == refused | {"email": "no_email"}


@pytest.mark.parametrize(
    ("fields", "suppressed", "email", "sms"),
    [
        ({"email": None, "phone": None}, (), "no_email", "no_phone"),
        ({"email": None, "phone": None, "forgotten": True}, (), "forgotten", "forgotten"),
        ({"email": "nobody at all"}, (), "invalid_email", None),
        ({}, {"email"}, "suppressed", None),
        ({}, {"email", "sms"}, "suppressed", "suppressed"),
    ],
)
def test_a_channel_without_a_usable_address_says_why(
    fields: dict[str, Any], suppressed: Any, email: str, sms: str | None
) -> None:
    contact = replace(ADA, channels=("email", "sms"), **fields)
    assert reachable(contact, ALL, suppressed, optional=False) == {"email": email, "sms": sms, "webhook": None}


def test_one_mailbox_is_suppressed_under_one_spelling() -> None:
    spellings = ["Ada@Bücher.example", "ada@xn--bcher-kva.example", "ADA@BÜCHER.EXAMPLE"]
    assert {suppression_key("email", replace(ADA, email=each)) for each in spellings} == {"ada@xn--bcher-kva.example"}
    assert suppression_key("sms", ADA) == ADA.phone
    assert suppression_key("email", replace(ADA, email="nobody at all")) is None


@pytest.mark.parametrize("turn", list(permutations(range(3))))
async def test_what_was_said_last_holds_whichever_topic_is_read_first(
    connection: asyncpg.Connection, turn: tuple[int, ...]
) -> None:
    before, after = NOON - HOUR, NOON + HOUR
    said = (
        placed(email="order@example.org", customer={"locale": "de", "phone": None}),
        change(1, email="old@example.org", phone="+4915112345678", locale="ar", occurred_at=before),
        change(2, name="Ada L.", timezone="Europe/Berlin", occurred_at=after),
    )
    shop = Shop(connection)
    for number in turn:
        await shop.comes(said[number])
    contact = (await contacts_to_tell(connection, ["1001"]))["1001"]
    # A revision that came too late is not applied at all, so what only it says is not known.
    knows_first = turn.index(1) < turn.index(2)
    assert (contact.email, contact.locale, contact.name) == ("order@example.org", "de", "Ada L.")
    assert (contact.timezone, contact.phone) == ("Europe/Berlin", "+4915112345678" if knows_first else None)


async def test_a_change_after_the_order_holds_for_all_orders_before_it(connection: asyncpg.Connection) -> None:
    shop = Shop(connection)
    await shop.comes(placed("1001"), placed("1002", placed_at=NOON + 2 * HOUR))
    await shop.comes(change(1, email="new@example.org", occurred_at=NOON + HOUR))
    contacts = await contacts_to_tell(connection, ["1001", "1002"])
    assert {key: each.email for key, each in contacts.items()} == {"1001": "new@example.org", "1002": "ada@example.org"}
