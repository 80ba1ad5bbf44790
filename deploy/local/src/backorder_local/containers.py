"""Kafka and PostgreSQL in Docker, through testcontainers.

`python -m backorder_local.containers` holds one container: makes it, copies its log, removes it at SIGTERM. It runs
under a guard as everything else, so a container ends with the stack even where the stack is killed; that is why Ryuk,
testcontainers' own reaper (a privileged container with the engine's socket), is switched off.
"""

import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from backorder_local import kafka, postgres, processes
from backorder_local.place import Place
from backorder_local.processes import Process

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient

KAFKA_IMAGE = "apache/kafka:4.3.0"
POSTGRES_IMAGE = "postgres:18"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
ENGINE_SECONDS = 3
STOP_SECONDS = 10
LOOPBACK = "127.0.0.1"
LOCAL = {"localhost", LOOPBACK, "::1"}
WISH_VARIABLE = "BACKORDER_CONTAINER"  # not an argument: it has a password, and arguments are seen by every user


@dataclass(frozen=True)
class Wish:
    """One container. `port` of the host, on 127.0.0.1, leads to `inner_port`."""

    image: str
    environment: Mapping[str, str]
    port: int
    inner_port: int
    command: Sequence[str] | None = None


def start_kafka(place: Place, *, port: int) -> tuple[str, Process]:
    """Starts Kafka in a container. Returns its bootstrap servers and the process that holds it."""
    port = processes.port_or_free(port, "Kafka", "--kafka-port")
    # Any KAFKA_ variable drops all defaults of the image, so this is the full set. BROKER is how the broker reaches
    # itself: the advertised port exists on the host only.
    settings = kafka.PROPERTIES | {
        "listeners": "PLAINTEXT://0.0.0.0:9092,BROKER://127.0.0.1:9094,CONTROLLER://127.0.0.1:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},BROKER://127.0.0.1:9094",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.quorum.voters": "1@127.0.0.1:9093",
        "log.dirs": "/tmp/kraft-combined-logs",  # noqa: S108  in the container, where it is the image's own choice
    }
    environment = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in settings.items()}
    environment |= {"CLUSTER_ID": kafka.cluster_id(), "KAFKA_HEAP_OPTS": kafka.HEAP}
    return f"127.0.0.1:{port}", start(place, "Kafka", Wish(KAFKA_IMAGE, environment, port, 9092))


def start_postgres(place: Place, *, port: int, durable: bool) -> tuple[str, Process]:
    """Starts PostgreSQL in a container. Returns the URL of an administrator and the process that holds it."""
    port = processes.port_or_free(port, "PostgreSQL", "--postgres-port")
    password = secrets.token_urlsafe(16)
    environment = {
        "POSTGRES_USER": postgres.USER,
        "POSTGRES_PASSWORD": password,
        "POSTGRES_DB": "postgres",
        "POSTGRES_INITDB_ARGS": " ".join(postgres.LOCALE),
    }
    wish = Wish(POSTGRES_IMAGE, environment, port, 5432, ["postgres", *postgres.options(durable=durable)])
    url = f"postgresql://{postgres.USER}:{password}@127.0.0.1:{port}/postgres"
    return url, start(place, "PostgreSQL", wish)


def start(place: Place, name: str, wish: Wish) -> Process:
    env = os.environ | {WISH_VARIABLE: json.dumps(asdict(wish))}
    command = [sys.executable, "-m", "backorder_local.containers"]
    return processes.start(place, name, command, env=env, grace_seconds=STOP_SECONDS + 10)


@cache
def refusal(say: Callable[[str], None], *, pull: bool = True) -> str | None:
    """Why Docker can't be used here, or None. Asks the engine once, and pulls the images that it lacks."""
    # Imported here: half a second that those with other ways need not wait.
    from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]  # noqa: PLC0415
    from testcontainers.core.config import ConnectionMode  # noqa: PLC0415
    from testcontainers.core.docker_client import DockerClient, get_docker_host  # noqa: PLC0415

    try:
        knock(get_docker_host() or DEFAULT_ENGINE)
        with closing_client(DockerClient(timeout=ENGINE_SECONDS)) as engine:
            engine.client.ping()
            if engine.get_connection_mode() is not ConnectionMode.docker_host or engine.host() not in LOCAL:
                return "its ports are not on 127.0.0.1: it is on another machine, or this runs inside a container"
            missing = []
            for image in (KAFKA_IMAGE, POSTGRES_IMAGE):
                try:
                    engine.client.images.get(image)
                except ImageNotFound:
                    missing.append(image)
        for image in missing if pull else ():
            say(f"Docker: pulling {image}, once")
            with closing_client(DockerClient()) as engine:
                engine.client.images.pull(image)
    except (DockerException, OSError) as error:  # what requests raises are OSErrors
        return str(error) or type(error).__name__
    return None


def knock(engine: str) -> None:
    """Raises OSError if nobody listens on the engine's socket, without what the client needs to find that out."""
    address = urlsplit(engine)
    if address.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(ENGINE_SECONDS)
            try:
                knocking.connect(address.path)
            except OSError as error:
                raise OSError(f"no engine answers at {address.path} ({error.strerror})") from error


@contextmanager
def closing_client(client: "DockerClient") -> Iterator["DockerClient"]:
    try:
        yield client
    finally:
        client.client.close()


def hold(wish: Wish) -> int:
    """Runs a container until it ends, which returns its exit code, or until SIGTERM."""
    terminated = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True

    # While the container is made, SIGTERM waits: there must be no moment at which it exists and we don't know it.
    signal.signal(signal.SIGTERM, remember)
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    testcontainers_config.ryuk_disabled = True
    container = DockerContainer(wish.image).with_envs(**wish.environment)
    if wish.command is not None:
        container.with_command(list(wish.command))
    # Not `with_bind_ports`: it publishes on all addresses of the machine.
    container.ports[str(wish.inner_port)] = (LOOPBACK, wish.port)  # type: ignore[assignment]
    with container:
        signal.signal(signal.SIGTERM, on_sigterm)
        made = container.get_wrapped_container()
        try:
            if terminated:
                return 0
            for part in made.logs(stream=True, follow=True):
                sys.stdout.buffer.write(part)
                sys.stdout.buffer.flush()
            return int(made.wait()["StatusCode"])
        finally:
            made.stop(timeout=STOP_SECONDS)


def on_sigterm(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(hold(Wish(**json.loads(os.environ[WISH_VARIABLE]))))
