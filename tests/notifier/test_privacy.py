"""What customers may ask for, and what goes by age."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import pytest

from backorder_notifier import contact_store, privacy
from backorder_notifier.audits import audit
from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.contacts import Customer, changed
from backorder_notifier.dead_letter_store import purge_dead_letters
from backorder_notifier.letters import About, concerns
from backorder_notifier.privacy import export, forget, purge
from backorder_notifier.privacy_store import Letter, Purged
from tests.notifier.messages import NOON, contact_changed, created, delivered, filled, placed, released, shipped
from tests.notifier.shop import Scripted, Shop
from tests.notifier.world import eventually

NAMESPACE = UUID(int=7)
DAY = timedelta(days=1)
CANARIES = ("ada@canary.example", "Ada Canary", "+4915100000007", "ada.new@canary.example", "canary-token")


class Held:
    """Puts into a database what the service would hold, without the service."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def order(
        self, order_id: str = "1001", customer_id: str = "c-7", *, waiting: int = 0, at: datetime = NOON, **fields: Any
    ) -> None:
        await contact_store.stub_customers(self.connection, [customer_id])
        values = {
            "order_id": order_id,
            "customer_id": customer_id,
            "known_at": at,
            "placed_at": at,
            "email": "ada@canary.example",
            "phone": "+4915100000007",
            "name": "Ada Canary",
            "locale": "de",
            "timezone": "Europe/Berlin",
            "order_url": "https://shop.example/o?key=canary-token",
            "delivery": "split",
            "dossier": json.dumps(
                {
                    "lines": {"1": {"sku": "PHONE-X", "ordered": 15, "waiting": waiting}},
                    "shipments": {"s-1": {"lines": {"1": 2}, "tracking_url": "https://carrier.example/canary-token"}},
                }
            ),
            "told": json.dumps({"1": {"waiting": 5}}),
        } | fields
        await self._insert("orders", values)

    async def message(
        self,
        order_id: str = "1001",
        position: int = 1,
        *,
        kind: str = "backorder_created",
        state: str = "sent",
        at: datetime = NOON,
        **fields: Any,
    ) -> UUID:
        """A message, its update and its delivery by mail."""
        message_id = uuid5(NAMESPACE, f"{order_id} {position}")
        content = {
            "kind": kind,
            "order_id": order_id,
            "order_url": "https://shop.example/o?key=canary-token",
            "shipments": [{"shipment_id": "s-1", "carrier": "DHL", "tracking_number": "canary-token"}],
        }
        event_id = f"{order_id}/v{position}"
        await self._insert(
            "messages",
            {
                "message_id": message_id,
                "order_id": order_id,
                "customer_id": "c-7",
                "position": position,
                "kind": kind,
                "content": json.dumps(content),
                "told": "{}",
                "about": [event_id],
                "occurred_at": at,
                "composed_at": at,
            },
        )
        await self.update(event_id, order_id, state="told", kind=kind, message_id=message_id, at=at)
        delivery = {
            "delivery_id": uuid5(message_id, "email"),
            "message_id": message_id,
            "order_id": order_id,
            "channel": "email",
            "state": state,
            "due_at": at,
            "recorded_at": at,
            "settled_at": None if state == "due" else at,
        }
        await self._insert("deliveries", delivery | fields)
        if state == "sent":
            attempt = {"delivery_id": delivery["delivery_id"], "attempt": 1, "at": at, "outcome": "sent"}
            await self._insert("attempts", attempt)
        return message_id

    async def update(self, event_id: str, order_id: str = "1001", *, state: str = "pending", **fields: Any) -> None:
        at = fields.pop("at", NOON)
        event = {"type": "LinesShipped", "tracking_url": "https://carrier.example/canary-token", "quantity": 5}
        values = {
            "event_id": event_id,
            "order_id": order_id,
            "kind": "backorder_filled",
            "caused_by": "receipt",
            "occurred_at": at,
            "recorded_at": at,
            "event": json.dumps(event),
            "state": state,
            "decided_at": None if state == "pending" else at,
        }
        await self._insert("updates", values | fields)

    async def intervention(self, order_id: str = "1001") -> None:
        note = "Ada Canary called"
        await self._insert(
            "interventions", {"at": NOON, "by": "staff", "what": "resent", "order_id": order_id, "note": note}
        )

    async def dead_letter(self, value: bytes | None, topic: str = "orders", **fields: Any) -> int:
        offset = await self.connection.fetchval("SELECT count(*) FROM dead_letters")
        values = {
            "topic": topic,
            "full_topic": topic,
            "partition": 0,
            "record_offset": offset,
            "recorded_at": NOON,
            "record_key": None,
            "record_value": value,
            "header_names": [],
            "header_values": [],
            "reason": "invalid",
            "detail": "lines: Field required",
            "failed_at": NOON,
        }
        row: int = await self._insert("dead_letters", values | fields, returning="dead_letter_id")
        return row

    async def suppress(self, channel: str, address: str) -> None:
        values = {"channel": channel, "address": address, "reason": "smtp 550 5.1.1", "suppressed_at": NOON}
        await self._insert("suppressions", values)

    async def _insert(self, table: str, values: dict[str, Any], returning: str = "1") -> Any:
        names, places = ", ".join(values), ", ".join(f"${number}" for number in range(1, len(values) + 1))
        return await self.connection.fetchval(
            f"INSERT INTO {table} ({names}) VALUES ({places}) RETURNING {returning}", *values.values()
        )

    async def states(self, table: str) -> dict[str, tuple[str, str | None]]:
        key = {"updates": "event_id", "deliveries": "order_id"}[table]
        rows = await self.connection.fetch(f"SELECT {key}, state, reason FROM {table}")
        return {row[0]: (row[1], row[2]) for row in rows}

    async def dump(self) -> str:
        """Everything in the database as text."""
        tables = await self.connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        texts = []
        for (table,) in tables:
            texts += [row[0] for row in await self.connection.fetch(f"SELECT t::text FROM {table} t")]
            if table == "dead_letters":
                texts += [str(tuple(row)) for row in await self.connection.fetch("SELECT * FROM dead_letters")]
        return "\n".join(texts)


@pytest.fixture
def held(connection: asyncpg.Connection) -> Held:
    return Held(connection)


async def _customer(connection: asyncpg.Connection, customer_id: str = "c-7") -> Customer:
    return (await contact_store.lock_customers(connection, [customer_id]))[customer_id]


async def _all_of_ada(held: Held) -> None:
    connection = held.connection
    await held.order("1001", waiting=5, tell_at=NOON)
    await held.message("1001")
    await held.update("1001/v2")
    await held.intervention("1001")
    await held.order("1002", email="Ada.New@Canary.example")
    await held.message("1002", state="due")
    change = contact_changed(
        email="ada.new@canary.example", name="Ada Canary", phone="+4915100000007", channels=["email"]
    )
    await contact_store.save_customers(connection, [changed(await _customer(connection), change, NOON)])
    await held.connection.execute("INSERT INTO domain_backoffs VALUES ('canary.example', 1, $1)", NOON)
    await held.suppress("email", "ada@canary.example")
    await held.suppress("email", "ada.new@canary.example")
    await held.suppress("sms", "+4915100000007")
    await held.dead_letter(b'{"customer": {"customer_id": "c-7", "name": "Ada Canary"')
    await held.dead_letter(b'{"customer_id": "c-7", "name": "Ada Canary", "email": 5}', "customers", published_at=NOON)
    await held.dead_letter(b"mail for ADA@canary.example!", "catalog")


async def _somebody_else(held: Held) -> None:
    await held.order("2001", "c-8", email="eve@example.org", name="Eve", phone="+4915100000008", tell_at=NOON)
    await held.update("2001/v1", "2001")
    await held.suppress("email", "eve@example.org")
    await held.connection.execute("INSERT INTO domain_backoffs VALUES ('example.org', 1, $1)", NOON)
    await held.dead_letter(b'{"customer": {"customer_id": "c-77", "email": "nada@canary.example", "name": "Eve"')


async def test_a_forgotten_customer_leaves_no_address_phone_or_name_anywhere(held: Held) -> None:
    await _all_of_ada(held)
    before = await held.dump()
    assert all(canary in before for canary in CANARIES)
    forgotten = await forget(held.connection, "c-7", NOON + DAY)
    after = (await held.dump()).lower()
    assert [canary for canary in (*CANARIES, "canary.example") if canary.lower() in after] == []
    assert (forgotten.known, forgotten.orders, forgotten.suppressions) == (True, 2, 3)
    assert (forgotten.dead_letters, forgotten.published) == (3, 1)


async def test_forgetting_one_customer_leaves_others_as_they_are(held: Held) -> None:
    await _somebody_else(held)
    before = await held.dump()
    await _all_of_ada(held)
    await forget(held.connection, "c-7", NOON + DAY)
    after = await held.dump()
    assert [line for line in before.splitlines() if line not in after] == []


async def test_a_forgotten_customer_is_sent_nothing_more_of_what_was_decided_and_what_was_told_stays_known(
    held: Held,
) -> None:
    await _all_of_ada(held)
    forgotten = await forget(held.connection, "c-7", NOON + DAY)
    assert (forgotten.deliveries, forgotten.in_hand, forgotten.updates) == (1, 0, 2)
    assert await held.states("deliveries") == {"1001": ("sent", None), "1002": ("superseded", "forgotten")}
    assert await held.states("updates") == {
        "1001/v1": ("told", None),
        "1001/v2": ("not_told", "forgotten"),
        "1002/v1": ("not_told", "forgotten"),
    }
    assert await held.connection.fetchval("SELECT count(*) FROM orders WHERE tell_at IS NOT NULL") == 0
    told = await held.connection.fetchval("SELECT told FROM orders WHERE order_id = '1001'")
    assert json.loads(told) == {"1": {"waiting": 5}}


async def test_forgetting_twice_is_forgetting_once(held: Held) -> None:
    await _all_of_ada(held)
    await forget(held.connection, "c-7", NOON + DAY)
    before = await held.dump()
    again = await forget(held.connection, "c-7", NOON + DAY)
    assert replace(again, known=False) == privacy.Forgotten("c-7", known=False)
    assert await held.dump() == before


async def test_a_no_outlives_being_forgotten(held: Held) -> None:
    await held.order()
    token = (await _customer(held.connection)).unsubscribe_token
    change = contact_changed(channels=["sms"], optional_kinds=False)
    await contact_store.save_customers(held.connection, [changed(await _customer(held.connection), change, NOON)])
    await forget(held.connection, "c-7", NOON + DAY)
    customer = await _customer(held.connection)
    assert (customer.channels, customer.optional_kinds, customer.unsubscribe_token) == (("sms",), False, token)
    assert customer.forgotten_at == NOON + DAY


async def test_one_who_is_not_known_yet_is_forgotten_all_the_same(held: Held) -> None:
    """Their messages may be on the way: read later, what was recorded before brings nothing."""
    await held.dead_letter(b'{"customer_id": "c-9", "email": "ada@canary.example"}', "customers")
    forgotten = await forget(held.connection, "c-9", NOON)
    assert (forgotten.known, forgotten.dead_letters) == (False, 1)
    assert (await _customer(held.connection, "c-9")).forgotten_at == NOON


async def test_a_message_in_the_hands_of_a_sender_is_counted_and_not_tried_again(held: Held) -> None:
    await held.order()
    in_hand: dict[str, Any] = {"lease": UUID(int=1), "due_at": NOON + 2 * DAY}
    await held.message(state="due", **in_hand)
    forgotten = await forget(held.connection, "c-7", NOON + DAY)
    assert (forgotten.deliveries, forgotten.in_hand, forgotten.updates) == (1, 1, 0)
    assert await held.states("deliveries") == {"1001": ("superseded", "forgotten")}
    # It may be accepted yet, so nobody can say that the customer was not told.
    assert await held.states("updates") == {"1001/v1": ("told", None)}


@pytest.mark.parametrize("said_by", ["order", "customer"])
async def test_an_address_that_is_refused_while_its_customer_is_forgotten_is_not_suppressed(
    connection: asyncpg.Connection, said_by: str
) -> None:
    shop = Shop(connection)

    class Refusing(Scripted):
        async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
            assert outgoing.recipient.email == "ada@canary.example"
            await forget(connection, "c-7", now)
            return Answer("never", "smtp 550 5.1.1", suppress=True)

    shop.senders["email"] = Refusing()
    if said_by == "order":
        await shop.comes(placed(email="ada@canary.example"), created())
    else:
        later = contact_changed(email="ada@canary.example", occurred_at=NOON + timedelta(hours=1))
        await shop.comes(placed(email="old@example.org"), later, created())
    await shop.decides()
    await shop.sends()
    assert await connection.fetch("SELECT * FROM suppressions") == []
    assert "canary" not in await Held(connection).dump()


async def test_an_address_that_is_refused_between_two_portions_is_not_left_behind(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _all_of_ada(held)
    await held.connection.execute("UPDATE customers SET email = 'ada.third@canary.example'")
    working = privacy._forget_orders

    async def refused_just_before(*arguments: Any) -> privacy.Forgotten:
        await held.suppress("email", "ada.third@canary.example")  # which only the customer's own row said
        return await working(*arguments)

    monkeypatch.setattr(privacy, "_forget_orders", refused_just_before)
    await forget(held.connection, "c-7", NOON + DAY)
    assert "canary" not in (await held.dump()).lower()


async def test_the_audit_finds_nothing_after_forgetting_and_purging(connection: asyncpg.Connection) -> None:
    shop, _ = await _whole_story(connection)
    await shop.comes(placed("1002", email="ada@canary.example"), created("1002"))
    await shop.decides()
    await forget(connection, "c-7", shop.now)
    shop.waits(days=30)
    await purge(connection, shop.now - DAY, shop.now)
    await shop.comes(created(version=3, reason="stock_lost", occurred_at=shop.now))
    await shop.decides()
    await shop.sends()
    assert [check for check in await audit(connection, shop.policy) if check.violations] == []


async def test_many_orders_are_forgotten_in_portions(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "_PORTION", 3)
    for number in range(10):
        await held.order(f"{number}")
        await held.dead_letter(b'{"order_id": "%d"}' % number)
    forgotten = await forget(held.connection, "c-7", NOON)
    assert (forgotten.orders, forgotten.dead_letters) == (10, 10)
    assert "canary" not in await held.dump()
    assert len((await export(held.connection, "c-7"))["orders"]) == 10


async def test_what_broke_off_is_finished_by_the_next_run(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    await _all_of_ada(held)
    monkeypatch.setattr(privacy, "_PORTION", 1)
    working = privacy._forget_orders
    turns = iter([working])

    async def once(*arguments: Any) -> privacy.Forgotten:
        return await next(turns)(*arguments)  # the second time: no more turns

    monkeypatch.setattr(privacy, "_forget_orders", once)
    with pytest.raises(RuntimeError):
        await forget(held.connection, "c-7", NOON + DAY)
    assert "canary" in await held.dump()
    monkeypatch.setattr(privacy, "_forget_orders", working)
    await forget(held.connection, "c-7", NOON + DAY)
    assert "canary" not in (await held.dump()).lower()


async def test_forgetting_waits_for_a_batch_that_brings_an_order_just_now(held: Held, database: str) -> None:
    """Customers are locked before orders, by both: what the batch writes is there to be erased."""
    await contact_store.stub_customers(held.connection, ["c-7"])
    other = await asyncpg.connect(database)
    try:
        async with held.connection.transaction():
            await contact_store.lock_customers(held.connection, ["c-7"])
            forgetting = asyncio.create_task(forget(other, "c-7", NOON + DAY))
            blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0"
            await eventually(lambda: held.connection.fetchval(blocked, other.get_server_pid()))
            await held.order()
        assert (await forgetting).orders == 1
    finally:
        await other.close()
    assert "canary" not in await held.dump()


async def test_an_export_shows_everything_that_is_held(held: Held) -> None:
    await _somebody_else(held)
    await _all_of_ada(held)
    await held.connection.execute(
        """
        INSERT INTO parked (topic, key, epoch, version, full_topic, partition, record_offset, recorded_at, record_value,
            header_names, header_values, parked_at)
        VALUES ('backorders', '1001', 1, 9, 'backorders', 0, 1, $1, '{"quantity": 5}', '{}', '{}', $1)
        """,
        NOON,
    )
    shown = await export(held.connection, "c-7")
    assert json.loads(json.dumps(shown)) == shown
    assert list(shown) == ["customer_id", "customer", "orders", "suppressions", "parked", "dead_letters"]
    assert shown["customer"]["email"] == "ada.new@canary.example"
    first, second = shown["orders"]
    assert (first["order_id"], first["email"], first["name"]) == ("1001", "ada@canary.example", "Ada Canary")
    assert [each["state"] for each in first["updates"]] == ["told", "pending"]
    assert [each["outcome"] for each in first["messages"][0]["deliveries"][0]["attempts"]] == ["sent"]
    assert first["messages"][0]["content"]["kind"] == "backorder_created"
    assert second["messages"][0]["deliveries"][0]["state"] == "due"
    assert [each["address"] for each in shown["suppressions"]] == [
        "ada.new@canary.example",
        "ada@canary.example",
        "+4915100000007",
    ]
    assert [each["value"] for each in shown["parked"]] == ['{"quantity": 5}']
    assert len(shown["dead_letters"]) == 3
    assert "mail for ADA@canary.example!" in str(shown["dead_letters"])
    assert "eve@example.org" not in str(shown)


async def test_an_export_of_nobody_is_empty(held: Held) -> None:
    assert await export(held.connection, "nobody") == {
        "customer_id": "nobody",
        "customer": None,
        "orders": [],
        "suppressions": [],
        "parked": [],
        "dead_letters": [],
    }


async def test_an_export_has_every_column_that_can_hold_something_of_a_customer(held: Held) -> None:
    """A column added later is shown, or named here as one that says nothing of a person."""
    inner = {
        "customers": {"customer_id"},  # the key of the whole
        "orders": {"customer_id", "messages", "outcome_version", "outcome_digest"},
        "messages": {"order_id", "customer_id", "told", "traceparent"},
        "deliveries": {"message_id", "order_id", "attempts", "in_doubt", "first_attempt_at", "lease"},
        "updates": {"order_id", "ordinal", "topic", "traceparent"},
        "attempts": {"delivery_id"},
        "interventions": {"intervention_id", "order_id", "detail"},
    }
    await held.order()
    await held.message()
    await held.intervention()
    shown = await export(held.connection, "c-7")
    order = shown["orders"][0]
    message = order["messages"][0]
    delivery = message["deliveries"][0]
    objects = {
        "customers": shown["customer"],
        "orders": order,
        "messages": message,
        "deliveries": delivery,
        "updates": order["updates"][0],
        "attempts": delivery["attempts"][0],
        "interventions": order["interventions"][0],
    }
    for table, found in objects.items():
        rows = await held.connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = $1", table
        )
        assert {row[0] for row in rows} - inner[table] - found.keys() == set(), table


def letter(value: bytes | None, topic: str = "orders", key: bytes | None = None, *headers: bytes) -> Letter:
    names = tuple(b"h" for _ in headers)
    return Letter(1, topic, topic, 0, 0, NOON, "invalid", NOON, None, key, value, names, headers)


ADA = About("c-7", frozenset({"1001"}), frozenset({"ada@canary.example", "+4915100000007"}))


@pytest.mark.parametrize(
    "theirs",
    [
        letter(b'{"customer": {"customer_id" : "c-7"}}'),
        letter(b'{"customer": {"customer_id":\n"c-7", "name": "Ad'),
        letter(rb'{"customer_id": "\u0063-7"}', "customers"),
        letter(b"not json", "customers", b"c-7"),
        letter(b"", "orders", b"1001"),
        letter(b'{"order_id": "1001", "lines": []'),
        letter(b"\xff\xfe, ada@canary.example,"),
        letter(b'{"email": "ADA@canary.example"}', "stock-received"),
        letter(rb'{"email": "ada\u0040canary.example"}', "catalog"),
        letter("ada@canary.example".encode("utf-16")),
        letter(None, "catalog", b"ada@canary.example"),
        letter(b"{}", "catalog", None, b"reply-to: <ada@canary.example>."),
        letter(b'"phone":"+4915100000007"', "backorders"),
    ],
)
def test_a_dead_letter_is_known_by_who_it_names_or_an_address_in_it(theirs: Letter) -> None:
    assert concerns(theirs, ADA)


@pytest.mark.parametrize(
    "others",
    [
        letter(None),
        letter(b'{"customer_id": "c-77"}'),
        letter(b'{"sku": "c-7", "name": "c-7"}'),
        letter(b'{"customer_id": "c-7", "order_id": "1001"}', "backorders", b"1001"),
        letter(b'{"sku": "1001"}', "catalog", b"1001"),
        letter(b"nada@canary.example"),
        letter(b"ada@canary.example.org"),
        letter(b"+49151000000071"),
        letter(b'"' * 100_000),
        letter(b"\\" * 100_000),
        letter(b'"customer_id":' * 50_000),
    ],
)
def test_a_dead_letter_of_somebody_else_is_left_alone(others: Letter) -> None:
    assert not concerns(others, ADA)


async def test_what_nobody_would_call_an_address_is_not_looked_for_in_dead_letters(held: Held) -> None:
    await held.order(email="x", phone=None)
    await held.dead_letter(b'{"customer_id": "c-8", "text": "x"}')
    assert (await forget(held.connection, "c-7", NOON)).dead_letters == 0


LATER = NOON + 800 * DAY


async def test_an_order_that_is_over_loses_its_messages_and_contact_data_after_a_while(held: Held) -> None:
    await held.order()
    await held.message()
    await held.message(position=2, state="superseded", reason="newer")
    await held.intervention()
    await held.update("1001/v9", state="not_told", reason="too_small", message_id=None)
    assert await purge(held.connection, NOON + DAY, LATER) == Purged(
        orders=1, messages=2, deliveries=2, attempts=1, updates=3
    )
    assert [canary for canary in CANARIES if canary in await held.dump()] == []
    assert await purge(held.connection, NOON + DAY, LATER) == Purged()


async def test_what_it_takes_to_know_an_old_event_again_stays(held: Held) -> None:
    await held.order()
    await held.message()
    await held.connection.execute("INSERT INTO versions VALUES ('backorders', '1001', 1, 2)")
    await purge(held.connection, NOON + DAY, LATER)
    row = await held.connection.fetchrow("SELECT * FROM orders JOIN versions ON key = order_id")
    assert row is not None
    assert row["known_at"] == NOON
    assert json.loads(row["told"]) == {"1": {"waiting": 5}}
    dossier = json.loads(row["dossier"])
    assert dossier["lines"]["1"]["ordered"] == 15
    assert dossier["shipments"] == {"s-1": {"lines": {"1": 2}}}


async def _whole_story(connection: asyncpg.Connection) -> tuple[Shop, tuple[Any, ...]]:
    """An order from its first message to the question how it was."""
    shop = Shop(connection)
    story = (
        placed(customer={"locale": "de"}, order_url="https://shop.example/o?key=canary-token"),
        created(promised_at=NOON + 3 * DAY),
        filled(),
        released(),
        shipped(tracking_url="https://carrier.example/canary-token"),
        delivered(),
    )
    for message in story:
        await shop.comes(message)
        await shop.decides()
        await shop.sends()
    for _ in range(7):
        await shop.decides(after=DAY)
        await shop.sends()
    assert "feedback_request" in shop.kinds()
    return shop, story


async def test_the_story_of_a_purged_order_read_again_is_told_nobody(connection: asyncpg.Connection) -> None:
    shop, story = await _whole_story(connection)
    told = shop.kinds()
    shop.waits(days=30)
    assert (await purge(connection, shop.now - DAY, shop.now)).messages == len(told)
    await connection.execute("DELETE FROM cursors; DELETE FROM outbox")
    for message in story:
        await shop.comes(message)
        await shop.decides(after=DAY)
        await shop.sends()
    assert shop.kinds() == told
    assert await shop.outcomes() == []
    # And what the repeats left goes in its time.
    await purge(connection, shop.now + DAY, shop.now + 2 * DAY)
    assert await connection.fetchval("SELECT count(*) FROM updates") == 0
    assert "canary-token" not in await Held(connection).dump()


async def test_news_of_a_purged_order_are_told(connection: asyncpg.Connection) -> None:
    shop, _ = await _whole_story(connection)
    shop.waits(days=30)
    await purge(connection, shop.now - DAY, shop.now)
    change = contact_changed(email="ada@example.org", occurred_at=shop.now)
    await shop.comes(change, created(version=3, reason="stock_lost", occurred_at=shop.now))
    await shop.decides()
    await shop.sends()
    assert shop.kinds()[-1] == "allocation_revoked"
    assert (await export(connection, "c-7"))["orders"][0]["purged_at"] is None


async def test_messages_of_a_forgotten_customer_that_are_read_later_bring_nothing_back(
    connection: asyncpg.Connection,
) -> None:
    shop = Shop(connection)
    await forget(connection, "c-7", NOON + DAY)
    shop.waits(hours=1)  # recorded before
    await shop.comes(placed(email="ada@canary.example"), contact_changed(name="Ada Canary"), created())
    await shop.decides()
    await shop.sends()
    assert shop.kinds() == []
    assert await shop.verdicts() == {"v1": ("not_told", "forgotten")}
    assert "canary" not in (await Held(connection).dump()).lower()
    shop.waits(days=2)  # a new order afterwards
    await shop.comes(placed("1002", email="ada@example.org", placed_at=shop.now), created("1002", occurred_at=shop.now))
    await shop.decides()
    await shop.sends()
    assert shop.kinds() == ["backorder_created"]


@pytest.mark.parametrize(
    "make",
    [
        lambda held: held.order(waiting=1),
        lambda held: held.order(tell_at=LATER),
        lambda held: held.order(at=LATER),
        lambda held: _then(held.order(), held.message(state="due")),
        lambda held: _then(held.order(), held.update("1001/v1")),
        lambda held: _then(held.order(), held.update("1001/v1", state="not_told", reason="x", at=NOON + 2 * DAY)),
        lambda held: _then(held.order(), held.update("1001/v1", state="not_told", reason="x", decided_at=LATER)),
        lambda held: _then(held.order(), held.message(settled_at=NOON + 2 * DAY)),
    ],
    ids=["waits", "to tell", "young", "to send", "to decide", "late event", "decided late", "sent late"],
)
async def test_an_order_with_something_open_or_young_is_kept(
    held: Held, make: Callable[[Held], Awaitable[Any]]
) -> None:
    await make(held)
    before = await held.dump()
    assert await purge(held.connection, NOON + DAY, LATER) == Purged()
    assert await held.dump() == before


async def _then(*steps: Awaitable[Any]) -> None:
    for step in steps:
        await step


async def test_purging_goes_in_portions_oldest_first_and_past_orders_that_are_in_use(held: Held, database: str) -> None:
    for number in range(5):
        await held.order(f"{number}", at=NOON + number * timedelta(hours=1))
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM orders WHERE order_id = '0' FOR UPDATE")
            assert (await purge(held.connection, NOON + DAY, LATER, limit=2)).orders == 2
            purged = await held.connection.fetch("SELECT order_id FROM orders WHERE purged_at IS NOT NULL")
            assert sorted(row[0] for row in purged) == ["1", "2"]
    finally:
        await other.close()
    assert (await purge(held.connection, NOON + DAY, LATER)).orders == 3


async def test_dead_letters_go_by_age_once_they_are_published(held: Held) -> None:
    await held.dead_letter(b"old", published_at=NOON)
    await held.dead_letter(b"old, to be published")
    young = await held.dead_letter(b"young", published_at=NOON, failed_at=LATER)
    assert (await purge_dead_letters(held.connection, NOON + DAY, 10)).letters == 1
    rows = await held.connection.fetch("SELECT dead_letter_id FROM dead_letters ORDER BY 1")
    assert [row[0] for row in rows] == [young - 1, young]
