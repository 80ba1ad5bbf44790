"""The link in optional messages: GET shows a page and changes nothing, POST acts (RFC 8058). Never a contact on it."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import HTTP
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import asyncpg

from backorder_notifier import contact_store
from backorder_notifier.clock import Clock
from backorder_notifier.contact_store import Subscription
from backorder_notifier.errors import describe, is_not_ready
from backorder_notifier.kinds import OPTIONAL
from backorder_notifier.statements import Connection
from backorder_notifier.telemetry import UNSUBSCRIBE_REQUESTS, logger
from backorder_notifier.unsubscribe_page import HEADERS, Outcome, page

log = logger("unsubscribing")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""ASGI."""

PATH: Final = "/unsubscribe/"
OFF: Final = "optional_kinds_off"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_MOST_BYTES: Final = 4096
_SECONDS: Final = 10.0  # for a body to come, and for the database to answer
_AT_ONCE: Final = 2  # requests with a connection: whoever knocks often must not keep reading and sending waiting

_STATUS: Final[Mapping[Outcome, int]] = {
    "wanted": 200,
    "unwanted": 200,
    "stopped": 200,
    "resumed": 200,
    "unknown": 404,
    "wrong_method": 405,
    "not_understood": 400,
    "too_large": 413,
    "too_slow": 408,
    "not_ready": 503,
    "failed": 500,
}


async def set_wanted(connection: Connection, token: str, *, wanted: bool, now: datetime) -> Subscription | None:
    """Whether the customer with this token wants messages of optional kinds, from now on. None: nobody has it.

    Those on the way are taken back. A second time changes nothing.
    """
    found = await contact_store.find_subscription(connection, token)
    if found is None:
        return None
    async with connection.transaction():
        await contact_store.lock_customers(connection, [found.customer_id])
        changed = await contact_store.set_optional_kinds(connection, found.customer_id, wanted, now)
        if changed and not wanted:
            orders = await contact_store.lock_open_orders(connection, found.customer_id, OPTIONAL)
            await contact_store.withdraw_messages(connection, orders, OPTIONAL, OFF, now)
    return Subscription(found.customer_id, wanted)


def with_unsubscribing(
    app: Application, pool: asyncpg.Pool, clock: Clock, *, shop_name: str | None = None, default_locale: str = "en"
) -> Application:
    """`app`, and before it the pages under /unsubscribe/."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PATH):
            await app(scope, receive, send)
            return
        try:
            outcome = await _answer(scope, receive, pool, slots, clock)
        except Exception as error:
            outcome = "not_ready" if is_not_ready(error) else "failed"
            log.log(30 if outcome == "not_ready" else 40, "unsubscribing_failed", **describe(error))
        UNSUBSCRIBE_REQUESTS.labels(outcome).inc()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body, language = page(outcome, headers.get("accept-language", ""), default_locale, shop_name)
        await _respond(send, scope["method"], outcome, body, language)

    return application


async def _answer(
    scope: Scope, receive: Receive, pool: asyncpg.Pool, slots: asyncio.Semaphore, clock: Clock
) -> Outcome:
    method: str = scope["method"]
    if method not in {"GET", "HEAD", "POST"}:
        return "wrong_method"
    wish: Wish | None = None
    if method == "POST":
        try:
            async with asyncio.timeout(_SECONDS):
                body = await _body(receive)
        except TimeoutError:
            return "too_slow"
        if body is None:
            return "too_large"
        wish = _wish(scope, body)
        if wish is None:
            return "not_understood"
    token: str = scope["path"].removeprefix(PATH)
    if not _TOKEN.fullmatch(token):
        return "unknown"
    async with asyncio.timeout(_SECONDS), slots, pool.acquire() as connection:
        if wish is None:
            found = await contact_store.find_subscription(connection, token)
        else:
            found = await set_wanted(connection, token, wanted=wish == "resume", now=clock())
    if found is None:
        return "unknown"
    match wish:
        case None:
            return "wanted" if found.optional_kinds else "unwanted"
        case "stop":
            return "stopped"
        case "resume":
            return "resumed"


Wish = Literal["stop", "resume"]


async def _body(receive: Receive) -> bytes | None:
    """None: larger than any that means something."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _wish(scope: Scope, body: bytes) -> Wish | None:
    """What a form says: RFC 8058's "List-Unsubscribe=One-Click", or the way back from our page."""
    content_type = next((value for name, value in scope["headers"] if name.lower() == b"content-type"), b"")
    fields = _multipart(content_type, body) if b"multipart/" in content_type.lower() else _urlencoded(body)
    if fields.get("resubscribe") == "yes":
        return "resume"
    return "stop" if fields.get("List-Unsubscribe", "").lower() == "one-click" else None


def _urlencoded(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("latin-1"), max_num_fields=10))
    except ValueError:
        return {}


def _multipart(content_type: bytes, body: bytes) -> dict[str, str]:
    form = message_from_bytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body, EmailMessage, policy=HTTP)
    fields = {}
    for part in form.iter_parts() if form.is_multipart() else ():
        name, value = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(value, bytes):
            fields[name] = value.decode("latin-1").strip()
    return fields


async def _respond(send: Send, method: str, outcome: Outcome, body: bytes, language: str) -> None:
    headers = dict(HEADERS) | {"content-language": language, "content-length": str(len(body))}
    if outcome == "wrong_method":
        headers["allow"] = "GET, HEAD, POST"
    if outcome == "not_ready":
        headers["retry-after"] = "30"
    if outcome in {"too_large", "too_slow"}:
        headers["connection"] = "close"  # what is left of the body is nobody's business
    start = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": _STATUS[outcome], "headers": start})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
