"""What staff ask when a customer asks: why (not), what was sent, and once more, please."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import typer

from backorder_notifier import reports, resend_store, resending, terminal
from backorder_notifier import why as answering
from backorder_notifier.display import outbox_json, print_json, print_lines, print_rows
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.kinds import CHANNELS, KINDS
from backorder_notifier.terminal import Json, Limit, answer, problem, reading, with_database

STATES = ("due", "sent", "failed", "withheld", "superseded")


def why(order_id: Annotated[str, typer.Argument(metavar="ORDER_ID")], as_json: Json = False) -> None:
    """Why the customer of an order was told what, and why not the rest; what waits, and for what. No contact data."""
    policy, now = terminal.settings().policy, terminal.now()

    async def work(connection: Any) -> dict[str, Any] | None:
        return await answering.why(connection, order_id, policy, now)

    found = reading(work)
    if found is None:
        problem(
            f"order {order_id} is not known: no message named it yet, it was read before this database was made,"
            " or it is spelled otherwise (`status` shows how far the topics are read, `dlq list` what was refused)"
        )
    if as_json:
        print_json(found)
        return
    print_lines(_opening(found))
    print_rows([_line(line) for line in found["lines"]], _LINES, "")
    print_rows(list(_story(found)), ("at", "what", "detail"), "Nothing happened that customers could be told of.")
    print_lines(found["waits"] or ["Nothing waits."])
    print_lines(_next(found))


_LINES = ("line", "sku", "ordered", "ready", "waiting", "shipped", "promised", "told_waiting", "told_promised")


def _line(line: Mapping[str, Any]) -> Mapping[str, Any]:
    days = {name: (line[f"{name}_at"] or "")[:10] for name in ("promised", "told_promised")}
    return {**line, "line": line["line_no"], **days}


def _opening(found: Mapping[str, Any]) -> Iterator[str]:
    """The order, and how its customer is reached, in words."""
    contact = found["contact"]
    if not contact["known"]:
        yield f"Order {found['order_id']}: its OrderPlaced has not come yet, so nobody can be told."
        return
    of = f"of customer {found['customer_id']}, placed {found['placed_at']}, delivery {found['delivery']}"
    yield f"Order {found['order_id']} {of}."
    for each in contact["channels"]:
        if each["open"] and each["open_for_optional_kinds"]:
            yield f"{each['channel']}: open."
        elif each["open"]:
            yield f"{each['channel']}: open for what has to be told. {each['because'] or 'No optional messages.'}"
        else:
            yield f"{each['channel']}: closed. {each['because']}"
    if contact["optional_kinds"] is False:
        how = f", by the link in a message, at {contact['unsubscribed_at']}" if contact["unsubscribed_at"] else ""
        yield f"The customer wants no optional messages{how}."
    if contact["forgotten_at"]:
        yield f"The customer was forgotten at {contact['forgotten_at']}."


def _story(found: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Everything in the order of time: events with what was decided, messages, tries, what people did."""
    rows: list[tuple[str, int, str, str]] = []
    for update in found["updates"]:
        line = f"line {update['line_no']}: " if update["line_no"] is not None else ""
        became = {
            "told": f"told in message {update['position']}" if update["position"] else "told",
            "superseded": "superseded" + (f" by message {update['position']}" if update["position"] else ""),
            "not_told": "not told",
            "pending": "waits",
        }[update["state"]]
        because = f". {update['because']}" if update["because"] else "."
        what = update["type"] or update["kind"] or ""
        rows.append((update["occurred_at"], 0, what, f"{line}{update['says']} → {became}{because}"))
    for message in found["messages"]:
        late = ", late" if message["late"] else ""
        rows.append((message["composed_at"], 1, f"message {message['position']}", f"{message['kind']}{late}"))
        for delivery in message["deliveries"]:
            name = f"message {message['position']} by {delivery['channel']}"
            for each in delivery["tries"]:
                reason = f" ({each['reason']})" if each["reason"] else ""
                rows.append((each["at"], 2, name, f"try {each['attempt']}: {each['because']}{reason}"))
            is_choice = delivery["reason"] == "channel_not_chosen"  # said at the channel, above
            if delivery["settled_at"] and delivery["state"] != "sent" and not is_choice:
                because = f" {delivery['because']}" if delivery["because"] else ""
                rows.append((delivery["settled_at"], 3, name, f"{delivery['says']}{because}"))
    for each in found["interventions"]:
        note = f": {each['note']}" if each["note"] else ""
        rows.append((each["at"], 4, each["what"].replace("_", " "), f"by {each['by']}{note}"))
    for at, _, what, detail in sorted(rows, key=lambda row: row[:2]):
        yield {"at": at, "what": what, "detail": detail}


def _next(found: Mapping[str, Any]) -> Iterator[str]:
    for each in found["next"]:
        line = f" of line {each['line_no']}" if each["line_no"] is not None else ""
        yield f"Next: {each['kind']}{line} at {each['at']}, if nothing changes until then."


def outbox(
    failed: Annotated[
        bool, typer.Option("--failed", help="What did not reach its customer: failed or withheld.")
    ] = False,
    state: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(STATES)}.")] = None,
    order: Annotated[str | None, typer.Option("--order", help="Of this order only.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CHANNELS)}.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="One of the kinds of messages.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Messages over their channels with what became of them, newest first. No contact data."""
    for name, given, known in (("state", state, STATES), ("channel", channel, CHANNELS), ("kind", kind, KINDS)):
        if unknown := set(given or ()) - set(known):
            raise ConfigurationError(f"--{name} {', '.join(sorted(unknown))}: should be one of {', '.join(known)}")

    async def work(connection: Any) -> list[dict[str, Any]]:
        rows = await reports.report_outbox(
            connection, state or None, order, channel or None, kind or None, failed=failed, limit=limit
        )
        return [outbox_json(row) for row in rows]

    rows = reading(work)
    if as_json:
        print_json(rows)
    else:
        print_rows(
            [_outbox_line(row) for row in rows], ("at", "order_id", "message", "by", "state", "delivery_id"), "Nothing."
        )


def _outbox_line(row: Mapping[str, Any]) -> Mapping[str, Any]:
    reason = f" ({row['reason']})" if row["reason"] else ""
    until = f", due {row['due_at']}" if row["due_at"] else ""
    return {
        "at": row["composed_at"],
        "order_id": row["order_id"],
        "message": f"{row['position']} {row['kind']}",
        "by": row["channel"],
        "state": f"{row['state']}{reason}{until}",
        "delivery_id": row["delivery_id"],
    }


def resend(
    delivery_id: Annotated[UUID | None, typer.Argument(metavar="[DELIVERY_ID]", help="As `outbox` shows it.")] = None,
    order: Annotated[
        str | None, typer.Option("--order", help="All of this order that did not reach its customer.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was accepted: the customer gets it twice.")] = False,
    note: Annotated[str | None, typer.Option(help="Why, for `why`; without contact data.")] = None,
    as_json: Json = False,
) -> None:
    """Tell at once what did not reach its customer, or is tried again only later. Exit 1 if something is refused.

    A message that is still the last word is sent as it is; where newer news or time overtook it, what is still true is
    told anew. Running it twice does nothing the second time.
    """
    if (delivery_id is None) == (order is None):
        raise ConfigurationError("resend: name a DELIVERY_ID or an --order")
    if note is not None and (len(note) > 500 or not note.isprintable()):
        raise ConfigurationError("--note: should be one line of up to 500 characters")
    policy, now = terminal.settings().policy, terminal.now()

    async def work(connection: asyncpg.Connection) -> list[resending.Resent] | None:
        of_order = order
        if delivery_id is not None:
            of_order = await resend_store.order_of_delivery(connection, delivery_id)
        if of_order is None:
            return None
        asked = resending.Asked(of_order, delivery_id, again, terminal.user(), note)
        return await resending.resend(connection, asked, policy, now)

    done = with_database(work)
    if done is None:
        problem(f"there is no delivery {delivery_id}" if order is None else f"order {order} is not known")
    rows = [asdict(each) | {"delivery_id": str(each.delivery_id)} for each in done]
    answer(rows, ("order_id", "position", "kind", "channel", "action", "says"), "Nothing to resend.", as_json=as_json)
    if any(each.action == "refused" for each in done):
        raise typer.Exit(1)
