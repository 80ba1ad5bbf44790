"""What the command prints: tables on a terminal, tab-separated lines elsewhere, JSON for programs."""

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backorder_local.doctor import Check, Status
from backorder_local.mail_store import Mail
from backorder_local.state import State

EXAMPLE_ORDER = {
    "type": "OrderPlaced",
    "id": "try/1",
    "occurred_at": "2026-01-01T09:00:00Z",
    "order_id": "try-1",
    "placed_at": "2026-01-01T09:00:00Z",
    "currency": "EUR",
    "customer": {"customer_id": "c-7", "email": "ada@example.org"},
    "lines": [{"line_no": 1, "sku": "PHONE-X", "quantity": 3, "unit_price": "499.00"}],
}
MARKS = {Status.OK: ("ok", "green"), Status.NOTE: ("note", "yellow"), Status.FAIL: ("FAIL", "red")}


def how_to_connect(state: State) -> str:
    """For whoever just started the stack. A password is among it: the database is as private as the terminal."""
    named = f" --data-dir {shlex.quote(state.folder)}"
    lines = [
        "",
        f"Kafka       {state.kafka}",
        f"PostgreSQL  {state.postgres}",
        f"Mail        {state.smtp}",
    ]
    lines += [f"{name.capitalize():<12}{url}  (/readyz /metrics /asyncapi)" for name, url in state.services.items()]
    lines += [f"Logs        {state.folder}/logs", "", "In another terminal:"]
    scripts = shlex.quote(str(Path(sys.executable).parent))
    lines += [f'  export PATH={scripts}:"$PATH"']
    lines += ['  eval "$(backorder env)"           the variables that lead here, for any program']
    if state.services:
        order = json.dumps(EXAMPLE_ORDER)
        lines += [
            f"  echo {shlex.quote(order)} | backorder send orders",
            "  backorder read backorders         what the allocator decided; --follow waits for more",
            "  backorder mail                    the mails that went out; backorder mail show 1",
            '  eval "$(backorder env)" && backorder-allocator explain try-1',
        ]
    lines += [f"Where several stacks run, add{named} to env, send, read and mail.", "", "Ctrl-C ends it all."]
    return "\n".join(lines)


def exports(state: State) -> str:
    """All variables but the services' HTTP ports: whoever starts one more service needs another port."""
    named = {name: value for name, value in state.variables.items() if not name.endswith("_HTTP_PORT")}
    named |= {name: "0" for name in state.variables if name.endswith("_HTTP_PORT")}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in named.items())


def mails(kept: Sequence[Mail]) -> str:
    rows = [
        (str(each.id), f"{each.received_at:%Y-%m-%d %H:%M:%S.%f}"[:-3], ", ".join(each.recipients), each.subject)
        for each in kept
    ]
    return table(("id", "received (UTC)", "to", "subject"), rows)


def mails_as_json(kept: Iterable[Mail]) -> str:
    return json.dumps([summary(each) for each in kept], indent=2, ensure_ascii=False) + "\n"


def summary(mail: Mail) -> dict[str, object]:
    return {
        "id": mail.id,
        "received_at": mail.received_at.isoformat(),
        "from": mail.sender,
        "to": list(mail.recipients),
        "subject": mail.subject,
        "message_id": str(mail.message["message-id"] or ""),
    }


def mail(one: Mail) -> str:
    """Headers as they are, decoded, then the text part (of a mail without one, the HTML)."""
    headers = [f"{name}: {value}" for name, value in one.message.items()]
    return "\n".join([*headers, "", (one.text or one.html).rstrip()])


def mail_as_json(one: Mail) -> str:
    headers = [[name, str(value)] for name, value in one.message.items()]
    content = {"headers": headers, "text": one.text, "html": one.html}
    return json.dumps(summary(one) | content, indent=2, ensure_ascii=False)


def checks(results: Iterable[Check]) -> str:
    console = console_for_stdout()
    lines = []
    for result in results:
        mark, colour = MARKS[result.status]
        lines.append(Text.assemble((f"{mark:<5}", colour), f"{result.name:<12}", result.detail))
        if result.way_out:
            lines.append(Text(f"{'':17}→ {result.way_out}"))
    with console.capture() as captured:
        for line in lines:
            console.print(line, soft_wrap=True)
    return captured.get().rstrip()


def checks_as_json(results: Iterable[Check]) -> str:
    return json.dumps([vars(result) for result in results], indent=2)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    if not sys.stdout.isatty():
        return "".join("\t".join(row) + "\n" for row in rows)
    console = console_for_stdout()
    drawn = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: what others wrote is no markup
    with console.capture() as captured:
        console.print(drawn)
    return captured.get()


def console_for_stdout() -> Console:
    return Console(file=sys.stdout, highlight=False)
