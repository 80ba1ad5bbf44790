"""The warehouse and the carrier: what is released ships some hours later, and arrives after some days."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from backorder_schemas import (
    AllocationReleased,
    AllocationRevoked,
    LinesDelivered,
    LinesShipped,
    OutputMessage,
    ShippedLine,
)
from tests.month.purchases import Sent


class Warehouse:
    """Ships what each release says, less what was revoked until then; forgets no release."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._open: dict[tuple[str, int], dict[int, int]] = {}

    def hear(self, message: OutputMessage, now: datetime) -> Iterator[tuple[datetime, tuple[str, int]]]:
        """When to pack which release."""
        match message:
            case AllocationReleased():
                key = (message.order_id, message.release_no)
                self._open[key] = {line.line_no: line.quantity for line in message.lines}
                chance = random.Random(f"pack/{self._seed}/{key}")
                yield now + timedelta(hours=chance.uniform(2, 40)), key
            case AllocationRevoked(release_no=int(release_no)):
                lines = self._open.get((message.order_id, release_no), {})
                if message.line_no in lines:
                    lines[message.line_no] -= message.quantity
            case _:
                pass

    def pack(self, key: tuple[str, int], now: datetime) -> Iterator[Sent]:
        """The shipment of a release, and its delivery."""
        order_id, release_no = key
        lines = {line_no: units for line_no, units in self._open.pop(key).items() if units > 0}
        if not lines:
            return
        shipment_id = f"{order_id}/{release_no}"
        chance = random.Random(f"ship/{self._seed}/{key}")
        known = chance.random() < 0.8
        yield Sent(
            now,
            LinesShipped(
                id=f"shipped/{shipment_id}",
                occurred_at=now,
                shipment_id=shipment_id,
                order_id=order_id,
                lines=tuple(ShippedLine(line_no=line_no, quantity=units) for line_no, units in sorted(lines.items())),
                carrier="Parcel Post" if known else None,
                tracking_number=f"PP-{shipment_id}" if known else None,
                tracking_url=f"https://carrier.example.org/{shipment_id}" if known else None,
            ),
        )
        if chance.random() < 0.9:  # some carriers never say
            at = now + timedelta(days=chance.uniform(0.8, 4))
            yield Sent(
                at,
                LinesDelivered(
                    id=f"delivered/{shipment_id}",
                    occurred_at=at,
                    shipment_id=shipment_id,
                    order_id=order_id,
                    delivered_at=at - timedelta(minutes=20),
                ),
            )
