"""The process that holds all proxies and the mailbox, so that nothing else on the machine makes them slow.

    python -m tests.faults.campaign.wire MAILS_FILE

It takes commands as JSON lines on standard input, answers each with one, and ends with its input.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.campaign.mailbox import TAKE, Mailbox
from tests.faults.campaign.proxy import Link, Protocol, mode_of, named

PASS: dict[str, Any] = {"mode": "pass"}


class Wire:
    """The campaign's end: opens links, changes their modes, asks what they did."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, mails: Path, log: Path) -> "Wire":
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                mails,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=4 * 1024 * 1024,
                start_new_session=True,  # Ctrl-C reaches the campaign alone, which then ends things in order
            )
        return cls(process)

    async def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def open(self, links: Iterable[tuple[str, Protocol, int, int]]) -> dict[str, int]:
        """Opens (name, protocol, port or 0, port of the server); their ports by name."""
        ports: dict[str, int] = await self._ask(do="open", links=list(links))
        return ports

    async def change(self, links: Sequence[str], mode: dict[str, Any]) -> None:
        await self._ask(do="change", links=list(links), mode=mode)

    async def cut(self, links: Sequence[str]) -> None:
        await self._ask(do="cut", links=list(links))

    async def answer_mails(self, answer: str) -> None:
        await self._ask(do="answer", answer=answer)

    async def heal(self) -> None:
        await self._ask(do="heal")

    async def counts(self) -> dict[str, int]:
        counts: dict[str, int] = await self._ask(do="counts")
        return counts

    async def _ask(self, **command: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._turn:
            stdin.write(json.dumps(command).encode() + b"\n")
            await stdin.drain()
            line = await asyncio.wait_for(stdout.readline(), 30)
        if not line:
            raise RuntimeError("the process of the proxies has ended")
        return json.loads(line)


async def serve(mails: Path) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=4 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    mailbox = Mailbox(mails)
    await mailbox.listen()
    links: dict[str, Link] = {}
    while line := await reader.readline():
        command = json.loads(line)
        print(json.dumps(await obey(command, links, mailbox)), flush=True)
    os._exit(0)  # whatever hangs in a link


async def obey(command: dict[str, Any], links: dict[str, Link], mailbox: Mailbox) -> Any:
    match command["do"]:
        case "open":
            for name, protocol, port, target in command["links"]:
                links[name] = Link(name, protocol, target or mailbox.port, port)
                await links[name].listen()
            return {name: link.port for name, link in links.items()}
        case "change":
            for name in command["links"]:
                links[name].change(mode_of(command["mode"]))
        case "cut":
            for name in command["links"]:
                links[name].cut()
        case "answer":
            mailbox.change(command["answer"])
        case "heal":
            for link in links.values():
                link.change(mode_of(PASS))
            mailbox.change(TAKE)
        case "counts":
            counts = dict(named(mailbox.counts, "mailbox"))
            for link in links.values():
                counts.update(named(link.counts, link.name))
            return counts
        case other:
            raise ValueError(f"there is no command {other!r}")
    return None


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
