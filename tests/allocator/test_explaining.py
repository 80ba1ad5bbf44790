"""`explain` counts exactly who waits ahead, however the queue is spread over days."""

import asyncpg

from backorder_allocator.explaining import explain
from tests.allocator.stored_shop import HOUR, StoredShop, day, line

MIDNIGHT = day(0) - 9 * HOUR


async def test_all_who_wait_ahead_are_counted_from_any_day_and_in_any_zone_of_the_session(
    connection: asyncpg.Connection,
) -> None:
    shop = StoredShop(connection)
    shop.now = day(8)
    hours = (0, 0, 1, 23, 24, 24, 25, 47, 48, 72, 73, 100)
    placed = [
        shop.order(
            str(number),
            line(1, 1 + number % 3),
            line(2, 2),
            line(3, 1, "Y"),
            segment="gold" if number % 4 == 3 else "standard",
            placed_at=MIDNIGHT + hour * HOUR,
        )
        for number, hour in enumerate(hours)
    ]
    await shop.send(*placed, shop.receipt("r", 4), shop.receipt("all of Y but one", 11, "Y"), shop.cancel("7", (1, 1)))
    waiting = await connection.fetch(
        "SELECT * FROM lines WHERE quantity_waiting > 0 ORDER BY pool_id, ranked_at, order_id, line_no"
    )
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        await connection.execute(f"SET timezone = '{zone}'")
        for number in range(len(hours)):
            for told in (await explain(connection, str(number)) or {})["lines"]:
                at = [(row["order_id"], row["line_no"]) for row in waiting]
                name = (str(number), told["line_no"])
                if name not in at:
                    assert (told["lines_ahead"], told["units_ahead"]) == (None, None)
                    continue
                place = at.index(name)
                ahead = [row for row in waiting[:place] if row["pool_id"] == waiting[place]["pool_id"]]
                units = sum(row["quantity_waiting"] for row in ahead)
                assert (told["lines_ahead"], told["units_ahead"]) == (len(ahead), units)
