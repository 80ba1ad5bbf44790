"""The teller's transaction: what becomes one message, what is taken back, what two of them never do at once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import pytest

from backorder_notifier import statements, store, teller, told_store
from backorder_notifier.audits import audit
from backorder_notifier.channel import Answer
from backorder_notifier.delivering import Limits, Provider, claim
from backorder_notifier.news import Verdict
from backorder_notifier.policy import Policy
from backorder_notifier.settling import settle
from backorder_notifier.teller import tell_due
from backorder_notifier.telling import compose
from tests.notifier.messages import NOON, cancelled, contact_changed, created, filled, line, moved, placed
from tests.notifier.shop import PATIENCE, Shop

TWO_LINES = (line(1), line(2, sku="CASE-X"))
DAY = timedelta(days=1)


@pytest.fixture
def shop(connection: asyncpg.Connection) -> Shop:
    return Shop(connection)


# One message


async def test_all_news_of_an_order_become_one_message_of_the_heaviest_kind(shop: Shop) -> None:
    await shop.comes(placed(lines=TWO_LINES), created(), created(version=2, line_no=2, sku="CASE-X"))
    await shop.comes(cancelled(version=3, line_no=2, sku="CASE-X"))
    report = await shop.decides()
    assert (report.looked_at, report.messages, report.due) == (1, 1, 1)
    await shop.sends()
    (message,) = shop.senders["email"].got
    assert message.content.kind == "backorder_cancelled"
    assert set(message.about) == {"1001/v1", "1001/v2", "1001/v3"}
    assert set((await shop.verdicts()).values()) == {("told", None)}


async def test_nothing_is_decided_before_its_time(shop: Shop) -> None:
    await shop.comes(placed(), created())
    report = await shop.decides(after=timedelta(seconds=1))
    assert report.looked_at == 0
    assert await shop.verdicts() == {"v1": ("pending", None)}


async def test_an_order_whose_contact_has_not_come_waits_for_it(shop: Shop) -> None:
    await shop.comes(created())
    assert (await shop.decides()).looked_at == 0
    await shop.comes(placed())
    await shop.decides()
    await shop.sends()
    assert shop.kinds() == ["backorder_created"]


async def test_a_date_is_compared_with_what_was_accepted_not_with_what_was_written_down(shop: Shop) -> None:
    first, second = NOON + 20 * DAY, NOON + 30 * DAY
    await shop.comes(placed(), created(promised_at=first))
    await shop.decides()
    await shop.sends()
    assert datetime.fromisoformat((await shop.told())["1"]["promised_at"]) == first
    await shop.comes(moved(promised_at=second, previous_promised_at=first))
    await shop.decides(after=timedelta(minutes=30))
    assert (await shop.messages())[-1]["kind"] == "promise_changed"
    # Nobody has read that yet, and the date is what it was.
    await shop.comes(moved(version=3, promised_at=first, previous_promised_at=second))
    await shop.decides(after=timedelta(hours=4))
    await shop.sends()
    assert shop.kinds() == ["backorder_created"]
    assert await shop.deliveries() == [("email", "sent", None), ("email", "superseded", "withdrawn")]
    assert await shop.verdicts() == {
        "v1": ("told", None), "v2": ("superseded", "later_date"), "v3": ("not_told", "back_to_what_was_told"),
    }  # fmt: skip


async def test_titles_and_alternatives_in_stock_are_those_of_now(shop: Shop) -> None:
    from tests.notifier.messages import availability, sku_policy

    await shop.comes(
        sku_policy(title="Phone X"), sku_policy("PHONE-Y", title="Phone Y"), availability("PHONE-Y"),
        availability("PHONE-Z", status="out_of_stock"), placed(), created(substitutes=("PHONE-Y", "PHONE-Z")),
    )  # fmt: skip
    await shop.decides()
    await shop.sends()
    (told,) = shop.senders["email"].got[0].content.lines
    assert told.title == "Phone X"
    assert [(each.sku, each.title) for each in told.alternatives] == [("PHONE-Y", "Phone Y")]


# Withdrawal


async def test_a_message_not_sent_yet_gives_way_to_one_that_tells_all(shop: Shop) -> None:
    await shop.comes(placed(), created())
    await shop.decides()
    await shop.comes(filled(quantity=2, quantity_waiting=3))
    await shop.decides()
    assert await shop.deliveries() == [("email", "superseded", "newer_message"), ("email", "due", None)]
    await shop.sends()
    (message,) = shop.senders["email"].got
    assert message.content.kind == "backorder_filled"
    assert set(message.about) == {"1001/v1", "1001/v2"}
    assert set((await shop.verdicts()).values()) == {("told", None)}


async def test_a_message_in_a_senders_hand_stays_and_the_order_is_looked_at_a_second_later(shop: Shop) -> None:
    await shop.comes(placed(), created())
    await shop.decides()
    await shop.takes_in_hand()
    await shop.comes(filled())
    report = await shop.decides()
    assert (report.looked_at, report.open) == (0, 1)
    assert await shop.tell_at() == shop.now + timedelta(seconds=1)
    assert await shop.deliveries() == [("email", "due", None)]
    # The sender died: its lease ends, and what it had may be taken back.
    await shop.decides(after=timedelta(minutes=1))
    await shop.sends()
    assert shop.kinds() == ["backorder_filled"]
    assert set(shop.senders["email"].got[0].about) == {"1001/v1", "1001/v2"}


async def test_what_was_sent_is_not_told_again(shop: Shop) -> None:
    await shop.comes(placed(), created())
    await shop.decides()
    await shop.sends()
    await shop.comes(filled())
    await shop.decides()
    await shop.sends()
    assert [message.about for message in shop.senders["email"].got] == [("1001/v1",), ("1001/v2",)]


async def test_a_message_in_doubt_is_replaced_by_another_that_says_how_things_stand(shop: Shop) -> None:
    first, second = NOON + 20 * DAY, NOON + 30 * DAY
    shop.senders["email"].answers.append(Answer("ambiguous", "lost after DATA"))
    await shop.comes(placed(), created(promised_at=first))
    await shop.decides()
    await shop.sends()
    await shop.comes(moved(promised_at=second, previous_promised_at=first))
    await shop.decides(after=timedelta(hours=4))
    await shop.sends()
    doubtful, certain = shop.senders["email"].got
    # Another id: a mail program that shows each Message-ID once must not hide the new date.
    assert doubtful.delivery_id != certain.delivery_id
    assert [each.content.lines[0].expected for each in (doubtful, certain)] == [first, second]
    assert (await shop.verdicts())["v2"] == ("superseded", "backorder_created")


async def test_a_message_that_is_taken_back_from_a_sender_that_was_cut_off_is_in_doubt(shop: Shop) -> None:
    """It may have been accepted, and then two messages told the same: the audit knows why."""
    await shop.comes(placed(), created())
    await shop.decides()
    provider = Provider(shop.senders["email"], Limits(), PATIENCE)
    claimed = await claim(shop.connection, "email", provider, shop.now, 1)
    await shop.comes(filled())
    await shop.decides(after=2 * PATIENCE.lease)
    (row,) = claimed.rows
    assert await settle(shop.connection, row, Answer("sent"), PATIENCE, tried_at=shop.now, now=shop.now) == "accepted"
    await shop.sends()
    assert [message["about"] for message in await shop.messages()] == [["1001/v1"], ["1001/v1", "1001/v2"]]
    assert await shop.deliveries() == [("email", "sent", None), ("email", "sent", None)]
    assert [check.rule for check in await audit(shop.connection, shop.policy) if check.violations] == []


async def test_the_same_decision_again_is_the_same_message_and_keeps_its_tries(shop: Shop) -> None:
    date = NOON + 20 * DAY
    shop.senders["email"].answers.append(Answer("later", "smtp 451"))
    await shop.comes(placed(), created(promised_at=date))
    await shop.decides()
    await shop.sends()
    before = await shop.connection.fetchrow(
        "SELECT delivery_id, due_at, attempts, first_attempt_at, reason FROM deliveries"
    )
    await shop.connection.execute("UPDATE orders SET tell_at = $1", shop.now)
    await shop.decides(after=timedelta(seconds=1))
    assert (
        await shop.connection.fetchrow("SELECT delivery_id, due_at, attempts, first_attempt_at, reason FROM deliveries")
        == before
    )
    assert len(await shop.messages()) == 1
    shop.waits(minutes=30)
    await shop.sends()
    assert [message.delivery_id for message in shop.senders["email"].got] == [before["delivery_id"]]


async def test_news_given_back_that_is_not_due_any_more_waits_with_what_came_since(shop: Shop) -> None:
    dates = [NOON + days * DAY for days in (20, 30, 40)]
    await shop.comes(placed(), created(promised_at=dates[0]))
    await shop.decides()
    await shop.sends()
    await shop.comes(moved(promised_at=dates[1], previous_promised_at=dates[0]))
    await shop.decides(after=timedelta(minutes=30))
    await shop.comes(moved(version=3, promised_at=dates[2], previous_promised_at=dates[1]))
    await shop.connection.execute("UPDATE orders SET tell_at = $1", shop.now)
    await shop.decides(after=timedelta(minutes=1))
    assert await shop.verdicts() == {"v1": ("told", None), "v2": ("pending", None), "v3": ("pending", None)}
    await shop.decides(after=timedelta(minutes=30))
    await shop.sends()
    assert shop.kinds() == ["backorder_created", "promise_changed"]
    (said,) = shop.senders["email"].got[-1].content.lines
    assert (said.previous, said.expected) == (dates[0], dates[2])


async def test_a_reminder_that_was_taken_back_is_told_by_the_next_message(shop: Shop) -> None:
    date = NOON + 20 * DAY
    await shop.comes(placed(lines=TWO_LINES), created(promised_at=date), created(version=2, line_no=2, sku="CASE-X"))
    await shop.decides()
    await shop.sends()
    shop.now = (date - 2 * DAY).replace(hour=9)
    await shop.decides(after=timedelta(0))
    assert (await shop.messages())[-1]["kind"] == "promise_approaching"
    await shop.comes(filled(version=3, line_no=2, sku="CASE-X"))
    await shop.decides()
    await shop.sends()
    assert shop.kinds() == ["backorder_created", "backorder_filled"]
    timers = {key: value for key, value in (await shop.verdicts()).items() if key.startswith("timer:")}
    assert list(timers.values()) == [("told", None)]
    # And once is enough.
    await shop.decides(after=timedelta(hours=1))
    await shop.sends()
    assert len(shop.kinds()) == 2


async def test_a_reminder_that_was_taken_back_and_holds_no_longer_is_never_told(shop: Shop) -> None:
    date = NOON + 20 * DAY
    await shop.comes(placed(), created(promised_at=date))
    await shop.decides()
    await shop.sends()
    shop.now = (date - 2 * DAY).replace(hour=9)
    await shop.decides(after=timedelta(0))
    await shop.comes(filled())
    await shop.decides()
    await shop.sends()
    assert shop.kinds() == ["backorder_created", "backorder_filled"]
    (verdict,) = [value for key, value in (await shop.verdicts()).items() if key.startswith("timer:")]
    assert verdict == ("superseded", "withdrawn")


# Several channels


@pytest.fixture
def three_channels(shop: Shop) -> Shop:
    shop.change(channels=("email", "sms", "webhook"), quiet_hours={})
    return shop


async def _placed_and_created(shop: Shop) -> None:
    await shop.comes(contact_changed(channels=("email", "sms"), phone="+4915112345678"))
    await shop.comes(placed(), created())
    await shop.decides()


async def test_one_message_goes_over_every_channel(three_channels: Shop) -> None:
    shop = three_channels
    await _placed_and_created(shop)
    await shop.sends()
    assert [shop.kinds(channel) for channel in shop.policy.channels] == [["backorder_created"]] * 3
    assert len({sender.got[0].message_id for sender in shop.senders.values()}) == 1
    assert [outcome["channel"] for outcome in await shop.outcomes()] == ["email", "sms", "webhook"]


async def test_a_text_message_that_waits_gives_way_and_what_the_mail_told_is_not_told_again(
    three_channels: Shop,
) -> None:
    shop = three_channels
    await _placed_and_created(shop)
    await shop.sends("email", "webhook")
    await shop.comes(filled(quantity=2, quantity_waiting=3))
    await shop.decides()
    await shop.sends()
    assert shop.kinds("email") == ["backorder_created", "backorder_filled"]
    assert [message.about for message in shop.senders["sms"].got] == [("1001/v2",)]


async def test_a_webhook_that_waits_stays_where_the_customer_has_read_the_message(three_channels: Shop) -> None:
    shop = three_channels
    await _placed_and_created(shop)
    await shop.sends("email", "sms")
    await shop.comes(filled())
    await shop.decides()
    await shop.sends("email", "sms")
    for _ in range(2):
        await shop.sends("webhook")
    assert [message.about for message in shop.senders["webhook"].got] == [("1001/v1",), ("1001/v2",)]


async def test_what_no_channel_has_sent_gives_way_on_all_of_them(three_channels: Shop) -> None:
    shop = three_channels
    await _placed_and_created(shop)
    await shop.comes(filled())
    await shop.decides()
    await shop.sends()
    assert [shop.kinds(channel) for channel in shop.policy.channels] == [["backorder_filled"]] * 3


async def test_the_same_decision_again_is_not_sent_again_where_it_was_sent(three_channels: Shop) -> None:
    shop = three_channels
    await _placed_and_created(shop)
    await shop.sends("webhook")
    await shop.connection.execute("UPDATE orders SET tell_at = $1", shop.now)
    assert (await shop.decides()).looked_at == 1
    await shop.sends()
    assert [shop.kinds(channel) for channel in shop.policy.channels] == [["backorder_created"]] * 3


async def test_news_that_only_the_webhook_has_is_told_to_the_customer_by_the_next_message(three_channels: Shop) -> None:
    shop = three_channels
    date = NOON + 20 * DAY
    await shop.comes(placed(), created(promised_at=date))
    await shop.decides()
    await shop.sends("webhook")
    assert await shop.told() == {}
    await shop.comes(filled(quantity=2, quantity_waiting=3))
    await shop.decides()
    await shop.sends()
    (mail,) = shop.senders["email"].got
    assert set(mail.about) == {"1001/v1", "1001/v2"}
    assert mail.content.lines[0].expected == date


# Nobody to tell


async def test_without_address_nothing_is_told_and_subscribers_hear_why(shop: Shop) -> None:
    await shop.comes(placed(email=None), created())
    report = await shop.decides()
    assert (report.due, report.to_publish) == (0, 1)
    assert await shop.verdicts() == {"v1": ("not_told", "no_email")}
    assert await shop.deliveries() == [("email", "withheld", "no_email")]
    await shop.comes(contact_changed(email="ada@example.org"), filled())
    await shop.decides()
    await shop.sends()
    failed, notified = await shop.outcomes()
    assert (failed["type"], failed["version"], failed["reason"]) == ("NotificationFailed", 1, "no_email")
    assert (notified["type"], notified["version"], notified["about"]) == ("CustomerNotified", 2, ["1001/v2"])


async def test_a_suppressed_address_gets_nothing(shop: Shop) -> None:
    await shop.connection.execute("INSERT INTO suppressions VALUES ('email', 'ada@example.org', 'smtp 550', $1)", NOON)
    await shop.comes(placed(email="Ada@Example.org"), created())
    await shop.decides()
    assert await shop.deliveries() == [("email", "withheld", "suppressed")]


async def test_of_a_channel_that_was_not_chosen_nothing_is_published(shop: Shop) -> None:
    shop.change(channels=("email", "sms"), quiet_hours={})
    await _placed_and_created(shop)
    await shop.comes(contact_changed(revision=2, channels=("sms",)), filled())
    await shop.sends()
    await shop.decides()
    await shop.sends()
    assert (await shop.deliveries())[2:] == [("email", "withheld", "channel_not_chosen"), ("sms", "sent", None)]
    assert [(each["channel"], each["type"]) for each in await shop.outcomes()] == [
        ("email", "CustomerNotified"), ("sms", "CustomerNotified"), ("sms", "CustomerNotified"),
    ]  # fmt: skip


# Caps and age


async def test_messages_of_one_round_count_against_the_customers_day_too(shop: Shop) -> None:
    shop.change(daily_cap=2)
    orders = ["a", "b", "c"]
    for order_id in orders:
        await shop.comes(placed(order_id), created(order_id))
    await shop.decides()
    await shop.sends()
    await shop.comes(*(filled(order_id) for order_id in orders))
    await shop.decides()
    await shop.sends()
    # Beginnings are not capped: three of them are more than enough for a day.
    assert Counter(shop.kinds()) == {"backorder_created": 3}
    assert (await shop.verdicts("a"))["v2"] == ("pending", "daily_cap")
    assert await shop.tell_at("a") == datetime(2026, 11, 3, 9, tzinfo=UTC)
    shop.now = datetime(2026, 11, 3, 9, tzinfo=UTC)
    await shop.decides()
    await shop.sends()
    assert Counter(shop.kinds()) == {"backorder_created": 3, "backorder_filled": 2}


async def test_a_message_that_waits_for_days_is_made_anew_and_says_that_it_is_late(shop: Shop) -> None:
    shop.senders["email"].answers += [Answer("unreachable", "no connection")]
    await shop.comes(placed(), created())
    await shop.decides()
    await shop.sends()
    shop.waits(days=3)
    assert await told_store.wake_stale_orders(shop.connection, shop.now, shop.now - shop.policy.stale_after, 10) == 1
    await shop.decides(after=timedelta(0))
    assert await told_store.wake_stale_orders(shop.connection, shop.now, shop.now - shop.policy.stale_after, 10) == 0
    await shop.sends()
    (message,) = shop.senders["email"].got
    assert message.content.late


# Whatever is in the way of one


async def test_an_order_that_can_not_be_read_is_reported_and_stops_no_other(shop: Shop) -> None:
    for order_id in ("a", "b", "c"):
        await shop.comes(placed(order_id), created(order_id))
    good = await shop.connection.fetchval("SELECT dossier FROM orders WHERE order_id = 'b'")
    await shop.connection.execute("""UPDATE orders SET dossier = '{"lines": "nonsense"}' WHERE order_id = 'b'""")
    report = await shop.decides()
    assert (report.looked_at, report.failed) == (2, ["b"])
    assert await shop.verdicts("b") == {"v1": ("pending", "telling_failed")}
    assert await shop.tell_at("b") == shop.now + timedelta(minutes=1)
    await shop.connection.execute("UPDATE orders SET dossier = $1 WHERE order_id = 'b'", good)
    await shop.decides(after=timedelta(minutes=1))
    await shop.sends()
    assert sorted(message.order_id for message in shop.senders["email"].got) == ["a", "b", "c"]
    assert await shop.verdicts("b") == {"v1": ("told", None)}


async def test_what_the_database_refuses_of_one_order_is_found_by_halving(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_no_use(view: Any, *arguments: Any) -> Any:
        decision = compose(view, *arguments)
        if view.order_id == "o7":
            return replace(decision, verdicts={"o7/v1": Verdict(cast("Any", "nonsense"))})
        return decision

    monkeypatch.setattr(teller, "compose", of_no_use)
    orders = [f"o{number}" for number in range(10)]
    for order_id in orders:
        await shop.comes(placed(order_id), created(order_id))
    report = await shop.decides()
    assert (report.looked_at, report.failed) == (9, ["o7"])
    await shop.sends()
    assert sorted(message.order_id for message in shop.senders["email"].got) == sorted({*orders} - {"o7"})
    assert await shop.verdicts("o7") == {"v1": ("pending", "telling_failed")}


async def test_a_round_takes_as_many_statements_for_fifty_orders_as_for_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[str] = Counter()

    async def counting(connection: Any, name: str, *arguments: Any) -> list[asyncpg.Record]:
        counted[name] += 1
        return await run(connection, name, *arguments)

    run = statements.run
    for module in (told_store, store):
        monkeypatch.setattr(module, "run", counting)

    async def statements_for(orders: Sequence[str]) -> Counter[str]:
        await shop.comes(*(placed(order_id, email=None) for order_id in orders))
        await shop.comes(*(created(order_id) for order_id in orders))
        counted.clear()
        assert (await shop.decides()).looked_at == len(orders)
        return Counter(counted)

    one = await statements_for(["one"])
    assert one == await statements_for([f"o{number}" for number in range(50)])
    assert max(one.values()) == 1


# Several tellers


async def test_two_tellers_at_once_make_one_message_of_one_news(postgres: Any, database: str, shop: Shop) -> None:
    orders = [f"o{number}" for number in range(120)]
    for order_id in orders:
        await shop.comes(placed(order_id, customer={"customer_id": f"c-{order_id}"}), created(order_id))
    shop.waits(seconds=10)
    async with asyncpg.create_pool(database, min_size=4, max_size=4) as pool:

        async def tells() -> int:
            looked_at = 0
            for _ in range(40):
                async with pool.acquire() as connection:
                    looked_at += (await tell_due(connection, shop.policy, shop.now, limit=7)).looked_at
            return looked_at

        looked_at = await asyncio.gather(*(tells() for _ in range(4)))
    assert sum(looked_at) == len(orders)
    assert sum(each > 0 for each in looked_at) > 1, "one did it all: nothing was shown"
    assert await shop.connection.fetchval("SELECT count(*) FROM messages") == len(orders)
    await shop.sends()
    assert max(Counter(message.order_id for message in shop.senders["email"].got).values()) == 1


async def test_two_tellers_at_once_never_give_a_customer_more_than_the_day_may_bring(database: str, shop: Shop) -> None:
    shop.change(daily_cap=5, not_capped=frozenset())
    for number in range(30):
        await shop.comes(placed(f"o{number}"), created(f"o{number}"))
    shop.waits(seconds=10)
    async with asyncpg.create_pool(database, min_size=4, max_size=4) as pool:

        async def tells() -> None:
            for _ in range(20):
                async with pool.acquire() as connection:
                    await tell_due(connection, shop.policy, shop.now, limit=3)

        await asyncio.gather(*(tells() for _ in range(4)))
    assert await shop.connection.fetchval("SELECT count(*) FROM messages") == 5


async def test_an_order_that_another_has_locked_is_left_for_the_next_round(database: str, shop: Shop) -> None:
    for order_id in ("a", "b"):
        await shop.comes(placed(order_id, customer={"customer_id": f"c-{order_id}"}), created(order_id))
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("SELECT FROM orders WHERE order_id = 'a' FOR UPDATE")
        assert (await shop.decides()).looked_at == 1
    await other.close()
    assert (await shop.decides()).looked_at == 1


async def test_a_sender_and_the_teller_never_both_have_a_message(database: str, shop: Shop) -> None:
    """Whoever is first: either it is sent and stays told, or it is taken back and was never handed over."""
    orders = [f"o{number}" for number in range(40)]
    for order_id in orders:
        await shop.comes(placed(order_id, customer={"customer_id": f"c-{order_id}"}), created(order_id))
    await shop.decides()
    await shop.comes(*(filled(order_id) for order_id in orders))
    shop.waits(seconds=10)
    other = Shop(await asyncpg.connect(database), shop.policy, shop.now, senders=shop.senders)
    await asyncio.gather(shop.decides(after=timedelta(0)), other.sends())
    shop.waits(seconds=5)
    for _ in range(2):
        await shop.decides()
        await shop.sends()
    await other.connection.close()
    for order_id in orders:
        about = [event for each in shop.senders["email"].got if each.order_id == order_id for event in each.about]
        assert sorted(about) == [f"{order_id}/v1", f"{order_id}/v2"]


async def test_what_waits_for_the_end_of_quiet_hours_is_still_sent_when_another_channel_was_accepted(
    connection: asyncpg.Connection,
) -> None:
    shop = Shop(connection, Policy(channels=("email", "sms")))
    night = {"phone": "+819012345678", "timezone": "Asia/Tokyo"}  # NOON is 21:00 there
    await shop.comes(placed(customer=night), contact_changed(channels=("email", "sms")), created())
    await shop.decides()
    await shop.sends()
    await shop.comes(filled())
    await shop.decides()
    await shop.sends()
    await shop.decides()  # what the acceptance of the mail asks for
    assert await shop.deliveries() == [
        ("email", "sent", None), ("sms", "sent", None), ("email", "sent", None), ("sms", "due", None),
    ]  # fmt: skip
    shop.waits(hours=12)
    await shop.sends()
    assert shop.kinds("sms") == ["backorder_created", "backorder_filled"]
