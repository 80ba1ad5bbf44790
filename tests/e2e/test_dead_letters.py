"""Good and bad messages in one batch: the good ones count, the bad ones are kept as they came, nothing stands still."""

import asyncio
import gzip
import json
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaProducer

from backorder_schemas.topics import MAX_VALUE_BYTES
from tests.e2e.messages import Message, order, receipt
from tests.e2e.processes import SCRIPTS, clean_environment
from tests.e2e.subscriber import follow
from tests.e2e.world import Read, World

NOT_UTF8 = (("trace", b"\xff\xfe\x00"), ("nothing", None), ("trace", b"twice"))


def bad_messages() -> dict[str, tuple[Message, str]]:
    """What is wrong → the message and the reason it is refused for."""
    good = order("bad", ("CHAIR", 1))
    assert good.value is not None
    content = json.loads(good.value)
    negative = changed(content, lines=[content["lines"][0] | {"quantity": -1}])
    keyless = replace(good, key=None)
    return {
        "not JSON": (replace(good, value=b'{"type": "OrderPlaced", '), "not_json"),
        "not UTF-8": (replace(good, value=b'{"type": "Order\xff"}'), "not_utf8"),
        "a null value": (replace(good, value=None), "empty"),
        "an empty value": (replace(good, value=b""), "empty"),
        "neither key nor value": (Message("orders", None, None), "empty"),
        "neither key nor value, with headers": (Message("orders", None, None, NOT_UTF8), "empty"),
        "no key and not JSON": (replace(keyless, value=b"?"), "not_json"),
        "an unknown type": (replace(good, value=changed(content, type="OrderPlanned")), "unknown_type"),
        "a negative quantity": (replace(good, value=negative, headers=NOT_UTF8), "invalid"),
        "a duplicate key": (replace(good, value=b'{"order_id": "x", ' + good.value[1:]), "invalid"),
        "a receipt among orders": (replace(receipt("r", "CHAIR", 1), topic="orders", key=b"bad"), "wrong_topic"),
        "a NUL": (replace(good, value=changed(content, order_id="a\0b")), "invalid"),
        "an empty header name": (replace(good, value=b"[]", headers=(("", b""), ("", None))), "invalid"),
        "deep nesting": (replace(good, value=b"[" * 200_000), "not_json"),
    }


async def test_every_good_order_of_a_mixed_batch_is_allocated_and_every_bad_message_is_kept_as_it_came(
    world: World,
) -> None:
    bad = bad_messages()
    await world.publish(receipt("r-1", "CHAIR", 100))
    # Headers that are not text harm a good order no more than a bad one.
    for number, (message, _) in enumerate(bad.values()):
        await world.publish(replace(order(f"good-{number}", ("CHAIR", 1)), headers=NOT_UTF8), message)
    await world.publish(order("last", ("CHAIR", 1)))
    await world.allocator()
    await world.settled()

    subscriber = await follow(world)
    good = [f"good-{number}" for number in range(len(bad))]
    assert [subscriber.released_of(order_id) for order_id in [*good, "last"]] == [1] * (len(bad) + 1)

    listed = await world.ask("dlq", "list")
    originals = by_place(await world.read("orders"))
    published = await world.read("allocator.dlq")
    assert len(listed) == len(published) == len(bad)
    reasons: dict[tuple[bytes | None, bytes | None], set[str]] = {}
    for letter in listed:
        original = originals["orders", letter["partition"], letter["offset"]]
        reasons.setdefault((original.key, original.value), set()).add(letter["reason"])
    for what, (message, reason) in bad.items():
        assert reasons[message.key, message.value] == {reason}, what
    for letter in published:
        assert letter.header("dlq.topic") == f"{world.prefix}orders"
        original = originals["orders", int(letter.header("dlq.partition")), int(letter.header("dlq.offset"))]
        assert (letter.key, letter.value) == (original.key, original.value)
        assert letter.headers[: len(original.headers)] == original.headers
        added = [name for name, _ in letter.headers[len(original.headers) :]]
        assert added == ["dlq.topic", "dlq.partition", "dlq.offset", "dlq.reason", "dlq.detail", "dlq.failed_at"]
        assert letter.header("dlq.reason") in reasons[original.key, original.value]
    await world.audit()


async def test_a_message_that_is_too_large_is_kept_and_published_and_those_behind_it_go_on(running: World) -> None:
    # Kafka measures what is compressed, so a message may be larger when it is unpacked.
    content = json.loads(order("large", ("STOOL", 1)).value or b"")
    large = changed(content, note="x" * (MAX_VALUE_BYTES + 1000))
    largest = changed(content, note="y" * 8 * MAX_VALUE_BYTES)
    assert len(gzip.compress(largest)) < MAX_VALUE_BYTES
    await running.publish(receipt("r-1", "STOOL", 10))
    async with AIOKafkaProducer(
        bootstrap_servers=running.kafka, max_request_size=16 * MAX_VALUE_BYTES, compression_type="gzip"
    ) as producer:
        for value in (large, largest):
            await producer.send_and_wait(f"{running.prefix}orders", value, key=b"large")
    await running.tell(order("large", ("STOOL", 1)))

    assert (await follow(running)).released_of("large") == 1
    published = [letter for letter in await running.read("allocator.dlq") if letter.key == b"large"]
    assert [letter.header("dlq.reason") for letter in published] == ["too_large"] * 2
    assert published[0].value == large
    # No topic takes this one: its value is left out there, and kept in the database.
    assert (published[1].value, published[1].header("dlq.left_out")) == (None, "value")
    kept = "SELECT value FROM dead_letters WHERE reason = 'too_large' ORDER BY dead_letter_id DESC LIMIT 1"
    assert await running.database.fetchval(kept) == largest


async def test_a_kill_while_letters_are_published_or_driven_again_loses_none_and_drives_none_twice(
    world: World,
) -> None:
    good = [order(f"spoiled-{number}", ("LAMP", 2)) for number in range(3)]
    await world.publish(receipt("r-1", "LAMP", 100), *(replace(each, value=b"{") for each in good))
    killed = await world.allocator(ready=False, BACKORDER_FAIL_POINT="dlq.acked=kill")
    assert await killed.ended() == -signal.SIGKILL
    await world.forget_dead_members()
    await world.allocator()
    await world.settled()
    published = [
        (each.header("dlq.partition"), each.header("dlq.offset")) for each in await world.read("allocator.dlq")
    ]
    assert (len(set(published)), set(Counter(published).values())) == (3, {2})

    # As if this release could read them.
    for each in good:
        await world.database.execute("UPDATE dead_letters SET value = $1 WHERE key = $2", each.value, each.key)
    assert [row["outcome"] for row in await world.ask("dlq", "redrive", "--dry-run")] == ["applied"] * 3
    settings = world.allocator_settings | {"BACKORDER_FAIL_POINT": "redrive.before_commit=kill@2"}
    operator = await asyncio.create_subprocess_exec(
        SCRIPTS / "backorder-allocator", "dlq", "redrive", env={**clean_environment(), **settings}, stdout=-1, stderr=-1
    )
    said, _ = await operator.communicate()
    assert (operator.returncode, said.count(b"applied")) == (-signal.SIGKILL, 1)
    assert [row["outcome"] for row in await world.ask("dlq", "redrive", "--why", "again")] == ["applied"] * 2
    assert await world.ask("dlq", "redrive") == []
    acts = await world.database.fetch(
        "SELECT detail ->> 'dead_letter_id', why FROM interventions WHERE what = 'dead_letter_redriven' ORDER BY at"
    )
    assert [tuple(act) for act in acts] == [("1", None), ("2", "again"), ("3", "again")]
    await world.settled()
    subscriber = await follow(world)
    assert [subscriber.released_of(f"spoiled-{number}") for number in range(3)] == [2, 2, 2]
    await world.audit()


def changed(content: Mapping[str, Any], **fields: Any) -> bytes:
    return json.dumps({**content, **fields}).encode()


def by_place(records: list[Read]) -> dict[tuple[str, int, int], Read]:
    return {(record.topic, record.partition, record.offset): record for record in records}
