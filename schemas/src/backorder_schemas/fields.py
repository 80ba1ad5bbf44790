"""The types that fields of messages are made of: one name for each rule, so a model reads like the contract.

The rules live in pydantic's compiled core: what a hot message needs costs no Python call.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

# Explicit ranges rather than \p{Cc} and \d: the same text must mean the same in Rust, Python and JavaScript.
CONTROL = r"\x00-\x1f\x7f-\x9f"
RFC3339 = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
MONEY = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"

MAX_QUANTITY = 1_000_000_000
MAX_LINES = 1_000
MAX_TOTAL = 2**63 - 1  # what a bigint holds
MAX_DAYS = 36_500

# Labels of the branches of a union below. They appear in error locations, where the codec drops them.
VALUE, NULL = "<value>", "<null>"


def _type_is_required(schema: dict[str, Any]) -> None:
    # The default of `type` is for Python code; on the wire a value explains itself.
    if "type" in schema["properties"]:
        schema["required"] = ["type", *schema.get("required", ())]


class Model(BaseModel):
    """Base of all messages and their parts: immutable, strict, unknown fields ignored, no input in error texts."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", hide_input_in_errors=True, json_schema_extra=_type_is_required
    )


def _to_utc(moment: datetime) -> datetime:
    # 9999-12-31T23:59:59-01:00 has no name in UTC: the OverflowError becomes the error of the rule below.
    return moment.astimezone(UTC)


class _TimestampRule:
    """RFC 3339 text ↔ aware datetime in UTC. Digits finer than a microsecond are cut."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        # Into datetime.UTC even where pydantic's own zone is at UTC: comparing such dates costs a tenth.
        moment = core_schema.no_info_after_validator_function(
            _to_utc, core_schema.datetime_schema(tz_constraint="aware", strict=False)
        )
        return core_schema.custom_error_schema(
            core_schema.json_or_python_schema(
                json_schema=core_schema.chain_schema([core_schema.str_schema(pattern=RFC3339), moment]),
                python_schema=core_schema.chain_schema([core_schema.is_instance_schema(datetime), moment]),
            ),
            custom_error_type="timestamp",
            custom_error_message="Input should be an RFC 3339 date and time with a zone, in the years 1 to 9999 of UTC",
        )

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time", "pattern": RFC3339}


def _plain(amount: Decimal) -> str:
    # str(Decimal("1E+3")) is "1E+3" and Decimal("-0") has a sign: no reader of ours takes either.
    return f"{abs(amount):f}"


class _MoneyRule:
    """A decimal text such as "12.50" ↔ Decimal: not negative, at most 12 digits before and 6 after the point."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.chain_schema(
                [core_schema.str_schema(pattern=MONEY), core_schema.decimal_schema(strict=False)]
            ),
            python_schema=core_schema.decimal_schema(strict=True, ge=Decimal(0), max_digits=18, decimal_places=6),
            serialization=core_schema.plain_serializer_function_ser_schema(_plain, when_used="json"),
        )

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": MONEY}


@dataclass(frozen=True, slots=True)
class NullMeans:
    """An optional field with a default other than null: `null` is the same as leaving the field out."""

    default: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        default = self.default
        null = core_schema.chain_schema(
            [core_schema.none_schema(), core_schema.no_info_plain_validator_function(lambda _: default)]
        )
        return core_schema.union_schema([(handler(source), VALUE), (null, NULL)], mode="left_to_right")

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        (value, _label), _null = core["choices"]
        return {"anyOf": [handler(value), {"type": "null"}]}


def _text(max_length: int, pattern: str, min_length: int = 1) -> Any:
    return Field(min_length=min_length, max_length=max_length, pattern=pattern)


Id = Annotated[str, _text(200, rf"^[^{CONTROL}]+$")]
Location = Annotated[str, _text(200, rf"^[^{CONTROL}:]+$")]
Text = Annotated[
    str, _text(1000, r"^[^\x00]+$")
]  # for people: may have line breaks, never NUL, which PostgreSQL refuses
Url = Annotated[str, _text(2000, rf'^https?://[^{CONTROL} <>"]+$')]
Currency = Annotated[str, _text(3, r"^[A-Z]{3}$", 3)]
Email = Annotated[str, _text(320, rf"^[^{CONTROL}]+$")]  # whether it can be delivered to is the notifier's business
Phone = Annotated[str, _text(16, r"^\+[1-9][0-9]{1,14}$", 3)]
PersonName = Annotated[str, _text(500, rf"^[^{CONTROL}]+$")]
Locale = Annotated[str, _text(35, r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$", 2)]
Timezone = Annotated[str, _text(64, r"^[A-Za-z][A-Za-z0-9_+/-]*$")]
Word = Annotated[str, _text(50, r"^[a-z][a-z0-9_]*$")]

Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
QuantityOrZero = Annotated[int, Field(ge=0, le=MAX_QUANTITY)]
Delta = Annotated[int, Field(ge=-MAX_QUANTITY, le=MAX_QUANTITY)]
Total = Annotated[int, Field(ge=0, le=MAX_TOTAL)]  # a sum over many lines
Counter = Annotated[int, Field(ge=1, le=MAX_TOTAL)]  # version, epoch, revision, release_no
LineNo = Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
Days = Annotated[int, Field(ge=0, le=MAX_DAYS)]
Money = Annotated[Decimal, _MoneyRule()]
Timestamp = Annotated[datetime, _TimestampRule()]

# Python code may give a list for a tuple (not strict); from JSON there are only arrays. The first wrong item ends the
# search (fail_fast): 1 MiB of `{},{},…` would have a million errors to tell.
Ids = Annotated[tuple[Id, ...], Strict(False), Field(fail_fast=True, max_length=MAX_LINES)]
Words = Annotated[tuple[Word, ...], Strict(False), Field(fail_fast=True, max_length=50)]

By = Literal["customer", "shop"]
