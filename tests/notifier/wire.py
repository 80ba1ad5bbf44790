"""A wire to a server that a test can cut, also in the moment that a COMMIT was answered; or it stands still, as if the
process on this side were frozen.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

COMMIT = b"COMMIT;"  # as the driver sends it
PARSE = b"P"  # the first byte of the message that has a statement prepared


class Wire:
    """A port of its own that leads to a server.

    `lose_answers_to_commits`: so many are done, and nobody hears of it. `freeze_after_prepare`: the server is asked to
    prepare a statement, and then hears nothing more of that connection.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.there = port
        self.port = 0
        self.lose_answers_to_commits = 0
        self.freeze_after_prepare = False
        self.is_cut = False
        self._open: set[asyncio.StreamWriter] = set()

    def url(self, url: str) -> str:
        """The same, over this wire."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}"))

    def cut(self) -> None:
        """All connections end, and new ones do at once."""
        self.is_cut = True
        for writer in tuple(self._open):
            writer.transport.abort()

    def mend(self) -> None:
        self.is_cut = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(self.host, self.there)
        self._open |= {writer, there_writer}
        committing = asyncio.Event()

        async def to_server() -> None:
            while data := await reader.read(65536):
                if COMMIT in data and self.lose_answers_to_commits:
                    self.lose_answers_to_commits -= 1
                    committing.set()
                there_writer.write(data)
                await there_writer.drain()
                if self.freeze_after_prepare and data.startswith(PARSE):
                    await asyncio.Event().wait()

        async def to_client() -> None:
            while data := await there_reader.read(65536):
                if committing.is_set():
                    return
                writer.write(data)
                await writer.drain()

        ways = [asyncio.create_task(to_server()), asyncio.create_task(to_client())]
        with suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for each in (writer, there_writer):
            each.transport.abort()
        self._open -= {writer, there_writer}


@asynccontextmanager
async def wire(host: str, port: int) -> AsyncIterator[Wire]:
    """To a server at this address."""
    made = Wire(host, port)
    server = await asyncio.start_server(made.carry, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()


@asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[Wire]:
    """To the server of a database."""
    parts = urlsplit(url)
    async with wire(parts.hostname or "127.0.0.1", parts.port or 5432) as made:
        yield made
