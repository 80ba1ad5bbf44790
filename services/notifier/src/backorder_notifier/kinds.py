"""The kinds of messages to customers, and the channels they go over."""

from typing import Final, Literal, get_args

Kind = Literal[
    "allocation_revoked",
    "backorder_rejected",
    "backorder_cancelled",
    "shipped",
    "backorder_filled",
    "backorder_created",
    "promise_missed",
    "promise_changed",
    "delivered",
    "promise_approaching",
    "feedback_request",
]
Channel = Literal["email", "sms", "webhook"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""By weight: what concerns one order becomes one message, and the heaviest news gives it its kind."""

CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)

OPTIONAL: Final[frozenset[Kind]] = frozenset({"delivered", "promise_approaching", "feedback_request"})
"""What a customer may switch off. The others tell of the contract itself: what comes, when, and what will not."""
