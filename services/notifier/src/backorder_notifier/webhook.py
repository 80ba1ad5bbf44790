"""Webhooks to the shop's own systems, signed as in Standard Webhooks (https://www.standardwebhooks.com), version 1.

Every answer but 2xx is a failure and tried again for a day, as that specification asks, since what is refused now is
mostly a receiver that is being deployed or configured. 410 Gone says that nothing more is wanted: that message is
given up, and somebody should look. Redirects are failures too: they would lead past the check of addresses.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final, Protocol

import httpx

from backorder_notifier.addresses import Address, Network, may_reach, webhook_url
from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.posting import Lost, Reply, is_throttled, post, retry_after, transport

_PREFIX: Final = "whsec_"
_MOST_ADDRESSES: Final = 3  # tried of one name, within one timeout
_ENDPOINT_IS_WRONG: Final = frozenset({400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 421, 422, 426, 501})


class WebhookWords(Protocol):
    @property
    def subject(self) -> str: ...
    @property
    def text(self) -> str: ...


Resolve = Callable[[str], Awaitable[Sequence[Address]]]


class WebhookChannel:
    """Hands messages to one URL. Safe to use from several tasks.

    `secrets`: one, or while it is being changed the new and the old. `words`: if given, the body has the message in
    the customer's words too, made without their name, address or number.
    """

    give_up_after: Final = timedelta(days=1)

    def __init__(
        self, url: str, secrets: Sequence[str], words: Callable[[Outgoing], WebhookWords] | None = None, *,
        allowed_networks: Sequence[Network] = (), timeout: timedelta = timedelta(seconds=15),
        resolve: Resolve | None = None, tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._url = httpx.URL(webhook_url(url, allowed_networks))
        self._host = self._url.raw_host.decode("ascii")
        self._headers = {"Host": self._url.netloc.decode("ascii"), "Content-Type": "application/json"}
        self._keys = [key(secret) for secret in secrets]
        self._words = words
        self._allowed = tuple(allowed_networks)
        self._seconds = timeout.total_seconds()
        self._resolve = resolve or addresses_of
        self._transport = transport(tls)

    async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._seconds
        body = body_of(outgoing, self._words)
        headers = self._headers | signed(str(outgoing.delivery_id), body, self._keys, now)
        try:
            async with asyncio.timeout_at(until):
                found = await self._resolve(self._host)
        except TimeoutError:
            return Answer("unreachable", "timeout")
        except (OSError, UnicodeError):
            return Answer("unreachable", "name not found")
        # Resolved, checked and connected to in one go: a name that resolves to something else a moment later, or for
        # whoever asks next, leads nowhere else.
        reachable = [each for each in found if may_reach(each, self._allowed, encrypted=self._url.scheme == "https")]
        if not reachable:
            return Answer("unreachable", "address not allowed", policy=True)
        outcome: Reply | Lost = Lost("timeout", handed_over=False)
        for address in reachable[:_MOST_ADDRESSES]:
            url = self._url.copy_with(host=str(address))
            outcome = await post(self._transport, url, headers, body, until, server_name=self._host)
            if isinstance(outcome, Reply) or outcome.handed_over:
                break
        return judge(outcome, now)

    async def close(self) -> None:
        await self._transport.aclose()


def judge(outcome: Reply | Lost, now: datetime) -> Answer:
    """What became of a try. A receiver knows a webhook again by its id, so one that may have been taken is no doubt."""
    match outcome:
        case Lost(reason, handed_over=True):
            return Answer("later", f"{reason} after the request")
        case Lost(reason):
            return Answer("unreachable", reason)
        case Reply(status) if 200 <= status < 300:
            return Answer("sent")
        case Reply(410):
            return Answer("never", "http 410", policy=True)
        case Reply(status, headers) if is_throttled(outcome):
            return Answer("unreachable", f"http {status}", retry_after(headers, now))
        case Reply(status, headers):
            wrong = status in _ENDPOINT_IS_WRONG or 300 <= status < 400
            return Answer("later", f"http {status}", retry_after(headers, now), policy=wrong)


def body_of(outgoing: Outgoing, words: Callable[[Outgoing], WebhookWords] | None = None) -> bytes:
    """The same bytes on every try, as long as the customer's language and the templates are the same.

    ASCII, so that nobody's guess at a charset breaks the signature.
    """
    content = outgoing.content.model_dump(mode="json", exclude={"kind", "order_id"})
    recipient = replace(outgoing.recipient, name=None, email=None, phone=None, unsubscribe_token=None)
    data = {
        "message_id": str(outgoing.message_id),
        "order_id": outgoing.order_id,
        "customer_id": recipient.customer_id,
        "locale": recipient.locale,
        "timezone": recipient.timezone,
        "about": list(outgoing.about),
        **content,
    }
    if words is not None:
        rendered = words(replace(outgoing, recipient=recipient))
        data |= {"subject": rendered.subject, "text": rendered.text}
    composed_at = outgoing.composed_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    body = {"type": outgoing.content.kind, "timestamp": composed_at, "data": data}
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def signed(webhook_id: str, body: bytes, keys: Sequence[bytes], now: datetime) -> dict[str, str]:
    """The headers of one try: each key signs id, time of the try, and body."""
    timestamp = str(int(now.timestamp()))
    content = b".".join([webhook_id.encode(), timestamp.encode(), body])
    signatures = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def key(secret: str) -> bytes:
    """The key in a "whsec_…". Raises ValueError with a text that repeats nothing of it."""
    try:
        prefix, encoded = secret[: len(_PREFIX)], secret[len(_PREFIX) :]
        if prefix != _PREFIX:
            raise ValueError
        found = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError('should be "whsec_" and a key in base64') from None
    if not 24 <= len(found) <= 64:
        raise ValueError("should hold a key of 24 to 64 bytes")
    return found


async def addresses_of(host: str) -> Sequence[Address]:
    """What a name resolves to now. Raises OSError where it is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ip_address(address[0]) for _, _, _, _, address in found))
