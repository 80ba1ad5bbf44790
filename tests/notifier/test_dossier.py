"""What is known of an order: its events put together, in whatever order their topics are read."""

import random
from itertools import permutations

import pytest

from backorder_notifier.dossier import (
    Dossier,
    Event,
    LineState,
    ShipmentState,
    Standing,
    standing,
)
from backorder_notifier.filing import apply, news_of, place
from backorder_schemas import OrderPlaced
from tests.notifier.messages import (
    NOON,
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

Message = Event | OrderPlaced


def after(*messages: Message, dossier: Dossier | None = None) -> Dossier:
    known = dossier or Dossier()
    for message in messages:
        known = place(known, message) if isinstance(message, OrderPlaced) else apply(known, message)
    return known


def units(dossier: Dossier, line_no: int = 1) -> tuple[int | None, int, int, int, int]:
    """Ready, waiting, cancelled, rejected, shipped."""
    found = standing(dossier, line_no)
    return found.ready, found.waiting, found.cancelled, found.rejected, found.shipped


def test_a_new_order_is_all_ready() -> None:
    assert standing(after(placed()), 1) == Standing(ordered=15, ready=15, waiting=0, cancelled=0, rejected=0, shipped=0)


def test_units_are_where_events_put_them() -> None:
    story: list[tuple[Message, tuple[int, ...]]] = [
        (placed(), (15, 0, 0, 0, 0)),
        (rejected(quantity=2), (13, 0, 0, 2, 0)),
        (created(version=2, quantity_allocated=8), (8, 5, 0, 2, 0)),
        (released(units={1: 8}), (8, 5, 0, 2, 0)),
        (filled(version=3, quantity=1, quantity_waiting=4), (9, 4, 0, 2, 0)),
        (cancelled(version=4, quantity=3, quantity_waiting=1), (9, 1, 3, 2, 0)),
        (revoked(version=2, quantity=1, reason="cancelled"), (8, 1, 4, 2, 0)),
        (shipped(units={1: 7}), (8, 1, 4, 2, 7)),
        (revoked(version=3, quantity=1, reason="stock_lost"), (8, 1, 4, 2, 7)),
        (
            created(version=5, quantity=1, quantity_waiting=2, quantity_allocated=7, reason="stock_lost"),
            (7, 2, 4, 2, 7),
        ),
    ]
    dossier = Dossier()
    for message, expected in story:
        dossier = after(message, dossier=dossier)
        assert units(dossier) == expected, message.type


def test_topics_read_in_any_order_give_the_same() -> None:
    orders: list[Message] = [placed(lines=(line(), line(2, 3, "CASE")))]
    backorders: list[Message] = [
        rejected(quantity=2),
        created(version=2, quantity_allocated=8, promised_at=NOON),
        filled(version=3, quantity=1, quantity_waiting=4),
        cancelled(version=4, quantity=3, quantity_waiting=1),
    ]
    allocations: list[Message] = [released(units={1: 8}), revoked(quantity=1, reason="cancelled")]
    fulfilment: list[Message] = [shipped(units={1: 6}), delivered()]
    topics = [orders, backorders, allocations, fulfilment]
    expected = after(*orders, *backorders, *allocations, *fulfilment)
    for order in permutations(topics):
        dossier = after(*(message for topic in order for message in topic))
        assert [standing(dossier, each) for each in (1, 2)] == [standing(expected, each) for each in (1, 2)]
        assert dossier.shipments == expected.shipments
    chance = random.Random(5)
    for _ in range(200):
        queues = [list(topic) for topic in topics]
        mixed: list[Message] = []
        while queue := chance.choice([queue for queue in queues if queue]) if any(queues) else None:
            mixed.append(queue.pop(0))
        dossier = after(*mixed)
        assert standing(dossier, 1) == standing(expected, 1)


def test_an_order_that_was_cancelled_in_part_before_it_came_has_less_to_tell() -> None:
    # 15 ordered, 4 of them cancelled before: 6 there, 5 wait.
    dossier = after(order_cancelled(lines={1: 4}), placed(), created(quantity_allocated=6))
    assert units(dossier) == (6, 5, 4, 0, 0)
    dossier = after(revoked(quantity=2, reason="cancelled"), dossier=dossier)
    assert units(dossier) == (4, 5, 6, 0, 0)


def test_of_a_line_that_never_waited_the_cancel_itself_tells() -> None:
    cancel = order_cancelled(lines={1: 4})
    assert units(after(placed(), cancel)) == (11, 0, 4, 0, 0)
    assert units(after(placed(), cancel, cancel)) == (11, 0, 4, 0, 0)
    assert units(after(placed(), cancel, revoked(quantity=4, reason="cancelled"))) == (11, 0, 4, 0, 0)
    assert units(after(placed(), cancel, order_cancelled(id="b", lines={1: None}))) == (0, 0, 15, 0, 0)
    assert units(after(order_cancelled(), placed())) == (0, 0, 15, 0, 0)
    assert units(after(placed(), shipped(units={1: 9}), order_cancelled())) == (9, 0, 6, 0, 9)


def test_units_of_a_line_that_waited_are_cancelled_when_the_allocator_says_so() -> None:
    dossier = after(placed(), created(), order_cancelled())
    assert units(dossier) == (10, 5, 0, 0, 0)
    assert units(after(cancelled(), dossier=dossier)) == (10, 0, 5, 0, 0)


@pytest.mark.parametrize("ahead", [True, False])
def test_a_line_that_lost_stock_after_a_cancel_counts_the_cancelled_units_once(ahead: bool) -> None:
    cancel = revoked(version=2, quantity=3, reason="cancelled")
    loss = created(quantity=2, quantity_waiting=2, quantity_allocated=10, reason="stock_lost")
    events = (cancel, loss) if ahead else (loss, cancel)
    assert units(after(placed(), *events)) == (10, 2, 3, 0, 0)


def test_what_left_is_shipped_wherever_its_units_were() -> None:
    dossier = after(placed(), rejected(quantity=2), created(version=2, quantity_allocated=8))
    assert units(after(shipped(units={1: 8}), dossier=dossier)) == (8, 5, 0, 2, 8)
    assert units(after(shipped(units={1: 10}), dossier=dossier)) == (10, 3, 0, 2, 10)
    assert units(after(shipped(units={1: 14}), dossier=dossier)) == (14, 0, 0, 1, 14)
    gone = after(cancelled(version=3), shipped(units={1: 14}), dossier=dossier)
    assert units(gone) == (14, 0, 0, 1, 14)


def test_a_shipment_of_more_than_was_ordered_or_of_other_lines_is_not_taken() -> None:
    dossier = after(placed())
    for impossible in (shipped(units={1: 16}), shipped(units={1: 1, 2: 1})):
        assert news_of(dossier, impossible) == "more_than_ordered"
        assert apply(dossier, impossible) is dossier
    twice = after(shipped(units={1: 10}), dossier=dossier)
    assert news_of(twice, shipped(shipment_id="s-2", units={1: 6})) == "more_than_ordered"


def test_the_same_again_changes_nothing() -> None:
    dossier = after(placed(), created(), shipped(units={1: 3}), delivered(), order_cancelled(lines={1: 1}))
    for message in (shipped(units={1: 3}, id="again"), delivered(id="again"), order_cancelled(lines={1: 1})):
        assert apply(dossier, message) is dossier
    assert place(dossier, placed(lines=(line(quantity=99),))) is dossier
    assert news_of(dossier, shipped(units={1: 3})) == news_of(dossier, delivered()) == "repeated"


def test_shipments_are_known_with_what_they_carry() -> None:
    ship = shipped(units={1: 3, 2: 1}, carrier="Post", tracking_number="T", tracking_url="https://post.example/T")
    expected = ShipmentState(
        lines={1: 3, 2: 1},
        message_id=ship.id,
        carrier="Post",
        tracking_number="T",
        tracking_url="https://post.example/T",
        delivered_at=NOON,
    )
    assert after(ship, delivered()).shipments == after(delivered(), ship).shipments == {"s-1": expected}


def test_before_the_order_is_known_events_are_kept() -> None:
    dossier = after(shipped(units={1: 3}), filled(quantity_waiting=2))
    assert standing(dossier, 1) == Standing(ordered=None, ready=None, waiting=2, cancelled=0, rejected=0, shipped=3)
    assert not dossier.placed
    assert dossier.ever_waited


def test_the_date_is_the_one_last_published() -> None:
    dossier = after(placed(), created(promised_at=NOON))
    assert (dossier.lines[1].promised_at, dossier.lines[1].cause) == (NOON, None)
    dossier = after(moved(promised_at=None), dossier=dossier)
    assert (dossier.lines[1].promised_at, dossier.lines[1].cause) == (None, "supply_moved")
    dossier = after(created(version=3, reason="stock_lost", promised_at=NOON), dossier=dossier)
    assert (dossier.lines[1].promised_at, dossier.lines[1].cause) == (NOON, "stock_lost")


@pytest.mark.parametrize(
    ("event", "news"),
    [
        (created(), "backorder_created"),
        (created(reason="stock_lost"), "allocation_revoked"),
        (revoked(), "allocation_revoked"),
        (revoked(reason="cancelled"), "backorder_cancelled"),
        (filled(), "backorder_filled"),
        (filled(caused_by=shipped(units={1: 1}).id), "shipped_tells_it"),
        (cancelled(), "backorder_cancelled"),
        (rejected(), "backorder_rejected"),
        (moved(), "promise_changed"),
        (released(), None),
        (order_cancelled(), None),
        (shipped(shipment_id="s-2", units={1: 1}), "shipped"),
        (delivered(), "delivered"),
    ],
)
def test_events_are_news_of_a_kind_or_not_with_a_reason(event: Event, news: str | None) -> None:
    dossier = after(placed(), created(version=1), shipped(units={1: 1}))
    assert news_of(dossier, event) == news


def test_an_order_that_never_waited_has_no_news_of_its_shipments_and_cancels() -> None:
    dossier = after(placed(), released(units={1: 15}))
    assert news_of(dossier, shipped()) == "never_waited"
    assert news_of(dossier, revoked(reason="cancelled")) == "never_waited"
    assert news_of(after(shipped(), dossier=dossier), delivered()) == "never_waited"


def test_a_dossier_survives_being_kept_as_json() -> None:
    dossier = after(
        placed(), created(promised_at=NOON, substitutes=("A",)), shipped(units={1: 3}), delivered(),
        order_cancelled(id="x", lines={1: None}),
    )  # fmt: skip
    assert Dossier.model_validate_json(dossier.model_dump_json(exclude_defaults=True)) == dossier
    assert Dossier.model_validate_json("{}") == Dossier()
    assert LineState(sku="A").model_dump(exclude_defaults=True) == {"sku": "A"}
