"""The rule of the delivery promise, against a model so simple that it can be believed."""

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backorder_schemas import Gap, Position, Verdict, Versions


def feed(versions: Versions[str], *numbers: int, epoch: int = 1, topic: str = "backorders") -> list[Verdict[str]]:
    return [versions.feed(topic, "1001", epoch, number, f"{epoch}.{number}") for number in numbers]


def applied(verdicts: list[Verdict[str]]) -> list[str]:
    return [item for verdict in verdicts for item in verdict.ready]


def test_the_first_version_seen_is_the_baseline_and_the_next_ones_are_applied() -> None:
    verdicts = feed(Versions(), 4, 5, 6)
    assert [verdict.action for verdict in verdicts] == ["apply"] * 3
    assert applied(verdicts) == ["1.4", "1.5", "1.6"]


def test_one_already_seen_or_older_is_ignored() -> None:
    versions: Versions[str] = Versions()
    feed(versions, 4, 5)
    assert feed(versions, 5, 4, 3, 1) == [Verdict("ignore")] * 4


def test_a_later_one_waits_for_those_between_and_comes_after_them() -> None:
    versions: Versions[str] = Versions()
    assert [verdict.action for verdict in feed(versions, 1, 4, 3, 4)] == ["apply", "wait", "wait", "ignore"]
    assert feed(versions, 2) == [Verdict("apply", ("1.2", "1.3", "1.4"))]
    assert feed(versions, 3, 4) == [Verdict("ignore")] * 2


def test_a_gap_that_is_not_filled_is_reported_and_left_behind() -> None:
    versions: Versions[str] = Versions(max_waiting=2)
    feed(versions, 1, 4, 5)
    assert feed(versions, 7) == [Verdict("wait", ("1.4", "1.5"), Gap("backorders", "1001", 1, 2, 3))]
    assert feed(versions, 3) == [Verdict("ignore")]
    assert feed(versions, 6) == [Verdict("apply", ("1.6", "1.7"))]


def test_who_lets_nothing_wait_gets_the_gap_at_once() -> None:
    versions: Versions[str] = Versions(max_waiting=0)
    assert feed(versions, 1, 3)[1] == Verdict("apply", ("1.3",), Gap("backorders", "1001", 1, 2, 2))


def test_a_subscriber_may_give_up_by_its_own_clock() -> None:
    versions: Versions[str] = Versions()
    feed(versions, 1, 5, 6, 9)
    assert versions.give_up("backorders", "1001") == Verdict(
        "apply", ("1.5", "1.6"), Gap("backorders", "1001", 1, 2, 4)
    )
    assert versions.give_up("backorders", "1001") == Verdict("apply", ("1.9",), Gap("backorders", "1001", 1, 7, 8))
    assert versions.give_up("backorders", "1001") == Verdict("ignore")
    assert versions.give_up("backorders", "never seen") == Verdict("ignore")


def test_a_higher_epoch_starts_anew_and_a_lower_one_is_past() -> None:
    versions: Versions[str] = Versions()
    feed(versions, 7, 9)
    assert feed(versions, 3, 4, epoch=2) == [Verdict("apply", ("2.3",)), Verdict("apply", ("2.4",))]
    assert feed(versions, 8, 10, epoch=1) == [Verdict("ignore")] * 2
    assert versions.position("backorders", "1001") == Position("backorders", "1001", 2, 4)


def test_on_a_compacted_topic_a_later_version_replaces() -> None:
    versions: Versions[str] = Versions()
    verdicts = feed(versions, 3, 9, 9, 4, 10, topic="availability")
    assert [verdict.action for verdict in verdicts] == ["apply", "apply", "ignore", "ignore", "apply"]


def test_keys_and_topics_count_for_themselves() -> None:
    versions: Versions[int] = Versions()
    for topic in ("backorders", "allocations"):
        for key in ("1", "2"):
            assert versions.feed(topic, key, 1, 1, 0).action == "apply"
            assert versions.feed(topic, key, 1, 3, 0).action == "wait"
    assert len(list(versions.positions())) == 4


def test_a_forgotten_key_has_a_baseline_again() -> None:
    versions: Versions[str] = Versions()
    feed(versions, 1, 2)
    versions.forget("backorders", "1001")
    versions.forget("backorders", "1001")
    assert versions.position("backorders", "1001") is None
    assert feed(versions, 9)[0].action == "apply"


def test_a_name_with_prefix_is_a_mistake_that_is_told() -> None:
    with pytest.raises(ValueError, match=r"'shop\.backorders' is no topic of Backorder"):
        feed(Versions(), 1, topic="shop.backorders")
    with pytest.raises(ValueError, match="max_waiting should be 0 or more, not -1"):
        Versions(max_waiting=-1)


@dataclass
class Naive:
    """Keeps everything it ever saw of one key, and finds what to apply by looking through all of it."""

    max_waiting: int
    epoch: int = 0
    done: int = 0
    seen: set[int] = field(default_factory=set)
    lost: list[tuple[int, int]] = field(default_factory=list)

    def feed(self, epoch: int, version: int) -> list[tuple[int, int]]:
        if epoch < self.epoch:
            return []
        if epoch > self.epoch:
            self.epoch, self.done, self.seen = epoch, version, set()
            return [(epoch, version)]
        self.seen.add(version)
        out = self._follow()
        ahead = {number for number in self.seen if number > self.done}
        if len(ahead) > self.max_waiting:
            self.lost.append((self.done + 1, min(ahead) - 1))
            self.done = min(ahead) - 1
            out += self._follow()
        return out

    def _follow(self) -> list[tuple[int, int]]:
        out = []
        while self.done + 1 in self.seen:
            self.done += 1
            out.append((self.epoch, self.done))
        return out


records = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), max_size=40)


@given(records, st.integers(0, 4), st.integers(0, 40))
@example([(1, 1), (1, 3), (1, 5), (1, 7), (1, 9), (1, 2)], 2, 3)
@settings(max_examples=1000)
def test_versions_agrees_with_a_naive_model_also_when_it_is_kept_in_between(
    fed: list[tuple[int, int]], max_waiting: int, kept_at: int
) -> None:
    naive = Naive(max_waiting)
    versions: Versions[tuple[int, int]] = Versions(max_waiting=max_waiting)
    gaps = []
    for number, (epoch, version) in enumerate(fed):
        if number == kept_at:
            versions = Versions(list(versions.positions()), max_waiting=max_waiting)
        before = versions.position("backorders", "k")
        verdict = versions.feed("backorders", "k", epoch, version, (epoch, version))
        assert list(verdict.ready) == naive.feed(epoch, version)
        if verdict.gap:
            gaps.append((verdict.gap.first, verdict.gap.last))
        position = versions.position("backorders", "k")
        assert position is not None
        assert (position.epoch, position.version) == (naive.epoch, naive.done)
        assert len(position.waiting) <= max_waiting
        match verdict.action:
            case "apply":
                assert (epoch, version) in verdict.ready
            case "wait":
                assert (version, (epoch, version)) in position.waiting
            case "ignore":
                assert position == before
    assert gaps == naive.lost


@given(st.permutations(range(1, 9)), st.lists(st.integers(1, 8), max_size=8))
def test_however_they_come_each_is_applied_once_and_in_order(order: list[int], again: list[int]) -> None:
    versions: Versions[str] = Versions()
    verdicts = feed(versions, 0) + feed(versions, *order, *again)
    assert applied(verdicts) == [f"1.{number}" for number in range(9)]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), max_size=30))
def test_a_compacted_topic_ends_with_the_highest_epoch_and_version(fed: list[tuple[int, int]]) -> None:
    versions: Versions[tuple[int, int]] = Versions()
    shown = [item for record in fed for item in versions.feed("availability", "main:A", *record, record).ready]
    assert shown == sorted(set(shown))
    if fed:
        top = max(epoch for epoch, _ in fed)
        first = next(number for number, (epoch, _) in enumerate(fed) if epoch == top)
        assert shown[-1] == (top, max(version for epoch, version in fed[first:] if epoch == top))
