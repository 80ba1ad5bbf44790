"""Text messages, by an HTTP gateway: the API of a well-known provider (and those who speak it), and a plain one.

The plain one, for a gateway of one's own:

    POST <url>   Authorization: Bearer <token>   Idempotency-Key: <delivery id>
    {"to": "+49…", "from": "SHOP", "text": "…", "id": "<delivery id>"}

- 2xx: taken. The same Idempotency-Key again is the same message and is not sent twice.
- 4xx with {"error": "invalid_number"} or {"error": "unsubscribed"}: nothing is sent to this number any more.
- 400, 413, 415, 422: refused for good. 401, 403, 404, 405: our account or URL is wrong, nothing is lost. Others: later.
- 429, and 503 with Retry-After: nothing is sent for as long.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, assert_never
from urllib.parse import quote, urlencode

import httpx
from pydantic_core import from_json

from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.gsm import fit, plain
from backorder_notifier.posting import Lost, Reply, is_throttled, post, retry_after, transport


class SmsWords(Protocol):
    @property
    def sms(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Twilio:
    """`sender`: a number, a name, or a Messaging Service ("MG…"). `url`: another one for those who speak this API."""

    account: str
    token: str = field(repr=False)
    sender: str
    url: str = "https://api.twilio.com"


@dataclass(frozen=True, slots=True)
class Generic:
    url: str
    token: str = field(repr=False)
    sender: str


Gateway = Twilio | Generic


# What the provider says of one number: https://www.twilio.com/docs/api/errors. Any other code is judged by its status.
_DEAD_NUMBER: Final = frozenset({
    21211,  # not a number
    21217,
    21265,  # a short code
    21266,  # our own
    21268,  # premium rate
    21610,  # they answered STOP
    21614,  # not a mobile
    21635, 30006,  # a landline
    30005,  # unknown
})  # fmt: skip
_NOT_NOW: Final = frozenset({14107, 30003, 30008, 30017})
_TOO_MANY: Final = frozenset({20429, 21611, 30001, 30022, 30023})
_OUR_ACCOUNT: Final = frozenset({10001, 20003, 20005, 20006, 20008, 20404, 30002})
# Our sender may be wrong for this destination alone, so it stops nobody else's, and waits for somebody to look.
_OUR_SENDER: Final = frozenset({21212, 21603, 21606, 21659, 21660, 21661, 21703, 21704, 21705})
_FAILED: Final = frozenset({"failed", "undelivered", "canceled"})


class SmsChannel:
    """Hands text messages to one gateway. Safe to use from several tasks.

    A text takes `most_parts` at most: a longer one is cut before its end, where it says where to read on.
    """

    give_up_after: Final = timedelta(days=1)

    def __init__(
        self, gateway: Gateway, words: Callable[[Outgoing], SmsWords], *, timeout: timedelta = timedelta(seconds=15),
        most_parts: int = 3, tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._words = words
        self._seconds = timeout.total_seconds()
        self._most_parts = most_parts
        self._transport = transport(tls)

    async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
        """One try. Raises ValueError where there are no words."""
        number = outgoing.recipient.phone
        if number is None:
            return Answer("never", "no_phone", tried=False)
        text = fit(plain(self._words(outgoing).sms.strip()), self._most_parts)
        if not text:
            raise ValueError("a text message without a text")
        url, headers, body = _request(self._gateway, number, text, str(outgoing.delivery_id))
        until = asyncio.get_running_loop().time() + self._seconds
        match await post(self._transport, httpx.URL(url), headers, body, until):
            case Reply() as reply:
                return judge(self._gateway, reply, now)
            case Lost(reason, handed_over=True):
                # The one that knows its messages again doesn't send twice, so there is no doubt to count.
                knows_again = isinstance(self._gateway, Generic)
                return Answer("later" if knows_again else "ambiguous", f"{reason} after the request")
            case Lost(reason):
                return Answer("unreachable", reason)

    async def close(self) -> None:
        await self._transport.aclose()


def _request(gateway: Gateway, number: str, text: str, delivery_id: str) -> tuple[str, dict[str, str], bytes]:
    match gateway:
        case Twilio():
            login = base64.b64encode(f"{gateway.account}:{gateway.token}".encode()).decode()
            sender = "MessagingServiceSid" if gateway.sender.startswith("MG") and len(gateway.sender) == 34 else "From"
            return (
                f"{gateway.url.rstrip('/')}/2010-04-01/Accounts/{quote(gateway.account, safe='')}/Messages.json",
                {"Authorization": f"Basic {login}", "Content-Type": "application/x-www-form-urlencoded"},
                urlencode({"To": number, sender: gateway.sender, "Body": text}).encode(),
            )
        case Generic():
            return (
                gateway.url,
                {
                    "Authorization": f"Bearer {gateway.token}",
                    "Content-Type": "application/json",
                    "Idempotency-Key": delivery_id,
                },
                json.dumps({"to": number, "from": gateway.sender, "text": text, "id": delivery_id}).encode(),
            )
        case _:
            assert_never(gateway)


def judge(gateway: Gateway, reply: Reply, now: datetime) -> Answer:
    """What an answer means for the message."""
    said = _object(reply.body)
    match gateway:
        case Twilio():
            return _judge_twilio(reply, said, now)
        case Generic():
            return _judge_generic(reply, said, now)
        case _:
            assert_never(gateway)


def _judge_twilio(reply: Reply, said: dict[str, Any], now: datetime) -> Answer:
    taken = 200 <= reply.status < 300
    if taken and str(said.get("status")) not in _FAILED:
        return Answer("sent")
    code = said.get("error_code" if taken else "code")
    if type(code) is not int or not 0 < code < 100_000:
        code = None  # not theirs, and might be anybody's number
    wait = retry_after(reply.headers, now)
    reason = f"http {reply.status}" + (f" code {code}" if code else "")
    if code in _DEAD_NUMBER:
        return Answer("never", reason, suppress=True)
    if code in _TOO_MANY or is_throttled(reply):
        return Answer("unreachable", reason, wait)
    if code in _NOT_NOW or reply.status in {408, 425, 503}:
        return Answer("later", reason, wait)
    if code in _OUR_ACCOUNT:
        return Answer("unreachable", reason, wait, policy=True)
    if code in _OUR_SENDER:
        return Answer("later", reason, wait, policy=True)
    if code is not None and (taken or reply.status == 400 or 21000 <= code < 22000 or 30000 <= code < 40000):
        return Answer("never", reason, policy=True)
    if reply.status >= 500:
        # Sending is not idempotent there: an error of theirs may come after it was sent (their page on error 20500).
        return Answer("ambiguous", reason, wait)
    if reply.status in {401, 403, 404, 405} or 300 <= reply.status < 400:
        return Answer("unreachable", reason, wait, policy=True)
    return Answer("later", reason, wait, policy=True)  # nothing that we know: wait for somebody to look


def _judge_generic(reply: Reply, said: dict[str, Any], now: datetime) -> Answer:
    if 200 <= reply.status < 300:
        return Answer("sent")
    wait = retry_after(reply.headers, now)
    reason = f"http {reply.status}"
    if is_throttled(reply):
        return Answer("unreachable", reason, wait)
    match reply.status, said.get("error"):
        case status, "invalid_number" | "unsubscribed" as error if 400 <= status < 500:
            return Answer("never", f"{reason} {error}", suppress=True)
        case 400 | 413 | 415 | 422, _:
            return Answer("never", reason, policy=True)
        case status, _ if status in {401, 403, 404, 405} or 300 <= status < 400:
            return Answer("unreachable", reason, wait, policy=True)
        case _:
            return Answer("later", reason, wait)


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = from_json(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
