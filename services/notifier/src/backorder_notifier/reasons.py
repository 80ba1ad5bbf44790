"""Why customers are not told, or are told by something else: each code with the sentence that staff read."""

from collections.abc import Mapping
from typing import Final, Literal

NotNews = Literal["shipped_tells_it", "never_waited", "repeated", "more_than_ordered"]
"""Why an event is no news of any kind, as far as its order shows when it comes."""

Reason = (
    NotNews
    | Literal[
        "back_to_what_was_told",
        "before_start_at",
        "before_upgrade",
        "channel_not_chosen",
        "daily_cap",
        "forgotten",
        "invalid_email",
        "kind_off",
        "later_date",
        "no_email",
        "no_longer_waits",
        "no_phone",
        "not_booked_yet",
        "optional_kinds_off",
        "out_of_order",
        "same_day",
        "still_unknown",
        "suppressed",
        "told_already",
        "too_old",
        "too_small",
        "withdrawn",
    ]
)

REASONS: Final[Mapping[str, str]] = {
    "back_to_what_was_told": "The date moved and came back to the day the customer was told.",
    "before_start_at": "It happened before NOTIFIER_START_AT.",
    "before_upgrade": "It happened before the notifier was upgraded to the release that tells of such things.",
    "channel_not_chosen": "The customer chose other channels.",
    "daily_cap": "The customer got as many messages today as one customer may get.",
    "forgotten": "The customer's data was erased on request.",
    "invalid_email": "Mail can't go to the address of the customer.",
    "kind_off": "The shop does not send messages of this kind (NOTIFIER_KINDS_OFF).",
    "later_date": "A later change of the same line's date was decided in its place.",
    "more_than_ordered": "More units than were ordered, or a line that the order doesn't have.",
    "never_waited": "No unit of this order ever waited, so the shop's own messages tell of it.",
    "no_email": "There is no email address of the customer.",
    "no_longer_waits": "Nothing of this line waits any more, so its date is of no use.",
    "no_phone": "There is no phone number of the customer.",
    "not_booked_yet": "The event that says until when the lost units wait has not come yet (NOTIFIER_GAP_WAIT).",
    "optional_kinds_off": "The customer does not want optional messages.",
    "out_of_order": "It came after a later event of the order was applied, which says how the line stands since.",
    "repeated": "The same shipment or delivery was reported before.",
    "same_day": "It is the same calendar day where the customer lives.",
    "shipped_tells_it": "These units were shipped at once; the message about the shipment tells it.",
    "still_unknown": "The customer knows of no date, and there is none.",
    "suppressed": "The provider said that the address is dead, or a person put it on the list of suppressions.",
    "told_already": "Another event of the same cause told it.",
    "too_old": "It would have come too late to be of use (NOTIFIER_STALE_AFTER).",
    "too_small": "The date moved by less than is worth a message.",
    "withdrawn": "The message that told it was replaced before it was sent.",
    # superseded: the kind of the message that told the customer instead
    "allocation_revoked": "The message about lost stock says how the line stands.",
    "backorder_rejected": "The message about units that will not come says how the line stands.",
    "backorder_cancelled": "The message about the cancellation says how the line stands.",
    "shipped": "The message about the shipment says how the line stands.",
    "backorder_filled": "The message about units that arrived says how the line stands.",
    "backorder_created": "The message about the new backorder says how the line stands.",
    "promise_missed": "The message about the missed date says how the line stands.",
    "promise_changed": "The message about the new date says how the line stands.",
    "delivered": "The message about the delivery says how the line stands.",
    "promise_approaching": "The reminder says how the line stands.",
    "feedback_request": "The request for feedback came with it.",
}
"""Of every code that `updates.reason` may hold."""
