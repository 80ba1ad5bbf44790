"""Who would gain and who would lose: lines before and after something happened, as `what-if` tells them. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from backorder_allocator import words
from backorder_allocator.outlooks import LineChange, Views
from backorder_allocator.promises import UNKNOWN, Lead, Promise, moved
from backorder_allocator.state import PoolKey, Rank, State
from backorder_allocator.statements import Rows

Effect = Literal["new", "gains", "loses"]
EFFECTS: tuple[Effect, ...] = ("new", "gains", "loses")
"""In the order in which they are told."""
LineName = tuple[str, int]
_Told = tuple[int, PoolKey, Rank, dict[str, Any]]
"""A line behind its place in the answer."""


def gains(after: State, changes: Iterable[LineChange], views: Views, rows: Rows) -> list[dict[str, Any]]:
    """The lines that are new, gain or lose: in this order, by pool, by rank.

    `changes`: the lines that change themselves; `rows`: where these wait, and all others whose date may move. In pools
    without `views` dates are not looked at.
    """
    changing = {(line.order_id, line.line_no): (was, line) for was, line in changes}
    told = [*_of_changes(after, changing, views, rows), *_of_dates(changing, views, rows)]
    told.sort(key=lambda each: each[:3])
    return [line for *_, line in told]


def _of_changes(after: State, changing: Mapping[LineName, LineChange], views: Views, rows: Rows) -> Iterator[_Told]:
    steps = {
        (row["order_id"], row["line_no"]): (row["step_before"], row["step_after"]) for row in rows if row["changes"]
    }
    for name, (before, line) in changing.items():
        was = would_be = UNKNOWN
        if line.pool in views:
            outlook_before, outlook_after = views[line.pool]
            # Those without steps don't wait.
            step_before, step_after = steps.get(name, (0, 0))
            placed_at = after.orders[line.order_id].placed_at
            was = outlook_before.of(before, step_before, placed_at) if before else UNKNOWN
            would_be = outlook_after.of(line, step_after, placed_at)
        effect: Effect | None
        if before is None:
            effect = "new"
        elif more := (line.allocated - before.allocated) or (line.released - before.released):
            effect = "gains" if more > 0 else "loses"
        else:
            effect = _by_date(was, would_be)
        if effect is not None:
            told = {
                "order_id": line.order_id,
                "line_no": line.line_no,
                "sku": line.pool.sku,
                "location": line.pool.location,
                "effect": effect,
                "quantity_ordered": line.ordered,
                "allocated_before": before.allocated if before else 0,
                "allocated_after": line.allocated,
                "waiting_before": before.waiting if before else 0,
                "waiting_after": line.waiting,
                "released_before": before.released if before else 0,
                "released_after": line.released,
                "rejected_after": line.rejected,
                "promised_at": before.promised_at if before else None,
            }
            yield EFFECTS.index(effect), line.pool, line.rank, told | _dates(was, would_be)


def _of_dates(changing: Mapping[LineName, LineChange], views: Views, rows: Rows) -> Iterator[_Told]:
    """Of lines that stay as they are, but for their date. There may be as many of them as wait."""
    pools = list(views.items())
    for row in rows:
        name = row["order_id"], row["line_no"]
        if row["changes"] or name in changing:
            continue
        key, (outlook_before, outlook_after) = pools[row["place"] - 1]
        lead = None if row["lead_at"] is None else Lead(row["lead_days"], row["lead_at"])
        promised_at, placed_at = row["promised_at"], row["placed_at"]
        was = outlook_before.waiting(row["step_before"], placed_at, promised_at, lead)
        would_be = outlook_after.waiting(row["step_after"], placed_at, promised_at, lead)
        effect = _by_date(was, would_be)
        if effect is not None:
            allocated, waiting, released = row["quantity_allocated"], row["quantity_waiting"], row["quantity_released"]
            told = {
                "order_id": name[0],
                "line_no": name[1],
                "sku": key.sku,
                "location": key.location,
                "effect": effect,
                "quantity_ordered": row["quantity_ordered"],
                "allocated_before": allocated,
                "allocated_after": allocated,
                "waiting_before": waiting,
                "waiting_after": waiting,
                "released_before": released,
                "released_after": released,
                "rejected_after": row["quantity_rejected"],
                "promised_at": promised_at,
            }
            yield EFFECTS.index(effect), key, (row["ranked_at"], *name), told | _dates(was, would_be)


def _by_date(was: Promise, would_be: Promise) -> Effect | None:
    """What another date is to the customer; None where it stays on its day."""
    if not moved(was.at, would_be.at):
        return None
    return "gains" if would_be.at is not None and (was.at is None or would_be.at < was.at) else "loses"


def _dates(was: Promise, would_be: Promise) -> dict[str, Any]:
    return {
        "date_before": was.at,
        "date_after": would_be.at,
        "covered_by": words.covered_by(would_be),
        "supply_id": would_be.supply_id,
    }
