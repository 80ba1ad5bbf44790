"""A mail server that takes every mail and forgets it, and a bare loop that hands mails over, to compare with.

`python -m tests.bench.mailing PORT CONNECTIONS MAILS`: hands the mail on standard input over so many times.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import aiosmtplib
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from backorder_local.processes import port_or_free
from tests.e2e.processes import eventually

SETTLING = 5
"""The first of so many parts of the mails is not counted: connections are made, and what is to be sent is decided."""


class Sink:
    """What aiosmtpd calls, in a thread of its own. `think`: seconds before it answers that it has taken a mail."""

    def __init__(self) -> None:
        self.think = 0.0
        self.taken: list[float] = []
        self.newest = b""
        self.port = port_or_free(0, "Mail sink", "")

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's name
        if self.think:
            await asyncio.sleep(self.think)
        content = envelope.content
        self.newest = content.encode() if isinstance(content, str) else content or b""
        self.taken.append(perf_counter())
        return "250 2.0.0 Taken"

    async def has(self, mails: int, seconds: float) -> None:
        """Waits for so many."""

        async def all_there() -> bool:
            return len(self.taken) >= mails

        await eventually(all_there, f"{mails} mails", seconds)

    def per_second(self) -> float:
        """Of those taken; then it begins anew."""
        times, self.taken = self.taken, []
        counted = times[len(times) // SETTLING :]
        return (len(counted) - 1) / (counted[-1] - counted[0])


class _Controller(Controller):
    def factory(self) -> SMTP:
        return SMTP(self.handler, enable_SMTPUTF8=True, ident="sink", hostname="localhost")


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    made = Sink()
    controller = _Controller(made, hostname="127.0.0.1", port=made.port)
    controller.start()
    try:
        yield made
    finally:
        controller.stop()


async def hand_over_bare(to: Sink, connections: int, mails: int) -> float:
    """Mails per second of a process that does nothing else: copies of the newest mail that the sink has."""
    mail = to.newest
    to.taken.clear()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, str(to.port), str(connections), str(mails), stdin=asyncio.subprocess.PIPE
    )
    await process.communicate(mail)
    assert process.returncode == 0
    return to.per_second()


async def bare(mail: bytes, port: int, connections: int, mails: int) -> None:
    left = iter(range(mails))

    async def connection() -> None:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, local_hostname="localhost")
        await client.connect()
        for each in left:
            await client.sendmail("shop@example.org", [f"customer-{each}@example.org"], mail)
        await client.quit()

    await asyncio.gather(*(connection() for _ in range(connections)))


if __name__ == "__main__":
    asyncio.run(bare(sys.stdin.buffer.read(), *map(int, sys.argv[1:4])))
