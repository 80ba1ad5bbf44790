"""What the campaign's subscribers notice: a judge who can't find anything proves nothing."""

from dataclasses import dataclass
from typing import Any

import pytest

from backorder_schemas import encode
from tests.faults.campaign.followers import Follower
from tests.notifier.messages import created, filled, moved, released, revoked


@dataclass(frozen=True)
class Record:
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    partition: int = 0
    offset: int = 0
    timestamp: int = 1_000_000


def hears(follower: Follower, *messages: Any) -> list[str]:
    """What is wrong with what it heard."""
    for message in messages:
        encoded = encode(message, source="/backorder/allocator")
        follower.feed(encoded.topic, Record(encoded.key, encoded.value, tuple(encoded.headers)))
    return follower.wrong


def test_who_heard_all_of_an_order_knows_its_units() -> None:
    follower = Follower("from the start")
    assert not hears(
        follower,
        created(quantity=5, quantity_waiting=5),
        filled(version=2, quantity=2, quantity_waiting=3),
        released(version=1),
        revoked(version=2, quantity=1),
    )
    line = follower.lines["1001", 1]
    units = released(version=1).lines[0].quantity
    assert (line.waiting, line.released) == (3, units - 1)
    assert {("backorders", "1001"), ("allocations", "1001")} <= follower.whole


def test_what_is_published_again_is_counted_and_changes_nothing() -> None:
    follower = Follower("from the start")
    assert not hears(follower, created(), created())
    assert follower.repeats == 1
    assert follower.lines["1001", 1].waiting == created().quantity_waiting


def test_who_joined_later_believes_what_the_last_event_says() -> None:
    follower = Follower("later", joined_at=2000.0)
    assert not hears(follower, filled(version=7, quantity=2, quantity_waiting=3))
    assert follower.lines["1001", 1].waiting == 3
    assert not follower.whole


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([created(), filled(version=3, quantity_waiting=4)], "came before an earlier version"),
        ([created(quantity=5, quantity_waiting=6)], "should wait, not 6"),
        ([created(), created().model_copy(update={"quantity": 1})], "with other bytes"),
        (
            [created(promised_at=None), moved(previous_promised_at=created().occurred_at)],
            "the date before was",
        ),
    ],
)
def test_what_breaks_the_contract_is_found(messages: list[Any], found: str) -> None:
    wrong = hears(Follower("from the start"), *messages)
    assert len(wrong) == 1
    assert found in wrong[0]


def test_bytes_that_are_no_message_are_found() -> None:
    follower = Follower("from the start")
    follower.feed("backorders", Record(b"1001", b"{}", ()))
    assert "no message of the contract" in follower.wrong[0]
