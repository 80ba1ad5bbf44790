"""Sending on a real database and a mail server that misbehaves on command. The clock stands where a test puts it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from time import monotonic
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from backorder_notifier import delivery_store
from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.delivering import claim, hand_over
from backorder_notifier.delivery_store import ClaimedRow
from backorder_notifier.kinds import Channel
from backorder_notifier.mail import MailChannel
from backorder_notifier.policy import QuietHours
from backorder_notifier.sending import Limits, Patience, Provider, Sending, Sent, send_due
from backorder_notifier.setting_values import Sender, SmtpServer
from backorder_notifier.settling import settle
from backorder_notifier.smtp import MailServer
from backorder_notifier.statements import open_pool, statement
from backorder_notifier.telemetry import POLICY_REFUSALS
from tests.notifier.messages import NOON
from tests.notifier.smtp_script import ScriptedServer, scripted_server
from tests.notifier.staged import Staged, also_over, delivery, stage, stage_many
from tests.notifier.world import eventually

PATIENCE = Patience(
    lease=timedelta(seconds=60),
    retry_first=timedelta(seconds=5),
    retry_longest=timedelta(minutes=30),
    give_up_after=timedelta(days=5),
)
MUCH = Limits(per_second=1e9, in_flight=10)
SECOND = timedelta(seconds=1)


class Words:
    """A message that says which order it is about."""

    text = "Hello"
    html = "<p>Hello</p>"
    language = "en"

    def __init__(self, outgoing: Outgoing) -> None:
        if outgoing.order_id == "unspeakable":
            raise KeyError(outgoing.recipient.email)
        self.subject = f"Order {outgoing.order_id}: {outgoing.content.kind}"


class FakeChannel:
    """Answers as told, else yes. Keeps what it was given."""

    def __init__(self, answer: Callable[[Outgoing], Answer] = lambda _: Answer("sent")) -> None:
        self.answer = answer
        self.got: list[Outgoing] = []
        self.times: list[datetime] = []

    async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
        self.got.append(outgoing)
        self.times.append(now)
        await asyncio.sleep(0)
        return self.answer(outgoing)

    async def close(self) -> None:
        pass


def mail(
    script: ScriptedServer,
    limits: Limits = MUCH,
    patience: Patience = PATIENCE,
    *,
    timeout: timedelta = 2 * SECOND,
    answer_within: timedelta = 30 * SECOND,
) -> dict[Channel, Provider]:
    server = MailServer(SmtpServer("127.0.0.1", script.port, "none"), timeout, answer_within, connections=20)
    return {"email": Provider(MailChannel(server, Sender("shop@example.org", None), Words), limits, patience)}


def fake(channel: FakeChannel, limits: Limits = MUCH, patience: Patience = PATIENCE) -> dict[Channel, Provider]:
    return {"email": Provider(channel, limits, patience)}


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database, size=8) as pool:
        yield pool


async def outcomes(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    return [json.loads(row["record_value"]) for row in await connection.fetch("SELECT * FROM outbox ORDER BY position")]


async def attempts(connection: asyncpg.Connection, staged: Staged) -> list[tuple[str, str | None]]:
    rows = await connection.fetch(
        "SELECT outcome, reason FROM attempts WHERE delivery_id = $1 ORDER BY attempt", staged.delivery_id
    )
    return [(row["outcome"], row["reason"]) for row in rows]


async def told(connection: asyncpg.Connection, order_id: str = "1001") -> int | None:
    """How many units the customer was last told wait."""
    text = await connection.fetchval("SELECT told FROM orders WHERE order_id = $1", order_id)
    waiting: int | None = json.loads(text).get("1", {}).get("waiting")
    return waiting


async def claim_one(connection: asyncpg.Connection, providers: Mapping[Channel, Provider], now: datetime) -> ClaimedRow:
    claimed = await claim(connection, "email", providers["email"], now, 1)
    return claimed.rows[0]


async def true(value: bool) -> bool:
    return value


def until(condition: Callable[[], bool]) -> Awaitable[bool]:
    return eventually(lambda: true(condition()))


class Running:
    """Sender tasks until the end of the block."""

    def __init__(self, pool: asyncpg.Pool, providers: Mapping[Channel, Provider], **arguments: Any) -> None:
        self.senders = Sending(pool, providers, lambda: None, lambda: datetime.now(UTC), **arguments)

    async def __aenter__(self) -> Sending:
        self.work = asyncio.create_task(self.senders.run())
        return self.senders

    async def __aexit__(self, *_: object) -> None:
        self.senders.stop()
        await self.work


# What an answer does


async def test_an_accepted_message_is_what_the_customer_was_last_told(
    connection: asyncpg.Connection, script: ScriptedServer
) -> None:
    staged = await stage(connection, waiting=5)
    done = await send_due(connection, mail(script), NOON)
    assert done.answers == {"sent": 1}
    row = await delivery(connection, staged)
    assert (row["state"], row["attempts"], row["lease"], row["settled_at"]) == ("sent", 1, None, NOON)
    assert await told(connection) == 5
    assert await connection.fetchval("SELECT tell_at FROM orders") == NOON  # reminders count from what was told
    assert await attempts(connection, staged) == [("sent", None)]
    [outcome] = await outcomes(connection)
    assert (outcome["type"], outcome["version"], outcome["about"]) == ("CustomerNotified", 1, ["1001/v1"])
    assert [(line["line_no"], line["quantity_waiting"]) for line in outcome["told"]] == [(1, 5)]
    assert "ada@" not in json.dumps(outcome)
    assert script.accepted[0]["Message-ID"] == f"<{staged.delivery_id}@example.org>"


async def test_a_second_channel_of_a_message_is_sent_too(connection: asyncpg.Connection) -> None:
    staged = await stage(connection)
    other = await also_over(connection, staged, "sms")
    mails, texts = FakeChannel(), FakeChannel()
    await send_due(connection, {**fake(mails), "sms": Provider(texts, MUCH, PATIENCE)}, NOON)
    assert (await delivery(connection, other))["state"] == "sent"
    assert [outgoing.message_id for outgoing in mails.got + texts.got] == [staged.message_id] * 2
    assert [outcome["channel"] for outcome in await outcomes(connection)] == ["email", "sms"]


async def test_the_shops_own_system_being_told_is_not_the_customer_being_told(connection: asyncpg.Connection) -> None:
    staged = await stage(connection, waiting=5)
    await also_over(connection, staged, "webhook")
    providers: dict[Channel, Provider] = {"webhook": Provider(FakeChannel(), MUCH, PATIENCE)}
    await send_due(connection, providers, NOON)
    assert await told(connection) is None
    await send_due(connection, fake(FakeChannel()), NOON)
    assert await told(connection) == 5


async def test_where_a_message_goes_to_the_shops_own_system_alone_that_counts_as_told(
    connection: asyncpg.Connection,
) -> None:
    await stage(connection, waiting=5, channel="webhook")
    await send_due(connection, {"webhook": Provider(FakeChannel(), MUCH, PATIENCE)}, NOON)
    assert await told(connection) == 5


@pytest.mark.parametrize("code", ["5.1.1", "5.1.2", "5.1.10", "5.2.1"])
async def test_a_dead_address_is_tried_once_and_then_never_again_for_whatever_order(
    connection: asyncpg.Connection, script: ScriptedServer, code: str
) -> None:
    first = await stage(connection, "1", email="Ada@Example.org")
    second = await stage(connection, "2", email="ada@example.org", due_at=NOON + SECOND)
    script.script.append(f"550 {code} <ada@example.org> who? at rcpt")
    await send_due(connection, mail(script), NOON)
    await send_due(connection, mail(script), NOON + SECOND)
    row = await delivery(connection, first)
    assert (row["state"], row["reason"]) == ("failed", f"smtp 550 {code}")
    row = await delivery(connection, second)
    assert (row["state"], row["reason"], row["attempts"]) == ("withheld", "suppressed", 0)
    assert script.asked == ["Ada@example.org"]
    failures = [(outcome["type"], outcome["attempts"], outcome["reason"]) for outcome in await outcomes(connection)]
    assert failures == [("NotificationFailed", 1, f"smtp 550 {code}"), ("NotificationFailed", 0, "suppressed")]
    assert await told(connection, "1") is None
    suppression = await connection.fetchrow("SELECT * FROM suppressions")
    assert tuple(suppression) == ("email", "ada@example.org", f"smtp 550 {code}", NOON)


@pytest.mark.parametrize("code", ["5.7.1", "5.7.26", "5.1.8"])
async def test_a_refusal_that_is_about_us_alerts_us_and_leaves_the_address_alone(
    connection: asyncpg.Connection, script: ScriptedServer, code: str
) -> None:
    staged = await stage(connection)
    script.script.append(f"550 {code} not from you")
    before = POLICY_REFUSALS.labels("email")._value.get()
    await send_due(connection, mail(script), NOON)
    assert (await delivery(connection, staged))["state"] == "failed"
    assert POLICY_REFUSALS.labels("email")._value.get() == before + 1
    assert await connection.fetchval("SELECT count(*) FROM suppressions") == 0


async def test_a_refusal_without_a_code_that_says_why_fails_this_mail_alone(
    connection: asyncpg.Connection, script: ScriptedServer
) -> None:
    staged = await stage(connection)
    script.script.append("554 Postfix 5.1.1 says no")
    await send_due(connection, mail(script), NOON)
    assert (await delivery(connection, staged))["reason"] == "smtp 554"
    assert await connection.fetchval("SELECT count(*) FROM suppressions") == 0


async def test_a_mail_whose_fate_nobody_knows_is_sent_again_under_the_same_id_and_counted(
    connection: asyncpg.Connection, script: ScriptedServer
) -> None:
    staged = await stage(connection)
    script.script.append("cut_after_data")
    await send_due(connection, mail(script), NOON)
    row = await delivery(connection, staged)
    assert (row["state"], row["in_doubt"]) == ("due", 1)
    await send_due(connection, mail(script), NOON + timedelta(minutes=1))
    row = await delivery(connection, staged)
    assert (row["state"], row["in_doubt"], row["attempts"]) == ("sent", 1, 2)
    assert len({mail["Message-ID"] for mail in script.seen}) == 1
    assert len(script.seen) == 2
    assert await attempts(connection, staged) == [("ambiguous", "connection lost after DATA"), ("sent", None)]


async def test_what_is_never_taken_is_given_up_after_days_and_not_after_tries(
    connection: asyncpg.Connection, script: ScriptedServer
) -> None:
    staged = await stage(connection)
    script.choose = lambda _: "451 4.3.0 later"
    now, tries = NOON, 0
    while (await delivery(connection, staged))["state"] == "due":
        tries += (await send_due(connection, mail(script), now)).tried
        now += timedelta(minutes=40)
    row = await delivery(connection, staged)
    assert (row["state"], row["reason"], row["attempts"]) == ("failed", "gave up: smtp 451 4.3.0", tries)
    assert PATIENCE.give_up_after < row["settled_at"] - NOON < PATIENCE.give_up_after + timedelta(hours=1)
    assert tries > 100


async def test_a_provider_that_names_a_time_is_asked_again_then(connection: asyncpg.Connection) -> None:
    staged = await stage(connection)
    busy = FakeChannel(lambda _: Answer("later", "http 429", retry_after=timedelta(minutes=7)))
    await send_due(connection, fake(busy), NOON)
    assert (await delivery(connection, staged))["due_at"] == NOON + timedelta(minutes=7)


async def test_words_that_cannot_be_made_are_given_up_in_the_end_and_the_log_names_nobody(
    connection: asyncpg.Connection, script: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    staged = await stage(connection, "unspeakable")
    hasty = replace(PATIENCE, give_up_after=timedelta(minutes=1))
    await send_due(connection, mail(script, patience=hasty), NOON)
    assert (await delivery(connection, staged))["reason"] == "could not be made"
    await send_due(connection, mail(script, patience=hasty), NOON + timedelta(hours=1))
    assert (await delivery(connection, staged))["reason"] == "gave up: could not be made"
    log = capsys.readouterr()
    assert "ada@" not in log.out + log.err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE orders SET email = NULL", "no_email"),
        ("UPDATE orders SET email = 'no address'", "invalid_email"),
        ("UPDATE customers SET optional_kinds = false", "optional_kinds_off"),
        ("UPDATE customers SET channels = '{sms}'", "channel_not_chosen"),
    ],
)
async def test_what_the_customer_said_since_the_message_was_made_holds(
    connection: asyncpg.Connection, script: ScriptedServer, change: str, reason: str
) -> None:
    staged = await stage(connection, kind="feedback_request")
    await connection.execute(change)
    await send_due(connection, mail(script), NOON)
    row = await delivery(connection, staged)
    assert (row["state"], row["reason"], row["attempts"]) == ("withheld", reason, 0)
    assert script.asked == []
    assert await attempts(connection, staged) == []


# Quiet hours


async def test_what_comes_to_its_turn_in_the_customers_quiet_hours_waits_for_their_end(
    connection: asyncpg.Connection,
) -> None:
    night = NOON.replace(hour=21)  # in Berlin it is 22 h
    sleeps = await stage(connection, "1", channel="sms", order={"timezone": "Europe/Berlin"})
    wakes = await stage(connection, "2", channel="sms", order={"timezone": "America/New_York"})
    urgent = await stage(connection, "3", channel="sms", kind="backorder_rejected", order={"timezone": "Europe/Berlin"})
    texts = FakeChannel()
    quiet = QuietHours(time(22), time(8))
    limits = Limits(per_second=3, in_flight=3)
    providers: dict[Channel, Provider] = {
        "sms": Provider(texts, limits, PATIENCE, quiet, frozenset({"backorder_rejected"}))
    }
    assert await send_due(connection, providers, night) == Sent({"sent": 2}, 1)
    assert {(await delivery(connection, each))["state"] for each in (wakes, urgent)} == {"sent"}
    row = await delivery(connection, sleeps)
    assert (row["state"], row["reason"], row["attempts"], row["lease"]) == ("due", "quiet_hours", 0, None)
    assert row["due_at"] == NOON.replace(hour=7) + timedelta(days=1)
    assert await connection.fetchval("SELECT tokens FROM providers") == 1
    await send_due(connection, providers, row["due_at"])
    assert (await delivery(connection, sleeps))["state"] == "sent"


# Domains


async def test_a_domain_that_greylists_waits_as_a_whole_while_another_flows(
    connection: asyncpg.Connection, script: ScriptedServer
) -> None:
    refused = await stage(connection, "1", email="a@slow.example")
    waits = await stage(connection, "2", email="b@Slow.Example", due_at=NOON + SECOND)
    flows = await stage(connection, "3", email="c@quick.example", due_at=NOON + SECOND)
    script.choose = lambda recipient: "451 4.7.1 Greylisted at rcpt" if recipient.endswith("@slow.example") else None
    await send_due(connection, mail(script), NOON)
    done = await send_due(connection, mail(script), NOON + SECOND)
    assert (done.tried, done.set_aside) == (1, 1)
    assert (await delivery(connection, flows))["state"] == "sent"
    row = await delivery(connection, waits)
    assert (row["state"], row["attempts"], row["reason"]) == ("due", 0, "domain waits")
    assert script.asked == ["a@slow.example", "c@quick.example"]

    # After the wait the one that was refused finds out for all; its success lets the others go.
    until = await connection.fetchval("SELECT until FROM domain_backoffs")
    assert until == NOON + PATIENCE.retry_first
    assert until <= (await delivery(connection, refused))["due_at"] <= until + SECOND
    assert (await delivery(connection, waits))["due_at"] == until + SECOND
    script.choose = lambda _: None
    await send_due(connection, mail(script), NOON + timedelta(minutes=1))
    assert (await delivery(connection, waits))["state"] == "sent"
    assert await connection.fetchval("SELECT count(*) FROM domain_backoffs") == 0


async def test_a_domain_that_keeps_refusing_is_asked_less_and_less_often(connection: asyncpg.Connection) -> None:
    channel = FakeChannel(lambda _: Answer("later", "smtp 451", whole_domain=True))
    await stage_many(connection, 20)
    now, asked = NOON, []
    while now < NOON + timedelta(hours=2):
        before = len(channel.got)
        await send_due(connection, fake(channel, Limits(1e9, 1)), now)
        asked += [now] * (len(channel.got) - before)
        now += 5 * SECOND
    waits = [(after - before).total_seconds() for before, after in pairwise(asked)]
    assert waits[:4] == sorted(waits[:4])
    assert waits[-1] >= PATIENCE.retry_longest.total_seconds()
    assert len(asked) < 15


async def test_refusals_of_tries_that_were_already_under_way_lengthen_no_wait(connection: asyncpg.Connection) -> None:
    await stage_many(connection, 10)
    channel = FakeChannel(lambda _: Answer("later", "smtp 451", whole_domain=True))
    rows = (await claim(connection, "email", fake(channel)["email"], NOON, 10)).rows
    for number, row in enumerate(rows):
        answer = await hand_over(channel, row, NOON)
        await settle(connection, row, answer, PATIENCE, tried_at=NOON, now=NOON + number * SECOND)
    assert len(rows) == 10
    assert await connection.fetchval("SELECT refusals FROM domain_backoffs") == 1


async def test_a_full_mailbox_holds_up_nobody_else(connection: asyncpg.Connection, script: ScriptedServer) -> None:
    await stage(connection, "1", email="full@example.org")
    await stage(connection, "2", email="ada@example.org", due_at=NOON + SECOND)
    script.choose = lambda recipient: "452 4.2.2 over quota at rcpt" if recipient.startswith("full") else None
    await send_due(connection, mail(script), NOON)
    await send_due(connection, mail(script), NOON + SECOND)
    assert script.recipients == ["ada@example.org"]


async def test_a_thousand_mails_of_a_waiting_domain_do_not_hold_up_those_behind_them(
    connection: asyncpg.Connection,
) -> None:
    await stage_many(connection, 1200, domain="slow.example")
    await stage(connection, "behind", due_at=NOON + SECOND)
    await connection.execute("INSERT INTO domain_backoffs VALUES ('slow.example', 1, $1)", NOON + 60 * SECOND)
    channel = FakeChannel()
    first = await claim(connection, "email", fake(channel)["email"], NOON + SECOND, 10)
    assert (first.rows, first.set_aside) == ((), 500)  # however few could be tried at once
    done = await send_due(connection, fake(channel), NOON + SECOND)
    assert [outgoing.order_id for outgoing in channel.got] == ["behind"]
    assert done.set_aside == 700
    assert await connection.fetchval("SELECT sum(attempts) FROM deliveries") == 1
    assert await connection.fetchval("SELECT tokens FROM providers") == MUCH.burst - 1


# Limits of all processes together


async def test_two_senders_together_keep_to_the_rate(connection: asyncpg.Connection, database: str) -> None:
    await stage_many(connection, 200)
    other = await asyncpg.connect(database)
    channel = FakeChannel()
    providers = fake(channel, Limits(per_second=10, in_flight=100))
    for tick in range(100):
        for sender in (connection, other):
            await send_due(sender, providers, NOON + tick * SECOND / 10)
    await other.close()
    # 10 s: what one second brings at once, and then what time brings.
    assert len(channel.times) == 10 + 99
    for start in range(0, 90, 5):
        window = [at for at in channel.times if timedelta() <= at - NOON - start * SECOND / 10 < SECOND]
        assert len(window) <= 20
    assert max(Counter(channel.times[10:]).values()) == 1


async def test_a_rate_below_one_a_second_is_kept_too(connection: asyncpg.Connection) -> None:
    await stage_many(connection, 5)
    channel = FakeChannel()
    for tick in range(12):
        await send_due(connection, fake(channel, Limits(per_second=0.25, in_flight=100)), NOON + tick * SECOND)
    assert [(at - NOON).total_seconds() for at in channel.times] == [0, 4, 8]


async def test_a_process_whose_clock_is_behind_brings_no_tokens_and_takes_none(connection: asyncpg.Connection) -> None:
    await stage_many(connection, 50, due_at=NOON - timedelta(hours=1))
    channel = FakeChannel()
    providers = fake(channel, Limits(per_second=10, in_flight=100))
    for number in range(10):
        await send_due(connection, providers, NOON - (number % 2) * timedelta(minutes=1))
    assert len(channel.got) == 10
    await send_due(connection, providers, NOON + SECOND)  # and takes none away
    assert len(channel.got) == 20


async def test_two_processes_together_have_no_more_in_flight_than_the_provider_may(
    connection: asyncpg.Connection, database: str, pool: asyncpg.Pool, script: ScriptedServer
) -> None:
    await stage_many(connection, 12)
    answers = script.hold_answers()
    async with await open_pool(database, size=8) as second:
        limits = Limits(per_second=1000, in_flight=3)
        async with Running(pool, mail(script, limits)), Running(second, mail(script, limits)):
            await until(lambda: len(script.seen) == 3)
            asked = {await connection.fetchval("SELECT refilled_at FROM providers")}

            async def both_asked_for_more() -> bool:
                asked.add(await connection.fetchval("SELECT refilled_at FROM providers"))
                return len(asked) > 3

            await eventually(both_asked_for_more)
            assert len(script.seen) == 3
            answers.set()
            await until(lambda: len(script.accepted) == 12)
    assert script.most_at_once == 3
    assert len({mail["Message-ID"] for mail in script.accepted}) == 12


async def test_ten_thousand_due_at_once_are_claimed_in_small_statements(connection: asyncpg.Connection) -> None:
    await stage_many(connection, 10_000)
    channel = FakeChannel()
    provider = fake(channel, Limits(per_second=50, in_flight=20))["email"]
    claimed = await claim(connection, "email", provider, NOON, 1000)
    assert len(claimed.rows) == 20
    assert await connection.fetchval("SELECT count(*) FROM deliveries WHERE lease IS NOT NULL") == 20
    assert await send_due(connection, {"email": provider}, NOON, limit=100) == Sent()


# Claims


async def explained(connection: asyncpg.Connection, statement_name: str, *arguments: Any) -> list[dict[str, Any]]:
    """The nodes of the plan, with what each really did."""

    async def nodes() -> list[dict[str, Any]]:
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement(statement_name)}", *arguments)
        found, open_nodes = [], [json.loads(text)[0]["Plan"]]
        while open_nodes:
            node = open_nodes.pop()
            found.append(node)
            open_nodes += node.get("Plans", [])
        return found

    transaction = connection.transaction()
    await transaction.start()
    try:
        return await nodes()
    finally:
        await transaction.rollback()


async def test_a_claim_looks_at_what_it_takes_with_a_hundred_thousand_in_backoff(
    connection: asyncpg.Connection,
) -> None:
    await stage_many(connection, 100_000, due_at=NOON + timedelta(minutes=1), apart=SECOND / 100)
    await stage_many(connection, 300, prefix="due")
    for setting in ("force_generic_plan", "force_custom_plan"):
        await connection.execute(f"SET plan_cache_mode = {setting}")
        nodes = await explained(
            connection, "claim_deliveries", "email", NOON, 20, 20, uuid4(), NOON + SECOND * 60, NOON - timedelta(days=5)
        )
        names = {node.get("Index Name") for node in nodes}
        assert "deliveries_due" in names
        assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "deliveries"]
        assert max(node["Actual Rows"] * node["Actual Loops"] for node in nodes) <= 41
        load = await explained(connection, "read_load", "email", NOON)
        assert "deliveries_leased" in {node.get("Index Name") for node in load}
        assert max(node["Actual Rows"] * node["Actual Loops"] for node in load) <= 1


async def test_nothing_due_writes_nothing(connection: asyncpg.Connection) -> None:
    await stage(connection, due_at=NOON + SECOND)
    await send_due(connection, fake(FakeChannel()), NOON)
    assert await connection.fetchval("SELECT count(*) FROM providers") == 0


async def test_a_sender_that_died_leaves_a_delivery_that_is_sent_again_and_a_try_in_doubt(
    connection: asyncpg.Connection, script: ScriptedServer
) -> None:
    staged = await stage(connection)
    providers = mail(script)
    row = await claim_one(connection, providers, NOON)
    await hand_over(providers["email"].sender, row, NOON)  # and then it died
    assert (await send_due(connection, providers, NOON + 59 * SECOND)).tried == 0
    assert (await send_due(connection, providers, NOON + 60 * SECOND)).tried == 1
    after = await delivery(connection, staged)
    assert (after["state"], after["attempts"], after["in_doubt"]) == ("sent", 2, 1)
    assert await attempts(connection, staged) == [("ambiguous", "sender lost"), ("sent", None)]
    assert len({mail["Message-ID"] for mail in script.accepted}) == 1


async def test_a_sender_thought_dead_that_says_it_was_accepted_is_believed_and_nothing_is_counted_twice(
    connection: asyncpg.Connection,
) -> None:
    staged = await stage(connection)
    channel = FakeChannel()
    first = await claim_one(connection, fake(channel), NOON)
    second = await claim_one(connection, fake(channel), NOON + 60 * SECOND)
    for row in (first, second):
        await settle(connection, row, Answer("sent"), PATIENCE, tried_at=NOON, now=NOON + 61 * SECOND)
    assert (await delivery(connection, staged))["state"] == "sent"
    assert len(await outcomes(connection)) == 1
    assert await attempts(connection, staged) == [("sent", None), ("sent", None)]


@pytest.mark.parametrize(
    "answer", [Answer("never", "smtp 550"), Answer("later", "smtp 451"), Answer("ambiguous", "cut")]
)
async def test_a_sender_whose_lease_is_anothers_can_only_say_that_it_was_accepted(
    connection: asyncpg.Connection, answer: Answer
) -> None:
    staged = await stage(connection)
    channel = FakeChannel()
    first = await claim_one(connection, fake(channel), NOON)
    second = await claim_one(connection, fake(channel), NOON + 60 * SECOND)
    before = await delivery(connection, staged)
    assert await settle(connection, first, answer, PATIENCE, tried_at=NOON, now=NOON + 61 * SECOND) == "lost"
    assert await delivery(connection, staged) == before
    assert await outcomes(connection) == []
    assert (await attempts(connection, staged))[0] == (answer.verdict, answer.reason)
    assert await settle(connection, second, Answer("sent"), PATIENCE, tried_at=NOON, now=NOON) == "accepted"


# A message withdrawn while it was on its way


async def withdraw(connection: asyncpg.Connection, staged: Staged) -> None:
    await connection.execute(
        """
        UPDATE deliveries SET state = 'superseded', reason = 'newer message', settled_at = $2, lease = NULL
        WHERE delivery_id = $1
        """,
        staged.delivery_id, NOON + 60 * SECOND,
    )  # fmt: skip


async def test_an_acceptance_is_a_fact_even_of_a_message_that_was_withdrawn_meanwhile(
    connection: asyncpg.Connection,
) -> None:
    old = await stage(connection, waiting=5)
    row = await claim_one(connection, fake(FakeChannel()), NOON)
    await withdraw(connection, old)
    await stage(connection, waiting=2)
    await settle(connection, row, Answer("sent"), PATIENCE, tried_at=NOON, now=NOON + 61 * SECOND)
    assert (await delivery(connection, old))["state"] == "sent"
    assert await told(connection) == 5  # until the newer one is accepted
    await send_due(connection, fake(FakeChannel()), NOON + 62 * SECOND)
    assert await told(connection) == 2
    assert [outcome["type"] for outcome in await outcomes(connection)] == ["CustomerNotified"] * 2


async def test_what_was_told_never_goes_back_to_a_message_that_came_before(connection: asyncpg.Connection) -> None:
    old = await stage(connection, waiting=5)
    row = await claim_one(connection, fake(FakeChannel()), NOON)
    await withdraw(connection, old)
    await stage(connection, waiting=2)
    await send_due(connection, fake(FakeChannel()), NOON + 60 * SECOND)
    await settle(connection, row, Answer("sent"), PATIENCE, tried_at=NOON, now=NOON + 61 * SECOND)
    assert (await delivery(connection, old))["state"] == "sent"
    assert await told(connection) == 2


async def test_a_refusal_of_a_message_that_was_withdrawn_changes_nothing(connection: asyncpg.Connection) -> None:
    old = await stage(connection)
    row = await claim_one(connection, fake(FakeChannel()), NOON)
    await withdraw(connection, old)
    await settle(connection, row, Answer("never", "smtp 550"), PATIENCE, tried_at=NOON, now=NOON)
    assert (await delivery(connection, old))["state"] == "superseded"
    assert await outcomes(connection) == []


# The senders of a process


async def test_a_server_that_is_away_is_asked_by_one_mail_at_a_time_and_gets_each_once_when_it_is_back(
    connection: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    async with scripted_server() as gone:
        port = gone.port
    await stage_many(connection, 30)
    quick = replace(PATIENCE, retry_first=SECOND / 10, retry_longest=SECOND / 5)
    provider = mail(gone, Limits(per_second=1000, in_flight=5), quick)
    async with Running(pool, provider):

        async def tried() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM attempts WHERE outcome = 'unreachable'") >= 6)

        await eventually(tried)
        async with scripted_server(port) as back:
            await until(lambda: len(back.accepted) == 30)
            assert len({mail["Message-ID"] for mail in back.seen}) == len(back.seen) == 30
    # The first five found out together, from then on one at a time.
    assert await connection.fetchval("SELECT count(*) FROM attempts WHERE outcome = 'unreachable'") <= 7


@pytest.mark.parametrize(("asked", "pause"), [(timedelta(minutes=20), 1200), (timedelta(days=30), 3600)])
async def test_a_provider_that_asks_for_a_pause_gets_it_within_reason(
    connection: asyncpg.Connection, pool: asyncpg.Pool, asked: timedelta, pause: float
) -> None:
    await stage_many(connection, 3)
    busy = FakeChannel(lambda _: Answer("unreachable", "http 429", retry_after=asked))
    async with Running(pool, fake(busy, Limits(per_second=1000, in_flight=1))) as senders:
        await until(lambda: bool(busy.got))
        [lane] = senders._lanes
        await until(lambda: not lane._in_flight)
        senders.poke()
        left = lane._paused_until - monotonic()
    assert pause - 60 < left <= pause
    assert len(busy.got) == 1


async def test_after_an_outage_mails_go_out_at_the_usual_rate(
    connection: asyncpg.Connection, script: ScriptedServer
) -> None:
    await stage_many(connection, 40)
    away = FakeChannel(lambda _: Answer("unreachable", "no connection"))
    limits = Limits(per_second=5, in_flight=10)
    for minute in range(60):
        done = await send_due(connection, fake(away, limits), NOON + timedelta(minutes=minute))
        assert done.tried <= 5
    back = FakeChannel()
    for second in range(10):
        await send_due(connection, fake(back, limits), NOON + timedelta(hours=1, seconds=second))
    assert len(back.got) == 40
    assert max(Counter(back.times).values()) == 5


async def test_a_slow_server_gets_a_mail_once_however_long_it_thinks(
    connection: asyncpg.Connection, pool: asyncpg.Pool, database: str, script: ScriptedServer
) -> None:
    staged = await stage(connection)
    answers = script.hold_answers()
    short = replace(PATIENCE, lease=SECOND)
    providers = mail(script, patience=short, timeout=SECOND / 2)
    async with Running(pool, providers):
        await until(lambda: len(script.seen) == 1)
        first = (await delivery(connection, staged))["due_at"]

        async def renewed() -> bool:
            return bool((await delivery(connection, staged))["due_at"] > first + short.lease)

        await eventually(renewed)  # twice as long as the first lease, and four times the timeout
        assert (await claim(connection, "email", providers["email"], datetime.now(UTC), 1)).is_empty
        answers.set()

        async def sent() -> bool:
            return bool((await delivery(connection, staged))["state"] == "sent")

        await eventually(sent)
    assert len(script.seen) == 1
    row = await delivery(connection, staged)
    assert (row["attempts"], row["in_doubt"]) == (1, 0)  # the lease never ended, not even for its own sender


async def test_who_has_to_stop_does_not_wait_for_a_slow_server_and_notes_the_doubt(
    connection: asyncpg.Connection, pool: asyncpg.Pool, script: ScriptedServer
) -> None:
    staged = await stage(connection)
    script.hold_answers()
    async with Running(pool, mail(script, answer_within=timedelta(minutes=10)), stop_after=SECOND / 10):
        await until(lambda: len(script.seen) == 1)
    row = await delivery(connection, staged)
    assert (row["state"], row["in_doubt"], row["lease"]) == ("due", 1, None)
    assert await attempts(connection, staged) == [("ambiguous", "stopped before the answer")]


async def test_who_has_to_stop_gives_back_what_was_claimed_and_not_begun(
    connection: asyncpg.Connection, pool: asyncpg.Pool, script: ScriptedServer
) -> None:
    staged = await stage(connection)
    await connection.execute("INSERT INTO providers VALUES ('email', 0, $1)", NOON)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT FROM providers FOR UPDATE")
    async with Running(pool, mail(script)) as senders:

        async def claims() -> bool:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(await pool.fetchval(waiting))

        await eventually(claims)
        senders.stop()
        await transaction.rollback()
    row = await delivery(connection, staged)
    assert (row["state"], row["attempts"], row["lease"]) == ("due", 0, None)
    assert script.asked == []


async def test_a_mail_taken_while_the_database_is_away_for_longer_than_the_lease_is_not_sent_again(
    connection: asyncpg.Connection, pool: asyncpg.Pool, script: ScriptedServer, postgres: Any
) -> None:
    staged = await stage(connection)
    name = await connection.fetchval("SELECT current_database()")
    admin = await asyncpg.connect(postgres.admin_url)
    lease = SECOND
    answers = script.hold_answers()
    async with Running(pool, mail(script, patience=replace(PATIENCE, lease=lease))):
        await until(lambda: len(script.seen) == 1)
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        answers.set()
        await asyncio.sleep(2 * lease.total_seconds())
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await admin.close()

        async def settled() -> bool:
            async with pool.acquire() as again:
                return bool((await delivery(again, staged))["state"] == "sent")

        await eventually(settled)
    assert len(script.seen) == 1


async def test_renewing_leaves_alone_what_is_anothers(connection: asyncpg.Connection) -> None:
    staged = await stage(connection)
    channel = FakeChannel()
    first = await claim_one(connection, fake(channel), NOON)
    await claim_one(connection, fake(channel), NOON + 60 * SECOND)
    before = await delivery(connection, staged)
    await delivery_store.renew_leases(connection, [first], NOON + timedelta(days=1))
    assert await delivery(connection, staged) == before
