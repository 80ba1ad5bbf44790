"""An HTTP server that misbehaves on command: what it does with the next requests is a list that the test writes."""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

Step = str
"""An answer such as "503", with lines of header after it ("503\\nRetry-After: 7") and a body after an empty line, or:

"hang" (reads the request, says nothing), "cut" (closes without an answer), "noise" (no HTTP at all), "cut_in_body"
(200, then closes amid the body), "trickle" (200, then a byte of the body now and then), "trickle_head" (a byte of a
header now and then), "huge" (200 and a body without end)."""


@dataclass(frozen=True, slots=True)
class Seen:
    line: str
    headers: dict[str, str]
    body: bytes


class ScriptedHttp:
    """`script`: what to do with the next requests, then 200. `seen`: all of them."""

    def __init__(self) -> None:
        self.script: deque[Step] = deque()
        self.seen: list[Seen] = []
        self.connections = 0
        self.written = 0  # bytes of bodies without end
        self.port = 0
        self.heard = asyncio.Event()  # of a request
        self._open: set[asyncio.StreamWriter] = set()
        self._end = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while await self._answer(reader, writer):
                pass
        self._open.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """False: close the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        self.seen.append(Seen(head[0], headers, await reader.readexactly(int(headers.get("content-length", "0")))))
        self.heard.set()
        step = self.script.popleft() if self.script else "200"
        match step:
            case "hang":
                await self._end.wait()
            case "cut":
                pass
            case "noise":
                writer.write(b"220 mail.example.org ESMTP\r\n")
            case "cut_in_body":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
            case "trickle" | "trickle_head":
                end_of_head = b"\r\n\r\n" if step == "trickle" else b"\r\nX: "
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000" + end_of_head)
                while not self._end.is_set():
                    writer.write(b".")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.05):
                            await self._end.wait()
            case "huge":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while not self._end.is_set():
                    writer.write(b"x" * 65536)
                    self.written += 65536
                    await writer.drain()
            case _:
                lines, _, body = step.partition("\n\n")
                status, *more = lines.split("\n")
                more.append(f"Content-Length: {len(body.encode())}")
                writer.write("\r\n".join([f"HTTP/1.1 {status} Scripted", *more, "", body]).encode())
                await writer.drain()
                return True
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        return False

    def cut_all(self) -> None:
        for writer in tuple(self._open):
            writer.transport.abort()


@asynccontextmanager
async def scripted_http(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[ScriptedHttp]:
    script = ScriptedHttp()
    server = await asyncio.start_server(script.serve, host, 0, ssl=tls)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        script._end.set()
        script.cut_all()
