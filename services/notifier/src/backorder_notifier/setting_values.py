"""Texts of settings → values, each checked. Raises ValueError with the way out, and repeats nothing of a secret."""

import ipaddress
import json
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from backorder_notifier.contacts import is_mail_address
from backorder_notifier.kinds import CHANNELS, KINDS, OPTIONAL, Channel, Kind
from backorder_notifier.policy import Debounce, QuietHours

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SmsProvider = Literal["twilio", "generic"]


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over. `tls`: from the first byte, by STARTTLS (never without), or none (loopback only)."""

    host: str
    port: int
    tls: Literal["none", "starttls", "tls"]
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom mails are from. The domain also names our Message-IDs."""

    address: str
    name: str | None

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class SmsGateway:
    """Where short messages are handed over. `url`: of a generic gateway, or instead of the provider's own."""

    provider: SmsProvider
    url: str | None = field(repr=False)  # which may have a key in it
    account: str | None
    token: str = field(repr=False)
    sender: str


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Who is told by webhook. Signed with every secret (two while one replaces the other)."""

    url: str = field(repr=False)  # which may have a key in it
    secrets: tuple[str, ...] = field(repr=False)
    allowed_networks: tuple[Network, ...]


SCHEMES: dict[str, tuple[Literal["none", "starttls", "tls"], int]] = {
    "smtp": ("none", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),
}


def smtp_server(url: str) -> SmtpServer:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("is not a URL such as smtp+starttls://user:pass@host:587") from None
    if parts.scheme not in SCHEMES or not host:
        raise ValueError(
            "should be smtp+starttls://user:pass@host:587, smtps://user:pass@host:465 or smtp://127.0.0.1:25"
        )
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("has something after the port; characters such as / ? # in a password are written %2F %3F %23")
    tls, default_port = SCHEMES[parts.scheme]
    if tls == "tls" and port == 587:
        raise ValueError("port 587 needs smtp+starttls")
    if tls == "starttls" and port == 465:
        raise ValueError("port 465 needs smtps")
    if tls == "none" and not is_loopback(host):
        raise ValueError(
            "smtp:// is clear text and only for a server on this machine: use smtp+starttls:// or smtps://"
        )
    return SmtpServer(
        host,
        port if port is not None else default_port,
        tls,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sender(text: str) -> Sender:
    """Reads "shop@example.org" or "Shop <shop@example.org>"."""
    match = re.fullmatch(r"\s*(?:\"?([^\"<>]*?)\"?\s*<([^<>]+)>|([^<>\s]+))\s*", text)
    if match is None:
        raise ValueError('should be "shop@example.org" or "Shop <shop@example.org>"')
    name, address = match[1], match[2] or match[3]
    if not is_mail_address(address) or not address.isascii() or (name and not name.isprintable()):
        raise ValueError('should be "shop@example.org" or "Shop <shop@example.org>"')
    return Sender(address, name or None)


def database_url(url: str) -> None:
    if urlsplit(url).scheme not in {"postgresql", "postgres"}:
        raise ValueError("should be postgresql://user:pass@host:5432/name")


def web_url(url: str) -> None:
    """https anywhere; http only to this machine: what goes over it is of customers."""
    any_web_url(url)
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("http:// is clear text and only for a server on this machine: use https://")


def any_web_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL such as https://shop.example.org") from None
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        raise ValueError("should be https://host/path")
    if parts.username or parts.password:
        raise ValueError("has a user name or password in it, which listings and logs would show")
    if parts.fragment:
        raise ValueError("has a # in it, after which nothing is sent to a server")


def public_url(url: str) -> None:
    """What links in messages begin with."""
    web_url(url)
    if urlsplit(url).query:
        raise ValueError("should be https://host/path, without a ?")


def bootstrap_servers(value: Any) -> Any:
    """ "host:9092,host2:9092" → a tuple: handed on as one text it would become one bogus host."""
    if not isinstance(value, str):
        return value
    servers = tuple(listed(value))
    if not servers or not all(
        re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", server) for server in servers
    ):
        raise ValueError("should be host:9092 or host:9092,host2:9092")
    return servers


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def channels(value: Any) -> Any:
    """ "email,sms" → in this order a required message looks for its way."""
    if not isinstance(value, str):
        return value
    names = listed(value)
    if not names or not set(names) <= set(CHANNELS) or len(set(names)) < len(names):
        raise ValueError(f"should be some of {', '.join(CHANNELS)}, each once, separated by commas")
    return tuple(names)


def kinds_off(value: Any) -> Any:
    """ "delivered,feedback_request" → a set. What the order needs can't be switched off."""
    if not isinstance(value, str):
        return value
    names = listed(value)
    if unknown := set(names) - set(KINDS):
        raise ValueError(f"{', '.join(sorted(unknown))}: no such kind; it is some of {', '.join(sorted(OPTIONAL))}")
    if needed := set(names) - OPTIONAL:
        raise ValueError(
            f"{', '.join(sorted(needed))}: customers have to be told; what may be off is {', '.join(sorted(OPTIONAL))}"
        )
    return frozenset(names)


def networks(value: Any) -> Any:
    """ "10.1.0.0/16,fd00::/8" → networks."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(ipaddress.ip_network(part) for part in listed(value))
    except ValueError:
        raise ValueError("should be networks such as 10.1.0.0/16 or 192.168.7.4/32, separated by commas") from None


def webhook_secrets(text: str) -> tuple[str, ...]:
    """ "whsec_<base64>", or two of them (Standard Webhooks: keys of 24 to 64 bytes)."""
    secrets = []
    for part in listed(text):
        try:
            key = b64decode(part.removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if not part.startswith("whsec_") or not 24 <= len(key) <= 64:
            raise ValueError("should be whsec_ and 24 to 64 bytes in base64: whsec_$(openssl rand -base64 32)")
        secrets.append(part)
    if not 1 <= len(secrets) <= 2:
        raise ValueError("should be one secret, or two separated by a comma while one replaces the other")
    return tuple(secrets)


def sms_sender(text: str) -> None:
    """A phone number, an account's service id, or a name as gateways allow it."""
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}|MG[0-9a-f]{32}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}|[0-9]{3,8}", text):
        raise ValueError("should be +4915112345678, a short code, or a name of up to 11 letters and digits")


def clock(value: Any) -> Any:
    """ "09:00" → a time on somebody's clock."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise ValueError("should be a time such as 09:00")
    return time.fromisoformat(value)


def quiet_hours(value: Any) -> Any:
    """{"sms": "21:00-08:00"} → by channel."""
    if not isinstance(value, str):
        return value
    found: dict[Channel, QuietHours] = {}
    for channel, hours in _object(value, '{"sms": "21:00-08:00"}').items():
        if channel not in CHANNELS:
            raise ValueError(f"{channel}: no such channel; it is one of {', '.join(CHANNELS)}")
        try:
            begin, end = (clock(part.strip()) for part in hours.split("-"))
        except (ValueError, AttributeError):
            raise ValueError(f"{channel}: should be hours such as 21:00-08:00") from None
        if begin == end:
            raise ValueError(f"{channel}: would be quiet all day; leave the channel out of NOTIFIER_CHANNELS instead")
        found[channel] = QuietHours(begin, end)
    return found


def debounce(value: Any) -> Any:
    """{"promise_changed": {"quiet": "PT30M", "at_most": "PT4H"}} → by kind; "default" is for kinds not named."""
    if not isinstance(value, str):
        return value
    example = '{"promise_changed": {"quiet": "PT30M", "at_most": "PT4H"}}'
    found: dict[Kind | Literal["default"], Debounce] = {}
    for kind, given in _object(value, example).items():
        if kind not in {*KINDS, "default"}:
            raise ValueError(f"{kind}: no such kind; it is default or one of {', '.join(KINDS)}")
        if not isinstance(given, dict) or given.keys() != {"quiet", "at_most"}:
            raise ValueError(f"{kind}: should be as in {example}")
        quiet, at_most = (_span(kind, given[name]) for name in ("quiet", "at_most"))
        if quiet > at_most:
            raise ValueError(f"{kind}: quiet is longer than at_most")
        found[kind] = Debounce(quiet, at_most)
    return found


def _object(text: str, example: str) -> Mapping[Any, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"should be JSON such as {example}")
    return found


def _span(kind: str, text: object) -> timedelta:
    try:
        span = TypeAdapter(timedelta).validate_python(text if isinstance(text, str) else None)
    except ValidationError:
        span = timedelta(-1)
    if not timedelta(0) <= span <= timedelta(days=7):
        raise ValueError(f"{kind}: should be a duration such as PT30M, a week at most")
    return span
