"""SIGTERM at any moment: the process ends in order, with 0 and in time."""

import asyncio
import os
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from time import monotonic

import pytest

from tests.e2e.processes import SCRIPTS, Service, clean_environment, eventually
from tests.e2e.world import World
from tests.faults.load import load

MOMENTS = int(os.environ.get("BACKORDER_SIGTERMS", "12"))
"""In the first three seconds of as many processes. BACKORDER_SIGTERMS=30 is one every 100 ms."""
BESIDE_EACH_OTHER = 4
FIRST_SECONDS = 3.0


@pytest.mark.skipif(sys.platform != "linux", reason="nobody else says when a process can be asked to end")
async def test_sigterm_in_the_first_seconds_ends_a_process_with_0_whatever_it_was_doing(world: World) -> None:
    await world.publish(*load(300, seed=5).messages)
    together = asyncio.Semaphore(BESIDE_EACH_OTHER)

    async def one(after: float) -> int:
        async with together:
            service = await world.allocator(ready=False, batch=50)
            began = monotonic()
            await eventually(lambda: hears(service), "Python to begin")
            await asyncio.sleep(max(0.0, began + after - monotonic()))
            service.signal(signal.SIGTERM)
            return await service.ended()

    moments = [FIRST_SECONDS * number / MOMENTS for number in range(MOMENTS)]
    codes = await asyncio.gather(*(one(after) for after in moments))
    assert codes == [0] * MOMENTS, world.explain()
    assert not [service.name for service in world.services if "Traceback" in service.said()], world.explain()
    assert await world.number("SELECT count(*) FROM relay WHERE holder IS NOT NULL") == 0, "the lease is given back"


async def hears(service: Service) -> bool:
    """Whether the process has a handler for SIGTERM: before that, the interpreter itself is not there yet."""
    return signal.SIGTERM in caught_by(service.process.pid)


def caught_by(pid: int) -> set[int]:
    """The signals that a process has handlers for, as Linux knows it."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return {number for number in range(1, 65) if mask & 1 << (number - 1)}


def test_sigterm_is_heard_before_anything_heavy_is_imported() -> None:
    program = (
        "import os, signal, sys, types\n"
        "sys.argv = ['backorder-allocator', 'run']\n"
        "from backorder_allocator import main\n"
        "heavy = {'asyncpg', 'aiokafka', 'asyncio', 'faststream', 'pydantic', 'typer'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "def asked_while_importing():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    raise AssertionError('it went on')\n"
        "sys.modules['backorder_allocator.cli'] = types.SimpleNamespace(main=asked_while_importing)\n"
        "main.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, env=clean_environment())
    assert done.returncode == 0, done.stderr.decode()
    (entry,) = entry_points(group="console_scripts", name="backorder-allocator")
    assert entry.value == "backorder_allocator.main:main"


def test_a_loop_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    program = tmp_path / "hangs.py"
    program.write_text(
        "import asyncio, time\n"
        "from backorder_allocator import ending\n"
        "ending.AT_LAST_SECONDS = 0.5\n"
        "async def main():\n"
        "    ending.stop_on_signals(asyncio.Event())\n"
        "    print('hangs', flush=True)\n"
        "    time.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_other_commands_than_run_are_not_said_to_have_ended_in_order() -> None:
    with subprocess.Popen(
        [SCRIPTS / "backorder-allocator", "status"],
        env=clean_environment()
        | {
            "ALLOCATOR_DATABASE_URL": "postgresql://nobody@192.0.2.1/nowhere",
            "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": "192.0.2.1:9092",
        },
        stderr=subprocess.DEVNULL,
    ) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
