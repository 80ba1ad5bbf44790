"""What a customer may ask for, and addresses that nothing is sent to."""

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import asyncpg
import typer

from backorder_notifier import delivery_store, privacy, privacy_store, reports, terminal, told_store
from backorder_notifier.contacts import suppression_keys
from backorder_notifier.display import mask_address, moment, print_json, print_rows
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.kinds import Channel
from backorder_notifier.reports import SuppressionRow
from backorder_notifier.terminal import Json, Limit, answer, problem, reading, with_database

suppressions = typer.Typer(help="Addresses that nothing is sent to any more.", no_args_is_help=True)

OverChannel = Annotated[str, typer.Option("--channel", help="email or sms.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="As a customer would write it; - reads it from stdin.")]


def forget(customer_id: Annotated[str, typer.Argument(metavar="CUSTOMER_ID")], as_json: Json = False) -> None:
    """Erase how a customer is reached, wherever it is, and send nothing more of what was decided so far.

    Also of a customer that is not known yet: what was recorded before now brings nothing back. Runs beside the service.
    """
    now = terminal.now()

    async def work(connection: asyncpg.Connection) -> privacy.Forgotten:
        return await privacy.forget(connection, customer_id, now)

    done = with_database(work)
    if as_json:
        print_json(asdict(done) | {"forgotten_at": moment(now)})
        return
    if not done.known:
        sys.stdout.write(
            f"Customer {customer_id} was not known. What was recorded before now will bring nothing back.\n"
        )
    rows = [{"erased": name.replace("_", " "), "rows": getattr(done, name)} for name in _COUNTED]
    print_rows(rows, ("erased", "rows"), "")
    if done.in_hand:
        sys.stdout.write(f"{done.in_hand} messages were being handed over at that moment and may still arrive.\n")
    if done.published:
        sys.stdout.write(f"{done.published} dead letters are on notifier.dlq too, as long as Kafka keeps them.\n")


_COUNTED = ("orders", "deliveries", "updates", "suppressions", "dead_letters")


def export(customer_id: Annotated[str, typer.Argument(metavar="CUSTOMER_ID")], _as_json: Json = True) -> None:
    """Everything that is held of a customer, contact data too; always as JSON."""

    async def work(connection: asyncpg.Connection) -> dict[str, Any]:
        return await privacy.export(connection, customer_id)

    held = with_database(work)
    if held["customer"] is None and not held["orders"] and not held["dead_letters"]:
        problem(f"nothing is held of customer {customer_id}")
    print_json(held)


@suppressions.command("list")
def suppressions_list(
    channel: Annotated[str | None, typer.Option(help="email or sms.")] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="With whole addresses.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Who is on the list and why, newest first; addresses masked unless asked."""
    if channel is not None:
        _channel(channel)

    async def work(connection: Any) -> list[SuppressionRow]:
        return await reports.list_suppressions(connection, channel, limit)

    rows: Sequence[dict[str, Any]] = [
        {
            "channel": row.channel,
            "address": row.address if reveal else mask_address(row.address),
            "masked": not reveal,
            "reason": row.reason,
            "suppressed_at": moment(row.suppressed_at),
        }
        for row in reading(work)
    ]
    answer(rows, ("channel", "address", "reason", "suppressed_at"), "Nobody is on the list.", as_json=as_json)


@suppressions.command("add")
def suppressions_add(
    address: Address,
    channel: OverChannel = "email",
    reason: Annotated[str, typer.Option(help="Why, in a few words without contact data.")] = "asked for",
    as_json: Json = False,
) -> None:
    """Send nothing more to an address, whatever its customers want. Messages for it are withheld."""
    key = _key(channel, address)
    now = terminal.now()

    async def work(connection: asyncpg.Connection) -> bool:
        async with connection.transaction():
            if await told_store.suppressed_addresses(connection, [key]):
                return False
            await delivery_store.suppress(connection, *key, f"{reason} (by {terminal.user()})", now)
            return True

    added = with_database(work)
    if as_json:
        print_json({"channel": channel, "added": added})
    else:
        sys.stdout.write("added\n" if added else "it was on the list\n")


@suppressions.command("remove")
def suppressions_remove(address: Address, channel: OverChannel = "email", as_json: Json = False) -> None:
    """Send to an address again. What was withheld meanwhile is told by `resend`."""
    key = _key(channel, address)

    async def work(connection: asyncpg.Connection) -> bool:
        return bool(await privacy_store.unsuppress(connection, [key]))

    removed = with_database(work)
    if as_json:
        print_json({"channel": channel, "removed": removed})
    else:
        sys.stdout.write("removed\n" if removed else "it was not on the list\n")
    if not removed:
        raise typer.Exit(1)


def _channel(text: str) -> Channel:
    match text:
        case "email" | "sms":
            return text
        case _:
            raise ConfigurationError(f"--channel {text}: should be email or sms")


def _key(over: str, address: str) -> tuple[Channel, str]:
    """As `suppressions` has it: one spelling for all that reach the same mailbox."""
    channel = _channel(over)
    text = sys.stdin.readline().strip() if address == "-" else address.strip()
    email, phone = (text, None) if channel == "email" else (None, text)
    keys = suppression_keys(email, phone)
    if not keys or (phone is not None and not re.fullmatch(r"\+[1-9][0-9]{6,14}", phone)):
        raise ConfigurationError("that is no address of this channel; a phone number is written +4915112345678")
    return keys[0]
