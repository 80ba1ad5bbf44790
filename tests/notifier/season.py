"""A season in which everything happens to some order, for commands and the audit to look at."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from backorder_notifier import privacy, store
from backorder_notifier.channel import Answer
from backorder_notifier.intake import take_batch
from backorder_notifier.policy import Policy
from backorder_schemas import OrderPlaced
from tests.notifier.messages import (
    NOON,
    cancelled,
    contact_changed,
    created,
    delivered,
    filled,
    line,
    moved,
    placed,
    rejected,
    released,
    revoked,
    shipped,
)
from tests.notifier.shop import Shop

DAY = timedelta(days=1)
POLICY = Policy(channels=("email", "sms", "webhook"))
PROMISED = NOON + 10 * DAY


async def a_season(connection: asyncpg.Connection) -> Shop:
    """Runs until the shop's `now`, some weeks after NOON. What each order lived through is in its id."""
    shop = Shop(connection, POLICY)
    await _told(shop)
    await _not_reached(shop)
    await _gone(shop)
    await _waiting(shop)
    await store.take_lease(connection, "relay", UUID(int=7), shop.now, shop.now + timedelta(minutes=1))
    return shop


async def _told(shop: Shop) -> None:
    """From the first wait to the request for feedback; dates that came back or hardly moved; stock that was lost."""
    for name in ("whole", "back", "lost", "rejected", "copied"):
        await _comes(
            shop,
            placed(name, customer={"customer_id": f"c-{name}"}, email=f"{name}@example.org"),
            created(name, promised_at=PROMISED) if name != "rejected" else rejected(name),
        )
    await _comes(shop, released("whole"), released("lost"))
    await _goes_out(shop)
    shop.waits(days=1)
    await _comes(
        shop,
        moved("whole", promised_at=PROMISED + DAY, previous_promised_at=PROMISED),
        moved("back", promised_at=PROMISED + 5 * DAY, previous_promised_at=PROMISED),
        moved("back", version=3, promised_at=PROMISED, previous_promised_at=PROMISED + 5 * DAY),
        revoked("lost", caused_by="count"),
        created("lost", version=2, reason="stock_lost", quantity_waiting=10, quantity_allocated=5, caused_by="count"),
    )
    await _goes_out(shop)
    await _goes_out(shop, after=timedelta(hours=5))
    await _comes(shop, moved("whole", version=3, promised_at=PROMISED + 4 * DAY, previous_promised_at=PROMISED + DAY))
    await _goes_out(shop, after=timedelta(hours=5))
    await _comes(shop, filled("whole", version=4))
    await _goes_out(shop)
    await _comes(shop, released("whole", version=2, units={1: 5}), shipped("whole"))
    await _goes_out(shop)
    await _comes(shop, delivered("whole", delivered_at=shop.now, occurred_at=shop.now))
    await _goes_out(shop)
    shop.waits(days=6)
    await _goes_out(shop)


async def _not_reached(shop: Shop) -> None:
    """An address that is dead, none at all, one that the provider puts off, and a customer who wants no reminders."""
    await _comes(shop, placed("refused", customer={"customer_id": "c-refused"}, email="dead@example.org"))
    await _comes(shop, created("refused", promised_at=shop.now + 30 * DAY))
    shop.senders["email"].answers.append(Answer("never", "smtp 550 5.1.1", suppress=True))
    await _goes_out(shop)
    await _comes(shop, placed("nobody", customer={"customer_id": "c-nobody"}, email=None), created("nobody"))
    await _comes(shop, placed("off", customer={"customer_id": "c-off"}, email="off@example.org"))
    await _comes(shop, contact_changed("c-off", optional_kinds=False), created("off", promised_at=shop.now + 3 * DAY))
    await _goes_out(shop)
    shop.waits(days=2)
    await _goes_out(shop)


async def _gone(shop: Shop) -> None:
    """A customer who was forgotten, and one whose order was cancelled."""
    await _comes(shop, placed("erased", customer={"customer_id": "c-erased"}, email="erased@example.org"))
    await _comes(shop, created("erased"))
    await _goes_out(shop)
    await privacy.forget(shop.connection, "c-erased", shop.now)
    await _comes(shop, placed("cancelled", customer={"customer_id": "c-cancelled"}, email="cancelled@example.org"))
    await _comes(shop, created("cancelled"), cancelled("cancelled"))
    await _goes_out(shop)


async def _waiting(shop: Shop) -> None:
    """News that waits for more, for an OrderPlaced or for an earlier version; a mail that is put off; quiet hours."""
    tokyo = {"customer_id": "c-night", "phone": "+819012345678", "timezone": "Asia/Tokyo"}
    await _comes(shop, placed("night", customer=tokyo, email="night@example.org"), created("night"))
    await _comes(shop, contact_changed("c-night", channels=("email", "sms")))
    await _goes_out(shop)
    shop.now = datetime.combine(shop.now.date() + DAY, NOON.timetz())
    await _comes(shop, filled("night"))
    await shop.decides()
    await shop.sends()
    await _comes(
        shop, placed("later", customer={"customer_id": "c-later"}, email="later@slow.example"), created("later")
    )
    await shop.decides()
    shop.senders["email"].answers.append(Answer("later", "smtp 451 4.3.0", whole_domain=True))
    await shop.sends()
    await _comes(shop, created("unplaced"), created("gap", version=1), filled("gap", version=3))
    await _comes(shop, placed("pending", customer={"customer_id": "c-pending"}, lines=(line(), line(2))))
    await _comes(shop, created("pending", promised_at=shop.now + 30 * DAY))
    await _goes_out(shop)
    await _comes(shop, moved("pending", promised_at=shop.now + 40 * DAY, previous_promised_at=shop.now + 30 * DAY))
    contact = b'{"type": "OrderPlaced", "customer": {"email": "letter@example.org", "name": "Ada"}, "sku": "X"}'
    await take_batch(shop.connection, [shop.log.raw("orders", b"k", contact)], shop.now, shop.policy)


async def _comes(shop: Shop, *messages: Any) -> None:
    """Messages that were sent just now."""
    now = shop.now
    for message in messages:
        placed_at = {"placed_at": now} if isinstance(message, OrderPlaced) else {}
        await shop.comes(message.model_copy(update={"occurred_at": now, **placed_at}))


async def _goes_out(shop: Shop, after: timedelta = timedelta(seconds=10)) -> None:
    await shop.decides(after=after)
    await shop.sends()
