"""The link in optional messages, over real HTTP."""

import asyncio
import base64
import hashlib
import http.client
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import pytest

from backorder_notifier import contact_store, unsubscribing
from backorder_notifier.contacts import changed
from backorder_notifier.statements import open_pool
from backorder_notifier.telemetry import REGISTRY
from backorder_notifier.unsubscribe_page import page
from backorder_notifier.unsubscribing import Application, Receive, Scope, Send, set_wanted, with_unsubscribing
from backorder_notifier.web import build_server, listen
from tests.notifier.messages import NOON, contact_changed
from tests.notifier.test_privacy import Held
from tests.notifier.world import eventually

ONE_CLICK = "List-Unsubscribe=One-Click"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NOBODYS = "A" * 22


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class Site:
    port: int
    path: str

    async def ask(self, method: str = "GET", path: str | None = None, body: str | bytes = "", **headers: str) -> Answer:
        return await asyncio.to_thread(self._ask, method, path or self.path, body, headers)

    async def post(self, body: str | bytes = ONE_CLICK, path: str | None = None, **headers: str) -> Answer:
        return await self.ask("POST", path, body, **FORM | headers)

    def _ask(self, method: str, path: str, body: str | bytes, headers: dict[str, str]) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(
                method, path, body or None, {name.replace("_", "-"): text for name, text in headers.items()}
            )
            answer = connection.getresponse()
            return Answer(
                answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read().decode()
            )


async def everything_else(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def held(connection: asyncpg.Connection) -> Held:
    return Held(connection)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(database, size=3)
    yield pool
    await pool.close()


@asynccontextmanager
async def serving(app: Application) -> AsyncIterator[int]:
    """The port of a real server."""
    bound = listen("127.0.0.1", 0)
    server = build_server(app)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        bound.close()


@pytest.fixture
async def site(pool: asyncpg.Pool, held: Held) -> AsyncIterator[Site]:
    """A customer with an order, and the page."""
    await held.order()
    token = await held.connection.fetchval("SELECT unsubscribe_token FROM customers")
    async with serving(with_unsubscribing(everything_else, pool, lambda: NOON, shop_name="Bits & Bobs")) as port:
        yield Site(port, f"/unsubscribe/{token}")


async def wanted(held: Held) -> tuple[bool, datetime | None]:
    row = await held.connection.fetchrow("SELECT optional_kinds, unsubscribed_at FROM customers")
    assert row is not None
    return row["optional_kinds"], row["unsubscribed_at"]


async def test_opening_the_link_shows_a_button_and_changes_nothing(site: Site, held: Held) -> None:
    before = await held.dump()
    for method in ("GET", "HEAD", "GET"):
        answer = await site.ask(method)
        assert answer.status == 200
        assert bool(answer.text) == (method == "GET")
    assert await held.dump() == before
    page_text = (await site.ask()).text
    assert '<form method="post">\n<input type="hidden" name="List-Unsubscribe" value="One-Click">' in page_text
    assert "<button" in page_text


async def test_the_page_says_nothing_of_a_person_and_keeps_its_address_to_itself(site: Site) -> None:
    for answer in (await site.ask(), await site.post(), await site.ask(path=f"/unsubscribe/{NOBODYS}")):
        text = answer.text.lower()
        assert not any(word in text for word in ("ada", "canary", "c-7", "1001", "+49", "<script", "<img", "http"))
        assert site.path not in answer.text
        assert "Bits &amp; Bobs" in answer.text
        headers = answer.headers
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert "noindex" in headers["x-robots-tag"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert {"set-cookie", "location", "server"}.isdisjoint(headers)


async def test_the_style_of_the_page_is_the_one_that_its_policy_allows(site: Site) -> None:
    answer = await site.ask()
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


MULTIPART = (
    '--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n',
    {"Content-Type": 'multipart/form-data; boundary="x"'},
)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(ONE_CLICK, FORM), MULTIPART, (ONE_CLICK, {}), ("a=b&List-Unsubscribe=one-click", FORM)],
    ids=["form", "multipart", "no type", "more fields"],
)
async def test_one_click_unsubscribes(site: Site, held: Held, body: str, headers: dict[str, str]) -> None:
    answer = await site.ask("POST", None, body, **headers)
    assert answer.status == 200
    assert await wanted(held) == (False, NOON)
    # What a mistaken click did can be undone on the same page.
    assert 'name="resubscribe" value="yes"' in answer.text


async def test_unsubscribing_twice_is_unsubscribing_once(site: Site, held: Held, pool: asyncpg.Pool) -> None:
    await site.post()
    before = await held.dump()
    assert (await site.post()).status == 200
    assert await set_wanted(held.connection, site.path[-22:], wanted=False, now=NOON + timedelta(days=1))
    assert await held.dump() == before
    assert 'name="resubscribe"' in (await site.ask()).text


async def test_who_clicked_by_mistake_comes_back(site: Site, held: Held) -> None:
    await site.post()
    answer = await site.post("resubscribe=yes")
    assert answer.status == 200
    assert await wanted(held) == (True, None)
    assert 'name="List-Unsubscribe"' in answer.text


NOTHING: tuple[tuple[str | bytes, dict[str, str]], ...] = (
    ("", {}),
    ("List-Unsubscribe=No", FORM),
    ("resubscribe=no", FORM),
    ('{"List-Unsubscribe": "One-Click"}', {"Content-Type": "application/json"}),
    ("&".join(f"a{number}=1" for number in range(50)) + "&" + ONE_CLICK, FORM),
    (ONE_CLICK, {"Content-Type": "multipart/form-data"}),
    ("--x\r\nContent-Disposition: form-data; name*=broken\r\n\r\n", MULTIPART[1]),
    (b"--x\r\n\xff\xfe\r\n--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x--", MULTIPART[1]),
    (b"\xff=%ff%zz&=&;", FORM),
)


async def test_a_body_that_asks_for_nothing_changes_nothing(site: Site, held: Held) -> None:
    before = await held.dump()
    for body, headers in NOTHING:
        assert (await site.ask("POST", None, body, **headers)).status == 400, body
    assert await held.dump() == before


async def test_a_link_that_is_nobodys_is_not_found(site: Site, held: Held) -> None:
    before = await held.dump()
    for token in (NOBODYS, "", "short", "A" * 21 + "/", "A" * 23, "../metrics", "%00" * 22, "A" * 22 + "%0A"):
        path = f"/unsubscribe/{token}"
        answers = [await site.ask(path=path), await site.post(path=path)]
        assert [answer.status for answer in answers] == [404, 404], token
        assert answers[0].text == answers[1].text
    assert await held.dump() == before


async def test_other_methods_are_refused(site: Site, held: Held) -> None:
    before = await held.dump()
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = await site.ask(method, None, ONE_CLICK)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST"), method
    assert await held.dump() == before


async def test_what_is_not_an_unsubscribe_link_is_answered_by_the_rest_of_the_service(site: Site) -> None:
    assert (await site.ask(path="/metrics")).status == 418
    assert (await site.ask(path="/unsubscribe")).status == 418


async def test_a_body_has_a_limit(site: Site, held: Held) -> None:
    assert (await site.post(ONE_CLICK + "&a=" + "x" * 10_000)).status == 413
    assert await wanted(held) == (True, None)


async def test_a_body_that_never_ends_is_not_waited_for(
    site: Site, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsubscribing, "_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"POST {site.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nList-".encode())
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert await wanted(held) == (True, None)


async def test_while_the_database_is_away_the_page_says_to_come_back(
    site: Site, pool: asyncpg.Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    await pool.close()
    for answer in (await site.ask(), await site.post()):
        assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert site.path[-22:] not in capfd.readouterr().err


async def test_many_clicks_leave_connections_to_the_others(held: Held, pool: asyncpg.Pool) -> None:
    await held.order()
    token = await held.connection.fetchval("SELECT unsubscribe_token FROM customers")
    begun = 0
    application = with_unsubscribing(everything_else, pool, lambda: NOON)

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal begun
        begun += 1
        await application(scope, receive, send)

    async def two_wait_for_the_lock() -> bool:
        async with pool.acquire(timeout=5) as connection:  # the third and last
            count: int = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        return count == 2

    async def all_are_here() -> bool:
        return begun == 6

    async with serving(counting) as port, asyncio.TaskGroup() as clicks:
        async with held.connection.transaction():
            await contact_store.lock_customers(held.connection, ["c-7"])
            posted = [clicks.create_task(Site(port, f"/unsubscribe/{token}").post()) for _ in range(6)]
            await eventually(all_are_here)
            await eventually(two_wait_for_the_lock)
        assert {(await click).status for click in posted} == {200}


async def test_optional_messages_on_their_way_are_taken_back_and_others_go_on(site: Site, held: Held) -> None:
    await held.order("1002")
    await held.order("2001", "c-8")
    await held.message("1001", kind="feedback_request", state="due")
    await held.message("1002", kind="backorder_filled", state="due")
    await held.message("2001", kind="feedback_request", state="due")
    assert (await site.post()).status == 200
    assert await held.states("deliveries") == {
        "1001": ("superseded", "optional_kinds_off"),
        "1002": ("due", None),
        "2001": ("due", None),
    }
    assert await held.states("updates") == {
        "1001/v1": ("not_told", "optional_kinds_off"),
        "1002/v1": ("told", None),
        "2001/v1": ("told", None),
    }


async def test_what_the_shop_says_afterwards_holds(site: Site, held: Held) -> None:
    await site.post()
    customer = (await contact_store.lock_customers(held.connection, ["c-7"]))["c-7"]
    change = contact_changed(optional_kinds=True, occurred_at=NOON - timedelta(days=1))
    await contact_store.save_customers(held.connection, [changed(customer, change, NOON)])
    assert await wanted(held) == (True, None)
    assert 'name="List-Unsubscribe"' in (await site.ask()).text


@pytest.mark.parametrize(
    ("accepted", "default", "language", "direction"),
    [
        ("", "en", "en", "ltr"),
        ("", "de-AT", "de", "ltr"),
        ("", "fr", "en", "ltr"),
        ("ar-EG,ar;q=0.9,en;q=0.5", "en", "ar", "rtl"),
        ("fr, de;q=0.5, en;q=0.4", "en", "de", "ltr"),
        ("en;q=0.1, de;q=0.9", "en", "de", "ltr"),
        ("de;q=0", "en", "en", "ltr"),
        (";;q=,,q=x;q=nan" * 50, "en", "en", "ltr"),
    ],
)
def test_the_page_speaks_the_language_of_the_browser(
    accepted: str, default: str, language: str, direction: str
) -> None:
    text, found = page("wanted", accepted, default, None)
    assert found == language
    assert f'<html lang="{language}" dir="{direction}">' in text.decode()


async def test_requests_are_counted_by_what_became_of_them(site: Site) -> None:
    def count(outcome: str) -> float:
        return REGISTRY.get_sample_value("backorder_notifier_unsubscribe_requests_total", {"outcome": outcome}) or 0

    before = count("stopped"), count("unknown")
    await site.post()
    await site.ask(path=f"/unsubscribe/{NOBODYS}")
    assert (count("stopped"), count("unknown")) == (before[0] + 1, before[1] + 1)
