"""The rules that must always hold, checked on a live database in one snapshot. Read-only rights are enough."""

import heapq
import json as json_module
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from typing import Any

from backorder_allocator import chains, rules_json
from backorder_allocator.checks import Check
from backorder_allocator.output import as_json, show_table
from backorder_allocator.promises import Coming, Projection, PromiseRules, project
from backorder_allocator.ranking import EARLIEST
from backorder_allocator.state import PoolKey, Rank
from backorder_allocator.statements import Connection, run, stream

BY_SQL = {
    "stock is conserved": "audit_stock_is_conserved",
    "line quantities add up": "audit_line_quantities_add_up",
    "counters equal their sums": "audit_counters_equal_sums",
    "queues by day equal their sums": "audit_queue_days_equal_sums",
    "supplies equal their receipts": "audit_supplies_equal_receipts",
    "no unit rests while a line waits": "audit_no_unit_rests",
    "held units have a reason": "audit_held_units_have_a_reason",
    "pools follow their policy": "audit_pools_follow_their_policy",
    "timers stand": "audit_timers_stand",
    "what came early waits": "audit_what_came_early_waits",
    "shipments add up": "audit_shipments_add_up",
    "releases add up to what was told": "audit_releases_add_up",
    "rejections add up to what was told": "audit_rejections_add_up",
    "promises are as told": "audit_promises_are_as_told",
    "availability is as told": "audit_availability_is_as_told",
    "a line that is closed is told nothing more": "audit_closed_lines_are_told_no_more",
    "nobody loses by a receipt or another's cancel": "audit_nobody_loses_by_others",
    "versions have no gap": "audit_versions_have_no_gap",
    "the log has no gap": "audit_log_has_no_gap",
    "the journal says what happened": "audit_journal_says_what_happened",
    "every input is worked once": "audit_inputs_are_worked_once",
    "what was applied made its rows": "audit_applied_made_their_rows",
}


async def audit(connection: Connection) -> list[Check]:
    """Check every rule against one snapshot of the database."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        checks = await check(connection)
        await chains.explain(connection, checks)
        return checks


async def check(connection: Connection) -> list[Check]:
    """Check every rule, in the caller's transaction."""
    checks = []
    for rule, statement in BY_SQL.items():
        row = (await run(connection, statement))[0]
        about = json_module.loads(row.get("about") or "null")
        checks.append(Check(rule, row["checked"], row["broken"], row["examples"] or [], about=about))
    now_waiting = {
        (row["order_id"], row["line_no"]): row["quantity_waiting"]
        for row in await run(connection, "audit_waiting_lines")
    }
    checks.extend(await replay_queues(stream(connection, "audit_backorder_events"), now_waiting))
    rules = [rules_json.load(row["body"]).promises for row in await run(connection, "audit_rules")]
    supplies = await run(connection, "audit_supplies_to_come")
    lines = stream(connection, "audit_promised_lines")
    checks.append(await no_supply_covers_two(lines, supplies, rules[0] if rules else PromiseRules()))
    return checks


async def replay_queues(events: AsyncIterator[Any], now_waiting: dict[tuple[str, int], int]) -> list[Check]:
    """Walk the log once: nobody was served before one ahead of them in rank, and events add up to what waits now.

    Memory grows with the lines that wait at one time, not with the log.
    What the warehouse shipped of its own accord was served out of turn.
    """
    served_in_turn = Check("the first in rank is served first")
    adds_up = Check("events add up to what waits")
    waiting: dict[tuple[str, int], int] = {}
    queues: defaultdict[PoolKey, list[Rank]] = defaultdict(list)
    async for event in events:
        line = (event["order_id"], event["line_no"])
        before = waiting.get(line, 0)
        change = event["quantity"] if event["type"] == "BackorderCreated" else -event["quantity"]
        after = event["quantity_waiting"]
        where = f"seq {event['seq']}: {event['type']} of order {line[0]} line {line[1]}"
        about = {"seq": event["seq"]}
        adds_up.found(before + change != after, f"{where} says {after} wait, events add up to {before + change}", about)
        queue = queues[PoolKey(event["sku"], event["location"])]
        rank: Rank = (event["ranked_at"], *line)
        if event["type"] == "BackorderFilled":
            # Lines that no longer wait are dropped when they come to the front.
            while queue and not waiting.get((queue[0][1], queue[0][2])):
                heapq.heappop(queue)
            first = queue[0] if queue and not event["shipped"] else None
            is_late = first is not None and first < rank
            served_in_turn.found(is_late, f"{where}: order {first and first[1]} was ahead", about)
        if not before and after:
            heapq.heappush(queue, rank)
        if after:
            waiting[line] = after
        else:
            waiting.pop(line, None)
    for line in waiting.keys() | now_waiting.keys():
        by_events, by_line = waiting.get(line, 0), now_waiting.get(line, 0)
        what = f"order {line[0]} line {line[1]}: {by_line} wait, events say {by_events}"
        adds_up.found(by_events != by_line, what, {"order_id": line[0], "line_no": line[1]})
    return [served_in_turn, adds_up]


async def no_supply_covers_two(lines: AsyncIterator[Any], supplies: Iterable[Any], rules: PromiseRules) -> Check:
    """Pour what is to come over each queue anew: no line is promised before the day (UTC) on which that reaches it.

    Read so that time alone breaks nothing: a supply counts from its date on whatever the clock says, also an overdue
    one, where promises may lean on it at all. `lines` in rank order, pool by pool.
    """
    check = Check("no supply covers two promises")
    coming: defaultdict[int, list[Coming]] = defaultdict(list)
    for row in supplies:
        if row["overdue"] and rules.overdue_after is None:
            continue
        coming[row["pool_id"]].append(Coming(row["supply_id"], row["to_come"], row["expected_at"], overdue=False))
    pool_id: int | None = None
    projection = Projection(EARLIEST, 0, (), (), ())
    wanted = 0
    async for line in lines:
        if line["pool_id"] != pool_id:
            pool_id = line["pool_id"]
            projection = project(line["start"], coming[line["pool_id"]], EARLIEST, PromiseRules())
            wanted = 0
        wanted += line["quantity_waiting"]
        covered = projection.covered(wanted)
        earliest = line["lead_at"] if covered is None else covered[0]
        promised = line["promised_at"]
        too_early = promised is not None and (earliest is None or promised.date() < earliest.date())
        reached = "no supply reaches it" if earliest is None else f"units reach it at {earliest.isoformat()}"
        what = f"order {line['order_id']} line {line['line_no']} ({line['sku']} at {line['location']})"
        about = {"order_id": line["order_id"], "line_no": line["line_no"]}
        check.found(too_early, f"{what} is promised {promised and promised.isoformat()}, {reached}", about)
    return check


def is_clean(checks: Iterable[Check], *, strict: bool) -> bool:
    """Whether no rule is broken; with `strict`, whether each was looked at as well, or says why not."""
    return not any(check.violations or (strict and not check.checked and not check.unchecked) for check in checks)


def show(checks: list[Check], *, json: bool, strict: bool = False) -> None:
    """Print the checks: as JSON, or a line for each rule, each example, and what led to the first of a rule."""
    never = [check for check in checks if not check.checked]
    if json:
        rows = [{name: value for name, value in asdict(check).items() if name != "about"} for check in checks]
        clean = is_clean(checks, strict=strict)
        as_json({"clean": clean, "never_checked": [check.rule for check in never], "checks": rows})
        return
    names = ("rule", "checked", "violations", "excused", "strangers")
    show_table([{name: getattr(check, name) for name in names} for check in checks], json=False)
    for check in checks:
        for example in check.examples:
            print(f"VIOLATION {check.rule}: {example}")
        for link in check.chain:
            print(f"    {link['words']}")
    for check in never:
        print(f"NEVER CHECKED {check.rule}{': ' + check.unchecked if check.unchecked else ''}")
