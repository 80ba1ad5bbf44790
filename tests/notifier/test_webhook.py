import asyncio
import json
import logging
import ssl
import subprocess
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from backorder_notifier.addresses import Address, is_public, may_reach, webhook_url
from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.webhook import Resolve, WebhookChannel, body_of, key
from tests.notifier.http_script import ScriptedHttp, Seen, scripted_http
from tests.notifier.outgoing import ADA, CONTENT, NOW, PHONE, outgoing

SECRET = "whsec_" + b64encode(b"canary-" * 4).decode()
OLD_SECRET = "whsec_" + b64encode(b"canary+" * 4).decode()
LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass(frozen=True)
class Words:
    subject: str
    text: str


def greet(message: Outgoing) -> Words:
    who = message.recipient
    return Words("Bestellung 1001", f"Hallo {who.name or 'und guten Tag'}! {who.email} {who.unsubscribe_token}")


@pytest.fixture
async def script() -> AsyncIterator[ScriptedHttp]:
    async with scripted_http() as server:
        yield server


def names(*addresses: str) -> Resolve:
    """A name server that always says this."""

    async def resolve(_host: str) -> Sequence[Address]:
        return [ip_address(address) for address in addresses]

    return resolve


def channel(script: ScriptedHttp, *secrets: str, seconds: float = 5.0) -> WebhookChannel:
    return WebhookChannel(
        f"http://127.0.0.1:{script.port}/hooks?key=canary-key",
        secrets or (SECRET,),
        allowed_networks=LOOPBACK,
        timeout=timedelta(seconds=seconds),
    )


async def answer(sender: WebhookChannel, now: datetime = NOW) -> Answer:
    try:
        return await sender.send(outgoing(), now)
    finally:
        await sender.close()


def verified(request: Seen, secret: str = SECRET) -> object:
    """By the library that receivers use."""
    return Webhook(secret).verify(request.body, request.headers)


async def test_receivers_can_verify_what_they_get(script: ScriptedHttp) -> None:
    assert await answer(channel(script), datetime.now(UTC)) == Answer("sent")
    [request] = script.seen
    body = verified(request)
    assert isinstance(body, dict)
    assert (body["type"], body["timestamp"]) == ("backorder_created", "2026-11-02T09:00:00Z")
    assert request.headers["webhook-id"] == str(outgoing().delivery_id)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{script.port}"
    assert "transfer-encoding" not in request.headers
    with pytest.raises(WebhookVerificationError):
        verified(request, OLD_SECRET)
    with pytest.raises(WebhookVerificationError):
        verified(replace(request, body=request.body + b" "))
    with pytest.raises(WebhookVerificationError):
        verified(replace(request, headers=request.headers | {"webhook-id": "another"}))


async def test_while_the_secret_is_changed_both_verify(script: ScriptedHttp) -> None:
    await answer(channel(script, SECRET, OLD_SECRET), datetime.now(UTC))
    [request] = script.seen
    assert verified(request, SECRET) == verified(request, OLD_SECRET)


async def test_each_try_has_its_own_time_and_the_same_body_and_id(script: ScriptedHttp) -> None:
    script.script.append("500")
    sender = channel(script)
    await sender.send(outgoing(), NOW)
    await sender.send(outgoing(), NOW + timedelta(minutes=5))
    await sender.close()
    first, second = script.seen
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 300
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


def test_the_body_tells_all_of_the_message_and_nothing_of_how_the_customer_is_reached() -> None:
    body = body_of(outgoing(), greet)
    data = json.loads(body)["data"]
    assert data["order_id"] == "1001"
    assert data["customer_id"] == "c-7"
    assert data["about"] == ["shop-1/orders/1001/placed"]
    assert data["locale"] == "de"
    assert data["order_url"] == "https://shop.example/o"
    assert data["subject"] == "Bestellung 1001"
    assert data["text"] == "Hallo und guten Tag! None None"
    [line] = data["lines"]
    assert {name: line[name] for name in ("line_no", "sku", "title", "ordered", "waiting", "ready", "expected")} == {
        "line_no": 1,
        "sku": "PHONE-X",
        "title": "Phone “X” für dich",
        "ordered": 15,
        "waiting": 5,
        "ready": 10,
        "expected": "2026-12-01T00:00:00Z",
    }
    for contact in (ADA.email, PHONE[1:], ADA.name, "Ada", ADA.unsubscribe_token):
        assert contact is not None
        assert contact.encode() not in body


def test_hostile_text_stays_a_string_in_the_body() -> None:
    title = 'a\r\nX: y"}} </script> {{ 7*7 }} \u202e\u2028 🙂' + "x" * 200
    line = CONTENT.lines[0].model_copy(update={"title": title})
    body = body_of(outgoing(content=CONTENT.model_copy(update={"lines": (line,)})))
    assert json.loads(body)["data"]["lines"][0]["title"] == title
    assert body.isascii()
    assert b"\n" not in body


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("200", Answer("sent")),
        ("204", Answer("sent")),
        ("cut_in_body", Answer("sent")),
        ("410", Answer("never", "http 410", policy=True)),
        ("429\nRetry-After: 7", Answer("unreachable", "http 429", timedelta(seconds=7))),
        ("503\nRetry-After: Mon, 02 Nov 2026 09:01:30 GMT", Answer("unreachable", "http 503", timedelta(seconds=90))),
        ("503", Answer("later", "http 503")),
        ("502\nRetry-After: 5", Answer("later", "http 502", timedelta(seconds=5))),
        ("500", Answer("later", "http 500")),
        ("400", Answer("later", "http 400", policy=True)),
        ("404", Answer("later", "http 404", policy=True)),
        ("401", Answer("later", "http 401", policy=True)),
        ("cut", Answer("later", "connection lost after the request")),
        ("noise", Answer("later", "connection lost after the request")),
    ],
)
async def test_each_answer_has_its_meaning(script: ScriptedHttp, step: str, expected: Answer) -> None:
    script.script.append(step)
    assert await answer(channel(script)) == expected


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(script: ScriptedHttp, status: int) -> None:
    script.script.append(f"{status}\nLocation: http://127.0.0.1:{script.port}/elsewhere")
    assert await answer(channel(script)) == Answer("later", f"http {status}", policy=True)
    assert len(script.seen) == 1


@pytest.mark.parametrize("step", ["hang", "trickle_head"])
async def test_silence_is_later_and_ends_with_the_timeout(script: ScriptedHttp, step: str) -> None:
    script.script.append(step)
    assert await answer(channel(script, seconds=0.3)) == Answer("later", "timeout after the request")


@pytest.mark.parametrize("step", ["trickle", "huge"])
async def test_an_answer_without_end_is_not_read_to_its_end(script: ScriptedHttp, step: str) -> None:
    script.script.append(step)
    assert await answer(channel(script, seconds=0.5)) == Answer("sent")
    assert script.written < 20_000_000


async def test_a_small_answer_that_would_be_a_large_one_is_not_unpacked(script: ScriptedHttp) -> None:
    script.script.append("200\nContent-Encoding: gzip\n\nno gzip at all")
    assert await answer(channel(script)) == Answer("sent")
    assert script.seen[0].headers["accept-encoding"] == "identity"


async def test_a_connection_is_kept_and_no_cookie_with_it(script: ScriptedHttp) -> None:
    script.script.append("200\nSet-Cookie: tracking=1")
    sender = channel(script)
    assert [await sender.send(outgoing(), NOW) for _ in range(3)] == [Answer("sent")] * 3
    await sender.close()
    assert script.connections == 1
    assert all("cookie" not in request.headers for request in script.seen)


async def test_nobody_listening_is_unreachable() -> None:
    sender = WebhookChannel("http://127.0.0.1:9/", [SECRET], allowed_networks=LOOPBACK)
    assert await answer(sender) == Answer("unreachable", "no connection")


async def test_a_name_that_nobody_knows_is_unreachable() -> None:
    async def nobody_knows(_host: str) -> Sequence[Address]:
        raise OSError("Name or service not known: shop.example?key=canary-key")

    sender = WebhookChannel("https://shop.example/", [SECRET], resolve=nobody_knows)
    assert await answer(sender) == Answer("unreachable", "name not found")


async def test_a_name_server_that_says_nothing_is_unreachable() -> None:
    async def silent(_host: str) -> Sequence[Address]:
        await asyncio.Event().wait()
        return []

    sender = WebhookChannel("https://shop.example/", [SECRET], resolve=silent, timeout=timedelta(seconds=0.1))
    assert await answer(sender) == Answer("unreachable", "timeout")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.1", "0.0.0.0", "10.1.2.3",  # noqa: S104
        "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1",
        "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::7f00:1", "::ffff:0:a00:1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001::1", "2001:db8::1", "3fff::1",
        "fe80::1", "fe80::1%lo", "2606:4700:4700::1111%lo", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1",
        "100::1", "5f00::1", "4000::1",
    ],
)  # fmt: skip
async def test_no_webhook_goes_to_an_address_that_is_not_of_the_internet(address: str) -> None:
    assert not is_public(ip_address(address))
    sender = WebhookChannel("https://shop.example/", [SECRET], resolve=names(address))
    assert await answer(sender) == Answer("unreachable", "address not allowed", policy=True)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_addresses_of_the_internet_are_reached_encrypted(address: str) -> None:
    assert may_reach(ip_address(address), (), encrypted=True)
    assert not may_reach(ip_address(address), (), encrypted=False)
    assert not may_reach(ip_address(address), [ip_network("10.0.0.0/8"), ip_network("fd00::/8")], encrypted=False)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::1"])
def test_allowed_networks_are_reached_in_clear_text_too_and_their_neighbours_not_at_all(address: str) -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd12::/48")]
    assert may_reach(ip_address(address), allowed, encrypted=False)
    assert not may_reach(ip_address("10.2.0.1"), allowed, encrypted=True)
    assert not may_reach(ip_address("fd12:0:1::1"), allowed, encrypted=True)


async def test_a_name_may_not_lead_elsewhere_once_it_was_checked(script: ScriptedHttp) -> None:
    """DNS rebinding: allowed when asked first, another address ever after."""
    asked: list[str] = []

    async def rebinding(host: str) -> Sequence[Address]:
        asked.append(host)
        return [ip_address("127.0.0.1" if len(asked) == 1 else "127.0.0.2")]

    sender = WebhookChannel(
        f"http://shop.example:{script.port}/",
        [SECRET],
        allowed_networks=[ip_network("127.0.0.1/32")],
        resolve=rebinding,
    )
    assert await sender.send(outgoing(), NOW) == Answer("sent")
    assert asked == ["shop.example"]
    assert script.seen[0].headers["host"] == f"shop.example:{script.port}"
    # Nor by the connection that is kept: each try is checked anew.
    assert await sender.send(outgoing(), NOW) == Answer("unreachable", "address not allowed", policy=True)
    assert len(script.seen) == 1
    await sender.close()


async def test_of_several_addresses_only_those_allowed_are_tried_one_after_the_other(script: ScriptedHttp) -> None:
    sender = WebhookChannel(
        f"http://shop.example:{script.port}/",
        [SECRET],
        allowed_networks=[ip_network("127.0.0.0/30")],
        resolve=names("169.254.169.254", "127.0.0.2", "127.0.0.1"),  # nobody listens at the second
    )
    assert await answer(sender) == Answer("sent")
    assert len(script.seen) == 1


@pytest.mark.parametrize("step", ["200", "500", "cut"])
async def test_once_one_address_has_the_message_no_other_gets_it(script: ScriptedHttp, step: str) -> None:
    script.script.append(step)
    sender = WebhookChannel(
        f"http://shop.example:{script.port}/",
        [SECRET],
        allowed_networks=LOOPBACK,
        resolve=names("127.0.0.1", "127.0.0.1"),
    )
    await answer(sender)
    assert len(script.seen) == 1


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_other_spellings_of_this_machine_lead_nowhere(script: ScriptedHttp, host: str) -> None:
    try:
        sender = WebhookChannel(f"https://{host}:{script.port}/", [SECRET])
    except ValueError:
        return  # refused at start
    assert (await answer(sender)).reason in {"address not allowed", "name not found"}
    assert script.connections == 0


async def test_an_ipv6_receiver_is_reached() -> None:
    try:
        async with scripted_http(host="::1") as script:
            url = f"http://[::1]:{script.port}/"
            sender = WebhookChannel(url, [SECRET], allowed_networks=[ip_network("::1/128")])
            assert await answer(sender) == Answer("sent")
            assert script.seen[0].headers["host"] == f"[::1]:{script.port}"
    except OSError:
        pytest.skip("no IPv6 here")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of hooks.example, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=False, capture_output=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder


async def over_tls(certificate: Path, host: str, trusted: Path | None) -> tuple[Answer, ScriptedHttp, list[str | None]]:
    told: list[str | None] = []
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server_side.sni_callback = lambda _connection, name, _context: told.append(name)
    async with scripted_http(server_side) as script:
        sender = WebhookChannel(
            f"https://{host}:{script.port}/",
            [SECRET],
            allowed_networks=LOOPBACK,
            resolve=names("127.0.0.1"),
            tls=ssl.create_default_context(cafile=trusted) if trusted else None,
        )
        return await answer(sender), script, told


async def test_tls_names_the_receiver_and_not_its_address(certificate: Path) -> None:
    answered, script, told = await over_tls(certificate, "hooks.example", certificate / "cert.pem")
    assert answered == Answer("sent")
    assert told == ["hooks.example"]
    assert script.seen[0].headers["host"] == f"hooks.example:{script.port}"


@pytest.mark.parametrize(("host", "is_trusted"), [("other.example", True), ("hooks.example", False)])
async def test_a_certificate_of_another_name_or_of_nobody_we_trust_gets_nothing(
    certificate: Path, host: str, is_trusted: bool
) -> None:
    trusted = certificate / "cert.pem" if is_trusted else None
    answered, script, _ = await over_tls(certificate, host, trusted)
    assert answered == Answer("unreachable", "tls")
    assert script.seen == []


async def test_a_receiver_that_speaks_no_tls_gets_nothing(script: ScriptedHttp) -> None:
    sender = WebhookChannel(
        f"https://127.0.0.1:{script.port}/", [SECRET], allowed_networks=LOOPBACK, timeout=timedelta(seconds=1)
    )
    assert (await answer(sender)).verdict == "unreachable"
    assert script.seen == []


@pytest.mark.parametrize("step", ["200", "500", "cut", "302\nLocation: /canary-key"])
async def test_no_secret_of_the_url_and_nothing_of_the_customer_is_logged(
    script: ScriptedHttp, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    caplog.set_level(logging.DEBUG)
    script.script.append(step)
    answered = await answer(channel(script))
    for secret in ("canary-key", "c-7", "1001", b64decode(SECRET.removeprefix("whsec_")).decode(), SECRET):
        assert secret not in caplog.text + repr(answered)
    assert "canary-key" in script.seen[0].line


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://shop.example/", "should be https"),
        ("https:///path", "should be https"),
        ("https://ada:hunter2@shop.example/", "should be https"),
        ("http://shop.example/?key=hunter2", "clear text"),
        ("https://shop.example:port/hunter2", "is not a URL"),
        ("https://10.0.0.1/hunter2", "not public"),
        ("https://[fd00::1]/hunter2", "not public"),
        ("https://[::ffff:7f00:1]/hunter2", "not public"),
    ],
)
def test_urls_that_no_webhook_may_go_to_are_refused_without_repeating_them(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        webhook_url(url)
    assert "hunter2" not in str(refused.value)


def test_urls_that_webhooks_may_go_to_are_taken() -> None:
    for url in ("https://shop.example/hooks?key=1", "https://bücher.example/", "https://8.8.8.8/"):
        assert webhook_url(url) == url
    assert webhook_url("http://10.1.2.3/", [ip_network("10.0.0.0/8")])


@pytest.mark.parametrize(
    "secret", ["", "canary", "whsec_", "whsec_" + "canary! " * 6, "whsec_Y2FuYXJ5", "whsec_" + "a" * 100]
)
def test_secrets_that_are_none_are_refused_without_repeating_them(secret: str) -> None:
    with pytest.raises(ValueError, match="should") as refused:
        key(secret)
    assert "canary" not in str(refused.value)


def test_a_secret_may_come_without_its_padding() -> None:
    assert key("whsec_" + b64encode(b"0123456789" * 3 + b"x").decode().rstrip("=")) == b"0123456789" * 3 + b"x"
