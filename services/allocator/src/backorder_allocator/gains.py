"""Who would gain and who would lose: lines before and after something happened, as `what-if` tells them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal

from backorder_allocator import words
from backorder_allocator.outlooks import LineChange, Views
from backorder_allocator.promises import UNKNOWN, Lead, Promise, moved
from backorder_allocator.state import Line, PoolKey, State
from backorder_allocator.statements import Rows

Effect = Literal["new", "gains", "loses"]
EFFECTS: tuple[Effect, ...] = ("new", "gains", "loses")
"""In the order in which they are told."""
LineName = tuple[str, int]
_Told = tuple[Effect | None, PoolKey, dict[str, Any]]


def gains(after: State, changes: Iterable[LineChange], views: Views, rows: Rows) -> list[dict[str, Any]]:
    """The lines that are new, gain or lose: in this order, by pool, by rank.

    `rows`: what `read_moved` gave for these changes and views. In pools without a view dates are not looked at.
    """
    changing = {(line.order_id, line.line_no): (before, line) for before, line in changes}
    elsewhere = [each for each in changing.values() if each[1].pool not in views]
    elsewhere.sort(key=lambda each: each[1].rank)
    found: defaultdict[tuple[int, PoolKey], list[dict[str, Any]]] = defaultdict(list)
    for effect, key, told in chain(
        _in_views(after, changing, views, rows),
        (_change(before, line, UNKNOWN, UNKNOWN) for before, line in elsewhere),
    ):
        if effect is not None:
            found[EFFECTS.index(effect), key].append(told)
    return [told for place in sorted(found) for told in found[place]]


def _in_views(after: State, changing: Mapping[LineName, LineChange], views: Views, rows: Rows) -> Iterator[_Told]:
    """The lines of rows, in their order. There may be as many of them as wait: hence the haste."""
    pools = [(key, *views[key]) for key in views]
    by_steps: dict[tuple[int, int, int], tuple[Effect | None, dict[str, Any]]] = {}
    for pool, order_id, line_no, changes, step_before, step_after, *of_line in rows:
        key, outlook_before, outlook_after = pools[pool - 1]
        if changes:
            before, line = changing[order_id, line_no]
            placed_at = after.orders[order_id].placed_at
            was = outlook_before.of(before, step_before, placed_at) if before else UNKNOWN
            yield _change(before, line, was, outlook_after.of(line, step_after, placed_at))
            continue
        if (order_id, line_no) in changing:
            continue
        ordered, allocated, waiting, rejected, released, promised_at, lead_at, lead_days, placed_at = of_line
        shift = by_steps.get((pool, step_before, step_after))
        # The order's moment is read only where a date hangs on the line.
        if shift is None or placed_at is not None:
            lead = None if lead_at is None else Lead(lead_days, lead_at)
            was = outlook_before.waiting(step_before, placed_at, promised_at, lead)
            would_be = outlook_after.waiting(step_after, placed_at, promised_at, lead)
            shift = by_steps[pool, step_before, step_after] = _by_date(was, would_be), _dates(was, would_be)
        effect, dates = shift
        told = {
            "order_id": order_id,
            "line_no": line_no,
            "sku": key.sku,
            "location": key.location,
            "effect": effect,
            "quantity_ordered": ordered,
            "allocated_before": allocated,
            "allocated_after": allocated,
            "waiting_before": waiting,
            "waiting_after": waiting,
            "released_before": released,
            "released_after": released,
            "rejected_after": rejected,
            "promised_at": promised_at,
            **dates,
        }
        yield effect, key, told


def _change(before: Line | None, after: Line, was: Promise, would_be: Promise) -> _Told:
    effect = _effect(before, after, was, would_be)
    told = {
        "order_id": after.order_id,
        "line_no": after.line_no,
        "sku": after.pool.sku,
        "location": after.pool.location,
        "effect": effect,
        "quantity_ordered": after.ordered,
        "allocated_before": before.allocated if before else 0,
        "allocated_after": after.allocated,
        "waiting_before": before.waiting if before else 0,
        "waiting_after": after.waiting,
        "released_before": before.released if before else 0,
        "released_after": after.released,
        "rejected_after": after.rejected,
        "promised_at": before.promised_at if before else None,
        **_dates(was, would_be),
    }
    return effect, after.pool, told


def _effect(before: Line | None, after: Line, was: Promise, would_be: Promise) -> Effect | None:
    if before is None:
        return "new"
    more = (after.allocated - before.allocated) or (after.released - before.released)
    if more:
        return "gains" if more > 0 else "loses"
    return _by_date(was, would_be)


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
