"""A month on a fast clock: shop, allocator, warehouse and notifier take turns."""

import heapq
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from backorder_schemas import decode, encode
from backorder_schemas.codec import Decoded
from tests.month.allocating import Allocating
from tests.month.checking import Heard
from tests.month.purchases import Month, Sent
from tests.month.telling import Telling
from tests.month.warehouse import Warehouse

AFTERWARDS = timedelta(days=25)
"""So long the clock goes on after the last purchase: reminders, missed dates, requests for feedback."""
READS = ("orders", "backorders", "allocations", "fulfilment", "catalog", "customers", "availability")


@dataclass(slots=True)
class Replay:
    """`heard`: all that the notifier was given about orders and customers, in order."""

    heard: list[Heard] = field(default_factory=list)
    turns: int = 0


async def replay(
    month: Month,
    allocating: Allocating,
    telling: Telling,
    seed: int,
    a_turn: timedelta,
) -> Replay:
    done = Replay()
    warehouse = Warehouse(seed)
    number = count()
    to_come = [(sent.at, next(number), sent) for sent in month.sent]
    heapq.heapify(to_come)
    packing: list[tuple[datetime, tuple[str, int]]] = []
    now = month.sent[0].at
    while now < month.end + AFTERWARDS:
        now += a_turn
        while packing and packing[0][0] <= now:
            at, release = heapq.heappop(packing)
            for sent in warehouse.pack(release, at):
                heapq.heappush(to_come, (sent.at, next(number), sent))
        turn: list[Sent] = []
        while to_come and to_come[0][0] <= now:
            turn.append(heapq.heappop(to_come)[2])
        records = []
        for sent in turn:
            encoded = encode(sent.message, source="/shop")
            if encoded.topic in READS:
                records.append(telling.record(encoded.topic, encoded.key, encoded.value, sent.at))
                done.heard.append(Heard(now, sent.message))
        for topic, key, value in await allocating.take(turn, now):
            if topic not in READS:
                continue
            records.append(telling.record(topic, key, value, now))
            if topic == "availability":
                continue
            read = decode(topic, key, value, ())
            assert isinstance(read, Decoded)
            done.heard.append(Heard(now, read.message))
            for begins in warehouse.hear(read.message, now):  # type: ignore[arg-type]
                heapq.heappush(packing, begins)
        await telling.take(records, now)
        await telling.tell(now)
        done.turns += 1
    return done
