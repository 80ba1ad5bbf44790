"""Decisions, policies and dates in words, as `queue`, `explain` and `what-if` say them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backorder_allocator.promises import Promise, in_utc
from backorder_allocator.state import Policy, Pool

MISMATCH = {
    "not_released": "that were held",
    "not_allocated": "that waited",
    "cancelled": "that were cancelled",
    "rejected": "that were rejected",
}
"""What the warehouse shipped of its own accord."""


def moment(at: datetime | str) -> str:
    """A moment to the minute; those of messages come as texts."""
    at = in_utc(datetime.fromisoformat(at) if isinstance(at, str) else at)
    return at.isoformat(" ", timespec="minutes").replace("+00:00", "Z")


def of_policy(pool: Pool, now: datetime) -> str:
    """How a SKU is sold at a location: "units may wait; at most 5 at a time; safety stock 2"."""
    policy = pool.policy
    said = ["no unit may wait" if policy.backorders == "deny" else "units may wait"]
    if policy.backorders == "preorder" and policy.release_at is not None:
        is_on = pool.takes_preorders(now)
        said = [f"{'pre-order' if is_on else 'units may wait; it was a pre-order'} until {moment(policy.release_at)}"]
    if policy.backorders != "deny":
        said += _limits(policy)
    if pool.safety_stock:
        said.append(f"safety stock {pool.safety_stock}")
    if policy.low_stock_at is not None:
        said.append(f"low from {policy.low_stock_at} on")
    if policy.substitutes:
        said.append(f"instead: {', '.join(policy.substitutes)}")
    by = f"revision {policy.revision}" if policy.revision else "by default"
    return f"{'; '.join(said)} ({by})"


def _limits(policy: Policy) -> list[str]:
    said = []
    if policy.waiting_limit is not None:
        said.append(f"at most {policy.waiting_limit} at a time")
    if policy.max_wait_days is not None:
        said.append(f"at most {counted(policy.max_wait_days, 'day')}")
    if policy.default_lead_time_days is not None:
        said.append(f"lead time {counted(policy.default_lead_time_days, 'day')}")
    return said


def counted(number: int, unit: str) -> str:
    """A number of things: "1 day", "2 days"."""
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def of_event(value: Mapping[str, Any], why: Mapping[str, Any] | None) -> str:
    """One event in words, with what bound the decision."""
    why = why or {}
    match value["type"]:
        case "AllocationReleased":
            units = ", ".join(f"line {line['line_no']}: {line['quantity']}" for line in value["lines"])
            rest = "; nothing of the order waits or is held" if value["complete"] else ""
            return f"release {value['release_no']}: {units}{rest}"
        case "AllocationRevoked":
            of = "held units" if value["release_no"] is None else f"release {value['release_no']}"
            return f"{value['quantity']} of {of}: {value['reason']}"
        case "BackorderCreated":
            return _created(value, why)
        case "BackorderFilled":
            held = f", held ({value['held']})" if value["held"] else ""
            return f"{value['quantity']} filled{held}; {value['quantity_waiting']} still wait"
        case "BackorderCancelled":
            return f"{value['quantity']} cancelled by {value['by']}; {value['quantity_waiting']} still wait"
        case "BackorderRejected":
            return f"{value['quantity']} rejected: {value['reason']}{_bound_by(why)}"
        case "PromiseChanged":
            before = moment(value["previous_promised_at"]) if value["previous_promised_at"] else "no known date"
            return f"{_promised(value['promised_at'], why)} instead of {before}: {value['cause']}"
        case "ShipmentMismatch":
            return (
                f"shipment {value['shipment_id']} took {counted(value['quantity'], 'unit')} {MISMATCH[value['reason']]}"
            )
        case "LowStock":
            return f"{value['available']} available, low from {value['low_stock_at']} on"
        case other:
            return str(other)


def _created(value: Mapping[str, Any], why: Mapping[str, Any]) -> str:
    said = [
        f"{value['quantity']} begin to wait ({value['reason']}, {value['kind']})",
        f"{value['quantity_waiting']} of {value['quantity_ordered']} wait",
    ]
    if why.get("ahead") is not None:
        said.append(f"behind {counted(why['ahead'], 'unit')}")
    if why.get("safety_stock"):
        said.append(f"safety stock {why['safety_stock']}")
    return "; ".join([*said, _promised(value["promised_at"], why)])


def _promised(at: str | None, why: Mapping[str, Any]) -> str:
    if at is None:
        return "no date is known"
    leans = f" by {why['promised_by']}" if why.get("promised_by") else ""
    return f"promised {moment(at)}{leans}"


def _bound_by(why: Mapping[str, Any]) -> str:
    if "waiting_limit" in why:
        return f"; at most {why['waiting_limit']} may wait and {why['waiting']} did"
    if "max_wait_days" in why:
        would_be = f"it would be {moment(why['would_be_at'])}" if why["would_be_at"] else "no date is known"
        return f"; at most {counted(why['max_wait_days'], 'day')}, and {would_be}"
    return ""


def of_cause(kind: str, what: Any) -> str:
    """What a transaction worked on, as the journal has it."""
    match kind:
        case "batch":
            ranges = (f"{each['topic']}-{each['partition']} {_offsets(each)}" for each in what)
            return f"batch of {', '.join(ranges)}"
        case "redrive":
            return f"dead letter of {what['topic']}-{what['partition']} offset {what['offset']}, driven again"
        case "timer":
            subject = f"{what['supply_id']} of {what['subject']}" if what["supply_id"] else what["subject"]
            return f"timer {what['kind']} of {subject}, due {moment(what['due'])}"
        case "planner":
            pools = ", ".join(f"{sku} at {location}" for sku, location in what["pools"][:3])
            more = f" and {len(what['pools']) - 3} more" if len(what["pools"]) > 3 else ""
            return f"planner for {pools}{more}"
        case "accepted":
            return f"accepted: {_accepted(what)}"
        case other:
            return other


def _accepted(what: Mapping[str, Any]) -> str:
    match what["finding"]:
        case "lost_messages":
            gone = ", ".join(f"{each['topic']}-{each['partition']} {_offsets(each)}" for each in what["gone"])
            return f"messages that were never worked are gone, {gone}"
        case "recreated_topic":
            return f"topics were made again, {', '.join(what['topics'])}"
        case "restored_database":
            return f"a restored database, epoch {what['epoch']} begins"
        case other:
            return str(other)


def _offsets(span: Mapping[str, int]) -> str:
    last = span["to"] - 1
    return f"offset {last}" if span["from"] == last else f"offsets {span['from']} to {last}"


def covered_by(planned: Promise) -> str | None:
    """What a date leans on, in one word: stock, a supply, or the lead time alone. None where no date is known."""
    if planned.at is None:
        return None
    if planned.lead is not None:
        return "lead_time"
    return "stock" if planned.supply_id is None else "supply"
