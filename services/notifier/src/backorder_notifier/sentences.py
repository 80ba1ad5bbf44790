"""What was decided, tried and waited for, in plain sentences for the people who answer customers."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from backorder_notifier.reasons import REASONS

KIND: Final[Mapping[str, str]] = {
    "allocation_revoked": "stock that was theirs is lost",
    "backorder_rejected": "units are refused",
    "backorder_cancelled": "waiting units are cancelled",
    "shipped": "units are on their way",
    "backorder_filled": "waiting units got stock",
    "backorder_created": "units begin to wait",
    "promise_missed": "the promised date has passed",
    "promise_changed": "the promised date moved",
    "delivered": "a shipment was delivered",
    "promise_approaching": "the promised date comes near",
    "feedback_request": "everything was delivered: how was it?",
}

MORE_REASONS: Final[Mapping[str, str]] = {
    "earlier_release": "It was told before this release was installed.",
    "telling_failed": "Deciding failed, which is a bug: see telling_failed in the log. It is tried again each minute.",
    "newer_message": "A newer message says how things stand.",
    "resent": "Somebody had it told anew (`resend`).",
    "domain waits": "The mail servers of this domain asked us to wait.",
    "sender lost": "The process that sent it never said what became of it; it may have been accepted.",
}
"""Beside those of decisions: why a delivery has its state."""

OUTCOME: Final[Mapping[str, str]] = {
    "sent": "accepted",
    "later": "put off",
    "never": "refused for good",
    "ambiguous": "in doubt: the connection was lost when it may have been accepted already",
    "unreachable": "the provider could not be reached",
}


def moment(at: datetime) -> str:
    """To the second, in UTC."""
    return at.astimezone(UTC).isoformat(" ", timespec="seconds").replace("+00:00", "Z")


def day(text: str | None) -> str:
    return "no date is known" if text is None else f"promised {text[:10]}"


def of_kind(kind: str | None) -> str:
    return KIND.get(kind or "", "nothing that customers are told")


def of_reason(reason: str | None) -> str | None:
    """Why something was decided so, or is in its state; what a provider said as it said it, in codes."""
    if reason is None:
        return None
    return REASONS.get(reason) or MORE_REASONS.get(reason) or f"The provider's answer: {reason}."


def of_event(event: Mapping[str, Any], kind: str | None) -> str:
    """One event in words: "5 of 15 units begin to wait; promised 2026-11-20"."""
    match event.get("type"):
        case "BackorderCreated":
            units = f"{event['quantity']} of {event['quantity_ordered']} units"
            begins = "lost their stock and wait again" if event["reason"] == "stock_lost" else "begin to wait"
            return f"{units} {begins}; {day(event.get('promised_at'))}"
        case "BackorderFilled":
            held = {"complete": ", held until the order is complete", "preorder": ", held until the release date"}
            rest = f"; {event['quantity_waiting']} still wait"
            return f"{event['quantity']} units got stock{held.get(event.get('held') or '', '')}{rest}"
        case "BackorderCancelled":
            return f"{event['quantity']} units cancelled by the {event['by']}; {event['quantity_waiting']} still wait"
        case "BackorderRejected":
            return f"{event['quantity']} units refused ({event['reason']})"
        case "PromiseChanged":
            before = event.get("previous_promised_at")
            was = f" instead of {before[:10]}" if before else ""
            return f"{day(event.get('promised_at'))}{was} ({event['cause']})"
        case "AllocationRevoked":
            return f"{event['quantity']} units must not ship after all ({event['reason']})"
        case "LinesShipped":
            units = ", ".join(f"line {line['line_no']}: {line['quantity']}" for line in event["lines"])
            return f"shipment {event['shipment_id']} left: {units}"
        case "LinesDelivered":
            return f"shipment {event['shipment_id']} arrived"
        case _:
            return of_kind(kind)


def of_delivery(channel: str, state: str, due_at: datetime, *, tried: bool, in_hand: bool, now: datetime) -> str:
    """How one message stands over one channel, without its reason."""
    match state:
        case "sent":
            return f"The provider of {channel} accepted it."
        case "failed":
            return "It failed for good."
        case "withheld":
            return "It was not sent."
        case "superseded":
            return "It was withdrawn before it was accepted."
        case _ if in_hand and due_at > now:
            return "It is being sent at this moment."
        case _ if due_at <= now:
            return "It is to be sent now."
        case _ if not tried:
            return f"It waits until {moment(due_at)}, when the quiet hours of {channel} are over."
        case _:
            return f"It is tried again at {moment(due_at)}."
