"""The jars of Apache Kafka: named and hashed in kafka-jars.sha256, downloaded once, kept in the user's cache."""

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import platformdirs
from jgo.constants import MAVEN_CENTRAL_URL

from backorder_local.errors import LocalError

PARALLEL_DOWNLOADS = 8


def cache_folder() -> Path:
    """Where downloads are kept: BACKORDER_CACHE_DIR, or the user's cache folder."""
    chosen = os.environ.get("BACKORDER_CACHE_DIR")
    return Path(chosen).absolute() if chosen else Path(platformdirs.user_cache_dir("backorder"))


def locked_jars() -> list[tuple[str, str]]:
    """(sha256, path in the repository) of each jar."""
    text = files("backorder_local").joinpath("kafka-jars.sha256").read_text()
    return [(digest, path) for digest, path in (line.split() for line in text.splitlines())]


def repository() -> str:
    """Maven Central, or the mirror in BACKORDER_MAVEN_URL."""
    return os.environ.get("BACKORDER_MAVEN_URL", MAVEN_CENTRAL_URL).rstrip("/")


def missing_jars(folder: Path) -> list[tuple[str, str]]:
    return [(digest, path) for digest, path in locked_jars() if not (folder / Path(path).name).exists()]


def class_path(say: Callable[[str], None]) -> str:
    """The class path of Kafka, after downloading what the cache lacks (43 MB the first time). Raises LocalError."""
    folder = cache_folder() / "kafka-jars"
    missing = missing_jars(folder)
    if missing:
        say(f"Downloading Apache Kafka: {len(missing)} files, once (kept in {folder})")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
                for _ in pool.map(
                    lambda jar: download(f"{repository()}/{jar[1]}", jar[0], folder / Path(jar[1]).name), missing
                ):
                    pass
        except OSError as error:  # urllib's errors are OSErrors too
            raise LocalError(
                f"Apache Kafka could not be downloaded to {folder}: {error}\n"
                "Needed once, any of these:\n"
                "  - a network (HTTPS_PROXY is honoured)\n"
                "  - BACKORDER_MAVEN_URL=https://… of a mirror of Maven Central\n"
                "  - BACKORDER_KAFKA=host:port of a Kafka that runs already\n"
                "  - Docker\n"
                "Another folder for downloads: BACKORDER_CACHE_DIR."
            ) from error
    return os.pathsep.join(str(folder / Path(path).name) for _, path in locked_jars())


def download(url: str, digest: str, target: Path) -> None:
    """Writes the file whole or not at all, so that the cache never holds a broken one, also with two copies at work."""
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310  https, or the mirror that the user named
            content = response.read()
    except urllib.error.HTTPError as error:
        raise OSError(f"{url} answered {error.code} {error.reason}") from error
    except (ValueError, http.client.HTTPException) as error:
        raise OSError(f"{url}: {error}") from error
    except (urllib.error.URLError, TimeoutError) as error:
        raise OSError(f"{url}: {getattr(error, 'reason', error)}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise OSError(f"{url} is not the file that was locked (its SHA-256 differs)")
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(target)
