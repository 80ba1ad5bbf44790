"""The bytes of loaded events as SQL: those of the service's own messages, with columns in place of what differs."""

from datetime import UTC, datetime

from backorder_schemas import BackorderCreated, SkuAvailability

LOCATION = "main"
EPOCH = 1
MOMENTS = [datetime(1900, 1, day, tzinfo=UTC) for day in (1, 2)]
NUMBER = 987654321


def created() -> str:
    """SQL of the bytes of BackorderCreated, of columns order_id, pool_id, placed_at and promised_at."""
    sample = BackorderCreated(
        id="<id>",
        occurred_at=MOMENTS[0],
        version=1,
        epoch=EPOCH,
        caused_by="<order>/placed",
        order_id="<order>",
        customer_id="customer-of-<order>",
        line_no=1,
        sku="<sku>",
        location=LOCATION,
        quantity=1,
        quantity_waiting=1,
        quantity_ordered=1,
        quantity_allocated=0,
        kind="backorder",
        reason="ordered",
        promised_at=MOMENTS[1],
    )
    return _as_sql(
        sample.model_dump_json(),
        {
            "<id>": "md5('event' || order_id)::uuid",
            "<order>": "order_id",
            "<sku>": "'SKU-' || pool_id",
            _text(MOMENTS[0]): _moment("placed_at"),
            _text(MOMENTS[1]): f"coalesce({_moment('promised_at')}, 'null')",
        },
    )


def shown(waiting: int, next_at: datetime | None, now: datetime, batch: str) -> str:
    """SQL of the bytes of SkuAvailability, of columns pool_id, v and those of `batch`."""
    sample = SkuAvailability(
        id="<id>",
        occurred_at=now,
        version=NUMBER,
        epoch=EPOCH,
        caused_by="planner:<number>",
        sku="<sku>",
        location=LOCATION,
        status="backorder",
        available=0,
        waiting=waiting,
        next_promise_at=next_at,
    )
    return _as_sql(
        sample.model_dump_json(),
        {
            "<id>": "md5('shown' || pool_id || '/' || v)::uuid",
            str(NUMBER): "v + 1",
            "<number>": f"{batch} + 1",
            "<sku>": "'SKU-' || pool_id",
        },
    )


def _as_sql(text: str, parts: dict[str, str]) -> str:
    """A text as SQL, with expressions in place of parts of it."""
    quoted = text.replace("'", "''")
    for part, expression in parts.items():
        if part not in quoted:
            raise ValueError(f"{part} is not in {text}")
        quoted = quoted.replace(part, f"' || ({expression}) || '")
    return f"'{quoted}'"


def _text(moment: datetime) -> str:
    """A moment in JSON, with its quotes, as our messages have it."""
    return f'"{moment.isoformat().replace("+00:00", "Z")}"'


def _moment(expression: str) -> str:
    """SQL of that."""
    return f"""'"' || to_char({expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '"'"""


def literal(moment: datetime) -> str:
    return f"'{moment.isoformat()}'::timestamptz"
