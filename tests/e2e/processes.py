"""The services as processes of their own, as an operator runs them: settings by environment, logs in a file."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit

SCRIPTS = Path(sysconfig.get_path("scripts"))
START_SECONDS = 40.0
END_SECONDS = 30.0
"""What the contract gives a service after SIGTERM."""
POLL_SECONDS = 0.03
HARMLESS_HERE = {
    "backorder-allocator": ["--accept-unsafe-durability"],
    "backorder-notifier": ["--accept-unsafe-durability"],
}
"""The database of the tests runs without fsync: no test crashes the machine."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Service:
    """A running service. Whoever starts it kills it (`kill`) at the end of the test, whatever happened."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    async def ready(self) -> None:
        """Waits until /readyz says so."""
        url = await eventually(self.address, f"{self.name} to say its address", START_SECONDS, self.explain)

        async def answers() -> bool:
            return await asyncio.to_thread(get, f"{url}/readyz") == 200

        await eventually(answers, f"{self.name} to be ready", START_SECONDS, self.explain)

    async def address(self) -> str | None:
        """Where its HTTP endpoints are: port 0 takes a free one, and the log says which."""
        assert self.process.poll() is None, f"{self.name} ended with {self.process.poll()}\n{self.explain()}"
        for line in self.lines():
            if "http" in line:
                return str(line["http"])
            if line.get("event") == "http":
                return f"http://{line['host']}:{line['port']}"
        return None

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        url = await self.address()
        assert url is not None
        text = await asyncio.to_thread(get_text, f"{url}/metrics")
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return sum(float(value) for sample, _, value in samples if sample.partition("{")[0] == name)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """The log's JSON lines; the last may be half written."""
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{") and line.endswith("}")]

    def explain(self) -> str:
        """The end of the log."""
        return f"── {self.name}: {self.log}\n" + "\n".join(self.said().splitlines()[-40:])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> None:
        """SIGTERM; it has to end in order and in time."""
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0, self.explain()

    async def ended(self, seconds: float = END_SECONDS) -> int:
        """Waits for it to end by itself; gives the exit code, negative for a signal."""

        async def code() -> bool:
            return self.process.poll() is not None

        await eventually(code, f"{self.name} to end", seconds, self.explain)
        return self.process.wait()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def start(
    program: str, name: str, settings: Mapping[str, str], folder: Path, accept: Sequence[str] | None = None
) -> Service:
    """Starts `program run` with these settings and no others. `accept`: flags instead of `HARMLESS_HERE`."""
    log = folder / f"{name}.log"
    flags = HARMLESS_HERE[program] if accept is None else accept
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SCRIPTS / program, "run", *flags],
            env={**clean_environment(), **settings},
            stdout=output,
            stderr=output,
        )
    return Service(name, process, log)


async def command(program: str, settings: Mapping[str, str], *arguments: str, exit_code: int = 0) -> Any:
    """The answer of a command with --json."""
    process = await asyncio.create_subprocess_exec(
        SCRIPTS / program,
        *arguments,
        "--json",
        env={**clean_environment(), **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    answer, said = await asyncio.wait_for(process.communicate(), START_SECONDS)
    assert process.returncode == exit_code, f"{arguments}: {process.returncode}\n{answer.decode()}\n{said.decode()}"
    return json.loads(answer)


def clean_environment() -> dict[str, str]:
    """Ours without settings of the services."""
    prefixes = ("ALLOCATOR_", "NOTIFIER_", "BACKORDER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


async def eventually(
    holds: Callable[[], Awaitable[Result]],
    what: str,
    seconds: float = 30.0,
    explain: Callable[[], str] = str,
) -> Result:
    """Asks again and again until the answer is true; gives that answer."""
    deadline = monotonic() + seconds
    while not (answer := await holds()):
        assert monotonic() < deadline, f"waited {seconds:.0f} s for {what}\n{explain()}"
        await asyncio.sleep(POLL_SECONDS)
    return answer


def get(url: str) -> int:
    """The status of an HTTP answer; 0 for none."""
    try:
        return _request(url)[0]
    except (OSError, http.client.HTTPException):
        return 0


def get_text(url: str) -> str:
    return _request(url)[1]


def _request(url: str) -> tuple[int, str]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
