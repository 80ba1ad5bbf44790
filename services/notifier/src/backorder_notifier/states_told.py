"""Whether what an order's messages say of its lines are states that the lines had, in the order they had them. Pure.

Written from the events alone, not with what decides what is told, so that a mistake there shows here.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LineStands:
    """A line after an event. `waiting` None, `promised_at` None: as the first message that names the line says."""

    event_id: str
    waiting: int
    promised_at: datetime | None


@dataclass(slots=True)
class OrderHistory:
    """The events of an order, in the order of applying; then its messages, in their order, are judged one by one.

    `seen` is, by line, the first state that the last message judged may have been made in.
    """

    order_id: str
    events: Sequence[Mapping[str, Any]]
    states: dict[int, list[LineStands]] = field(init=False)
    seen: defaultdict[int, int] = field(init=False)
    shipped: bool = field(init=False, default=False)
    lost: defaultdict[int, int] = field(init=False)
    losses: dict[str, int] = field(init=False)
    whole: bool = field(init=False)

    def __post_init__(self) -> None:
        self.states, self.seen, self.lost, self.losses = {}, defaultdict(int), defaultdict(int), {}
        versions = [each["version"] for each in self.events if each["type"] in _OF_BACKORDERS]
        self.whole = min(versions, default=1) == 1
        for each in self.events:
            line_no = each["line_no"]
            if each["type"] == "AllocationRevoked":
                self.lost[line_no] += each["quantity"]
                self.losses[each["event_id"]] = line_no
            elif each["type"] == "LinesShipped":
                self.shipped = True
            elif each["type"] in _OF_BACKORDERS:
                of_line = self.states.setdefault(line_no, [])
                before = of_line[-1] if of_line else LineStands("", 0, None)
                waiting = before.waiting if each["waiting"] is None else each["waiting"]
                dated = each["type"] in {"BackorderCreated", "PromiseChanged"}
                promised_at = _moment(each["promised_at"]) if dated else before.promised_at
                of_line.append(LineStands(each["event_id"], waiting, promised_at))

    def judge(self, position: int, told: Mapping[str, Any], about: Collection[str]) -> Iterator[str | None]:
        """For each line that a message speaks of: what is wrong with it, or None."""
        for text, heard in told.items():
            line_no = int(text)
            states = self.states.get(line_no)
            if states is None:
                continue
            of_news = [number for number, each in enumerate(states) if each.event_id in about]
            first = max(self.seen[line_no], max(of_news, default=0))
            waiting, promised_at = heard["waiting"], _moment(heard.get("promised_at"))
            # A loss told before the event that books it: that has the date, and is told when it comes.
            undated = promised_at is None and line_no in {self.losses.get(each) for each in about}
            found = next(
                (
                    number
                    for number in range(first, len(states))
                    if self._is(
                        states[number], line_no, waiting, states[number].promised_at if undated else promised_at
                    )
                ),
                None,
            )
            where = f"message {position} of order {self.order_id}, line {line_no}"
            if found is not None:
                self.seen[line_no] = found
                yield None
            elif not self.whole and not of_news and self.seen[line_no] == 0:
                yield None  # a state from before the first event that is still kept
            else:
                date = promised_at.isoformat() if promised_at else "no date"
                yield f"{where}: {waiting} wait, {date}: a state that it did not have, or not since the message before"

    def _is(self, state: LineStands, line_no: int, waiting: int, promised_at: datetime | None) -> bool:
        if waiting and promised_at != state.promised_at:
            return False
        # What the warehouse has shipped waits no longer, and what has lost its stock waits again, before events say so.
        lower = 0 if self.shipped else state.waiting
        return lower <= waiting <= state.waiting + self.lost[line_no]


_OF_BACKORDERS = frozenset(
    {"BackorderCreated", "BackorderFilled", "BackorderCancelled", "BackorderRejected", "PromiseChanged"}
)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
