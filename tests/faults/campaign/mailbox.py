"""A mail server that takes, refuses or never answers, and writes down each mail that it took before it says so."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from email.parser import BytesHeaderParser
from pathlib import Path

TAKE = "take"
HANG = "hang"


class Mailbox:
    """`answer`: "take", "hang" (never answers a mail), or what it says to each mail, such as "451 4.3.0 Later"."""

    def __init__(self, file: Path, port: int = 0) -> None:
        self.answer = TAKE
        self.counts: Counter[str] = Counter()
        self.port = port
        self._file = file.open("a", buffering=1)
        self._hanging: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=8 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.change(TAKE)
        self._file.close()

    def change(self, answer: str) -> None:
        """Who hangs is cut off: that mail was never taken."""
        self.answer = answer
        for writer in self._hanging:
            writer.transport.abort()
        self._hanging.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await self._talk(reader, writer)
        self._hanging.discard(writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(line.encode() + b"\r\n")
            await writer.drain()

        await say("220 mailbox")
        while line := (await reader.readline()).strip().upper():
            if line.startswith(b"DATA"):
                await say("354 go on")
                content = await reader.readuntil(b"\r\n.\r\n")
                if self.answer == HANG:
                    self.counts["hung"] += 1
                    self._hanging.add(writer)
                    await reader.read()  # until the client gives up, or we do
                    return
                if self.answer == TAKE:
                    self._take(content)
                    await say("250 2.0.0 taken")
                else:
                    self.counts[f"refused_{self.answer[:1]}xx"] += 1
                    await say(self.answer)
            elif line.startswith(b"QUIT"):
                await say("221 bye")
                return
            else:
                await say("250 ok")

    def _take(self, content: bytes) -> None:
        self.counts["accepted"] += 1
        headers = BytesHeaderParser().parsebytes(content)
        mail = {"at": time.time(), "message_id": str(headers["Message-ID"]), "to": str(headers["To"])}
        self._file.write(json.dumps(mail) + "\n")
