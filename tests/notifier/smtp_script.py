"""A mail server that misbehaves on command: what it does with the next mails is a list that the test writes."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Literal

Step = str | Literal["hang", "hang_at_data", "hang_after_data", "cut_at_data", "cut_after_data", "cut_at_rcpt"]
"""An answer to the mail such as "451 4.3.0 Later" (with " at rcpt": to RCPT), or a misdeed."""


class ScriptedServer:
    """`script`: what to do with the next mails, then what `choose` says of the recipient, else 250.

    `accepted`: the mails it took, `recipients` theirs; `seen`: all it was sent. `asked`: recipients named in RCPT.
    `most_at_once`: mails it had been given and not answered.
    """

    def __init__(self) -> None:
        self.script: deque[Step] = deque()
        self.choose: Callable[[str], Step | None] = lambda _recipient: None
        self.accepted: list[EmailMessage] = []
        self.seen: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.asked: list[str] = []
        self.extensions: list[str] = []
        self.connections = 0
        self.noops = 0
        self.most_at_once = 0
        self._unanswered = 0
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._end = asyncio.Event()
        self._answers = asyncio.Event()
        self._answers.set()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def mails_about(self, order_id: str) -> list[EmailMessage]:
        return [mail for mail in self.accepted if f"Order {order_id}:" in str(mail["Subject"])]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._talk(reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(line.encode() + b"\r\n")
            await writer.drain()

        step: Step | None = None
        recipient = ""
        await say("220 scripted")
        while line := (await reader.readline()).decode().strip():
            match line.split(":")[0].split()[0].upper():
                case "EHLO":
                    *before, last = ["scripted", *self.extensions]
                    for line_before in before:
                        await say(f"250-{line_before}")
                    await say(f"250 {last}")
                case "NOOP":
                    self.noops += 1
                    await say("250 ok")
                case "RCPT":
                    recipient = line.partition("<")[2].partition(">")[0]
                    self.asked.append(recipient)
                    step = self.choose(recipient) or (self.script.popleft() if self.script else None)
                    if step == "hang":
                        await self._end.wait()
                    if step == "cut_at_rcpt":
                        return
                    await say(step.removesuffix(" at rcpt") if step and step.endswith(" at rcpt") else "250 ok")
                case "DATA":
                    if step == "hang_at_data":
                        await self._end.wait()
                    if step == "cut_at_data":
                        return
                    await say("354 go")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    mail = message_from_bytes(
                        content[:-3].replace(b"\r\n..", b"\r\n."), EmailMessage, policy=policy.default
                    )
                    self.seen.append(mail)
                    self._unanswered += 1
                    self.most_at_once = max(self.most_at_once, self._unanswered)
                    try:
                        await self._answers.wait()
                    finally:
                        self._unanswered -= 1
                    if step == "hang_after_data":
                        await self._end.wait()
                    if step == "cut_after_data":
                        return
                    if step is None:
                        self.accepted.append(mail)
                        self.recipients.append(recipient)
                    await say(step or "250 2.0.0 taken")
                case "QUIT":
                    await say("221 bye")
                    return
                case _:
                    await say("250 ok")

    def hold_answers(self) -> asyncio.Event:
        """Mails are answered once this is set."""
        self._answers = asyncio.Event()
        return self._answers

    def cut_all(self) -> None:
        for writer in tuple(self._open):
            writer.transport.abort()


@asynccontextmanager
async def scripted_server(port: int = 0) -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer()
    server = await asyncio.start_server(script.serve, "127.0.0.1", port, limit=8 * 1024 * 1024)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        script._end.set()
        script.cut_all()
