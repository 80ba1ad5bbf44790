"""Contact data that can't be mistaken goes through the whole service, and wrong with it whatever can; then it is looked
for wherever it is not meant to be."""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import asyncpg
import pytest
from aiokafka import ConsumerRecord

from backorder_notifier import cli
from tests.notifier.http_script import ScriptedHttp, scripted_http
from tests.notifier.messages import cancelled, contact_changed, created, delivered, filled, placed, released, shipped
from tests.notifier.smtp_script import ScriptedServer
from tests.notifier.world import Process, World, eventually, get

LOCAL, DOMAIN, PHONE, NAME = "canary-local", "canary-domain", "9915100000077", "Canary Canaryson"
ORDERS = ("fine", "reached", "dead", "later", "policy", "closing", "script", "broken", "words", "forgotten")
REFUSALS = {
    "dead": "550 5.1.1 <{address}> is unknown at rcpt",
    "policy": "554 5.7.1 <{address}>: {name} is refused",
}
ONCE = {
    "later": "451 4.3.0 <{address}> later at rcpt",
    "closing": "421 4.7.0 <{address}>: go away, {name} at rcpt",
}
OF_DEAD_LETTERS = f"{LOCAL}-letter@{DOMAIN}.example"
NO_CONTACT = {
    "attempts", "audit_runs", "availability", "cursors", "deliveries", "identity", "interventions", "leases",
    "messages", "outbox", "parked", "products", "providers", "topics_seen", "updates", "upgrades", "versions",
}  # fmt: skip
"""Tables that no address, phone number or name may ever be in."""


def address(order_id: str) -> str:
    """Each at a domain of its own, since a domain may be left alone for a while."""
    return f"{LOCAL}-{order_id}@{order_id}.{DOMAIN}.example"


def found_in(text: str | bytes) -> list[str]:
    """Which canaries are there, in whatever case, also as they look in a URL or an escape."""
    lower = (text if isinstance(text, str) else text.decode(errors="replace")).lower()
    return [each for each in (LOCAL, DOMAIN, PHONE, NAME.lower(), "canaryson") if each in lower]


class Canaries:
    """What is told about each order, and what goes wrong with it."""

    def __init__(self, world: World, script: ScriptedServer, gateway: ScriptedHttp, hook: ScriptedHttp) -> None:
        self.world, self.script, self.gateway, self.hook = world, script, gateway, hook
        self.put_off = dict(ONCE)
        script.choose = self.answer

    def answer(self, recipient: str) -> str | None:
        order_id = recipient.partition("@")[0].removeprefix(f"{LOCAL}-")
        step = REFUSALS.get(order_id) or self.put_off.pop(order_id, None)
        return step.format(address=recipient, name=NAME) if step else None

    async def order(self, order_id: str, **contact: Any) -> None:
        customer = {"customer_id": f"c-{order_id}", "name": NAME, "phone": f"+{PHONE}"}
        email = contact.pop("email", address(order_id))
        await self.world.send(placed(order_id, email=email, customer=customer | contact))
        await self.world.send(contact_changed(f"c-{order_id}", channels=["email", "sms"]))

    async def go_wrong(self) -> None:
        """Everything that is to be told, and letters that can't be read."""
        self.gateway.script.extend([f'400\n\n{{"error": "invalid_number", "message": "+{PHONE}"}}'] * 2)
        self.hook.script.extend([f"500\n\n{address('hook')}", f"410\n\n{NAME}"])
        for order_id in ORDERS:
            match order_id:
                case "script":
                    await self.order(order_id, email=f"{LOCAL}-ä@{order_id}.{DOMAIN}.example")  # needs SMTPUTF8
                case "broken":
                    await self.order(order_id, email=f"{LOCAL} at {DOMAIN}", phone=f"+{PHONE}")
                case _:
                    await self.order(order_id)
            await self.world.send(created(order_id))
        change = contact_changed("c-reached", revision=2, email=address("reached"), phone=f"+{PHONE}", name=NAME)
        await self.world.send(change)
        for topic, key, value in self.letters():
            await self.world.send_raw(topic, key, value, [("reply-to", OF_DEAD_LETTERS.encode())])

    def letters(self) -> list[tuple[str, bytes, bytes]]:
        """Each refused in another place."""
        customer = {"customer_id": "c-letter", "email": OF_DEAD_LETTERS, "phone": f"+{PHONE}", "name": NAME}
        order = json.loads(placed("letter").model_dump_json()) | {"customer": customer}
        change = {"type": "ContactChanged", "id": "x", "occurred_at": "2026-11-02T09:00:00Z", **customer}
        values: list[tuple[str, Any]] = [
            ("orders", json.dumps(order)[:-40]),
            ("orders", order | {"lines": OF_DEAD_LETTERS}),
            ("orders", order | {"currency": OF_DEAD_LETTERS, "placed_at": NAME}),
            ("orders", order | {"type": OF_DEAD_LETTERS}),
            ("orders", order | {"order_id": f"{OF_DEAD_LETTERS}\u0000"}),
            ("orders", order | {"customer": customer | {"timezone": OF_DEAD_LETTERS, "locale": NAME, "email": [NAME]}}),
            ("orders", f'{{"{OF_DEAD_LETTERS}": 1, "{OF_DEAD_LETTERS}": 2}}'),
            ("orders", f"{OF_DEAD_LETTERS}: {NAME}"),
            ("customers", change),
            ("customers", change | {"revision": OF_DEAD_LETTERS}),
            ("customers", change | {"revision": 1, "channels": [OF_DEAD_LETTERS]}),
            ("customers", change | {"revision": 1, "occurred_at": NAME, "id": ""}),
            ("backorders", change),
            ("fulfilment", order),
        ]
        made = [(topic, value if isinstance(value, str) else json.dumps(value)) for topic, value in values]
        return [(topic, OF_DEAD_LETTERS.encode(), value.encode()) for topic, value in made]


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A shop's own, of which one breaks for one name only, and says so with that name."""
    folder = tmp_path / "templates" / "backorder_cancelled"
    folder.mkdir(parents=True)
    breaks = "{% if name and 'Canary' in name %}{{ {}[name] }}{% endif %}Order {{ order }}: cancelled"
    (folder / "subject.txt").write_text(breaks)
    return folder.parent


async def test_no_address_phone_number_or_name_is_where_it_does_not_belong(
    world: World, script: ScriptedServer, templates: Path
) -> None:
    async with scripted_http() as gateway, scripted_http() as hook:
        settings: dict[str, Any] = {
            "NOTIFIER_LOG_LEVEL": "debug",
            "NOTIFIER_CHANNELS": "email,sms,webhook",
            "NOTIFIER_SMS_PROVIDER": "generic",
            "NOTIFIER_SMS_URL": f"http://127.0.0.1:{gateway.port}/sms",
            "NOTIFIER_SMS_TOKEN": "hunter2",
            "NOTIFIER_SMS_FROM": "Shop",
            "NOTIFIER_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/hooks",
            "NOTIFIER_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "NOTIFIER_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "NOTIFIER_QUIET_HOURS": "{}",
            "NOTIFIER_TEMPLATES": str(templates),
            "NOTIFIER_PUBLIC_URL": "https://notify.example.org",
        }
        process = await world.start(ready=True, **settings)
        canaries = Canaries(world, script, gateway, hook)
        await canaries.go_wrong()
        await _until_told(world)
        # The second round: words that can't be made, an address that is suppressed by now, one that was forgotten.
        await world.send(cancelled("words"), cancelled("dead"))
        assert (await world.command("forget", "c-forgotten", **settings))[0] == 0
        await world.send(filled("forgotten"), released("fine", units={1: 15}), filled("fine", version=2))
        await world.send(shipped("fine"), delivered("fine"))
        token = await _unsubscribe(world, process, "c-fine")
        await process.logged('"sending_failed"')
        await _until_told(world)

        # The canaries did fly.
        assert any(NAME in str(mail) for mail in script.seen)
        assert {"550", "554"} <= {reason.split()[1] for reason in await _reasons(world) if "smtp" in reason}
        assert any(PHONE.encode() in each.body for each in gateway.seen)
        assert len(await _ids_of_letters(world)) == len(canaries.letters())

        await _look_everywhere(world, process, settings, token)
        await process.stop()
        assert found_in(process.log) == []


async def _look_everywhere(world: World, process: Process, settings: dict[str, str], token: str) -> None:
    places = {"the log": process.log}
    for path in ("/livez", "/readyz", "/metrics", "/asyncapi", "/asyncapi.json", f"/unsubscribe/{token}"):
        places[path] = get(f"http://127.0.0.1:{process.port}{path}")[1]
    places |= await _topics(world) | await _tables(world) | await _commands(world, settings)
    assert all(places.values()), [name for name, text in places.items() if not text]
    assert {name: found for name, text in places.items() if (found := found_in(text))} == {}
    # A token unsubscribes whoever it is for: it is in nobody's log either.
    del places[f"/unsubscribe/{token}"]
    assert [name for name, text in places.items() if token in text] == []


async def _topics(world: World) -> dict[str, str]:
    """Outputs. On notifier.dlq the original is as it came: only what was added is looked at."""

    async def all_are_published() -> bool:
        return len(await world.read("notifier.dlq")) >= len(await _ids_of_letters(world))

    await eventually(all_are_published)

    def added(record: ConsumerRecord) -> list[Any]:
        return [header for header in record.headers if header[0].startswith("dlq.")]

    return {
        "notifications": "\n".join(
            str((record.key, record.value, record.headers)) for record in await world.read("notifications")
        ),
        "notifier.dlq": "\n".join(str(added(record)) for record in await world.read("notifier.dlq")),
    }


async def _tables(world: World) -> dict[str, str]:
    connection = await asyncpg.connect(world.database)
    try:
        named = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = {row[0] for row in named} & NO_CONTACT
        texts = {table: [str(row[0]) for row in await connection.fetch(f"SELECT t FROM {table} t")] for table in tables}
    finally:
        await connection.close()
    return {f"table {table}": f"{table}\n" + "\n".join(lines) for table, lines in texts.items()}


async def _commands(world: World, settings: dict[str, str]) -> dict[str, str]:
    """What they say without --reveal, as JSON and to people."""
    letters = await _ids_of_letters(world)
    for_people = [
        *(("status",), ("lag",), ("audit",), ("settings",), ("doctor",), ("outbox",), ("outbox", "--failed")),
        *(("dlq", "list"), ("dlq", "redrive", "--all", "--dry-run"), ("dlq", "show", str(letters[0]))),
        *(("why", order_id) for order_id in ("fine", "dead", "broken", "forgotten")),
    ]
    lines = [*for_people, *((*line, "--json") for line in for_people)]
    lines += [("dlq", "show", str(number)) for number in letters[1:]]
    return await asyncio.to_thread(_say_all, lines, world.environment(**settings))


def _say_all(lines: Sequence[tuple[str, ...]], environment: dict[str, str]) -> dict[str, str]:
    """By line. In this process: starting one takes a second."""
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for line in lines:
            patch.setattr(sys, "argv", ["backorder-notifier", *line])
            code: Any = 0
            with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
                try:
                    cli.main()
                except SystemExit as end:
                    code = end.code or 0
            assert code in {0, 1}, (line, err.getvalue())
            said[" ".join(line)] = out.getvalue() + err.getvalue()
    return said


async def _unsubscribe(world: World, process: Process, customer_id: str) -> str:
    """The token."""
    connection = await asyncpg.connect(world.database)
    try:
        token: str = await connection.fetchval(
            "SELECT unsubscribe_token FROM customers WHERE customer_id = $1", customer_id
        )
    finally:
        await connection.close()
    url = f"http://127.0.0.1:{process.port}/unsubscribe/{token}"
    request = Request(url, b"List-Unsubscribe=One-Click", method="POST")
    with await asyncio.to_thread(urlopen, request, timeout=10) as answer:
        assert answer.status == 200
    return token


async def _until_told(world: World) -> None:
    """Nothing is pending, nothing due but what nobody can put into words."""
    connection = await asyncpg.connect(world.database)

    async def told() -> bool:
        open_ones: int = await connection.fetchval(
            """
            SELECT (SELECT count(*) FROM updates WHERE state = 'pending')
                + (SELECT count(*) FROM deliveries WHERE state = 'due' AND (attempts = 0 OR order_id NOT IN ('words')))
                + (SELECT count(*) FROM orders WHERE known_at IS NULL)
            """
        )
        placed: int = await connection.fetchval("SELECT count(*) FROM messages")
        return open_ones == 0 and placed >= len(ORDERS)

    try:
        await eventually(told, 40)
    except TimeoutError:
        for row in await connection.fetch("SELECT order_id, channel, state, reason, attempts FROM deliveries"):
            print(tuple(row))
        raise
    finally:
        await connection.close()


async def _reasons(world: World) -> set[str]:
    return {row.reason for row in await world.deliveries() if row.reason}


async def _ids_of_letters(world: World) -> list[int]:
    connection = await asyncpg.connect(world.database)
    try:
        return [row[0] for row in await connection.fetch("SELECT dead_letter_id FROM dead_letters ORDER BY 1")]
    finally:
        await connection.close()
