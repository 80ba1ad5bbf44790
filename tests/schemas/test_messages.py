"""The bounds of the contract, field by field, as a reader of a topic meets them."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from backorder_schemas import Customer, DeadLetter, OrderLine, OrderPlaced, encode
from backorder_schemas.examples import EXAMPLES
from backorder_schemas.topics import TOPIC_OF, Message
from tests.schemas.samples import EXAMPLE, MISSING, accepted, fields, line, read, refused

CONTACT_FIELDS = {"email", "phone", "name"}
OUTPUTS = [message for message in EXAMPLES if "version" in type(message).model_fields]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.type)
def test_every_field_but_those_that_may_be_left_out_is_needed(message: Message) -> None:
    for name, field in type(message).model_fields.items():
        if name == "type":
            assert refused(message.type, type=MISSING).reason == "unknown_type"
        elif field.is_required():
            for value in (MISSING, None):
                dead = refused(message.type, **{name: value})
                assert dead.reason == "invalid"
                assert dead.detail.startswith(f"{name}: ")
        else:
            rest = {"backorders": "allow"} if name == "release_at" else {}  # preorder alone needs it
            left_out = accepted(message.type, **rest, **{name: MISSING})
            null = accepted(message.type, **rest, **{name: None})
            assert left_out == null
            assert getattr(null, name) == field.default


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.type)
def test_messages_cannot_be_changed_and_can_be_keys(message: Message) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        message.id = "other"  # type: ignore[misc]
    assert len({message, message.model_copy()}) == 1


@pytest.mark.parametrize("quantity", ["15", 15.0, 1.5, True, 0, -1, 1_000_000_001, 10**30, None, [], {}])
def test_what_is_not_an_integer_in_bounds_is_not_a_quantity(quantity: Any) -> None:
    assert refused("StockReceived", quantity=quantity).reason == "invalid"
    assert refused("OrderPlaced", lines=[line(quantity=quantity)]).detail.startswith("lines.0.quantity: ")


@pytest.mark.parametrize("text", [b"15.0", b"1e1", b"1E1", b"9" * 5000, b"NaN", b"Infinity", b"-Infinity"])
def test_a_number_that_only_looks_like_a_quantity_is_refused(text: bytes) -> None:
    value = json.dumps(fields("StockCounted", counted=12345)).encode().replace(b"12345", text)
    result = read("StockCounted", value)
    assert isinstance(result, DeadLetter)
    assert result.reason == "invalid"


def test_bounds_of_quantities_themselves_are_accepted() -> None:
    assert accepted("StockReceived", quantity=1).quantity == 1
    assert accepted("StockReceived", quantity=1_000_000_000).quantity == 1_000_000_000
    assert accepted("StockCounted", counted=0).counted == 0
    assert accepted("StockAdjusted", delta=-1_000_000_000).delta == -1_000_000_000
    assert accepted("SkuPolicyChanged", waiting_limit=0, safety_stock=0).waiting_limit == 0
    assert refused("StockAdjusted", delta=0).detail == "delta: Input should not be 0"


def test_sums_over_many_lines_may_be_larger_than_a_quantity() -> None:
    assert accepted("SkuAvailability", available=5_000_000_000, waiting=2**63 - 1).available == 5_000_000_000
    assert accepted("StockShortfall", quantity=5_000_000_000).quantity == 5_000_000_000
    assert refused("SkuAvailability", waiting=2**63).reason == "invalid"


@pytest.mark.parametrize(
    "price", [12.5, 12, "12.", ".5", "1,5", "1e3", "-1", "+1", " 1", "1 ", "١", "0.1234567", "NaN", "", "1" * 13]
)
def test_what_is_not_a_plain_decimal_text_is_not_money(price: Any) -> None:
    assert refused("OrderPlaced", lines=[line(unit_price=price)]).detail.startswith("lines.0.unit_price: ")


def test_money_keeps_its_digits() -> None:
    for text in ("0", "0.00", "12.50", "0.000001", "999999999999.999999"):
        price = accepted("OrderPlaced", lines=[line(unit_price=text)]).lines[0].unit_price
        assert isinstance(price, Decimal)
        assert f"{price:f}" == text


def test_money_made_in_python_is_written_so_that_it_can_be_read() -> None:
    for amount, text in ((Decimal("1E+3"), "1000"), (Decimal("-0"), "0"), (Decimal("1E-6"), "0.000001")):
        made = OrderLine(line_no=1, sku="s", quantity=1, unit_price=amount)
        assert made.model_dump(mode="json")["unit_price"] == text
    wrong: tuple[Any, ...] = (Decimal("NaN"), Decimal(-1), Decimal("0.0000001"), Decimal("1E+12"), 1.5, "1.5")
    for refused_amount in wrong:
        with pytest.raises(ValidationError):
            OrderLine(line_no=1, sku="s", quantity=1, unit_price=refused_amount)


@pytest.mark.parametrize("currency", ["eur", "EU", "EURO", "€€€", "ΑΒΓ", 978])
def test_a_currency_is_three_capitals(currency: Any) -> None:
    assert refused("OrderPlaced", currency=currency).detail.startswith("currency: ")


@pytest.mark.parametrize(
    "moment",
    [
        1_700_000_000,
        1.7e9,
        "1700000000",
        "2026-11-02",
        "2026-11-02T09:00:00",
        "2026-11-02T09:00Z",
        "2026-11-02 09:00:00Z",
        "2026-11-02_09:00:00Z",
        "20261102T090000Z",
        "2026-11-02T09:00:00+0200",
        "2026-11-02T09:00:00+02",
        "2026-11-02T09:00:00 Z",
        " 2026-11-02T09:00:00Z",
        "2026-11-02T09:00:00Z\n",
        "2026-W45-1T09:00:00Z",
        "2026-02-30T09:00:00Z",
        "2026-11-02T24:00:00Z",
        "2026-11-02T09:00:60Z",
        "2026-11-02T09:00:00+24:00",
        "2026-11-02T09:00:00.1234567890Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "٢٠٢٦-11-02T09:00:00Z",
        "Mon, 02 Nov 2026 09:00:00 GMT",
        "",
    ],
)
def test_what_is_not_an_rfc_3339_moment_with_a_zone_is_refused(moment: Any) -> None:
    dead = refused("OrderPlaced", placed_at=moment)
    assert (dead.reason, dead.detail.split(":")[0]) == ("invalid", "placed_at")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-02T09:00:00Z", datetime(2026, 11, 2, 9, tzinfo=UTC)),
        ("2026-11-02t09:00:00z", datetime(2026, 11, 2, 9, tzinfo=UTC)),
        ("2026-11-02T09:00:00-00:00", datetime(2026, 11, 2, 9, tzinfo=UTC)),
        ("2026-11-02T09:00:00+02:00", datetime(2026, 11, 2, 7, tzinfo=UTC)),
        ("2026-11-02T00:30:00+14:00", datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
        ("2026-11-02T09:00:00.123456789Z", datetime(2026, 11, 2, 9, 0, 0, 123456, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00-23:59", datetime(1, 1, 1, 23, 59, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999+23:59", datetime(9999, 12, 31, 0, 0, 59, 999999, tzinfo=UTC)),
    ],
)
def test_moments_are_read_into_utc(text: str, moment: datetime) -> None:
    placed_at = accepted("OrderPlaced", placed_at=text).placed_at
    assert placed_at == moment
    assert placed_at.tzinfo is UTC


def test_moments_made_in_python_need_a_zone_and_are_written_in_utc() -> None:
    order = EXAMPLE["OrderPlaced"]
    kept = {name: getattr(order, name) for name in type(order).model_fields}
    in_tokyo = datetime(2026, 11, 2, 18, tzinfo=timezone(timedelta(hours=9)))
    made = OrderPlaced(**{**kept, "placed_at": in_tokyo})
    assert made.placed_at.tzinfo is UTC
    assert b'"placed_at":"2026-11-02T09:00:00Z"' in encode(made, source="/shop").value
    late = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2)))
    for wrong in (datetime(2026, 11, 2), late, "2026-11-02T09:00:00Z", 0):  # noqa: DTZ001
        with pytest.raises(ValidationError):
            OrderPlaced(**{**kept, "placed_at": wrong})


@pytest.mark.parametrize("name", ["id", "order_id"])
@pytest.mark.parametrize(
    "text", ["", "x" * 201, "a\x00b", "a\nb", "a\x7fb", "a\x85b", "\ud800", "a\udfff", 17, None, ["a"]]
)
def test_what_is_not_1_to_200_characters_without_controls_is_not_an_id(name: str, text: Any) -> None:
    assert refused("OrderPlaced", **{name: text}).reason == "invalid"


def test_ids_may_be_any_other_text() -> None:
    for text in (" ", "x" * 200, "日本語", "👩‍👩‍👧‍👦" * 20, "a:b/c", "Ω\u2028"):
        assert accepted("OrderPlaced", order_id=text).order_id == text


def test_a_location_has_no_colon_and_a_sku_may() -> None:
    assert accepted("StockReceived", sku="a:b").sku == "a:b"
    assert refused("StockReceived", location="a:b").detail.startswith("location: ")
    assert refused("SkuAvailability", location="a:b").detail.startswith("location: ")


def test_defaults_are_those_of_the_contract() -> None:
    order = accepted("OrderPlaced", customer={"customer_id": "c"}, delivery=MISSING, order_url=MISSING, lines=[line()])
    assert order.customer == Customer(customer_id="c", segment="standard", locale="en", timezone="UTC")
    assert (order.delivery, order.lines[0].location, order.lines[0].accepts_backorder) == ("split", "main", True)
    nulls = {"segment": None, "email": None, "phone": None, "name": None, "locale": None, "timezone": None}
    with_nulls = accepted(
        "OrderPlaced",
        customer={"customer_id": "c", **nulls},
        delivery=None,
        order_url=None,
        lines=[line(location=None, accepts_backorder=None)],
    )
    assert with_nulls == order


def test_lines_of_an_order_are_1_to_1000_with_numbers_of_their_own() -> None:
    lines = [line(line_no=number) for number in range(1, 1001)]
    assert len(accepted("OrderPlaced", lines=lines).lines) == 1000
    assert refused("OrderPlaced", lines=[*lines, line(line_no=1001)]).detail.startswith("lines: ")
    assert refused("OrderPlaced", lines=[]).detail.startswith("lines: ")
    assert refused("OrderPlaced", lines=[line(), line()]).detail == "lines: line_no should be unique in the order"
    assert refused("OrderPlaced", lines=[line(line_no=0)]).detail.startswith("lines.0.line_no: ")
    for wrong in ({"0": line()}, "lines", line(), [[line()]], [None]):
        assert refused("OrderPlaced", lines=wrong).reason == "invalid"


def test_a_cancel_without_lines_is_of_the_whole_order_and_an_empty_list_is_a_mistake() -> None:
    assert accepted("OrderCancelled", lines=None).lines is None
    assert accepted("OrderCancelled", lines=[{"line_no": 2}]).lines[0].quantity is None
    assert refused("OrderCancelled", lines=[]).detail.startswith("lines: ")
    assert refused("OrderCancelled", by="nobody").detail == "by: Input should be 'customer' or 'shop'"


def test_a_preorder_needs_its_release_date() -> None:
    for release_at in (None, MISSING):
        dead = refused("SkuPolicyChanged", backorders="preorder", release_at=release_at)
        assert dead.detail == "message: release_at is needed where backorders is preorder"
    assert accepted("SkuPolicyChanged", backorders="allow", release_at=None).release_at is None


@pytest.mark.parametrize("phone", ["030 1234", "+0301234", "+491511234567890123", "0049151", "+49-151"])
def test_a_phone_number_is_e164(phone: str) -> None:
    assert refused("ContactChanged", phone=phone).detail.startswith("phone: ")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "ftp://x", "https://x y", 'https://x"y', "https://", "//x", "https://a\nb"]
)
def test_an_url_is_one_that_a_mail_may_show(url: str) -> None:
    assert refused("OrderPlaced", order_url=url).detail.startswith("order_url: ")
    assert refused("LinesShipped", tracking_url=url).detail.startswith("tracking_url: ")


def test_texts_for_people_may_have_lines_but_never_nul() -> None:
    assert accepted("StockAdjusted", reason="wet\nbroken").reason == "wet\nbroken"
    assert refused("StockAdjusted", reason="a\x00").detail.startswith("reason: ")
    assert refused("ContactChanged", name="a\nb").detail.startswith("name: ")  # a name goes into headers of mails


@pytest.mark.parametrize("message", OUTPUTS, ids=lambda message: message.type)
def test_no_message_out_carries_contact_data(message: Message) -> None:
    names = set(type(message).model_fields)
    assert not names & CONTACT_FIELDS
    assert {"version", "epoch", "caused_by"} <= names
    assert ("customer_id" in names) == (TOPIC_OF[type(message)].name in {"allocations", "backorders", "notifications"})


@pytest.mark.parametrize("message", OUTPUTS, ids=lambda message: message.type)
def test_versions_and_epochs_begin_at_1(message: Message) -> None:
    for name in ("version", "epoch"):
        assert refused(message.type, **{name: 0}).detail.startswith(f"{name}: ")


def test_python_code_may_give_lists_and_gets_tuples() -> None:
    order = EXAMPLE["OrderPlaced"]
    kept = {name: getattr(order, name) for name in type(order).model_fields}
    assert OrderPlaced(**{**kept, "lines": list(kept["lines"])}) == order


def test_unknown_fields_are_ignored_everywhere() -> None:
    content = fields("OrderPlaced", colour="red", nested={"a": [1, {"b": None}]})
    content["customer"]["vip"] = True
    content["lines"][0]["gift"] = {"wrap": "red"}
    assert accepted("OrderPlaced", **content) == EXAMPLE["OrderPlaced"]
