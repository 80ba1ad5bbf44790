"""Starting and ending real servers: nothing lost, nothing left behind, nothing open to others."""

import signal
import socket
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest

from backorder_local import place, processes
from backorder_local.errors import LocalError
from tests.local.command import Home, Up, commands, eventually, one_that_runs

NO_SERVICES = "--no-services"


async def fetch(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_two_stacks_run_side_by_side_and_ending_one_leaves_the_other(running: Up, shared_home: Home) -> None:
    first = shared_home.variables()
    with shared_home.up(NO_SERVICES, "--data-dir", shared_home.folder / "second"):
        unclear = shared_home.run("env")
        assert unclear.returncode == 2
        assert f"--data-dir {shared_home.folder}/data" in unclear.stderr
        second = shared_home.variables("--data-dir", shared_home.folder / "second")
        assert all(first[name] != second[name] for name in first)
        assert await fetch(second["BACKORDER_POSTGRES"], "SELECT 1") == [(1,)]
    assert await fetch(first["BACKORDER_POSTGRES"], "SELECT 1") == [(1,)]
    assert shared_home.variables() == first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_and_removes_the_temporary_folder(home: Home, number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("ignored from the start, as under nohup, and that is inherited")
    with home.up(NO_SERVICES) as up:
        left = up.descendants()
        assert "kafka.Kafka" in commands(left)
        up.process.send_signal(number)
        assert up.process.wait(10) == 0, up.said()
        assert commands(left) == ""
        assert list((home.folder / "tmp").glob("backorder-*")) == []
        assert home.run("env").returncode == 2


async def test_a_stack_that_is_killed_leaves_no_process_and_all_data(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = home.folder / "data"
    with home.up(NO_SERVICES, "--data-dir", data) as up:
        await fetch(home.variables()["BACKORDER_POSTGRES"], "CREATE TABLE kept (id int)")
        left = up.descendants()
        assert all(name in commands(left) for name in ("kafka.Kafka", "postgres -D", "mail_sink"))
        kafka = one_that_runs("java", left)
        kafka.suspend()
        up.process.kill()
        up.process.wait()
        monkeypatch.setattr(place, "LOCK_SECONDS", 0.2)
        with pytest.raises(LocalError, match="Another stack"), place.place(data):
            pass
        kafka.resume()
    # The next start waits for the servers of the killed one to end.
    with home.up(NO_SERVICES, "--data-dir", data):
        assert commands(left) == ""
        assert await fetch(home.variables()["BACKORDER_POSTGRES"], "SELECT * FROM kept") == []
    log = (data / "logs" / "postgresql.log").read_text()
    assert log.count("database system is shut down") == 2
    assert "not properly shut down" not in log


def test_what_a_killed_stack_left_in_a_temporary_folder_goes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(home.folder / "tmp"))
    monkeypatch.setattr(place, "ABANDONED_SECONDS", 0)
    with home.up(NO_SERVICES) as up:
        [folder] = (home.folder / "tmp").glob("backorder-*")
        place.remove_abandoned()
        assert (folder / "logs" / "kafka.log").exists()
        left = up.descendants()
        up.process.kill()
        up.process.wait()
    eventually(lambda: commands(left) == "", lambda: commands(left))
    assert not (folder / "kafka").exists()
    assert not (folder / "postgres").exists()
    place.remove_abandoned()
    assert not folder.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has a parent death signal")
def test_a_process_ends_with_its_guard_and_is_named_with_the_end_of_its_log(home: Home) -> None:
    with home.up(NO_SERVICES) as up:
        [sink] = [each for each in up.descendants() if "backorder_local.mail_sink" in each.cmdline()]
        sink.parent().kill()
        assert up.process.wait(20) == 1
        eventually(lambda: commands([sink]) == "", lambda: commands([sink]))
    assert "Mail sink: ended by itself" in up.said()
    assert "  Taking mails on" in up.said()
    [log] = [line.removeprefix("The whole log: ") for line in up.said().splitlines() if "whole log" in line]
    assert "Taking mails on" in Path(log).read_text()
    assert {part.name for part in Path(log).parents[1].iterdir()} == {"logs", "lock"}


def test_a_folder_is_for_one_stack_at_a_time(running: Up, shared_home: Home) -> None:
    second = shared_home.run("up", NO_SERVICES, "--data-dir", shared_home.folder / "data")
    assert second.returncode == 2
    assert f"Another stack uses {shared_home.folder}/data (process {running.process.pid})" in second.stderr


def test_a_chosen_port_is_used_and_a_taken_one_named(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = home.run("up", NO_SERVICES, "--postgres-port", str(port))
    assert refused.returncode == 2
    assert f"port {port}" in refused.stderr
    assert "--postgres-port" in refused.stderr
    assert processes.port_or_free(port, "PostgreSQL", "--postgres-port") == port


def test_nothing_of_a_stack_is_open_to_others(running: Up, shared_home: Home) -> None:
    states = shared_home.folder / "state" / "backorder" / "running"
    for path in (states, *states.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    for part in ("logs", "mail", "postgres", "postgres/data", "postgres/password", "kafka"):
        assert (shared_home.folder / "data" / part).stat().st_mode & 0o077 == 0, part
    for process in running.descendants():
        connections = process.net_connections("inet")
        addresses = {each.laddr.ip.removeprefix("::ffff:") for each in connections if each.status == "LISTEN"}
        assert addresses <= {"127.0.0.1"}, process.cmdline()


def test_the_lock_of_a_folder_is_given_to_the_next_when_it_is_free(tmp_path: Path) -> None:
    with place.place(tmp_path), pytest.raises(LocalError, match="Another stack"), place.place(tmp_path):
        pass
    with place.place(tmp_path) as again:
        assert not again.temporary
