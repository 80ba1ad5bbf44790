"""Random histories of an order: what its customer is told is always how things stand, and nothing is forgotten."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backorder_notifier.content import ContentLine
from backorder_notifier.dossier import Told
from backorder_notifier.kinds import KINDS, OPTIONAL
from backorder_notifier.policy import Policy
from backorder_notifier.reasons import REASONS
from backorder_notifier.telling import Composed, Decision
from backorder_schemas import (
    AllocationRevoked,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    BackorderRejected,
    LinesShipped,
)
from tests.notifier.histories import Event, Shop, Truth
from tests.notifier.story import Story

Action = tuple[str, int, int]
MOVES = ("fill", "lose", "cancel", "move", "move", "move", "lose_date", "ship", "deliver")
CLOCKS = ("seconds", "minutes", "hours", "days")
TROUBLES = ("mail_down", "mail_up", "refused", "no_address", "address", "optional_off", "optional_on", "cap", "no_cap")

examples = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
numbers = st.integers(0, 1_000)


def actions(*names: str) -> st.SearchStrategy[list[Action]]:
    return st.lists(st.tuples(st.sampled_from(names), numbers, numbers), max_size=40)


wanted = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 9), st.sampled_from([0, 0, 1, 3]), st.just(0)), min_size=1, max_size=3
)
promised_days = st.none() | st.integers(0, 11)
zones = st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Kiritimati", "Pacific/Niue"])


class Watched(Story):
    """A story that is compared with the truth at each decision."""

    def __init__(self, shop: Shop, timezone: str) -> None:
        super().__init__(policy=Policy(), timezone=timezone)
        self.shop = shop
        self.lagging: list[list[Event]] = []  # events not heard yet, topic by topic
        self.told_before: list[Told] = []
        self.heard: dict[str, Event] = {}

    def hear(self, *events: Any, occurred_at: datetime | None = None) -> None:
        self.heard |= {event.id: event for event in events}
        super().hear(*events, occurred_at=occurred_at)
        self.check_undecided()

    def decide(self) -> Decision:
        open_before = [each for each in self.messages if each.state == "open"]
        assert len(open_before) <= 1
        before = len(self.messages)
        decision = super().decide()
        assert len(self.messages) - before <= 1
        if decision.message is not None:
            self.told_before.append(self.told)
            check_news(decision.message, self.heard)
            check_kind(decision.message, self)
            if not any(self.lagging):
                check_standing(decision.message, self.shop)
        self.check_undecided()
        return decision

    def check_undecided(self) -> None:
        waits = [row for row in self.rows.values() if row.verdict.state == "pending"]
        assert self.tell_at is not None or not waits, "news that nobody will look at again"

    def act(self, action: Action) -> None:
        name, first, second = action
        truth = list(self.shop.lines.values())[first % len(self.shop.lines)]
        shop = self.shop
        match name:
            case "seconds" | "minutes" | "hours" | "days":
                most = {"seconds": 15, "minutes": 60, "hours": 24, "days": 9}
                self.wait(**{name: 1 + first % most[name]})
            case "mail_down" | "mail_up":
                self.mail_is_down = name == "mail_down"
            case "refused":
                if self.messages and self.messages[-1].state == "open":
                    self.messages[-1].state = "withheld"
            case "no_address" | "address":
                self.reachable = {"email": "no_email" if name == "no_address" else None}
            case "optional_off" | "optional_on":
                self.optional_kinds = name == "optional_on"
            case "cap" | "no_cap":
                self.sent_today = 10 if name == "cap" else 0
            case "listen":
                self.listen(first)
            case _:
                self.happen(cause(shop, name, truth, second, self.now))

    def happen(self, events: Sequence[Event]) -> None:
        self.hear(*events)

    def listen(self, number: int) -> None:
        """Hear of what was not heard yet."""

    def catch_up(self) -> None:
        """Hear all of it."""


class Troubled(Watched):
    """Things go wrong that the customer can't be told of."""


class Lagging(Watched):
    """Topics are read side by side: each in its order, and now and then one is behind the others."""

    def happen(self, events: Sequence[Event]) -> None:
        if not self.lagging:
            self.lagging = [[], [], []]
        for event in events:
            self.lagging[topic_of(event)].append(event)

    def listen(self, number: int) -> None:
        there = [topic for topic in self.lagging if topic]
        if there:
            self.hear(there[number % len(there)].pop(0))

    def catch_up(self) -> None:
        while any(self.lagging):
            self.listen(self.now.second)


def topic_of(event: Event) -> int:
    if event.type in {"AllocationReleased", "AllocationRevoked"}:
        return 0
    return 1 if event.type in {"LinesShipped", "LinesDelivered"} else 2


def cause(shop: Shop, name: str, truth: Truth, number: int, now: datetime) -> list[Event]:
    match name:
        case "fill":
            return shop.fill(truth, number)
        case "lose":
            return shop.lose(truth, number)
        case "cancel":
            return shop.cancel(truth, number)
        case "move":
            return shop.move(truth, number % 12)
        case "lose_date":
            return shop.move(truth, None)
        case "ship":
            return shop.ship(truth, number)
        case "deliver":
            return shop.deliver(number, now)
        case _:
            raise AssertionError(name)


def begin(story: Watched, lines: list[tuple[int, int, int, int]], promised: int | None) -> None:
    order, events = story.shop.place(lines, promised)
    story.place(order)
    story.happen(events)


# ── what each message says ───────────────────────────────────────────────────────────────────────────────────────────


def check_standing(message: Composed, shop: Shop) -> None:
    """Each line as it really stands, and every line that waits is there."""
    said = {each.line_no: each for each in message.content.lines}
    for line_no, truth in shop.lines.items():
        if line_no not in said:
            assert not truth.waiting
            continue
        line = said[line_no]
        assert (line.ordered, line.ready, line.waiting, line.shipped) == (
            truth.ordered,
            truth.allocated,
            truth.waiting,
            truth.shipped,
        )
        assert line.expected == (truth.promised_at if truth.waiting else None)
        if truth.waiting:
            told = message.told[line_no]
            assert (told.waiting, told.promised_at) == (truth.waiting, truth.promised_at)


def check_news(message: Composed, heard: dict[str, Event]) -> None:
    """The units told are those of the events told, each counted once."""
    events = [heard[event_id] for event_id in message.about if not event_id.startswith("timer:")]
    booked = {(event.line_no, event.caused_by) for event in events if isinstance(event, BackorderCreated)}
    expected: Counter[tuple[str, int]] = Counter()
    for event in events:
        match event:
            case BackorderCreated():
                expected["created", event.line_no] += event.quantity
                expected["lost", event.line_no] += event.quantity if event.reason == "stock_lost" else 0
            case AllocationRevoked(reason="cancelled"):
                expected["cancelled", event.line_no] += event.quantity
            case AllocationRevoked() if (event.line_no, event.caused_by) not in booked:
                expected["created", event.line_no] += event.quantity
                expected["lost", event.line_no] += event.quantity
            case BackorderFilled():
                expected["filled", event.line_no] += event.quantity
            case BackorderCancelled():
                expected["cancelled", event.line_no] += event.quantity
            case BackorderRejected():
                expected["rejected", event.line_no] += event.quantity
            case LinesShipped():
                expected.update({("shipped_now", line.line_no): line.quantity for line in event.lines})
            case _:
                pass
    late_losses = message.kind == "promise_changed"  # a loss told before, of which only the date is news
    for line in message.content.lines:
        for name in ("created", "lost", "filled", "cancelled", "rejected"):
            if not (late_losses and name in {"created", "lost"}):
                assert getattr(line, name) == expected[name, line.line_no], (name, line)
        assert line.ordered is None or line.ready is None or line.ready + line.waiting <= line.ordered
        assert line.shipped <= (line.ready or 0) or line.ready is None
        assert min(line.waiting, line.ready or 0, line.shipped) >= 0
    stated = {line.line_no for line in message.content.lines}
    assert {line_no for (_, line_no), units in expected.items() if units} <= stated


def check_kind(message: Composed, story: Watched) -> None:
    """The heaviest of what is told; a date is told only where it differs from what was told."""
    kinds = {row.pending.kind for row in story.rows.values() if row.pending and row.pending.event_id in message.about}
    kinds |= {kind for kind in KINDS for event_id in message.about if event_id.startswith(f"timer:{kind}:")}
    losses = {"allocation_revoked"} if message.kind == "promise_changed" else set()
    heavier = [kind for kind in kinds - losses if KINDS.index(kind) < KINDS.index(message.kind)]
    assert heavier in ([], ["promise_changed"])  # a small move, told along with something lighter
    assert message.kind in kinds | {"promise_changed"}
    if message.kind == "promise_changed":
        assert any(matters(line, story) for line in message.content.lines)
    if message.kind in OPTIONAL:
        assert story.optional_kinds


def matters(line: ContentLine, story: Watched) -> bool:
    told = story.told.get(line.line_no)
    before = told.promised_at if told else None
    if not line.waiting or before is None or line.expected is None:
        return bool(line.waiting) and before is not line.expected
    days = (day_of(line.expected, story) - day_of(before, story)).days
    return days >= 2 or days <= -3


def day_of(moment: datetime, story: Watched) -> date:
    return moment.astimezone(ZoneInfo(story.timezone)).date()


# ── what became of everything ────────────────────────────────────────────────────────────────────────────────────────


def check_verdicts(story: Watched) -> None:
    """Each event ended in one verdict, with a reason where it was not told; and what was told, was told once."""
    tellings: Counter[str] = Counter()
    for sent in story.messages:
        if sent.state == "accepted":
            tellings.update(sent.composed.about)
    assert max(tellings.values(), default=1) == 1
    for event_id, row in story.rows.items():
        state, reason = row.verdict.state, row.verdict.reason
        assert state != "pending", (event_id, row)
        if state == "told":
            messages = [each for each in story.messages if each.composed.message_id == row.message_id]
            assert event_id in messages[-1].composed.about
            assert messages[-1].state != "withdrawn"
        else:
            assert reason in REASONS
            assert not tellings[event_id]
    final = [each.composed.message_id for each in story.messages if each.state != "withdrawn"]
    assert len(set(final)) == len(final)
    accepted = [(each.accepted_at, each.composed_at) for each in story.messages if each.state == "accepted"]
    assert accepted == sorted(accepted, key=lambda times: times[1])
    assert all(now is not None and then <= now for now, then in accepted)


def check_known(story: Watched) -> None:
    """In the end the customer knows how things stand: which units wait, and when they come as far as it matters."""
    if any(row.verdict.reason == "too_old" for row in story.rows.values()):
        return  # all was over before anything could be sent
    for line_no, truth in story.shop.lines.items():
        told = story.told.get(line_no)
        if told is None:
            assert not truth.waiting
            continue
        assert told.waiting == truth.waiting
        if truth.waiting:
            if told.promised_at is None or truth.promised_at is None:
                assert told.promised_at == truth.promised_at
            else:
                days = (day_of(truth.promised_at, story) - day_of(told.promised_at, story)).days
                assert -3 < days < 2


def live(story: Watched, lines: list[tuple[int, int, int, int]], promised: int | None, history: list[Action]) -> None:
    """All that happens, and then time enough for everything to be decided and sent."""
    begin(story, lines, promised)
    for action in history:
        story.act(action)
        if action[0] in MOVES:
            story.listen(action[1])
            story.listen(action[2])
    story.mail_is_down = False
    story.catch_up()
    if not isinstance(story, Troubled):
        story.wait(days=2)
        check_known(story)
    story.sent_today = 0
    story.wait(days=60)
    check_verdicts(story)


PLAIN = (*MOVES, *CLOCKS, "minutes", "hours", "mail_down", "mail_up")
WITH_TROUBLE = (*MOVES, *CLOCKS, "minutes", "hours", *TROUBLES)
BEHIND = (*MOVES, *MOVES, *CLOCKS, "minutes", "listen", "listen", "listen", "mail_down", "mail_up")


@examples
@given(wanted, promised_days, zones, actions(*PLAIN))
def test_in_the_end_the_customer_knows_how_things_stand(
    lines: list[tuple[int, int, int, int]], promised: int | None, zone: str, history: list[Action]
) -> None:
    live(Watched(Shop(), zone), lines, promised, history)


@examples
@given(wanted, promised_days, zones, actions(*WITH_TROUBLE))
def test_whatever_goes_wrong_nothing_is_forgotten_and_nothing_is_told_twice(
    lines: list[tuple[int, int, int, int]], promised: int | None, zone: str, history: list[Action]
) -> None:
    live(Troubled(Shop(), zone), lines, promised, history)


@examples
@given(wanted, promised_days, zones, actions(*BEHIND))
def test_topics_that_are_behind_change_nothing_about_what_is_known_in_the_end(
    lines: list[tuple[int, int, int, int]], promised: int | None, zone: str, history: list[Action]
) -> None:
    live(Lagging(Shop(), zone), lines, promised, history)


@pytest.mark.parametrize(("kind", "names"), [(Watched, PLAIN), (Troubled, WITH_TROUBLE), (Lagging, BEHIND)])
def test_long_histories_end_well_too(kind: type[Watched], names: Sequence[str]) -> None:
    # Hypothesis finds the small cases and makes them smaller; these are the long ones, in which much happens.
    for seed in range(100):
        chance = random.Random(seed)
        lines = [
            (chance.randint(1, 9), chance.choice([0, 0, 3, 9]), chance.choice([0, 0, 0, 1]), 0)
            for _ in range(chance.randint(1, 3))
        ]
        story = kind(Shop(), chance.choice(["UTC", "Europe/Berlin", "Pacific/Niue"]))
        promised = chance.choice([None, *range(12)])
        history = [(chance.choice(names), chance.randrange(1_000), chance.randrange(1_000)) for _ in range(60)]
        live(story, lines, promised, history)
