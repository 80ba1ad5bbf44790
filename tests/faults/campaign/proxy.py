"""A TCP proxy that misbehaves on command: one link between one service and one server.

What it does to bytes on their way is the link's mode; what it did is counted: a fault without effect proves nothing.
"""

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal["kafka", "postgres", "smtp"]
Way = Literal["to_server", "to_client"]
Milestone = Literal["commit", "produce", "dot"]

COMMIT = b"Q\x00\x00\x00\x0cCOMMIT;\x00"
FINAL_DOT = b"\r\n.\r\n"
PRODUCE = 0
CHUNK = 64 * 1024
SIP = 256
"""Bytes of a trickle at a time."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Bytes go on as they come."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Every chunk is late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A black hole: what goes these ways stays with us until the mode changes, as in a network that repeats itself."""

    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Trickle:
    """So many bytes a second, both ways."""

    bytes_per_second: int


@dataclass(frozen=True, slots=True)
class CutAfter:
    """Each connection ends after so many more bytes this way, wherever that is in a message."""

    bytes: int
    way: Way


@dataclass(slots=True)
class CutAt:
    """Connections end at a COMMIT, a Produce request or the final dot of a mail: before the server has it, or after it
    has it and before its answer gets through. So many `times`, then all goes on."""

    milestone: Milestone
    before: bool
    times: int


Mode = Pass | Delay | Hold | Trickle | CutAfter | CutAt


@dataclass(slots=True, eq=False)
class Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    left: int | None = None
    """Bytes until it is cut."""
    cut_at_answer: bool = False
    """The server has what matters; its answer must not get through."""
    correlation: int | None = None
    """Of the Kafka request whose answer that is."""
    is_cut: bool = False

    def cut(self) -> None:
        """The client sees a broken connection; the server can still read what it was sent."""
        self.is_cut = True
        self.client.transport.abort()
        self.server.close()


@dataclass
class Link:
    """One listener and where it leads. `counts`: connections, cuts, bytes that were late …"""

    name: str
    protocol: Protocol
    target: int
    port: int = 0
    mode: Mode = field(default_factory=Pass)
    counts: Counter[str] = field(default_factory=Counter)
    open: set[Connection] = field(default_factory=set, repr=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _server: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set, repr=False)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=4 * CHUNK, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def change(self, mode: Mode) -> None:
        self.mode = mode
        for connection in self.open:
            connection.left = mode.bytes if isinstance(mode, CutAfter) else None
            connection.cut_at_answer = False
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self) -> None:
        """Ends all connections."""
        for connection in [*self.open]:
            self._cut(connection, "cut")

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._lead(client_reader, client)
        finally:
            self._tasks.discard(task)

    async def _lead(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        try:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self.target, limit=4 * CHUNK)
        except OSError:
            self.counts["server_was_away"] += 1
            client.transport.abort()
            return
        connection = Connection(client, server)
        connection.left = self.mode.bytes if isinstance(self.mode, CutAfter) else None
        self.open.add(connection)
        pumps = [
            asyncio.create_task(self._pump(connection, "to_server", client_reader, server)),
            asyncio.create_task(self._pump(connection, "to_client", server_reader, client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if not connection.is_cut:
                # What one side said last still has to get through, such as an answer before the end.
                await asyncio.wait(pumps, timeout=0.2)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.open.discard(connection)
            client.close()
            server.close()

    async def _pump(
        self, connection: Connection, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async for chunk in chunks(reader, framed=self.protocol == "kafka"):
                if not await self._pass_on(connection, way, chunk, writer):
                    return

    async def _pass_on(self, connection: Connection, way: Way, chunk: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        held = False
        while isinstance(self.mode, Hold) and way in self.mode.ways:
            if not held:
                self.counts["bytes_held"] += len(chunk)
                held = True
            await self._changed.wait()
        if connection.is_cut:
            return False
        match self.mode:
            case Delay(seconds):
                self.counts["bytes_delayed"] += len(chunk)
                await asyncio.sleep(seconds)
            case Trickle(bytes_per_second):
                self.counts["bytes_trickled"] += len(chunk)
                while len(chunk) > SIP and isinstance(self.mode, Trickle):
                    writer.write(chunk[:SIP])
                    chunk = chunk[SIP:]
                    await asyncio.sleep(SIP / bytes_per_second)
            case CutAfter(_, only_way) if way == only_way and connection.left is not None:
                if connection.left < len(chunk):
                    writer.write(chunk[: connection.left])
                    self._cut(connection, "cut_in_between")
                    return False
                connection.left -= len(chunk)
            case CutAt() as at if not self._passes_milestone(connection, way, chunk, writer, at):
                return False
            case _:
                pass
        writer.write(chunk)
        await writer.drain()
        return True

    def _passes_milestone(
        self, connection: Connection, way: Way, chunk: bytes, writer: asyncio.StreamWriter, at: CutAt
    ) -> bool:
        if way == "to_client":
            if not connection.cut_at_answer:
                return True
            if connection.correlation is not None and struct.unpack_from(">i", chunk, 4)[0] != connection.correlation:
                return True
            self._cut(connection, f"{at.milestone}_cut_after")
            return False
        start = milestone(chunk, at.milestone)
        if start is None or at.times <= 0:
            return True
        at.times -= 1
        if at.before:
            writer.write(chunk[:start])
            self._cut(connection, f"{at.milestone}_cut_before")
            return False
        connection.cut_at_answer = True
        connection.correlation = struct.unpack_from(">i", chunk, 8)[0] if at.milestone == "produce" else None
        return True

    def _cut(self, connection: Connection, how: str) -> None:
        if not connection.is_cut:
            self.counts[how] += 1
            connection.cut()


def milestone(chunk: bytes, sort: Milestone) -> int | None:
    """How many bytes of a chunk may go on so that the server doesn't have the milestone; None: it is not in there."""
    match sort:
        case "commit":
            found = chunk.find(COMMIT)
            return None if found < 0 else found
        case "produce":
            return 0 if len(chunk) >= 12 and struct.unpack_from(">h", chunk, 4)[0] == PRODUCE else None
        case "dot":
            return len(chunk) - len(FINAL_DOT) if chunk.endswith(FINAL_DOT) else None


async def chunks(reader: asyncio.StreamReader, *, framed: bool) -> AsyncIterator[bytes]:
    """What comes, as it comes; of Kafka's protocol one whole message at a time, so that a request can be told."""
    while True:
        if framed:
            length = await reader.readexactly(4)
            yield length + await reader.readexactly(struct.unpack(">i", length)[0])
        else:
            if not (chunk := await reader.read(CHUNK)):
                return
            yield chunk


def mode_of(content: dict[str, Any]) -> Mode:
    """A mode from JSON: {"mode": "delay", "seconds": 0.2}."""
    rest = dict(content)
    match rest.pop("mode"):
        case "pass":
            return Pass()
        case "delay":
            return Delay(**rest)
        case "hold":
            return Hold(tuple(rest["ways"]))
        case "trickle":
            return Trickle(**rest)
        case "cut_after":
            return CutAfter(**rest)
        case "cut_at":
            return CutAt(**rest)
        case other:
            raise ValueError(f"there is no mode {other!r}")


def named(counts: Counter[str], name: str) -> Iterator[tuple[str, int]]:
    for what, number in counts.items():
        yield f"{name}/{what}", number
