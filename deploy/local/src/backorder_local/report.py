"""The end of a demo in words: the numbers, one mail in full, and how to look further."""

import json
import shlex
import shutil
import sys
import sysconfig
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backorder_local import receipts, shown
from backorder_local.mail_store import Mail
from backorder_local.measure import Latency
from backorder_local.receipts import SLOTS, Supply
from backorder_local.summary import Audit, Summary


def as_json(summary: Summary) -> str:
    return json.dumps(asdict(summary), indent=2, ensure_ascii=False)


def as_text(summary: Summary, remarks: tuple[str, ...], mail: Mail | None, *, speed: float | None) -> str:
    # In a pipe as wide as it wants to be: a wrapped line is hard to search.
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 200)
    with console.capture() as captured:
        heading(console, "Result")
        console.print(numbers(summary, speed))
        console.print()
        for remark in (f"Data is {summary.source}", *remarks):
            console.print(Text(f"· {remark}", style="dim"), soft_wrap=not console.is_terminal)
        if mail is not None:
            heading(console, f"One of the mails (backorder mail show {mail.id})")
            console.print(Text(shown.mail(mail)), soft_wrap=True)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def heading(console: Console, words: str) -> None:
    console.print()
    console.rule(Text(words, style="bold"), align="left") if console.is_terminal else console.print(f"== {words}")


def numbers(summary: Summary, speed: float | None) -> Table:
    waited = summary.lines_waited / summary.lines
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for name, number, words in (
        (
            "Orders",
            summary.orders,
            f"of {summary.customers:,} customers, {summary.first_placed_at} to {summary.last_placed_at}",
        ),
        ("Lines", summary.lines, f"{summary.units:,} units"),
        ("Cancels", summary.cancels, "orders, lines or units"),
        ("Allocated at once", summary.units_allocated_at_once, "units"),
        (
            "Waited",
            summary.units_waited,
            f"units on {summary.lines_waited:,} lines ({waited:.1%} of all), {summary.orders_waited:,} orders",
        ),
        ("  lost their stock", summary.units_stock_lost, "units, by write-offs; they waited again"),
        ("  filled", summary.units_filled, "units"),
        (
            "  cancelled",
            summary.units_cancelled_waiting,
            f"units while waiting, {summary.units_cancelled_allocated:,} when allocated",
        ),
        ("  still waiting", summary.units_waiting, f"units on {summary.lines_waiting:,} lines"),
        ("Mails sent", summary.mails_sent, not_sent(summary)),
        (
            "Orders per second",
            f"{summary.orders_per_second:,.0f}",
            f"{summary.lines_per_second:,.0f} lines; {summary.seconds:.1f} s in all, "
            + (f"at {speed:g} × real time" if speed else f"waiting for the allocator {2 * SLOTS} times"),
        ),
        *latency_row("Receipt → filled", summary.receipt_to_filled, "fills by receipts"),
        *latency_row("Event → mail", summary.event_to_mail, "mails, waiting behind others included"),
        ("Audit", "clean" if summary.audit.clean else "BROKEN", audit_words(summary.audit)),
    ):
        if name.startswith("  lost") and not number:
            continue
        style = "bold red" if number == "BROKEN" else "green" if number == "clean" else ""
        table.add_row(name, Text(f"{number:,}" if isinstance(number, int) else str(number), style=style), Text(words))
    return table


def when(summary: Summary) -> str:
    return f"of {summary.customers:,} customers, {summary.first_placed_at} to {summary.last_placed_at}"


def latency_row(name: str, latency: Latency | None, of: str) -> list[tuple[str, str, str]]:
    if latency is None:
        return [(name, "–", f"no {of}")]
    return [(name, ms(latency.p50_ms), f"p50, {ms(latency.p99_ms)} p99, of {latency.count:,} {of}")]


def ms(milliseconds: float) -> str:
    return f"{milliseconds:,.0f} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:,.1f} s"


def not_sent(summary: Summary) -> str:
    parts = [f"{count:,} not: {REASONS.get(reason, reason)}" for reason, count in summary.mails_not_sent.items()]
    unpublished = {
        reason: count for reason, count in summary.events_not_told.items() if reason not in summary.mails_not_sent
    }
    parts += [f"{count:,} events needed none: {reason.replace('_', ' ')}" for reason, count in unpublished.items()]
    if summary.events_told_later:
        parts.append(f"{summary.events_told_later:,} events wait for their time")
    if summary.events_untold:
        parts.append(f"{summary.events_untold:,} events were told to NOBODY in time")
    return "; ".join(parts) or "all that were due"


REASONS = {"no_email": "a guest without address"}


def audit_words(audit: Audit) -> str:
    words = f"{audit.rules} rules, {audit.checked:,} checks"
    return words + "".join(f"; {rule}: {count:,} violations" for rule, count in audit.violations.items())


def look_further(summary: Summary, *, kept: bool, folder: str, alone: bool) -> str:
    """Commands to copy, with `folder` where other stacks run too."""
    scripts = Path(sysconfig.get_path("scripts"))
    of = "" if alone else f" --data-dir {shlex.quote(folder)}"
    on_path = shutil.which("backorder") == str(scripts / "backorder")
    commands = [] if on_path else [(f'export PATH={shlex.quote(str(scripts))}:"$PATH"', "")]
    commands.append((f'eval "$(backorder env{of})"', "the variables that lead to this stack"))
    if summary.most_waited_for_sku is not None:
        title = f" ({summary.most_waited_for_title})" if summary.most_waited_for_title else ""
        sku = shlex.quote(summary.most_waited_for_sku)
        waits = f"{counted(summary.most_waited_for_lines, 'line waits', 'lines wait')}{title}, the most of all"
        commands.append((f"backorder-allocator queue {sku}", waits))
    if summary.example_order is not None:
        order = shlex.quote(summary.example_order)
        commands += [
            (f"backorder-allocator explain {order}", "an order that waited: every decision and its cause"),
            (f"backorder mail --order {order}{of}", "what its customer was told"),
        ]
    commands += [
        ("backorder-allocator status", "input, publishing, queues"),
        (f"backorder mail{of}", "all mails"),
        (f"backorder read backorders{of}", "what was decided; also: allocations, notifications, orders"),
    ]
    width = max(len(command) for command, _ in commands)
    lines = [f"  {command:<{width}}  {words}".rstrip() for command, words in commands]
    first = (
        "In another terminal:"
        if kept
        else "To look further, keep it up with --keep (make demo ARGS=--keep); then, elsewhere:"
    )
    return "\n".join([first, *lines])


def counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def remarks_on(supply: Supply) -> tuple[str, ...]:
    units = sum(each.quantity for each in supply.receipts)
    opening = sum(supply.opening.values())
    return (
        (
            "receipts are synthetic, since the data has no supply: "
            f"{opening:,} units of {len(supply.opening):,} SKUs at the opening, {units:,} in {len(supply.receipts):,} "
            f"receipts; so much (cover {supply.cover:.2f}) that about {receipts.TARGET:.1%} of the lines wait"
        ),
    )
