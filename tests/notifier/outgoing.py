"""Messages as channels get them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from backorder_notifier.channel import Outgoing, Recipient
from backorder_notifier.content import Content, ContentLine

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
PHONE = "+4915112345678"

ADA = Recipient(
    customer_id="c-7",
    email="ada@example.org",
    phone=PHONE,
    name="Ada Lovelace",
    locale="de",
    timezone="Europe/Berlin",
    unsubscribe_token="canary-token-of-22-char",
)
LINE = ContentLine(
    line_no=1,
    sku="PHONE-X",
    title="Phone “X” für dich",
    ordered=15,
    waiting=5,
    ready=10,
    expected=datetime(2026, 12, 1, tzinfo=UTC),
    created=5,
)
CONTENT = Content(kind="backorder_created", order_id="1001", order_url="https://shop.example/o", lines=(LINE,))


def outgoing(**changes: Any) -> Outgoing:
    return replace(
        Outgoing(
            delivery_id=UUID("6f2d3c7e-9f5e-5a55-8a3c-0d7c3f1b2a10"),
            message_id=UUID("11111111-2222-5333-8444-555555555555"),
            order_id="1001",
            content=Content(
                kind="backorder_created", order_id="1001", order_url="https://shop.example/o", lines=(LINE,)
            ),
            recipient=ADA,
            about=("shop-1/orders/1001/placed",),
            composed_at=NOW,
        ),
        **changes,
    )
