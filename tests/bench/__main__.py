"""Every figure: `python -m tests.bench [--quick] [--only 1,4] [--write]`.

Starts a Kafka and a durable PostgreSQL of its own. Without --write the results are only printed; with it
RESULTS.md is written, with what was tried and where the walls are from PUSH.md.
"""

import argparse
import asyncio
import importlib
import logging
import os
import pkgutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]

from backorder_local import finder
from backorder_local.place import place
from tests.bench import figures, results
from tests.bench.frame import Bench, Figure, Measure
from tests.conftest import Databases
from tests.e2e.conftest import migrated_database

HERE = Path(__file__).parent


def all_figures() -> dict[int, Measure]:
    """By number: `measure` of each module of tests.bench.figures, named like f04_latency."""
    names = [each.name for each in pkgutil.iter_modules(figures.__path__)]
    return {
        int(name[1:3]): importlib.import_module(f"{figures.__name__}.{name}").measure
        for name in sorted(names)
        if name.startswith("f") and name[1:3].isdigit()
    }


async def measure(bench: Bench, chosen: dict[int, Measure]) -> list[Figure]:
    """The figures that could be measured: one that fails does not take with it what was measured for 20 minutes."""
    found = []
    for number, each in chosen.items():
        began = time.monotonic()
        try:
            figure = await each(bench)
        except Exception:
            bench.say(f"figure {number} failed:\n{traceback.format_exc()}")
            continue
        found.append(figure)
        print("\n".join(results.section(figure)), flush=True)
        for line in results.goals([figure]):
            print(line, flush=True)
        bench.say(f"figure {number}: {time.monotonic() - began:.0f} s")
    return found


async def postmaster(url: str) -> int | None:
    """The process that is the parent of all of the server's, where it runs on this machine."""
    connection = await asyncpg.connect(url)
    try:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        return int(psutil.Process(pid).ppid())
    except psutil.NoSuchProcess:
        return None
    finally:
        await connection.close()


def kafka_pid(server: finder.Server) -> int | None:
    """Of the guard that it runs under, whose child it is."""
    return server.process.guard.pid if server.process else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small rounds, under 3 minutes in all")
    parser.add_argument("--only", default="", help="numbers of figures, by commas")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md and the plots")
    arguments = parser.parse_args()
    known = all_figures()
    wanted = [int(each) for each in arguments.only.split(",") if each] or list(known)
    if unknown := set(wanted) - known.keys():
        parser.error(f"no such figure: {', '.join(map(str, sorted(unknown)))}; there are {', '.join(map(str, known))}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of our own clients, on topics made a moment ago
    wish = finder.Wish(finder.wanted_way(os.environ.get(finder.WAY_VARIABLE)), durable=True)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    began = time.monotonic()
    with (
        place(None) as here,
        finder.kafka(here, wish, say) as kafka,
        finder.postgres(here, wish, say) as postgres,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        kafka.wait()
        postgres.wait()
        databases = Databases(postgres.address)
        try:
            bench = Bench(
                kafka=kafka.address,
                databases=databases,
                templates={name: migrated_database(databases, name) for name in ("allocator", "notifier")},
                folder=Path(folder),
                quick=arguments.quick,
                say=say,
                kafka_pid=kafka_pid(kafka),
                postgres_pid=asyncio.run(postmaster(postgres.address)),
            )
            found = asyncio.run(measure(bench, {number: known[number] for number in wanted}))
            about = asyncio.run(results.about(postgres.address, time.monotonic() - began, arguments.quick))
        finally:
            databases.drop_all()
    print(about)
    print("\n".join(results.goals(found)))
    if arguments.write:
        push = HERE / "PUSH.md"
        print(results.write(found, about, push.read_text() if push.exists() else "", HERE))
    return int(len(found) < len(wanted))


if __name__ == "__main__":
    sys.exit(main())
