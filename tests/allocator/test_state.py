"""Rows as values: a copy has every field and shares none that is changed in place."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from backorder_allocator.promises import Lead
from backorder_allocator.state import FulfilmentKey, Line, Order, Policy, Pool, PoolKey, State, Supply, SupplyKey

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
POOL = PoolKey("PHONE-X", "berlin")
LINE = Line(
    (NOON, "1001", 2), POOL, 9, 1, 2, 3, 3, 1, ((1, 1),), NOON, NOON - timedelta(days=1), Lead(3, NOON)
)  # fmt: skip
ORDER = Order(
    "1001", NOON, NOON, timedelta(1), "gold", "complete", "c-1", b"f", 1, 2, 3, NOON, True, {2: LINE}
)  # fmt: skip
ROWS: dict[str, Pool | Supply | Line | Order] = {
    "pool": Pool(POOL, 1, 2, 1, 3, NOON, Policy(revision=4), 5, True, True, True, frozenset({"stock_lost"})),
    "supply": Supply(SupplyKey("s", "PHONE-X"), 1, POOL, 2, 1, NOON, NOON, "maker", True, True, b"f"),
    "line": LINE,
    "order": ORDER,
}


@pytest.mark.parametrize("what", ROWS)
def test_a_copy_of_a_row_has_all_of_it(what: str) -> None:
    row = ROWS[what]
    left_out = {"early_cancels", "early_shipments"}  # of stubs, which have nothing else
    for each in fields(row):
        assert getattr(row, each.name) or each.name in left_out, f"{each.name} is as if it had been left out"
    assert row.copy() == row
    assert row.copy() is not row


def test_what_is_done_to_a_copy_of_a_state_leaves_the_state_as_it_is() -> None:
    key = FulfilmentKey("shipped", "s-1", "1001")
    state = State({POOL: Pool(POOL, waiting=3)}, {"1001": ORDER.copy()}, fulfilments={key: b"f"})
    copy = state.copy()
    copy.pools[POOL].waiting += 1
    copy.orders["1001"].lines[2].waiting += 1
    copy.orders["1001"].lines[3] = LINE
    copy.fulfilments.clear()
    assert (state.pools[POOL].waiting, state.orders["1001"].lines) == (3, {2: LINE})
    assert state.fulfilments == {key: b"f"}
