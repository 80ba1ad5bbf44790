"""The campaign's own tools: a proxy that is believed to break something has to break it, and only that."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.campaign.mailbox import HANG, TAKE, Mailbox
from tests.faults.campaign.proxy import (
    COMMIT,
    CutAfter,
    CutAt,
    Delay,
    Hold,
    Link,
    Milestone,
    Pass,
    Protocol,
    Trickle,
    Way,
)

BEGIN = b"Q\x00\x00\x00\x0bBEGIN;\x00"


@dataclass
class Server:
    """Answers each chunk by `answer`; `heard` is all it got."""

    answer: Callable[[bytes], bytes] = field(default=lambda chunk: chunk)
    heard: bytes = b""
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                self.heard += chunk
                writer.write(self.answer(chunk))
        writer.close()


@asynccontextmanager
async def link_to(server: Server, protocol: Protocol = "postgres") -> AsyncIterator[Link]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    link = Link("the link", protocol, server.port)
    await link.listen()
    try:
        yield link
    finally:
        await link.close()
        listener.close()


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def hears(self, size: int) -> bytes:
        """So many bytes, or less if the connection is broken before."""
        try:
            return await asyncio.wait_for(self.reader.readexactly(size), 5)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except OSError:
            return b""


@asynccontextmanager
async def client_of(link: Link) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def heard(server: Server, content: bytes) -> None:
    await becomes(lambda: server.heard == content)


async def becomes(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(0.005)


async def test_bytes_go_on_as_they_come() -> None:
    server = Server()
    async with link_to(server) as link, client_of(link) as client:
        await client.says(b"hello")
        assert await client.hears(5) == b"hello"
        assert dict(link.counts) == {"connections": 1}


async def test_a_server_that_is_away_is_counted() -> None:
    async with link_to(Server()) as link:
        link.target = 1
        async with client_of(link) as client:
            assert await client.hears(1) == b""
        assert link.counts["server_was_away"] == 1


async def test_late_bytes_arrive_in_order_and_are_counted() -> None:
    server = Server()
    async with link_to(server) as link, client_of(link) as client:
        link.change(Delay(0.01))
        for letter in (b"a", b"b", b"c"):
            await client.says(letter)
        assert await client.hears(3) == b"abc"
        assert link.counts["bytes_delayed"] >= 6, "both ways"


@pytest.mark.parametrize("way", ["to_server", "to_client"])
async def test_a_black_hole_holds_one_way_until_it_is_mended(way: Way) -> None:
    server = Server()
    async with link_to(server) as link, client_of(link) as client:
        link.change(Hold((way,)))
        await client.says(b"hello")
        await becomes(lambda: link.counts["bytes_held"] == 5)
        await heard(server, b"" if way == "to_server" else b"hello")
        link.change(Pass())
        assert await client.hears(5) == b"hello"


async def test_a_black_hole_may_end_in_a_broken_connection() -> None:
    server = Server()
    async with link_to(server) as link, client_of(link) as client:
        link.change(Hold(("to_server",)))
        await client.says(b"hello")
        await becomes(lambda: link.counts["bytes_held"] > 0)
        link.cut()
        link.change(Pass())
        assert await client.hears(1) == b""
        assert server.heard == b""


async def test_a_trickle_arrives_whole() -> None:
    server = Server()
    content = bytes(range(256)) * 10
    async with link_to(server) as link, client_of(link) as client:
        link.change(Trickle(1_000_000))
        await client.says(content)
        assert await client.hears(len(content)) == content
        assert link.counts["bytes_trickled"] >= 2 * len(content)


async def test_a_connection_is_cut_after_so_many_bytes() -> None:
    server = Server(lambda chunk: b"")
    async with link_to(server) as link:
        link.change(CutAfter(7, "to_server"))
        async with client_of(link) as client:
            await client.says(b"12345")
            await heard(server, b"12345")
            await client.says(b"67890")
            assert await client.hears(1) == b""
        await heard(server, b"1234567")
        assert link.counts["cut_in_between"] == 1


REQUEST = struct.pack(">ihhi", 8, 0, 9, 77)  # length, Produce, version, correlation id
OTHER = struct.pack(">ihhi", 8, 1, 9, 76)  # Fetch
MILESTONES: list[tuple[Milestone, Protocol, bytes, bytes]] = [
    ("commit", "postgres", BEGIN, COMMIT),
    ("produce", "kafka", OTHER, REQUEST),
    ("dot", "smtp", b"MAIL FROM:<a@b>\r\n", b"text\r\n.\r\n"),
]


@pytest.mark.parametrize(("milestone", "protocol", "harmless", "decisive"), MILESTONES)
async def test_cut_before_it_the_server_never_has_it(
    milestone: Milestone, protocol: Protocol, harmless: bytes, decisive: bytes
) -> None:
    server = Server(answer_of(protocol))
    async with link_to(server, protocol) as link:
        link.change(CutAt(milestone, before=True, times=1))
        async with client_of(link) as client:
            await client.says(harmless)
            await client.hears(8)
            await client.says(decisive)
            assert await client.hears(8) == b""
        assert link.counts[f"{milestone}_cut_before"] == 1
        assert server.heard in {harmless, harmless + b"text"}
        async with client_of(link) as client:
            await client.says(decisive)
            assert len(await client.hears(8)) == 8, "once was enough"


@pytest.mark.parametrize(("milestone", "protocol", "harmless", "decisive"), MILESTONES)
async def test_cut_after_it_the_server_has_it_and_the_client_does_not_know(
    milestone: Milestone, protocol: Protocol, harmless: bytes, decisive: bytes
) -> None:
    server = Server(answer_of(protocol))
    async with link_to(server, protocol) as link:
        link.change(CutAt(milestone, before=False, times=1))
        async with client_of(link) as client:
            await client.says(harmless)
            await client.hears(8)
            await client.says(decisive)
            assert await client.hears(8) == b""
        await heard(server, harmless + decisive)
        assert link.counts[f"{milestone}_cut_after"] == 1


def answer_of(protocol: Protocol) -> Callable[[bytes], bytes]:
    """Eight bytes; of Kafka with the correlation id of the request."""
    return lambda chunk: struct.pack(">i", 4) + chunk[8:12] if protocol == "kafka" else b"12345678"


async def test_the_mailbox_notes_a_mail_before_it_says_so_and_takes_none_that_it_refuses(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "mails.jsonl")
    await mailbox.listen()
    mail = b"Message-ID: <1@example.org>\r\nTo: a@example.org\r\n\r\ntext\r\n.\r\n"
    answers = []
    for answer in (TAKE, "451 4.3.0 Later", HANG):
        mailbox.change(answer)
        reader, writer = await asyncio.open_connection("127.0.0.1", mailbox.port)
        await reader.readline()
        for line in (b"EHLO me\r\n", b"MAIL FROM:<x@y>\r\n", b"RCPT TO:<a@example.org>\r\n", b"DATA\r\n"):
            writer.write(line)
            await reader.readline()
        writer.write(mail)
        if answer == HANG:
            await becomes(lambda: mailbox.counts["hung"] > 0)
            mailbox.change(TAKE)
        with suppress(OSError):
            answers.append((await asyncio.wait_for(reader.readline(), 5))[:3])
        writer.close()
    mailbox.close()
    assert answers[:2] == [b"250", b"451"]
    assert b"250" not in answers[2:], "who was left hanging was never told that it was taken"
    assert (tmp_path / "mails.jsonl").read_text().count("<1@example.org>") == 1
    assert mailbox.counts == {"accepted": 1, "refused_4xx": 1, "hung": 1}
