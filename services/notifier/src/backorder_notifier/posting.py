"""One POST to a provider over HTTP, with an end to every wait, and what can be said of it afterwards.

A transport without a client around it: nothing follows redirects, keeps cookies, takes proxies or passwords from the
environment, or logs URLs (which may hold secrets).
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

_CONNECT_SECONDS: Final = 5.0  # at most: another address may answer
_ANSWER_BYTES: Final = 16 * 1024  # an answer's codes are in its first bytes
_ANSWER_SECONDS: Final = 2.0  # for the rest of an answer whose status is known
_LONGEST_WAIT: Final = timedelta(hours=6)  # whatever a provider asks for


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `body` is its beginning, or less where it didn't come in time."""

    status: int
    headers: httpx.Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. `handed_over`: the request was on its way, so it may have been taken."""

    reason: str
    handed_over: bool


def transport(tls: ssl.SSLContext | None = None) -> httpx.AsyncHTTPTransport:
    """Keeps connections. Certificates: those of `SSL_CERT_FILE` where that is set, else the usual ones."""
    # Its lines for debugging show the headers of answers.
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    limits = httpx.Limits(max_keepalive_connections=10, keepalive_expiry=30)
    return httpx.AsyncHTTPTransport(verify=tls or httpx.create_ssl_context(), trust_env=False, limits=limits)


async def post(
    over: httpx.AsyncHTTPTransport, url: httpx.URL, headers: Mapping[str, str], body: bytes, until: float,
    server_name: str | None = None,
) -> Reply | Lost:  # fmt: skip
    """One try, over at `until` (on the loop's clock). Never raises but for cancellation.

    `server_name`: whom the server's certificate must name, where the URL has an address.
    """
    handed_over = False

    async def content() -> AsyncIterator[bytes]:
        nonlocal handed_over
        handed_over = True
        yield body

    left = max(0.0, until - asyncio.get_running_loop().time())
    # Connecting and its TLS end before the whole does: cancelled in between, the library would leave the socket open.
    timeouts = {"connect": min(_CONNECT_SECONDS, 0.45 * left), "read": left, "write": left, "pool": left}
    request = httpx.Request(
        "POST",
        url,
        # Not compressed, so that a small answer can't become a large one. The length: a stream would come in chunks.
        headers={"Accept-Encoding": "identity", "User-Agent": "backorder-notifier", **headers,
                 "Content-Length": str(len(body))},
        content=content(),
        extensions={"timeout": timeouts} | ({"sni_hostname": server_name} if server_name else {}),
    )  # fmt: skip
    try:
        async with asyncio.timeout_at(until):
            response = await over.handle_async_request(request)
    except (httpx.TransportError, OSError) as lost:
        return Lost(_why(lost), handed_over)
    return Reply(response.status_code, response.headers, await _beginning(response, until))


async def _beginning(response: httpx.Response, until: float) -> bytes:
    """What comes of the body soon. The status was the answer: a body that is cut, or has no end, changes nothing."""
    body = b""
    try:
        async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + _ANSWER_SECONDS)):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= _ANSWER_BYTES:
                    break
    except (httpx.TransportError, OSError):
        pass
    finally:
        # Read to its end, the connection is kept; else it is closed.
        await response.aclose()
    return body[:_ANSWER_BYTES]


def _why(lost: BaseException) -> str:
    """By class alone: texts of errors repeat URLs."""
    cause: BaseException | None = lost
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "tls"
        cause = cause.__cause__ or cause.__context__  # the pool says "from None"
    if isinstance(lost, httpx.TimeoutException | TimeoutError):
        return "timeout"
    return "no connection" if isinstance(lost, httpx.ConnectError) else "connection lost"


def is_throttled(reply: Reply) -> bool:
    """It wants fewer requests, whoever they are for. 503 alone may be about this one."""
    return reply.status == 429 or (reply.status == 503 and "retry-after" in reply.headers)


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """The Retry-After of an answer (RFC 9110, 10.2.3: seconds or a date), from 0 to 6 hours; None: none."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:9]), _LONGEST_WAIT.total_seconds()))
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta(0)), _LONGEST_WAIT)
