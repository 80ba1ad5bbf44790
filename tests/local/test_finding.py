"""Which servers are used, and what is said when they can't be."""

import hashlib
import http.server
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backorder_local import containers, finder, jars, kafka, postgres
from backorder_local.errors import LocalError
from backorder_local.finder import Way, Wish
from backorder_local.place import place as make_place
from tests.local.command import Home, Up, eventually


def say(_text: str) -> None:
    pass


@pytest.fixture
def named(home: Home, running: Up, shared_home: Home) -> dict[str, str]:
    """The variables that name running servers."""
    return shared_home.variables()


def test_named_servers_are_used_and_none_is_started(home: Home, named: dict[str, str]) -> None:
    with home.up("--no-services", **named, BACKORDER_WITH="") as up:
        assert up.descendants() == []
        assert up.said().count("(env) answers") == 3
        assert home.variables() == named
        assert "a server of yours" in home.run("mail").stderr


def test_forcing_env_without_a_name_says_which_variable(home: Home, named: dict[str, str]) -> None:
    del named["BACKORDER_POSTGRES"]
    result = home.run("up", "--no-services", "--with", "env", **named)
    assert result.returncode == 2
    assert "BACKORDER_POSTGRES" in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "code", "said"),
    [
        ("BACKORDER_KAFKA", "127.0.0.1:1", 3, "Kafka at 127.0.0.1:1 did not answer"),
        ("BACKORDER_KAFKA", "somewhere", 2, "must be host:port"),
        ("BACKORDER_POSTGRES", "mysql://x", 2, "must look like postgresql://"),
        ("BACKORDER_POSTGRES", "postgresql://me:secret@127.0.0.1:1/x", 3, "PostgreSQL at 127.0.0.1:1/x did not answer"),
        ("BACKORDER_SMTP", "http://127.0.0.1", 2, "must look like smtp://"),
        ("BACKORDER_SMTP", "smtp://127.0.0.1:1", 3, "did not answer"),
    ],
)
def test_a_named_server_that_is_wrong_is_an_error_that_names_it(
    home: Home, named: dict[str, str], variable: str, value: str, code: int, said: str
) -> None:
    result = home.run("up", "--no-services", **named | {variable: value}, BACKORDER_WITH="")
    assert (result.returncode, said in result.stderr) == (code, True), result.stderr
    assert "secret" not in result.stderr


def test_a_wrong_password_is_said_at_once(home: Home, named: dict[str, str]) -> None:
    wrong = named["BACKORDER_POSTGRES"].replace("backorder:", "backorder:not")
    result = home.run("up", "--no-services", **named | {"BACKORDER_POSTGRES": wrong}, BACKORDER_WITH="")
    assert result.returncode == 3
    assert "password authentication failed" in result.stderr


def test_an_unknown_way_is_refused(home: Home) -> None:
    result = home.run("up", BACKORDER_WITH="podman")
    assert result.returncode == 2
    assert "embedded" in result.stderr


def test_without_an_engine_docker_is_passed_by_unless_it_is_forced(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = f"unix://{tmp_path}/no-engine.sock"
    result = home.run("up", "--no-services", "--with", "docker", DOCKER_HOST=broken)
    assert result.returncode == 2
    assert "no engine answers at" in result.stderr
    assert "--with embedded" in result.stderr
    for variable in finder.EXAMPLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOCKER_HOST", broken)
    containers.refusal.cache_clear()
    with make_place(None) as somewhere:
        assert finder.choose(finder.KAFKA_VARIABLE, somewhere, Wish(), say) is Way.EMBEDDED
    containers.refusal.cache_clear()


def test_data_that_shall_be_kept_is_never_given_to_containers(home: Home, tmp_path: Path) -> None:
    result = home.run("up", "--no-services", "--with", "docker", "--data-dir", tmp_path / "data")
    assert result.returncode == 2
    assert "--with embedded" in result.stderr


def test_without_network_and_cache_every_way_out_is_named(home: Home, tmp_path: Path) -> None:
    result = home.run(
        "up", "--no-services", BACKORDER_CACHE_DIR=str(tmp_path / "cache"), BACKORDER_MAVEN_URL="http://127.0.0.1:1"
    )
    assert result.returncode == 2
    for way_out in ("Connection refused", "HTTPS_PROXY", "BACKORDER_MAVEN_URL", "BACKORDER_KAFKA", "Docker"):
        assert way_out in result.stderr
    assert list((home.folder / "tmp").glob("backorder-*")) == []


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A small Maven repository and its folder."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_a_download_is_kept_only_if_it_is_the_locked_file(mirror: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = mirror
    (folder / "a.jar").write_bytes(b"right")
    digest = hashlib.sha256(b"right").hexdigest()
    jars.download(f"{url}/a.jar", digest, tmp_path / "a.jar")
    assert (tmp_path / "a.jar").read_bytes() == b"right"
    (folder / "a.jar").write_bytes(b"changed")
    with pytest.raises(OSError, match="SHA-256"):
        jars.download(f"{url}/a.jar", digest, tmp_path / "b.jar")
    with pytest.raises(OSError, match="404"):
        jars.download(f"{url}/none.jar", digest, tmp_path / "b.jar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jar", "mirror"]


def test_a_folder_that_can_not_be_used_is_named(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = home.run("up", "--no-services", "--data-dir", tmp_path / "file")
    assert result.returncode == 2
    assert f"{tmp_path}/file" in result.stderr
    assert "--data-dir" in result.stderr


def test_a_folder_that_nobody_can_enter_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    with pytest.raises(LocalError, match="chmod o\\+x"):
        postgres.check_reachable(hidden / "postgres")


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    assert not any(kafka.cluster_id().startswith("-") for _ in range(2000))


NO_DOCKER = containers.refusal(say, pull=False)


@pytest.mark.skipif(NO_DOCKER is not None, reason=f"no container engine: {NO_DOCKER}")
def test_docker_gives_a_stack_whose_containers_end_with_it_even_if_it_is_killed(home: Home) -> None:
    import docker  # type: ignore[import-untyped]

    engine = docker.from_env()
    before = {container.id for container in engine.containers.list(all=True)}

    def ours() -> list[str]:
        return [each.name for each in engine.containers.list(all=True) if each.id not in before]

    for end in (signal.SIGTERM, signal.SIGKILL):
        with home.up("--no-services", BACKORDER_WITH="docker") as up:
            assert up.said().count("(docker) answers") == 2
            assert len(ours()) == 2
            up.process.send_signal(end)
            up.process.wait(30)
            eventually(lambda: ours() == [], ours)
    engine.close()
