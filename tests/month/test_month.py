"""A month of purchases, some thousand lines of them: what customers are told never contradicts what happened."""

from contextlib import AsyncExitStack
from datetime import timedelta

from tests.conftest import Databases
from tests.month import purchases
from tests.month.__main__ import run

SEED = 11  # with moves too small to be told, and customers who want nothing optional


async def test_over_a_month_everything_told_is_true_and_everything_that_happened_is_decided(
    postgres: Databases,
) -> None:
    month = purchases.read(None, lines=120_000, seed=SEED, share=0.014)
    assert month.end - month.start > timedelta(days=25)
    async with AsyncExitStack() as stack:
        outcome = await run(postgres, month, SEED, timedelta(hours=2), stack)
        assert dict(outcome.checked.broken) == {}
        assert outcome.problems == []
        told = {message.kind for message in outcome.told if message.sent}
        assert told >= {"backorder_created", "backorder_filled", "promise_changed", "shipped", "delivered"}
        assert outcome.states["pending", None] == 0
        assert outcome.checked.looked.keys() >= {
            "the date told is the promised one",
            "the old date told is the one told last",
            "a mail's text says what waits, and until when",
            "in the end a customer knows what waits",
            "in the end a customer knows until when",
            "who wants no optional messages gets none",
        }
